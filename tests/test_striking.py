"""The points at which a call can be struck are found, all of them and no others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType

import pytest

from tests.striking import Struck, code_of, each_point, strike


def add(number: int, more: int = 1) -> int:
    return number + more


def calls() -> int:
    return add(1) + add(2, more=3) + add(*(1, 2))


def loops() -> int:
    total = 0
    while total < 2:
        total += 1
    return total


def counts() -> Iterator[int]:
    yield 1
    yield 2


def here(code: CodeType) -> bool:
    return code.co_filename == __file__ and not code.co_name.startswith(("test", "<lambda>"))


@pytest.mark.parametrize(
    ("call", "after"),
    [
        (calls, ["RESUME", "RESUME", "CALL", "RESUME", "CALL", "RESUME", "CALL"]),
        (loops, ["RESUME", "BACKWARD", "BACKWARD"] if sys.version_info >= (3, 12) else ["RESUME", "BACKWARD"]),
        (lambda: list(counts()), ["RESUME", "RESUME", "RESUME", "RESUME"]),
    ],
)
def test_a_point_is_at_entry_after_a_call_and_where_a_loop_goes_back(
    call: Callable[[], object], after: list[str]
) -> None:
    found = []
    for point in each_point(with_collector=False):
        point.striking(call, here, lambda: None)
        found.append(point.place.rpartition(" ")[2])
    assert found.pop() == ""
    assert all(place in name for place, name in zip(after, found, strict=False)), found


def test_each_point_is_struck_once_by_an_exception_that_comes_out_of_there() -> None:
    places = []
    for point in each_point(with_collector=False):
        with suppress(Struck):
            point.striking(calls, here, strike)
            assert not point.place
        places.append(point.place)
    assert len(places) == 8


def test_what_strikes_is_not_struck_itself() -> None:
    made = []
    for point in each_point():
        assert point.striking(calls, here, lambda: made.append(calls())) == 10
        assert made == [10] * (point.number if point.place else point.number - 1)


def test_a_call_without_points_is_no_test() -> None:
    points = each_point()
    next(points).striking(calls, code_of(pytest), strike)
    with pytest.raises(AssertionError, match="nothing was struck"):
        next(points)
