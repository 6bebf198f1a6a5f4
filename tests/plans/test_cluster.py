"""The plans for Redis Cluster: a group whose limits lie at several nodes stands or falls as one, whatever happens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.decision import Answer, Decision
from headgate.drive import Plan, drive
from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.hits import Action, Group, Hit
from headgate.limits import Concurrency, FixedWindow, Limit, Penalty, SlidingLog, SlidingWindow, TokenBucket
from headgate.plans import cluster as plans
from headgate.plans import redis
from headgate.plans.cluster import MAX_NODES, RETURN_PAUSES_MS, Redirect, Removed, RoutedGroup
from headgate.plans.groups import give_back_groups
from headgate.plans.lost import GoesOn
from headgate.plans.redis import Script
from headgate.plans.topology import Address, Topology
from headgate.stores.memory import MemoryStore
from headgate.stores.remote.returning import RETURNING_S
from tests.interrupting import Interruption
from tests.plans.exploring import Choose, explore
from tests.plans.fake_cluster import NODES, FakeCluster, Place, outage, slot_of
from tests.plans.fake_server import FakeServer, read_call
from tests.profiles import quickly

SECOND_US: Final = 1_000_000

LIMITS: Final[dict[str, Limit]] = {
    "tb": TokenBucket(3, per=60),
    "burst": TokenBucket(2, per=7, burst=5),
    "fw": FixedWindow(4, per=60),
    "calendar": FixedWindow(5, per="day", tz="Europe/Berlin"),
    "sw": SlidingWindow(4, per=30),
    "sl": SlidingLog(3, per=20),
    "cc": Concurrency(2, ttl=45),
}
KINDS: Final = sorted(LIMITS)
WINDOWS: Final = [kind for kind in KINDS if kind != "cc"]


def hit(kind: str, key: str, cost: int = 1, holder: str = "holder") -> Hit:
    return Hit(LIMITS[kind], key, kind, cost, holder)


def group(*hits: Hit, action: Action = "spend") -> Group:
    return Group(hits, 0, action)


def ask(
    cluster: FakeCluster, *groups: Group, send: Callable[[list[RoutedGroup]], list[Answer]] | None = None
) -> list[Answer]:
    return drive(plans.decide(groups, slot_of, cluster.topology), send or cluster.send)


def decide(cluster: FakeCluster, *hits: Hit, action: Action = "spend") -> Decision:
    (answer,) = ask(cluster, group(*hits, action=action))
    assert isinstance(answer, Decision)
    return answer


def remaining(cluster: FakeCluster, *hits: Hit) -> list[int]:
    return [cluster.peek(hit._replace(cost=0)).remaining for hit in hits]


def asked(cluster: FakeCluster) -> list[tuple[Action, str]]:
    """What was judged, by what was done and the letters of the keys."""
    return [(one.action, "".join(hit.key[0] for hit in one.hits)) for _, one in cluster.asked]


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


# One slot, several slots


def test_a_group_in_one_slot_is_asked_for_as_it_is(cluster: FakeCluster) -> None:
    one = group(hit("tb", "a"), hit("sl", "a"), hit("cc", "a2"))
    (answer,) = ask(cluster, one)
    assert type(answer) is Decision
    assert cluster.asked == [(NODES[0], one)]


def test_groups_are_asked_for_side_by_side(cluster: FakeCluster) -> None:
    groups = [group(hit("tb", key, holder=f"{number}")) for number, key in enumerate("abcabc")]
    answers = ask(cluster, *groups)
    assert [answer.group for answer in answers if isinstance(answer, Decision)] == groups
    assert [len(routed_groups) for routed_groups in cluster.lists] == [6]
    assert [address for address, _ in cluster.asked] == [*NODES, *NODES]


def test_no_groups_ask_nothing(cluster: FakeCluster) -> None:
    assert ask(cluster) == []
    assert cluster.lists == []


def test_the_narrowest_limit_is_asked_first(cluster: FakeCluster) -> None:
    wide, narrow, middle = TokenBucket(100, per=1), FixedWindow(10, per=3600), SlidingWindow(10, per=60)
    hits = [Hit(wide, "a", "wide"), Hit(narrow, "b", "narrow"), Hit(middle, "c", "middle")]
    assert decide(cluster, *hits)
    assert asked(cluster) == [("spend", "b"), ("spend", "c"), ("spend", "a")]


def test_the_narrowest_limit_of_a_part_says_when_it_is_asked(cluster: FakeCluster) -> None:
    wide, narrow, middle = TokenBucket(100, per=1), FixedWindow(10, per=3600), SlidingWindow(10, per=60)
    hits = [Hit(middle, "a", "middle"), Hit(wide, "b", "wide"), Hit(narrow, "b", "narrow")]
    assert decide(cluster, *hits)
    assert asked(cluster) == [("spend", "bb"), ("spend", "a")]


def test_limits_of_one_width_are_asked_in_their_order(cluster: FakeCluster) -> None:
    assert decide(cluster, hit("tb", "c"), hit("tb", "a"), hit("tb", "b"))
    assert asked(cluster) == [("spend", "c"), ("spend", "a"), ("spend", "b")]


def test_a_denial_by_the_first_takes_nothing_to_give_back(cluster: FakeCluster) -> None:
    hits = [hit("tb", key, holder=key) for key in "abc"]
    cluster.fill(hits[0])
    denied = decide(cluster, *hits)
    assert not denied
    assert (denied.group.hits, len(denied.facts)) == (tuple(hits), 3)
    assert asked(cluster) == [("spend", "a"), ("peek", "b"), ("peek", "c")]
    assert len(cluster.lists) == 2


def test_a_denial_by_a_later_one_gives_back_and_looks_at_the_rest_in_one_go(cluster: FakeCluster) -> None:
    hits = [hit("tb", key, holder=key) for key in "abcd"]
    cluster.fill(hits[2])
    assert not decide(cluster, *hits)
    assert [[routed.group.action for routed in routed_groups] for routed_groups in cluster.lists] == [
        ["spend"],
        ["spend"],
        ["spend"],
        ["give_back", "give_back", "peek"],
    ]
    assert remaining(cluster, *hits) == [3, 3, 0, 3]


@pytest.mark.parametrize("action", ["peek"])
def test_a_peek_asks_all_nodes_at_once_and_takes_nothing(cluster: FakeCluster, action: Action) -> None:
    hits = [hit("tb", "a"), hit("sl", "b"), hit("cc", "c")]
    cluster.fill(hits[1])
    denied = decide(cluster, *hits, action=action)
    assert (denied.allowed, denied.binding, len(cluster.lists)) == (False, "sl", 1)
    assert decide(cluster, hits[0], hits[2], action=action)
    assert remaining(cluster, *hits) == [3, 0, 2]


def test_what_costs_nothing_is_not_given_back(cluster: FakeCluster) -> None:
    hits = [hit("tb", "a", 0), hit("fw", "b", 0), hit("sl", "c", 1)]
    cluster.fill(hits[2])
    assert not decide(cluster, *hits)
    assert "give_back" not in dict(asked(cluster))


# As one store would judge


class Step(NamedTuple):
    """How long it is since the last one, and what is asked then."""

    move_us: int
    action: Action
    hits: list[Hit]
    happenings: list[int]
    """What happens to the slots, before each thing that is sent: 0 for nothing."""


@st.composite
def steps(draw: st.DrawFn, kinds: Sequence[str] = KINDS, *, most: int = 12) -> list[Step]:
    places = st.lists(
        st.tuples(st.sampled_from(kinds), st.sampled_from(["a", "a2", "b", "c", "d"])),
        min_size=1,
        max_size=5,
        unique=True,
    )
    made = []
    for number in range(draw(st.integers(1, most))):
        hits = [
            hit(kind, key, min(draw(st.integers(0, 3)), LIMITS[kind].capacity), f"holder {number}")
            for kind, key in draw(places)
        ]
        move_us = draw(st.sampled_from([0, 0, 1, SECOND_US, 7 * SECOND_US, 30 * SECOND_US]) | st.integers(0, 10**8))
        action: Action = draw(st.sampled_from(["spend", "spend", "spend", "peek"]))
        made.append(Step(move_us, action, hits, draw(st.lists(st.integers(0, 400), max_size=6))))
    return made


def told(decision: Decision) -> dict[str, Any]:
    """All that a decision says."""
    names = ["allowed", "group", "facts", "source", "now_us", "binding", "key", "cost", "limit", "remaining"]
    names += ["retry_after_us", "reset_after_us", "wait_us"]
    own = {name: getattr(decision, name) for name in names}
    return own | {"instants_us": list(decision.instants_us), "headers": decision.headers()}


def happen(cluster: FakeCluster, number: int) -> bool:
    """Something happens to a slot, or nothing."""
    what, slot, which = number % 5, number // 5 % 4, number // 20
    if what == 1:
        cluster.begin_moving(slot, NODES[which % 3])
    elif what == 2:
        cluster.move_key(slot, which)
    elif what == 3:
        cluster.end_moving(slot)
    elif what == 4:
        cluster.move(slot, NODES[which % 3])
    return what in (1, 3, 4)


@given(steps())
def test_limits_at_several_nodes_are_judged_as_one_store_would(made: list[Step]) -> None:
    cluster = FakeCluster()
    one = MemoryStore(cluster.clock)
    for move_us, action, hits, _ in made:
        cluster.clock.advance(microseconds=move_us)
        assert told(decide(cluster, *hits, action=action)) == told(one.decide([group(*hits, action=action)])[0])


@given(steps())
def test_wherever_the_slots_are_moved_meanwhile_nothing_is_counted_twice(made: list[Step]) -> None:
    cluster = FakeCluster()
    one = MemoryStore(cluster.clock)
    for move_us, action, hits, happenings in made:
        cluster.clock.advance(microseconds=move_us)
        left = iter(happenings)
        patience = 2

        def send(routed_groups: list[RoutedGroup], left: Any = left) -> list[Answer]:
            nonlocal patience
            if patience > 0:
                patience -= happen(cluster, next(left, 0))
            return cluster.send(routed_groups)

        cluster.taken.clear()
        (answer,) = ask(cluster, group(*hits, action=action), send=send)
        assert isinstance(answer, Decision)
        assert told(answer) == told(one.decide([group(*hits, action=action)])[0])


@given(steps(), st.lists(st.integers(0, 40 * SECOND_US), min_size=1))
def test_a_denial_leaves_every_limit_as_it_was_and_what_is_allowed_is_spent_once(
    made: list[Step], moves_us: list[int]
) -> None:
    cluster, moves = FakeCluster(), itertools.cycle(moves_us)
    untouched: dict[Place, MemoryStore] = {}
    """For each place, a store that only hears of what was allowed, at the moment at which it was taken."""

    def store_of(one: Hit) -> MemoryStore:
        return untouched.setdefault((one.key, one.name), MemoryStore(cluster.clock))

    for move_us, _, hits, _ in made:
        cluster.clock.advance(microseconds=move_us)

        sent_at: dict[Hit, int] = {}

        def send(routed_groups: list[RoutedGroup], sent_at: dict[Hit, int] = sent_at) -> list[Answer]:
            answers = cluster.send(routed_groups)
            sent_at.update({one: cluster.clock() for routed in routed_groups for one in routed.group.hits})
            cluster.clock.advance(microseconds=next(moves))
            return answers

        cluster.taken.clear()
        (answer,) = ask(cluster, group(*hits), send=send)
        assert isinstance(answer, Decision)
        assert cluster.taken == ({((one.key, one.name), one.holder) for one in hits if one.cost} if answer else set())
        now_us = cluster.clock()
        for one in hits if answer else []:
            cluster.clock.set(sent_at[one])
            assert store_of(one).decide([group(one)])[0]
        cluster.clock.set(now_us)
        for one in hits:
            alone = cluster.peek(one)
            expected = store_of(one).decide([group(one, action="peek")])[0]
            assert (alone.allowed, alone.facts, alone.remaining) == (
                expected.allowed,
                expected.facts,
                expected.remaining,
            )


# Penalties

PENALTY: Final = Penalty(2, per=60, block=90)


def penalty(key: str, name: str = "pn", cost: int = 1) -> Hit:
    return Hit(PENALTY, key, name, cost)


def counted(cluster: FakeCluster, *penalties: Hit) -> list[int]:
    return [cluster.peek(one).facts[0][1] for one in penalties]


def test_a_penalty_that_lies_with_what_it_watches_counts_there(cluster: FakeCluster) -> None:
    hits = [hit("tb", "a"), penalty("a"), hit("sl", "b"), penalty("b")]
    cluster.fill(hits[2])
    assert not decide(cluster, *hits)
    assert asked(cluster) == [("spend", "aa"), ("spend", "bb"), ("give_back", "a")]
    assert counted(cluster, hits[1], hits[3]) == [0, 1]
    denied = decide(cluster, *hits)
    assert (denied.binding, denied.key, denied.retry_after) == ("pn", "b", 90)


def test_a_penalty_that_lies_elsewhere_counts_together_with_what_is_given_back(cluster: FakeCluster) -> None:
    hits = [hit("burst", "a"), hit("tb", "c"), penalty("b")]
    cluster.fill(hits[0])
    assert not decide(cluster, *hits)
    assert asked(cluster) == [("spend", "b"), ("spend", "c"), ("spend", "a"), ("give_back", "c"), ("take", "b")]
    assert [len(sent) for sent in cluster.lists] == [1, 1, 1, 2]
    assert counted(cluster, hits[2]) == [1]
    denied = decide(cluster, *hits)
    assert (denied.binding, denied.retry_after) == ("pn", 90)


def test_a_key_that_is_blocked_elsewhere_takes_nothing(cluster: FakeCluster) -> None:
    hits = [hit("tb", "a"), penalty("b")]
    cluster.fill(hits[0])
    for _ in range(2):
        decide(cluster, *hits)
    cluster.clock.advance(seconds=60)
    cluster.asked.clear()
    assert not decide(cluster, *hits)
    assert asked(cluster) == [("spend", "b"), ("peek", "a")]
    assert remaining(cluster, hits[0]) == [3]
    cluster.clock.advance(seconds=30)
    assert decide(cluster, *hits)


def test_what_costs_nothing_or_only_peeks_is_counted_by_no_penalty(cluster: FakeCluster) -> None:
    hits = [hit("tb", "a"), penalty("b", cost=0)]
    cluster.fill(hits[0])
    assert not decide(cluster, *hits)
    assert not decide(cluster, hits[0], penalty("b"), action="peek")
    assert counted(cluster, hits[1]) == [0]


@st.composite
def watched_groups(draw: st.DrawFn) -> tuple[list[Hit], list[int]]:
    """A group of limits and penalties, anywhere, of which the first is no penalty; and which of its limits are full."""
    kinds = draw(st.lists(st.sampled_from(["tb", "sl", "fw", "pn", "pn"]), min_size=2, max_size=8))
    keys = [draw(st.sampled_from(["a", "b", "c"])) for _ in kinds]
    hits = [
        penalty(key, f"{number}") if kind == "pn" else Hit(LIMITS[kind], key, f"{number}")
        for number, (kind, key) in enumerate(zip(kinds, keys, strict=True))
    ]
    of_tokens = [number for number, kind in enumerate(kinds) if kind != "pn"]
    full = draw(st.lists(st.sampled_from(of_tokens), max_size=3, unique=True)) if of_tokens else []
    return hits, full


@pytest.mark.parametrize("slot_moves", [False, True])
@settings(max_examples=quickly(200))
@given(made=watched_groups())
def test_penalties_at_several_nodes_count_what_they_watch_and_nothing_else(
    slot_moves: bool, made: tuple[list[Hit], list[int]]
) -> None:
    """Of limits that would deny, the first that is asked ends it: the others are not asked any more."""
    hits, full = made
    cluster = FakeCluster()
    one = MemoryStore(cluster.clock)
    for number in full:
        cluster.fill(hits[number])
        assert one.decide([group(hits[number]._replace(cost=hits[number].limit.capacity))])[0]
    if slot_moves:  # some keys are here, and some there
        for slot in range(3):
            cluster.written |= {(hit.key, hit.name) for hit in hits}
            cluster.begin_moving(slot, NODES[(slot + 1) % 3])
            cluster.move_key(slot, 0)
    assert decide(cluster, *hits).allowed == one.decide([group(*hits)])[0].allowed
    penalties = [hit for hit in hits if hit.limit is PENALTY]
    expected = [one.decide([group(hit, action="peek")])[0].facts[0][1] for hit in penalties]
    found = counted(cluster, *penalties)
    assert all(count <= most for count, most in zip(found, expected, strict=True))
    if len(full) == 1:
        assert found == expected


# Clocks that differ


@given(steps(WINDOWS), st.tuples(*[st.integers(-40 * SECOND_US, 40 * SECOND_US)] * 3))
def test_each_limit_is_told_by_the_clock_of_its_node(made: list[Step], skews_us: tuple[int, int, int]) -> None:
    cluster = FakeCluster(skews_us)
    for move_us, action, hits, _ in made:
        cluster.clock.advance(microseconds=move_us)
        answer = decide(cluster, *hits, action=action)
        alone = [cluster.peek(one) for one in answer.group.hits]
        if len({slot_of(one.key) for one in hits}) > 1:
            assert list(answer.instants_us) == [cluster.now_us(slot_of(one.key)) for one in hits]
            assert answer.now_us == max(answer.instants_us)
        binding = next(peek for peek in alone if (peek.binding, peek.key) == (answer.binding, answer.key))
        assert (answer.remaining, answer.reset_after_us) == (binding.remaining, binding.reset_after_us)
        if answer:
            shares = [peek.remaining / peek.limit for peek in alone]
            assert answer.remaining / answer.limit == min(shares)
            assert answer.retry_after_us == 0
        else:
            assert answer.retry_after_us == max(peek.retry_after_us for peek in alone) > 0


@given(steps(WINDOWS), st.tuples(*[st.integers(-40 * SECOND_US, 40 * SECOND_US)] * 3))
def test_a_denial_ends_at_the_microsecond_though_clocks_differ(
    made: list[Step], skews_us: tuple[int, int, int]
) -> None:
    cluster = FakeCluster(skews_us)
    for move_us, _, hits, _ in made:
        cluster.clock.advance(microseconds=move_us)
        answer = decide(cluster, *hits)
        if not answer:
            cluster.clock.advance(microseconds=answer.retry_after_us - 1)
            assert not decide(cluster, *hits, action="peek")
            cluster.clock.advance(microseconds=1)
            assert decide(cluster, *hits)


def test_a_joined_decision_says_how_long_by_the_clock_of_each_node() -> None:
    cluster = FakeCluster((0, 20 * SECOND_US, -20 * SECOND_US))
    hits = [Hit(FixedWindow(1, per=60), key, key) for key in "abc"]
    for one in hits:
        cluster.fill(one)
    cluster.clock.set(60 * SECOND_US * 30_000_000 + 25 * SECOND_US)
    for one in hits:
        cluster.fill(one)
    denied = decide(cluster, *hits)
    assert (denied.binding, denied.retry_after) == ("c", 55)
    assert [decide(cluster, one).retry_after for one in hits] == [35, 15, 55]
    assert denied.headers()["Retry-After"] == "55"


# What is not answered


@pytest.mark.parametrize("failing", range(3))
def test_an_outage_of_a_later_part_gives_back_the_earlier_ones_once(cluster: FakeCluster, failing: int) -> None:
    hits = [hit("tb", "a", 2, "1"), hit("cc", "a", 1, "1"), hit("sw", "b", 3, "1"), hit("sl", "c", 1, "1")]
    before = remaining(cluster, *hits)
    gone = outage()
    spends = itertools.count()

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        if routed_groups[0].group.action == "spend" and next(spends) == failing:
            return [gone]
        return cluster.send(routed_groups)

    assert ask(cluster, group(*hits), send=send) == [gone]
    assert cluster.taken == set()
    assert remaining(cluster, *hits) == before
    assert asked(cluster)[-1][0] == "give_back" if failing else not cluster.asked


def test_an_outage_while_giving_back_is_not_asked_again_and_the_denial_stands(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    hits = [hit("tb", "a"), hit("tb", "b"), hit("tb", "c")]
    cluster.fill(hits[1])

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        return [outage() if routed.group.action == "give_back" else cluster.answer(routed) for routed in routed_groups]

    (answer,) = ask(cluster, group(*hits), send=send)
    assert isinstance(answer, Decision)
    assert not answer
    assert (answer.binding, answer.key, len(answer.facts)) == ("tb", "b", 3)
    assert remaining(cluster, *hits) == [2, 0, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "headgate: could not give back what was taken for nobody: store node: gone"
    ]


@pytest.mark.parametrize("how", ["outage", "interruption"])
def test_whatever_makes_it_be_given_back_that_it_is_lost_is_logged_unless_somebody_goes_on_with_it(
    cluster: FakeCluster, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for told, lines in ((outage(), 2), (GoesOn("node", 0.25), 0)):
        caplog.clear()

        def send(routed_groups: list[RoutedGroup], told: StoreOutage = told) -> list[Answer]:
            if routed_groups[0].group.action == "spend" and routed_groups[0].slot == 2:
                if how == "outage":
                    return [outage()]
                raise Interruption
            return [told if routed.group.action == "give_back" else cluster.answer(routed) for routed in routed_groups]

        holders = f"{how} {lines}"
        asked_for = group(*(hit("tb", key, holder=holders) for key in "abc"))
        with suppress(Interruption):
            ask(cluster, asked_for, send=send)
        assert len(caplog.records) == lines


def test_a_denial_stands_though_the_limits_after_it_cannot_be_asked(cluster: FakeCluster) -> None:
    hits = [hit("tb", "c"), hit("tb", "a"), hit("tb", "b")]
    cluster.fill(hits[1])

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        return [outage() if routed.group.action == "peek" else cluster.answer(routed) for routed in routed_groups]

    (answer,) = ask(cluster, group(*hits), send=send)
    assert isinstance(answer, Decision)
    assert not answer
    assert answer.group.hits == (hits[0], hits[1])
    assert (answer.key, answer.retry_after) == ("a", 20)
    assert list(answer.instants_us) == [cluster.clock()] * 2
    assert answer.headers()["Retry-After"] == "20"


def test_a_peek_of_which_a_part_is_not_answered_is_an_outage(cluster: FakeCluster) -> None:
    gone = outage()

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        return [gone if routed.slot == 1 else cluster.answer(routed) for routed in routed_groups]

    assert ask(cluster, group(hit("tb", "a"), hit("tb", "b"), action="peek"), send=send) == [gone]


def test_an_outage_of_one_group_leaves_the_others(cluster: FakeCluster) -> None:
    groups = [group(hit("tb", "a"), hit("sl", "b")), group(hit("tb", "b")), group(hit("tb", "c"), hit("sl", "a"))]

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        return [outage() if routed.slot == 1 else cluster.answer(routed) for routed in routed_groups]

    answers = ask(cluster, *groups, send=send)
    assert [isinstance(answer, Decision) for answer in answers] == [False, False, True]
    assert {place for place, _ in cluster.taken} == {("c", "tb"), ("a", "sl")}


# What interrupts


SCENES: Final[dict[str, tuple[list[list[Hit]], list[Hit]]]] = {
    "allowed": ([[hit("tb", "a", 2), hit("cc", "a"), hit("fw", "b", 0), hit("sl", "c")]], []),
    "denied by the first": ([[hit("tb", "a", 2), hit("sl", "b"), hit("cc", "c")]], [hit("tb", "a")]),
    "denied by a later one": (
        [[hit("tb", "a", 2), hit("cc", "a"), hit("sw", "b"), hit("sl", "c")]],
        [hit("sw", "b"), hit("sl", "c")],
    ),
    "two groups": ([[hit("tb", "a")], [hit("sl", "b"), hit("sl", "c")]], []),
    "two groups, and one is denied": (
        [[hit("tb", "a"), hit("sl", "b")], [hit("cc", "b"), hit("sl", "c")]],
        [hit("sl", "c")],
    ),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("moves", [False, True])
def test_whatever_interrupts_all_is_given_back_once_but_what_was_on_its_way(scene: str, moves: bool) -> None:
    hits, full = SCENES[scene]

    def run(choose: Choose) -> None:
        cluster = FakeCluster()
        for one in full:
            cluster.fill(one)
        for one in itertools.chain(*hits) if moves else ():
            cluster.written.add((one.key, one.name))
        before = set(cluster.taken)
        unsure: set[Place] = set()
        left = 2

        def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
            nonlocal left
            choice = choose(3 + 2 * len(routed_groups)) if left else 0
            left -= choice > 0
            if moves and choice == 0 and left == 2:  # at the worst moment, the keys of a group are at both ends
                cluster.begin_moving(0, NODES[1])
                cluster.move_key(0, 0)
            concerned = routed_groups if choice < 3 else [routed_groups[(choice - 3) // 2]]
            is_done = choice == 0 or choice == 2 or (choice >= 3 and choice % 2 == 0)
            answers: list[Answer] = []
            for routed in routed_groups:
                answer = cluster.answer(routed) if (is_done or routed not in concerned) and choice != 1 else outage()
                if choice > 0 and routed in concerned:
                    if isinstance(answer, Decision) == (routed.group.action == "spend"):  # taken, or not given back
                        unsure.update((one.key, one.name) for one in routed.group.hits)
                    answer = outage()
                answers.append(answer)
            if choice in (1, 2):
                raise Interruption
            return answers

        try:
            answers = ask(cluster, *[group(*own) for own in hits], send=send)
        except Interruption:
            answers = []
        granted = {
            (one.key, one.name)
            for answer in answers
            if isinstance(answer, Decision) and answer
            for one in answer.group.hits
            if one.cost > 0
        }
        taken = {place for place, _ in cluster.taken - before}
        assert granted <= taken
        assert taken - granted <= unsure

    assert explore(run) >= 20


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), Interruption(), StoreTimeout("node", "late"), ValueError("no")], ids=repr
)
@pytest.mark.parametrize("after", range(3))
def test_what_is_thrown_in_comes_out_when_all_is_given_back(
    cluster: FakeCluster, scene: str, error: BaseException, after: int
) -> None:
    hits, full = SCENES[scene]
    for one in full:
        cluster.fill(one)
    numbers = itertools.count()
    was_raised = False

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        nonlocal was_raised
        if next(numbers) == after and routed_groups[0].group.action == "spend":
            was_raised = True
            raise error
        return cluster.send(routed_groups)

    try:
        ask(cluster, *[group(*own) for own in hits], send=send)
    except BaseException as raised:
        if raised is not error:
            raise
        assert cluster.taken == set()
    else:
        assert not was_raised


@pytest.mark.parametrize("scene", SCENES)
def test_a_plan_that_is_dropped_asks_nothing_more(cluster: FakeCluster, scene: str) -> None:
    hits, full = SCENES[scene]
    for one in full:
        cluster.fill(one)
    for after in itertools.count():
        own = [group(*(one._replace(holder=f"{after}") for one in hits_of_one)) for hits_of_one in hits]
        plan = plans.decide(own, slot_of, cluster.topology)
        try:
            routed_groups = next(plan)
            for _ in range(after):
                routed_groups = plan.send(cluster.send(routed_groups))
        except StopIteration:
            break
        plan.close()  # raises if it yields
    assert after >= 2


# Redirections


def test_a_slot_that_has_moved_is_asked_for_where_it_is_and_that_is_remembered(cluster: FakeCluster) -> None:
    cluster.topology.is_doubtful = False
    cluster.move(0, NODES[1])
    assert decide(cluster, hit("tb", "a"))
    assert [address for address, _ in cluster.asked] == [NODES[1]]
    assert cluster.topology.owner(0) == NODES[1]
    assert cluster.topology.is_doubtful
    assert len(cluster.lists) == 2
    assert decide(cluster, hit("tb", "a", holder="another"))
    assert len(cluster.lists) == 3


def test_a_key_that_has_moved_ahead_is_asked_for_by_way_of_exception(cluster: FakeCluster) -> None:
    cluster.topology.is_doubtful = False
    cluster.begin_moving(0, NODES[1])
    assert decide(cluster, hit("tb", "a"))
    routed = cluster.lists[1][0]
    assert routed.at is not None
    assert (routed.at.address, routed.at.is_asking) == (NODES[1], True)
    assert cluster.topology.owner(0) == NODES[0]
    assert not cluster.topology.is_doubtful


def test_a_slot_that_arrives_while_it_is_asked_for_by_way_of_exception_is_found(cluster: FakeCluster) -> None:
    cluster.begin_moving(0, NODES[1])

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        if routed_groups[0].at is not None and routed_groups[0].at.is_asking:
            cluster.end_moving(0)
            cluster.move(0, NODES[2])
        return cluster.send(routed_groups)

    (answer,) = ask(cluster, group(hit("tb", "a")), send=send)
    assert isinstance(answer, Decision)
    assert cluster.topology.owner(0) == NODES[2]
    assert [address for address, _ in cluster.asked] == [NODES[2]]


@pytest.mark.parametrize("is_asking", [False, True])
def test_nodes_that_point_to_each_other_without_end_are_an_outage(cluster: FakeCluster, is_asking: bool) -> None:
    sent: list[RoutedGroup] = []

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        sent.extend(routed_groups)
        return [Redirect("redis://node:1", NODES[len(sent) % 3], is_asking=is_asking)]

    (answer,) = ask(cluster, group(hit("tb", "a")), send=send)
    assert isinstance(answer, StoreOutage)
    assert not isinstance(answer, Redirect)
    assert "point to each other" in str(answer)
    assert answer.store == "redis://node:1"
    assert len(sent) <= MAX_NODES + 1


def test_what_is_given_back_waits_for_nodes_that_point_to_each_other(cluster: FakeCluster) -> None:
    spent = hit("tb", "a", 2)
    (back,) = give_back_groups(decide(cluster, spent))
    for refusals in range(MAX_NODES + len(RETURN_PAUSES_MS)):
        sent: list[RoutedGroup] = []

        def send(groups: list[RoutedGroup], sent: list[RoutedGroup] = sent, refusals: int = refusals) -> list[Answer]:
            sent.extend(groups)
            if len(sent) <= refusals:
                return [Redirect("node", NODES[len(sent) % 2], is_asking=len(sent) % 3 == 0)]
            cluster.topology.moved(0, NODES[0])
            return [cluster.answer(routed._replace(at=None)) for routed in groups]

        (answer,) = ask(cluster, back, send=send)
        assert isinstance(answer, Decision)
        assert [routed.pause_ms for routed in sent] == [*[0] * MAX_NODES, *RETURN_PAUSES_MS][: refusals + 1]
        assert all(routed.at is None for routed in sent if routed.pause_ms)  # after a while, it is out of date
        assert remaining(cluster, spent) == [3]
        assert decide(cluster, spent)


def test_what_is_given_back_lapses_where_nodes_point_to_each_other_without_end(cluster: FakeCluster) -> None:
    sent: list[RoutedGroup] = []

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        sent.extend(routed_groups)
        return [Redirect("node", NODES[len(sent) % 2])]

    (answer,) = ask(cluster, group(hit("tb", "a"), action="give_back"), send=send)
    assert isinstance(answer, StoreOutage)
    assert not isinstance(answer, Redirect)
    assert sum(routed.pause_ms for routed in sent) < RETURNING_S * 1_000


def test_a_key_that_was_removed_while_its_slot_is_moved_is_asked_for_where_that_goes(cluster: FakeCluster) -> None:
    cluster.begin_moving(0, NODES[1])

    def send_once(routed_groups: list[RoutedGroup]) -> list[Answer]:
        cluster.lists.append(routed_groups)
        return [Removed("node")] if len(cluster.lists) == 1 else [cluster.answer(routed) for routed in routed_groups]

    (answer,) = ask(cluster, group(hit("tb", "a")), send=send_once)
    assert isinstance(answer, Decision)
    assert [address for address, _ in cluster.asked] == [NODES[1]]
    (answer,) = ask(cluster, group(hit("tb", "a"), hit("sl", "a")), send=lambda _: [Removed("node")])
    assert isinstance(answer, StoreOutage)  # one of them may have been counted: it is not asked for again
    assert not isinstance(answer, Redirect)


def test_nodes_that_point_to_each_other_for_a_later_part_cost_the_earlier_ones_nothing(cluster: FakeCluster) -> None:
    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        return [
            Redirect("node", NODES[2]) if routed.slot == 1 else cluster.answer(routed)  # it says the same as before
            for routed in routed_groups
        ]

    (answer,) = ask(cluster, group(hit("tb", "a"), hit("tb", "b")), send=send)
    assert isinstance(answer, StoreOutage)
    assert cluster.taken == set()
    assert asked(cluster) == [("spend", "a"), ("give_back", "a")]


def test_what_was_taken_before_a_slot_moved_is_given_back_where_it_is_now(cluster: FakeCluster) -> None:
    hits = [hit("tb", "a"), hit("tb", "b")]
    cluster.fill(hits[1])

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        if routed_groups[0].slot == 1:
            cluster.move(0, NODES[2])
        return cluster.send(routed_groups)

    (answer,) = ask(cluster, group(*hits), send=send)
    assert not answer
    assert cluster.asked[-1] == (NODES[2], cluster.asked[-1][1])
    assert asked(cluster)[-1] == ("give_back", "a")
    assert remaining(cluster, *hits) == [3, 0]


def test_a_group_whose_keys_are_at_both_ends_is_taken_hit_by_hit(cluster: FakeCluster) -> None:
    hits = [hit("tb", "a"), hit("sl", "a2"), hit("cc", "a3")]
    for one in hits:
        cluster.fill(one, 1)
    cluster.begin_moving(0, NODES[1])
    cluster.move_key(0, 1)
    answer = decide(cluster, *hits)
    assert answer
    assert [place for _, place in asked(cluster)] == ["a", "a", "a"]
    assert remaining(cluster, *hits) == [1, 1, 0]
    again = decide(cluster, *(one._replace(holder="another") for one in hits))
    assert not again
    assert again.binding == "cc"
    assert remaining(cluster, *hits) == [1, 1, 0]


def test_a_later_part_whose_keys_are_at_both_ends_makes_all_be_taken_hit_by_hit(cluster: FakeCluster) -> None:
    hits = [hit("tb", "a"), hit("sl", "b"), hit("sl", "b2")]
    hits.sort(key=lambda one: one.limit.capacity / one.limit.period_us)
    for one in hits:
        cluster.fill(one, 1)
    cluster.begin_moving(1, NODES[2])
    cluster.move_key(1, 0)
    assert decide(cluster, *hits)
    assert asked(cluster) == [("spend", "a"), ("give_back", "a"), ("spend", "a"), ("spend", "b"), ("spend", "b")]
    assert remaining(cluster, *hits) == [1, 1, 1]


def test_one_key_that_is_at_neither_end_is_an_outage_in_the_end(cluster: FakeCluster) -> None:
    asked_often = itertools.count()

    def send(routed_groups: list[RoutedGroup]) -> list[Answer]:
        assert routed_groups[0].at is None
        next(asked_often)
        return [Redirect("node", None)]

    (answer,) = ask(cluster, group(hit("tb", "a")), send=send)
    assert isinstance(answer, StoreOutage)
    assert not isinstance(answer, Redirect)
    assert next(asked_often) <= MAX_NODES + 1


@pytest.mark.parametrize(
    ("text", "address", "is_asking"),
    [
        ("MOVED 3999 127.0.0.1:6381", Address("127.0.0.1", 6381), False),
        ("ASK 3999 node.example:6381", Address("node.example", 6381), True),
        ("MOVED 3999 :6381", Address("asked", 6381), False),
        ("MOVED 3999 ::1:6381", Address("::1", 6381), False),
        ("MOVED 3999 fe80::1:2:6381", Address("fe80::1:2", 6381), False),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None, False),
        ("TRYAGAIN", None, False),
    ],
)
def test_a_redirection_says_where_to(text: str, address: Address | None, is_asking: bool) -> None:
    told = plans.redirect_of(text, "redis://asked:1", Address("asked", 1), Topology([]))
    assert told is not None
    assert (told.address, told.is_asking, told.store) == (address, is_asking, "redis://asked:1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "MOVED",
        "MOVED 3999",
        "MOVED 3999 nowhere",
        "MOVED 3999 node:port",
        "ASK 1 ?:6379",
        "MOVEDX 3999 127.0.0.1:6381",
        "CLUSTERDOWN Hash slot not served",
        "NOSCRIPT No matching script",
        "ERR MOVED 3999 127.0.0.1:6381",
    ],
)
def test_other_errors_are_no_redirections(text: str) -> None:
    assert plans.redirect_of(text, "redis://asked:1", Address("asked", 1), Topology([])) is None


def test_a_redirection_is_told_in_addresses_by_which_we_can_reach_the_node() -> None:
    topology = Topology([], lambda address: ("localhost", address.port + 1))
    told = plans.redirect_of("MOVED 1 10.0.0.1:7000", "here", Address("asked", 1), topology)
    assert told is not None
    assert told.address == Address("localhost", 7001)


# Several at once


class Running:
    """A plan, and what it wants next."""

    def __init__(self, plan: Plan[list[RoutedGroup], list[Answer]]) -> None:
        self._plan = plan
        self.routed_groups: list[RoutedGroup] | None = next(plan)
        self.answers: list[Answer] = []

    def step(self, cluster: FakeCluster) -> None:
        assert self.routed_groups is not None
        try:
            self.routed_groups = self._plan.send(cluster.send(self.routed_groups))
        except StopIteration as done:
            self.routed_groups, self.answers = None, done.value


def run_all(
    cluster: FakeCluster, groups: list[Group], choose: Choose, happenings: Sequence[Callable[[], None]]
) -> list[Decision]:
    """Run plans in some order, while things happen."""
    running = [Running(plans.decide([one], slot_of, cluster.topology)) for one in groups]
    to_come = list(happenings)
    while active := [plan for plan in running if plan.routed_groups is not None]:
        choice = choose(len(active) + (len(to_come) > 0))
        if choice == len(active):
            to_come.pop(0)()
        else:
            active[choice].step(cluster)
    return [answer for plan in running for answer in plan.answers if isinstance(answer, Decision)]


@pytest.mark.parametrize("kind", KINDS)
def test_in_whatever_order_plans_are_run_no_key_is_over_its_limit_and_none_loses_tokens(kind: str) -> None:
    most = LIMITS[kind].capacity
    cost = most // 2 + 1
    seen = set()

    def run(choose: Choose) -> None:
        cluster = FakeCluster()
        orders = ["ab", "bc", "ba"]
        groups = [
            group(*(hit(kind, key, cost, f"holder {number}") for key in order)) for number, order in enumerate(orders)
        ]
        answers = run_all(cluster, groups, choose, ())
        assert len(answers) == 3
        for key in "abc":
            granted = sum(one.cost for answer in answers if answer for one in answer.group.hits if one.key == key)
            assert granted <= most
            assert remaining(cluster, hit(kind, key)) == [most - granted]
        seen.add(sum(answer.allowed for answer in answers))

    assert explore(run) >= 100
    assert seen >= {1}


@given(st.sampled_from(["tb", "calendar", "cc"]), st.lists(st.integers(0, 11), min_size=15, max_size=40))
def test_in_whatever_order_plans_are_run_while_a_slot_is_moved_no_key_is_over_its_limit(
    kind: str, choices: list[int]
) -> None:
    most, cluster, left = LIMITS[kind].capacity, FakeCluster(), iter(choices)
    groups = [
        group(*(hit(kind, key, most, f"{number}") for key in order), hit("burst", "a2", 1, f"{number}"))
        for number, order in enumerate(["ab", "ba", "ab"])
    ]
    happenings = [
        lambda: cluster.begin_moving(0, NODES[1]),
        lambda: cluster.move_key(0, 0),
        lambda: cluster.end_moving(0),
    ]
    answers = run_all(cluster, groups, lambda possibilities: next(left, 0) % possibilities, happenings)
    assert len(answers) == 3
    for place in (("a", kind), ("b", kind), ("a2", "burst")):
        granted = sum(
            one.cost for answer in answers if answer for one in answer.group.hits if (one.key, one.name) == place
        )
        assert granted <= LIMITS[place[1]].capacity
        assert remaining(cluster, hit(place[1], place[0])) == [LIMITS[place[1]].capacity - granted]


def test_alone_a_group_that_fits_is_allowed_again_after_it_was_given_back(cluster: FakeCluster) -> None:
    for number in range(3):
        answer = decide(cluster, *(hit(kind, key, 2, f"{number}") for kind, key in zip(KINDS, "abcabca", strict=True)))
        assert answer
        ask(cluster, *give_back_groups(answer))
    assert cluster.taken == set()


# What goes to one node


Send = Callable[[list[Script]], list[Any]]


def refused(text: str) -> StoreOutage:
    return StoreUnavailable("node", text)


def at_node(
    server: FakeServer, groups: Sequence[Group], send: Send | None = None, near_us: int | None = None
) -> list[Answer]:
    def in_slot(own: Sequence[Group]) -> Plan[Script, list[Answer]]:
        return redis.decide(own, prefix="p", near_us=server.now_us if near_us is None else near_us, refused=refused)

    def send_all(scripts: list[Script]) -> list[Any]:
        return [server.send(script) for script in scripts]

    return drive(plans.at_node(groups, slot_of, in_slot), send or send_all)


def slots(script: Script) -> set[str]:
    """The slots of a script's keys, by their letters."""
    return {key.removeprefix("p:{")[0] for key in read_call(script.packed).keys}


