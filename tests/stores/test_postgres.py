"""The PostgreSQL store on real servers: its URL, its schema, its rights, its connections, and what it keeps."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import itertools
import multiprocessing
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headgate import (
    AsyncLimiter,
    Decision,
    InvalidUse,
    Limiter,
    ManualClock,
    StoreURLError,
    TokenBucket,
    acquire,
    config,
    configure,
)
from headgate.cli import main
from headgate.errors import StoreOutage
from headgate.hits import Group, Hit, Once
from headgate.plans.postgres import VERSION, grants_text, schema_text
from headgate.plans.postgres.places import place_of, read_place
from headgate.stores import Store
from headgate.stores.contract import ScannableStore
from headgate.stores.postgres import PostgresStore
from headgate.stores.registry import open_store
from headgate.testing import use_clock
from tests.parts import lacks
from tests.postgres_servers import OwnPostgres, own_pgbouncer, own_postgres

PATIENT = 20.0
KINDS = (
    "100/day",
    "fixed-window 100/day; tz=UTC",
    "sliding-window 100/day",
    "sliding-log 100/day",
    "concurrency 100",
)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with own_postgres(16) as own:
        yield own


@pytest.fixture
def database(server: OwnPostgres) -> str:
    """The name of a database that has nothing yet."""
    name = f"fresh_{next(_numbers)}"
    with server.admin() as admin:
        admin.execute(f"create database {name}")
    return name


@pytest.fixture
def make(server: OwnPostgres, database: str) -> Iterator[Callable[..., PostgresStore]]:
    """Makes stores on that database."""
    made: list[PostgresStore] = []

    def store(**options: Any) -> PostgresStore:
        options = {"timeout": PATIENT, **options}
        made.append(PostgresStore(server.url_of("postgres", database=database), **options))
        return made[-1]

    yield store
    for one in made:
        one.close()


def pools() -> Any:
    """psycopg_pool, which is no dependency of headgate's."""
    try:
        return importlib.import_module("psycopg_pool")
    except ImportError:
        lacks("psycopg-pool", "`pip install psycopg-pool` installs it")


# URLs and options


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://localhost", "postgresql://localhost:5432/"),
        ("postgres://localhost/db", "postgresql://localhost:5432/db"),
        ("POSTGRESQL://host:6432/db", "postgresql://host:6432/db"),
        ("postgresql://me:secret@host/db?sslmode=require", "postgresql://host:5432/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host:5432/db"),
        ("postgresql://one:1,two:2/db?target_session_attrs=read-write", "postgresql://one:1,two:2/db"),
        ("postgresql://me@/db?host=/run/postgresql", "postgresql:///run/postgresql/db"),
        ("postgresql://[::1]:6432/db", "postgresql://[::1]:6432/db"),
    ],
)
def test_a_database_is_named_without_user_and_password(url: str, name: str) -> None:
    store = open_store(url)
    assert isinstance(store, PostgresStore)
    assert isinstance(store, Store)
    assert isinstance(store, ScannableStore)
    assert repr(store) == f"<PostgresStore {name}>"


@pytest.mark.parametrize("url", ["postgresql://me:geheim@host/db?nonsense=1", "postgresql://me:geheim@host:x%/db"])
def test_a_url_that_is_not_understood_shows_no_password(url: str) -> None:
    with pytest.raises(StoreURLError) as raised:
        PostgresStore(url)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"schema": ""},
        {"schema": 'a"b'},
        {"schema": "a" * 64},
        {"max_connections": 0},
        {"max_connections": True},
        {"timeout": 0},
        {"pool": object()},
    ],
)
def test_options_that_are_not_usable_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidUse):
        PostgresStore(**options)


def test_a_pool_and_a_url_are_not_given_both() -> None:
    with pytest.raises(InvalidUse, match="not both"):
        PostgresStore("postgresql://localhost", pool=object())


def test_a_registered_url_takes_no_unknown_option() -> None:
    with pytest.raises(InvalidUse, match="does not take hash_tag"):
        open_store("postgresql://localhost", hash_tag="x")


