"""The client of a model server: TensorFlow Serving or the embedded one, by gRPC or REST."""

from serving.client.answers import Answer, Metadata, Signature, VersionStatus
from serving.client.client import Client
from serving.client.errors import ClientError
from serving.client.retry import RetryPolicy
from serving.client.tls import TLS

__all__ = [
    "TLS",
    "Answer",
    "Client",
    "ClientError",
    "Metadata",
    "RetryPolicy",
    "Signature",
    "VersionStatus",
]
