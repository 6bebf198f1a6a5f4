"""The errors: one tree, one meaning for each builtin base, and all of them go between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

import headgate
from headgate import (
    AcquireTimeout,
    ConfigError,
    CostExceedsCapacity,
    Decision,
    HeadgateError,
    InvalidCost,
    InvalidKey,
    InvalidUse,
    Limiter,
    LimitError,
    LimitExceeded,
    LimitOutOfBounds,
    LimitSyntaxError,
    ManualClock,
    MemoryStore,
    MissingExtra,
    StoreOutage,
    StoreTimeout,
    StoreUnavailable,
    StoreURLError,
)


def denial() -> Decision:
    limiter = Limiter("1/minute", store=MemoryStore(ManualClock()))
    limiter.try_acquire("k")
    return limiter.try_acquire("k")


EVERY_ERROR: list[tuple[HeadgateError, type[Exception]]] = [
    (LimitSyntaxError("5/minut", 2, "unknown unit"), ValueError),
    (LimitOutOfBounds("rate must be at least 1"), ValueError),
    (InvalidKey("a key must not be empty"), ValueError),
    (InvalidCost("a cost is at least 0"), ValueError),
    (CostExceedsCapacity(9, 5, "api"), ValueError),
    (InvalidUse("this limiter has one key"), TypeError),
    (StoreURLError("not understood"), ValueError),
    (ConfigError("headgate.toml", ["[limiters.api], limt: there is no such key"]), ValueError),
    (MissingExtra("redis-py", "redis"), ImportError),
    (AcquireTimeout(denial(), 5.0), TimeoutError),
    (LimitExceeded(denial()), Exception),
    (StoreTimeout("redis://localhost:6379/0", "no answer"), ConnectionError),
    (StoreUnavailable("redis://localhost:6379/0", "refused"), ConnectionError),
]
ids = [type(error).__name__ for error, _ in EVERY_ERROR]


@pytest.mark.parametrize(("error", "builtin"), EVERY_ERROR, ids=ids)
def test_an_error_can_be_caught_as_ours_and_as_the_builtin_that_it_is(
    error: HeadgateError, builtin: type[Exception]
) -> None:
    assert isinstance(error, HeadgateError)
    assert isinstance(error, builtin)


@pytest.mark.parametrize(("error", "builtin"), EVERY_ERROR, ids=ids)
def test_an_error_travels_between_processes(error: HeadgateError, builtin: type[Exception]) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert set(vars(again)) == set(vars(error))
        for name, value in vars(error).items():
            if not isinstance(value, Decision):
                assert getattr(again, name) == value
            else:
                assert repr(getattr(again, name)) == repr(value)


def test_every_error_that_is_exported_is_in_the_tree() -> None:
    exported = [thing for name in headgate.__all__ if isinstance(thing := getattr(headgate, name), type)]
    errors = {kind for kind in exported if issubclass(kind, BaseException)}
    assert errors == {HeadgateError, LimitError, StoreOutage, *(type(error) for error, _ in EVERY_ERROR)}
    assert all(issubclass(kind, HeadgateError) for kind in errors)


def test_what_may_not_go_now_and_what_never_can_are_told_apart() -> None:
    assert not issubclass(CostExceedsCapacity, (LimitExceeded, AcquireTimeout))
    assert str(CostExceedsCapacity(9, 5, "api")) == (
        "a cost of 9 can never pass 'api', whose capacity is 5: ask for less at once, or raise the limit's burst"
    )
    assert str(LimitExceeded(denial())) == "'1/minute' denies 'k'; retry in 60.000000 s"
    assert str(AcquireTimeout(denial(), 0.5)) == (
        "'1/minute' would admit 'k' in 60.000000 s, later than the timeout of 0.5 s"
    )


def test_a_missing_library_says_how_to_get_it() -> None:
    assert str(MissingExtra("redis-py", "redis")) == "redis-py is not installed: pip install 'headgate[redis]'"