async def test_a_configuration_file_names_a_database_and_who_logs_in(
    server: OwnPostgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(
        f"""
        [stores.main]
        url = "postgresql://127.0.0.1:{server.port}/postgres"
        username = "postgres"
        password = "any"
        key_prefix = "configured"
        schema = "limits"
        unlogged = true
        timeout = "10s"
        [limiters.api]
        limit = "10/day"
        on_outage = "raise"
        """
    )
    config.close()
    configure(file)
    decision = await acquire("api")
    await config.aclose()
    config.close()
    assert decision.remaining == 9
    assert main(["keys", "--config", str(file)]) == 0
    assert "1 in postgresql://" in capsys.readouterr().out
    with server.admin() as admin:
        kept = admin.execute("select relpersistence from pg_class where oid = 'limits.state'::regclass").fetchone()
    assert kept == ("u",)


def test_no_two_places_are_the_same() -> None:
    parts = ("a", "a:b", "a%3Ab", ":", "%", "a%", "b\0once")
    places = {place_of(prefix, name, "tb", key) for prefix in parts[:6] for name in parts[:6] for key in parts}
    assert len(places) == 6 * 6 * 7
    for name, key in itertools.product(parts[:6], parts):
        assert read_place(place_of("p:%", name, "tb", key)) == (name, "tb", key)


# The schema


def test_the_schema_is_made_at_the_first_use_by_many_at_a_time(make: Callable[..., PostgresStore]) -> None:
    stores = [make() for _ in range(8)]
    limiters = [Limiter("10/day", store=store, name="many", on_outage="raise") for store in stores]
    with ThreadPoolExecutor(8) as threads:
        decisions = list(threads.map(lambda limiter: limiter.try_acquire("k"), limiters))
    assert sorted(decision.remaining for decision in decisions) == list(range(2, 10))


def test_the_printed_schema_is_that_of_the_store(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str
) -> None:
    with server.admin(database) as admin:
        for _ in range(2):  # what is there stays
            admin.execute(schema_text("other"))
    assert Limiter("10/day", store=make(schema="other"), on_outage="raise").try_acquire("k").remaining == 9
    with server.admin(database) as admin:
        admin.execute(schema_text("other"))
        assert admin.execute("select count(*) from other.state").fetchone() == (1,)
        assert admin.execute("select to_regnamespace('headgate')").fetchone() == (None,)


@pytest.mark.parametrize("unlogged", [False, True])
def test_the_table_is_unlogged_where_that_is_asked_for(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str, unlogged: bool
) -> None:
    Limiter("10/day", store=make(unlogged=unlogged), on_outage="raise").try_acquire("k")
    with server.admin(database) as admin:
        (persistence,) = admin.execute(
            "select relpersistence from pg_class where oid = 'headgate.state'::regclass"
        ).fetchone() or (-1,)
    assert persistence == ("u" if unlogged else "p")


def test_a_schema_that_was_dropped_is_made_anew(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str
) -> None:
    limiter = Limiter("10/day", store=make(), on_outage="raise")
    limiter.try_acquire("k")
    with server.admin(database) as admin:
        admin.execute("drop schema headgate cascade")
    assert limiter.try_acquire("k").remaining == 9
    with server.admin(database) as admin:
        admin.execute("drop table headgate.state cascade")
    assert limiter.try_acquire("k").remaining == 9


DIGESTS = {1: "c7c66eb85b1b3bc0", 2: "7d9266482d1c2905", 3: "cbb612d7d307af4b"}
"""Of the functions of each version, without comments and spaces."""


def test_functions_do_not_change_without_a_new_version() -> None:
    """A database keeps the functions that it has; a new release with changed ones has to call others."""
    text = re.sub(r"--[^\n]*", "", schema_text()).split("return;\n", 1)[1]
    assert hashlib.sha256(re.sub(r"\s+", " ", text).encode()).hexdigest()[:16] == DIGESTS[VERSION]


# The isolation level


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("coalesce", [True, False])
async def test_another_isolation_level_is_refused_by_each_call_and_nothing_is_spent(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str, level: str, coalesce: bool
) -> None:
    before = Limiter("10/day", store=make(coalesce=coalesce), name="n", on_outage="raise")
    before.try_acquire("k")
    with server.admin() as admin:
        admin.execute(f"alter database {database} set default_transaction_isolation = '{level}'")
    store = make(coalesce=coalesce, breaker=False)
    single = Limiter("10/day", store=store, name="n", on_outage="raise")
    group = Limiter(["10/hour", "100/day"], store=store, name="g", on_outage="raise")
    window = Limiter("sliding-window 10/day", store=store, name="w", on_outage="raise")
    tasks = AsyncLimiter("10/day", store=store, name="n", on_outage="raise")
    for call in (single.try_acquire, single.peek, single.reset, group.try_acquire, window.try_acquire):
        with pytest.raises(StoreOutage, match="needs the isolation level READ COMMITTED"):
            call("k")
    for keys in (["k"], ["k", "l"], ["k", "k"], ["k", "l", "m"]):  # which go together
        for outcome in await asyncio.gather(*map(tasks.try_acquire, keys), return_exceptions=True):
            assert isinstance(outcome, StoreOutage)
            assert "see default_transaction_isolation" in str(outcome)
    await store.aclose()
    with server.admin() as admin:
        admin.execute(f"alter database {database} reset default_transaction_isolation")
    after = Limiter("10/day", store=make(), name="n", on_outage="raise")
    assert after.peek("k").remaining == 9
    assert after.peek("l").remaining == 10


def test_a_pool_whose_connections_have_another_isolation_level_is_refused(server: OwnPostgres, database: str) -> None:
    url = server.url_of("postgres", database=database)
    options = {"options": r"-c default_transaction_isolation=repeatable\ read"}
    with pools().ConnectionPool(url, kwargs=options, min_size=1, max_size=1) as pool:
        limiter = Limiter("10/day", store=PostgresStore(pool=pool, timeout=PATIENT), on_outage="raise")
        with pytest.raises(StoreOutage, match="needs the isolation level READ COMMITTED"):
            limiter.try_acquire("k")


# Rights


def test_a_role_that_may_not_make_the_schema_is_told_what_to_do(server: OwnPostgres, database: str) -> None:
    with server.admin(database) as admin:
        admin.execute("drop role if exists guest; create role guest login")
    store = PostgresStore(server.url_of("guest", database=database), timeout=PATIENT)
    limiter = Limiter("10/day", store=store, on_outage="raise")
    with pytest.raises(StoreOutage, match="`headgate schema postgres` prints it"):
        limiter.try_acquire("k")
    with server.admin(database) as admin:
        admin.execute(schema_text())
    with pytest.raises(StoreOutage, match="needs USAGE on the schema"):
        limiter.try_acquire("k")
    store.close()


def test_a_role_needs_no_more_than_what_is_granted(server: OwnPostgres, database: str) -> None:
    with server.admin(database) as admin:
        admin.execute("drop role if exists app; create role app login")
        admin.execute(schema_text())
        admin.execute("revoke execute on all functions in schema headgate from public")
        admin.execute(grants_text("headgate", "app"))
    store = PostgresStore(server.url_of("app", database=database), timeout=PATIENT, remember_denials=0)
    use_everything(store)
    store.close()
    with server.admin(database) as admin:
        admin.execute("drop owned by app; drop role app")


def use_everything(store: PostgresStore) -> None:
    """Each algorithm, each action, and what operators do."""
    for kind in KINDS:
        limiter = Limiter(kind, store=store, name=kind, on_outage="raise")
        for number in range(12):  # new keys, so that some of what expired is looked for
            decision = limiter.try_acquire(f"k{number}")
            assert decision.remaining == 99
            assert limiter.peek(f"k{number}").remaining == 99
        limiter.refund(decision)
        assert limiter.peek("k11").remaining == 100
        limiter.reset("k0")
        assert limiter.peek("k0").remaining == 100
    entries = list(store.scan())
    assert {entry.name for entry in entries} == set(KINDS)
    assert store.clear() == len(entries)
    assert list(store.scan()) == []
    assert store.restore(entries) == len(entries)
    assert sorted(store.scan()) == sorted(entries)


# Deciding


@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_tasks_are_admitted_exactly(make: Callable[..., PostgresStore], kind: str) -> None:
    store = make()
    limiter = Limiter(kind, store=store, name="exact", on_outage="raise")
    with ThreadPoolExecutor(16) as threads:
        decisions = list(threads.map(lambda _: limiter.try_acquire("k"), range(70)))

    async def ask() -> list[Decision]:
        asking = AsyncLimiter(kind, store=store, name="exact", on_outage="raise")
        found = await asyncio.gather(*(asking.try_acquire("k") for _ in range(70)))
        await store.aclose()
        return list(found)

    decisions += asyncio.run(ask())
    assert sum(decision.allowed for decision in decisions) == 100


def test_a_hundred_groups_over_several_keys_wait_for_each_other_without_a_deadlock(
    make: Callable[..., PostgresStore],
) -> None:
    store = make(coalesce=False, max_connections=40, remember_denials=0)
    tiers = Limiter({"a": "100/day", "b": "1000/day", "c": "1000/day"}, store=store, on_outage="raise")

    def ask(number: int) -> list[bool]:
        keys = {"a": "same", "b": f"b{number % 3}", "c": f"c{number * 7 % 5}"}
        return [tiers.try_acquire(keys).allowed for _ in range(3)]

    with ThreadPoolExecutor(100) as threads:
        admitted = [allowed for one in threads.map(ask, range(100)) for allowed in one]
    assert sum(admitted) == 100


def test_batches_with_the_same_keys_in_another_order_do_not_deadlock(make: Callable[..., PostgresStore]) -> None:
    store = make(coalesce=False, max_connections=8)
    limit = TokenBucket(10**6, 1)
    groups = [Group((Hit(limit, f"k{number}", "order"),)) for number in range(50)]

    def ask(number: int) -> None:
        batch = groups[number:] + groups[:number]
        for _ in range(10):
            store.decide(batch if number % 2 else batch[::-1])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    assert store.decide([Group((Hit(limit, "k0", "order"),))])[0].allowed


def test_a_mark_makes_a_refund_count_once(make: Callable[..., PostgresStore]) -> None:
    store = make()
    limit = TokenBucket(10, 86_400)
    (spent,) = store.decide([Group((Hit(limit, "k", "once", 5),))])
    receipt = limit.receipt(spent.facts[0], 5)
    back = Group((Hit(limit, "k", "once", 5, receipt=receipt),), 0, "give_back", Once("m", spent.now_us + 10**9))
    store.decide([back, back])
    store.decide([back])
    assert store.decide([Group((Hit(limit, "k", "once", 0),), 0, "peek")])[0].remaining == 10


# What is kept


def test_what_has_expired_is_removed_by_the_calls_themselves(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str
) -> None:
    store = make()
    brief, long = TokenBucket(1, 0.000_001), TokenBucket(1, 86_400)
    store.decide([Group((Hit(long, "live", "kept"),))])
    use_clock(make(prefix="by hand"), ManualClock(1)).decide([Group((Hit(brief, "old", "manual"),))])
    for batch in range(40):
        store.decide([Group((Hit(brief, f"k{batch}.{number}", "gone"),)) for number in range(100)])
    with server.admin(database) as admin:
        names = [place.split(b":")[1] for (place,) in admin.execute("select place from headgate.state")]
    assert names.count(b"kept") == 1
    assert names.count(b"manual") == 1  # a test's clock says nothing about what is over
    assert names.count(b"gone") < 2_000  # of 4,000


def test_what_somebody_has_locked_is_left_for_later(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str
) -> None:
    store = make()
    brief = TokenBucket(1, 0.000_001)
    store.decide([Group((Hit(brief, "locked", "gone"),))])
    with server.admin(database) as admin, admin.transaction():
        admin.execute("select * from headgate.state for update")
        for number in range(50):
            store.decide([Group((Hit(brief, f"k{number}", "gone"),))])
    with server.admin(database) as admin:
        assert admin.execute(
            "select count(*) from headgate.state where place = %s", [place_of("headgate", "gone", "tb", "locked")]
        ).fetchone() == (1,)


def test_the_table_of_a_hot_key_stays_small(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str
) -> None:
    store = make()
    limit = TokenBucket(10**9, 1)
    for _ in range(5_000):
        store.decide([Group((Hit(limit, "hot", "hot"),))])
    with server.admin(database) as admin:
        (size,) = admin.execute("select pg_total_relation_size('headgate.state')").fetchone() or (-1,)
    assert size <= 64 * 1024


def test_entries_are_listed_cleared_and_restored_by_their_keys_and_names(make: Callable[..., PostgresStore]) -> None:
    store = make()
    limit = TokenBucket(10, 86_400)
    keys = [f"{kind}:{number}" for kind in ("user", "ip") for number in range(600)]
    for name in ("one", "two"):
        for at in range(0, len(keys), 200):
            store.decide([Group((Hit(limit, key, name),)) for key in keys[at : at + 200]])
    assert len(list(store.scan())) == 2_400
    assert {entry.key for entry in store.scan(name="one", key_prefix="ip:")} == {key for key in keys if key[0] == "i"}
    assert store.clear(name="two", key_prefix="user:") == 600
    assert len(list(store.scan())) == 1_800
    entries = list(store.scan())
    other = make(prefix="other")
    assert other.restore(entries) == 1_800
    assert other.restore(entries) == 0  # what lasts as long is there
    assert sorted(other.scan()) == sorted(entries)
    assert other.clear() == 1_800


# Connections


def test_a_store_that_was_pickled_counts_on_the_same_keys(make: Callable[..., PostgresStore]) -> None:
    store = make()
    Limiter("10/day", store=store, name="p", on_outage="raise").try_acquire("k")
    copy = pickle.loads(pickle.dumps(store))
    assert Limiter("10/day", store=copy, name="p", on_outage="raise").try_acquire("k").remaining == 8
    copy.close()


def test_threads_have_no_more_connections_than_they_are_allowed(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str
) -> None:
    store = make(coalesce=False, max_connections=3)
    limiter = Limiter("1000/second", store=store, on_outage="raise")
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: limiter.try_acquire(f"k{number}"), range(400)))
    with server.admin(database) as admin:
        (count,) = admin.execute(
            "select count(*) from pg_stat_activity where application_name = 'headgate' and datname = %s", [database]
        ).fetchone() or (-1,)
    assert 1 <= count <= 3


