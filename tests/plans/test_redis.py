"""The plan for Redis: what it sends, what it makes of every reply, and that several plans at once keep the limit."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from redis.connection import Connection

from headgate.clock import system_clock
from headgate.decision import Decision
from headgate.drive import Plan, drive
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Action, Group, Hit
from headgate.keys import storage_key
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.plans import redis as plans
from headgate.stores.redis import RedisStore
from headgate.stores.redis.server import Server
from tests.plans.exploring import Choose, explore
from tests.plans.fake_server import FakeServer, read_call

Answers = list[Decision | StoreOutage]

LIMITS: dict[str, Limit] = {
    "tb": TokenBucket(3, per=60),
    "fw": FixedWindow(3, per=60),
    "calendar": FixedWindow(3, per="month", tz="Europe/Berlin"),
    "sw": SlidingWindow(3, per=60),
    "sl": SlidingLog(3, per=60),
    "cc": Concurrency(3, ttl=60),
}
DAY_US = 86_400_000_000


def hit(limit: Limit, name: str = "name", cost: int = 1, holder: str = "holder") -> Hit:
    return Hit(limit, "key", name, cost, holder)


def group(*hits: Hit, action: Action = "spend", max_wait_us: int = 0) -> Group:
    return Group(hits, max_wait_us, action)


def ask(server: FakeServer, *groups: Group, near_us: int | None = None) -> Answers:
    plan = plans.decide(groups, prefix="p", near_us=server.now_us if near_us is None else near_us)
    return drive(plan, server.send)


def refused(text: str) -> StoreOutage:
    return StoreUnavailable("here", text)


def decisions(answers: Answers) -> list[bool]:
    assert all(isinstance(answer, Decision) for answer in answers), answers
    return [isinstance(answer, Decision) and answer.allowed for answer in answers]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


# What is sent


def test_a_batch_is_one_command(server: FakeServer) -> None:
    groups = [group(hit(limit, name), hit(limit, f"{name} too")) for name, limit in LIMITS.items()]
    assert decisions(ask(server, *groups)) == [True] * 6
    assert server.runs == 1


def test_keys_share_a_slot_of_the_cluster() -> None:
    script = next(plans.decide([group(hit(LIMITS["tb"]), hit(LIMITS["sl"], "other"))], prefix="p", near_us=0))
    assert read_call(script.packed).keys == ["p:{key}:name:tb", "p:{key}:other:sl"]


def test_a_script_holds_the_algorithms_that_its_batch_uses_and_no_others() -> None:
    for code, file in plans.FILES.items():
        _, text = plans.compose(frozenset((code,)))
        assert f"algorithms.{code} =" in text, file
        assert all(f"algorithms.{other} =" not in text for other in plans.FILES if other != code)


def test_a_digest_is_that_of_the_text() -> None:
    script = next(plans.decide([group(hit(LIMITS["sw"]))], prefix="p", near_us=0))
    assert script.sha == hashlib.sha1(script.text.encode()).hexdigest()


@pytest.mark.parametrize("kind", LIMITS)
def test_arguments_are_words_and_whole_numbers(kind: str) -> None:
    actions: list[Action] = ["spend", "peek", "forget", "renew" if kind == "cc" else "take"]
    for action in actions:
        script = next(plans.decide([group(hit(LIMITS[kind]), action=action)], prefix="p", near_us=DAY_US))
        known = {"", "holder", action, *plans.FILES}
        assert all(word in known or word.lstrip("-").isdigit() for word in read_call(script.packed).words)


@pytest.mark.parametrize("key", ["key", "ключ", "a{b}c", "%", "new\r\nline"])
@pytest.mark.parametrize("kind", LIMITS)
def test_a_call_is_packed_as_redis_py_would_pack_it(kind: str, key: str) -> None:
    script = next(plans.decide([group(hit(LIMITS[kind], cost=2)._replace(key=key))], prefix="p", near_us=0))
    make: Any = Connection
    packer = make()
    call = read_call(script.packed)
    assert call.keys == [storage_key("p", key, "name", LIMITS[kind].code)]
    assert script.packed == b"".join(packer.pack_command("EVALSHA", script.sha, 1, *call.keys, *call.words))
    whole = script.whole()
    assert whole.packed == b"".join(packer.pack_command("EVAL", script.text, 1, *call.keys, *call.words))


@pytest.mark.parametrize("kind", [kind for kind, limit in LIMITS.items() if limit.is_plain])
def test_the_fast_path_asks_and_answers_what_the_general_way_does(kind: str, server: FakeServer) -> None:
    one = group(hit(LIMITS[kind], cost=2, holder=""))
    for _ in range(3):
        fast_path = next(plans.decide([one], prefix="p", near_us=server.now_us))
        pack, read = plans.single(LIMITS[kind], "name", "p", refused)
        assert pack("key", 2) == fast_path.packed
        (found,) = ask(server, one._replace(action="peek"))
        (spent,) = ask(server, one)
        assert isinstance(found, Decision)
        assert isinstance(spent, Decision)
        assert found.allowed == spent.allowed
        told = read(server.send(fast_path), "key", 2)
        (second,) = ask(server, one._replace(action="peek"))
        assert isinstance(told, Decision)
        assert isinstance(second, Decision)
        assert (told.group, told.remaining, told.reset_after_us) == (one, second.remaining, second.reset_after_us)
        server.now_us += 1


# Single hits that are alike


SINGLE_HITS = {
    "whole": TokenBucket(3, per=60),
    "parts": TokenBucket(7, per=60, burst=3),
}


@pytest.fixture(params=SINGLE_HITS)
def single(request: pytest.FixtureRequest) -> plans.BucketSingleHit:
    return plans.BucketSingleHit(SINGLE_HITS[request.param], "name", 2, "p")


def alike(single: plans.BucketSingleHit, *keys: str) -> Plan[plans.Script, Answers]:
    return plans.decide_alike(single, keys, prefix="p")


def test_hits_that_are_alike_are_asked_and_answered_as_groups_are(single: plans.BucketSingleHit) -> None:
    keys = [f"user:{number}" for number in (1, 2, 1, 30, 1, 400, 2)]
    groups = [single.group(key) for key in keys]
    one, other = FakeServer(), FakeServer()
    verdicts: set[bool] = set()
    for _ in range(3):
        assert next(alike(single, *keys)).packed == next(plans.decide(groups, prefix="p", near_us=0)).packed
        fast_path, general = drive(alike(single, *keys), one.send), ask(other, *groups)
        assert decisions(fast_path) == decisions(general)
        verdicts.update(decisions(fast_path))
        for quick, grouped in zip(fast_path, general, strict=True):
            assert isinstance(quick, Decision)
            assert isinstance(grouped, Decision)
            assert (quick.group, quick.now_us, quick.facts) == (grouped.group, grouped.now_us, grouped.facts)
            assert repr(quick) == repr(grouped)
        for server in (one, other):
            server.now_us += 13_000_001
    assert verdicts == {True, False}


@pytest.mark.parametrize("key", ["ключ", "a{b}c", "100%", "long" * 100])
def test_a_key_that_does_not_go_straight_through_goes_with_the_others_all_the_same(
    single: plans.BucketSingleHit, server: FakeServer, key: str
) -> None:
    groups = [single.group(one) for one in ("first", key, "last")]
    plan = alike(single, "first", key, "last")
    assert next(plan).packed == next(plans.decide(groups, prefix="p", near_us=0)).packed
    assert decisions(drive(alike(single, "first", key, "last"), server.send)) == [True] * 3


def test_a_name_need_not_be_plain(server: FakeServer) -> None:
    single = plans.BucketSingleHit(SINGLE_HITS["whole"], "имя: {1} %", 2, "p")
    packed = next(alike(single, "a", "bc")).packed
    assert packed == next(plans.decide([single.group("a"), single.group("bc")], prefix="p", near_us=0)).packed
    assert decisions(drive(alike(single, "a", "bc"), server.send)) == [True] * 2


def test_hits_that_are_alike_send_a_missing_script_whole(single: plans.BucketSingleHit, server: FakeServer) -> None:
    sent = []

    def send(script: plans.Script) -> Any:
        sent.append(script.is_whole)
        return server.send(script)

    assert decisions(drive(alike(single, "a", "b"), send)) == [True] * 2
    assert decisions(drive(alike(single, "a", "b"), send)) == [False] * 2
    assert sent == [False, True, False]


def test_what_is_strange_among_hits_that_are_alike_is_judged_all_the_same(
    single: plans.BucketSingleHit, server: FakeServer
) -> None:
    before = Hit(TokenBucket(11, per=60, burst=3), "changed", "name")  # in other parts of a microsecond
    assert decisions(ask(server, group(before))) == [True]
    first, changed, last = drive(alike(single, "first", "changed", "last"), server.send)
    assert decisions([first, changed, last]) == [True] * 3
    (expected,) = ask(server, group(hit(single.limit)._replace(key="changed"), action="peek"))
    assert isinstance(changed, Decision)
    assert isinstance(expected, Decision)
    assert changed.reset_after_us == expected.reset_after_us


@pytest.mark.parametrize("reply", [[], [1], [1, 2], [1, 2, "3"], [1, 2, None], "no", 5, None])
def test_what_is_no_answer_to_hits_that_are_alike_is_an_outage(single: plans.BucketSingleHit, reply: Any) -> None:
    with pytest.raises(StoreOutage, match="no answer"):
        drive(alike(single, "a", "b", "c"), lambda _: reply)


def test_a_decision_goes_to_other_processes(single: plans.BucketSingleHit, server: FakeServer) -> None:
    for decision in drive(alike(single, "a", "a"), server.send):
        copied = pickle.loads(pickle.dumps(decision))
        assert (copied.group, copied.facts, repr(copied)) == (decision.group, decision.facts, repr(decision))  # type: ignore[union-attr]


# A script that is missing


@pytest.mark.parametrize("kind", LIMITS)
def test_a_missing_script_is_sent_whole_once(kind: str, server: FakeServer) -> None:
    sent = []

    def send(script: plans.Script) -> Any:
        sent.append(script.is_whole)
        return server.send(script)

    one = group(hit(LIMITS[kind], cost=3))
    assert decisions(drive(plans.decide([one], prefix="p", near_us=server.now_us), send)) == [True]
    assert sent == [False, True]
    again = group(hit(LIMITS[kind], holder="another"))
    assert decisions(drive(plans.decide([again], prefix="p", near_us=server.now_us), send)) == [False]
    assert sent == [False, True, False]


def test_the_whole_script_is_the_same_call() -> None:
    plan = plans.decide([group(hit(LIMITS["tb"]))], prefix="p", near_us=0)
    by_digest = next(plan)
    whole = plan.send(plans.ScriptMissing())
    assert (whole.sha, whole.is_whole) == (by_digest.sha, True)
    assert read_call(whole.packed) == read_call(by_digest.packed)._replace(command="EVAL", script=whole.text)


def test_an_outage_is_let_through_and_nothing_is_sent_again() -> None:
    sent = []

    def send(script: plans.Script) -> Any:
        sent.append(script)
        raise StoreUnavailable("here", "gone")

    with pytest.raises(StoreUnavailable):
        drive(plans.decide([group(hit(LIMITS["tb"])), group(hit(LIMITS["cc"]))], prefix="p", near_us=0), send)
    assert len(sent) == 1


# Calendar windows, for which the caller has to guess the server's time


@pytest.mark.parametrize("off_us", [-400 * DAY_US, -62 * DAY_US, 62 * DAY_US, 4_000 * DAY_US])
def test_a_wrong_guess_of_the_servers_time_costs_one_more_round_trip(server: FakeServer, off_us: int) -> None:
    ask(server, group(hit(LIMITS["calendar"], "another")))
    before = server.runs
    answers = ask(server, group(hit(LIMITS["calendar"], cost=3)), near_us=server.now_us + off_us)
    assert decisions(answers) == [True]
    assert server.runs == before + 2
    assert decisions(ask(server, group(hit(LIMITS["calendar"])))) == [False]


@pytest.mark.parametrize("off_us", [-27 * DAY_US, -DAY_US, DAY_US, 27 * DAY_US])
def test_a_guess_that_is_off_by_less_than_a_window_is_good_enough(server: FakeServer, off_us: int) -> None:
    assert decisions(ask(server, group(hit(LIMITS["calendar"])), near_us=server.now_us + off_us)) == [True]
    assert server.runs == 1


def test_only_the_groups_that_were_not_judged_are_asked_again(server: FakeServer) -> None:
    batch = [
        group(hit(LIMITS["tb"], cost=3)),
        group(hit(LIMITS["calendar"], cost=2), hit(LIMITS["sl"])),
        group(hit(LIMITS["tb"])),
        group(hit(LIMITS["calendar"], "too", cost=2)),
    ]
    assert decisions(ask(server, *batch, near_us=0)) == [True, True, False, True]
    assert server.runs == 2
    assert decisions(ask(server, *batch)) == [False, False, False, False]


@pytest.mark.parametrize("action", ["spend", "peek", "give_back", "take", "forget"])
def test_nothing_of_a_stale_group_is_done_before_it_is_asked_again(server: FakeServer, action: Action) -> None:
    ask(server, group(hit(LIMITS["calendar"], cost=2)))
    receipt = FixedWindow(3, per="month", tz="Europe/Berlin").window(server.now_us)[0]
    one = hit(LIMITS["calendar"])._replace(receipt=receipt)
    plan = plans.decide([group(one, action=action)], prefix="p", near_us=0)
    reply = server.send(next(plan))
    assert reply == [server.now_us, -1]
    again = plan.send(reply)
    with pytest.raises(StopIteration) as done:
        plan.send(server.send(again))
    assert done.value.value[0].remaining == {"spend": 0, "peek": 1, "give_back": 2, "take": 0, "forget": 3}[action]


def test_a_clock_that_keeps_jumping_is_an_outage(server: FakeServer) -> None:
    ask(server, group(hit(LIMITS["calendar"])))

    def send(script: plans.Script) -> Any:
        server.now_us += 100 * DAY_US
        return server.send(script)

    with pytest.raises(StoreOutage, match="clock jumps"):
        drive(plans.decide([group(hit(LIMITS["calendar"]))], prefix="p", near_us=0), send)
    assert decisions(ask(server, group(hit(LIMITS["calendar"], cost=3)))) == [True]


@pytest.fixture
def real(valkey_url: str, prefix: str) -> Iterator[RedisStore]:
    store = RedisStore(valkey_url, prefix=prefix, timeout=10)
    yield store
    store.close()


@pytest.mark.parametrize("off_us", [-4_000 * DAY_US, 4_000 * DAY_US])
def test_a_real_server_corrects_a_wrong_guess(real: RedisStore, prefix: str, off_us: int) -> None:
    sent = []
    server = real._servers
    assert isinstance(server, Server)

    def ask_real(script: plans.Script) -> Any:
        return server._send([script])[0]

    def send(script: plans.Script) -> Any:
        reply = ask_real(script)
        sent.append(reply)
        return reply

    limit = FixedWindow(3, per="year", tz="Europe/Berlin")
    batch = [group(hit(limit, cost=3)), group(hit(LIMITS["tb"])), group(hit(limit))]
    ask_first = plans.decide(batch[1:2], prefix=prefix, near_us=0)
    drive(ask_first, ask_real)
    answers = drive(plans.decide(batch, prefix=prefix, near_us=system_clock() + off_us), send)
    assert decisions(answers) == [True, True, False]
    replies = [reply for reply in sent if isinstance(reply, list)]
    assert len(replies) == 2
    assert replies[0][1] == replies[0][-1] == -1


# Several at once


class Running:
    """A plan, and what it wants next."""

    def __init__(self, plan: Plan[plans.Script, Answers]) -> None:
        self._plan = plan
        self.command: plans.Script | None = next(plan)
        self.answers: Answers = []

    def step(self, server: FakeServer) -> None:
        assert self.command is not None
        try:
            self.command = self._plan.send(server.send(self.command))
        except StopIteration as done:
            self.command, self.answers = None, done.value


def run_all(server: FakeServer, groups: list[list[Group]], choose: Choose, *, near_us: int, flushes: int) -> list[bool]:
    """Run plans in some order; now and then, the server forgets its scripts."""
    running = [Running(plans.decide(batch, prefix="p", near_us=near_us)) for batch in groups]
    while active := [plan for plan in running if plan.command is not None]:
        choice = choose(len(active) + (flushes > 0))
        if choice == len(active):
            server.flush()
            flushes -= 1
        else:
            active[choice].step(server)
    return [verdict for plan in running for verdict in decisions(plan.answers)]


@pytest.mark.parametrize("kind", LIMITS)
def test_in_whatever_order_plans_are_run_they_keep_the_limit(kind: str) -> None:
    def run(choose: Choose) -> None:
        server = FakeServer()
        batches = [[group(hit(LIMITS[kind], holder=f"{number}", cost=2))] for number in range(3)]
        verdicts = run_all(server, batches, choose, near_us=server.now_us, flushes=0)
        assert sum(verdicts) == 1

    assert explore(run) >= 6


@pytest.mark.parametrize("kind", ["tb", "calendar", "cc"])
def test_a_server_that_forgets_its_scripts_in_between_runs_each_call_once(kind: str) -> None:
    def run(choose: Choose) -> None:
        server = FakeServer()
        batches = [[group(hit(LIMITS[kind], holder=f"{number}", cost=2))] for number in range(2)]
        verdicts = run_all(server, batches, choose, near_us=server.now_us, flushes=1)
        assert sum(verdicts) == 1
        assert server.runs == 2

    assert explore(run) >= 6


def test_plans_that_have_to_guess_again_keep_the_limit_of_every_group() -> None:
    def run(choose: Choose) -> None:
        server = FakeServer()
        batches = [
            [group(hit(LIMITS["calendar"], holder=f"{number}")), group(hit(LIMITS["calendar"]), hit(LIMITS["tb"]))]
            for number in range(2)
        ]
        assert sum(run_all(server, batches, choose, near_us=0, flushes=0)) == 3

    assert explore(run) == 18