class Sending:
    """Hands scripts on to a server, unless it is told what comes instead: for a slot, at the n-th time."""

    def __init__(self, server: FakeServer, instead: dict[tuple[str, int], Any] | None = None) -> None:
        self.server = server
        self.instead = instead or {}
        self.lists: list[list[Script]] = []

    def __call__(self, scripts: list[Script]) -> list[Any]:
        self.lists.append(scripts)
        replies = []
        for script in scripts:
            (slot,) = slots(script)
            reply = self.instead.get((slot, len(self.lists)))
            replies.append(self.server.send(script) if reply is None else reply)
        return replies

    @property
    def slots(self) -> list[str]:
        """The slots of each list."""
        return ["".join(slot for script in scripts for slot in slots(script)) for scripts in self.lists]


@pytest.fixture
def server() -> FakeServer:
    """A node that knows all the scripts that are used here."""
    server = FakeServer()
    warm = [[group(hit(kind, "z"))] for kind in KINDS]
    warm += [[group(hit("calendar", "z")), group(hit("tb", "z"))], [group(hit("calendar", "z"), hit("tb", "z"))]]
    for groups in warm:
        at_node(server, groups)
        at_node(server, [*groups, *groups])
    server.states.clear()
    server.runs = 0
    return server


def test_a_script_goes_for_each_slot_all_of_them_at_once(server: FakeServer) -> None:
    groups = [group(hit(kind, f"{key}{number}")) for number, (kind, key) in enumerate(itertools.product(KINDS, "cab"))]
    for _ in range(2):  # once the scripts are known
        sending = Sending(server)
        answers = at_node(server, groups, sending)
    assert sending.slots == ["cab"]
    assert [answer.group for answer in answers if isinstance(answer, Decision)] == groups


