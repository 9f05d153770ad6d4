"""Malformed requests: every answer is a documented error, and the server is right afterwards."""

import random

import pytest

from tests.serving.embedded.malformed import check_grpc, check_rest, check_right


def fuzz(calls, count: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(count // 2):
        check_rest(calls, draw)
        check_grpc(calls, draw)
    check_right(calls)
    assert calls.server.admission.in_flight == 0


def test_300_malformed_requests(calls):
    fuzz(calls, 300, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_2000_malformed_requests(calls, seed):
    fuzz(calls, 2000, seed)
