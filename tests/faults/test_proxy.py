"""Replies that are cut, reset, or lost from any of their bytes on, and servers that are slow or say nothing.

Each caller sees an outage or the right decision, no spend is sent twice, and the next call is as if nothing had been.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pytest

from headgate import AsyncLimiter, Decision, Limiter, Store, StoreOutage, StoreTimeout, StoreUnavailable
from headgate.stores.postgres import PostgresStore
from headgate.stores.redis import RedisStore
from tests.postgres_servers import own_postgres
from tests.proxy import Fault, Proxy, proxy_to
from tests.servers import PATIENCE, OwnValkey, own_valkey

CAPACITY = 1_000_000
LIMIT = f"fixed-window {CAPACITY}/year"
KEYS = ("k0", "k1", "k2")
FAULTS: tuple[Fault, ...] = ("cut", "reset", "swallow")
SHORT: dict[str, Any] = {"breaker": False, "remember_denials": 0}

Answers = list[Decision | StoreOutage]
Kind = Literal["blocking", "awaited"]


@pytest.fixture(scope="module")
def valkey() -> Iterator[OwnValkey]:
    with own_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with own_postgres() as server:
        yield server.url


@pytest.fixture(params=["blocking", "awaited"])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


class Asker:
    """Asks through a proxy for one key, or for several in one round trip: awaited, as a batch; blocking, as a group."""

    def __init__(self, kind: Kind, make: Callable[[], Store], keys: Sequence[str]) -> None:
        self._make = make
        is_group = kind == "blocking" and len(keys) > 1
        self.limits: Any = dict.fromkeys(keys, LIMIT) if is_group else LIMIT
        self.asked: list[Any] = [{key: key for key in keys}] if is_group else list(keys)
        """What one round trip asks for."""
        self._runner = asyncio.Runner() if kind == "awaited" else None
        self.begin_anew()

    def begin_anew(self) -> None:
        """From now on, ask with another store, which has no connection yet."""
        self._store = self._make()
        self._blocking = Limiter(self.limits, store=self._store, name="n", on_outage="raise")
        self._awaited = AsyncLimiter(self.limits, store=self._store, name="n", on_outage="raise")

    def ask(self) -> Answers:
        if self._runner is not None:
            return self._runner.run(self._ask_together())
        try:
            return [self._blocking.try_acquire(asked) for asked in self.asked]
        except StoreOutage as outage:
            return [outage]

    async def _ask_together(self) -> Answers:
        asking = (self._awaited.try_acquire(asked) for asked in self.asked)
        found: list[Any] = await asyncio.gather(*asking, return_exceptions=True)
        return found

    def ask_until_in_time(self) -> Answers:
        """Ask until a machine that is busy has the time. Nothing but that may hinder it."""
        for _ in range(100):
            answers = self.ask()
            if not any(isinstance(answer, StoreTimeout) for answer in answers):
                return answers
        raise AssertionError("never in time")

    def close(self) -> None:
        if self._runner is not None:
            self._runner.run(self._store.aclose())
        self._store.close()

    def end(self) -> None:
        self.close()
        if self._runner is not None:
            self._runner.close()


def are_right(answers: Answers) -> bool:
    """Are they decisions, all of which admit?"""
    return all(isinstance(answer, Decision) and answer.allowed for answer in answers)


def spends_in(store: Store, asker: Asker) -> Callable[[], list[int]]:
    """What a store counts of an asker's spends, seen past the proxy."""
    limiter = Limiter(asker.limits, store=store, name="n", on_outage="raise")
    return lambda: [CAPACITY - limiter.peek(asked, 0).remaining for asked in asker.asked]