@given(st.lists(st.tuples(st.sampled_from(["tb", "fw", "cc"]), st.sampled_from("abc")), max_size=quickly(12)))
def test_a_slots_groups_keep_their_order_and_answers_come_in_the_callers(made: list[tuple[str, str]]) -> None:
    groups = [group(hit(kind, key, 1, f"{number}")) for number, (kind, key) in enumerate(made)]
    server = FakeServer()
    one = MemoryStore(lambda: server.now_us)
    answers = at_node(server, groups)
    assert len(answers) == len(groups)
    for answer, expected in zip(answers, one.decide(groups), strict=True):
        assert isinstance(answer, Decision)
        assert told(answer) == told(expected)


@pytest.mark.parametrize(
    "reply",
    [StoreUnavailable("node", "gone"), Redirect("node", NODES[1]), Redirect("node", NODES[1], is_asking=True)],
)
def test_the_error_of_a_slot_is_that_of_its_groups_alone(server: FakeServer, reply: StoreOutage) -> None:
    groups = [group(hit("tb", key)) for key in ("a", "b", "a2", "c", "b2")]
    sending = Sending(server, {("b", 1): reply})
    answers = at_node(server, groups, sending)
    assert [answer is reply for answer in answers] == [False, True, False, False, True]
    assert sending.slots == ["abc"]
    assert server.runs == 2


