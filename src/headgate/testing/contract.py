"""What every store promises, as a test class. A store's author subclasses it in a few lines of pytest::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock):
            return MyStore(clock=clock)

All promises are then tested through `decide` and through `decide_async`. Limits here last an hour, so that a server
that forgets by a clock of its own is not asked about debts that it was right to forget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Final

import pytest

from headgate.clock import ManualClock
from headgate.decision import Decision
from headgate.hits import Action, Group, Hit, Once
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.stores import Store

Ask = Callable[..., list[Decision]]
"""Puts groups to the store, in one batch."""

HOUR: Final = 3_600
HOUR_US: Final = 3_600_000_000

_LIMITS: Final = {
    "token-bucket": TokenBucket(3, per=HOUR),
    "fixed-window": FixedWindow(3, per=HOUR),
    "calendar-window": FixedWindow(3, per="day", tz="Europe/Berlin"),
    "sliding-window": SlidingWindow(3, per=HOUR),
    "sliding-log": SlidingLog(3, per=HOUR),
    "concurrency": Concurrency(3, ttl=HOUR),
}
"""Three tokens of each kind."""

_COUNTING: Final = {name: limit for name, limit in _LIMITS.items() if not isinstance(limit, Concurrency)}
_SPANNING: Final = {name: limit for name, limit in _LIMITS.items() if not isinstance(limit, TokenBucket)}

_all_kinds = pytest.mark.parametrize("limit", _LIMITS.values(), ids=_LIMITS)
_kinds_with_instants = pytest.mark.parametrize("limit", _SPANNING.values(), ids=_SPANNING)
_counting_kinds = pytest.mark.parametrize("limit", _COUNTING.values(), ids=_COUNTING)

_CONFUSABLE: Final = [
    (("a/b", "c"), ("a", "b/c")),
    (("a:b", "c"), ("a", "b:c")),
    (("a", "b"), ("b", "a")),
    (("a}", "b"), ("a", "}b")),
    (("a}:b", "c"), ("a", "b}:c")),
    (("{a}", "b"), ("a", "b")),
    (("a%7D", "b"), ("a}", "b")),
    (("a%", "b"), ("a%25", "b")),
    (("a", "b:tb"), ("a:tb", "b")),
    (("a b", "c"), ("a", "b c")),
    (("A", "n"), ("a", "n")),
    (("é", "n"), ("e\N{COMBINING ACUTE ACCENT}", "n")),
]
_UNUSUAL: Final = [
    "user:42",
    "{user}",
    "}{",
    "100%",
    "%7B",
    "two words",
    "line\r\nbreak\tand tab",
    "\"quoted\" 'twice'",
    "\\",
    "*",
    "naïve",
    "北京",
    "\N{PARTY POPPER}",
    "k" * 1024,
    "é" * 512,
]


def _shorten(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 30 else f"{text[:20]}..."


def hit(limit: Limit, key: str = "key", name: str = "name", cost: int = 1, holder: str = "holder") -> Hit:
    """One hit."""
    return Hit(limit, key, name, cost, holder)


def spend(*hits: Hit, max_wait_us: int = 0) -> Group:
    """A group that spends."""
    return Group(hits, max_wait_us)


def peek(*hits: Hit) -> Group:
    """A group that only asks."""
    return Group(hits, 0, "peek")


def do(action: Action, one: Hit) -> Group:
    """A group of the other kinds."""
    return Group((one,), 0, action)


def give_back(decision: Decision, cost: int | None = None) -> Group:
    """What returns the cost of a decision's only hit, or a part of it."""
    (one,), (facts,) = decision.group.hits, decision.facts
    receipt = one.limit.receipt(facts, one.cost)
    return do("give_back", one._replace(cost=one.cost if cost is None else cost, receipt=receipt))


def once(group: Group, mark: str, until_us: int) -> Group:
    """The same, so that it counts once."""
    return group._replace(once=Once(mark, until_us))


