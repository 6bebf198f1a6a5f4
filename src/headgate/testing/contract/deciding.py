"""The promises about tokens that are to be left, and about requests that come again."""

from __future__ import annotations

import pytest

from headgate.clock import ManualClock
from headgate.hits import Group, Once
from headgate.limits import FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.plans.groups import returns_of
from headgate.testing.contract.asking import HOUR, HOUR_US, Ask, Asking, counting_kinds, do, hit, peek, spend


def again(group: Group, mark: str = "request", life_us: int = HOUR_US) -> Group:
    """A group like this that is charged once among all of this mark."""
    return group._replace(once=Once(mark, life_us=life_us))


class Deciding(Asking):
    """The promises about spends that leave something, and that are charged once."""

    # Leaving tokens

    @counting_kinds
    def test_what_is_to_be_left_is_left(self, ask: Ask, limit: Limit) -> None:
        leaving_two = spend(hit(limit)._replace(spare=2))
        first, second = ask(leaving_two, leaving_two)
        assert first.allowed
        assert first.remaining == 2
        assert not second.allowed
        assert second.remaining == 2
        assert ask(spend(hit(limit, cost=2)))[0].allowed

    @counting_kinds
    def test_a_denial_says_when_as_much_would_be_left(self, ask: Ask, limit: Limit, clock: ManualClock) -> None:
        leaving_two = spend(hit(limit)._replace(spare=2))
        denied = ask(leaving_two, leaving_two)[1]
        clock.advance(microseconds=denied.retry_after_us - 1)
        assert not ask(leaving_two)[0]
        clock.advance(microseconds=1)
        assert ask(leaving_two)[0]

    @counting_kinds
    def test_a_peek_sees_what_is_to_be_left(self, ask: Ask, limit: Limit) -> None:
        ask(spend(hit(limit, cost=2)))
        assert ask(peek(hit(limit)))[0].allowed
        denied = ask(peek(hit(limit)._replace(spare=1)))[0]
        assert not denied.allowed
        assert denied.remaining == 1

    def test_a_group_in_which_one_leaves_too_little_spends_nothing(self, ask: Ask) -> None:
        wide, narrow = TokenBucket(9, per=HOUR), FixedWindow(3, per=HOUR)
        hits = hit(wide, name="wide"), hit(narrow, name="narrow", cost=2)._replace(spare=2)
        denied = ask(spend(*hits))[0]
        assert not denied.allowed
        assert denied.binding == "narrow"
        assert ask(peek(hits[0]))[0].remaining == 9
        assert ask(spend(hits[0], hits[1]._replace(spare=1)))[0].allowed
        assert [one.remaining for one in ask(peek(hits[0]), peek(hit(narrow, name="narrow")))] == [8, 1]

    @counting_kinds
    def test_what_was_to_be_left_is_not_given_back(self, ask: Ask, limit: Limit) -> None:
        one = hit(limit)._replace(spare=1)
        decision = ask(spend(one))[0]
        receipt = limit.receipt(decision.facts[0], 1)
        assert ask(do("give_back", one._replace(receipt=receipt)))[0].remaining == 3

    # Requests that come again

    @counting_kinds
    def test_a_request_that_comes_again_is_charged_once(self, ask: Ask, limit: Limit) -> None:
        group = again(spend(hit(limit, cost=2)))
        answers = ask(group, group) + ask(group)
        assert [(one.allowed, one.remaining) for one in answers] == [(True, 1)] * 3
        assert ask(again(spend(hit(limit)), "another"))[0].remaining == 0

    @counting_kinds
    def test_a_request_that_was_charged_is_allowed_though_nothing_is_left(self, ask: Ask, limit: Limit) -> None:
        group = again(spend(hit(limit, cost=2)))
        ask(group, spend(hit(limit)), spend(hit(limit)))
        answers = ask(group, spend(hit(limit)))
        assert [one.allowed for one in answers] == [True, False]

    @counting_kinds
    def test_a_request_that_was_denied_is_judged_anew(self, ask: Ask, limit: Limit) -> None:
        group = again(spend(hit(limit, cost=2)))
        assert not ask(spend(hit(limit, cost=2)), group)[1]
        ask(do("forget", hit(limit)))
        assert [one.remaining for one in ask(group, group)] == [1, 1]

    @counting_kinds
    def test_a_request_counts_for_each_key_and_name(self, ask: Ask, limit: Limit) -> None:
        groups = [again(spend(hit(limit, key, name, 2))) for key in "ab" for name in "cd"]
        assert [one.remaining for one in ask(*groups, *groups)] == [1] * 8

    @counting_kinds
    def test_a_request_is_known_for_its_period_and_no_longer(self, ask: Ask, limit: Limit, clock: ManualClock) -> None:
        group = again(spend(hit(limit)), life_us=10)
        ask(group)
        clock.advance(microseconds=9)
        assert ask(group)[0].remaining == 2
        clock.advance(microseconds=1)
        assert ask(group)[0].remaining == 1

    def test_all_limits_of_a_request_are_charged_once(self, ask: Ask) -> None:
        limits = TokenBucket(9, per=HOUR), FixedWindow(8, per=HOUR), SlidingWindow(7, per=HOUR), SlidingLog(6, per=HOUR)
        hits = [hit(limit, name=f"limit {number}") for number, limit in enumerate(limits)]
        for _ in range(3):
            assert ask(again(spend(*hits)))[0].allowed
        assert [one.remaining for one in ask(*map(peek, hits))] == [8, 7, 6, 5]

    @counting_kinds
    def test_who_was_charged_and_who_was_known_are_told_so(self, ask: Ask, limit: Limit) -> None:
        group = again(spend(hit(limit, cost=2)))
        answers = [*ask(group, group), *ask(group), *ask(spend(hit(limit)))]
        assert [(one.was_known, one.cost) for one in answers] == [(False, 2), (True, 0), (True, 0), (False, 1)]
        denied = ask(again(spend(hit(limit)), "another"))[0]
        assert (denied.allowed, denied.was_known, denied.cost) == (False, False, 1)

    @counting_kinds
    def test_a_request_that_is_undone_is_charged_when_it_comes_again(self, ask: Ask, limit: Limit) -> None:
        group = again(spend(hit(limit, cost=2)))
        (charged,) = ask(group)
        assert ask(*returns_of([charged]))[0].remaining == 3
        assert [(one.was_known, one.remaining) for one in ask(group, group)] == [(False, 1), (True, 1)]
        assert ask(*returns_of([charged]))[0].remaining == 1

    @counting_kinds
    def test_a_request_of_which_a_repeat_was_told_stays_charged(self, ask: Ask, limit: Limit) -> None:
        group = again(spend(hit(limit, cost=2)))
        charged, known = ask(group, group)
        assert returns_of([known]) == []
        assert [one.remaining for one in ask(*returns_of([charged]), group, *returns_of([charged]))] == [1, 1, 1]

    @counting_kinds
    def test_a_request_is_undone_within_its_period_only(self, ask: Ask, limit: Limit, clock: ManualClock) -> None:
        group = again(spend(hit(limit)), life_us=10)
        (first,) = ask(group)
        clock.advance(microseconds=10)
        assert ask(*returns_of([first]))[0].remaining == 2
        (second,) = ask(group)
        assert ask(*returns_of([first]))[0].remaining == 1
        assert ask(*returns_of([second]))[0].remaining == 2

    def test_all_limits_of_a_request_are_undone_together(self, ask: Ask) -> None:
        limits = (
            TokenBucket(9, per=HOUR),
            FixedWindow(8, per="day"),
            SlidingWindow(7, per=HOUR),
            SlidingLog(6, per=HOUR),
        )
        hits = [hit(limit, name=f"limit {number}") for number, limit in enumerate(limits)]
        for _ in range(3):
            (charged,) = ask(again(spend(*hits)))
            (undo,) = returns_of([charged])
            ask(undo, undo)
        assert [one.remaining for one in ask(*map(peek, hits))] == [9, 8, 7, 6]

    @pytest.mark.parametrize("mark", ["a b", "ä:{x}%"])
    def test_marks_are_texts(self, ask: Ask, mark: str) -> None:
        group = again(spend(hit(TokenBucket(9, per=HOUR))), mark)
        assert [one.remaining for one in ask(group, group)] == [8, 8]