def test_a_reply_that_is_no_answer_fails_the_groups_of_its_slot_alone(server: FakeServer) -> None:
    groups = [group(hit("tb", key)) for key in ("a", "b", "a2", "b2")]
    answers = at_node(server, groups, Sending(server, {("b", 1): [1, "nonsense"]}))
    assert [isinstance(answer, Decision) for answer in answers] == [True, False, True, False]
    assert redis.NO_ANSWER in str(answers[1])


def test_a_script_that_is_missing_is_sent_whole_for_the_slots_that_lack_it() -> None:
    server = FakeServer()
    at_node(server, [group(hit("tb", "z"))])
    sending = Sending(server)
    groups = [group(hit("tb", "a")), group(hit("cc", "b")), group(hit("tb", "c")), group(hit("sl", "d"))]
    answers = at_node(server, groups, sending)
    assert all(isinstance(answer, Decision) and answer for answer in answers)
    assert sending.slots == ["abcd", "bd"]
    assert [script.is_whole for script in sending.lists[1]] == [True, True]
    assert server.runs == 5


def test_a_merged_script_whose_keys_are_at_both_ends_is_asked_for_group_by_group(server: FakeServer) -> None:
    groups = [group(hit("tb", key, 3)) for key in ("a", "b", "a2", "a")]
    sending = Sending(server, {("a", 1): Redirect("node", None)})
    answers = at_node(server, groups, sending)
    assert sending.slots == ["ab", "aaa"]
    assert [answer.allowed for answer in answers if isinstance(answer, Decision)] == [True, True, True, False]
    assert server.runs == 4


