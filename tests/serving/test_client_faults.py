"""Retries, deadlines and errors, against a server that fails as it is told."""

import asyncio
import time

import numpy as np
import pytest

from serving.client import TLS, Client, ClientError, RetryPolicy
from serving.client.retry import Pause, Send, send_with_retries
from tests.serving.fakes import FakeServer

ROW = {"user": ["u1"], "price": [1.0]}
QUICK = RetryPolicy(attempts=4, first=0.001, longest=0.01)


@pytest.fixture(scope="module")
def fake():
    with FakeServer() as server:
        yield server


@pytest.fixture(params=["grpc", "rest"])
def transport(request):
    return request.param


@pytest.fixture(params=["blocking", "awaiting"])
def predict(request, fake, transport):
    """`predict` of a fresh client, in either manner of waiting."""
    script = fake.script
    script.__init__()

    def call(rows=ROW, retries=QUICK, **options):
        if request.param == "blocking":
            with Client(fake.addresses[transport], "ctr", retries=retries) as client:
                return client.predict(rows, **options)

        async def run():
            async with Client(fake.addresses[transport], "ctr", retries=retries) as client:
                return await client.predict_async(rows, **options)

        return asyncio.run(run())

    return call


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_overload_is_retried(predict, fake, code):
    fake.script.plan.extend([code, code])
    assert predict()["probability"].shape == (1,)
    assert fake.script.requests == 3


def test_retries_end(predict, fake):
    fake.script.plan.extend(["UNAVAILABLE"] * 9)
    with pytest.raises(ClientError, match="UNAVAILABLE: scripted UNAVAILABLE") as caught:
        predict()
    assert fake.script.requests == 4
    assert caught.value.code == "UNAVAILABLE"


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"])
def test_other_errors_are_not_retried(predict, fake, code):
    fake.script.plan.extend([code])
    with pytest.raises(ClientError) as caught:
        predict()
    assert caught.value.code == code
    assert fake.script.requests == 1


def test_the_deadline_holds_over_all_attempts(predict, fake):
    fake.script.plan.append(0.8)
    predict(timeout=5.0)  # connects, fetches metadata: not what is timed
    fake.script.plan.append(0.8)
    started = time.monotonic()
    with pytest.raises(ClientError) as caught:
        predict(timeout=0.2)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - started < 0.7


def test_only_wanted_outputs_come_back(predict):
    assert list(predict(outputs=["probability"])) == ["probability"]
    with pytest.raises(ClientError, match="has no output 'score', it has logit, probability"):
        predict(outputs=["score"])


def test_nan_is_read_over_rest(fake):
    fake.script.__init__()
    with Client(fake.addresses["rest"], "ctr") as client:
        got = client.predict({"user": ["a", b"\xff"], "price": [1, None]})
    np.testing.assert_array_equal(got["logit"], np.array([0.5, np.nan], np.float32))
    assert got.version is None
    assert fake.script.last_inputs["user"] == ["a", {"b64": "/w=="}]
    assert fake.script.last_inputs["price"][0] == 1.0
    assert isinstance(fake.script.last_inputs["price"][0], float)


def test_an_html_error_page_is_an_error(fake):
    fake.script.__init__()
    fake.script.plan.append("HTML")
    with Client(fake.addresses["rest"], "ctr") as client, pytest.raises(ClientError) as caught:
        client.predict(ROW)
    assert str(caught.value) == "NOT_FOUND: HTTP 404 without a JSON error"


def test_a_broken_connection_is_retried(fake):
    fake.script.__init__()
    fake.script.plan.append("HANG UP")
    with Client(fake.addresses["rest"], "ctr", retries=QUICK) as client:
        assert client.predict(ROW)["logit"].shape == (1,)
    assert fake.script.requests == 2


def test_new_columns_of_a_swapped_model_are_learned(fake, transport):
    fake.script.__init__()
    with Client(fake.addresses[transport], "ctr") as client:
        client.predict(ROW)
        fake.script.columns = {"user": "string", "price": "float32", "city": "string"}
        client.predict(ROW)  # refused once, then sent again with `city` missing
        assert client.predict({**ROW, "city": ["x"]})["logit"].shape == (1,)
    assert fake.script.requests == 4


def test_nobody_listens(transport):
    address = {"grpc": "127.0.0.1:1", "rest": "http://127.0.0.1:1"}[transport]
    with Client(address, "ctr", retries=QUICK) as client, pytest.raises(ClientError) as caught:
        client.status(timeout=2.0)
    assert caught.value.code == "UNAVAILABLE"


def test_waiting_for_a_version(fake, transport):
    fake.script.__init__()
    with Client(fake.addresses[transport], "ctr") as client:
        fake.script.states = [(2, 20, 0, ""), (1, 30, 0, "")]
        assert client.wait_until_available(2.0) == 1
        with pytest.raises(ClientError, match=r"version 2 not available after .* 2 LOADING"):
            client.wait_until_available(0.2, version=2)
        fake.script.states = [(2, 50, 5, "no such file"), (1, 30, 0, "")]
        with pytest.raises(ClientError, match="NOT_FOUND: no such file"):
            client.wait_until_available(9.0, version=2)
        states = client.status()
    assert [(s.version, s.state, s.failed) for s in states] == [
        (2, "END", True),
        (1, "AVAILABLE", False),
    ]


def test_one_client_in_two_event_loops(fake, transport):
    fake.script.__init__()
    client = Client(fake.addresses[transport], "ctr")
    for _ in range(2):
        states = asyncio.run(client.status_async())
        assert states[0].available


def test_many_awaited_calls_share_one_client(fake, transport):
    fake.script.__init__()

    async def run():
        async with Client(fake.addresses[transport], "ctr") as client:
            return await asyncio.gather(*(client.predict_async(ROW) for _ in range(20)))

    assert len(asyncio.run(run())) == 20


def test_pauses_are_jittered_and_bounded():
    policy = RetryPolicy(attempts=5, first=0.1, longest=0.3)
    for failed, bound in ((1, 0.1), (2, 0.2), (3, 0.3), (4, 0.3)):
        pauses = [policy.pause(failed) for _ in range(200)]
        assert max(pauses) <= bound
        assert len(set(pauses)) > 100


def test_no_retry_begins_after_the_deadline():
    steps = send_with_retries("call", RetryPolicy(first=10.0, longest=10.0), time.monotonic() + 0.5)
    assert isinstance(next(steps), Send)
    refused = ClientError("UNAVAILABLE", "busy")
    try:
        action = steps.throw(refused)
    except ClientError as error:
        assert error is refused
    else:  # the drawn pause was short
        assert isinstance(action, Pause)
        assert action.seconds < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address": "ftp://h:1"}, "expected host:port"),
        ({"address": ""}, "expected host:port"),
        ({"model": ""}, "name is empty"),
        ({"version": 1, "label": "stable"}, "not both"),
        ({"version": -1}, "not a number in"),
        ({"timeout": 0}, "positive number of seconds"),
        ({"timeout": float("nan")}, "positive number of seconds"),
        ({"tls": TLS()}, "TLS needs grpcs:// or https://"),
    ],
)
def test_unusable_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Client(**{"address": "h:1", "model": "ctr", **arguments})


def test_mutual_tls_needs_both_files():
    with pytest.raises(ValueError, match="both the certificate and its key"):
        TLS(certificate="a.pem")
