"""The promises of a store that can be listed, cleared, and carried to another."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from headgate.clock import ManualClock
from headgate.decision import Decision
from headgate.hits import Group
from headgate.limits import Limit, Penalty, SlidingLog
from headgate.stores import Entry, ScannableStore
from headgate.stores.memory import MemoryStore
from headgate.testing.contract.asking import (
    HOUR,
    HOUR_US,
    LIMITS,
    Asking,
    all_kinds,
    do,
    give_back,
    hit,
    once,
    spend,
)

ODD_KEYS = [
    "user:1",
    "user:12",
    "USER:1",
    "us%r",
    "us_r",
    "user*",
    "[u]?",
    "{u}",
    "a\\b",
    "'",
    '"',
    "naïve",
    "北京",
    "k" * 1024,
]
"""Keys that would be taken for patterns or for code, where prefixes were no plain text."""

A_LITTLE_US = 10_000_000
"""A server that keeps a key for so many milliseconds, by a clock of its own, tells until when while a test's stands
still."""


def listed(store: ScannableStore, key_prefix: str = "", name: str | None = None) -> dict[tuple[str, str, str], Entry]:
    """The entries that a store lists, by where they are."""
    entries = list(store.scan(key_prefix=key_prefix, name=name))
    found = {entry[:3]: entry for entry in entries}
    assert len(found) == len(entries)  # each once
    return found


def told(store: ScannableStore, *groups: Group) -> list[tuple[bool, int, int | None]]:
    """The decisions of a store: whether something is allowed, when it would be, and what is left then."""
    return [
        (decision.allowed, decision.retry_after_us, decision.remaining if decision.allowed else None)
        for decision in store.decide(groups)
    ]


def fill(store: ScannableStore) -> None:
    """Spend of all kinds of limits, for two keys each."""
    for kind, limit in LIMITS.items():
        for key in ("key", "other"):
            store.decide([spend(hit(limit, key, kind, cost)) for cost in (1, 2)])


class Scanning(Asking):
    """The tests of listing, clearing and restoring. All of it is blocking."""

    @pytest.fixture
    def memory(self, clock: ManualClock) -> MemoryStore:
        """Another store by the same clock, which decides alike."""
        return MemoryStore(clock)

    def test_it_can_be_listed(self, store: ScannableStore) -> None:
        assert isinstance(store, ScannableStore)
        assert listed(store) == {}

    def test_what_is_owed_is_listed_once(self, store: ScannableStore, memory: MemoryStore, clock: ManualClock) -> None:
        for each in (store, memory):
            fill(each)
        found, expected = listed(store), listed(memory)
        assert found.keys() == expected.keys()
        for where, entry in found.items():
            assert entry.text == expected[where].text
            assert abs(entry.until_us - expected[where].until_us) < A_LITTLE_US

    def test_the_text_is_the_same_in_every_store(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock
    ) -> None:
        """Of a queue with a gap, a bucket to which something moved up, denials, a block, slots, and a mark."""
        bucket, log, slots = LIMITS["token-bucket"], LIMITS["sliding-log"], LIMITS["concurrency"]
        counted, penalty = LIMITS["fixed-window"], Penalty(2, HOUR, block=HOUR)
        texts = []
        for each in (store, memory):
            queue = [each.decide([spend(hit(bucket, "queue"), max_wait_us=2**45)])[0] for _ in range(6)]
            moved = [each.decide([spend(hit(bucket, "moved"))])[0] for _ in range(3)]
            each.decide([give_back(queue[4]), give_back(moved[0])])
            for key, count in (("denied", 2), ("blocked", 4)):
                each.decide([spend(hit(counted, key, cost=3), hit(penalty, key, "penalty"))] * count)
            each.decide([spend(hit(slots, cost=2, holder="a b%:c")), spend(hit(slots, holder="d"))])
            logged = each.decide([spend(hit(log, cost=cost)) for cost in (2, 1)])
            each.decide([once(give_back(logged[1]), "mark", clock() + HOUR_US)])
            texts.append({where: entry.text for where, entry in listed(each).items()})
        assert texts[0] == texts[1]
        assert len(texts[0]) == 9

    @all_kinds
    def test_there_and_back_nothing_is_changed(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock, limit: Limit
    ) -> None:
        for count in (1, 2, 2):
            store.decide([spend(hit(limit, cost=1, holder=f"{clock()}"))] * count)
            clock.advance(HOUR / 16)
        before = {where: entry.text for where, entry in listed(store).items()}
        memory.restore(list(store.scan()))
        store.clear()
        assert listed(store) == {}
        store.restore(list(memory.scan()))
        assert {where: entry.text for where, entry in listed(store).items()} == before

    def test_what_is_not_owed_is_not_listed(self, store: ScannableStore, clock: ManualClock) -> None:
        limit = LIMITS["token-bucket"]
        store.decide([spend(hit(limit, "spent")), spend(hit(limit, "denied", cost=3)), spend(hit(limit, "denied"))])
        store.decide([do("peek", hit(limit, "seen")), spend(hit(limit, "free", cost=0)), spend(hit(limit, "back"))])
        store.decide([do("forget", hit(limit, "back"))])
        assert {entry.key for entry in store.scan()} == {"spent", "denied"}
        clock.advance(HOUR)
        assert listed(store) == {}

    @pytest.mark.parametrize(
        "begin", ["", "user", "user:1", "us%", "us_", "user*", "[", "{", "a\\", "'", "n", "na", "北", "no"]
    )
    def test_a_prefix_is_plain_text(self, store: ScannableStore, begin: str) -> None:
        store.decide([spend(hit(LIMITS["token-bucket"], key)) for key in ODD_KEYS])
        expected = {key for key in ODD_KEYS if key.startswith(begin)}
        assert {entry.key for entry in store.scan(key_prefix=begin)} == expected
        assert store.clear(key_prefix=begin) == len(expected)
        assert {entry.key for entry in store.scan()} == set(ODD_KEYS) - expected

    @pytest.mark.parametrize("begin", ["user:1\0", "\0", "nobody", "%", "?", "*", "user:%3A"])
    def test_a_prefix_that_no_key_has_clears_nothing(self, store: ScannableStore, begin: str) -> None:
        store.decide([spend(hit(LIMITS["token-bucket"], key)) for key in ("user:1", "user:12", "other")])
        assert list(store.scan(key_prefix=begin)) == []
        assert store.clear(key_prefix=begin) == 0
        assert len(listed(store)) == 3

    @pytest.mark.parametrize("name", ["name", "other", "na", "a:b%3A{c}", ""])
    def test_names_are_told_apart(self, store: ScannableStore, name: str) -> None:
        names = ["name", "name 2", "a:b%3A{c}", "other"]
        store.decide([spend(hit(LIMITS["sliding-log"], "key", each)) for each in names])
        assert [entry.name for entry in store.scan(name=name)] == [name] * (name in names)
        assert store.clear(name=name) == (name in names)
        assert {entry.name for entry in store.scan()} == set(names) - {name}

    @pytest.mark.parametrize(
        "begin", ["", "web", "web.", "web.u", "we%", "web:", "w\U0010ffff", "\ud7ff", "\U0010ffff", "nobody"]
    )
    def test_the_begin_of_a_name_is_plain_text(self, store: ScannableStore, begin: str) -> None:
        names = [
            "web",
            "web.user",
            "web.user:penalty",
            "webhooks",
            "we%b",
            "web:x",
            "w\U0010ffffx",
            "\ud7ffx",
            "\ue000",
        ]
        store.decide([spend(hit(LIMITS["fixed-window"], key, each)) for each in names for key in ("key", "other")])
        expected = {name for name in names if name.startswith(begin)}
        assert {entry.name for entry in store.scan(name_prefix=begin)} == expected
        assert {entry.name for entry in store.scan(name_prefix=begin, name="web")} == expected & {"web"}
        found = sorted(entry.name for entry in store.scan(name_prefix=begin, key_prefix="k"))
        assert found == sorted(expected)
        assert store.clear(name_prefix=begin, key_prefix="k") == len(expected)
        assert store.clear(name_prefix=begin) == len(expected)
        assert {entry.name for entry in store.scan()} == set(names) - expected

    @all_kinds
    def test_what_is_cleared_is_forgotten(self, store: ScannableStore, limit: Limit) -> None:
        assert store.decide([spend(hit(limit, cost=3))])[0]
        assert not store.decide([spend(hit(limit))])[0]
        assert store.clear(key_prefix="key") == 1
        assert store.clear() == 0
        assert store.decide([spend(hit(limit, cost=3))])[0]

    @all_kinds
    def test_what_is_carried_to_another_store_decides_alike(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock, limit: Limit
    ) -> None:
        """From the store to another, and from that to this."""
        for source, target in ((store, memory), (memory, store)):
            source.clear()
            target.clear()
            (first,) = source.decide([spend(hit(limit, cost=1, holder="one"))])
            clock.advance(HOUR / 8)
            source.decide([spend(hit(limit, cost=1, holder="two")), give_back(first)])
            entries = list(source.scan())
            assert target.restore(entries) == len(entries)
            for _ in range(8):
                asked = [spend(hit(limit, holder=f"{clock()}")), Group((hit(limit),), 0, "peek")]
                assert told(source, *asked) == told(target, *asked)
                clock.advance(HOUR / 8)

    @pytest.mark.parametrize("seed", range(4))
    def test_random_requests_are_decided_alike_on_what_was_carried(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock, seed: int
    ) -> None:
        """Within an hour of the first, so that nothing ends that a server keeps by a clock of its own."""
        chance = random.Random(seed)  # noqa: S311  # a schedule, and no secret
        spent: list[Decision] = []

        def group() -> Group:
            clock.advance(microseconds=chance.randrange(20_000_000))
            if spent and chance.random() < 0.3:
                return give_back(chance.choice(spent))
            kind, key, cost = chance.choice(list(LIMITS)), chance.choice("ab"), chance.randrange(3)
            one = hit(LIMITS[kind], key, kind, cost, holder=f"{chance.randrange(9)}")
            penalty = hit(Penalty(2, HOUR, block=HOUR), key, f"{kind}.penalty")
            wait_us = chance.choice((0, 2**45)) if kind == "token-bucket" else 0
            return spend(one, penalty) if chance.random() < 0.5 else spend(one, max_wait_us=wait_us)

        for _ in range(60):
            (decision,) = store.decide([group()])
            if decision.allowed and decision.group.action == "spend" and len(decision.group.hits) == 1:
                spent.append(decision)
        entries = list(store.scan())
        assert memory.restore(entries) == len(entries) > 0
        for _ in range(60):
            asked = group()
            assert told(store, asked) == told(memory, asked)

    def test_a_queue_and_its_gaps_are_carried_to_another_store(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock
    ) -> None:
        limit = LIMITS["token-bucket"]
        for source, target, key in ((store, memory, "one"), (memory, store, "other")):
            queue = [source.decide([spend(hit(limit, key, cost=2), max_wait_us=2**45)])[0] for _ in range(6)]
            source.decide([give_back(queue[3])])  # somebody behind it waits: it becomes a gap
            target.restore(list(source.scan(key_prefix=key)))
            for cost in (1, 1, 2):
                asked = spend(hit(limit, key, cost=cost), max_wait_us=2**45)
                assert told(source, asked) == told(target, asked)

    def test_a_block_is_carried_to_another_store(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock
    ) -> None:
        limit, penalty = LIMITS["token-bucket"], Penalty(2, HOUR, block=HOUR)
        asked = [spend(hit(limit, cost=3), hit(penalty, name="penalty"))]
        for count in (2, 4):  # one denial counts, and two block
            store.clear()
            memory.clear()
            store.decide(asked * count)
            memory.restore(list(store.scan()))
            for _ in range(3):
                assert told(store, *asked) == told(memory, *asked)

    def test_a_mark_is_carried_to_another_store(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock
    ) -> None:
        """It is not the key's entry, and begins likewise."""
        limit = LIMITS["token-bucket"]
        first, _ = store.decide([spend(hit(limit)), spend(hit(limit))])
        back = once(give_back(first), "mark", clock() + 60_000_000)
        store.decide([back])
        assert sorted(entry.key for entry in store.scan(key_prefix="key")) == ["key", "key\0mark"]
        memory.restore(list(store.scan()))
        before = memory.decide([Group((hit(limit),), 0, "peek")])[0].remaining
        memory.decide([back])
        assert memory.decide([Group((hit(limit),), 0, "peek")])[0].remaining == before

    @pytest.mark.parametrize("seed", range(4))
    def test_what_both_have_spent_is_merged_as_in_memory(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock, seed: int
    ) -> None:
        """Of limits of all kinds, and of penalties that count and that block."""
        chance = random.Random(seed)  # noqa: S311  # a schedule, and no secret
        other = MemoryStore(clock)
        for _ in range(60):
            clock.advance(microseconds=chance.randrange(20_000_000))
            kind, key, holder = chance.choice(list(LIMITS)), chance.choice("ab"), f"{chance.randrange(9)}"
            one = hit(LIMITS[kind], key, kind, chance.randrange(3), holder=holder)
            asked = spend(one, hit(Penalty(3, HOUR, block=HOUR), key, f"{kind}.penalty"))
            for each in (store, other) if chance.random() < 0.5 else (memory,):
                each.decide([asked])
        for each in (store, other):
            each.restore(list(memory.scan()))
        assert {place: entry.text for place, entry in listed(store).items()} == {
            place: entry.text for place, entry in listed(other).items()
        }

    def test_nothing_is_lost_that_is_spent_while_entries_are_merged(
        self, store: ScannableStore, memory: MemoryStore, clock: ManualClock
    ) -> None:
        limit = SlidingLog(10_000, per=HOUR)
        rounds = 0
        with ThreadPoolExecutor(1) as threads:
            spending = threads.submit(lambda: [store.decide([spend(hit(limit))]) for _ in range(100)])
            while not spending.done():
                memory.decide([spend(hit(limit, cost=2))])
                store.restore(list(memory.scan()))
                rounds += 1
            spending.result()
        store.restore(list(memory.scan()))
        assert store.decide([Group((hit(limit),), 0, "peek")])[0].remaining == 10_000 - 100 - 2 * rounds

    def test_what_lasts_longer_is_kept(self, store: ScannableStore, memory: MemoryStore, clock: ManualClock) -> None:
        limit = LIMITS["token-bucket"]
        memory.decide([spend(hit(limit, "more", cost=3)), spend(hit(limit, "less")), spend(hit(limit, "new"))])
        store.decide([spend(hit(limit, "more")), spend(hit(limit, "less", cost=3))])
        entries = list(memory.scan())
        assert store.restore(entries) == 2
        store.restore(entries)
        left = {
            key: store.decide([Group((hit(limit, key),), 0, "peek")])[0].remaining for key in ("more", "less", "new")
        }
        assert left == {"more": 0, "less": 0, "new": 2}

    def test_what_is_over_is_not_restored(self, store: ScannableStore, memory: MemoryStore, clock: ManualClock) -> None:
        memory.decide([spend(hit(LIMITS["token-bucket"]))])
        entries = list(memory.scan())
        clock.advance(HOUR)
        assert store.restore(entries) == 0
        assert listed(store) == {}

    def test_many_are_listed_cleared_and_restored(self, store: ScannableStore, memory: MemoryStore) -> None:
        memory.decide([spend(hit(LIMITS["fixed-window"], f"key {number}")) for number in range(1_200)])
        entries = listed(memory)
        assert store.restore(entries.values()) == 1_200
        assert listed(store).keys() == entries.keys()
        assert store.clear(key_prefix="key 1") == 311
        assert len(listed(store)) == 889
        assert store.clear() == 889

    def test_what_does_not_change_is_listed_while_others_do(self, store: ScannableStore) -> None:
        limit = LIMITS["token-bucket"]
        store.decide([spend(hit(limit, f"key {number}")) for number in range(700)])
        found = []
        for number, entry in enumerate(store.scan(key_prefix="key")):
            found.append(entry.key)
            if number % 50 == 0:
                store.decide([spend(hit(limit, f"new {number}"))])
                store.decide([do("forget", hit(limit, f"new {number - 50}"))])
        assert sorted(found) == sorted(f"key {number}" for number in range(700))


class ScannableStoreContract(Scanning):
    """The promises of a store that can be listed, cleared and carried to another. A subclass provides the fixture
    `store`, as one of `StoreContract` does.
    """
