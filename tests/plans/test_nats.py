"""The plans for a bucket of NATS: whatever the order in which processes read and write, what comes of it is what would
come of one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.algorithms import token_bucket
from headgate.clock import ManualClock
from headgate.decision import Answer, Decision
from headgate.drive import Plan, drive
from headgate.errors import StoreOutage, StoreTimeout
from headgate.hits import Group, Hit, Once
from headgate.limits import Concurrency, Limit, Penalty, SlidingLog, TokenBucket
from headgate.plans.groups import give_back_groups, returns_of
from headgate.plans.nats import Commit, Kept, Known, Pause, Place, Places, Read, Restored, restore
from headgate.plans.nats.judging import LAST_STALLED_PAUSE_US, MAX_TRIES
from headgate.plans.nats.kept import written
from headgate.plans.nats.parts import MAX_PUTS
from headgate.plans.nats.places import text_of, token_of
from headgate.stores.memory import MemoryStore
from tests.interrupting import Interruption
from tests.plans.exploring import Choose, explore
from tests.plans.fake_bucket import FakeBucket

BUCKET: Final = TokenBucket(3, per=60)
LOG: Final = SlidingLog(2, per=60)
SLOTS: Final = Concurrency(2, ttl=60)


def hit(key: str = "a", limit: Limit = BUCKET, cost: int = 1, holder: str = "h") -> Hit:
    return Hit(limit, key, limit.code, cost, holder)


def spend(*hits: Hit) -> Group:
    return Group(hits)


def peek(*hits: Hit) -> Group:
    return Group(hits, 0, "peek")


def ask(bucket: FakeBucket, known: Known, *groups: Group) -> list[Answer]:
    return drive(bucket.plan(known, *groups), bucket.send)


def verdicts(answers: list[Answer]) -> list[bool | None]:
    return [None if isinstance(answer, StoreOutage) else answer.allowed for answer in answers]


# How often the server is asked


def test_an_entry_of_which_nothing_is_remembered_takes_one_round_trip() -> None:
    bucket = FakeBucket()
    assert verdicts(ask(bucket, Known(), spend(hit()))) == [True]
    assert bucket.asked() == ["CR"]


def test_an_entry_that_is_remembered_takes_one_round_trip_and_no_read() -> None:
    bucket, known = FakeBucket(), Known()
    for _ in range(3):
        assert verdicts(ask(bucket, known, spend(hit()))) == [True]
    assert bucket.asked() == ["CR", "C", "C"]


def test_an_entry_that_others_wrote_takes_two() -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, Known(), spend(hit()))
    bucket.rounds.clear()
    assert verdicts(ask(bucket, known, spend(hit()))) == [True]
    assert bucket.asked() == ["CR", "N", "C"]


def test_an_entry_that_is_over_is_taken_for_removed() -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, spend(hit()))
    bucket.clock.advance(seconds=20.5)
    bucket.rounds.clear()
    ask(bucket, known, spend(hit()))
    assert bucket.asked() == ["C"]  # it has just ended, and may still be there
    bucket.clock.advance(seconds=30)
    bucket.entries.clear()
    bucket.rounds.clear()
    ask(bucket, known, spend(hit()))
    assert bucket.asked() == ["CR"]


def test_memory_that_was_wrong_is_doubted_for_a_while() -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, spend(hit()))
    bucket.touch(hit())
    bucket.rounds.clear()
    ask(bucket, known, spend(hit()))
    assert bucket.asked() == ["C", "R", "N", "C"]
    bucket.touch(hit())
    bucket.rounds.clear()
    ask(bucket, known, spend(hit()))
    assert bucket.asked() == ["CR", "N", "C"]


def test_a_denial_is_never_given_by_memory_alone() -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, spend(hit(cost=3)))
    bucket.rounds.clear()
    assert verdicts(ask(bucket, known, spend(hit()))) == [False]
    assert bucket.asked() == ["R", "N"]
    ask(bucket, Known(), Group((hit(),), 0, "forget"))  # elsewhere
    assert verdicts(ask(bucket, known, spend(hit()))) == [True]


def test_a_denial_stands_on_the_write_of_another_group_of_its_batch() -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, peek(hit()))
    bucket.rounds.clear()
    assert verdicts(ask(bucket, known, *[spend(hit())] * 5)) == [True, True, True, False, False]
    assert bucket.asked() == ["C"]


def test_a_peek_reads() -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, spend(hit()))
    bucket.rounds.clear()
    (decision,) = ask(bucket, known, peek(hit(cost=0)))
    assert isinstance(decision, Decision)
    assert decision.remaining == 2
    assert bucket.asked() == ["R", "N"]


def test_a_group_of_several_keys_is_one_commit() -> None:
    bucket = FakeBucket()
    assert verdicts(ask(bucket, Known(), spend(hit("a"), hit("b"), hit("c")))) == [True]
    assert bucket.asked() == ["C3RRR"]


def test_groups_without_an_entry_in_common_are_committed_for_themselves() -> None:
    bucket, known = FakeBucket(), Known()
    groups = [spend(hit("a")), spend(hit("b"), hit("c")), spend(hit("d")), spend(hit("c"), hit("e")), spend(hit("d"))]
    ask(bucket, known, *groups)
    assert bucket.asked() == ["CRC3RRRCR"]
    bucket.touch(hit("a"))
    bucket.rounds.clear()
    assert verdicts(ask(bucket, known, *groups[:3])) == [True] * 3
    assert bucket.asked() == ["CC2C", "R", "N", "C"]  # the first one again, and no other


def test_groups_of_several_keys_go_in_one_commit() -> None:
    bucket, known = FakeBucket(), Known()
    groups = [spend(hit("a"), hit("b")), spend(hit("c")), spend(hit("d"), hit("e"))]
    assert verdicts(ask(bucket, known, *groups)) == [True] * 3
    assert bucket.asked() == ["C4RRRRCR"]
    pairs = [spend(hit(f"{number}", cost=3), hit(f"{number}", LOG)) for number in range(MAX_PUTS // 2 + 100)]
    bucket.rounds.clear()
    assert verdicts(ask(bucket, known, *pairs, *pairs[:1])) == [True] * len(pairs) + [False]
    first, *_ = bucket.rounds
    assert [len(one.puts) for one in first if isinstance(one, Commit)] == [MAX_PUTS, 200]


def test_groups_of_several_keys_go_apart_where_one_is_beaten() -> None:
    bucket, known = FakeBucket(), Known()
    groups = [spend(hit("a"), hit("b")), spend(hit("c"), hit("d")), spend(hit("e"), hit("f"))]
    for _ in range(2):
        verdict = verdicts(drive(bucket.plan(known, *groups), always_beaten(bucket)))
        assert verdict == [None, True, True]
    bucket.rounds.clear()
    assert verdicts(ask(bucket, known, *groups)) == [True] * 3
    assert any("C4" in asked for asked in bucket.asked())  # those whom nobody beats go together as before


@pytest.mark.parametrize("is_of_server", [True, False])
def test_an_outage_of_one_group_is_not_that_of_those_that_go_with_it(*, is_of_server: bool) -> None:
    bucket = FakeBucket()

    def send(commands: list[Any]) -> list[Any]:
        outage = StoreTimeout("fake", "lost")
        outage.is_of_server = is_of_server
        return [
            outage if isinstance(one, Commit) and any(put.place.key == "a" for put in one.puts) else bucket.answer(one)
            for one in commands
        ]

    groups = [spend(hit("a"), hit("b")), spend(hit("c"), hit("d"))]
    told = verdicts(drive(bucket.plan(Known(), *groups), send))
    assert told == ([None, None] if is_of_server else [None, True])  # else nobody knows what was written


def test_entries_that_repeat_are_folded() -> None:
    bucket = FakeBucket()
    answers = ask(bucket, Known(), spend(hit("a"), hit("b")), spend(hit("b"), hit("c")), spend(hit("b"), hit("a")))
    assert verdicts(answers) == [True, True, True]
    assert bucket.asked() == ["C3RRR"]


def test_more_entries_than_go_in_one_commit_are_committed_one_half_after_the_other() -> None:
    bucket = FakeBucket()
    groups = [spend(hit("all", TokenBucket(10_000, per=60)), hit(f"k{number}")) for number in range(MAX_PUTS + 100)]
    assert all(verdicts(ask(bucket, Known(), *groups)))
    commits = [command for commands in bucket.rounds for command in commands if isinstance(command, Commit)]
    assert max(len(commit.puts) for commit in commits) <= MAX_PUTS


# Lives


def test_an_entry_lives_for_as_long_as_it_says_something_in_whole_seconds_rounded_up() -> None:
    bucket = FakeBucket()
    ask(bucket, Known(), spend(hit(limit=TokenBucket(1, per=1.5))))
    assert list(bucket.lives_s.values()) == [2]


def test_what_is_forgotten_leaves_a_marker_that_goes_in_a_second() -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, spend(hit()))
    ask(bucket, known, Group((hit(),), 0, "forget"))
    assert [(kept.text, bucket.lives_s[place]) for place, kept in bucket.entries.items()] == [(None, 1)]
    assert written(None, 0) == b""


# Races

Outcome = tuple[tuple[bool | None, ...], ...]


def serially(*batches: list[Group]) -> set[tuple[Outcome, tuple[int, ...]]]:
    """What may come of batches, one after the other in any order: the verdicts, and what remains of each hit."""
    outcomes: set[tuple[Outcome, tuple[int, ...]]] = set()
    for order in itertools.permutations(range(len(batches))):
        store = MemoryStore(ManualClock())
        answered = {index: tuple(decision.allowed for decision in store.decide(batches[index])) for index in order}
        remaining = tuple(store.decide([peek(one._replace(cost=0))])[0].remaining for one in hits_of(batches))
        outcomes.add((tuple(answered[index] for index in range(len(batches))), remaining))
    return outcomes


def hits_of(batches: tuple[list[Group], ...]) -> list[Hit]:
    hits = {(one.key, one.name): one for batch in batches for group in batch for one in group.hits}
    return list(hits.values())


def race(bucket: FakeBucket, plans: list[Plan[list[Any], list[Answer]]], choose: Choose) -> list[list[Answer] | None]:
    """Run plans side by side, in an order of choice: each read and each commit by itself."""
    results: list[list[Answer] | None] = [None] * len(plans)
    asked: dict[int, tuple[list[Any], list[Any]]] = {}

    def go_on(index: int, replies: list[Any] | None) -> None:
        try:
            commands, given = plans[index].send(replies), list[Any]()
            while len(given) < len(commands) and not isinstance(commands[len(given)], (Read, Commit)):
                given.append(bucket.answer(commands[len(given)]))  # whenever it is asked
            asked[index] = commands, given
            if len(given) == len(commands):
                go_on(index, given)
        except StopIteration as done:
            results[index] = done.value
            asked.pop(index, None)

    for index in range(len(plans)):
        go_on(index, None)
    while asked:
        index = list(asked)[choose(len(asked))]
        commands, given = asked[index]
        given.append(bucket.answer(commands[len(given)]))
        if len(given) == len(commands):
            go_on(index, given)
    return results


RACES: Final[dict[str, tuple[list[Group], ...]]] = {
    "one key": ([spend(hit(cost=2))], [spend(hit(cost=2))]),
    "batches of one key": ([spend(hit(cost=2)), spend(hit())], [spend(hit(cost=2))]),
    "two keys, crosswise": ([spend(hit("a", cost=2), hit("b", cost=2))], [spend(hit("b", cost=2), hit("a", cost=2))]),
    "two keys and one of them": ([spend(hit("a", cost=2), hit("b"))], [spend(hit("a", cost=2))]),
    "a log": ([spend(hit(limit=LOG))], [spend(hit(limit=LOG, cost=2))]),
    "slots": ([spend(hit(limit=SLOTS, holder="x"))], [spend(hit(limit=SLOTS, cost=2, holder="y"))]),
    "pairs, crosswise": (
        [spend(hit("a", cost=2), hit("b")), spend(hit("c"), hit("d", cost=2))],
        [spend(hit("d", cost=2), hit("a", cost=2))],
    ),
    "a spend and a reset": ([spend(hit(cost=3))], [Group((hit(),), 0, "forget")]),
    "a denial and a reset": ([spend(hit(cost=2)), spend(hit(cost=2))], [Group((hit(),), 0, "forget")]),
}


@pytest.mark.parametrize("memory", ["nothing", "as-it-is", "out-of-date"])
@pytest.mark.parametrize("batches", RACES.values(), ids=RACES)
def test_races_end_as_if_one_had_come_after_the_other(batches: tuple[list[Group], ...], memory: str) -> None:
    allowed = serially(*batches)

    def run(choose: Choose) -> None:
        bucket = FakeBucket()
        known = [Known() for _ in batches]
        if memory != "nothing":
            for one in known:
                for group in (peek(one_hit._replace(cost=0)) for one_hit in hits_of(batches)):
                    ask(bucket, one, group)
        if memory == "out-of-date":
            for one_hit in hits_of(batches):
                bucket.touch(one_hit)
        plans = [bucket.plan(one, *batch) for one, batch in zip(known, batches, strict=True)]
        results = race(bucket, plans, choose)
        outcome = tuple(tuple(verdicts(answers or [])) for answers in results)
        remaining = []
        for one_hit in hits_of(batches):
            (decision,) = ask(bucket, Known(), peek(one_hit._replace(cost=0)))
            assert isinstance(decision, Decision)
            remaining.append(decision.remaining)
        assert (outcome, tuple(remaining)) in allowed

    assert explore(run) > 1


def test_races_of_three_end_likewise() -> None:
    batches = ([spend(hit(cost=2))], [spend(hit(cost=2))], [spend(hit())])
    allowed = {outcome for outcome, _ in serially(*batches)}

    def run(choose: Choose) -> None:
        bucket = FakeBucket()
        results = race(bucket, [bucket.plan(Known(), *batch) for batch in batches], choose)
        assert tuple(tuple(verdicts(answers or [])) for answers in results) in allowed

    assert explore(run) > 100


APART: Final[dict[str, tuple[list[Group], ...]]] = {
    "crosswise": ([spend(hit("a", cost=2), hit("b", cost=2))], [spend(hit("b", cost=2), hit("a", cost=2))]),
    "two keys and one of them": ([spend(hit("a", cost=2), hit("b", cost=2))], [spend(hit("b", cost=2))]),
}


@pytest.mark.parametrize("batches", APART.values(), ids=APART)
def test_where_entries_are_written_singly_what_is_gone_is_what_was_admitted(batches: tuple[list[Group], ...]) -> None:
    def run(choose: Choose) -> None:
        bucket = FakeBucket(is_atomic=False)
        plans = [bucket.plan(Known(), *batch) for batch in batches]
        results = race(bucket, plans, choose)
        admitted: dict[str, int] = {"a": 0, "b": 0}
        for (group,), answers in zip(batches, results, strict=True):
            if answers is not None and verdicts(answers) == [True]:
                for one in group.hits:
                    admitted[one.key] += one.cost
        for key, cost in admitted.items():
            (decision,) = ask(bucket, Known(), peek(hit(key, cost=0)))
            assert isinstance(decision, Decision)
            assert decision.remaining == BUCKET.capacity - cost >= 0

    assert explore(run) > 1


@pytest.mark.parametrize("is_atomic", [True, False])
def test_a_refund_counts_once_however_many_send_it(is_atomic: bool) -> None:
    def run(choose: Choose) -> None:
        bucket = FakeBucket(is_atomic=is_atomic)
        (decision,) = ask(bucket, Known(), spend(hit(cost=2)))
        assert isinstance(decision, Decision)
        ask(bucket, Known(), spend(hit()))
        (refund,) = give_back_groups(decision)
        refund = refund._replace(once=Once("mark", bucket.clock() + 10**9))
        race(bucket, [bucket.plan(Known(), refund) for _ in range(2)], choose)
        (after,) = ask(bucket, Known(), peek(hit(cost=0)))
        assert isinstance(after, Decision)
        assert after.remaining == 2

    assert explore(run) > 1


@pytest.mark.parametrize("is_atomic", [True, False])
@pytest.mark.parametrize("cost", [1, 2], ids=["room for two", "room for one"])
def test_a_request_is_charged_once_however_many_send_it(is_atomic: bool, cost: int) -> None:
    group = spend(hit(cost=cost))._replace(once=Once("mark", life_us=10**9))

    def run(choose: Choose) -> None:
        bucket = FakeBucket(is_atomic=is_atomic)
        bucket.is_time_left = False  # who meets another who is deciding gives up
        results = race(bucket, [bucket.plan(Known(), group) for _ in range(2)], choose)
        answers = [answer for answered in results if answered is not None for answer in answered]
        told = sorted(one.was_known for one in answers if isinstance(one, Decision))
        assert told == [False, True] or (told == [False] and not is_atomic)
        assert all(answer.allowed for answer in answers if isinstance(answer, Decision))
        (after,) = ask(bucket, Known(), peek(hit(cost=0)))
        assert isinstance(after, Decision)
        assert after.remaining == 3 - cost

    assert explore(run) > 1


@pytest.mark.parametrize("is_atomic", [True, False])
def test_a_request_that_is_undone_while_it_comes_again_is_charged_once_or_not_at_all(is_atomic: bool) -> None:
    hits = hit(), hit("a", LOG)
    group = spend(*hits)._replace(once=Once("mark", life_us=10**9))

    def run(choose: Choose) -> None:
        bucket = FakeBucket(is_atomic=is_atomic)
        (first,) = ask(bucket, Known(), group)
        race(bucket, [bucket.plan(Known(), *returns_of([first])), bucket.plan(Known(), group)], choose)
        for one in hits:
            (after,) = ask(bucket, Known(), peek(one._replace(cost=0)))
            assert isinstance(after, Decision)
            assert after.remaining == one.limit.capacity - 1
        assert [isinstance(one, Decision) and one.was_known for one in ask(bucket, Known(), group)] == [True]

    assert explore(run) > 1


def test_a_request_whose_process_died_while_it_was_decided_is_charged_when_it_comes_again() -> None:
    group = spend(hit())._replace(once=Once("mark", life_us=10**9))
    bucket = FakeBucket(is_atomic=False)
    plan = bucket.plan(Known(), group)
    commands = next(plan)
    while not any(isinstance(command, Commit) for command in commands):
        commands = plan.send(bucket.send(commands))
    bucket.send(commands)  # the mark is there, and nothing more comes
    plan.close()
    bucket.clock.advance(seconds=1)
    answers = [ask(bucket, Known(), group)[0] for _ in range(2)]
    assert [isinstance(one, Decision) and one.was_known for one in answers] == [False, True]


def test_penalties_count_each_denial_once_where_entries_are_written_singly() -> None:
    bucket = FakeBucket(is_atomic=False)
    blocked = Penalty(2, 60, 60)
    group = spend(hit("a"), Hit(blocked, "a", "penalty"))
    for _ in range(3):
        assert verdicts(ask(bucket, Known(), group)) == [True]
    assert verdicts([one for _ in range(3) for one in ask(bucket, Known(), group)]) == [False] * 3
    (decision,) = ask(bucket, Known(), peek(Hit(blocked, "a", "penalty", 1)))
    assert not decision


# What goes wrong


def commits(bucket: FakeBucket) -> int:
    return sum(isinstance(command, Commit) for commands in bucket.rounds for command in commands)


@pytest.mark.parametrize("is_written", [True, False])
def test_a_write_of_which_nobody_knows_is_never_repeated(is_written: bool) -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, spend(hit()))
    bucket.rounds.clear()

    def send(commands: list[Any]) -> list[Any]:
        if is_written:
            bucket.send(commands)
        else:
            bucket.rounds.append(commands)
        return [StoreTimeout("fake", "lost") for _ in commands]

    assert verdicts(drive(bucket.plan(known, spend(hit())), send)) == [None]
    assert commits(bucket) == 1
    bucket.rounds.clear()
    assert verdicts(ask(bucket, known, spend(hit()))) == [True]  # and memory has not gone wrong by that
    assert bucket.asked() == (["CR", "N", "C"])


@pytest.mark.parametrize("after", range(3))
def test_an_interruption_leaves_no_wrong_memory(after: int) -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, spend(hit()))
    bucket.touch(hit())
    calls = itertools.count()

    def send(commands: list[Any]) -> list[Any]:
        replies = bucket.send(commands)
        if next(calls) == after:
            raise Interruption
        return replies

    with pytest.raises(Interruption):
        drive(bucket.plan(known, spend(hit())), send)
    place = Place("tb", "tb", "a")
    kept = known.get(place)
    assert kept is None or kept == bucket.entries[place]


def always_beaten(bucket: FakeBucket) -> Callable[[list[Any]], list[Any]]:
    def send(commands: list[Any]) -> list[Any]:
        if any(isinstance(command, Commit) for command in commands):
            bucket.touch(hit())
        return bucket.send(commands)

    return send


def test_whoever_is_always_beaten_ends_with_an_outage_that_says_so() -> None:
    bucket = FakeBucket()
    (outage,) = drive(bucket.plan(Known(), spend(hit())), always_beaten(bucket))
    assert isinstance(outage, StoreOutage)
    assert "contention" in str(outage)
    assert commits(bucket) == MAX_TRIES


def test_whoever_is_beaten_stops_when_there_is_no_time_left() -> None:
    bucket = FakeBucket()
    bucket.is_time_left = False
    (outage,) = drive(bucket.plan(Known(), spend(hit())), always_beaten(bucket))
    assert isinstance(outage, StoreOutage)
    assert commits(bucket) < 5


def test_an_earlier_write_that_is_not_agreed_on_is_waited_for_and_told_as_such() -> None:
    bucket, known = FakeBucket(), Known()
    ask(bucket, known, spend(hit()))
    bucket.is_stalled = True
    (outage,) = ask(bucket, known, spend(hit()))
    assert isinstance(outage, StoreOutage)
    assert "stalled" in str(outage)
    pauses = [command.longest_us for commands in bucket.rounds for command in commands if isinstance(command, Pause)]
    assert max(pauses) == LAST_STALLED_PAUSE_US
    bucket.is_stalled = False
    assert verdicts(ask(bucket, known, spend(hit()))) == [True]


def test_whoever_lost_a_race_lets_others_go_first_for_a_while() -> None:
    bucket, known = FakeBucket(), Known()
    beaten = itertools.count()

    def send(commands: list[Any]) -> list[Any]:
        if any(isinstance(command, Commit) for command in commands) and next(beaten) < 2:
            bucket.touch(hit())
        return bucket.send(commands)

    assert verdicts(drive(bucket.plan(known, spend(hit())), send)) == [True]
    bucket.rounds.clear()
    ask(bucket, known, spend(hit()))
    assert bucket.asked()[0] == "P"


def test_an_entry_that_cannot_be_read_is_the_outage_of_its_groups_alone() -> None:
    bucket = FakeBucket()

    def send(commands: list[Any]) -> list[Any]:
        return [
            StoreTimeout("fake", "lost") if isinstance(one, Read) and one.place.key == "a" else bucket.answer(one)
            for one in commands
        ]

    assert verdicts(drive(bucket.plan(Known(), peek(hit("a")), peek(hit("b"))), send)) == [None, True]


# Restoring


def restored(bucket: FakeBucket, *entries: Restored) -> int:
    return drive(restore(entries, bucket.clock(), 0), bucket.send)


def debt(place: Place, until_us: int) -> Restored:
    """The entry of a bucket that is full again then."""
    return Restored(place, token_bucket.dump((until_us, 1, None)), until_us)


def test_restoring_keeps_the_greater_debt() -> None:
    bucket = FakeBucket()
    now_us = bucket.clock()
    place = Place("n", "tb", "k")
    assert restored(bucket, debt(place, now_us + 10_000_000)) == 1
    assert restored(bucket, debt(place, now_us + 10_000_000)) == 0
    assert restored(bucket, debt(place, now_us + 9_000_000)) == 0
    assert restored(bucket, debt(place, now_us + 9_000_000), debt(place, now_us + 10_000_001)) == 1
    assert restored(bucket, debt(place, now_us - 1)) == 0
    assert bucket.entries[place][1:] == debt(place, now_us + 10_000_001)[1:]
    assert bucket.lives_s[place] == 11


def test_restoring_while_others_write() -> None:
    bucket = FakeBucket()
    ends_us = bucket.clock() + 10**9
    beaten = itertools.count()

    def send(commands: list[Any]) -> list[Any]:
        if isinstance(commands[0], Commit) and next(beaten) == 0:
            bucket.touch(Hit(BUCKET, "k", "n"))
        return bucket.send(commands)

    assert drive(restore([debt(Place("n", "tb", "k"), ends_us)], bucket.clock(), 0), send) == 1


# Places


TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


@given(TEXTS)
def test_a_token_is_read_back(text: str) -> None:
    token = token_of(text)
    assert text_of(token) == text
    assert token
    assert token.isascii()
    assert not set(token) & set(". *>\t\r\n\0$")


@given(st.tuples(TEXTS, TEXTS), st.tuples(TEXTS, TEXTS))
def test_no_two_places_share_a_subject(one: tuple[str, str], other: tuple[str, str]) -> None:
    places = Places("bucket", "a prefix.")
    subjects = [places.subject(Place(name, "tb", key)) for name, key in (one, other)]
    assert (subjects[0] == subjects[1]) == (one == other)
    assert [places.place(subject) for subject in subjects] == [Place(name, "tb", key) for name, key in (one, other)]


def test_what_is_not_ours_has_no_place() -> None:
    places = Places("bucket", "shop")
    for subject in ("$KV.bucket.other.n.tb.k", "$KV.bucket.shop.n.tb", "$KV.bucket.shop.n.tb.=zz", "$KV.bucket.shop.n"):
        assert places.place(subject) is None


def test_the_longest_places_fit_into_a_line_of_the_protocol() -> None:
    places = Places("b" * 64, "p" * 255)
    longest = Place("n" * 255, "tb", "é" * 512 + "\0" + "m" * 20)
    assert len(places.subject(longest)) < 3_000


def test_values() -> None:
    assert Kept.read(7, written("1 2 3", 99)) == Kept(7, "1 2 3", 99)
    assert Kept.read(7, written(None, 0)) == Kept(7, None, 0)
    for value in (b"text", b"x 1 2", b"\xff 1"):
        with pytest.raises(ValueError, match=r"."):
            Kept.read(7, value)


def test_memory_is_bounded_and_forgets_what_was_not_used_for_longest() -> None:
    known = Known(2)
    places = [Place("n", "tb", key) for key in "abc"]
    for place in places:
        known.learn(place, Kept(1, "", 0))
    assert [known.get(place) is None for place in places] == [True, False, False]
    assert len(known) == 2
