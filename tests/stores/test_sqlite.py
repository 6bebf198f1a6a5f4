"""The SQLite store: what its file is, who shares it, and what comes of a file that is gone, full, locked or none."""

from __future__ import annotations

import asyncio
import copy
import fcntl
import os
import pickle
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

from headgate import AsyncLimiter, Decision, Limiter, ManualClock, StoreOutage, StoreTimeout, StoreUnavailable
from headgate.errors import InvalidUse, StoreURLError
from headgate.stores import Entry, Group, Hit, ScannableStore, Store
from headgate.stores.registry import open_store
from headgate.stores.sqlite import SqliteStore
from headgate.stores.sqlite import connection as sqlite_connection
from headgate.stores.sqlite.connection import SWEEP_ROWS
from headgate.stores.sqlite.file import CHECKPOINT_EVERY
from headgate.stores.sqlite.turns import Turns
from headgate.testing import use_clock
from tests.disks import fill, small_disk
from tests.profiles import TIMES
from tests.servers import PATIENCE, eventually, free_port
from tests.stores import side_by_side


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, timeout=PATIENCE)
    yield store
    store.close()


def limiter_of(store: SqliteStore, limit: str = "100/day") -> Limiter:
    return Limiter(limit, store=store, name="n", on_outage="raise")


