"""The breaker before real servers that hang or are killed: while it is open, nobody asks, and so nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from headgate import AsyncLimiter, Decision, Limiter, StoreOutage
from headgate.breaker import Breaker
from headgate.observer import BreakerState, Observer, attach
from headgate.stores.redis import RedisStore
from tests.clusters import OwnCluster, own_cluster
from tests.servers import OwnValkey, own_valkey, soon

QUICK = Breaker(failures=3, open_for=0.02)
LONG = Breaker(failures=3, open_for=600)
TIMEOUT = 0.1


class Heard(Observer):
    """Counts round trips, and remembers the latest state of each server's breaker."""

    def __init__(self) -> None:
        self.round_trips = 0
        self.states: dict[str, list[BreakerState]] = {}

    def round_trip(self, store: str, groups: int, duration_ns: int, outage: StoreOutage | None) -> None:
        self.round_trips += 1

    def breaker_changed(self, store: str, state: BreakerState) -> None:
        self.states.setdefault(store, []).append(state)


@pytest.fixture
def heard() -> Iterator[Heard]:
    observer = Heard()
    detach = attach(observer)
    yield observer
    detach()


@contextmanager
def hung(server: OwnValkey) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextmanager
def killed(server: OwnValkey) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@pytest.fixture
def server() -> Iterator[OwnValkey]:
    with own_valkey() as made:
        yield made


Ask = Callable[..., Awaitable[Decision]]
Make = Callable[..., Ask]