class StoreContract:
    """The promises of a store. A subclass, whose name pytest collects, provides the fixture `store`.

    The store must use the fixture `clock`. Where it cannot, set `clock_can_be_set` to False: the tests that move the
    clock are then skipped.
    """

    clock_can_be_set: ClassVar[bool] = True

    @pytest.fixture
    def store(self) -> Store:
        """The store under test, with nothing in it."""
        raise NotImplementedError("a subclass of StoreContract has a fixture named 'store'")

    @pytest.fixture
    def clock(self) -> ManualClock:
        """What the store decides by."""
        if not self.clock_can_be_set:
            pytest.skip("the clock of this store cannot be set")
        return ManualClock()

    @pytest.fixture(params=["blocking", "awaited"])
    def ask(self, request: pytest.FixtureRequest, store: Store) -> Iterator[Ask]:
        """Asks the store, in each of the two ways."""
        if request.param == "blocking":
            yield lambda *groups: store.decide(groups)
            return
        with asyncio.Runner() as runner:
            yield lambda *groups: runner.run(store.decide_async(groups))
            runner.run(store.aclose())

    # What a store is

    def test_it_is_a_store_with_a_deadline(self, store: Store) -> None:
        assert isinstance(store, Store)
        assert store.timeout > 0

    def test_closing_twice_is_closing(self, store: Store) -> None:
        store.close()
        store.close()

    # Batches

    def test_an_empty_batch_has_no_answers(self, ask: Ask) -> None:
        assert ask() == []

    def test_answers_come_in_the_order_of_the_groups(self, ask: Ask) -> None:
        limit = TokenBucket(3, per=HOUR)
        groups = [spend(hit(limit, key=f"key {number}", cost=number % 4)) for number in range(12)]
        decisions = ask(*groups)
        assert [decision.group for decision in decisions] == groups
        assert [decision.remaining for decision in decisions] == [3 - number % 4 for number in range(12)]

    def test_a_group_sees_what_the_groups_before_it_spent(self, ask: Ask) -> None:
        one = spend(hit(TokenBucket(2, per=HOUR)))
        assert [bool(decision) for decision in ask(one, one, one)] == [True, True, False]

    def test_a_denied_group_does_not_stop_the_batch(self, ask: Ask) -> None:
        limit = SlidingWindow(1, per=HOUR)
        groups = [spend(hit(limit, key=key)) for key in ("a", "a", "b", "a", "c")]
        assert [bool(decision) for decision in ask(*groups)] == [True, False, True, False, True]

    def test_actions_can_be_mixed_in_a_batch(self, ask: Ask) -> None:
        one = hit(FixedWindow(2, per=HOUR), cost=2)
        first = ask(spend(one))[0]
        decisions = ask(
            peek(one), give_back(first), spend(one), do("forget", one), peek(one), do("take", one), peek(one)
        )
        assert [bool(decision) for decision in decisions] == [False, True, True, True, True, True, False]

    def test_a_large_batch_is_judged_whole(self, ask: Ask) -> None:
        limits = (*_LIMITS.values(), TokenBucket(400, per=HOUR))
        groups = [
            spend(*[hit(limit, key=f"{number % 100}", name=f"{limit}", holder=f"{number}") for limit in limits])
            for number in range(400)
        ]
        decisions = ask(*groups)
        assert [bool(decision) for decision in decisions] == [True] * 300 + [False] * 100

    # Admitting and denying

    @_all_kinds
    def test_it_admits_as_much_as_the_limit_says_and_no_more(self, ask: Ask, limit: Limit) -> None:
        hits = [hit(limit, holder=f"holder {number}") for number in range(5)]
        decisions = [ask(spend(one))[0] for one in hits]
        assert [bool(decision) for decision in decisions] == [True, True, True, False, False]
        assert [decision.remaining for decision in decisions] == [2, 1, 0, 0, 0]

    @_all_kinds
    def test_a_cost_is_spent_whole_or_not_at_all(self, ask: Ask, limit: Limit) -> None:
        assert ask(spend(hit(limit, cost=2, holder="a")))[0]
        assert not ask(spend(hit(limit, cost=2, holder="b")))[0]
        assert ask(spend(hit(limit, cost=1, holder="c")))[0]

    @_all_kinds
    def test_a_denial_spends_nothing(self, ask: Ask, limit: Limit) -> None:
        ask(spend(hit(limit, cost=2, holder="a")))
        for _ in range(5):
            assert not ask(spend(hit(limit, cost=2, holder="b")))[0]
        assert ask(peek(hit(limit, holder="b")))[0].remaining == 1

    @_all_kinds
    def test_a_peek_spends_nothing(self, ask: Ask, limit: Limit) -> None:
        for _ in range(5):
            decision = ask(peek(hit(limit, cost=3)))[0]
            assert decision.allowed
            assert decision.remaining == 3
        assert ask(spend(hit(limit, cost=3)))[0]
        assert not ask(peek(hit(limit, cost=1, holder="b")))[0]

    @_all_kinds
    def test_a_cost_of_nothing_always_passes_and_spends_nothing(self, ask: Ask, limit: Limit) -> None:
        assert ask(spend(hit(limit, cost=0)))[0].remaining == 3
        assert ask(spend(hit(limit, cost=3)))[0]
        decision = ask(spend(hit(limit, cost=0, holder="b")))[0]
        assert decision.allowed
        assert decision.remaining == 0

    @_all_kinds
    def test_both_ways_of_asking_see_the_same_state(self, store: Store, limit: Limit) -> None:
        first = hit(limit, cost=2, holder="a")

        async def ask_and_close() -> list[Decision]:
            decisions = await store.decide_async([peek(first), spend(hit(limit, holder="b")), peek(first)])
            spent.extend(store.decide([peek(first)]))
            await store.aclose()
            return decisions

        spent = store.decide([spend(first)])
        awaited = asyncio.run(ask_and_close())
        assert [decision.remaining for decision in (spent[0], *awaited, spent[1])] == [1, 1, 0, 0, 0]

    def test_large_numbers_are_counted_exactly(self, ask: Ask) -> None:
        most = 2**50 + 1
        limit = TokenBucket(most, per=HOUR)
        assert ask(spend(hit(limit, cost=most - 1)))[0].remaining == 1
        window = FixedWindow(2**51 - 1, per=HOUR)
        assert ask(spend(hit(window, cost=2**51 - 3)))[0].remaining == 2
        assert not ask(spend(hit(window, cost=3)))[0]
        assert ask(spend(hit(window, cost=2)))[0].remaining == 0

    # Groups

    def test_an_admitted_group_spends_in_all_its_limits(self, ask: Ask) -> None:
        hits = [hit(limit, name=name) for name, limit in _LIMITS.items()]
        assert ask(spend(*hits))[0]
        for one in hits:
            assert ask(peek(one))[0].remaining == 2

    @_all_kinds
    def test_a_denied_group_spends_nothing_anywhere(self, ask: Ask, limit: Limit) -> None:
        assert ask(spend(hit(limit, name="full", cost=3)))[0]
        others = [hit(other, name=name, holder="b") for name, other in _LIMITS.items()]
        full = hit(limit, name="full", holder="b")
        for place in range(len(others) + 1):
            decision = ask(spend(*others[:place], full, *others[place:]))[0]
            assert not decision
            assert decision.binding == "full"
        for one in others:
            assert ask(peek(one))[0].remaining == 3

    def test_a_group_may_ask_for_several_keys(self, ask: Ask) -> None:
        limit = TokenBucket(2, per=HOUR)
        pair = spend(hit(limit, key="ann"), hit(limit, key="bob"))
        assert ask(spend(hit(limit, key="bob")))[0]
        assert [bool(decision) for decision in ask(pair, pair)] == [True, False]
        assert [ask(peek(hit(limit, key=key)))[0].remaining for key in ("ann", "bob")] == [1, 0]

    def test_a_group_may_spend_different_costs(self, ask: Ask) -> None:
        limit = SlidingLog(10, per=HOUR)
        assert ask(spend(hit(limit, name="a", cost=3), hit(limit, name="b", cost=0), hit(limit, name="c", cost=10)))[0]
        assert [ask(peek(hit(limit, name=name, cost=0)))[0].remaining for name in "abc"] == [7, 10, 0]

    # Keys

    @pytest.mark.parametrize("pair", _CONFUSABLE, ids=_shorten)
    def test_two_different_pairs_of_key_and_name_never_share_a_counter(
        self, ask: Ask, pair: tuple[tuple[str, str], tuple[str, str]]
    ) -> None:
        (key, name), (other_key, other_name) = pair
        limit = TokenBucket(3, per=HOUR)
        assert ask(spend(hit(limit, key=key, name=name, cost=3)))[0]
        assert ask(peek(hit(limit, key=other_key, name=other_name)))[0].remaining == 3

    @pytest.mark.parametrize("key", _UNUSUAL, ids=_shorten)
    def test_unusual_keys_and_names_have_counters_of_their_own(self, ask: Ask, key: str) -> None:
        limit = TokenBucket(3, per=HOUR)
        assert ask(spend(hit(limit, key=key, cost=3)))[0]
        assert not ask(spend(hit(limit, key=key)))[0]
        assert ask(spend(hit(limit, name=key, cost=3)))[0]
        assert not ask(spend(hit(limit, name=key)))[0]
        assert ask(peek(hit(limit)))[0].remaining == 3

    def test_algorithms_on_one_key_and_name_do_not_meet(self, ask: Ask) -> None:
        limits = [limit for name, limit in _LIMITS.items() if name != "calendar-window"]
        for number, limit in enumerate(limits):
            assert ask(spend(hit(limit, cost=3)))[0]
            for later in limits[number + 1 :]:
                assert ask(peek(hit(later)))[0].remaining == 3
        for limit in limits:
            assert not ask(peek(hit(limit, holder="b")))[0]

    # Giving back, charging, forgetting

    @_all_kinds
    def test_what_is_given_back_can_be_spent_again(self, ask: Ask, limit: Limit) -> None:
        first = ask(spend(hit(limit, cost=2, holder="a")))[0]
        second = ask(spend(hit(limit, cost=1, holder="b")))[0]
        assert ask(give_back(first))[0].remaining == 2
        assert ask(give_back(second))[0].remaining == 3
        assert ask(spend(hit(limit, cost=3, holder="c")))[0]

    @_all_kinds
    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["first-come", "last-come"])
    def test_all_that_was_spent_can_be_given_back(self, ask: Ask, limit: Limit, order: tuple[int, ...]) -> None:
        for _ in range(3):
            decisions = ask(*[spend(hit(limit, holder=f"{number}")) for number in range(3)])
            assert all(decisions)
            left = [ask(give_back(decisions[number]))[0].remaining for number in order]
            assert left == [1, 2, 3]

    @_counting_kinds
    def test_a_part_can_be_given_back(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=3)))[0]
        assert ask(give_back(decision, cost=1))[0].remaining == 1
        assert ask(spend(hit(limit)))[0]
        assert not ask(spend(hit(limit)))[0]

    @_all_kinds
    def test_giving_back_never_leaves_more_than_the_limit(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=2)))[0]
        ask(do("forget", hit(limit)))
        assert ask(give_back(decision))[0].remaining == 3
        assert not ask(spend(hit(limit, cost=3, holder="b")), spend(hit(limit, holder="c")))[1]

    @_counting_kinds
    def test_a_charge_is_made_whatever_the_limit_says(self, ask: Ask, limit: Limit) -> None:
        assert ask(do("take", hit(limit, cost=2)))[0].remaining == 1
        assert ask(do("take", hit(limit, cost=2)))[0].remaining == 0
        assert not ask(spend(hit(limit)))[0]

    @_counting_kinds
    def test_a_charge_far_above_the_limit_is_remembered(self, ask: Ask, limit: Limit, clock: ManualClock) -> None:
        ask(do("take", hit(limit, cost=300)))
        clock.advance(seconds=HOUR - 1)
        assert not ask(spend(hit(limit)))[0]

    # Once

    @_all_kinds
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

    @_counting_kinds
    def test_what_counts_once_is_charged_once(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=1)))[0]
        group = once(do("take", hit(limit, cost=1)), "mark", decision.now_us + HOUR_US)
        assert [one.remaining for one in ask(group, group)] == [1, 1]
        assert ask(once(give_back(decision), "mark", decision.now_us + HOUR_US))[0].remaining == 1

    @_counting_kinds
    def test_each_decision_counts_for_itself(self, ask: Ask, limit: Limit) -> None:
        first, second = ask(spend(hit(limit, cost=1)), spend(hit(limit, cost=2)))
        until_us = first.now_us + HOUR_US
        left = ask(once(give_back(first), "first", until_us), once(give_back(second), "second", until_us))
        assert [one.remaining for one in left] == [1, 3]

    @_counting_kinds
    def test_keys_and_names_count_for_themselves(self, ask: Ask, limit: Limit) -> None:
        decisions = ask(*[spend(hit(limit, key, name, 2)) for key in "ab" for name in "cd"])
        until_us = decisions[0].now_us + HOUR_US
        assert [one.remaining for one in ask(*[once(give_back(one), "mark", until_us) for one in decisions])] == [3] * 4

    @_counting_kinds
    def test_what_counts_once_does_nothing_when_it_is_too_late_to_know(
        self, ask: Ask, clock: ManualClock, limit: Limit
    ) -> None:
        decision = ask(spend(hit(limit, cost=2)))[0]
        clock.advance(microseconds=10)
        group = once(give_back(decision), "mark", decision.now_us + 10)
        assert ask(group)[0].remaining == 1
        assert ask(group._replace(once=None))[0].remaining == 3

    @_all_kinds
    def test_what_is_forgotten_starts_afresh(self, ask: Ask, limit: Limit) -> None:
        ask(spend(hit(limit, cost=3)), spend(hit(limit, key="other", cost=3)))
        decision = ask(do("forget", hit(limit, holder="b")))[0]
        assert decision.allowed
        assert decision.remaining == 3
        assert ask(spend(hit(limit, cost=3, holder="b")))[0]
        assert not ask(peek(hit(limit, key="other", holder="b")))[0]

    @_all_kinds
    def test_what_was_never_there_can_be_forgotten(self, ask: Ask, limit: Limit) -> None:
        assert ask(do("forget", hit(limit)))[0].remaining == 3

    # Changed limits

    @_all_kinds
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

    # Time

    def test_a_decision_tells_when_it_was_made(self, ask: Ask, clock: ManualClock) -> None:
        clock.advance(seconds=12.345678)
        assert [decision.now_us for decision in ask(*[spend(hit(limit)) for limit in _LIMITS.values()])] == [
            clock()
        ] * 6

    @_all_kinds
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

    @_all_kinds
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

    @_all_kinds
    def test_a_clock_that_steps_back_admits_nothing_more(self, ask: Ask, clock: ManualClock, limit: Limit) -> None:
        ask(spend(hit(limit, cost=3)))
        for _ in range(4):
            clock.advance(seconds=-HOUR)
            assert not ask(spend(hit(limit, holder="b")))[0]

    @_kinds_with_instants
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

    @_counting_kinds
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
        hits = [hit(limit, name=name) for name, limit in _LIMITS.items()]
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

    @_all_kinds
    def test_who_may_go_at_once_does_not_wait(self, ask: Ask, limit: Limit) -> None:
        decision = ask(spend(hit(limit, cost=2), max_wait_us=100 * HOUR_US))[0]
        assert decision.allowed
        assert decision.wait_us == 0

    @pytest.mark.parametrize("kind", [kind for kind in _LIMITS if kind != "token-bucket"])
    def test_windows_and_slots_are_not_reserved(self, ask: Ask, kind: str) -> None:
        limit = _LIMITS[kind]
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
