"""Deployment of a released model with the tensorflow/serving image."""

from serving.deploy.render import render
from serving.deploy.settings import Batching, DeployError, DeploySettings
from serving.deploy.validate import validate

__all__ = ["Batching", "DeployError", "DeploySettings", "render", "validate"]
