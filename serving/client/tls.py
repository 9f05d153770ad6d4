"""TLS settings of a client."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True)
class TLS:
    """PEM files: the authority to trust (default: the system's), and for mutual TLS who we are."""

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("mutual TLS needs both the certificate and its key")

    def grpc_credentials(self) -> grpc.ChannelCredentials:
        """Raises FileNotFoundError when a file is not there."""
        pems = [Path(p).read_bytes() if p else None for p in (self.ca, self.key, self.certificate)]
        return grpc.ssl_channel_credentials(*pems)

    def ssl_context(self) -> ssl.SSLContext:
        """The same for HTTPS."""
        context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        if self.certificate and self.key:
            context.load_cert_chain(str(self.certificate), str(self.key))
        return context