def test_tasks_have_no_more_connections_than_they_are_allowed(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str
) -> None:
    store = make(coalesce=False, max_connections=2)

    async def ask() -> int:
        limiter = AsyncLimiter("1000/second", store=store, on_outage="raise")
        await asyncio.gather(*(limiter.try_acquire(f"k{number}") for number in range(100)))
        with server.admin(database) as admin:
            (count,) = admin.execute(
                "select count(*) from pg_stat_activity where application_name = 'headgate' and datname = %s",
                [database],
            ).fetchone() or (-1,)
        await store.aclose()
        return int(count)

    assert 1 <= asyncio.run(ask()) <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(make: Callable[..., PostgresStore]) -> None:
    limiter = Limiter("100/day", store=make(), on_outage="raise")
    limiter.try_acquire("k")
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=lambda: queue.put(limiter.try_acquire("k").remaining)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENT)
    assert sorted(queue.get() for _ in children) == [95, 96, 97, 98]
    assert limiter.try_acquire("k").remaining == 94  # the parent's connection is as it was


def test_a_pool_of_the_users_is_used_and_left_open(server: OwnPostgres, database: str) -> None:
    url = server.url_of("postgres", database=database)
    with pools().ConnectionPool(url, min_size=1, max_size=2) as pool:
        store = PostgresStore(pool=pool, timeout=PATIENT)
        assert store.name == f"postgresql://127.0.0.1:{server.port}/{database}"
        use_everything(store)
        limiter = Limiter("100/day", store=store, on_outage="raise")
        with ThreadPoolExecutor(8) as threads:
            decisions = list(threads.map(lambda _: limiter.try_acquire("k"), range(50)))
        assert min(decision.remaining for decision in decisions) == 50
        store.close()
        with pool.connection() as connection:
            assert connection.execute("show transaction_isolation").fetchone() == ("read committed",)
            assert connection.execute("show lock_timeout").fetchone() == ("0",)
        with pytest.raises(InvalidUse, match="cannot be pickled"):
            pickle.dumps(store)
        with pytest.raises(InvalidUse, match="serves Limiter only"):
            asyncio.run(store.decide_async([]))


