"""The promises about giving back, charging, forgetting, and of limits that change."""

from __future__ import annotations

import pytest

from headgate.clock import ManualClock
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.testing.contract.asking import (
    HOUR,
    HOUR_US,
    Ask,
    Asking,
    all_kinds,
    counting_kinds,
    do,
    give_back,
    hit,
    once,
    peek,
    spend,
)


class Returning(Asking):
    """The promises about what is given back, charged and forgotten."""

    # Giving back, charging, forgetting

    @all_kinds
    def test_what_is_given_back_can_be_spent_again(self, ask: Ask, limit: Limit) -> None:
        first = ask(spend(hit(limit, cost=2, holder="a")))[0]
        second = ask(spend(hit(limit, cost=1, holder="b")))[0]
        assert ask(give_back(first))[0].remaining == 2
        assert ask(give_back(second))[0].remaining == 3
        assert ask(spend(hit(limit, cost=3, holder="c")))[0]

    @all_kinds
    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["first-come", "last-come"])
    def test_all_that_was_spent_can_be_given_back(self, ask: Ask, limit: Limit, order: tuple[int, ...]) -> None:
        for _ in range(3):
            decisions = ask(*[spend(hit(limit, holder=f"{number}")) for number in range(3)])
            assert all(decisions)
            left = [ask(give_back(decisions[number]))[0].remaining for number in order]
            assert left == [1, 2, 3]

    @counting_kinds
    def test_a_part_can_be_given_back(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=3)))[0]
        assert ask(give_back(decision, cost=1))[0].remaining == 1
        assert ask(spend(hit(limit)))[0]
        assert not ask(spend(hit(limit)))[0]

    @all_kinds
    def test_giving_back_never_leaves_more_than_the_limit(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=2)))[0]
        ask(do("forget", hit(limit)))
        assert ask(give_back(decision))[0].remaining == 3
        assert not ask(spend(hit(limit, cost=3, holder="b")), spend(hit(limit, holder="c")))[1]

    @counting_kinds
    def test_a_charge_is_made_whatever_the_limit_says(self, ask: Ask, limit: Limit) -> None:
        assert ask(do("take", hit(limit, cost=2)))[0].remaining == 1
        assert ask(do("take", hit(limit, cost=2)))[0].remaining == 0
        assert not ask(spend(hit(limit)))[0]

    @counting_kinds
    def test_a_charge_far_above_the_limit_is_remembered(self, ask: Ask, limit: Limit, clock: ManualClock) -> None:
        ask(do("take", hit(limit, cost=300)))
        clock.advance(seconds=HOUR - 1)
        assert not ask(spend(hit(limit)))[0]

    # Once

    @all_kinds
    def test_what_counts_once_is_given_back_once(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=1, holder="a")))[0]
        group = once(give_back(decision), "mark", decision.now_us + HOUR_US)
        assert ask(group)[0].allowed
        ask(spend(hit(limit, cost=2, holder="b")))
        again, and_again = ask(group, group)
        assert again.allowed
        assert and_again.allowed
        assert again.remaining == and_again.remaining == 1
        assert ask(peek(hit(limit, holder="c")))[0].remaining == 1

    @counting_kinds
    def test_what_counts_once_is_charged_once(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=1)))[0]
        group = once(do("take", hit(limit, cost=1)), "mark", decision.now_us + HOUR_US)
        assert [one.remaining for one in ask(group, group)] == [1, 1]
        assert ask(once(give_back(decision), "mark", decision.now_us + HOUR_US))[0].remaining == 1

    @counting_kinds
    def test_each_decision_counts_for_itself(self, ask: Ask, limit: Limit) -> None:
        first, second = ask(spend(hit(limit, cost=1)), spend(hit(limit, cost=2)))
        until_us = first.now_us + HOUR_US
        left = ask(once(give_back(first), "first", until_us), once(give_back(second), "second", until_us))
        assert [one.remaining for one in left] == [1, 3]

    @counting_kinds
    def test_keys_and_names_count_for_themselves(self, ask: Ask, limit: Limit) -> None:
        decisions = ask(*[spend(hit(limit, key, name, 2)) for key in "ab" for name in "cd"])
        until_us = decisions[0].now_us + HOUR_US
        assert [one.remaining for one in ask(*[once(give_back(one), "mark", until_us) for one in decisions])] == [3] * 4

    @counting_kinds
    def test_what_counts_once_does_nothing_when_it_is_too_late_to_know(
        self, ask: Ask, clock: ManualClock, limit: Limit
    ) -> None:
        decision = ask(spend(hit(limit, cost=2)))[0]
        clock.advance(microseconds=10)
        group = once(give_back(decision), "mark", decision.now_us + 10)
        assert ask(group)[0].remaining == 1
        assert ask(group._replace(once=None))[0].remaining == 3

    @all_kinds
    def test_what_is_forgotten_starts_afresh(self, ask: Ask, limit: Limit) -> None:
        ask(spend(hit(limit, cost=3)), spend(hit(limit, key="other", cost=3)))
        decision = ask(do("forget", hit(limit, holder="b")))[0]
        assert decision.allowed
        assert decision.remaining == 3
        assert ask(spend(hit(limit, cost=3, holder="b")))[0]
        assert not ask(peek(hit(limit, key="other", holder="b")))[0]

    @all_kinds
    def test_what_was_never_there_can_be_forgotten(self, ask: Ask, limit: Limit) -> None:
        assert ask(do("forget", hit(limit)))[0].remaining == 3

    # Changed limits

    @all_kinds
    def test_another_limit_of_the_same_name_keeps_what_is_owed(self, ask: Ask, limit: Limit) -> None:
        ask(spend(hit(limit, cost=3)))
        assert ask(peek(hit(self._of_capacity(6, limit), holder="b")))[0].remaining == 3
        assert not ask(spend(hit(limit, holder="b")))[0]
        assert not ask(spend(hit(self._of_capacity(2, limit), holder="b")))[0]

    @staticmethod
    def _of_capacity(capacity: int, limit: Limit) -> Limit:
        if isinstance(limit, TokenBucket):
            return TokenBucket(3, per=HOUR, burst=capacity)
        if isinstance(limit, FixedWindow):
            return FixedWindow(capacity, per=limit.unit or HOUR, tz=limit.tz)
        if isinstance(limit, SlidingWindow):
            return SlidingWindow(capacity, per=HOUR)
        if isinstance(limit, SlidingLog):
            return SlidingLog(capacity, per=HOUR)
        return Concurrency(capacity, ttl=HOUR)

    def test_the_debt_of_a_token_bucket_is_time_whatever_the_rate(self, ask: Ask, clock: ManualClock) -> None:
        ask(spend(hit(TokenBucket(3, per=HOUR), cost=3)))
        faster = hit(TokenBucket(7, per=HOUR), cost=7)
        assert ask(spend(faster))[0].retry_after_us == HOUR_US
        clock.advance(microseconds=HOUR_US - 1)
        assert not ask(spend(faster))[0]
        clock.advance(microseconds=1)
        assert ask(spend(faster))[0]