def fail_at_each_byte(
    asker: Asker, proxy: Proxy, spends: Callable[[], list[int]], places: Sequence[tuple[Fault, int]], *, anew: bool
) -> None:
    """Fail once at each place of what the server says: of the reply, or of all from connecting on (`anew`)."""
    for fault, after in places:
        if anew:
            asker.close()
            asker.begin_anew()
        else:
            assert are_right(asker.ask_until_in_time())
        before = spends()
        proxy.fail(fault, after)
        answers = asker.ask()
        assert all(isinstance(answer, StoreOutage) for answer in answers), (fault, after, answers)
        counted = spends()
        # They had no answer: they were counted, or not, and never twice.
        assert all(0 <= now - then <= 1 for now, then in zip(counted, before, strict=True)), (fault, after)
        proxy.recover()
        answers = asker.ask_until_in_time()
        assert are_right(answers), (fault, after, answers)
        told = [CAPACITY - answer.remaining for answer in answers if isinstance(answer, Decision)]
        assert told == spends(), (fault, after)


def size_of(proxy: Proxy, ask: Callable[[], object]) -> int:
    """How many bytes the server says meanwhile."""
    before = proxy.replied
    ask()
    return proxy.replied - before


def places(size: int, *, step: int = 1, slow_step: int = 1) -> list[tuple[Fault, int]]:
    """Each fault at each byte. What is swallowed takes a deadline each time, and may have steps of its own."""
    return [(fault, at) for fault in FAULTS for at in range(0, size, slow_step if fault == "swallow" else step)]


@pytest.fixture
def proxy(valkey: OwnValkey) -> Iterator[Proxy]:
    with proxy_to(valkey.port) as made:
        yield made


Make = Callable[..., Asker]


@pytest.fixture
def make(kind: Kind, proxy: Proxy, prefix: str) -> Iterator[Make]:
    """Makes askers of a Valkey through the proxy."""
    made: list[Asker] = []

    def make_one(*, timeout: float = 0.1, keys: Sequence[str] = KEYS[:1]) -> Asker:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        made.append(Asker(kind, lambda: RedisStore(url, prefix=prefix, timeout=timeout, **SHORT), keys))
        return made[-1]

    yield make_one
    for asker in made:
        asker.end()


@pytest.fixture
def direct(valkey: OwnValkey, prefix: str) -> Iterator[Store]:
    """The store past the proxy."""
    store = RedisStore(valkey.url, prefix=prefix, timeout=PATIENCE, **SHORT)
    yield store
    store.close()


@pytest.mark.parametrize("keys", [KEYS[:1], KEYS], ids=["one", "several"])
def test_replies_of_redis_that_break_off_at_any_byte(
    keys: Sequence[str], make: Make, proxy: Proxy, direct: Store
) -> None:
    asker = make(keys=keys)
    asker.ask_until_in_time()
    size = size_of(proxy, asker.ask_until_in_time)
    assert size > 10
    fail_at_each_byte(asker, proxy, spends_in(direct, asker), places(size, slow_step=len(keys)), anew=False)


def test_connections_to_redis_that_break_off_at_any_byte(make: Make, proxy: Proxy, direct: Store) -> None:
    asker = make()
    asker.ask_until_in_time()
    asker.close()
    asker.begin_anew()
    size = size_of(proxy, asker.ask_until_in_time)
    assert size > 20
    fail_at_each_byte(asker, proxy, spends_in(direct, asker), places(size, slow_step=3), anew=True)


def test_a_spend_that_had_no_answer_is_one_command_at_the_server(make: Make, proxy: Proxy, valkey: OwnValkey) -> None:
    asker = make(keys=KEYS)
    asker.ask_until_in_time()
    for fault in FAULTS:
        asker.ask_until_in_time()
        with valkey.admin() as admin:
            admin.config_resetstat()
        proxy.fail(fault, after=7)
        asker.ask()
        proxy.recover()
        calls = valkey.calls()
        assert calls["evalsha"] + calls["eval"] <= 1, fault