@pytest.fixture(params=["blocking", "asyncio"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes what asks a server, by its URL and a breaker, from threads or tasks."""
    stores: list[RedisStore] = []

    def make_one(url: str, breaker: Breaker, limit: Any = "1000/second", timeout: float = TIMEOUT) -> Ask:
        store = RedisStore(url, timeout=timeout, breaker=breaker)
        stores.append(store)
        blocking, awaiting = Limiter(limit, store=store, name="api"), AsyncLimiter(limit, store=store, name="api")

        async def ask(key: str = "k") -> Decision:
            if request.param == "blocking":
                return await asyncio.to_thread(blocking.try_acquire, key)
            return await awaiting.try_acquire(key)

        return ask

    yield make_one
    for store in stores:
        with contextlib.suppress(StoreOutage):
            await store.aclose()


@pytest.mark.parametrize("goes_away", [hung, killed])
async def test_while_the_breaker_is_open_nobody_asks_a_server_that_is_gone(
    make: Make, server: OwnValkey, heard: Heard, goes_away: Any
) -> None:
    ask = make(server.url, LONG)
    assert (await ask()).source == "store"
    with goes_away(server):
        for _ in range(3):
            assert (await ask()).source == "fail_open"
        asked = heard.round_trips
        assert {(await ask(f"k{number}")).source for number in range(300)} == {"fail_open"}
        assert {told.source for told in await asyncio.gather(*(ask() for _ in range(100)))} == {"fail_open"}
        assert heard.round_trips == asked
    assert heard.states == {server.url: ["open"]}


@pytest.mark.parametrize("goes_away", [hung, killed])
async def test_a_server_that_comes_back_is_found(make: Make, server: OwnValkey, heard: Heard, goes_away: Any) -> None:
    ask = make(server.url, QUICK)
    assert (await ask()).source == "store"
    with goes_away(server):
        for _ in range(20):
            assert (await ask()).source == "fail_open"

    async def is_back() -> bool:
        return (await ask()).source == "store"

    await soon(is_back, "the store answers again")
    assert {(await ask()).source for _ in range(20)} == {"store"}
    states = heard.states[server.url]
    assert (states[0], states[-1], states.count("closed")) == ("open", "closed", 1)


async def test_a_crowd_before_a_server_that_hangs_waits_a_few_deadlines_between_them(
    make: Make, server: OwnValkey, heard: Heard
) -> None:
    ask = make(server.url, LONG)
    assert (await ask()).source == "store"
    asked = heard.round_trips
    with hung(server):
        told = await asyncio.gather(*(ask(f"k{number}") for number in range(200)))
        while not heard.states:
            told += await asyncio.gather(*(ask(f"k{number}") for number in range(200)))
        assert {decision.source for decision in told} == {"fail_open"}
        assert heard.round_trips - asked <= 6


async def test_a_key_that_holds_something_foreign_does_not_open_it(make: Make, server: OwnValkey, heard: Heard) -> None:
    ask = make(server.url, LONG, "5/day")
    with server.admin() as admin:
        admin.rpush("headgate:{bad}:api:tb", "not a bucket")
    for _ in range(10):
        assert (await ask("bad")).source == "fail_open"
    assert (await ask()).source == "store"
    assert heard.states == {}


async def test_answers_that_are_errors_do_open_it(make: Make, server: OwnValkey, heard: Heard) -> None:
    ask = make(server.url, LONG)
    assert (await ask()).source == "store"
    with server.admin() as admin:
        admin.config_set("maxmemory", 1)  # it refuses to write
        for _ in range(3):
            assert (await ask()).source == "fail_open"
        asked = heard.round_trips
        assert (await ask()).source == "fail_open"
        assert heard.round_trips == asked
        admin.config_set("maxmemory", 0)


# --- a cluster ---


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    with own_cluster() as made:
        yield made


async def test_a_node_that_hangs_has_a_breaker_of_its_own(make: Make, cluster: OwnCluster, heard: Heard) -> None:
    hanging, *others = cluster.primaries
    ask = make(cluster.url, LONG)
    key, sound = cluster.key_at(hanging), [cluster.key_at(node) for node in others]
    assert {(await ask(one)).source for one in (key, *sound)} == {"store"}
    with hung(hanging):
        while not heard.states:
            assert (await ask(key)).source == "fail_open"
        assert list(heard.states) == [f"redis://127.0.0.1:{hanging.port}/0"]
        asked = heard.round_trips
        for _ in range(100):
            assert (await ask(key)).source == "fail_open"
        learnt = heard.round_trips - asked  # now and then, the others are asked who serves what
        assert learnt < 20
        assert {(await ask(one)).source for one in sound * 20} == {"store"}


async def test_a_node_that_comes_back_is_found(make: Make, cluster: OwnCluster, heard: Heard) -> None:
    hanging = cluster.primaries[1]
    ask = make(cluster.url, QUICK)
    key = cluster.key_at(hanging)
    assert (await ask(key)).source == "store"
    with hung(hanging):
        for _ in range(10):
            assert (await ask(key)).source == "fail_open"

    async def is_back() -> bool:
        return (await ask(key)).source == "store"

    await soon(is_back, "the node answers again")
    assert heard.states[f"redis://127.0.0.1:{hanging.port}/0"][-1] == "closed"


async def test_a_cluster_that_hangs_from_the_start_holds_up_nobody_once_that_is_known(
    make: Make, cluster: OwnCluster, heard: Heard
) -> None:
    ask = make(cluster.url, LONG)
    (first, *_) = cluster.primaries  # the only one that the URL names
    with hung(first):
        while not heard.states:
            assert (await ask()).source == "fail_open"
        asked = heard.round_trips
        assert {(await ask(f"k{number}")).source for number in range(300)} == {"fail_open"}
        assert heard.round_trips == asked


async def test_slots_that_move_open_nothing(make: Make, cluster: OwnCluster, heard: Heard) -> None:
    source, target, _ = cluster.primaries
    ask = make(cluster.url, Breaker(failures=1, open_for=600), timeout=20)  # a busy machine is no failure of the server
    keys = [cluster.key_at(source, f"moving{number}-") for number in range(5)]
    assert {(await ask(key)).source for key in keys} == {"store"}
    for key in keys:
        with cluster.moving(key, target) as move:
            move()
            assert {(await ask(key)).source for _ in range(3)} == {"store"}
        assert {(await ask(key)).source for _ in range(3)} == {"store"}
        with cluster.moving(key, source, target) as move_back:
            move_back()
    assert heard.states == {}