async def test_an_asyncio_pool_of_the_users_is_used_and_left_open(server: OwnPostgres, database: str) -> None:
    url = server.url_of("postgres", database=database)
    async with pools().AsyncConnectionPool(url, min_size=1, max_size=2) as pool:
        store = PostgresStore(pool=pool, timeout=PATIENT)
        limiter = AsyncLimiter("100/day", store=store, on_outage="raise")
        decisions = await asyncio.gather(*(limiter.try_acquire("k") for _ in range(50)))
        assert min(decision.remaining for decision in decisions) == 50
        await store.aclose()
        async with pool.connection() as connection:
            assert await (await connection.execute("show lock_timeout")).fetchone() == ("0",)
        with pytest.raises(InvalidUse, match="AsyncLimiter only"):
            Limiter("5/s", store=store, on_outage="raise").try_acquire("k")


def test_a_pool_without_a_free_connection_is_an_outage(server: OwnPostgres) -> None:
    with pools().ConnectionPool(server.url, min_size=1, max_size=1) as pool:
        limiter = Limiter("5/s", store=PostgresStore(pool=pool, timeout=0.05), on_outage="raise")
        with pool.connection(), pytest.raises(StoreOutage, match="no connection was free in time"):
            limiter.try_acquire("k")


def test_it_works_behind_pgbouncer_which_pools_transactions(server: OwnPostgres, prefix: str) -> None:
    with own_pgbouncer(server) as port:
        store = PostgresStore(f"postgresql://postgres@127.0.0.1:{port}/postgres", prefix=prefix, timeout=PATIENT)
        use_everything(store)
        limiter = Limiter("1000/day", store=store, on_outage="raise")
        without = PostgresStore(
            f"postgresql://postgres@127.0.0.1:{port}/postgres",
            prefix=prefix,
            timeout=PATIENT,
            coalesce=False,
            max_connections=8,
        )
        others = Limiter("1000/day", store=without, on_outage="raise")
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: (limiter, others)[number % 2].try_acquire("k"), range(200)))

        async def ask() -> Decision:
            asking = AsyncLimiter("1000/day", store=without, on_outage="raise")
            found = await asyncio.gather(*(asking.try_acquire("k") for _ in range(100)))
            await without.aclose()
            return min(found, key=lambda decision: decision.remaining)

        assert asyncio.run(ask()).remaining == 700
        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres") as connection:
            assert connection.execute("show lock_timeout").fetchone() == ("0",)  # no state is left
        store.close()
        without.close()


