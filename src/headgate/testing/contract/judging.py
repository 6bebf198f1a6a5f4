"""The promises about batches, of admitting and denying, of groups, and of keys."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from headgate.decision import Decision
from headgate.limits import FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.stores import Store
from headgate.testing.contract.asking import (
    HOUR,
    LIMITS,
    Ask,
    Asking,
    all_kinds,
    do,
    give_back,
    hit,
    peek,
    spend,
)

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


class Judging(Asking):
    """The promises about what is admitted and denied."""

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
        limits = (*LIMITS.values(), TokenBucket(400, per=HOUR))
        groups = [
            spend(*[hit(limit, key=f"{number % 100}", name=f"{limit}", holder=f"{number}") for limit in limits])
            for number in range(400)
        ]
        decisions = ask(*groups)
        assert [bool(decision) for decision in decisions] == [True] * 300 + [False] * 100

    # Admitting and denying

    @all_kinds
    def test_it_admits_as_much_as_the_limit_says_and_no_more(self, ask: Ask, limit: Limit) -> None:
        hits = [hit(limit, holder=f"holder {number}") for number in range(5)]
        decisions = [ask(spend(one))[0] for one in hits]
        assert [bool(decision) for decision in decisions] == [True, True, True, False, False]
        assert [decision.remaining for decision in decisions] == [2, 1, 0, 0, 0]

    @all_kinds
    def test_a_cost_is_spent_whole_or_not_at_all(self, ask: Ask, limit: Limit) -> None:
        assert ask(spend(hit(limit, cost=2, holder="a")))[0]
        assert not ask(spend(hit(limit, cost=2, holder="b")))[0]
        assert ask(spend(hit(limit, cost=1, holder="c")))[0]

    @all_kinds
    def test_a_denial_spends_nothing(self, ask: Ask, limit: Limit) -> None:
        ask(spend(hit(limit, cost=2, holder="a")))
        for _ in range(5):
            assert not ask(spend(hit(limit, cost=2, holder="b")))[0]
        assert ask(peek(hit(limit, holder="b")))[0].remaining == 1

    @all_kinds
    def test_a_peek_spends_nothing(self, ask: Ask, limit: Limit) -> None:
        for _ in range(5):
            decision = ask(peek(hit(limit, cost=3)))[0]
            assert decision.allowed
            assert decision.remaining == 3
        assert ask(spend(hit(limit, cost=3)))[0]
        assert not ask(peek(hit(limit, cost=1, holder="b")))[0]

    @all_kinds
    def test_a_cost_of_nothing_always_passes_and_spends_nothing(self, ask: Ask, limit: Limit) -> None:
        assert ask(spend(hit(limit, cost=0)))[0].remaining == 3
        assert ask(spend(hit(limit, cost=3)))[0]
        decision = ask(spend(hit(limit, cost=0, holder="b")))[0]
        assert decision.allowed
        assert decision.remaining == 0

    @all_kinds
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
        hits = [hit(limit, name=name) for name, limit in LIMITS.items()]
        assert ask(spend(*hits))[0]
        for one in hits:
            assert ask(peek(one))[0].remaining == 2

    @all_kinds
    def test_a_denied_group_spends_nothing_anywhere(self, ask: Ask, limit: Limit) -> None:
        assert ask(spend(hit(limit, name="full", cost=3)))[0]
        others = [hit(other, name=name, holder="b") for name, other in LIMITS.items()]
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
        limits = [limit for name, limit in LIMITS.items() if name != "calendar-window"]
        for number, limit in enumerate(limits):
            assert ask(spend(hit(limit, cost=3)))[0]
            for later in limits[number + 1 :]:
                assert ask(peek(hit(later)))[0].remaining == 3
        for limit in limits:
            assert not ask(peek(hit(limit, holder="b")))[0]
