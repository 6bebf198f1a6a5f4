"""`try_acquire` is one method, on every store: a breakpoint in it fires, and a subclass or a mock of it is heard."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any
from unittest import mock

import pytest

from headgate import AsyncLimiter, Decision, InvalidUse, Lease, Limiter
from tests.servers import PATIENCE

KINDS = ["memory", "memory, several limits", "server", "server, leased"]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, valkey_url: str, prefix: str) -> Iterator[Callable[[Any], Any]]:
    """Makes a limiter of a class."""
    where, _, how = request.param.partition(", ")
    made: list[Any] = []

    def make(kind: Any) -> Any:
        options: dict[str, Any] = {"on_outage": "raise"}
        if where == "server":
            options |= {"store": valkey_url, "prefix": prefix, "timeout": PATIENCE}
        if how == "leased":
            options["lease"] = Lease(max_tokens=10)
        made.append(kind(["1000/hour", "9000/day"] if how == "several limits" else "1000/hour", **options))
        return made[-1]

    yield make
    for limiter in made:
        if isinstance(limiter, Limiter):
            limiter.close()


def entries(code: Any, call: Callable[[], object]) -> int:
    """How often some code is entered during a call, as a debugger sees it."""
    entered = 0

    def trace(frame: FrameType, event: str, argument: object) -> None:
        nonlocal entered
        entered += event == "call" and frame.f_code is code

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(former)
    return entered


def test_a_breakpoint_fires_at_every_call(make: Callable[[Any], Any]) -> None:
    limiter = make(Limiter)

    def ask() -> None:
        for _ in range(30):
            limiter.try_acquire("k")

    assert entries(Limiter.try_acquire.__code__, ask) == 30


def test_a_mock_reaches_limiters_that_were_made_before(make: Callable[[Any], Any]) -> None:
    limiter = make(Limiter)
    limiter.try_acquire("k")
    with mock.patch.object(Limiter, "try_acquire", autospec=True, return_value="mocked") as mocked:
        assert limiter.try_acquire("k", 3) == "mocked"
    mocked.assert_called_once_with(limiter, "k", 3)
    assert isinstance(limiter.try_acquire("k"), Decision)


async def test_a_mock_reaches_asyncio_limiters_too(make: Callable[[Any], Any]) -> None:
    limiter = make(AsyncLimiter)
    await limiter.try_acquire("k")
    with mock.patch.object(AsyncLimiter, "try_acquire", autospec=True, return_value="mocked"):
        assert await limiter.try_acquire("k") == "mocked"
    assert isinstance(await limiter.try_acquire("k"), Decision)
    await limiter.aclose()


def test_a_method_of_a_subclass_is_heard_by_decorators_too(make: Callable[[Any], Any]) -> None:
    asked = []

    class Loud(Limiter):
        def try_acquire(self, key: Any, cost: Any = 1, **options: Any) -> Decision:
            asked.append(key)
            return super().try_acquire(key, cost, **options)

    limiter = make(Loud)
    decorated = limiter.limit("bob")(lambda: 7)
    limiter.try_acquire("ann")
    assert decorated() == 7
    assert asked == ["ann", "bob"]


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_nothing_callable_is_planted_on_a_limiter(kind: Any) -> None:
    """What users call is in the class."""
    limiter = kind("5/s")
    assert not [name for name in vars(limiter) if not name.startswith("_")]


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
@pytest.mark.parametrize(
    "options",
    [{"prefix": "x"}, {"timeout": 3}, {"remember_denials": 5}, {"breaker": False}, {"prefix": "x", "timeout": 3}],
)
def test_what_memory_does_not_take_is_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidUse, match=f"a store of memory:// does not take {', '.join(sorted(options))}: leave"):
        kind("1/minute", **options)
