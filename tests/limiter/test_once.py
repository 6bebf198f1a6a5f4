"""A decision's tokens come back once, or are settled once, however many copies there are of it, and wherever."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headgate import (
    Concurrency,
    Decision,
    FixedWindow,
    InvalidUse,
    Limit,
    Limiter,
    ManualClock,
    MemoryStore,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from headgate.decision.copies import _forks
from headgate.plans.groups import refund_groups, settle_groups
from headgate.stores.redis import RedisStore
from tests.limiter.bench import Bench, ask, peek, remaining, remaining_by_tier, told

RATES = [
    TokenBucket(10, per=60),
    FixedWindow(10, per=60),
    SlidingWindow(10, per=60),
    SlidingLog(10, per=60),
    FixedWindow(10, per="day", tz="Europe/Berlin"),
]
EVERY_LIMIT = [*RATES, Concurrency(10, ttl=60)]
COPYING: list[Callable[[Decision], Decision]] = [
    lambda decision: pickle.loads(pickle.dumps(decision)),
    copy.copy,
    copy.deepcopy,
]


@pytest.fixture
def is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had just forked."""
    monkeypatch.setattr(_forks, "last_us", None)
    _forks.note()


@pytest.fixture(autouse=True)
def is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it never had."""
    monkeypatch.setattr(_forks, "last_us", None)


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
@pytest.mark.parametrize("copied", COPYING, ids=["pickled", "copied", "deep-copied"])
async def test_a_message_that_is_delivered_again_gives_nothing_again(
    bench: Bench, limit: Limit, copied: Callable[[Decision], Decision]
) -> None:
    limiter = bench.limiter(limit)
    await ask(limiter, "k", 3)
    decision = await ask(limiter, "k", 3)
    await ask(limiter, "k", 3)
    for message in [copied(decision) for _ in range(3)]:
        await told(limiter.refund(message))
        assert await remaining(limiter, "k") == 4


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_the_original_counts_as_its_copies_do_and_spends_in_between_change_nothing(
    bench: Bench, limit: Limit
) -> None:
    limiter = bench.limiter(limit)
    decision = await ask(limiter, "k", 4)
    message, other = pickle.loads(pickle.dumps(decision)), copy.copy(decision)
    of_the_message = pickle.loads(pickle.dumps(message))
    await told(limiter.refund(of_the_message))
    assert await remaining(limiter, "k") == 10
    for one in (decision, message, other):
        assert await ask(limiter, "k", 2)
        left = await remaining(limiter, "k")
        await told(limiter.refund(one))
        assert await remaining(limiter, "k") == left


@pytest.mark.parametrize("limit", RATES, ids=str)
@pytest.mark.parametrize("actual", [1, 4, 6])
async def test_a_settlement_counts_once_and_no_refund_after_it(bench: Bench, limit: Limit, actual: int) -> None:
    limiter = bench.limiter(limit)
    decision = await ask(limiter, "k", 4)
    first, second, third = (pickle.loads(pickle.dumps(decision)) for _ in range(3))
    settled = await told(limiter.settle(first, actual))
    assert settled.remaining == 10 - actual
    await told(limiter.refund(second))
    assert await remaining(limiter, "k") == 10 - actual
    again = await told(limiter.settle(third, 0))
    assert again.remaining == 10 - actual
    await told(limiter.settle(decision, 9))
    assert await remaining(limiter, "k") == 10 - actual


@pytest.mark.parametrize("limit", RATES, ids=str)
async def test_a_refund_counts_once_and_no_settlement_after_it(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    decision = await ask(limiter, "k", 4)
    first, second = (pickle.loads(pickle.dumps(decision)) for _ in range(2))
    await told(limiter.refund(first))
    assert (await told(limiter.settle(second, 9))).remaining == 10


async def test_each_limit_of_a_group_counts_once(bench: Bench) -> None:
    limiter = bench.limiter(
        {"user": "10/minute", "ip": "fixed-window 20/minute", "log": "sliding-log 30/minute", "job": "concurrency 2"}
    )
    keys = {"user": "42", "ip": "a", "log": "l", "job": "j"}
    costs = {"user": 2, "ip": 3, "log": 4, "job": 1}
    await ask(limiter, keys, costs)
    decision = await ask(limiter, keys, costs)
    first, second, third = (pickle.loads(pickle.dumps(decision)) for _ in range(3))
    await told(limiter.settle(first, {**costs, "user": 1, "log": 5}))
    await told(limiter.refund(second))  # releases the slot, which a settlement leaves alone
    await told(limiter.refund(third))
    assert await remaining_by_tier(limiter, keys) == {"user": 7, "ip": 14, "log": 21, "job": 1}


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
@pytest.mark.parametrize("copied", COPYING, ids=["pickled", "copied", "deep-copied"])
async def test_a_copy_that_is_taken_after_the_refund_is_refused(
    bench: Bench, limit: Limit, copied: Callable[[Decision], Decision]
) -> None:
    limiter = bench.limiter(limit)
    decision = await ask(limiter, "k", 4)
    await told(limiter.refund(decision))
    late = copied(decision)
    for refused in (late, copied(late)):
        with pytest.raises(InvalidUse, match="refunded or settled before"):
            await told(limiter.refund(refused))
        with pytest.raises(InvalidUse, match="refunded or settled before"):
            await told(limiter.settle(refused, 1))
    assert await remaining(limiter, "k") == 10


async def test_what_settling_returns_cannot_be_copied_to_settle_it_again(bench: Bench) -> None:
    limiter = bench.limiter("10/minute")
    settled = await told(limiter.settle(await ask(limiter, "k", 4), 2))
    with pytest.raises(InvalidUse, match="refunded or settled before"):
        await told(limiter.refund(pickle.loads(pickle.dumps(settled))))


async def test_a_copy_that_comes_more_than_a_day_later_changes_nothing(bench: Bench) -> None:
    limiter = bench.limiter(TokenBucket(10, per=86_400))
    decision = await ask(limiter, "k", 4)
    message = copy.copy(decision)
    bench.clock.advance(seconds=86_400)
    await ask(limiter, "k", 9)
    await told(limiter.settle(message, 9))
    assert await remaining(limiter, "k") == 1


async def test_what_takes_longer_than_a_day_to_earn_can_come_back_for_as_long(bench: Bench) -> None:
    limiter = bench.limiter(TokenBucket(10, per=10 * 86_400))
    decision = await ask(limiter, "k", 10)
    first, second = copy.copy(decision), copy.copy(decision)
    bench.clock.advance(seconds=7 * 86_400)
    await told(limiter.refund(first))
    assert await remaining(limiter, "k") == 10
    await ask(limiter, "k", 10)
    await told(limiter.refund(second))
    assert await remaining(limiter, "k") == 0


async def test_settling_for_the_estimate_says_how_things_stand_now(bench: Bench) -> None:
    limiter = bench.limiter({"user": "10/minute", "ip": "fixed-window 100/day", "job": "concurrency 3"})
    keys = {"user": "42", "ip": "a", "job": "j"}
    estimate = await ask(limiter, keys, {"user": 4, "ip": 4, "job": 1})
    await ask(limiter, keys, {"user": 3, "ip": 3, "job": 1})
    bench.clock.advance(seconds=6)
    settled = await told(limiter.settle(estimate, {"user": 4, "ip": 4, "job": 1}))
    assert (settled.remaining, settled.binding, settled.now_us) == (1, "job", bench.clock())
    assert settled.facts[0][0] == (await peek(limiter, keys, 0)).facts[0][0]


def test_a_decision_without_copies_asks_for_nothing_more() -> None:
    limiter = Limiter("10/minute", store=MemoryStore(ManualClock()))
    decision = limiter.try_acquire("k", 4)
    assert [group.once for group in refund_groups(decision)] == [None]
    assert [group.once for _, group in settle_groups(decision, [3])] == [None]
    copy.copy(decision)
    assert all(group.once for group in refund_groups(decision))


# Other processes

REFUND = """
import pickle, sys
from headgate import Limiter
from headgate.stores.redis import RedisStore
limiter = Limiter({"a": "10/minute", "b": "fixed-window 10/day"}, name="n", on_outage="raise",
                  store=RedisStore(sys.argv[1], prefix=sys.argv[2], timeout=20))
