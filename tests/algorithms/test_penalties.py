"""A penalty blocks a key from the denial on that is one too many within its period, for its time, and never else:
compared with a list of all denials, and by clocks that jump.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import Limiter, ManualClock, MemoryStore
from headgate.decision import Decision
from headgate.limits import Penalty, TokenBucket
from tests.algorithms.strategies import START_US, span
from tests.profiles import quickly

PENALTIES = st.builds(
    lambda most, period_us, block_us: Penalty(most, span(period_us), span(block_us)),
    st.integers(1, 5),
    st.sampled_from([1, 2, 7, 1_000, 60_000_000]) | st.integers(1, 100),
    st.sampled_from([1, 2, 7, 1_000, 3_600_000_000]) | st.integers(1, 200),
)


class Move(NamedTuple):
    """How far the clock goes, in parts of the period and of the block and in microseconds; and is it to be denied?"""

    fifths: int
    of_block: int
    more_us: int
    is_denied: bool


def moves(*, may_go_back: bool) -> st.SearchStrategy[list[Move]]:
    back = [-1, -5, -50] if may_go_back else []
    return st.lists(
        st.builds(
            Move,
            st.sampled_from([0, 0, 0, 0, 1, 2, 4, 5, 10, *back]),
            st.sampled_from([0, 0, 0, 0, 1, 4, 5, *back]),
            st.integers(-3, 3) if may_go_back else st.integers(0, 3),
            st.booleans() | st.just(True),
        ),
        min_size=2,
        max_size=60,
    )


class Asked(NamedTuple):
    """When it was asked, how far the clock had gone forward by then, and what was answered."""

    now_us: int
    elapsed_us: int
    is_denied: bool
    decision: Decision

    @property
    def is_blocked(self) -> bool:
        return bool(self.decision.facts[1][0])


def ask(penalty: Penalty, made: list[Move]) -> list[Asked]:
    """Ask for a bucket that holds one token for ever: two tokens are denied, none passes."""
    clock = ManualClock(START_US)
    store = MemoryStore(clock)
    limiter = Limiter({"limit": TokenBucket(1, per=1, burst=2), "penalty": penalty}, store=store, name="n")
    full = Limiter({"limit": TokenBucket(1, per=1, burst=2)}, store=store, name="n")
    keys, elapsed_us = {"limit": "k", "penalty": "k"}, 0
    asked = []
    for fifths, of_block, more_us, is_denied in made:
        move_us = fifths * penalty.period_us // 5 + of_block * penalty.block_us // 5 + more_us
        move_us = max(move_us, START_US // 2 - clock())
        elapsed_us += max(0, move_us)
        clock.advance(microseconds=move_us)
        full.reset({"limit": "k"})
        assert full.try_acquire({"limit": "k"}, 2)
        decision = limiter.try_acquire(keys, {"limit": 2 if is_denied else 0, "penalty": 1})
        asked.append(Asked(clock(), elapsed_us, is_denied, decision))
    return asked


@settings(max_examples=quickly(300))
@given(penalty=PENALTIES, made=moves(may_go_back=False))
def test_it_blocks_exactly_when_a_list_of_all_denials_says_so(penalty: Penalty, made: list[Move]) -> None:
    ends_us = 0
    denials: list[int] = []
    for now_us, _, is_denied, decision in ask(penalty, made):
        if now_us < ends_us:
            assert not decision
            assert decision.facts[1] == (ends_us, 0, 0)
            continue
        assert decision.allowed == (not is_denied)
        if is_denied:
            denials.append(now_us)
        counted = [one for one in denials if one + penalty.period_us > now_us]
        if is_denied and len(counted) >= penalty.denials:
            ends_us, denials = now_us + penalty.block_us, []
            assert (decision.binding, decision.retry_after_us) == (
                ("penalty", penalty.block_us) if penalty.block_us > 2_000_000 else (decision.binding, 2_000_000)
            )
        assert decision.facts[1][0] == (ends_us if now_us < ends_us else 0)


@settings(max_examples=quickly(300))
@given(penalty=PENALTIES, made=moves(may_go_back=True))
def test_a_clock_that_jumps_makes_no_block_shorter_nor_longer_than_from_now(penalty: Penalty, made: list[Move]) -> None:
    began_us: int | None = None
    for one in ask(penalty, made):
        ends_us = one.decision.facts[1][0]
        assert ends_us <= one.now_us + penalty.block_us
        if began_us is not None and one.elapsed_us < began_us + penalty.block_us:
            assert ends_us > one.now_us
            assert not one.decision
            continue
        if ends_us == 0:
            began_us = None
        elif began_us is None:
            began_us = one.elapsed_us


@settings(max_examples=quickly(300))
@given(penalty=PENALTIES, made=moves(may_go_back=True))
def test_so_many_denials_within_the_period_block_however_the_clock_jumps(penalty: Penalty, made: list[Move]) -> None:
    since_us: list[int] = []
    for one in ask(penalty, made):
        if one.is_blocked:
            since_us = []
        elif one.is_denied:
            since_us.append(one.elapsed_us)
            assert sum(at_us > one.elapsed_us - penalty.period_us for at_us in since_us) < penalty.denials
