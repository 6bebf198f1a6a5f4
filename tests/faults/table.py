"""Each fault once, in mid-traffic, on each store: what callers saw, for how long, and what was forgotten.

    python -m tests.faults.table [--only TEXT] [--write]    (make faults)

Threads and tasks ask all the time while a fault begins, lasts for a moment and ends. `--write` writes docs/faults.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg

from headgate.stores.registry import open_store
from tests.clusters import OwnCluster, own_cluster
from tests.faults.traffic import Traffic, traffic
from tests.nats_servers import OwnNats, own_nats
from tests.postgres_servers import OwnPostgres, own_postgres
from tests.sentinels import OwnSentinels, own_sentinels
from tests.servers import OwnValkey, eventually, own_valkey

TIMEOUT_S: Final = 0.25
LASTS_S: Final = 1.5
PAGE: Final = Path(__file__).parents[2] / "docs" / "faults.md"
FROZEN: Final = "SIGSTOP, SIGCONT"

Begin = Callable[[Any], Callable[[], object]]
"""Has a fault begin, and returns what ends it."""


class Fault(NamedTuple):
    """Something that befalls a store."""

    store: str
    name: str
    begin: Begin


class Seen(NamedTuple):
    """What became of it."""

    problems: str
    """What callers were told, in a few words."""
    beyond_ms: float
    """How long the longest call took beyond its deadline."""
    normal_after_s: float
    """From its end until all are answered again."""
    answered: int
    forgotten: int
    """Of the spends that were answered, how many the store does not know of in the end."""


def in_turn(*calls: Callable[[], object]) -> Callable[[], object]:
    """One call after the other."""

    def call() -> None:
        for each in calls:
            each()

    return call


# SQLite


def locked_by_another_program(path: Path) -> Callable[[], object]:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    return in_turn(lambda: other.execute("ROLLBACK"), other.close)


def file_deleted(path: Path) -> Callable[[], object]:
    path.unlink()
    return lambda: None


HOLDER: Final = """
import sys, time
from pathlib import Path
from headgate.stores.sqlite.turns import Turns
turns = Turns(Path(sys.argv[1]))
turns.take()
print("held", flush=True)
time.sleep(60)
"""


def process_hangs_in_its_turn(path: Path) -> Callable[[], object]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)

    def end() -> None:
        holder.kill()
        holder.communicate()

    return end


# Valkey


def killed(server: OwnValkey) -> Callable[[], object]:
    os.kill(server.pid, signal.SIGKILL)
    return in_turn(server.stop, server.start)


def frozen(server: Any) -> Callable[[], object]:
    server.freeze()
    thaw: Callable[[], object] = server.thaw
    return thaw


def ordered(*command: str, undo: tuple[str, ...] = ()) -> Begin:
    """Give a server an order, and another one in the end."""

    def begin(server: OwnValkey) -> Callable[[], object]:
        with server.admin() as admin:
            admin.execute_command(*command)

        def end() -> None:
            if undo:
                with server.admin() as admin:
                    admin.execute_command(*undo)

        return end

    return begin


def out_of_memory(policy: str) -> Begin:
    def begin(server: OwnValkey) -> Callable[[], object]:
        with server.admin() as admin:
            admin.config_set("maxmemory-policy", policy)
            admin.config_set("maxmemory", 1)

        def end() -> None:
            with server.admin() as admin:
                admin.config_set("maxmemory", 0)

        return end

    return begin


def misconfigured(server: OwnValkey) -> Callable[[], object]:
    """A snapshot that fails stops writes."""
    with server.admin() as admin:
        admin.config_set("stop-writes-on-bgsave-error", "yes")
        admin.config_set("save", "3600 1")
        admin.config_set("dir", "/proc")
        admin.execute_command("BGSAVE")
        eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", "a snapshot fails")

    def end() -> None:
        with server.admin() as admin:
            admin.config_set("stop-writes-on-bgsave-error", "no")

    return end


def loading(server: OwnValkey) -> Callable[[], object]:
    """It loads its data anew, a few thousand keys, and each of them takes a while."""
    with server.admin() as admin:
        pipe = admin.pipeline()
        for number in range(3_000):
            pipe.set(f"ballast:{number}", "x" * 100)
        pipe.execute()
        admin.config_set("key-load-delay", int(LASTS_S * 1e6 / 3_000))
    reloading = subprocess.Popen(
        [sys.executable, "-c", f"import redis; redis.Redis(port={server.port}).execute_command('DEBUG', 'RELOAD')"]
    )
    return reloading.wait


def node_lost(cluster: OwnCluster) -> Callable[[], object]:
    node = cluster.node_of("k")
    node.freeze()
    return node.thaw


# Sentinel


def failed_over(how: Callable[[OwnSentinels], object]) -> Begin:
    def begin(own: OwnSentinels) -> Callable[[], object]:
        before = own.primary()
        how(own)
        return lambda: eventually(lambda: own.primary() is not before, "another one is the primary")

    return begin


# PostgreSQL


def restarted(server: OwnPostgres) -> Callable[[], object]:
    server.stop()
    return server.start


def terminated(server: OwnPostgres) -> Callable[[], object]:
    with server.admin() as admin:
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    return lambda: None


def row_locked(server: OwnPostgres) -> Callable[[], object]:
    other = psycopg.connect(server.url)
    other.execute("select * from headgate.state for update")
    return in_turn(other.rollback, other.close)


def read_only(server: OwnPostgres) -> Callable[[], object]:
    with server.admin() as admin:
        admin.execute("alter database postgres set default_transaction_read_only = on")
    terminated(server)

    def end() -> None:
        with server.admin() as admin:
            admin.execute("set default_transaction_read_only = off")
            admin.execute("alter database postgres set default_transaction_read_only = off")

    return end


# NATS


def nats_killed(server: OwnNats) -> Callable[[], object]:
    server.kill()
    return server.start


def nats_frozen(server: OwnNats) -> Callable[[], object]:
    server.send(signal.SIGSTOP)
    return server.go_on


FAULTS: Final = (
    Fault("SQLite", "locked by another program", locked_by_another_program),
    Fault("SQLite", "the file is deleted", file_deleted),
    Fault("SQLite", "a process hangs in its turn", process_hangs_in_its_turn),
    Fault("Valkey", "kill -9, and started again, empty", killed),
    Fault("Valkey", FROZEN, frozen),
    Fault("Valkey", "script flush", ordered("SCRIPT", "FLUSH")),
    Fault("Valkey", "connections killed", ordered("CLIENT", "KILL", "TYPE", "normal")),
    Fault("Valkey", "maxmemory, noeviction", out_of_memory("noeviction")),
    Fault("Valkey", "maxmemory, allkeys-lru", out_of_memory("allkeys-lru")),
    Fault("Valkey", "a replica now", ordered("REPLICAOF", "127.0.0.1", "1", undo=("REPLICAOF", "NO", "ONE"))),
    Fault("Valkey", "snapshots fail", misconfigured),
    Fault("Valkey", "it loads its data", loading),
    Fault("Cluster", "a node hangs", node_lost),
    Fault("Sentinel", "kill -9 of the primary", failed_over(lambda own: os.kill(own.primary().pid, signal.SIGKILL))),
    Fault("Sentinel", "SIGSTOP of the primary", failed_over(lambda own: own.primary().freeze())),
    Fault("Sentinel", "SENTINEL FAILOVER", failed_over(OwnSentinels.fail_over)),
    Fault("PostgreSQL", "stopped, and started again", restarted),
    Fault("PostgreSQL", FROZEN, frozen),
    Fault("PostgreSQL", "backends terminated", terminated),
    Fault("PostgreSQL", "a lock that somebody holds", row_locked),
    Fault("PostgreSQL", "read-only", read_only),
    Fault("NATS", "kill -9, and started again", nats_killed),
    Fault("NATS", FROZEN, nats_frozen),
)


@contextmanager
def served(store: str) -> Iterator[tuple[str, Any]]:
    """The URL of an empty store of this kind, and what its faults befall."""
    if store == "SQLite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/limits.db", Path(folder, "limits.db")
    elif store == "Valkey":
        with own_valkey(
            **{"enable-protected-configs": "yes", "loading-process-events-interval-bytes": "1024"}
        ) as valkey:
            yield valkey.url, valkey
    elif store == "Cluster":
        with own_cluster() as cluster:
            yield cluster.url, cluster
    elif store == "Sentinel":
        with own_sentinels() as sentinels:
            yield sentinels.url, sentinels
    elif store == "PostgreSQL":
        with own_postgres() as postgres:
            yield postgres.url, postgres
    else:
        with own_nats() as nats:
            yield nats.url, nats


def befall(fault: Fault) -> Seen:
    """Let it happen."""
    with served(fault.store) as (url, victim):
        store = open_store(url, timeout=TIMEOUT_S, remember_denials=0)
        with traffic(store) as flowing:
            flowing.flows()
            end = fault.begin(victim)
            time.sleep(LASTS_S)
            end()
            ended_s = time.monotonic()
            flowing.flows()
        known = flowing.count()
        store.close()
    return seen(flowing, ended_s, known)


def seen(flowing: Traffic, ended_s: float, known: int) -> Seen:
    """Sum up what callers saw."""
    late = [call.ended_s for call in flowing.outages if call.ended_s > ended_s]
    told: dict[str, int] = {}
    for call in flowing.outages:
        words = _in_short(call.problem)
        told[words] = told.get(words, 0) + 1
    problems = "; ".join(sorted(told, key=told.__getitem__, reverse=True)[:3])
    return Seen(
        problems or "nothing",
        max(0.0, flowing.longest_s - TIMEOUT_S) * 1_000,
        max(0.0, max(late, default=ended_s) - ended_s),
        len(flowing.answered),
        max(0, len(flowing.answered) - known),
    )


def _in_short(problem: str) -> str:
    problem = re.sub(r"^store \S+: ", "", problem)
    problem = re.sub(r"for another [\d.]+ s", "for a while", problem)
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", problem)[:140]


HEAD: Final = f"""# Faults

