"""The client's TLS and mutual TLS, over gRPC (embedded server) and HTTPS (a proxy before REST)."""

import ssl
import threading
from http.server import ThreadingHTTPServer

import pytest

from serving.client import TLS, Client, ClientError, RetryPolicy
from serving.embedded import Server
from serving.server_config import SslConfig
from tests.serving.embedded.test_transport import Authority
from tests.serving.fakes import Script, http_handler

ONCE = RetryPolicy(attempts=1)
ROW = {"user": ["u1"], "price": [1.0]}


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    """Paths of ca.pem, and of the key and certificate of a server and of a client."""
    folder = tmp_path_factory.mktemp("pems")
    authority = Authority("authority")
    (folder / "ca.pem").write_text(authority.pem)
    (folder / "other-ca.pem").write_text(Authority("somebody else").pem)
    for name in ("server", "client"):
        key, certificate = authority.issue(name)
        (folder / f"{name}.key").write_text(key)
        (folder / f"{name}.pem").write_text(certificate)
    return folder


@pytest.fixture(scope="module")
def grpcs(pems, repository):
    config = SslConfig(
        server_key=(pems / "server.key").read_text(),
        server_cert=(pems / "server.pem").read_text(),
        custom_ca=(pems / "ca.pem").read_text(),
        client_verify=True,
    )
    with Server.for_model(repository / "ctr", "ctr", ssl=config, rest_port=None) as server:
        yield f"grpcs://127.0.0.1:{server.grpc_port}"


@pytest.fixture(scope="module")
def https(pems):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pems / "server.pem", pems / "server.key")
    context.load_verify_locations(pems / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), http_handler(Script()))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["grpcs", "https"])
def address(request):
    return request.getfixturevalue(request.param)


def test_mutual_tls(address, pems):
    tls = TLS(ca=pems / "ca.pem", certificate=pems / "client.pem", key=pems / "client.key")
    with Client(address, "ctr", tls=tls) as client:
        assert client.predict(ROW, ignore_unknown=True)["logit"].shape == (1,)


@pytest.mark.parametrize("ca", ["ca.pem", "other-ca.pem"])
def test_no_certificate_or_the_wrong_authority(address, pems, ca):
    identity = {"certificate": pems / "client.pem", "key": pems / "client.key"}
    tls = TLS(ca=pems / ca, **(identity if ca == "other-ca.pem" else {}))
    with Client(address, "ctr", tls=tls, retries=ONCE) as client, pytest.raises(ClientError) as e:
        client.status(timeout=3.0)
    assert e.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_certificate_files_that_are_not_there(pems):
    for scheme in ("grpcs", "https"):
        with pytest.raises(FileNotFoundError):
            Client(f"{scheme}://127.0.0.1:1", "ctr", tls=TLS(ca=pems / "nothing.pem"))
