"""`@limiter.limit(...)`: on blocking and on async functions, by both kinds of limiter."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headgate import (
    AcquireTimeout,
    InvalidCost,
    InvalidKey,
    InvalidUse,
    Limiter,
    LimitError,
    LimitExceeded,
    ManualClock,
    MemoryStore,
)
from headgate.limiter.decorator import MAX_SHAPES
from tests.limiter.bench import Bench, peek, remaining, told

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

    class Numbers:
        def __call__(self) -> Iterator[int]:
            yield 1

    with pytest.raises(InvalidUse, match="a Numbers is a generator"):
        decorate(Numbers())
    with pytest.raises(InvalidUse, match="numbers is a generator"):
        decorate(functools.partial(numbers))
    with pytest.raises(InvalidUse, match="numbers is a generator"):
        decorate(staticmethod(numbers))


@pytest.mark.parametrize("thing", [None, 5, "k", (number for number in (1, 2))], ids=lambda thing: type(thing).__name__)
async def test_what_cannot_be_called_is_refused_when_decorated(bench: Bench, thing: Any) -> None:
    with pytest.raises(InvalidUse, match="decorates a function, not "):
        bench.limiter("5/minute").limit(key="k")(thing)


def double(number: int) -> int:
    return 2 * number


class Doubler:
    """What is called like a function, and no function."""

    def __init__(self, base: int = 2) -> None:
        self.base = base

    def __call__(self, number: int) -> int:
        return self.base * number

    async def later(self, number: int) -> int:
        return self.base * number

    def soon(self, number: int) -> int:
        return self.base * number


class Rebinding:
    """A descriptor that can be called, and does not bind as a function does: as `staticmethod`, of somebody's own."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def __get__(self, instance: object, owner: type | None = None) -> Function:
        return self.function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


class Picky(Rebinding):
    """One that is an attribute of some classes only."""

    def __get__(self, instance: object, owner: type | None = None) -> Function:
        raise TypeError(owner)


@pytest.mark.parametrize(
    "thing",
    [
        double,
        functools.partial(double),
        lambda: 5,
        len,
        Doubler,
        Doubler(),
        Doubler().soon,
        staticmethod(double),
        classmethod(double),  # type: ignore[arg-type]  # not one for a class
        property(double),
    ],
    ids=lambda thing: type(thing).__name__,
)
async def test_what_is_in_the_place_of_the_key_is_refused_at_once(bench: Bench, thing: Any) -> None:
    limiter: Any = bench.limiter("5/minute")
    with pytest.raises(InvalidUse, match=r"is where the key should be: .*write @limiter\.limit\(key=\.\.\.\) above it"):
        limiter.limit(thing)  # as `@limiter.limit` does


async def test_a_decorator_without_a_key_or_with_two_is_refused_at_once(bench: Bench) -> None:
    limiter: Any = bench.limiter("5/minute")
    for options in ({}, {"cost": 2}, {"key": None}):
        with pytest.raises(InvalidUse, match=r"a decorator needs a key: write @limiter\.limit"):
            limiter.limit(**options)
    with pytest.raises(InvalidUse, match="the key is given twice"):
        limiter.limit("k", key="k")


async def test_a_key_that_is_not_computed_may_come_first(bench: Bench) -> None:
    limiter = bench.limiter("5/minute")
    assert await told(limiter.limit("k", 2)(lambda: 5)()) == 5
    assert await remaining(limiter, "k") == 3
    tiers = bench.limiter({"user": "5/minute"})
    assert await told(tiers.limit({"user": "k"})(lambda: 5)()) == 5


async def test_what_no_call_could_use_is_refused_at_once(bench: Bench) -> None:
    limiter: Any = bench.limiter("5/minute")
    faults: list[tuple[type[Exception], dict[str, Any]]] = [
        (InvalidKey, {"key": 5}),
        (InvalidKey, {"key": ""}),
        (InvalidCost, {"key": "k", "cost": 1.5}),
        (InvalidCost, {"key": "k", "cost": 6}),
        (LimitError, {"key": "k", "limit": "1 pr day"}),
        (InvalidUse, {"key": "k", "timeout": -1}),
        (InvalidUse, {"key": {"user": "k"}}),
    ]
    for error, options in faults:
        with pytest.raises(error):
            limiter.limit(**options)


