"""PostgreSQL servers that stop, crash, hang, refuse, or are locked: what callers are told, how many are admitted, and
that all is as before once the server is.

How long calls took is recorded with each test (`--junitxml`, with `-o junit_family=xunit1`), and not asserted.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from headgate import AsyncLimiter, Decision, Limiter, StoreOutage, StoreTimeout
from headgate.breaker import Breaker
from headgate.stores.postgres import PostgresStore
from tests.disks import fill, small_disk
from tests.postgres_servers import SOMEBODY, OwnPostgres, own_postgres
from tests.servers import PATIENCE, eventually

TIMEOUT = 1.0
OURS = "application_name = 'headgate'"
Record = Callable[[str, object], None]


@pytest.fixture
def server() -> Iterator[OwnPostgres]:
    """A server that has the schema, which takes as long as it takes."""
    with own_postgres(16) as own:
        store = PostgresStore(own.url, timeout=PATIENCE)
        Limiter("1/s", store=store, name="first", on_outage="raise").peek("k")
        store.close()
        yield own


class Caller:
    """Calls, blocking or in an event loop, and keeps how long the longest call took."""

    def __init__(self, server: OwnPostgres, *, is_async: bool, record: Record, **options: Any) -> None:
        options = {"timeout": TIMEOUT, "breaker": False, **options}
        self._record = record
        self._runner = asyncio.Runner() if is_async else None
        self.store = PostgresStore(server.url, **options)
        self._blocking = Limiter("1000/day", store=self.store, name="faults", on_outage="raise")
        self._awaited = AsyncLimiter("1000/day", store=self.store, name="faults", on_outage="raise")
        self._longest_s = 0.0

    def ask(self, key: str = "k") -> Decision:
        began = time.perf_counter()
        try:
            if self._runner is None:
                return self._blocking.try_acquire(key)
            return self._runner.run(self._awaited.try_acquire(key))
        finally:
            self._longest_s = max(self._longest_s, time.perf_counter() - began)

    def outage(self, key: str = "k") -> StoreOutage:
        """The outage that a call is."""
        with pytest.raises(StoreOutage) as raised:
            self.ask(key)
        return raised.value

    def recovers(self) -> Decision:
        """The first call that is answered, and how long that took."""
        began = time.perf_counter()
        found: list[Decision] = []

        def is_answered() -> bool:
            try:
                found.append(self.ask())
            except StoreOutage:
                return False
            return True

        eventually(is_answered, "the server is asked again")
        self._record("recovered_after_ms", round((time.perf_counter() - began) * 1_000))
        return found[0]

    def close(self) -> None:
        self._record("longest_call_ms", round(self._longest_s * 1_000))
        self._record("over_deadline_ms", round(max(0.0, self._longest_s - TIMEOUT) * 1_000))
        if self._runner is not None:
            self._runner.run(self.store.aclose())
            self._runner.close()
        self.store.close()


@pytest.fixture(params=["blocking", "awaited"])
def caller(request: pytest.FixtureRequest, server: OwnPostgres, record_property: Record) -> Iterator[Caller]:
    caller = Caller(server, is_async=request.param == "awaited", record=record_property)
    try:
        assert caller.recovers().remaining == 999
        yield caller
    finally:
        caller.close()


def test_a_server_that_is_stopped_is_an_outage_until_it_is_back(server: OwnPostgres, caller: Caller) -> None:
    server.stop()
    for _ in range(3):
        caller.outage()
    assert "it cannot be reached" in str(caller.outage())
    server.start()
    assert caller.recovers().remaining == 998  # it was kept


def test_a_crash_keeps_what_is_logged_and_forgets_what_is_not(server: OwnPostgres, record_property: Record) -> None:
    for unlogged, remaining in ((False, 998), (True, 999)):
        schema = "quick" if unlogged else "headgate"
        caller = Caller(server, is_async=False, record=record_property, unlogged=unlogged, schema=schema)
        caller.recovers()
        with server.admin() as admin:
            admin.execute("checkpoint")  # fsync is off here; the log is written all the same
        server.stop(signal.SIGQUIT)
        caller.outage()
        server.start()
        assert caller.recovers().remaining == remaining
        caller.close()


def test_a_server_that_hangs_is_a_timeout_and_nothing_is_sent_again(server: OwnPostgres, caller: Caller) -> None:
    server.freeze()
    assert isinstance(caller.outage(), StoreTimeout)
    assert isinstance(caller.outage(), StoreTimeout)  # with connecting
    server.thaw()
    assert caller.recovers().remaining in (997, 998)  # the first of the two may have been counted


def test_calls_that_wait_together_for_a_server_that_hangs_all_end(server: OwnPostgres, record_property: Record) -> None:
    store = PostgresStore(server.url, timeout=TIMEOUT, breaker=Breaker(failures=3, open_for=0.1))
    limiter = Limiter("1000/day", store=store, on_outage="raise")
    limiter.try_acquire("k")
    took: list[float] = []

    def ask(_: int) -> str:
        began = time.perf_counter()
        try:
            limiter.try_acquire("k")
        except StoreOutage as outage:
            return type(outage).__name__
        finally:
            took.append(time.perf_counter() - began)
        return "answered"

    server.freeze()
    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(ask, range(64)))
    server.thaw()
    record_property("longest_call_ms", round(max(took) * 1_000))
    assert set(outcomes) <= {"StoreTimeout", "StoreUnavailable"}
    eventually(lambda: ask(0) == "answered", "its breaker is closed")
    store.close()


def test_a_backend_that_was_terminated_while_idle_is_not_noticed(server: OwnPostgres, caller: Caller) -> None:
    with server.admin() as admin:
        admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {OURS}")
        eventually(lambda: not _sessions(admin), "it has ended")
    assert caller.ask().remaining == 998


@contextmanager
def locked_by_somebody(server: OwnPostgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url) as other:
        other.execute("select * from headgate.state for update")
        yield other
        other.rollback()


def _sessions(admin: psycopg.Connection[Any], state: str = "%") -> list[Any]:
    return admin.execute(
        f"select pid from pg_stat_activity where {OURS} and state like %s and pid <> pg_backend_pid()", [state]
    ).fetchall()


@pytest.mark.parametrize(
    ("order", "code"),
    [("pg_terminate_backend", "57P01"), ("pg_cancel_backend", "57014")],
    ids=["terminated", "cancelled"],
)
def test_a_call_whose_backend_is_broken_off_says_so(server: OwnPostgres, caller: Caller, order: str, code: str) -> None:
    def break_off() -> None:
        with server.admin() as admin:
            for _ in range(2_000):
                if _sessions(admin, "active"):
                    admin.execute(f"select {order}(pid) from pg_stat_activity where {OURS}")
                    return
                time.sleep(0.001)

    with locked_by_somebody(server):
        breaking = threading.Thread(target=break_off)
        breaking.start()
        assert code in str(caller.outage())
        breaking.join()
    assert caller.recovers().remaining == 998


def test_a_lock_that_somebody_holds_is_an_outage_of_its_key_alone(server: OwnPostgres, caller: Caller) -> None:
    with locked_by_somebody(server):
        outage = caller.outage()
        assert "55P03" in str(outage)
        assert not outage.is_of_server
        assert caller.ask("another").remaining == 999
    assert caller.ask().remaining == 998


def test_a_transaction_that_idles_with_a_lock_is_ended_by_the_server(server: OwnPostgres, caller: Caller) -> None:
    with psycopg.connect(server.url) as other:
        other.execute("set idle_in_transaction_session_timeout = '100ms'")
        other.execute("select * from headgate.state for update")
        assert caller.recovers().remaining == 998
        with pytest.raises(psycopg.Error):
            other.execute("select 1")


def test_a_session_that_was_ended_for_idling_is_not_noticed(server: OwnPostgres, record_property: Record) -> None:
    with server.admin() as admin:
        admin.execute("alter database postgres set idle_session_timeout = '50ms'")
    caller = Caller(server, is_async=False, record=record_property)
    with server.admin() as admin:
        admin.execute("set idle_session_timeout = 0")
        for remaining in (999, 998):
            assert caller.ask().remaining == remaining
            eventually(lambda: not _sessions(admin), "it has ended")
    caller.close()


def test_a_server_without_a_connection_left_is_an_outage(server: OwnPostgres, caller: Caller) -> None:
    held: list[psycopg.Connection[Any]] = []
    try:
        server.stop()
        server.start("max_connections=8", "superuser_reserved_connections=0")
        while len(held) < 8:
            held.append(psycopg.connect(server.url))
        assert "53300" in str(caller.outage())
    finally:
        for one in held:
            one.close()
    assert caller.recovers().remaining == 998


def test_a_server_that_is_read_only_is_an_outage_and_asked_anew(server: OwnPostgres, caller: Caller) -> None:
    with server.admin() as admin:
        admin.execute("alter database postgres set default_transaction_read_only = on")
        admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {OURS}")
        eventually(lambda: not _sessions(admin), "it has ended")
        outage = caller.outage()
        assert "25006" in str(outage)
        admin.execute("set default_transaction_read_only = off")
        admin.execute("alter database postgres set default_transaction_read_only = off")
    assert caller.ask().remaining == 998  # on a new connection


def test_a_wrong_password_or_database_says_what_to_check(server: OwnPostgres) -> None:
    with server.admin() as admin:
        admin.execute("create role me login password 'right'")
    access = server.folder / "data" / "pg_hba.conf"
    access.write_text(f"host all me 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
    with server.admin() as admin:
        admin.execute("select pg_reload_conf()")
        eventually(lambda: _is_refused(server), "the passwords are asked for")
    for url, code in (
        (server.url_of("me", "geheim"), "28P01"),
        (server.url_of("somebody", "geheim"), "28000"),
        (server.url_of("postgres", database="nothing"), "3D000"),
    ):
        limiter = Limiter("5/s", store=PostgresStore(url), on_outage="raise")
        with pytest.raises(StoreOutage, match=code) as raised:
            limiter.try_acquire("k")
        assert "geheim" not in str(raised.value)
    store = PostgresStore(server.url_of("nobody"), username="me", password="right", schema="public")
    with pytest.raises(StoreOutage, match="this role may not make it"):
        Limiter("5/s", store=store, on_outage="raise").try_acquire("k")
    store.close()


def _is_refused(server: OwnPostgres) -> bool:
    try:
        psycopg.connect(server.url_of("me", "wrong")).close()
    except psycopg.OperationalError:
        return True
    return False


@pytest.mark.parametrize(
    "url", ["postgresql://127.0.0.1:1/x", "postgresql://no-such-host.invalid/x", "postgresql:///x?host=/nowhere"]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_server_that_is_not_there_is_an_outage(url: str, is_async: bool) -> None:
    store = PostgresStore(url, timeout=2)

    def ask() -> Decision:
        if is_async:
            return asyncio.run(AsyncLimiter("5/s", store=store, on_outage="raise").try_acquire("k"))
        return Limiter("5/s", store=store, on_outage="raise").try_acquire("k")

    with pytest.raises(StoreOutage, match="it cannot be reached: check the address"):
        ask()


def test_a_task_that_is_cancelled_in_its_call_leaves_the_others_be(server: OwnPostgres) -> None:
    async def main() -> None:
        store = PostgresStore(server.url, timeout=5)
        limiter = AsyncLimiter("1000/day", store=store, name="faults", on_outage="raise")
        await limiter.try_acquire("k")
        with locked_by_somebody(server):
            waiting = [asyncio.ensure_future(limiter.try_acquire("k")) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.sleep(0.01)
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert all(isinstance(decision, Decision) for decision in found[1:])
        await store.aclose()

    asyncio.run(main())


def test_a_full_disk_is_an_outage_of_new_keys_and_those_that_are_there_go_on(
    server: OwnPostgres, caller: Caller
) -> None:
    with small_disk(server.folder / "small", SOMEBODY) as disk, server.admin() as admin:
        admin.execute(f"create tablespace small location '{disk}'")
        admin.execute("alter table headgate.state set tablespace small")
        make_room = fill(disk)
        problems = []
        for number in range(2_000):
            try:
                caller.ask(f"key {number}")
            except StoreOutage as outage:
                problems.append(str(outage))
                break
        assert "its disk is full" in problems[0]
        assert caller.ask().remaining == 998
        make_room()
        assert caller.ask("another").remaining == 999
        admin.execute("alter table headgate.state set tablespace pg_default")
        admin.execute("checkpoint")
        admin.execute("drop tablespace small")
