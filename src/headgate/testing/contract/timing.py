"""The promises about time: when things come back, who waits, slots that expire, and several who ask at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from headgate.clock import ManualClock
from headgate.decision import Decision
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.stores import Store
from headgate.testing.contract.asking import (
    HOUR,
    HOUR_US,
    LIMITS,
    Ask,
    Asking,
    all_kinds,
    counting_kinds,
    do,
    give_back,
    hit,
    kinds_with_instants,
    peek,
    spend,
)


class Timing(Asking):
    """The promises about when something is admitted."""

    # Time

    def test_a_decision_tells_when_it_was_made(self, ask: Ask, clock: ManualClock) -> None:
        clock.advance(seconds=12.345678)
        assert [decision.now_us for decision in ask(*[spend(hit(limit)) for limit in LIMITS.values()])] == [clock()] * 6

    @all_kinds
    @pytest.mark.parametrize("cost", [1, 2, 3])
    def test_it_admits_at_the_instant_it_names_and_not_a_microsecond_earlier(
        self, ask: Ask, clock: ManualClock, limit: Limit, cost: int
    ) -> None:
        for number in range(3):
            clock.advance(microseconds=7_654_321)
            assert ask(spend(hit(limit, holder=f"{number}")))[0]
        one = hit(limit, cost=cost, holder="later")
        denied = ask(spend(one))[0]
        assert not denied
        assert 0 < denied.retry_after_us <= 86_400_000_000
        clock.set(denied.now_us + denied.retry_after_us - 1)
        almost = ask(spend(one))[0]
        assert not almost
        assert almost.retry_after_us == 1
        clock.advance(microseconds=1)
        assert ask(spend(one))[0]

    @all_kinds
    def test_everything_is_there_again_when_it_says_so_and_not_a_microsecond_earlier(
        self, ask: Ask, clock: ManualClock, limit: Limit
    ) -> None:
        clock.advance(microseconds=7_654_321)
        decision = ask(spend(hit(limit)))[0]
        clock.set(decision.now_us + decision.reset_after_us - 1)
        assert ask(peek(hit(limit, holder="b")))[0].reset_after_us == 1
        assert not ask(peek(hit(limit, cost=3, holder="b")))[0]
        clock.advance(microseconds=1)
        decision = ask(peek(hit(limit, cost=3, holder="b")))[0]
        assert decision.allowed
        assert decision.remaining == 3
        assert decision.reset_after_us == 0

    @all_kinds
    def test_a_clock_that_steps_back_admits_nothing_more(self, ask: Ask, clock: ManualClock, limit: Limit) -> None:
        ask(spend(hit(limit, cost=3)))
        for _ in range(4):
            clock.advance(seconds=-HOUR)
            assert not ask(spend(hit(limit, holder="b")))[0]

    @kinds_with_instants
    def test_a_clock_that_steps_back_makes_nobody_wait_for_longer_than_the_limit_spans(
        self, ask: Ask, clock: ManualClock, limit: Limit
    ) -> None:
        own_ttl = f"c0ffee.{limit.period_us}"
        ask(spend(hit(limit, cost=3, holder=own_ttl)))
        clock.advance(seconds=-1_000 * HOUR)
        waited_us = 0
        while not (decision := ask(spend(hit(limit, holder=own_ttl)))[0]):
            waited_us += decision.retry_after_us
            clock.advance(microseconds=decision.retry_after_us)
        assert waited_us <= limit.period_us * (2 if isinstance(limit, SlidingWindow) else 1)

    @counting_kinds
    def test_what_was_spent_is_still_spent_when_a_clock_steps_back_a_little_and_comes_forward_again(
        self, ask: Ask, clock: ManualClock, limit: Limit
    ) -> None:
        clock.advance(seconds=60)
        ask(spend(hit(limit, cost=2)))
        began_us = clock()
        clock.advance(seconds=-1)
        meanwhile = int(ask(spend(hit(limit)))[0].allowed)
        clock.set(began_us)
        assert ask(peek(hit(limit)))[0].remaining == 1 - meanwhile

    def test_a_group_is_admitted_at_the_instant_it_names(self, ask: Ask, clock: ManualClock) -> None:
        hits = [hit(limit, name=name) for name, limit in LIMITS.items()]
        for number, one in enumerate(hits):
            clock.advance(microseconds=1_234_567)
            ask(spend(one._replace(cost=3)), spend(hit(TokenBucket(1, per=HOUR), name=f"{number}")))
        group = spend(*[one._replace(holder="b") for one in hits], hit(TokenBucket(1, per=HOUR), name="3"))
        denied = ask(group)[0]
        clock.set(denied.now_us + denied.retry_after_us - 1)
        assert not ask(group)[0]
        clock.advance(microseconds=1)
        assert ask(group)[0]

    def test_a_calendar_window_ends_at_midnight_where_it_says(self, ask: Ask, clock: ManualClock) -> None:
        clock.set(1_774_738_800_000_000)  # 2026-03-29 00:00 in Berlin: a day of 23 hours
        one = spend(hit(FixedWindow(1, per="day", tz="Europe/Berlin")))
        assert ask(one)[0]
        assert ask(one)[0].retry_after_us == 23 * HOUR_US
        clock.advance(microseconds=23 * HOUR_US - 1)
        assert not ask(one)[0]
        clock.advance(microseconds=1)
        assert ask(one)[0]

    def test_a_jump_over_many_calendar_windows_is_followed(self, ask: Ask, clock: ManualClock) -> None:
        one = spend(hit(FixedWindow(1, per="month", tz="Asia/Kolkata")))
        for _ in range(3):
            assert [bool(decision) for decision in ask(one, one)] == [True, False]
            clock.advance(seconds=400 * 86_400)

    # Waiting

    def test_a_token_bucket_admits_into_the_future_in_order(self, ask: Ask, clock: ManualClock) -> None:
        one = spend(hit(TokenBucket(2, per=HOUR)), max_wait_us=10 * HOUR_US)
        waits_us = [ask(one)[0].wait_us for _ in range(6)]
        assert waits_us == [0, 0, HOUR_US // 2, HOUR_US, 3 * HOUR_US // 2, 2 * HOUR_US]
        clock.advance(seconds=HOUR)
        assert ask(one)[0].wait_us == 3 * HOUR_US // 2

    def test_nobody_waits_longer_than_it_can(self, ask: Ask, clock: ManualClock) -> None:
        limit = TokenBucket(1, per=HOUR)
        ask(spend(hit(limit)))
        denied = ask(spend(hit(limit), max_wait_us=HOUR_US - 1))[0]
        assert not denied
        assert denied.retry_after_us == HOUR_US
        admitted = ask(spend(hit(limit), max_wait_us=HOUR_US))[0]
        assert admitted
        assert admitted.wait_us == HOUR_US
        assert not ask(spend(hit(limit), max_wait_us=HOUR_US))[0]

    def test_a_place_that_is_given_back_goes_to_the_next_who_asks(self, ask: Ask, clock: ManualClock) -> None:
        one = spend(hit(TokenBucket(1, per=HOUR)), max_wait_us=10 * HOUR_US)
        decisions = ask(one, one, one, one)
        assert [decision.wait_us for decision in decisions] == [0, HOUR_US, 2 * HOUR_US, 3 * HOUR_US]
        ask(give_back(decisions[2]))
        clock.advance(seconds=60)
        assert ask(one)[0].wait_us == 2 * HOUR_US - 60_000_000
        assert ask(one)[0].wait_us == 4 * HOUR_US - 60_000_000

    def test_the_last_place_that_is_given_back_shortens_the_queue(self, ask: Ask, clock: ManualClock) -> None:
        one = spend(hit(TokenBucket(1, per=HOUR)), max_wait_us=10 * HOUR_US)
        decisions = ask(one, one, one)
        ask(give_back(decisions[2]))
        assert ask(one)[0].wait_us == 2 * HOUR_US
        ask(give_back(decisions[1]))
        assert ask(one)[0].wait_us == HOUR_US

    @all_kinds
    def test_who_may_go_at_once_does_not_wait(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=2), max_wait_us=100 * HOUR_US))[0]
        assert decision.allowed
        assert decision.wait_us == 0

    @pytest.mark.parametrize("kind", [kind for kind in LIMITS if kind != "token-bucket"])
    def test_windows_and_slots_are_not_reserved(self, ask: Ask, kind: str) -> None:
        limit = LIMITS[kind]
        ask(spend(hit(limit, cost=3)))
        denied = ask(spend(hit(limit, holder="b"), max_wait_us=100 * HOUR_US))[0]
        assert not denied
        assert denied.retry_after_us > 0

    # Slots

    def test_a_slot_lasts_until_it_expires(self, ask: Ask, clock: ManualClock) -> None:
        limit = Concurrency(1, ttl=HOUR)
        ask(spend(hit(limit, holder="a")))
        clock.advance(microseconds=HOUR_US - 1)
        assert not ask(spend(hit(limit, holder="b")))[0]
        clock.advance(microseconds=1)
        assert ask(spend(hit(limit, holder="b")))[0]

    def test_a_renewal_puts_off_the_expiry(self, ask: Ask, clock: ManualClock) -> None:
        limit = Concurrency(2, ttl=HOUR)
        ask(spend(hit(limit, cost=2, holder="a")))
        clock.advance(microseconds=HOUR_US - 1)
        assert ask(do("renew", hit(limit, cost=2, holder="a")))[0]
        clock.advance(microseconds=HOUR_US - 1)
        assert not ask(spend(hit(limit, holder="b")))[0]
        clock.advance(microseconds=1)
        assert ask(spend(hit(limit, cost=2, holder="b")))[0]

    def test_a_slot_that_was_lost_is_not_renewed(self, ask: Ask, clock: ManualClock) -> None:
        limit = Concurrency(1, ttl=HOUR)
        ask(spend(hit(limit, holder="a")))
        clock.advance(seconds=HOUR)
        assert ask(spend(hit(limit, holder="b")))[0]
        assert not ask(do("renew", hit(limit, holder="a")))[0]
        assert ask(do("renew", hit(limit, holder="b")))[0]
        assert not ask(spend(hit(limit, holder="c")))[0]

    def test_a_release_frees_only_the_slots_of_its_holder(self, ask: Ask) -> None:
        limit = Concurrency(3, ttl=HOUR)
        first, _ = ask(spend(hit(limit, cost=2, holder="a")), spend(hit(limit, holder="b")))
        assert ask(give_back(first))[0].remaining == 2
        assert ask(give_back(first))[0].remaining == 2
        assert ask(do("renew", hit(limit, holder="b")))[0]

    # Several at once

    def test_threads_together_get_exactly_what_the_limit_says(self, store: Store) -> None:
        groups = [spend(hit(TokenBucket(50, per=86_400)), hit(SlidingLog(70, per=86_400), name="log"))]
        with ThreadPoolExecutor(8) as threads:
            decisions = list(threads.map(lambda _: store.decide(groups)[0], range(100)))
        assert sum(map(bool, decisions)) == 50
        assert store.decide([peek(hit(SlidingLog(70, per=86_400), name="log"))])[0].remaining == 20

    def test_tasks_together_get_exactly_what_the_limit_says(self, store: Store) -> None:
        groups = [spend(hit(TokenBucket(50, per=86_400)), hit(SlidingLog(70, per=86_400), name="log"))]

        async def ask_all() -> list[list[Decision]]:
            answers = await asyncio.gather(*[store.decide_async(groups) for _ in range(100)])
            left = await store.decide_async([peek(hit(SlidingLog(70, per=86_400), name="log"))])
            await store.aclose()
            return [*answers, left]

        *answers, left = asyncio.run(ask_all())
        assert sum(bool(decisions[0]) for decisions in answers) == 50
        assert left[0].remaining == 20