@pytest.mark.parametrize(
    ("thing", "problem"),
    [
        (Doubler, "Doubler is a class, and would not be one any more"),
        (staticmethod(Doubler), "Doubler is a class"),
        (int, "int is a class"),
        (property(double), r"a property is no function: put @limiter\.limit\(\.\.\.\) beneath it"),
        (functools.cached_property(double), "a cached_property is no function: put"),
        (functools.partialmethod(double), "a partialmethod is no function: put"),
        (functools.singledispatchmethod(double), "a singledispatchmethod is no function: put"),
        (classmethod(property(double)), "a property is no function: put"),  # type: ignore[arg-type]
        (Rebinding(double), "a Rebinding does not become a method as functions do: put"),
        (Picky(double), "a Picky does not become a method as functions do: put"),
    ],
    ids=lambda thing: type(thing).__name__,
)
async def test_what_would_not_be_the_same_any_more_is_refused_when_decorated(
    bench: Bench, thing: Any, problem: str
) -> None:
    with pytest.raises(InvalidUse, match=problem):
        bench.limiter("5/minute").limit(key="k")(thing)


def handing_on(function: Function) -> Function:
    """A wrapper that takes anything, and hands it on."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def handing_on_later(function: Any) -> Function:
    """The same, async."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


def adding_one(function: Function) -> Function:
    """A wrapper that hands on one more argument than it gets, and says that it takes what the function takes."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(2, *args, **kwargs)

    return wrapper


async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def multiply(base: int, number: int) -> int:
    return base * number


Decorate = Callable[[Any], Any]


def of_class(decorate: Decorate, how: str) -> Any:
    """A method of this kind, decorated from outside or from inside."""

    class Owner:
        base = 2

        @decorate
        @staticmethod
        def static_inside(number: int) -> int:
            return 2 * number

        @staticmethod
        @decorate
        def static_outside(number: int) -> int:
            return 2 * number

        @decorate
        @staticmethod
        async def static_later(number: int) -> int:
            return 2 * number

        @decorate
        @classmethod
        def class_inside(cls, number: int) -> int:
            return cls.base * number

        @classmethod
        @decorate
        def class_outside(cls, number: int) -> int:
            return cls.base * number

        @classmethod
        @decorate
        async def class_later(cls, number: int) -> int:
            return cls.base * number

        @decorate
        def method(self, number: int) -> int:
            return self.base * number

        @decorate
        async def method_later(self, number: int) -> int:
            return self.base * number

        @decorate
        @functools.cache  # noqa: B019  # it lives as long as the test
        def cached(self, number: int) -> int:
            return self.base * number

    return getattr(Owner(), how)


KINDS: dict[str, Decorate] = {
    "function": lambda decorate: decorate(double),
    "async function": lambda decorate: decorate(double_later),
    "lambda": lambda decorate: decorate(lambda number: 2 * number),
    "names": lambda decorate: functools.partial(decorate(lambda number, *, base: base * number), base=2),
    "partial": lambda decorate: decorate(functools.partial(multiply, 2)),
    "async partial": lambda decorate: decorate(functools.partial(double_later)),
    "partial by name": lambda decorate: decorate(functools.partial(lambda number, base: base * number, base=2)),
    "partial of a callable": lambda decorate: decorate(functools.partial(Doubler())),
    "callable": lambda decorate: decorate(Doubler()),
    "bound method": lambda decorate: decorate(Doubler().soon),
    "async bound method": lambda decorate: decorate(Doubler().later),
    "builtin": lambda decorate: decorate((2).__mul__),
    "builtin method": lambda decorate: functools.partial(decorate(int.__mul__), 2),
    "cached": lambda decorate: decorate(functools.cache(double)),
    "decorated": lambda decorate: decorate(Limiter("9/minute").limit(key="other")(double)),
    "wrapper": lambda decorate: decorate(handing_on(double)),
    "wrapper of an async function": lambda decorate: decorate(handing_on_later(double_later)),
    "wrapper that adds": lambda decorate: decorate(adding_one(multiply)),
}
METHODS = [
    "static_inside",
    "static_outside",
    "static_later",
    "class_inside",
    "class_outside",
    "class_later",
    "method",
    "method_later",
    "cached",
]
EVERY_KIND = KINDS | {how: functools.partial(of_class, how=how) for how in METHODS}


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_whatever_can_be_called_is_limited_and_a_call_that_cannot_be_made_spends_nothing(
    bench: Bench, kind: str
) -> None:
    limiter = bench.limiter("5/minute")
    decorated = EVERY_KIND[kind](limiter.limit(key="k"))
    for args, kwargs in [((), {}), ((1, 2, 3, 4), {}), ((1,), {"nonsense": 1})]:
        with pytest.raises(TypeError):
            await told(decorated(*args, **kwargs))
    assert await remaining(limiter, "k") == 5
    for number in range(5):
        assert await told(decorated(number)) == 2 * number
    assert await remaining(limiter, "k") == 0
    with pytest.raises(LimitExceeded):
        await told(decorated(5))


async def test_a_property_may_be_put_above_the_decorator(bench: Bench) -> None:
    limiter = bench.limiter("3/minute")

    class Owner:
        @property
        @limiter.limit(key="k")
        def each_time(self) -> int:
            return 1

        @functools.cached_property
        @limiter.limit(key="k")
        def once(self) -> int:
            return 2

    owner = Owner()
    assert [owner.each_time, owner.each_time, owner.once, owner.once] == [1, 1, 2, 2]
    assert await remaining(limiter, "k") == 0


async def test_an_abstract_method_stays_abstract(bench: Bench) -> None:
    decorate = bench.limiter("3/minute").limit(key="k")

    class Abstract(ABC):
        @decorate
        @abstractmethod
        def inside(self) -> None: ...

        @abstractmethod
        @decorate
        def outside(self) -> None: ...

        @decorate
        @staticmethod
        @abstractmethod
        def static() -> None: ...

    assert Abstract.__abstractmethods__ == {"inside", "outside", "static"}


async def test_the_rule_of_a_class_method_gets_the_class(bench: Bench) -> None:
    limiter = bench.limiter("5/minute")

    class Owner:
        @limiter.limit(key=lambda cls, _number: cls.__name__)
        @classmethod
        def outside(cls, number: int) -> int:
            return number

        @classmethod
        @limiter.limit(key=lambda cls, _number: cls.__name__)
        def inside(cls, number: int) -> int:
            return number

    class Heir(Owner):
        pass

    assert [Owner.outside(1), Owner().inside(2), Heir.outside(3)] == [1, 2, 3]
    assert await remaining(limiter, "Owner") == 3
    assert await remaining(limiter, "Heir") == 4


PARAMETERS = st.lists(st.sampled_from(["{}", "{}=0", "/", "*", "*args", "**kwargs"]), max_size=5)
CALLS = st.tuples(st.integers(0, 4), st.sets(st.sampled_from(["a", "b", "c", "d", "e", "z"]), max_size=3))


@given(parts=PARAMETERS, calls=st.lists(CALLS, min_size=1, max_size=5))
def test_what_a_function_takes_is_what_is_asked_for(parts: list[str], calls: list[tuple[int, set[str]]]) -> None:
    names = iter("abcde")
    signature = ", ".join(part.format(next(names)) if "{}" in part else part for part in parts)
    try:
        function = eval(f"lambda {signature}: 5")
    except SyntaxError:
        assume(False)
    limiter = Limiter("100/minute", store=MemoryStore(ManualClock()))
    limited = limiter.limit(key="k")(function)
    left = 100
    for count, keywords in calls:
        args, kwargs = range(count), dict.fromkeys(keywords, 1)
        try:
            function(*args, **kwargs)
        except TypeError:
            with pytest.raises(TypeError, match=r"<lambda>\(\): "):
                limited(*args, **kwargs)
        else:
            assert limited(*args, **kwargs) == 5
            left -= 1
        assert limiter.peek("k", 0).remaining == left


@both
async def test_a_type_error_of_the_functions_own_refunds_nothing(bench: Bench, kind: str) -> None:
    limiter = bench.limiter("5/minute")

    def blocking(number: int) -> None:
        raise TypeError("of its own")

    async def awaiting(number: int) -> None:
        blocking()  # type: ignore[call-arg]  # a fault within

    function: Any = handing_on(cast("Function", blocking)) if kind == "blocking" else handing_on_later(awaiting)
    limited = limiter.limit(key="k")(function)
    with pytest.raises(TypeError):
        await told(limited(1))
    assert await remaining(limiter, "k") == 4


async def test_a_wrapper_that_cannot_hand_on_gives_slots_back_too(bench: Bench) -> None:
    limiter = bench.limiter(["5/minute", "concurrency 1"])
    limited: Any = limiter.limit(key="k")(handing_on(double))
    for _ in range(3):
        with pytest.raises(TypeError):
            await told(limited())
    assert await told(limited(4)) == 8
    decision = await peek(limiter, "k", 4)
    assert decision
    assert (decision.binding, decision.remaining) == ("5/minute", 4)


async def test_many_ways_to_call_a_function_take_no_more_room(bench: Bench) -> None:
    limiter = bench.limiter("100_000/minute")
    limited = limiter.limit(key="k")(lambda *args, **kwargs: len(args) + len(kwargs))
    tracemalloc.start()
    try:
        for number in range(MAX_SHAPES):
            assert await told(limited(**{f"name {number}": 1})) == 1
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2 * MAX_SHAPES):
            assert await told(limited(**{f"other {number}": 1})) == 1
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


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


# --- rules that are awaited, or that fail ---


async def key_later(*_: Any, **__: Any) -> str:
    await asyncio.sleep(0)
    return "k"


async def cost_later(*_: Any, **__: Any) -> int:
    await asyncio.sleep(0)
    return 2


class KeyLater:
    async def __call__(self, *_: Any, **__: Any) -> str:
        return await key_later()


ASYNC_KEYS: list[Any] = [key_later, functools.partial(key_later), KeyLater(), functools.partial(KeyLater())]
HIDDEN_ASYNC_KEYS: list[Any] = [lambda *_: key_later(), functools.partial(lambda *_: key_later())]


@pytest.mark.parametrize("key", [*ASYNC_KEYS, *HIDDEN_ASYNC_KEYS])
@pytest.mark.parametrize("cost", [2, cost_later, lambda *_: cost_later()])
async def test_an_async_function_may_have_an_async_key_and_cost(bench: Bench, key: Any, cost: Any) -> None:
    limiter = bench.limiter("5/minute")
    limited = limiter.limit(key=key, cost=cost)(double_later)
    assert [await limited(1), await limited(2)] == [2, 4]
    with pytest.raises(LimitExceeded):
        await limited(3)
    assert await remaining(limiter, "k") == 1


@pytest.mark.parametrize("rule", [*ASYNC_KEYS])
async def test_a_blocking_function_with_an_async_rule_is_refused_when_decorated(bench: Bench, rule: Any) -> None:
    limiter = bench.limiter("5/minute")
    for what, options in (("key", {"key": rule}), ("cost", {"key": "k", "cost": rule})):
        with pytest.raises(InvalidUse, match=f"double is blocking, and its {what} would have to be awaited"):
            limiter.limit(**options)(double)


@pytest.mark.parametrize("rule", HIDDEN_ASYNC_KEYS)
async def test_what_a_rule_of_a_blocking_function_leaves_to_be_awaited_is_refused(bench: Bench, rule: Any) -> None:
    limiter = bench.limiter("5/minute")
    for what, options in (("key", {"key": rule}), ("cost", {"key": "k", "cost": rule})):
        limited = limiter.limit(**options)(double)
        with pytest.raises(InvalidUse, match=f"the {what} of a call of double came as coroutine, which has to be"):
            limited(1)
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with pytest.raises(InvalidUse, match=r"came as \w*Future"):
        limiter.limit(key=lambda _: future)(double)(1)
    gc.collect()  # would warn of what was not awaited
    assert await remaining(limiter, "k") == 5


def failing(*_: Any) -> Any:
    raise ZeroDivisionError


async def failing_later(*_: Any) -> Any:
    await asyncio.sleep(0)
    raise ZeroDivisionError


@pytest.mark.parametrize("rule", [failing, failing_later, lambda: "k"], ids=["raises", "raises later", "takes less"])
@both
async def test_a_rule_that_fails_spends_nothing(bench: Bench, kind: str, rule: Any) -> None:
    limiter = bench.limiter("5/minute")
    function: Any = double if kind == "blocking" else double_later
    for options in ({"key": rule}, {"key": "k", "cost": rule}):
        with pytest.raises((ZeroDivisionError, TypeError)):
            await told(limiter.limit(**options)(function)(1))
    assert await remaining(limiter, "k") == 5


@pytest.mark.parametrize("key", [None, 5, b"k", "", ["k"], ("k",), 1.5], ids=repr)
@both
async def test_a_computed_key_that_is_none_spends_nothing(bench: Bench, kind: str, key: Any) -> None:
    limiter = bench.limiter("5/minute")
    function: Any = double if kind == "blocking" else double_later
    with pytest.raises(InvalidKey, match="a key "):
        await told(limiter.limit(key=lambda _: key)(function)(1))
    assert await remaining(limiter, "k") == 5


@pytest.mark.parametrize("cost", [None, "1", b"k", -1, 6, True, ["k"], 1.5], ids=repr)
@both
async def test_a_computed_cost_that_is_none_spends_nothing(bench: Bench, kind: str, cost: Any) -> None:
    limiter = bench.limiter("5/minute")
    function: Any = double if kind == "blocking" else double_later
    with pytest.raises(InvalidCost, match="a cost "):
        await told(limiter.limit(key="k", cost=lambda _: cost)(function)(1))
    assert await remaining(limiter, "k") == 5
