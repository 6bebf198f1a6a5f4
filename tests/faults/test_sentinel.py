"""A primary fails in mid-traffic, and sentinels name another: what is seen, what is counted, and what is forgotten."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from headgate import AsyncLimiter, Decision, Limiter, StoreOutage, StoreTimeout
from headgate.stores.redis import RedisStore
from headgate.stores.remote import Primary
from tests.faults.traffic import Traffic, traffic
from tests.proxy import proxy_to
from tests.sentinels import SERVICE, OwnSentinels, own_sentinels
from tests.servers import eventually, fake_server, silence

Fault = Callable[[OwnSentinels], None]


def kill(own: OwnSentinels) -> None:
    """Kill the primary."""
    os.kill(own.primary().pid, signal.SIGKILL)


def freeze(own: OwnSentinels) -> None:
    """Have the primary hang: connections are accepted for it, and nobody answers."""
    own.primary().freeze()


def order(own: OwnSentinels) -> None:
    """Order a failover: the primary goes on as a replica."""
    own.fail_over()


@pytest.fixture
def own() -> Iterator[OwnSentinels]:
    with own_sentinels() as started:
        yield started


class Seen(NamedTuple):
    """What a failover in mid-traffic led to."""

    answered: int
    outages: int
    known: int
    """The spends that the new primary knows of at the end."""
    forgotten: int
    """The answered ones that it does not know of, at least."""
    longest_s: float
    """How long the longest call took."""
    normal_after_s: float
    """From when the sentinels had named the new primary until it answered."""


def befall(own: OwnSentinels, fault: Fault, store: RedisStore, flowing: Traffic) -> tuple[float, float]:
    """Let something happen to the primary while traffic flows, until all is normal on another one. Returns when the
    sentinels named that, and when the store asked it.
    """
    flowing.flows()
    before = own.primary()
    fault(own)
    eventually(lambda: own.primary() is not before, "another one is the primary")
    named_s = time.monotonic()
    eventually(lambda: _asked(store) == own.primary().port, "the store asks it")
    asked_s = time.monotonic()
    flowing.flows()
    return named_s, asked_s


def _asked(store: RedisStore) -> int | None:
    """The port of the primary, as the store knows it."""
    assert isinstance(store._servers, Primary)
    address = store._servers._succession.primary()
    return address and address.port


def fail_over_in_traffic(own: OwnSentinels, fault: Fault) -> Seen:
    """Have a fault lead to a failover, and tell what was seen of it."""
    store = RedisStore(own.url, remember_denials=0)
    with traffic(store) as flowing:
        named_s, asked_s = befall(own, fault, store, flowing)
    counts, known = [call.used for call in flowing.answered], flowing.count()
    seen = Seen(
        answered=len(counts),
        outages=len(flowing.outages),
        known=known,
        forgotten=max(0, len(counts) - known),
        longest_s=flowing.longest_s,
        normal_after_s=min(call.ended_s for call in flowing.answered if call.began_s > asked_s) - named_s,
    )
    store.close()
    return seen


@pytest.mark.parametrize("fault", [kill, freeze, order])
def test_after_a_failover_the_new_primary_is_asked_and_no_spend_was_sent_twice(own: OwnSentinels, fault: Fault) -> None:
    seen = fail_over_in_traffic(own, fault)
    print(f"{fault.__name__}: {seen}")
    assert 0 < seen.known <= seen.answered + seen.outages  # none was counted twice
    if fault is not order:  # whose old primary goes on until it is told
        assert seen.forgotten < 100  # of those that were under way


def test_a_primary_that_wants_a_replica_forgets_next_to_nothing_on_an_order() -> None:
    with own_sentinels(config={"min-replicas-to-write": 1}) as own:
        seen = fail_over_in_traffic(own, order)
    print(f"order, min-replicas-to-write 1: {seen}")
    assert seen.known <= seen.answered + seen.outages
    assert seen.forgotten < 100  # of those that were under way


def test_what_is_forgotten_is_at_most_what_was_not_replicated(own: OwnSentinels) -> None:
    store = RedisStore(own.url, timeout=5, remember_denials=0)
    limiter = Limiter("fixed-window 1000/year", store=store, on_outage="raise")
    for _ in range(100):
        limiter.try_acquire("k")
    primary = own.primary()
    with primary.admin() as admin:
        assert admin.wait(1, 10_000) == 1  # all that has reached the replica
        admin.client_kill_filter(_type="replica")  # for a moment, nothing reaches it
        for _ in range(5):
            assert limiter.try_acquire("k")
        os.kill(primary.pid, signal.SIGKILL)
    eventually(lambda: own.primary() is not primary, "another one is the primary")

    def used() -> int | None:
        try:
            return 1000 - limiter.peek("k").remaining
        except StoreOutage:
            return None

    eventually(lambda: used() is not None, "it answers")
    assert used() in range(100, 106)
    store.close()


def test_a_primary_that_hung_and_comes_back_is_asked_no_more(own: OwnSentinels) -> None:
    store = RedisStore(own.url, remember_denials=0)
    before = own.primary()
    with traffic(store) as flowing:
        befall(own, freeze, store, flowing)
        before.thaw()
        own.settle()
        with before.admin() as admin:
            admin.config_resetstat()
        flowing.flows()
        assert before.calls()["evalsha"] == 0  # but for what is replicated, which are no scripts
    assert own.primary() is not before
    store.close()


def test_whoever_did_not_ask_meanwhile_notices_at_its_next_call(own: OwnSentinels) -> None:
    """Its connection leads to a server that is a replica by now, and would answer what only reads."""
    store = RedisStore(own.url, timeout=5)
    limiter = Limiter("2/day", store=store, on_outage="raise")
    limiter.try_acquire("k")
    before = own.primary()
    own.fail_over()
    own.settle()
    assert own.primary() is not before
    assert limiter.peek("k").remaining == 1
    assert _asked(store) == own.primary().port
    store.close()


@pytest.mark.parametrize("kind", ["blocking", "awaited"])
def test_who_has_to_learn_the_primary_first_waits_no_longer_than_its_deadline(own: OwnSentinels, kind: str) -> None:
    """Learning it is in time, with half of the deadline for a sentinel that hangs, and so is asking it by itself; both
    together are not.
    """
    with fake_server(silence) as silent, proxy_to(own.primary().port) as proxy:
        url = f"redis+sentinel://127.0.0.1:{silent.port},{own.hosts}/{SERVICE}"
        store = RedisStore(url, timeout=1.2, breaker=False, address_remap=lambda _: ("127.0.0.1", proxy.port))
        proxy.delay(0.25)  # of at least three answers: to who connects, to the question for its role, and to the script
        with pytest.raises(StoreTimeout, match=r"no answer within 1\.2 s"):
            ask_once(store, kind)
        proxy.recover()
        assert ask_once(store, kind)
        store.close()


def ask_once(store: RedisStore, kind: str) -> Decision:
    """Ask in a call of this kind."""
    if kind == "blocking":
        return Limiter("9/day", store=store, on_outage="raise").try_acquire("k")

    async def ask() -> Decision:
        try:
            return await AsyncLimiter("9/day", store=store, on_outage="raise").try_acquire("k")
        finally:
            await store.aclose()

    return asyncio.run(ask())
