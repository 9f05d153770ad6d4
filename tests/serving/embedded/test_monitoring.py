"""Protocol section 9: the Prometheus endpoint."""

import re

import numpy as np
import pytest

from serving.embedded import Server, ServerOptions
from serving.embedded.metrics import LATENCY_LIMITS, Counter, Histogram
from serving.server_config import DEFAULT_METRICS_PATH, MonitoringConfig
from tests.serving.embedded.calls import Calls, predict_request, refused
from tests.serving.embedded.conftest import models_config

SAMPLE = re.compile(r'^[:a-zA-Z_][:\w]*\{([a-zA-Z_]+="([^"\\]|\\.)*",?)*\} [-+.e\w]+$')


def scrape(calls) -> str:
    response = calls.http.get(DEFAULT_METRICS_PATH)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain"
    return response.text


def value(text: str, sample: str) -> float:
    found = [line for line in text.splitlines() if line.startswith(sample + " ")]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def test_format(calls):
    calls.post("half:predict", {"inputs": 1.0})
    for line in scrape(calls).splitlines():
        assert SAMPLE.match(line) or re.fullmatch(r"# TYPE :[:\w]+ (counter|histogram)", line), line


def test_requests_are_counted(calls):
    ok = ':tensorflow:serving:request_count{model_name="half",status="OK"}'
    bad = ':tensorflow:serving:request_count{model_name="half",status="INVALID_ARGUMENT"}'
    none = ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"}'
    rest = (
        ':tensorflow:serving:request_latency_count{model_name="half",API="predict",'
        'entrypoint="REST"}'
    )
    rpc = rest.replace('"predict"', '"Predict"').replace("REST", "GRPC")
    status = rest.replace('"predict"', '""')
    run = ':tensorflow:serving:runtime_latency_count{model_name="half",API="Predict",runtime="TF1"}'
    names = (ok, bad, none, rest, rpc, status, run)
    before = scrape(calls)
    calls.post("half:predict", {"inputs": 1.0})
    calls.post("half:predict", "{")
    calls.http.get("/v1/models/half")
    calls.http.get("/v1/other")
    calls.predict(predict_request("half", x=np.zeros(1, np.float32)))
    refused(lambda: calls.predict(predict_request("half", y=np.zeros(1, np.float32))))
    after = scrape(calls)
    growth = [value(after, name) - value(before, name) for name in names]
    assert growth == [3, 2, 1, 1, 1, 1, 2]


def test_requests_turned_away_are_counted(half):
    monitoring = MonitoringConfig(enabled=True)
    options = ServerOptions(models=models_config(half=half), monitoring=monitoring, max_requests=0)
    with Server(options) as server, Calls(server) as calls:
        calls.error("half:predict", {"inputs": 1.0}, 429)
        calls.error("half:nothing", {"inputs": 1.0}, 429)
        refused(lambda: calls.predict(predict_request("half", x=np.zeros(1, np.float32))))
        text = scrape(calls)
    name = ':tensorflow:serving:request_count{model_name="%s",status="RESOURCE_EXHAUSTED"}'
    # A gRPC request is turned away before it is parsed, so nobody knows its model.
    assert (value(text, name % "half"), value(text, name % "")) == (1, 2)


def test_any_method_and_no_query(calls):
    assert calls.http.post(DEFAULT_METRICS_PATH).status_code == 200
    response = calls.http.get(DEFAULT_METRICS_PATH + "?x=1")
    assert response.status_code == 400
    assert "Unexpected path: " in response.text


def test_off_unless_asked_for_and_other_paths(half):
    for config, path, status in (
        (MonitoringConfig(), DEFAULT_METRICS_PATH, 404),
        (MonitoringConfig(enabled=True, path="/v1/metrics"), "/v1/metrics", 200),
    ):
        options = ServerOptions(models=models_config(half=half), port=None, monitoring=config)
        with Server(options) as server:
            assert server.grpc_port is None
            with Calls(server) as calls:
                assert calls.http.get(path).status_code == status


def test_histogram():
    assert LATENCY_LIMITS[0] == 10
    assert LATENCY_LIMITS[2] == pytest.approx(32.4)
    assert len(LATENCY_LIMITS) == 33
    histogram = Histogram(":a:b", ("m",), (1.0, 10.0))
    for amount in (0.5, 5.0, 50.0):
        histogram.observe("x", amount=amount)
    assert histogram.lines() == [
        ':a:b_bucket{m="x",le="1"} 1',
        ':a:b_bucket{m="x",le="10"} 2',
        ':a:b_bucket{m="x",le="+Inf"} 3',
        ':a:b_sum{m="x"} 55.5',
        ':a:b_count{m="x"} 3',
    ]


def test_clients_cannot_make_endless_series():
    counter = Counter(":c", ("m", "status"))
    counter.add("known", "OK")
    for number in range(2000):
        counter.add(f"made up {number}", "NOT_FOUND")
    counter.add("known", "OK")
    assert counter.value("known", "OK") == 2
    assert len(counter.lines()) <= 1001
    assert sum(int(line.rsplit(" ", 1)[1]) for line in counter.lines()) == 2002


def test_braces_even_without_labels_and_escapes():
    counter = Counter(":c", ())
    counter.add()
    assert counter.lines() == [":c{} 1"]
    counter = Counter(":c", ("m",))
    counter.add('a"b\\c\nd')
    assert counter.lines() == [':c{m="a\\"b\\\\c\\nd"} 1']