limiter.refund(pickle.loads(sys.stdin.buffer.read()))
"""
KEYS = {"a": "k", "b": "k"}


@pytest.fixture
def shared(valkey_url: str, prefix: str) -> Iterator[Limiter]:
    store = RedisStore(valkey_url, prefix=prefix, timeout=20)
    yield Limiter({"a": "10/minute", "b": "fixed-window 10/day"}, name="n", on_outage="raise", store=store)
    store.close()


def left(limiter: Limiter) -> list[int]:
    decision = limiter.peek(KEYS)
    told = zip(decision.group.hits, decision.facts, strict=True)
    return [hit.limit.remaining(facts, decision.now_us) for hit, facts in told]


def test_other_processes_give_back_once_between_them(shared: Limiter, valkey_url: str, prefix: str) -> None:
    shared.try_acquire(KEYS, 2)
    decision = shared.try_acquire(KEYS, 4)
    message = pickle.dumps(decision)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", REFUND, valkey_url, prefix], input=message, check=True, timeout=60)
        assert left(shared) == [8, 8]
    shared.refund(decision)
    assert left(shared) == [8, 8]


def in_child(work: Callable[[], object]) -> None:
    """Do something in a forked process."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # the suite has threads
@pytest.mark.parametrize("how", ["refund", "settle", "pickle"])
def test_a_forked_process_and_its_parent_give_back_once_between_them(shared: Limiter, how: str) -> None:
    shared.try_acquire(KEYS, 2)
    decision = shared.try_acquire(KEYS, 4)
    work: dict[str, Callable[[], object]] = {
        "refund": lambda: shared.refund(decision),
        "settle": lambda: shared.settle(decision, {"a": 0, "b": 0}),
        "pickle": lambda: shared.refund(pickle.loads(pickle.dumps(decision))),
    }
    for _ in range(2):
        in_child(work[how])
        assert left(shared) == [8, 8]
    shared.refund(decision)
    assert left(shared) == [8, 8]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # the suite has threads
