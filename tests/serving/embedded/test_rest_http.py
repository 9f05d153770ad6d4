"""Protocol sections 2, 3 and 5 over HTTP: routes, headers, statuses, status and metadata."""

import gzip
import socket

import pytest

from serving.embedded import Server, ServerOptions
from serving.embedded.errors import ServingError
from tests.serving.embedded.calls import Calls
from tests.serving.embedded.conftest import models_config


def raw_http(port: int, request: bytes) -> bytes:
    """Answer to bytes sent as they are; reads until the server closes or falls silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
            head, end, body = answer.partition(b"\r\n\r\n")
            length = [line for line in head.split(b"\r\n") if line.startswith(b"content-length")]
            if end and length and len(body) >= int(length[0].split(b":")[1]):
                break
        return answer


class TestRoutes:
    @pytest.mark.parametrize(
        ("path", "predictions"),
        [
            ("half:predict", 2.5),
            ("half/versions/1:predict", 1.5),
            ("half/versions/0002:predict", 2.5),
            ("h%61lf:predict", 2.5),
        ],
    )
    def test_versions(self, calls, path, predictions):
        assert calls.post(path, {"instances": [1.0]}).json() == {"predictions": [predictions]}

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/models/half:predict"),
            ("POST", "/v1/models/half"),
            ("POST", "/v1/models/half/metadata"),
            ("PUT", "/v1/models/half:predict"),
            ("DELETE", "/v1/models/half"),
            ("PATCH", "/v1/models/half"),
            ("POST", "/v1/models/half:explain"),
            ("POST", "/v1/models/half:PREDICT"),
            ("GET", "/v1/models/half/METADATA"),
            ("POST", "/v1/models/half:predict?x=1"),
            ("GET", "/v1/models/half/"),
            ("POST", "/v1/models/half:predict/"),
            ("GET", "/v1/models/half/versions/1/labels/x"),
            ("GET", "/v1/models/half/versions/one"),
            ("GET", "/v1/other"),
        ],
    )
    def test_malformed(self, calls, method, path):
        response = calls.http.request(method, path)
        assert response.status_code == 400
        assert response.json() == {"error": f"Malformed request: {method} {path}"}
        assert response.headers["content-type"] == "application/json"

    def test_missing_model_name(self, calls):
        response = calls.http.get("/v1/models")
        assert (response.status_code, response.json()) == (
            400,
            {"error": "Missing model name in request."},
        )

    def test_version_beyond_int64_has_an_empty_body(self, calls):
        path = "/v1/models/half/versions/9223372036854775808"
        for response in (calls.http.get(path), calls.http.post(path + ":predict", content="{}")):
            assert (response.status_code, response.content) == (400, b"")
        assert calls.http.get("/v1/models/half/versions/" + "9" * 5000).status_code == 400

    def test_query_string_is_part_of_the_name(self, calls):
        response = calls.http.get("/v1/models/half?x=1")
        assert response.status_code == 404
        assert response.json() == {"error": "Could not find any versions of model half?x=1"}

    @pytest.mark.parametrize("path", ["/", "/v2/models/half", "/favicon.ico", "/v1"])
    def test_other_paths_are_html(self, calls, path):
        response = calls.http.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"].startswith("text/html")
        assert response.headers["connection"] == "close"
        assert "<TITLE>404 Not Found</TITLE>" in response.text

    @pytest.mark.parametrize("method", ["TRACE", "BREW"])
    def test_unknown_methods_are_501(self, calls, method):
        response = calls.http.request(method, "/v1/models/half")
        assert response.status_code == 501
        assert response.headers["content-type"].startswith("text/html")

    def test_options(self, calls):
        for origin, status in (("http://a.example", 200), ("https://b", 200), ("file://", 400)):
            response = calls.http.options("/v1/models/half", headers={"Origin": origin})
            assert (response.status_code, response.content) == (status, b"")
        assert calls.http.options("/v1/models/half").status_code == 400

    @pytest.mark.parametrize(
        "name", ["..%2F..%2Fetc%2Fpasswd", "%2e%2e", "a%00b", "%2Fetc", "half%2F1", "%FF"]
    )
    def test_names_never_become_paths(self, calls, name):
        for path in (f"/v1/models/{name}", f"/v1/models/{name}/metadata"):
            response = calls.http.get(path)
            assert response.status_code == 404
            assert (
                "passwd" not in response.text
                or "Could not find" in response.text
                or ("Servable not found" in response.text)
            )

    def test_percent_escapes_are_decoded_after_matching(self, everything):
        config = models_config(**{"a/b:c": everything})
        with Server(ServerOptions(models=config, port=None)) as server, Calls(server) as calls:
            response = calls.post("a%2Fb%3Ac:predict", {"inputs": 2.0})
            assert response.json() == {"outputs": 3.0}
            assert calls.post("a+b:predict", {"inputs": 2.0}).status_code == 404


class TestHeadersAndBodies:
    def test_headers(self, calls):
        response = calls.post("half:predict", {"inputs": 1.0})
        assert response.headers["content-type"] == "application/json"
        assert int(response.headers["content-length"]) == len(response.content)
        assert "date" in response.headers
        assert "access-control-allow-origin" not in response.headers

    def test_answers_are_never_compressed(self, calls):
        response = calls.http.get("/v1/models/half", headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in response.headers

    def test_gzip_bodies(self, calls):
        headers = {"Content-Encoding": "gzip"}
        body = gzip.compress(b'{"inputs": [1.0]}')
        path = "/v1/models/half:predict"
        assert calls.http.post(path, content=body, headers=headers).json() == {"outputs": [2.5]}
        for broken in (b"not gzip", body[:-4], b""):
            response = calls.http.post(path, content=broken, headers=headers)
            assert response.json() == {"error": "JSON Parse error: The document is empty"}

    def test_chunked_body(self, calls):
        def chunks():
            yield b'{"inputs": '
            yield b"[1.0]}"

        response = calls.http.post("/v1/models/half:predict", content=chunks())
        assert response.json() == {"outputs": [2.5]}

    def test_keep_alive_and_pipelining(self, calls):
        one = (
            b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n"
            b'{"inputs": 1.0}'
        )
        answer = raw_http(calls.server.rest_port, one + one.replace(b"1.0", b"3.0"))
        assert answer.startswith(b"HTTP/1.1 200")

    def test_cors(self, half):
        options = ServerOptions(models=models_config(half=half), port=None, rest_cors=True)
        with Server(options) as server, Calls(server) as calls:
            headers = calls.http.get("/v1/models/half").headers
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-methods"] == "POST, GET"
        assert headers["access-control-allow-headers"] == "Content-Type"

    def test_body_larger_than_the_limit(self, half):
        options = ServerOptions(models=models_config(half=half), max_request_bytes=1000)
        with Server(options) as server, Calls(server) as calls:
            text = calls.error("half:predict", '{"inputs": [' + "1," * 2000 + "1]}", 429)
            assert text == "Request body is larger than 1000 bytes"
            bomb = gzip.compress(b" " * 100_000)
            response = calls.http.post(
                "/v1/models/half:predict", content=bomb, headers={"Content-Encoding": "gzip"}
            )
            assert response.json() == {"error": "JSON Parse error: The document is empty"}
            assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}

    def test_garbage_on_the_wire(self, calls):
        assert raw_http(calls.server.rest_port, b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n")
        assert calls.post("half:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("INVALID_ARGUMENT", 400),
            ("FAILED_PRECONDITION", 400),
            ("OUT_OF_RANGE", 400),
            ("UNAUTHENTICATED", 401),
            ("PERMISSION_DENIED", 403),
            ("NOT_FOUND", 404),
            ("ALREADY_EXISTS", 409),
            ("ABORTED", 409),
            ("RESOURCE_EXHAUSTED", 429),
            ("CANCELLED", 499),
            ("UNKNOWN", 500),
            ("INTERNAL", 500),
            ("DATA_LOSS", 500),
            ("UNIMPLEMENTED", 501),
            ("UNAVAILABLE", 503),
            ("DEADLINE_EXCEEDED", 504),
        ],
    )
    def test_table(self, code, status):
        error = ServingError(code, "x")
        assert error.http_status == status
        assert error.grpc_code.name == code

    def test_body(self, calls):
        response = calls.post("half:predict", "{")
        assert response.text.startswith('{\n    "error": "JSON Parse error')

    def test_finding_the_model(self, calls):
        good = {"inputs": 1.0}
        for path, status, text in (
            ("nope:predict", 404, "Servable not found for request: Latest(nope)"),
            ("half/versions/9:predict", 404, "Servable not found for request: Specific(half, 9)"),
            ("half/labels/x:predict", 400, "Unrecognized servable version label: x"),
        ):
            assert calls.error(path, good, status) == text

    def test_run_beyond_the_time_limit(self, everything):
        options = ServerOptions(models=models_config(all=everything), rest_timeout_seconds=0.05)
        with Server(options) as server, Calls(server) as calls:
            body = {"signature_name": "slow", "inputs": [100_000]}
            assert "Timed out" in calls.error("all:predict", body, 504)


class TestStatusAndMetadata:
    def test_status_lists_versions_highest_first(self, calls):
        assert calls.http.get("/v1/models/half").json() == {
            "model_version_status": [
                {
                    "version": version,
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
                for version in ("2", "1")
            ]
        }

    def test_status_of_one_version_and_of_a_label(self, calls):
        one = calls.http.get("/v1/models/half/versions/1").json()["model_version_status"]
        assert [state["version"] for state in one] == ["1"]
        labelled = calls.http.get("/v1/models/half/labels/unknown").json()
        assert len(labelled["model_version_status"]) == 2

    def test_leading_zeros_name_the_number(self, calls):
        status = calls.http.get("/v1/models/all").json()["model_version_status"]
        assert [state["version"] for state in status] == ["123"]

    def test_unknown(self, calls):
        response = calls.http.get("/v1/models/half/versions/9")
        assert (response.status_code, response.json()) == (
            404,
            {"error": "Could not find version 9 of model half"},
        )
        response = calls.http.get("/v1/models/nope")
        assert (response.status_code, response.json()) == (
            404,
            {"error": "Could not find any versions of model nope"},
        )

    def test_metadata(self, calls):
        document = calls.http.get("/v1/models/half/versions/1/metadata").json()
        assert document["model_spec"] == {"name": "half", "signature_name": "", "version": "1"}
        signatures = document["metadata"]["signature_def"]["signature_def"]
        default = signatures["serving_default"]
        assert default["method_name"] == "tensorflow/serving/predict"
        assert default["defaults"] == {}
        assert default["inputs"]["x"] == {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            "name": "serving_default_x:0",
        }
        init = signatures["__saved_model_init_op"]
        assert init["inputs"] == {}
        assert [output["dtype"] for output in init["outputs"].values()] == ["DT_INVALID"]

    def test_metadata_without_version_is_the_latest(self, calls):
        document = calls.http.get("/v1/models/half/metadata").json()
        assert document["model_spec"]["version"] == "2"

    def test_metadata_of_the_unknown(self, calls):
        for path, status in (("nope", 404), ("half/versions/9", 404), ("half/labels/x", 400)):
            assert calls.http.get(f"/v1/models/{path}/metadata").status_code == status