def test_a_group_that_is_redirected_by_itself_says_so_and_the_others_are_answered(server: FakeServer) -> None:
    ahead = Redirect("node", NODES[1], is_asking=True)

    def send(scripts: list[Script]) -> list[Any]:
        replies: list[Any] = []
        for script in scripts:
            keys = read_call(script.packed).keys
            if len(keys) > 1:
                replies.append(Redirect("node", None))
            else:
                replies.append(ahead if "a2" in keys[0] else server.send(script))
        return replies

    answers = at_node(server, [group(hit("tb", key)) for key in ("a", "a2", "a3")], send)
    assert answers[1] is ahead
    assert isinstance(answers[0], Decision)
    assert isinstance(answers[2], Decision)


def test_a_lone_group_whose_keys_are_at_both_ends_is_not_asked_for_again_at_this_node(server: FakeServer) -> None:
    apart = Redirect("node", None)
    sending = Sending(server, {("a", 1): apart})
    assert at_node(server, [group(hit("tb", "a"), hit("sl", "a2"))], sending) == [apart]
    assert sending.slots == ["a"]


@pytest.mark.parametrize(
    "reply", [StoreUnavailable("node", "gone"), Redirect("node", NODES[1]), Redirect("node", None)], ids=repr
)
@pytest.mark.parametrize("is_thrown", [False, True])
def test_what_the_first_run_of_a_script_has_judged_is_not_asked_again(
    server: FakeServer,
    reply: StoreOutage,
    is_thrown: bool,
) -> None:
    groups = [group(hit("tb", "a", 2)), group(hit("calendar", "a", 2)), group(hit("tb", "a2")), group(hit("tb", "b"))]
    sending = Sending(server, {} if is_thrown else {("a", 2): reply})

    def send(scripts: list[Script]) -> list[Any]:
        if is_thrown and len(sending.lists) == 1:
            raise reply
        return sending(scripts)

    answers = at_node(server, groups, send, near_us=0)  # no calendar window can be found at first
    assert [isinstance(answer, Decision) for answer in answers] == [True, False, True, True]
    assert answers[1] is reply
    assert sending.slots == (["ab"] if is_thrown else ["ab", "a"])
    again = at_node(server, [group(hit("tb", "a", 0))])
    assert isinstance(again[0], Decision)
    assert again[0].remaining == 1


