"""The arithmetic of the benchmarks, on contenders that cost nothing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from benchmarks.measure import (
    CALLS,
    CHUNK_IN_THREADS,
    FLOOR,
    FOREVER_NS,
    Column,
    Row,
    Table,
    check,
    interleave,
    quantile,
    ratio,
    slice_async,
    slice_in_threads,
    slice_sync,
)
from benchmarks.shape import OURS, Contender, Quota

WAIT = Column("wait", more_is_better=False)


def row(library: str, *numbers: float, column: Column = CALLS) -> Row:
    return Row(library, "token bucket", {column.name: list(numbers)})


def soon() -> int:
    return time.perf_counter_ns() + 20_000_000


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    slow_start = row("a", 10, 100, 300)
    assert ratio(slow_start, row("b", 1, 50, 100), CALLS.name) == 3  # of 10, 2 and 3; the medians' ratio would be 2


def test_a_table_compares_with_the_best_of_the_others() -> None:
    rows = [row(OURS, 90), row("slow", 10), row("fast", 30), row(FLOOR, 500)]
    table = Table("t", "t", (CALLS,), rows)
    assert [found.library for found in table.measured] == [FLOOR, OURS, "fast", "slow"]
    assert table.best_peer() is rows[2]
    assert table.against_best_peer(rows[0]) == 3


def test_a_row_is_compared_with_the_best_of_its_kind_where_a_kind_has_two_names() -> None:
    own, other = row(OURS, 90), Row(OURS, "sliding log", {CALLS.name: [80]})
    gcra, window = Row("peer", "GCRA", {CALLS.name: [30]}), Row("peer", "fixed window", {CALLS.name: [60]})
    table = Table("t", "t", (CALLS,), [own, other, row("peer", 20), gcra, window], by_kind=True)
    assert table.against_best_peer(own) == 1.5
    assert table.against_best_of_kind(own) == 3
    assert table.against_best_of_kind(other) is None


def test_less_may_be_better() -> None:
    rows = [row(name, number, column=WAIT) for name, number in ((OURS, 5.0), ("long", 20.0), ("short", 10.0))]
    table = Table("t", "t", (WAIT,), rows)
    assert [found.library for found in table.measured] == [OURS, "short", "long"]
    assert table.against_best_peer(rows[0]) == 0.5


def test_what_failed_has_no_number_and_is_compared_with_nothing() -> None:
    failed = Row("peer", "token bucket", failure="denied 'a'")
    table = Table("t", "t", (CALLS,), [row(OURS, 1), failed])
    assert table.failed == [failed]
    assert table.best_peer() is None
    assert table.against_best_peer(table.row(OURS, "token bucket")) is None


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_quantile_is_a_number_that_was_measured(share: float, expected: int) -> None:
    assert quantile(range(100, 0, -1), share) == expected


def test_a_bucket_holds_its_tokens_unless_it_has_a_burst() -> None:
    assert (Quota(5, 60).capacity, Quota(5, 60, burst=2).capacity) == (5, 2)


def test_wrong_answers_are_found_out() -> None:
    contender = Contender("peer", "token bucket", str)
    check(contender, [("a", True), ("b", False)], lambda key: key == "a")
    with pytest.raises(RuntimeError, match="admitted 'b'"):
        check(contender, [("b", True)], lambda key: key == "a")
    with pytest.raises(RuntimeError, match="denied 'a'"):
        check(contender, [("a", False)], lambda key: key == "a")


def test_each_contender_has_a_slice_in_each_round_in_changing_order() -> None:
    contenders = [Contender(name, "token bucket", str) for name in "abcd"]
    rows = {contender: Row(contender.library, contender.algorithm) for contender in contenders}
    taken: list[str] = []

    def take(contender: Contender, slice_s: float) -> dict[str, float]:
        taken.append(contender.library)
        return {CALLS.name: 1.0}

    interleave(rows, take, rounds=5, slice_s=0)
    rounds = [taken[start : start + 4] for start in range(0, len(taken), 4)]
    assert [sorted(one) for one in rounds] == [list("abcd")] * 5
    assert len({tuple(one) for one in rounds}) > 1
    assert all(len(found.rounds[CALLS.name]) == 5 for found in rows.values())


def test_a_slice_that_fails_is_repeated_once() -> None:
    stumbling, broken = (Contender(name, "token bucket", str) for name in ("stumbling", "broken"))
    rows = {contender: Row(contender.library, contender.algorithm) for contender in (stumbling, broken)}
    tries: list[str] = []

    def take(contender: Contender, slice_s: float) -> dict[str, float]:
        tries.append(contender.library)
        if contender is broken or tries.count("stumbling") == 1:
            raise RuntimeError("no answer")
        return {CALLS.name: 1.0}

    interleave(rows, take, rounds=3, slice_s=0)
    assert (rows[stumbling].failure, rows[stumbling].repeated) == ("", ["no answer"])
    assert rows[stumbling].rounds == {CALLS.name: [1.0] * 3}
    assert rows[broken].failure == "no answer"
    assert tries.count("broken") == 2


def test_a_blocking_slice_ends_with_its_keys_or_its_time() -> None:
    contender = Contender("peer", "token bucket", str.isupper, per_call=2)
    ended = slice_sync(contender, iter("abC"), FOREVER_NS)
    assert (ended.calls, ended.answers) == (6, [("a", False), ("b", False), ("C", True)])
    assert slice_sync(contender, itertools.repeat("a"), soon()).calls > 20


def test_threads_share_a_slice() -> None:
    contender = Contender("peer", "token bucket", str.isupper)
    with ThreadPoolExecutor(4) as pool:
        taken = slice_in_threads(pool, 4)(contender, itertools.cycle("abc"), soon())
    assert len(taken.answers) == 4 * CHUNK_IN_THREADS <= taken.calls
    assert {key for key, _ in taken.answers} <= set("abc")


@pytest.mark.parametrize("tasks", [1, 7])
async def test_tasks_share_a_slice(tasks: int) -> None:
    async def call(key: str) -> bool:
        return key.isupper()

    contender = Contender("peer", "token bucket", call)
    keys: Iterator[Any] = iter("abcdeFG" * 10)
    ended = await slice_async(contender, keys, FOREVER_NS, tasks)
    assert ended.calls == 70
    assert all(answer is key.isupper() for key, answer in ended.answers)
    assert (await slice_async(contender, itertools.repeat("a"), soon(), tasks)).calls > 20
