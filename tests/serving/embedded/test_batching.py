"""Protocol section 10: joining requests, its rules, its errors, and that answers stay the same."""

import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from serving.embedded import Server, ServerOptions, ServingError
from serving.embedded.batch_queue import BatchScheduler
from serving.embedded.batch_tensors import count_rows, execution_size, join, split
from serving.embedded.batching import ServableBatcher
from serving.embedded.metrics import Metrics
from serving.embedded.servable import Work
from serving.server_config import BatchingParameters
from tests.serving.embedded.calls import Calls, eventually, predict_request, refused
from tests.serving.embedded.conftest import models_config


class Recorder:
    """A servable whose graph doubles its input, can be held up, and records its runs."""

    def __init__(self):
        self.runs: list[list[np.ndarray]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.answer = lambda feeds: [feeds[0] * 2]

    def execute(self, api, feed_names, feeds, fetch_names):
        self.runs.append(feeds)
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return self.answer(feeds)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def make(recorder):
    """Makes batchers on one thread; closes them afterwards."""
    scheduler = BatchScheduler(1, "test-batch")
    made = []

    def build(**parameters):
        defaults = {"max_batch_size": 8, "batch_timeout_micros": 0}
        chosen = BatchingParameters(**{**defaults, **parameters})
        made.append(ServableBatcher(recorder, scheduler, chosen, Metrics()))
        return made[-1]

    yield build
    recorder.gate.set()
    for batcher in made:
        batcher.close()
    scheduler.close()


def work(*feeds, names=("x",), fetches=("y",)) -> Work:
    return Work("Predict", names, [np.array(feed) for feed in feeds], fetches, lambda _: b"")


def held_up(recorder, batcher) -> Future:
    """Occupy the only thread with a first request, so that later ones gather."""
    recorder.gate.clear()
    first = batcher.submit(work([0]), None)
    eventually(lambda: len(recorder.runs) == 1)
    return first


def outputs(future) -> list:
    return future.result(20)[0].tolist()


class TestJoining:
    def test_waiting_requests_run_together_and_get_their_own_rows(self, make, recorder):
        batcher = make()
        first = held_up(recorder, batcher)
        futures = [batcher.submit(work([i, i + 1]), None) for i in (1, 3, 5)]
        recorder.gate.set()
        assert [outputs(f) for f in futures] == [[2, 4], [6, 8], [10, 12]]
        assert outputs(first) == [0]
        assert [run[0].tolist() for run in recorder.runs] == [[0], [1, 2, 3, 4, 5, 6]]

    def test_a_batch_closes_at_max_batch_size(self, make, recorder):
        batcher = make(max_batch_size=4)
        held_up(recorder, batcher)
        futures = [batcher.submit(work([i] * 3), None) for i in (1, 2)]
        recorder.gate.set()
        assert [outputs(f) for f in futures] == [[2] * 3, [4] * 3]
        assert [len(run[0]) for run in recorder.runs] == [1, 3, 3]

    def test_an_open_batch_waits_for_company_until_its_time_is_up(self, make, recorder):
        batcher = make(batch_timeout_micros=150_000)
        started = time.monotonic()
        futures = [batcher.submit(work([i]), None) for i in (1, 2)]
        assert [outputs(f) for f in futures] == [[2], [4]]
        assert time.monotonic() - started >= 0.14
        assert len(recorder.runs) == 1

    def test_a_full_batch_does_not_wait(self, make):
        batcher = make(max_batch_size=2, batch_timeout_micros=60_000_000)
        assert outputs(batcher.submit(work([1, 2]), None)) == [2, 4]

    def test_other_outputs_never_share_a_batch(self, make, recorder):
        batcher = make()
        held_up(recorder, batcher)
        futures = [batcher.submit(work([1], fetches=(name,)), None) for name in ("y", "z", "y")]
        recorder.gate.set()
        assert [outputs(f) for f in futures] == [[2]] * 3
        assert sorted(len(run[0]) for run in recorder.runs[1:]) == [1, 2]

    def test_one_bad_task_fails_its_neighbours(self, make, recorder):
        batcher = make()
        first = held_up(recorder, batcher)
        futures = [batcher.submit(work([i]), None) for i in (1, 2)]
        recorder.error = ServingError("INVALID_ARGUMENT", "indices[0] = 9 is not in [0, 5)")
        recorder.gate.set()
        for future in [first, *futures]:
            with pytest.raises(ServingError, match="is not in"):
                future.result(20)
        recorder.error = None
        assert outputs(batcher.submit(work([4]), None)) == [8]


class TestLimits:
    def test_requirements_of_a_request(self):
        assert count_rows([np.zeros((3, 2)), np.zeros(3)]) == 3
        for feeds, text in (
            ([np.zeros(3), np.zeros(2)], "must have equal 0th-dimension size"),
            ([np.float32(1.0)], "must have at least one dimension"),
            ([], "must have at least one input"),
        ):
            with pytest.raises(ServingError, match=text) as caught:
                count_rows(feeds)
            assert caught.value.code == "INVALID_ARGUMENT"
            assert caught.value.message.startswith("Batching Run() ")

    def test_too_large(self, make):
        with pytest.raises(ServingError) as caught:
            make().submit(work(range(9)), None)
        assert caught.value.nested() == (
            "INVALID_ARGUMENT: Task size 9 is larger than maximum input batch size 8"
        )

    def test_splitting(self, make, recorder):
        batcher = make(
            max_batch_size=100, enable_large_batch_splitting=True, max_execution_batch_size=4
        )
        assert outputs(batcher.submit(work(range(10)), None)) == list(range(0, 20, 2))
        assert sorted(len(run[0]) for run in recorder.runs) == [2, 4, 4]
        assert outputs(batcher.submit(work(range(3)), None)) == [0, 2, 4]

    def test_a_failing_piece_fails_the_request(self, make, recorder):
        batcher = make(enable_large_batch_splitting=True, max_execution_batch_size=4)
        recorder.error = ServingError("INTERNAL", "broken")
        with pytest.raises(ServingError, match="broken"):
            batcher.submit(work(range(8)), None).result(20)

    def test_full_queue_and_recovery(self, make, recorder):
        batcher = make(max_batch_size=1, max_enqueued_batches=2)
        held_up(recorder, batcher)
        futures = [batcher.submit(work([i]), None) for i in (1, 2)]
        with pytest.raises(ServingError) as caught:
            batcher.submit(work([3]), None)
        assert caught.value.code == "UNAVAILABLE"
        assert caught.value.message.startswith(
            "The batch scheduling queue to which this task was submitted is full"
        )
        recorder.gate.set()
        assert [outputs(f) for f in futures] == [[2], [4]]
        assert outputs(batcher.submit(work([5]), None)) == [10]

    def test_splitting_queues_all_pieces_or_none(self, make, recorder):
        batcher = make(
            enable_large_batch_splitting=True, max_execution_batch_size=1, max_enqueued_batches=2
        )
        held_up(recorder, batcher)
        with pytest.raises(ServingError, match="is full; currently 0 batches"):
            batcher.submit(work([1, 2, 3]), None)
        assert batcher.submit(work([1, 2]), None)

    def test_deadline_in_the_queue(self, make, recorder):
        batcher = make()
        held_up(recorder, batcher)
        late = batcher.submit(work([1]), time.monotonic() + 0.01)
        alive = batcher.submit(work([2]), time.monotonic() + 60)
        time.sleep(0.02)
        recorder.gate.set()
        assert outputs(alive) == [4]
        with pytest.raises(ServingError) as caught:
            late.result(20)
        assert caught.value.nested() == (
            "RESOURCE_EXHAUSTED: Run() timeout exceeded while waiting in batching queue"
        )

    def test_closing_cancels_what_waits(self, make, recorder):
        batcher = make()
        first = held_up(recorder, batcher)
        waiting = batcher.submit(work([1]), None)
        closer = threading.Thread(target=batcher.close)
        closer.start()
        with_error = pytest.raises(ServingError, match="unloaded")
        recorder.gate.set()
        closer.join(20)
        assert outputs(first) == [0]
        with with_error:
            waiting.result(20)


class TestSizes:
    def test_padding_repeats_the_first_row_of_the_last_task(self, make, recorder):
        batcher = make(allowed_batch_sizes=(4, 8))
        held_up(recorder, batcher)
        futures = [batcher.submit(work(rows), None) for rows in ([1, 2], [3, 4, 5])]
        recorder.gate.set()
        assert [outputs(f) for f in futures] == [[2, 4], [6, 8, 10]]
        assert [run[0].tolist() for run in recorder.runs] == [
            [0, 0, 0, 0],
            [1, 2, 3, 4, 5, 3, 3, 3],
        ]

    def test_execution_size(self):
        assert [execution_size(n, (2, 8)) for n in (1, 2, 3, 8)] == [2, 2, 8, 8]
        assert execution_size(5, ()) == 5

    @pytest.mark.parametrize(
        ("parameters", "text"),
        [
            (
                {"allowed_batch_sizes": (2, 4)},
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; "
                "expected 8",
            ),
            ({"allowed_batch_sizes": (4, 2, 8)}, "must be monotonically increasing"),
            (
                {
                    "allowed_batch_sizes": (8,),
                    "enable_large_batch_splitting": True,
                    "max_execution_batch_size": 4,
                },
                "must match max_execution_batch_size; last entry was 8; expected 4",
            ),
        ],
    )
    def test_impossible_sizes_fail_the_load(self, make, parameters, text):
        with pytest.raises(ServingError, match=text):
            make(**parameters)

    def test_empty_requests(self, make):
        batcher = make(allowed_batch_sizes=(8,))
        assert outputs(batcher.submit(work(np.zeros(0)), None)) == []


class TestLengths:
    def test_different_lengths_are_refused(self):
        tasks = [[np.zeros((1, 2))], [np.zeros((1, 3))]]
        with pytest.raises(ServingError, match="padding is turned off") as caught:
            join(["x"], tasks, 0, pad_lengths=False)
        assert caught.value.code == "FAILED_PRECONDITION"

    def test_padding_uses_each_tensors_own_first_element(self):
        tasks = [[np.array([[7, 1], [2, 3]])], [np.array([[5, 6, 8]])]]
        joined = join(["x"], tasks, 1, pad_lengths=True)[0]
        assert joined.tolist() == [[7, 1, 7], [2, 3, 7], [5, 6, 8], [5, 6, 8]]
        words = [[np.array([[b"a"]], object)], [np.array([[b"b", b"c"]], object)]]
        assert join(["x"], words, 0, pad_lengths=True)[0].tolist() == [[b"a", b"a"], [b"b", b"c"]]

    def test_several_axes_and_empty_tensors(self):
        tasks = [[np.ones((1, 2, 1))], [np.full((1, 1, 3), 2.0)]]
        joined = join(["x"], tasks, 0, pad_lengths=True)[0]
        assert joined.shape == (2, 2, 3)
        assert joined[1].tolist() == [[2.0] * 3] * 2
        empty = join(["x"], [[np.zeros((1, 0))], [np.ones((1, 2))]], 0, pad_lengths=True)[0]
        assert empty.tolist() == [[0.0, 0.0], [1.0, 1.0]]

    @pytest.mark.parametrize("shapes", [((1, 2), (1, 2, 3)), ((1,) * 6 + (2,), (1,) * 7)])
    def test_ranks(self, shapes):
        tasks = [[np.zeros(shape)] for shape in shapes]
        with pytest.raises(ServingError, match="from 1 to 6"):
            join(["x"], tasks, 0, pad_lengths=True)

    def test_outputs_without_a_row_per_input_row(self):
        for output, text in (
            (np.float32(1.0), "has 0 dimensions"),
            (np.zeros(3), "0th dimension does not equal the sum"),
        ):
            with pytest.raises(ServingError, match=text) as caught:
                split([np.asarray(output)], [2], 2)
            assert caught.value.code == "FAILED_PRECONDITION"
            assert caught.value.message.startswith("Batched output tensor")


class TestServer:
    @pytest.fixture(scope="class")
    def batched(self, everything):
        parameters = BatchingParameters(
            max_batch_size=64, batch_timeout_micros=2000, allowed_batch_sizes=(4, 64)
        )
        options = ServerOptions(models=models_config(all=everything), batching=parameters)
        with Server(options) as server, Calls(server) as calls:
            yield calls

    def test_answers_are_those_of_the_unbatched_server(self, batched, calls):
        draw = np.random.default_rng(0)
        requests = [
            predict_request("all", "embed", ids=draw.integers(0, 5, size))
            for size in draw.integers(1, 20, 40)
        ]
        with ThreadPoolExecutor(8) as pool:
            joint = list(pool.map(batched.predict, requests))
        for request, got in zip(requests, joint, strict=True):
            np.testing.assert_array_equal(got["y"], calls.predict(request)["y"])
        sizes = batched.server.metrics.processed_batch_size
        assert 0 < sizes.count("batch_threads") <= len(requests)

    def test_rest(self, batched):
        assert batched.post("all:predict", {"instances": [1.0, 2.0]}).json() == {
            "predictions": [2.5, 3.0]
        }
        big = list(np.arange(60.0)) * 400  # a body too large to be decoded in the event loop
        text = batched.error("all:predict", {"instances": big})
        assert text == "Task size 24000 is larger than maximum input batch size 64"

    def test_scalars_work_only_without_batching(self, batched, calls):
        assert calls.post("all:predict", {"inputs": 1.0}).json() == {"outputs": 2.5}
        assert batched.error("all:predict", {"inputs": 1.0}) == (
            "Batching Run() input tensors must have at least one dimension"
        )
        text = batched.error("all:predict", {"signature_name": "total", "inputs": [1.0, 2.0]})
        assert text == "Batched output tensor has 0 dimensions"

    def test_errors_of_the_graph(self, batched):
        request = predict_request("all", "embed", ids=np.array([7]))
        code, text = refused(lambda: batched.predict(request))
        assert code == "INVALID_ARGUMENT"
        assert "is not in [0, 5)" in text

    def test_deadline_while_queued(self, everything):
        parameters = BatchingParameters(batch_timeout_micros=60_000_000)
        options = ServerOptions(
            models=models_config(all=everything), batching=parameters, rest_timeout_seconds=0.2
        )
        with Server(options) as server, Calls(server) as calls:
            assert calls.error("all:predict", {"inputs": [1.0]}, 429) == (
                "Run() timeout exceeded while waiting in batching queue"
            )

    def test_impossible_sizes_fail_the_start(self, half):
        parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(4,))
        options = ServerOptions(
            models=models_config(half=half), batching=parameters, max_load_retries=0
        )
        with pytest.raises(ServingError, match="Last entry in allowed_batch_sizes"):
            Server(options).start()

    def test_parameters_per_model(self, half, tmp_path):
        for name in ("with", "without"):
            shutil.copytree(half / "1", tmp_path / name / "1")
        (tmp_path / "with" / "1" / "batching_params.pbtxt").write_text(
            "max_batch_size { value: 2 }"
        )
        config = models_config(a=tmp_path / "with", b=tmp_path / "without")
        options = ServerOptions(models=config, per_model_batching=True)
        with Server(options) as server, Calls(server) as calls:
            assert "larger than maximum" in calls.error("a:predict", {"inputs": [1.0] * 3})
            assert calls.post("b:predict", {"inputs": [0.0] * 3}).json() == {"outputs": [1.0] * 3}