@pytest.mark.parametrize("is_anew", [False, True], ids=["replies", "connections"])
def test_what_postgresql_says_may_break_off(kind: Kind, is_anew: bool, postgres: str, prefix: str) -> None:
    port = int(postgres.rpartition(":")[2].partition("/")[0])
    direct = PostgresStore(postgres, prefix=prefix, timeout=PATIENCE, **SHORT)
    Limiter(LIMIT, store=direct, on_outage="raise").peek("k")  # the schema is there
    with proxy_to(port) as proxy:
        url = postgres.replace(f":{port}/", f":{proxy.port}/")
        asker = Asker(
            kind, lambda: PostgresStore(url, prefix=prefix, timeout=0.3, max_connections=1, **SHORT), KEYS[:1]
        )
        asker.ask_until_in_time()
        if is_anew:
            asker.close()
            asker.begin_anew()
        size = size_of(proxy, asker.ask_until_in_time)
        chosen = places(size, step=max(1, size // 40), slow_step=max(1, size // 8))
        fail_at_each_byte(asker, proxy, spends_in(direct, asker), chosen, anew=is_anew)
        asker.end()
    direct.close()


def test_outages_that_somebody_keeps_take_no_connection_of_the_others(postgres: str, prefix: str) -> None:
    port = int(postgres.rpartition(":")[2].partition("/")[0])
    with proxy_to(port) as proxy:
        url = postgres.replace(f":{port}/", f":{proxy.port}/")
        store = PostgresStore(url, prefix=prefix, timeout=PATIENCE, max_connections=1, **SHORT)
        limiter = Limiter(LIMIT, store=store, on_outage="raise")
        kept: list[StoreOutage] = []
        for after in (0, 0, 10):  # on connecting, too
            proxy.fail("cut", after)
            with pytest.raises(StoreUnavailable) as caught:
                limiter.try_acquire("k")
            kept.append(caught.value)
        proxy.recover()
        assert limiter.try_acquire("k")
        store.close()


def outage_of(asker: Asker) -> StoreOutage:
    (answer,) = asker.ask()
    assert isinstance(answer, StoreOutage)
    return answer


def test_who_connects_and_is_answered_too_slowly_waits_no_longer_than_its_deadline(make: Make, proxy: Proxy) -> None:
    proxy.delay(0.15)  # each answer is in time, and all of them are not
    asker = make(timeout=0.25)
    assert isinstance(outage_of(asker), StoreTimeout)
    proxy.recover()
    assert are_right(asker.ask_until_in_time())


def test_an_answer_that_comes_byte_by_byte_is_waited_for_no_longer_than_the_deadline(make: Make, proxy: Proxy) -> None:
    asker = make(timeout=0.25)
    assert are_right(asker.ask_until_in_time())
    proxy.drip(0.05)
    assert isinstance(outage_of(asker), StoreTimeout)
    proxy.recover()
    assert are_right(asker.ask_until_in_time())


def test_a_server_that_is_slow_and_in_time_is_no_outage(make: Make, proxy: Proxy) -> None:
    asker = make(timeout=PATIENCE)
    proxy.delay(0.1)
    assert are_right(asker.ask())
    assert are_right(asker.ask())


def test_a_server_that_accepts_and_says_nothing_is_an_outage_until_it_speaks(make: Make, proxy: Proxy) -> None:
    asker = make()
    proxy.be_silent()
    assert isinstance(outage_of(asker), StoreTimeout)
    proxy.recover()
    assert are_right(asker.ask_until_in_time())


def test_a_server_that_refuses_is_an_outage_until_it_listens(make: Make, proxy: Proxy) -> None:
    asker = make(timeout=PATIENCE)
    assert are_right(asker.ask())
    proxy.refuse()
    assert "it cannot be reached" in str(outage_of(asker))
    proxy.listen()
    proxy.recover()
    assert are_right(asker.ask())


def test_a_server_whose_queue_is_full_is_an_outage_until_it_accepts(kind: Kind, valkey: OwnValkey, prefix: str) -> None:
    """Nobody answers to who connects, and nobody refuses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        asker = Asker(
            kind, lambda: RedisStore(f"redis://127.0.0.1:{port}/0", prefix=prefix, timeout=0.1, **SHORT), ["k"]
        )
        assert isinstance(outage_of(asker), StoreTimeout)
        for caller in callers:
            caller.close()
    with proxy_to(valkey.port, port):
        assert are_right(asker.ask_until_in_time())
        asker.end()