def rows(path: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as database:
        found = database.execute(
            "SELECT prefix, name, code, key FROM headgate_state_1 WHERE prefix <> '' ORDER BY key"
        ).fetchall()
    database.close()
    return found


# The URL


@pytest.mark.parametrize("url", ["sqlite:///limits.db", "SQLite:///limits.db"])
def test_three_slashes_are_before_a_relative_path(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    monkeypatch.chdir("/")  # a server that goes elsewhere afterwards means the same file
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "limits.db"
    limiter_of(store).try_acquire("k")
    store.close()
    assert (tmp_path / "limits.db").exists()


def test_four_slashes_are_before_an_absolute_path(path: Path) -> None:
    store = open_store(f"sqlite:///{path}", prefix="p", timeout=3, remember_denials=0)
    assert isinstance(store, SqliteStore)
    assert (store.path, store.name, store.timeout) == (path, f"sqlite:///{path}", 3)


def test_a_relative_path_stays_where_it_was_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "sqlite:///limits.db"
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    here = Limiter("9/day", store=url, name="n", on_outage="raise")
    assert here.try_acquire("k").remaining == 8
    carried = pickle.dumps(here)
    monkeypatch.chdir(tmp_path / "there")
    for copied in (pickle.loads(carried), copy.copy(here)):
        assert copied.try_acquire("k", 2).remaining in (6, 4)
    there = Limiter("9/day", store=url, name="n", on_outage="raise")
    assert there.try_acquire("k").remaining == 8
    assert (tmp_path / "there" / "limits.db").exists()
    here.close()
    there.close()


@pytest.mark.parametrize(
    "url",
    ["sqlite://limits.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", ":memory:", "sqlite:///a.db?mode=ro", ""],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreURLError):
        SqliteStore(url)


def test_other_options_are_refused() -> None:
    with pytest.raises(InvalidUse, match="does not take hash_tag"):
        open_store("sqlite:///limits.db", hash_tag="x")
    with pytest.raises(InvalidUse, match="not bytes"):
        SqliteStore(b"limits.db")  # type: ignore[arg-type]


def test_making_a_store_opens_nothing(path: Path) -> None:
    SqliteStore(path)
    assert not list(path.parent.iterdir())


def test_a_store_can_be_pickled(store: SqliteStore) -> None:
    limiter_of(store).try_acquire("k", 3)
    copy = pickle.loads(pickle.dumps(store))
    assert limiter_of(copy).peek("k").remaining == 97
    copy.close()


# Who shares it


def test_prefixes_and_names_are_kept_apart(path: Path) -> None:
    stores = [SqliteStore(path, prefix=prefix) for prefix in ("a", "b")]
    for store in stores:
        assert limiter_of(store, "1/day").try_acquire("k")
        assert not limiter_of(store, "1/day").try_acquire("k")
        store.close()
    assert rows(path) == [("a", "n", "tb", "k"), ("b", "n", "tb", "k")]


def test_a_forked_process_shares_the_limit_with_its_parent(path: Path) -> None:
    script = f"""
import os
from headgate import Limiter
limiter = Limiter("100/day", store="sqlite:///{path}", name="n", on_outage="raise", timeout=20)
mine = sum(limiter.try_acquire("k").allowed for _ in range(10))
pid = os.fork()
mine += sum(limiter.try_acquire("k").allowed for _ in range(40))
if pid == 0:
    os._exit(mine)
_, status = os.waitpid(pid, 0)
print(mine + os.waitstatus_to_exitcode(status) - 10, limiter.peek("k").remaining)
"""
    told = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["90", "10"]


def test_a_process_forked_in_the_midst_of_others_calls_goes_on(path: Path) -> None:
    script = f"""
import os, threading
from headgate import Limiter
limiter = Limiter("1000000/day", store="sqlite:///{path}", name="n", on_outage="raise", timeout=20)
goes_on = True
def ask():
    while goes_on:
        limiter.try_acquire("k")
threads = [threading.Thread(target=ask) for _ in range(4)]
[thread.start() for thread in threads]
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        limiter.try_acquire("k")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
goes_on = False
[thread.join() for thread in threads]
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", script], check=True, timeout=60)


async def test_event_loops_and_threads_share_a_store(store: SqliteStore) -> None:
    blocking, awaited = limiter_of(store), AsyncLimiter("100/day", store=store, name="n", on_outage="raise")

    async def ask() -> int:
        return sum([(await awaited.try_acquire("k")).allowed for _ in range(10)])

    def block() -> int:
        return sum(blocking.try_acquire("k").allowed for _ in range(10))

    admitted = await asyncio.gather(*(ask() for _ in range(8)), *(asyncio.to_thread(block) for _ in range(8)))
    assert sum(admitted) == 100


class Two:
    """Two stores that share a file, one of which is asked at a time. They remember no denial, which the other may have
    made untrue.
    """

    def __init__(self, path: Path, clock: ManualClock, draw: random.Random) -> None:
        self.stores = [use_clock(SqliteStore(path, timeout=PATIENCE, remember_denials=0), clock) for _ in range(2)]
        self.draw = draw

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        return self.draw.choice(self.stores).decide(groups)

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        return await self.draw.choice(self.stores).decide_async(groups)

    def close(self) -> None:
        for store in self.stores:
            store.close()

    async def aclose(self) -> None:
        for store in self.stores:
            await store.aclose()


@pytest.mark.parametrize("seed", range(3))
def test_stores_that_write_by_turns_decide_as_the_reference_does(
    seed: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "KEYS", ["k"])  # so that each finds again and again what the other wrote

    def two(clock: ManualClock) -> Store:
        return cast("Store", Two(path, clock, random.Random(seed)))

    assert side_by_side.compare({"two": two}, 1_000 * TIMES, seed) >= 1_000 * TIMES


def statements(store: SqliteStore, ask: Callable[[], object]) -> list[str]:
    """The first words of what SQLite is told, while something is asked."""
    told: list[str] = []
    (connection,) = store._file._idle
    database = connection._database
    assert database is not None
    connection._sweep_at = connection.written + SWEEP_ROWS  # not now
    database.set_trace_callback(lambda statement: told.append(statement.split()[0]))
    ask()
    database.set_trace_callback(None)
    return told


def test_a_hit_is_one_statement_while_nobody_else_writes_what_it_changes(path: Path) -> None:
    one, other = SqliteStore(path), SqliteStore(path)
    first, second = limiter_of(one), limiter_of(other)
    assert first.try_acquire("k").remaining == 99
    assert statements(one, lambda: first.try_acquire("k")) == ["UPDATE"]
    assert second.try_acquire("k").remaining == 97
    read_first = ["BEGIN", "SELECT", "INSERT", "COMMIT"]
    assert statements(one, lambda: first.try_acquire("k")) == ["UPDATE", *read_first]  # it was changed meanwhile
    assert statements(one, lambda: first.try_acquire("k")) == read_first  # until nobody else has
    assert statements(one, lambda: first.try_acquire("k")) == ["UPDATE"]
    assert statements(one, lambda: first.peek("k")) == ["BEGIN", "SELECT", "COMMIT"]
    assert first.peek("k").remaining == second.peek("k").remaining == 94
    for store in (one, other):
        store.close()


def test_what_was_cleared_or_restored_meanwhile_is_seen(path: Path) -> None:
    one, other = SqliteStore(path), SqliteStore(path)
    limiter = limiter_of(one)
    assert limiter.try_acquire("k", 40).remaining == 60
    kept = list(other.scan())
    assert other.clear() == 1
    assert [limiter.try_acquire("k", 5).remaining for _ in range(3)] == [95, 90, 85]
    other.restore(kept)
    assert limiter.try_acquire("k", 10).remaining == 50
    for store in (one, other):
        store.close()


def test_a_connection_knows_of_so_many_entries_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "MAX_KNOWN", 4)
    store = SqliteStore(path)
    limiter = limiter_of(store)
    for _ in range(2):
        for number in range(9):
            limiter.try_acquire(f"k{number}")
            assert len(store._file._idle[0]._known) <= 4
    assert [limiter.peek(f"k{number}").remaining for number in range(9)] == [98] * 9
    store.close()


# Whose turn it is


def test_whoever_has_had_the_file_for_long_lets_go_first_who_waits(path: Path) -> None:
    greedy, patient = Turns(path), Turns(path)
    assert greedy.try_take()
    waiting = threading.Thread(target=patient.take)
    waiting.start()
    eventually(lambda: _is_waited_for(path), "somebody waits")
    time.sleep(0.001)  # so long has it been held
    greedy.end()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert not greedy.try_take()  # it is the patient one's turn
    patient.end()
    assert greedy.try_take()
    greedy.end()
    for turns in (greedy, patient):
        turns.close()


def test_turns_are_taken_by_the_files_that_are_there(path: Path) -> None:
    before = Turns(path)
    before.take()
    before.end()
    for file in (Path(f"{path}-turn"), Path(f"{path}-next")):
        file.unlink()
    later = Turns(path)
    later.take()
    assert before.try_take()  # of those that were removed
    before._look_at_ns = 0
    before.end()
    assert not before.try_take()
    later.end()
    assert before.try_take()
    before.end()
    before.close()
    later.close()


def test_a_link_to_the_file_takes_turns_with_all_others(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    one, other = Turns(path), Turns(link)
    one.take()
    assert not other.try_take()
    one.end()
    one.close()
    other.close()
    stores = [SqliteStore(path), SqliteStore(link)]
    assert [limiter_of(store).try_acquire("k").remaining for store in stores] == [99, 98]
    for store in stores:
        store.close()
    assert not list(tmp_path.glob("link.db-*"))


def test_whoever_may_write_the_file_may_take_turns_with_whoever_made_it() -> None:
    with tempfile.TemporaryDirectory(prefix="headgate-shared-") as folder:
        Path(folder).chmod(0o755)
        for name in ("turn", "next"):
            Path(f"{folder}/limits.db-{name}").touch(mode=0o444)  # as with a umask of 022 they are left to all others
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            turns = Turns(Path(folder, "limits.db"))
        finally:
            if is_root:
                os.seteuid(0)
        turns.take()
        turns.end()
        turns.close()


def _is_waited_for(path: Path) -> bool:
    """Does somebody have the place of who goes next?"""
    with Path(f"{path}-next").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program keeps a transaction open in the file."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_file_that_another_program_locks_is_an_outage_at_the_deadline(path: Path) -> None:
    store = SqliteStore(path, timeout=0.1, breaker=False)
    limiter = limiter_of(store)
    limiter.try_acquire("k")
    with locked(path), pytest.raises(StoreOutage) as caught:
        limiter.try_acquire("k")
    assert re.search("does another program keep it locked|another program has it locked", str(caught.value))
    eventually(lambda: _works(limiter), "the file can be written again")
    # Whoever was told that the file is locked did not write. Of a call without an answer, nobody knows.
    assert limiter.peek("k").remaining in ((98, 99) if isinstance(caught.value, StoreTimeout) else (99,))
    store.close()


def _works(limiter: Limiter) -> bool:
    with suppress(StoreOutage):
        limiter.peek("k")
        return True
    return False


async def test_while_another_program_has_it_locked_the_event_loop_goes_on(path: Path) -> None:
    store = SqliteStore(path, timeout=PATIENCE)
    limiter = AsyncLimiter("100/day", store=store, name="n", on_outage="raise")
    await limiter.try_acquire("k")
    with locked(path):
        asking = asyncio.create_task(limiter.try_acquire("k"))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not asking.done()
    assert (await asking).remaining == 98
    await store.aclose()


def test_a_caller_that_waited_for_its_turn_decides_when_it_comes(path: Path) -> None:
    store = SqliteStore(path, timeout=PATIENCE)
    limiter = limiter_of(store)
    limiter.try_acquire("k")
    turns = Turns(path)
    turns.take()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(limiter.try_acquire, "k")
        eventually(lambda: _is_waited_for(path), "it waits")
        assert not asked.done()
        turns.end()
        assert asked.result(PATIENCE).remaining == 98
    assert limiter.try_acquire("k").remaining == 97
    assert turns.try_take()  # it has ended its turn
    turns.end()
    turns.close()
    store.close()


def test_a_call_in_the_midst_of_a_call_that_waits_for_its_turn_is_answered_and_so_is_that(path: Path) -> None:
    store = SqliteStore(path, timeout=PATIENCE, coalesce=False)
    limiter = limiter_of(store)
    limiter.try_acquire("k")
    turns = Turns(path)
    turns.take()
    inner: list[int] = []

    def handle(*_: object) -> None:
        releasing.start()
        inner.append(limiter.try_acquire("k", 10).remaining)

    def strike() -> None:
        eventually(lambda: _is_waited_for(path), "it waits")
        os.kill(os.getpid(), signal.SIGUSR1)

    striking, releasing = threading.Thread(target=strike), threading.Timer(0.02, turns.end)
    former = signal.signal(signal.SIGUSR1, handle)
    try:
        striking.start()
        limiter.try_acquire("k")
    finally:
        striking.join()
        signal.signal(signal.SIGUSR1, former)
    assert len(inner) == 1
    assert limiter.peek("k").remaining == 88
    turns.close()
    store.close()


HOLDER = """
import sys, time
from pathlib import Path
from headgate.stores.sqlite.turns import Turns
turns = Turns(Path(sys.argv[1]))
turns.take()
print("held", flush=True)
time.sleep(60)
"""


def test_a_process_that_hangs_in_its_turn_holds_up_nobody_beyond_the_deadline(path: Path) -> None:
    store = SqliteStore(path, timeout=0.1, breaker=False)
    limiter = limiter_of(store)
    limiter.try_acquire("k")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        for _ in range(3):
            with pytest.raises(StoreTimeout):
                limiter.try_acquire("k")
        holder.kill()
    eventually(lambda: _works(limiter), "it is somebody else's turn")
    assert limiter.peek("k").remaining == 99  # whoever had given up was not charged
    store.close()


async def test_a_task_that_is_cancelled_while_it_waits_for_its_turn_is_not_charged(path: Path) -> None:
    store = SqliteStore(path, timeout=PATIENCE)
    limiter = AsyncLimiter("100/day", store=store, name="n", on_outage="raise")
    await limiter.try_acquire("k")
    turns = Turns(path)
    turns.take()
    asking = asyncio.create_task(limiter.try_acquire("k"))
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    turns.end()
    turns.close()

    async def is_given_back() -> bool:
        return (await limiter.peek("k")).remaining == 99

    for _ in range(1000):
        if await is_given_back():
            break
        await asyncio.sleep(0.005)
    assert await is_given_back()
    await store.aclose()


def test_a_call_in_the_midst_of_a_call_of_the_same_thread_is_refused_at_once(path: Path) -> None:
    store = SqliteStore(path, timeout=PATIENCE, remember_denials=0)
    limiter = limiter_of(store)
    limiter.try_acquire("k")
    told: list[str] = []

    def clock() -> int:
        """Stands for a signal's handler: it is called in the midst of a transaction."""
        if not told:
            told.append("")
            try:
                limiter.try_acquire("other")
            except StoreUnavailable as outage:
                told[0] = str(outage)
        return time.time_ns() // 1_000

    store.use_clock(clock)
    assert limiter.try_acquire("k")
    assert "in use by the call that was interrupted" in told[0]
    assert limiter.try_acquire("other")
    store.close()


# Files that are not as they should be


def look_now(store: SqliteStore) -> None:
    """Have the next call look whether the files are still there, as it is else done every 10 ms."""
    for connection in store._file._open:
        connection._look_at_ns = 0


def test_a_file_that_is_deleted_is_an_outage_and_then_counting_begins_anew(path: Path) -> None:
    store = SqliteStore(path)
    limiter = limiter_of(store, "1/day")
    assert limiter.try_acquire("k")
    path.unlink()
    look_now(store)
    with pytest.raises(StoreUnavailable, match="its file was deleted: what was owed is forgotten"):
        limiter.try_acquire("k")
    assert limiter.try_acquire("k")
    assert path.exists()
    path.rename(path.with_suffix(".old"))
    other = SqliteStore(path)
    other.decide([Group((Hit(limiter.limits["n"], "other", "n"),))])
    other.close()
    look_now(store)
    with pytest.raises(StoreUnavailable, match=r"limits.db: another file has taken its place"):
        limiter.try_acquire("k")
    assert limiter.try_acquire("k")
    store.close()


def test_a_log_that_is_deleted_is_an_outage_and_no_process_counts_apart(path: Path) -> None:
    store = SqliteStore(path)
    limiter = limiter_of(store)
    limiter.try_acquire("k")
    for name in ("wal", "shm"):
        Path(f"{path}-{name}").unlink()
    ask = (
        f"from headgate import Limiter; limiter = Limiter('100/day', store='sqlite:///{path}', name='n');"
        "print(limiter.try_acquire('k').remaining, flush=True); input();"
        "print(limiter.try_acquire('k').remaining, flush=True)"
    )
    other = subprocess.Popen([sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    told = int(other.stdout.readline())
    look_now(store)
    with pytest.raises(StoreUnavailable, match=r"its log \(-wal\) was deleted: what was owed is forgotten"):
        limiter.try_acquire("k")
    assert limiter.try_acquire("k").remaining == told - 1
    rest, _ = other.communicate("\n", timeout=PATIENCE)
    assert int(rest) == told - 2
    store.close()


def test_a_folder_that_is_not_there_is_refused_when_the_store_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "none/deeper", "file", "file/deeper"):
        folder = tmp_path / name
        said = f"there is no folder '{folder}': make it, or check the path"
        with pytest.raises(StoreURLError, match=said):
            SqliteStore(folder / "limits.db")
        with pytest.raises(StoreURLError, match=said):
            Limiter("5/s", store=f"sqlite:///{folder}/limits.db")


def test_a_folder_that_goes_away_is_an_outage(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    folder.mkdir()
    limiter = limiter_of(SqliteStore(folder / "limits.db"))
    folder.rmdir()
    with pytest.raises(StoreUnavailable, match=r"store sqlite:////.*/none/limits.db: check its folder, and the rights"):
        limiter.try_acquire("k")


def test_a_folder_in_place_of_the_file_is_an_outage(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreUnavailable, match="it cannot be opened: check that its folder exists, and the rights"):
        limiter_of(SqliteStore(path)).try_acquire("k")


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_of_something_else_is_an_outage_and_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"it is no file of SQLite|it is damaged|it cannot be used"):
        limiter_of(SqliteStore(path)).try_acquire("k")
    assert path.read_bytes() == content


def test_a_file_that_was_cut_is_an_outage_until_it_is_removed(path: Path) -> None:
    store = SqliteStore(path)
    limiter = limiter_of(store)
    for number in range(200):
        limiter.try_acquire(f"k{number}")
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:1024] + os.urandom(len(content) - 1024))
    with pytest.raises(StoreUnavailable, match=r"it is damaged: remove it|it is no file of SQLite"):
        limiter.try_acquire("k")
    path.unlink()
    assert limiter.try_acquire("k")
    store.close()


def test_a_full_disk_is_an_outage_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "limits.db"
        store = SqliteStore(path, breaker=False)
        limiter = limiter_of(store)
        assert limiter.try_acquire("k")
        make_room = fill(disk)

        def ask_until_it_fails() -> None:
            for number in range(1000):
                limiter.try_acquire(f"k{number}")

        with pytest.raises(StoreUnavailable, match="the disk is full: make room"):
            ask_until_it_fails()
        make_room()
        assert limiter.try_acquire("k")
        store.close()


# What is kept


def test_what_says_nothing_any_more_is_removed_in_small_bites(path: Path) -> None:
    clock = ManualClock()
    store = use_clock(SqliteStore(path), clock)
    limiter = limiter_of(store, "1000000/second")
    for number in range(20 * SWEEP_ROWS):
        limiter.try_acquire(f"old {number}")
    clock.advance(1)
    most = 0
    for number in range(40 * SWEEP_ROWS):
        limiter.try_acquire(f"new {number % 50}")
        most = max(most, len(rows(path)) if number % SWEEP_ROWS == 0 else 0)
    assert most <= 20 * SWEEP_ROWS + 50
    assert len(rows(path)) <= 50
    store.close()


def test_processes_that_write_little_remove_and_carry_as_much_as_one_that_writes_all(path: Path) -> None:
    clock = ManualClock()
    stays = use_clock(SqliteStore(path), clock)  # while it has the file open, SQLite carries nothing by itself
    assert limiter_of(stays).try_acquire("k")
    log = Path(f"{path}-wal")
    most = 0
    for number in range(20 * SWEEP_ROWS):
        store = use_clock(SqliteStore(path), clock)
        limiter_of(store, "1000/second; burst=1").try_acquire(f"k{number:05}")
        store.close()
        most = max(most, log.stat().st_size)
        clock.advance(0.001)
    assert most < 100 * 1024
    assert len(rows(path)) < 10 * SWEEP_ROWS
    assert limiter_of(stays).peek("k").remaining == 99
    stays.close()


def test_what_is_owed_is_kept_while_others_are_removed(path: Path) -> None:
    clock = ManualClock()
    store = use_clock(SqliteStore(path), clock)
    long, short = limiter_of(store, "2/day"), Limiter("1/second", store=store, name="short", on_outage="raise")
    keys = [f"k{number}" for number in range(3 * SWEEP_ROWS)]
    for key in keys:
        assert long.try_acquire(key, 2)
    for number in range(500):
        short.try_acquire(f"{number}")
        clock.advance(1)
    assert not any(long.try_acquire(key) for key in keys)
    store.close()


def test_the_log_beside_the_file_stays_small(path: Path) -> None:
    store = SqliteStore(path)
    limiter = limiter_of(store, "1000000/day")
    log = Path(f"{path}-wal")
    most = 0
    for number in range(5 * CHECKPOINT_EVERY):
        limiter.try_acquire(f"k{number % 100}")
        most = max(most, log.stat().st_size)
    assert most < 4 * CHECKPOINT_EVERY * 3 * 1024
    store.close()
    eventually(lambda: not log.exists(), "what was written is in the file, and the log is gone")


def test_what_a_killed_process_has_spent_stays_spent(path: Path) -> None:
    script = f"""
import os, signal
from headgate import Limiter
limiter = Limiter("100/day", store="sqlite:///{path}", name="n", on_outage="raise")
for _ in range(60): limiter.try_acquire("k")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    store = SqliteStore(path)
    assert limiter_of(store).peek("k").remaining == 40
    store.close()


# For operators


ODD = ["user:1", "user:12", "us%r", "us_r", "user*", "[user]", "USER:1", "naïve", "北京", "a\\b", "'", '"', "x" * 1024]


def test_what_is_owed_is_listed_cleared_and_restored(path: Path, tmp_path: Path) -> None:
    clock = ManualClock()
    store = use_clock(SqliteStore(path), clock)
    assert isinstance(store, ScannableStore)
    one, two = limiter_of(store), Limiter("sliding-log 5/minute", store=store, name="two", on_outage="raise")
    for key in ODD:
        one.try_acquire(key, 3)
        two.try_acquire(key)
    entries = {entry[:3]: entry for entry in store.scan()}
    assert set(entries) == {(name, code, key) for name, code in (("n", "tb"), ("two", "sl")) for key in ODD}
    for prefix in ["", "user", "user:1", "us%", "us_", "user*", "[", "U", "na", "北", "a\\", "'", "none"]:
        found = sorted(entry.key for entry in store.scan(key_prefix=prefix, name="n"))
        assert found == sorted(key for key in ODD if key.startswith(prefix)), prefix
    other = use_clock(SqliteStore(tmp_path / "other.db"), clock)
    assert other.restore(entries.values()) == len(entries)
    assert {entry[:3]: entry for entry in other.scan()} == entries
    assert other.restore(entries.values()) == 0  # nothing lasts longer than what is there
    assert limiter_of(other).peek("user:1").remaining == 97
    assert store.clear(key_prefix="user", name="n") == 3
    assert one.peek("user:12").remaining == 100
    assert one.peek("us%r").remaining == 97
    assert store.clear() == 2 * len(ODD) - 3
    assert list(store.scan()) == []
    clock.advance(60)
    assert {entry.name for entry in other.scan()} == {"n"}
    for each in (store, other):
        each.close()


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_an_apps_own_file_is_listed_whatever_its_encoding(path: Path, encoding: str) -> None:
    with closing(sqlite3.connect(path)) as app, app:
        app.execute(f"PRAGMA encoding = '{encoding}'")
        app.execute("CREATE TABLE own (x)")
    store = SqliteStore(path)
    names = ["api", "api.x", "api\u0100", "\u0100", "\xff", "\xffx", "\U0001f600a", "\uabcdz"]
    for name in names:
        Limiter("5/day", store=store, name=name, on_outage="raise").try_acquire(f"key:{name}")
    for begin in ("", *names, "a", "\U0001f600", "\uabcd"):
        assert {entry.name for entry in store.scan(name_prefix=begin)} == {n for n in names if n.startswith(begin)}
        assert {entry.name for entry in store.scan(name=begin)} == {begin} & set(names)
    assert store.clear(name="api") == 1
    assert len(list(store.scan())) == len(names) - 1
    store.close()


def test_many_entries_are_listed_once_each(store: SqliteStore) -> None:
    entries = [Entry("n", "tb", f"k{number}", "1 1 1", 2**52) for number in range(2345)]
    assert store.restore(entries) == len(entries)
    assert sorted(store.scan()) == sorted(entries)
    assert store.clear(key_prefix="k1") == sum(entry.key.startswith("k1") for entry in entries)
    assert store.clear() == sum(not entry.key.startswith("k1") for entry in entries)


# Behind a real server


def test_the_workers_of_gunicorn_share_a_limit_through_the_file(path: Path) -> None:
    """Four workers, forked from a master that has asked before: exactly what the limit says passes, in all."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--chdir", "examples", "--preload", "--workers", "4", "--threads", "4"]
    server = subprocess.Popen(
        [*command, "--log-level", "critical", "--bind", f"127.0.0.1:{port}", "wsgi_app:app"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "REDIS_URL": f"sqlite:///{path}"},
    )

    def status(where: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{where}", timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    try:
        eventually(lambda: status("/health") == 200, "gunicorn answers")
        began = time.monotonic()
        with ThreadPoolExecutor(16) as senders:
            answers = list(senders.map(lambda _: status("/"), range(400)))
    finally:
        server.terminate()
        server.wait(20)
    assert answers.count(429) == 400 - answers.count(200)
    seconds = time.monotonic() - began
    assert 100 <= answers.count(200) <= 100 + seconds / 0.6 + 1  # what the bucket earns meanwhile
