"""The promises about penalties: which denials they count, when they block, and when no more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from headgate.clock import ManualClock
from headgate.decision import Decision
from headgate.hits import Group, Hit
from headgate.limits import Limit, Penalty, TokenBucket
from headgate.stores import Store
from headgate.testing.contract.asking import HOUR, HOUR_US, Ask, Asking, all_kinds, do, hit, peek, spend

_LIMIT: Final = TokenBucket(1, per=HOUR, burst=3)
_PENALTY: Final = Penalty(3, per=HOUR // 2, block=2 * HOUR)
_MINUTE_US: Final = 60_000_000


def _watched(*hits: Hit, penalty: Penalty = _PENALTY, name: str = "penalty", key: str = "key") -> Group:
    """A group of hits, and a penalty that watches them."""
    return spend(*hits, hit(penalty, key, name))


class Penalties(Asking):
    """The promises about keys that are denied too often."""

    def _counted(self, ask: Ask, penalty: Penalty = _PENALTY, name: str = "penalty") -> int:
        ((_, counted, _),) = ask(peek(hit(penalty, name=name)))[0].facts
        return int(counted)

    @all_kinds
    def test_a_block_begins_with_the_denial_that_is_one_too_many(self, ask: Ask, limit: Limit) -> None:
        ask(spend(hit(limit, cost=3, holder="a")))
        penalty = Penalty(3, per=HOUR, block=1_000 * HOUR)
        group = _watched(hit(limit, holder="b"), penalty=penalty)
        first, second, third, fourth = [ask(group)[0] for _ in range(4)]
        assert not any((first, second, third, fourth))
        assert first.binding == second.binding == "name"
        assert third.binding == fourth.binding == "penalty"
        assert third.retry_after_us == 1_000 * HOUR_US
        blocked = ask(peek(hit(penalty, name="penalty")))[0]
        assert not blocked
        assert blocked.retry_after_us == third.now_us + 1_000 * HOUR_US - blocked.now_us

    def test_in_one_batch_it_is_the_same(self, ask: Ask) -> None:
        groups = [_watched(hit(_LIMIT)) for _ in range(8)]
        decisions = ask(*groups)
        assert [bool(decision) for decision in decisions] == [True] * 3 + [False] * 5
        assert [decision.binding for decision in decisions] == ["name"] * 5 + ["penalty"] * 3
        assert [decision.remaining for decision in decisions[:3]] == [2, 1, 0]

    def test_a_block_denies_whatever_its_limits_say_until_it_is_over_and_not_a_microsecond_longer(
        self, ask: Ask, clock: ManualClock
    ) -> None:
        fast = TokenBucket(3, per=HOUR)
        group = _watched(hit(fast))
        denied = ask(*[group] * 6)[-1]
        assert denied.retry_after_us == 2 * HOUR_US
        clock.advance(microseconds=2 * HOUR_US - 1)
        last = ask(group)[0]
        assert (last.allowed, last.binding, last.retry_after_us) == (False, "penalty", 1)
        assert ask(peek(hit(fast, cost=3)))[0]
        clock.advance(microseconds=1)
        assert ask(group)[0]

    def test_denials_while_it_blocks_do_not_prolong_a_block_and_the_next_count_starts_afresh(
        self, ask: Ask, clock: ManualClock
    ) -> None:
        group = _watched(hit(TokenBucket(1, per=100 * HOUR, burst=1)))
        began_us = ask(*[group] * 4)[-1].now_us
        for _ in range(5):
            clock.advance(microseconds=20 * _MINUTE_US)
            ended_us = [decision.now_us + self._blocked_us(ask) for decision in ask(group, group, group)]
            assert ended_us == [began_us + 2 * HOUR_US] * 3
        clock.set(began_us + 2 * HOUR_US)
        assert [decision.binding for decision in ask(group, group)] == ["name", "name"]
        assert self._counted(ask) == 2

    def _blocked_us(self, ask: Ask) -> int:
        return ask(peek(hit(_PENALTY, name="penalty")))[0].retry_after_us

    def test_a_denial_counts_for_the_period_and_not_a_microsecond_longer(self, ask: Ask, clock: ManualClock) -> None:
        group = _watched(hit(TokenBucket(1, per=100 * HOUR, burst=1)))
        ask(group)
        for _ in range(5):  # two in any half hour
            ask(group)
            clock.advance(microseconds=HOUR_US // 4)
        assert not self._blocked_us(ask)
        clock.advance(microseconds=-1)
        ask(group)
        assert self._blocked_us(ask)

    def test_neither_a_peek_nor_what_passes_nor_what_costs_nothing_counts(self, ask: Ask) -> None:
        one = hit(_LIMIT)
        assert all(ask(*[_watched(one)] * 3))
        denied = ask(*[peek(one, hit(_PENALTY, name="penalty"))] * 5)
        assert not any(denied)
        ask(*[spend(one, hit(_PENALTY, name="penalty", cost=0))] * 2)
        assert self._counted(ask) == 0

    def test_it_watches_the_hits_before_it_back_to_the_penalty_before(self, ask: Ask) -> None:
        full, free = hit(_LIMIT, name="full", cost=3), hit(TokenBucket(100, per=HOUR), name="free")
        ask(spend(full))
        penalties = [hit(_PENALTY, name=name) for name in ("first", "second")]
        ask(spend(free, penalties[0], full, penalties[1], free._replace(name="last")))
        assert [self._counted(ask, name=name) for name in ("first", "second")] == [0, 1]
        ask(spend(full, penalties[0], free, penalties[1]), spend(penalties[0], full), spend(full, *penalties))
        assert [self._counted(ask, name=name) for name in ("first", "second")] == [2, 1]

    def test_what_a_block_denies_counts_nowhere(self, ask: Ask) -> None:
        full = hit(_LIMIT, name="full", cost=3)
        ask(spend(full))
        once = Penalty(1, per=HOUR, block=HOUR)
        ask(_watched(full, penalty=once, name="blocks"))
        group = spend(full, hit(_PENALTY, name="other"), hit(once, name="blocks"))
        assert not any(ask(group, group))  # a batch of one may be denied from memory
        assert self._counted(ask, name="other") == 0

    def test_a_denied_group_spends_nothing_though_it_counts(self, ask: Ask) -> None:
        full, free = hit(_LIMIT, name="full", cost=3), hit(_LIMIT, name="free", cost=3)
        ask(spend(full))
        ask(*[_watched(free, full)] * 5)
        assert ask(peek(free))[0].remaining == 3

    def test_keys_are_blocked_by_themselves(self, ask: Ask) -> None:
        groups = [_watched(hit(_LIMIT, key), key=key) for key in ("a", "b")]
        ask(*groups[:1] * 6)
        assert [bool(decision) for decision in ask(*groups)] == [False, True]

    def test_a_penalty_may_have_another_key_than_what_it_watches(self, ask: Ask) -> None:
        ask(*[spend(hit(_LIMIT, user, cost=3)) for user in ("ann", "bob")])
        groups = [_watched(hit(_LIMIT, user), key="address") for user in ("ann", "bob")]
        assert [decision.binding for decision in ask(*groups, *groups)] == ["name", "name", "penalty", "penalty"]
        assert ask(_watched(hit(_LIMIT, "eve"), key="another"))[0]

    def test_what_is_forgotten_is_not_blocked_any_more(self, ask: Ask) -> None:
        one = hit(_LIMIT)
        ask(*[_watched(one)] * 6)
        assert ask(do("forget", hit(_PENALTY, name="penalty")))[0].remaining == 3
        assert ask(do("forget", one), _watched(one))[1]

    def test_a_denial_that_was_found_by_itself_can_be_counted(self, ask: Ask) -> None:
        one = do("take", hit(_PENALTY, name="penalty"))
        assert [decision.facts[0][1] for decision in ask(one, one)] == [1, 2]
        third = ask(one)[0]
        assert third.facts[0][0] == third.now_us + 2 * HOUR_US
        assert not ask(_watched(hit(_LIMIT)))[0]

    def test_other_numbers_hold_with_the_next_hit(self, ask: Ask) -> None:
        one = hit(TokenBucket(1, per=100 * HOUR, burst=1))
        ask(*[_watched(one)] * 3)
        stricter = Penalty(2, per=HOUR, block=HOUR)
        assert ask(_watched(one, penalty=stricter))[0].facts[1][0] > 0
        assert ask(peek(hit(Penalty(5, per=60, block=60), name="penalty")))[0].retry_after_us == _MINUTE_US

    def test_a_block_that_a_clock_stepped_back_behind_lasts_for_its_length_from_then(
        self, ask: Ask, clock: ManualClock
    ) -> None:
        group = _watched(hit(TokenBucket(1, per=60, burst=1)))
        ask(*[group] * 4)
        clock.advance(seconds=-1_000 * HOUR)
        alone = hit(_PENALTY, name="penalty")
        assert ask(spend(alone))[0].retry_after_us == 2 * HOUR_US
        clock.advance(microseconds=2 * HOUR_US - 1)
        assert ask(spend(alone))[0].retry_after_us == 1
        clock.advance(microseconds=1)
        assert ask(spend(alone))[0]

    def test_denials_are_carried_back_with_a_clock_that_stepped_back(self, ask: Ask, clock: ManualClock) -> None:
        group = _watched(hit(TokenBucket(1, per=100 * HOUR, burst=1)))
        ask(group, group)
        clock.advance(microseconds=10 * _MINUTE_US)
        ask(group)
        clock.advance(seconds=-1_000 * HOUR)
        ask(group)
        assert self._blocked_us(ask) == 2 * HOUR_US

    def test_threads_together_are_blocked_once_they_are_denied_so_often(self, store: Store) -> None:
        group = _watched(hit(TokenBucket(50, per=86_400)), penalty=Penalty(20, per=HOUR, block=100 * HOUR))
        with ThreadPoolExecutor(8) as threads:
            decisions: list[Decision] = list(threads.map(lambda _: store.decide([group])[0], range(100)))
        assert sum(map(bool, decisions)) == 50
        blocks = {decision.facts[-1][0] for decision in decisions}
        assert len(blocks) == 2  # none, and the one
        assert sum(decision.binding == "name" for decision in decisions) == 50 + 19
