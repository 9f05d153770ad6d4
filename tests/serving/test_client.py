"""The client suite: the same against the embedded server and a real tensorflow_model_server."""

import asyncio

import numpy as np
import pytest

from serving.calibration import parse_calibration, reference
from serving.client import Client, ClientError
from serving.columns import ColumnError
from tests.serving.conftest import CALIBRATION
from tests.serving.servers import KINDS, REAL_SERVER, run_server
from tests.serving.support import keras_probabilities


@pytest.fixture(scope="module", params=KINDS)
def server(request, repository):
    with run_server(request.param, repository, "ctr") as running:
        with Client(running.grpc, "ctr") as client:
            assert client.wait_until_available(60.0) == 1
        yield running


@pytest.fixture(scope="module", params=KINDS)
def batching_server(request, repository):
    with run_server(request.param, repository, "ctr", batching=True) as running:
        with Client(running.grpc, "ctr") as client:
            client.wait_until_available(60.0)
        yield running


@pytest.fixture(params=["grpc", "rest"])
def client(request, server):
    with Client(server.address(request.param), "ctr") as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(served):
    p = keras_probabilities(*served)
    return reference(np.log(p) - np.log1p(-p), parse_calibration(CALIBRATION))


def test_the_suite_also_ran_against_the_real_server():
    if REAL_SERVER is None:
        pytest.skip("no tensorflow_model_server on PATH and CTR_MODEL_SERVER is not set")
    assert "tensorflow_model_server" in KINDS


def test_predict_answers_as_keras(client, served, expected):
    answer = client.predict(served[2])
    assert set(answer) == {"probability", "logit"}
    assert answer["probability"].dtype == np.float32
    np.testing.assert_allclose(answer["probability"], expected, atol=1e-6)
    assert answer.version in (1, None)


def test_predict_takes_rows_one_by_one(client, served, expected):
    rows = [
        {name: values[i] for name, values in served[2].items() if values[i] not in (b"",)}
        for i in range(5)
    ]
    np.testing.assert_allclose(client.predict(rows)["probability"], expected[:5], atol=1e-6)


def test_score_candidates_is_predict_with_the_context_written_out(client, served):
    rows = served[2]
    context = {"user": rows["user"][0], "age": rows["age"][0]}
    candidates = {name: rows[name][:9] for name in ("item", "item class", "price")}
    got = client.score_candidates(context, candidates)
    repeated = {name: [value] * 9 for name, value in context.items()}
    expected = client.predict({**repeated, **candidates})
    assert got["probability"].shape == (9,)
    np.testing.assert_allclose(got["probability"], expected["probability"], atol=1e-6)
    np.testing.assert_allclose(got["logit"], expected["logit"], atol=1e-5)


def test_explain_adds_up(client, served):
    answer = client.explain({name: values[:3] for name, values in served[2].items()})
    pairs = answer["order_2_contributions"]
    assert pairs.shape == (3, 5, 5)
    total = answer["bias"] + answer["first_order"].sum(1) + pairs.sum((1, 2))
    np.testing.assert_allclose(total, answer["logit"], atol=1e-5)


def test_status_and_metadata(client):
    assert [(s.version, s.state) for s in client.status() if s.available] == [(1, "AVAILABLE")]
    metadata = client.metadata()
    assert (metadata.name, metadata.version) == ("ctr", 1)
    signature = metadata.signatures["serving_default"]
    assert signature.inputs["item class"] == "string"
    assert signature.optional == set(signature.inputs)
    assert signature.outputs == {"logit": "float32", "probability": "float32"}


def test_awaited_calls_answer_the_same(client, served):
    rows = {name: values[:4] for name, values in served[2].items()}
    context, candidates = {"user": "u1"}, {"item": ["i1", "i2"]}

    async def run():
        version = await client.wait_until_available_async(5.0)
        answers = await asyncio.gather(
            client.predict_async(rows),
            client.explain_async(rows),
            client.score_candidates_async(context, candidates),
            client.status_async(),
            client.metadata_async(),
        )
        await client.close_async()
        return version, answers

    version, (scores, explained, candidates_scores, status, metadata) = asyncio.run(run())
    assert version == 1
    np.testing.assert_array_equal(scores["probability"], client.predict(rows)["probability"])
    np.testing.assert_allclose(explained["logit"], scores["logit"], atol=1e-6)
    expected = client.score_candidates(context, candidates)["logit"]
    np.testing.assert_allclose(candidates_scores["logit"], expected, atol=1e-6)
    assert status[0].available
    assert metadata.version == 1


def test_bytes_that_are_no_text_and_infinities_travel(client):
    rows = {"user": [b"\xff\x00", 'ü\n"'], "price": [np.inf, -1.0], "age": [np.nan, 3.4e38]}
    answer = client.predict(rows)
    assert answer["logit"].shape == (2,)
    assert np.isinf(answer["logit"][0]) or np.isnan(answer["logit"][0])
    assert np.isfinite(answer["logit"][1])


def test_a_large_explanation_passes(client):
    """Above gRPC's default limit of 4 MiB a message."""
    answer = client.explain({"user": ["u1"] * 25_000}, timeout=60.0)
    assert answer["order_2_weights"].nbytes + answer["order_2_contributions"].nbytes > 4 * 2**20


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"model": "nobody"}, "NOT_FOUND"),
        ({"version": 99}, "NOT_FOUND"),
        ({"label": "canary"}, "INVALID_ARGUMENT"),
    ],
)
@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_what_is_not_there(server, transport, options, code):
    given = {"model": "ctr", **options}
    address = server.address(transport)
    with Client(address, **given) as client, pytest.raises(ClientError) as caught:
        client.predict({"user": ["a"]})
    assert caught.value.code == code


def test_a_version_can_be_asked_for(server):
    for transport in ("grpc", "rest"):
        with Client(server.address(transport), "ctr", version=1) as client:
            assert client.predict({"user": ["u1"]})["logit"].shape == (1,)
            assert [status.version for status in client.status()] == [1]


def test_wrong_rows_never_reach_the_server(client):
    with pytest.raises(ColumnError, match="the model has no column 'label'"):
        client.predict({"user": ["a"], "label": [1]})
    assert client.predict({"user": ["a"], "label": [1]}, ignore_unknown=True)["logit"].shape == (1,)


def test_candidates_and_rows_survive_batching(batching_server, served):
    """Requests of different lengths are stacked, padded and cut apart by the server."""
    rows = served[2]

    async def run():
        async with Client(batching_server.grpc, "ctr") as client:
            lists = [
                client.score_candidates_async(
                    {"user": rows["user"][i]}, {"item": rows["item"][i : i + 3 + i]}
                )
                for i in range(12)
            ]
            batches = [
                client.predict_async({name: values[i : i + 2] for name, values in rows.items()})
                for i in range(12)
            ]
            return await asyncio.gather(*lists), await asyncio.gather(*batches)

    lists, batches = asyncio.run(run())
    with Client(batching_server.grpc, "ctr") as client:
        every = client.predict(rows)["logit"]
        for i in range(12):
            user, items = rows["user"][i], rows["item"][i : i + 3 + i]
            alone = client.predict({"user": [user] * len(items), "item": items})["logit"]
            np.testing.assert_allclose(lists[i]["logit"], alone, atol=1e-5)
            np.testing.assert_allclose(batches[i]["logit"], every[i : i + 2], atol=1e-5)
