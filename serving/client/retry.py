"""Steps of a call that do not depend on how they are waited for.

A call of the client is a generator that yields actions (send this, pause that long) and gets
their results. `drive` performs them by blocking, `drive_async` by awaiting: retries, waiting and
the refresh of metadata are written once for both.
"""

import asyncio
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from serving.client.errors import ClientError


@dataclass(frozen=True)
class Call:
    """One request in a transport's own terms, and how its reply is read."""

    request: Any
    decode: Callable[[Any], Any]


class Transport(Protocol):
    """What performs calls; raises ClientError for everything that can go wrong."""

    def send(self, call: Call, timeout: float) -> Any: ...

    async def send_async(self, call: Call, timeout: float) -> Any: ...


@dataclass(frozen=True)
class Send:
    call: Call
    timeout: float


@dataclass(frozen=True)
class Pause:
    seconds: float


Steps = Generator[Send | Pause, Any, Any]


@dataclass(frozen=True)
class RetryPolicy:
    """How often and after what pauses a retryable call is sent again.

    The pause before attempt k is drawn uniformly from [0, min(longest, first * 2^(k-2))]: full
    jitter, so that clients turned away together do not come back together.
    """

    attempts: int = 4
    first: float = 0.05
    longest: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first < 0 or self.longest < self.first:
            raise ValueError(f"retries: expected attempts >= 1, 0 <= first <= longest, got {self}")

    def pause(self, failed: int) -> float:
        """Seconds to wait after `failed` attempts."""
        return random.uniform(0.0, min(self.longest, self.first * 2 ** (failed - 1)))


def send_with_retries(call: Call, policy: RetryPolicy, deadline: float) -> Steps:
    """Send until it succeeds, fails for good, or `deadline` (time.monotonic) is near."""
    for failed in range(1, policy.attempts + 1):
        try:
            return (yield Send(call, _remaining(deadline)))
        except ClientError as error:
            pause = policy.pause(failed)
            last = failed == policy.attempts or time.monotonic() + pause >= deadline
            if not error.retryable or last:
                raise
        yield Pause(pause)
    raise AssertionError("the loop returns or raises")


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise ClientError("DEADLINE_EXCEEDED", "the client's deadline passed before sending")
    return remaining


def drive(steps: Steps, transport: Transport) -> Any:
    """Perform the steps by blocking; returns what the generator returns."""
    try:
        action = next(steps)
        while True:
            try:
                result = _perform(action, transport)
            except ClientError as error:
                action = steps.throw(error)
            else:
                action = steps.send(result)
    except StopIteration as done:
        return done.value


def _perform(action: Send | Pause, transport: Transport) -> Any:
    if isinstance(action, Pause):
        return time.sleep(action.seconds)
    return transport.send(action.call, action.timeout)


async def drive_async(steps: Steps, transport: Transport) -> Any:
    """Perform the steps by awaiting; returns what the generator returns."""
    try:
        action = next(steps)
        while True:
            try:
                result = await _perform_async(action, transport)
            except ClientError as error:
                action = steps.throw(error)
            else:
                action = steps.send(result)
    except StopIteration as done:
        return done.value


async def _perform_async(action: Send | Pause, transport: Transport) -> Any:
    if isinstance(action, Pause):
        return await asyncio.sleep(action.seconds)
    return await transport.send_async(action.call, action.timeout)