def test_several_that_a_script_has_left_over_are_asked_for_apart(server: FakeServer) -> None:
    groups = [group(hit("tb", "a", 2)), *(group(hit("calendar", key, 2)) for key in ("a", "a2", "a"))]
    sending = Sending(server, {("a", 2): Redirect("node", None)})
    answers = at_node(server, groups, sending, near_us=server.now_us - 10**15)
    assert sending.slots[:3] == ["a", "a", "aaa"]
    assert [answer.allowed for answer in answers if isinstance(answer, Decision)] == [True, True, True, True]
    (after,) = at_node(server, [group(hit("calendar", "a", 0), hit("tb", "a", 0), action="peek")])
    assert isinstance(after, Decision)
    assert (after.remaining, after.binding) == (1, "calendar")


@pytest.mark.parametrize("error", [StoreTimeout("node", "late"), KeyboardInterrupt()])
def test_what_the_way_to_a_node_raises_is_every_groups_outage_or_goes_on(
    server: FakeServer, error: BaseException
) -> None:
    def send(scripts: list[Script]) -> list[Any]:
        raise error

    groups = [group(hit("tb", key)) for key in "aab"]
    if isinstance(error, StoreOutage):
        assert at_node(server, groups, send) == [error] * 3
    else:
        with pytest.raises(KeyboardInterrupt):
            at_node(server, groups, send)
    assert server.runs == 0
