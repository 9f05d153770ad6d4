"""Issue-level promises of the gRPC port: TLS, mutual TLS, unix socket, health, where it binds."""

import datetime
import ipaddress
import socket

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.embedded import Server, ServerOptions
from serving.server_config import SslConfig
from tests.serving.embedded.calls import predict_request, refused
from tests.serving.embedded.conftest import models_config

REQUEST = predict_request("half", x=np.zeros(1, np.float32))


class Authority:
    """A certificate authority that lives as long as a test."""

    def __init__(self, name: str):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key, name, is_authority=True)

    def _sign(self, subject, key, issuer, is_authority):
        now = datetime.datetime.now(datetime.UTC)
        subject, issuer = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)
        )
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str) -> tuple[str, str]:
        """Private key and certificate, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key, "authority", is_authority=False)
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return text.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def authority():
    return Authority("authority")


def predict(channel) -> float:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return stub.Predict(REQUEST, timeout=20).outputs["y"].float_val[0]


def secure_channel(port, authority, identity=None):
    key, certificate = identity or (None, None)
    credentials = grpc.ssl_channel_credentials(
        authority.pem.encode(),
        key.encode() if key else None,
        certificate.encode() if certificate else None,
    )
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials)


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(half, authority, mutual):
    key, certificate = authority.issue("server")
    ssl = SslConfig(key, certificate, authority.pem if mutual else "", client_verify=mutual)
    options = ServerOptions(models=models_config(half=half), rest_port=None, ssl=ssl)
    with Server(options) as server:
        assert server.rest_port is None
        assert "gRPC (TLS) on 127.0.0.1:" in server.address_line()
        with secure_channel(server.grpc_port, authority, authority.issue("client")) as channel:
            assert predict(channel) == 2.0
        with secure_channel(server.grpc_port, authority) as channel:
            if mutual:
                assert refused(lambda: predict(channel))[0] == "UNAVAILABLE"
            else:
                assert predict(channel) == 2.0
        stranger = Authority("authority")
        with secure_channel(server.grpc_port, stranger) as channel:
            assert refused(lambda: predict(channel))[0] == "UNAVAILABLE"
        with secure_channel(server.grpc_port, authority, stranger.issue("client")) as channel:
            if mutual:
                assert refused(lambda: predict(channel))[0] == "UNAVAILABLE"
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            assert refused(lambda: predict(channel))[0] == "UNAVAILABLE"


def test_health_and_unix_socket(half, tmp_path):
    path = tmp_path / "grpc.sock"
    options = ServerOptions(
        models=models_config(half=half),
        port=None,
        rest_port=None,
        grpc_socket_path=str(path),
        health_service=True,
    )
    with Server(options) as server:
        assert server.address_line() == f"serving gRPC on unix:{path}"
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert predict(channel) == 2.0
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ("", "ModelService", "PredictionService"):
                request = health_pb2.HealthCheckRequest(service=name)
                answer = stub.Check(request, timeout=20)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            unknown = health_pb2.HealthCheckRequest(service="other")
            assert refused(lambda: stub.Check(unknown, timeout=20))[0] == "NOT_FOUND"


def test_binds_only_this_machine(calls):
    for port in (calls.server.grpc_port, calls.server.rest_port):
        # The whole of 127/8 is this machine, so another of its addresses shows a wildcard bind.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_binds_everything_when_told(half):
    options = ServerOptions(models=models_config(half=half), host="0.0.0.0")
    with Server(options) as server:
        for port in (server.grpc_port, server.rest_port):
            socket.create_connection(("127.0.0.2", port), timeout=5).close()


def test_ipv6(half):
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with Server(ServerOptions(models=models_config(half=half), host="::1")) as server:
        with grpc.insecure_channel(f"[::1]:{server.grpc_port}") as channel:
            assert predict(channel) == 2.0
        socket.create_connection(("::1", server.rest_port), timeout=5).close()