Each fault once, in the middle of traffic: two threads and eight tasks ask all the time with a deadline of
{TIMEOUT_S:g} s, while it begins, lasts for {LASTS_S:g} s and ends. `make faults ARGS=--write` lets them happen again,
and writes this page. Times are of one run on a shared machine. How to choose what callers get meanwhile:
[outages](outages.md).

- **Told**: the outages that callers met, most frequent first; "nothing" where none did.
- **Beyond**: how long the longest call took beyond its deadline.
- **Normal after**: from the fault's end until the last outage. A breaker that is open asks once in a second at most.
- **Forgotten**: of the spends that were answered, those that the store does not know of in the end.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Each fault once, in mid-traffic.")
    parser.add_argument("--only", default="", help="those with this text in their store or name")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    arguments = parser.parse_args()
    logging.getLogger("headgate").setLevel(logging.CRITICAL)
    lines = ["| store | fault | told | beyond, ms | normal after, s | answered | forgotten |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    print("\n".join(lines))
    for fault in FAULTS:
        if arguments.only.lower() in f"{fault.store} {fault.name}".lower():
            found = befall(fault)
            lines.append(
                f"| {fault.store} | {fault.name} | {found.problems.replace('|', '/')} | {found.beyond_ms:.0f} | "
                f"{found.normal_after_s:.2f} | {found.answered:,} | {found.forgotten:,} |"
            )
            print(lines[-1], flush=True)
    if arguments.write:
        PAGE.write_text(HEAD + "\n".join(lines) + "\n")
        print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
