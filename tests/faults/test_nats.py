"""NATS servers that end, hang, lose their files or their leader: each call is answered within its deadline, nothing but
an outage reaches the caller, nothing is spent twice, and all goes on when the server does.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import nats
import pytest

from headgate import AsyncLimiter, Breaker, Decision, Limiter, Store
from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.stores.nats import NatsStore
from tests.faults.processes import run_in_processes
from tests.faults.workers import Seen, hammer_with_tasks
from tests.nats_servers import OwnNats, make_bucket, own_nats, own_nats_cluster, request
from tests.servers import eventually, soon

QUICK: dict[str, Any] = {"timeout": 0.25, "remember_denials": 0, "breaker": Breaker(failures=5, open_for=0.1)}
PATIENT: dict[str, Any] = {"timeout": 20, "remember_denials": 0, "breaker": False}
LIMIT = "fixed-window 1000/day"


@pytest.fixture
def server() -> Iterator[OwnNats]:
    with own_nats() as made:
        yield made


class Asker:
    """Asks a store through a limiter of one kind."""

    def __init__(self, kind: str, store: Store, limit: str = LIMIT) -> None:
        self.store = store
        self._runner = asyncio.Runner() if kind == "awaited" else None
        self._limiter = Limiter(limit, store=store, name="n", on_outage="raise")
        self._awaited = AsyncLimiter(limit, store=store, name="n", on_outage="raise")

    def spend(self) -> int | StoreOutage:
        """Spend a token: what remains, or why there is no answer."""
        try:
            if self._runner is None:
                return self._limiter.try_acquire("k").remaining
            return self._runner.run(self._ask()).remaining
        except StoreOutage as outage:
            return outage

    async def _ask(self) -> Decision:
        return await self._awaited.try_acquire("k")

    def spend_when_it_is_back(self) -> int:
        """Ask until there is an answer again."""
        answers: list[int | StoreOutage] = []

        def answers_again() -> bool:
            answers.append(self.spend())
            return isinstance(answers[-1], int)

        eventually(answers_again, "it answers again")
        assert isinstance(answers[-1], int)
        return answers[-1]

    def close(self) -> None:
        if self._runner is not None:
            self._runner.run(self.store.aclose())
            self._runner.close()
        self.store.close()


@pytest.fixture(params=["blocking", "awaited"])
def asker(request: pytest.FixtureRequest, server: OwnNats) -> Iterator[Asker]:
    made = Asker(request.param, NatsStore(server.url, **QUICK))
    eventually(lambda: isinstance(made.spend(), int), "it answers")
    yield made
    made.close()


def test_a_server_that_is_killed_and_comes_back_knows_all(server: OwnNats, asker: Asker) -> None:
    before = asker.spend()
    assert isinstance(before, int)
    server.kill()
    answers = [asker.spend() for _ in range(20)]
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    server.start()
    assert asker.spend_when_it_is_back() == before - 1


def test_a_restart_between_two_calls_is_noticed_by_no_more_than_one(server: OwnNats, asker: Asker) -> None:
    before = asker.spend()
    assert isinstance(before, int)
    server.kill()
    server.start()
    answers = [asker.spend() for _ in range(3)]
    assert sum(isinstance(answer, StoreOutage) for answer in answers) <= 1
    assert isinstance(answers[-1], int)
    assert answers[-1] == before - sum(isinstance(answer, int) for answer in answers)


def test_a_server_that_hangs_is_an_outage_and_a_spend_is_not_repeated(server: OwnNats, asker: Asker) -> None:
    before = asker.spend()
    assert isinstance(before, int)
    server.stop()
    try:
        asked = [asker.spend() for _ in range(3)]
        assert [str(answer) for answer in asked if not isinstance(answer, StoreTimeout)] == []
        refused = [asker.spend() for _ in range(20)]  # while it hangs, too
        assert all(isinstance(answer, StoreOutage) for answer in refused)
    finally:
        server.go_on()
    after = asker.spend_when_it_is_back()
    # The first one was on its way, and may have been counted. The next did not even get a greeting.
    assert before - 2 <= after <= before - 1


def test_threads_that_wait_for_a_server_that_hangs_all_come_back(server: OwnNats) -> None:
    limiter = Limiter(LIMIT, store=NatsStore(server.url, **QUICK), name="n", on_outage="raise")
    assert limiter.try_acquire("k")
    server.stop()

    def ask(_: int) -> bool:
        with pytest.raises(StoreOutage):
            limiter.try_acquire("k")
        return True

    try:
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(64)))
    finally:
        server.go_on()
    eventually(lambda: _is_answered(limiter), "it answers again")
    limiter.close()


def _is_answered(limiter: Limiter) -> bool:
    try:
        return bool(limiter.try_acquire("k"))
    except StoreOutage:
        return False


def test_a_frozen_server_in_mid_traffic_admits_no_more_than_it_may(server: OwnNats) -> None:
    store = NatsStore(server.url, **QUICK)
    limiter = Limiter("fixed-window 300/day", store=store, name="n", on_outage="raise")
    ends = threading.Event()

    def ask(_: int) -> int:
        admitted = 0
        while not ends.is_set():
            try:
                decision = limiter.try_acquire("k")
            except StoreOutage:
                continue
            admitted += decision.allowed
            if not decision.allowed:
                break
        return admitted

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        try:
            for _ in range(3):
                server.stop()
                signal.sigtimedwait([], 0.3)
                server.go_on()
                signal.sigtimedwait([], 0.2)
            admitted = sum(one.result(timeout=60) for one in asking)
        finally:
            ends.set()
    assert 200 < admitted <= 300
    store.close()


def test_a_bucket_that_was_removed_is_made_again(server: OwnNats, asker: Asker) -> None:
    assert asker.spend() == 998
    request(server.url, "STREAM.DELETE.KV_headgate")
    outage = asker.spend()
    assert isinstance(outage, StoreUnavailable)
    assert asker.spend_when_it_is_back() == 999  # what it knew is gone


def test_a_bucket_that_was_emptied_goes_on(server: OwnNats, asker: Asker) -> None:
    assert asker.spend() == 998
    request(server.url, "STREAM.PURGE.KV_headgate")
    assert asker.spend() == 999


def test_without_jetstream_it_is_an_outage_that_says_so() -> None:
    with own_nats(jetstream=False) as server:
        store = NatsStore(server.url, **QUICK)
        with pytest.raises(StoreUnavailable, match="JetStream"):
            Limiter(LIMIT, store=store, on_outage="raise").try_acquire("k")
        store.close()


def test_jetstream_that_is_not_for_this_account_is_an_outage_that_says_so() -> None:
    accounts = """accounts {
      A { jetstream: enabled, users: [{ user: "with", password: "x" }] }
      B { users: [{ user: "without", password: "x" }] }
    }"""
    with own_nats(accounts) as server:
        store = NatsStore(server.url, user="without", password="x", **QUICK)
        with pytest.raises(StoreUnavailable, match="JetStream"):
            Limiter(LIMIT, store=store, on_outage="raise").try_acquire("k")
        store.close()


def first_outage(decisions: Iterator[Decision]) -> StoreOutage:
    """Why the first of those that were not admitted was not."""
    try:
        assert all(decisions)
    except StoreOutage as outage:
        return outage
    raise AssertionError("there is no outage")


def test_a_full_bucket_is_an_outage_and_admits_nobody(server: OwnNats) -> None:
    make_bucket(server.url, "full", max_bytes=2_000)
    store = NatsStore(server.url, bucket="full", **PATIENT)
    limiter = Limiter("1/day", store=store, on_outage="raise")
    outage = first_outage(limiter.try_acquire(f"user:{number}") for number in range(100))
    assert "maximum bytes exceeded" in str(outage)
    store.close()


def test_a_state_too_large_for_a_message_is_that_groups_outage_alone() -> None:
    with own_nats("max_payload: 2KB") as server:
        store = NatsStore(server.url, **PATIENT)
        limiter = Limiter("sliding-log 1000/day", store=store, name="n", on_outage="raise")
        outage = first_outage(limiter.try_acquire("k") for _ in range(1000))
        assert "more than it takes in a message" in str(outage)
        assert not outage.is_of_server
        assert limiter.try_acquire("another")
        store.close()


async def test_a_task_that_is_cancelled_leaves_others_their_answers(server: OwnNats) -> None:
    store = NatsStore(server.url, **PATIENT)
    limiter = AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise")
    await limiter.peek("k")
    asking = [asyncio.ensure_future(limiter.try_acquire("k")) for _ in range(100)]
    for number, task in enumerate(asking):
        if number % 3 == 0:
            task.cancel()
        if number % 10 == 0:
            await asyncio.sleep(0)
    answers = await asyncio.gather(*asking, return_exceptions=True)
    admitted = sum(not isinstance(answer, BaseException) for answer in answers)

    async def is_given_back() -> bool:
        return (await limiter.peek("k")).remaining == 1000 - admitted

    await soon(is_given_back, "what nobody got is given back")
    await store.aclose()


async def test_a_client_of_theirs_that_lost_its_server_is_an_outage_until_it_is_back(server: OwnNats) -> None:
    async def quiet(_: Exception) -> None: ...

    client = await nats.connect(server.url, reconnect_time_wait=0, max_reconnect_attempts=-1, error_cb=quiet)
    store = NatsStore(client=client, **QUICK)
    limiter = AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise")
    assert (await limiter.try_acquire("k")).remaining == 999
    await asyncio.to_thread(server.kill)
    for _ in range(3):
        with pytest.raises(StoreOutage):
            await limiter.try_acquire("k")
    await asyncio.to_thread(server.start)
    found: list[int] = []

    async def answers() -> bool:
        with suppress(StoreOutage):
            found.append((await limiter.try_acquire("k")).remaining)
        return bool(found)

    await soon(answers, "it answers again")
    (remaining,) = found
    assert 996 <= remaining <= 998  # what nats-py kept for later, it may have sent
    await store.aclose()
    await client.close()


async def test_a_client_of_theirs_whose_server_hangs_at_first_is_an_outage_and_listens_no_more(server: OwnNats) -> None:
    client = await nats.connect(server.url)
    store = NatsStore(client=client, **{**QUICK, "breaker": False})
    limiter = AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise")
    before = len(client._subs)
    await asyncio.to_thread(server.stop)
    try:
        for _ in range(5):
            with pytest.raises(StoreOutage):
                await limiter.try_acquire("k")
    finally:
        server.go_on()

    async def answers() -> bool:
        with suppress(StoreOutage):
            return bool(await limiter.peek("k"))
        return False

    await soon(answers, "it answers")
    await store.aclose()
    await soon(lambda: asyncio.sleep(0, len(client._subs) == before), "it does not listen any more")
    await client.close()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_cluster_that_loses_its_leader_goes_on_and_has_forgotten_nothing(how: str) -> None:
    with own_nats_cluster() as cluster:
        asker = Asker("blocking", NatsStore(cluster.url, replicas=3, **QUICK))
        asker.spend_when_it_is_back()
        for _ in range(50):
            before = asker.spend_when_it_is_back()
        leader = cluster.leader()
        getattr(leader, how)()
        try:
            unknown = 0
            answer = asker.spend()
            while not isinstance(answer, int):
                unknown += 1
                answer = asker.spend()
            assert before - 1 - unknown <= answer <= before - 1
        finally:
            if how == "stop":
                leader.go_on()
        asker.close()


def test_several_processes_that_hammer_a_cluster_admit_no_more_than_they_may(prefix: str) -> None:
    with own_nats_cluster() as cluster:
        url = f"{cluster.url}?replicas=3"
        Asker("blocking", NatsStore(url, **PATIENT)).spend_when_it_is_back()
        limit = "fixed-window 2000/day"
        crowd: list[Seen] = run_in_processes([(hammer_with_tasks, (url, prefix, limit, 50, 4.0))] * 3)
        assert sum(len(seen.admitted) for seen in crowd) == 2000
