"""Judging by what is kept as text: it decides as a store that holds the states, and says all that is to be kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import Concurrency, Limit, Penalty, SlidingLog, TokenBucket
from headgate.decision import Decision
from headgate.hits import Action, Group, Hit, Once
from headgate.stores import Write, judge_group
from tests.algorithms.playing import play
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import KINDS, Lane, Step, lanes, steps
from tests.profiles import quickly

NOW_US = 1_800_000_000_000_000


class Texts:
    """What a store keeps."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], tuple[str, int]] = {}

    def decide(self, group: Group, now_us: int) -> tuple[Decision, list[Write]]:
        decision, writes = judge_group(group, now_us, lambda *where: self.kept.get(where))
        for name, code, key, text, until_us in writes:
            if text is None:
                self.kept.pop((name, code, key), None)
            else:
                self.kept[name, code, key] = text, until_us
        for where, (_, until_us) in list(self.kept.items()):
            if until_us <= now_us:
                del self.kept[where]
        return decision, writes


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[Lane], list[Step]]:
    among = draw(lanes(kinds=list(KINDS), most_limits=1))
    usual: tuple[Action, ...] = ("spend", "spend", "spend", "peek", "give_back", "take", "renew", "forget")
    return among, draw(steps(among, actions=usual, may_go_back=False))


@settings(max_examples=quickly(150))
@given(schedule=schedules())
def test_it_decides_as_a_store_that_holds_the_states(schedule: tuple[list[Lane], list[Step]]) -> None:
    texts = Texts()
    for group, now_us, expected in play(*schedule, Reference(), repeats=True):
        decision, _ = texts.decide(group, now_us)
        assert (decision.allowed, decision.facts, decision.now_us) == (expected.allowed, expected.facts, now_us)


@pytest.mark.parametrize("limit", [TokenBucket(3, per=60), SlidingLog(3, per=60), Concurrency(3, ttl=60)], ids=str)
def test_what_is_denied_or_only_asked_for_writes_nothing(limit: Limit) -> None:
    texts = Texts()
    hit = Hit(limit, "k", "n", 3, "holder")
    _, writes = texts.decide(Group((hit,)), NOW_US)
    assert [write[:3] for write in writes] == [("n", limit.code, "k")]
    assert texts.decide(Group((hit._replace(holder="another"),)), NOW_US)[1] == []
    assert texts.decide(Group((hit,), 0, "peek"), NOW_US)[1] == []


def test_slots_that_expire_too_late_since_the_clock_stepped_back_are_put_right_in_what_is_kept() -> None:
    texts = Texts()
    hit = Hit(Concurrency(1, ttl=60), "k", "n", 1, "c0ffee.60000000")
    texts.decide(Group((hit,)), NOW_US)
    earlier_us = NOW_US - 3_600_000_000
    decision, writes = texts.decide(Group((hit._replace(holder="abc.60000000"),)), earlier_us)
    assert not decision
    assert [write.until_us for write in writes] == [earlier_us + 60_000_000]


def test_a_mark_is_kept_beside_the_state_until_nobody_comes_any_more() -> None:
    texts = Texts()
    hit = Hit(TokenBucket(3, per=60), "k", "n", 2)
    charge = Group((hit,), 0, "take", Once("mark", NOW_US + 5))
    _, writes = texts.decide(charge, NOW_US)
    assert [(write.key, write.until_us) for write in writes] == [("k", NOW_US + 40_000_000), ("k\0mark", NOW_US + 5)]
    decision, writes = texts.decide(charge, NOW_US + 4)
    assert decision.allowed
    assert writes == []


def test_a_penalty_that_is_as_it_was_is_not_written() -> None:
    kept: dict[tuple[str, str, str], tuple[str, int]] = {}

    def judge(cost: int) -> list[tuple[str, str | None]]:
        hits = (Hit(TokenBucket(3, per=60), "k", "limit", cost), Hit(Penalty(2, per=60, block=60), "k", "penalty"))
        _, writes = judge_group(Group(hits), NOW_US, lambda *address: kept.get(address))
        for name, code, key, text, until_us in writes:
            assert text is not None
            kept[name, code, key] = text, until_us
        return [(write.code, write.text) for write in writes]

    assert [code for code, _ in judge(1)] == ["tb"]
    assert judge(3) == [("pn", f"1 0 {NOW_US}")]
    assert [code for code, _ in judge(1)] == ["tb"]
    assert judge(2) == [("pn", f"1 {NOW_US + 60_000_000}")]
    assert judge(2) == judge(1) == []
