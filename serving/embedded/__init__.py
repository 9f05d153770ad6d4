"""A stand-in for `tensorflow_model_server`, in Python: same protocol, same flags, same files."""

from serving.embedded.command import main
from serving.embedded.errors import ServingError
from serving.embedded.options import ServerOptions
from serving.embedded.server import Server

__all__ = ["Server", "ServerOptions", "ServingError", "main"]