def test_what_was_refunded_before_a_fork_is_refused_after_it(shared: Limiter) -> None:
    decision = shared.try_acquire(KEYS, 4)
    shared.refund(decision)

    def refund_again() -> None:
        with pytest.raises(InvalidUse):
            shared.refund(decision)

    in_child(refund_again)


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
def test_after_a_fork_decisions_that_say_the_same_count_for_themselves(is_forked: None, limit: Limit) -> None:
    """The clock stands still, so each of them is told the same."""
    limiter = Limiter(limit, store=MemoryStore(ManualClock()))
    for _ in range(3):
        limiter.refund(limiter.try_acquire("k", 4))
        assert limiter.peek("k").remaining == 10


def test_what_was_decided_long_after_a_fork_is_known_to_be_nobody_elses(
    is_forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = Limiter("10/minute", store=MemoryStore())
    (group,) = refund_groups(limiter.try_acquire("k"))
    assert group.once is not None
    assert _forks.last_us is not None
    monkeypatch.setattr(_forks, "last_us", _forks.last_us - 2 * 3_600_000_000)
    (group,) = refund_groups(limiter.try_acquire("k"))
    assert group.once is None


def claims(decision: Decision) -> bool:
    try:
        decision.claim()
    except InvalidUse:
        return False
    return True


def claim_interrupted(decision: Decision, after: int) -> tuple[int, bool]:
    """Claim a decision, and again in the handler of a signal that comes after so many lines: how many of the two have
    it, and whether the handler was called at all.
    """
    handled: list[bool] = []
    lines = 0

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal lines
        if event == "line" and frame.f_code.co_filename.endswith(("decision.py", "copies.py", "weakref.py")):
            lines += 1
            if lines == after + 1:
                sys.settrace(None)
                handled.append(claims(decision))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        has_claimed = claims(decision)
    finally:
        sys.settrace(before)
    return has_claimed + sum(handled), bool(handled)


def test_a_signal_that_refunds_in_the_middle_of_a_claim_counts_or_is_refused() -> None:
    limiter = Limiter("10/minute", store=MemoryStore(ManualClock()))
    after = 0
    while True:
        claimed, was_handled = claim_interrupted(limiter.try_acquire("k"), after)
        assert claimed == 1
        if not was_handled:
            break
        after += 1
    assert after > 2