def test_a_call_in_the_middle_of_a_call_of_the_same_thread_ends(make: Callable[..., PostgresStore]) -> None:
    store = make()
    limiter = Limiter("100/day", store=store, on_outage="raise")
    inner: list[int] = []

    class Key(str):
        __slots__ = ()

        def encode(self, *arguments: Any, **named: Any) -> bytes:
            if not inner:
                inner.append(-1)
                inner[0] = limiter.try_acquire("inner").remaining
            return super().encode(*arguments, **named)

    store.decide([Group((Hit(TokenBucket(5, 60), Key("k"), "outer"),))])
    assert inner == [99]


def test_many_threads_that_come_and_go_leave_no_connection_behind(
    make: Callable[..., PostgresStore], server: OwnPostgres, database: str
) -> None:
    store = make()
    limiter = Limiter("1000/second", store=store, on_outage="raise")
    for number in range(20):
        thread = threading.Thread(target=limiter.try_acquire, args=(f"k{number}",))
        thread.start()
        thread.join()
    store.close()
    for _ in range(200):
        with server.admin(database) as admin:
            (count,) = admin.execute(
                "select count(*) from pg_stat_activity where application_name = 'headgate' and datname = %s", [database]
            ).fetchone() or (-1,)
        if count == 0:
            return
    pytest.fail("connections are left")
