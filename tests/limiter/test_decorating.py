"""`@limiter.limit(...)`: on blocking and on async functions, by both kinds of limiter."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from headgate import AcquireTimeout, InvalidKey, InvalidUse, Limiter, LimitExceeded
from tests.limiter.bench import Bench, remaining, told

Function = Callable[..., "int | Awaitable[int]"]


def counting(kind: str, calls: list[int]) -> Function:
    """A function that notes that it ran."""

    def blocking(number: int = 0, *, user: str = "42") -> int:
        """Count."""
        calls.append(number)
        return number

    async def awaiting(number: int = 0, *, user: str = "42") -> int:
        """Count."""
        calls.append(number)
        return number

    return blocking if kind == "blocking" else awaiting


both = pytest.mark.parametrize("kind", ["blocking", "awaiting"])


@both
async def test_a_call_that_is_admitted_runs_and_returns(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    limited = bench.limiter("2/minute").limit(key="k")(counting(kind, calls))
    assert await told(limited(7)) == 7
    assert await told(limited(8, user="43")) == 8
    assert calls == [7, 8]


@both
async def test_a_call_that_is_denied_does_not_run(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    limited = bench.limiter("2/minute", name="api").limit(key="k")(counting(kind, calls))
    await told(limited(1))
    await told(limited(2))
    for _ in range(3):
        with pytest.raises(LimitExceeded, match=r"'api' denies 'k'; retry in 30\.0+ s") as caught:
            await told(limited(3))
        assert caught.value.decision.retry_after == 30
        assert not caught.value.decision
    assert calls == [1, 2]


@both
async def test_key_and_cost_may_come_from_the_call(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    limiter = bench.limiter("10/minute")
    decorate = limiter.limit(key=lambda _, *, user: f"user:{user}", cost=lambda number, **_: number)
    limited = decorate(counting(kind, calls))
    await told(limited(7, user="1"))
    await told(limited(3, user="2"))
    assert await remaining(limiter, "user:1") == 3
    assert await remaining(limiter, "user:2") == 7
    with pytest.raises(LimitExceeded):
        await told(limited(4, user="1"))
    assert calls == [7, 3]


@both
async def test_a_key_that_cannot_be_had_stops_the_call(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    nothing: Any = lambda: None  # noqa: E731 - a key rule that forgot to return
    limiter = bench.limiter("10/minute")
    with pytest.raises(InvalidKey):
        await told(limiter.limit(key=lambda *_, **__: "")(counting(kind, calls))())
    with pytest.raises(ZeroDivisionError):
        await told(limiter.limit(key=lambda *_, **__: str(1 / 0))(counting(kind, calls))())
    with pytest.raises(InvalidKey):
        await told(limiter.limit(key=nothing)(counting(kind, calls))())
    assert calls == []


@both
async def test_tiers_take_their_keys_from_the_call(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    limiter = bench.limiter({"user": "1/minute", "global": "5/minute"})
    limited = limiter.limit(key=lambda _, user: {"user": user, "global": "*"})(counting(kind, calls))
    await told(limited(1, user="1"))
    await told(limited(2, user="2"))
    with pytest.raises(LimitExceeded, match="'user' denies '1'"):
        await told(limited(3, user="1"))
    assert calls == [1, 2]


@both
async def test_a_call_waits_for_its_turn_within_the_timeout(live_bench: Bench, kind: str) -> None:
    calls: list[int] = []
    limited = live_bench.limiter("100/second; burst=1").limit(key="k", timeout=10)(counting(kind, calls))
    for number in range(3):
        await told(limited(number))
    assert calls == [0, 1, 2]


@both
async def test_a_call_whose_turn_comes_too_late_does_not_run(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    limiter = bench.limiter("1/minute")
    limited = limiter.limit(key="k", timeout=1)(counting(kind, calls))
    await told(limited(1))
    with pytest.raises(AcquireTimeout):
        await told(limited(2))
    assert calls == [1]


@both
async def test_a_call_may_wait_as_long_as_it_takes(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    limited = bench.limiter("100/second; burst=1").limit(key="k", timeout=None)(counting(kind, calls))
    for number in range(3):
        await told(limited(number))
    assert calls == [0, 1, 2]


@both
async def test_a_decorator_may_bring_a_limit_of_its_own(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    limited = bench.limiter("100/minute", name="api").limit(key="k", limit="1/minute")(counting(kind, calls))
    await told(limited(1))
    with pytest.raises(LimitExceeded):
        await told(limited(2))
    assert calls == [1]


@both
async def test_a_slot_is_held_while_the_function_runs(bench: Bench, kind: str) -> None:
    limiter = bench.limiter("concurrency 1")
    seen: list[int] = []

    def blocking() -> None:
        seen.append(asyncio.run(_free(bench)))

    async def awaiting() -> None:
        seen.append(await remaining(limiter, "k"))

    function: Callable[[], Any] = blocking if kind == "blocking" else awaiting
    limited = limiter.limit(key="k")(function)
    for _ in range(2):
        if kind == "blocking":
            await asyncio.to_thread(limited)
        else:
            await told(limited())
    assert seen == [0, 0]
    assert await remaining(limiter, "k") == 1


async def _free(bench: Bench) -> int:
    """How many slots are free, asked by a limiter of its own: this may be another thread and loop."""
    from headgate import Limiter

    return Limiter("concurrency 1", store=bench.store, on_outage="raise").peek("k", 0).remaining


@both
async def test_a_slot_is_released_when_the_function_raises(bench: Bench, kind: str) -> None:
    limiter = bench.limiter("concurrency 1")

    def blocking() -> None:
        raise RuntimeError("in the function")

    async def awaiting() -> None:
        raise RuntimeError("in the function")

    function: Callable[[], Any] = blocking if kind == "blocking" else awaiting
    for _ in range(3):
        with pytest.raises(RuntimeError, match="in the function"):
            await told(limiter.limit(key="k")(function)())
    assert await remaining(limiter, "k") == 1


@both
async def test_what_the_function_raises_refunds_no_tokens(bench: Bench, kind: str) -> None:
    limiter = bench.limiter("5/minute")

    def blocking() -> None:
        raise RuntimeError("in the function")

    async def awaiting() -> None:
        raise RuntimeError("in the function")

    function: Callable[[], Any] = blocking if kind == "blocking" else awaiting
    with pytest.raises(RuntimeError):
        await told(limiter.limit(key="k")(function)())
    assert await remaining(limiter, "k") == 4


async def test_generators_are_refused_when_decorated(bench: Bench) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def later_numbers() -> AsyncIterator[int]:
        yield 1

    decorate = bench.limiter("5/minute").limit(key="k")
    for function in (numbers, later_numbers):
        with pytest.raises(InvalidUse, match="numbers is a generator: limit what it calls, or what calls it"):
            decorate(function)


async def test_a_decorator_without_its_key_says_so_instead_of_doing_nothing(bench: Bench) -> None:
    def double(number: int) -> int:
        return 2 * number

    limiter: Any = bench.limiter("5/minute")
    decorated = limiter.limit(double)  # as `@limiter.limit` does
    with pytest.raises(InvalidUse, match="limit"):
        decorated(5)


@pytest.mark.parametrize("thing", [None, 5, "k", classmethod(print)], ids=repr)
async def test_what_cannot_be_called_is_refused_when_decorated(bench: Bench, thing: Any) -> None:
    with pytest.raises(InvalidUse):
        bench.limiter("5/minute").limit(key="k")(thing)


@both
async def test_a_decorated_function_keeps_its_name_text_and_signature(bench: Bench, kind: str) -> None:
    function = counting(kind, [])
    limited = bench.limiter("5/minute").limit(key="k")(function)
    assert limited.__name__ == function.__name__
    assert limited.__doc__ == "Count."
    assert inspect.signature(limited) == inspect.signature(function)
    assert inspect.iscoroutinefunction(limited) == inspect.iscoroutinefunction(function)
    assert inspect.unwrap(limited) is function


@both
async def test_functions_that_share_a_limiter_and_a_key_share_their_tokens(bench: Bench, kind: str) -> None:
    calls: list[int] = []
    decorate = bench.limiter("2/minute").limit(key="k")
    first, second = decorate(counting(kind, calls)), decorate(counting("blocking", calls))
    await told(first(1))
    await told(second(2))
    for limited in (first, second):
        with pytest.raises(LimitExceeded):
            await told(limited(3))
    assert calls == [1, 2]


@both
async def test_methods_may_be_decorated(bench: Bench, kind: str) -> None:
    limiter = bench.limiter("1/minute")

    class Mailbox:
        def __init__(self, owner: str) -> None:
            self.owner = owner

        @limiter.limit(key=lambda self: self.owner)
        def blocking(self) -> str:
            return self.owner

        @limiter.limit(key=lambda self: self.owner)
        async def awaiting(self) -> str:
            return self.owner

    for owner in ("a", "b"):
        assert await told(getattr(Mailbox(owner), kind)()) == owner
    with pytest.raises(LimitExceeded):
        await told(getattr(Mailbox("a"), kind)())


async def test_what_is_called_like_a_function_may_be_decorated(bench: Bench) -> None:
    class Awaited:
        async def __call__(self, word: str) -> str:
            await asyncio.sleep(0)
            return word.upper()

    class Called:
        def __call__(self, word: str) -> str:
            return word.upper()

    limiter = bench.limiter("2/minute")
    kinds: list[Any] = [Awaited(), functools.partial(Awaited(), "word"), functools.partial(_upper, "word")]
    for number, awaited in enumerate(kinds):
        decorated: Any = limiter.limit(key=f"awaited {number}")(awaited)
        words = () if isinstance(awaited, functools.partial) else ("word",)
        assert [await decorated(*words) for _ in range(2)] == ["WORD", "WORD"]
        with pytest.raises(LimitExceeded):
            await decorated(*words)
    if isinstance(limiter, Limiter):
        kinds = [Called(), functools.partial(str.upper)]
        for number, called in enumerate(kinds):
            decorated = limiter.limit(key=f"called {number}")(called)
            assert [decorated("word") for _ in range(2)] == ["WORD", "WORD"]
            with pytest.raises(LimitExceeded):
                decorated("word")


async def _upper(word: str) -> str:
    await asyncio.sleep(0)
    return word.upper()
