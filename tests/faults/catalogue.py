"""The faults of the table: how each begins and ends, and on which server of the suite's own.

It must not know what is asked meanwhile, or what is made of it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import psycopg

from tests.clusters import OwnCluster, own_cluster
from tests.disks import fill, small_disk
from tests.nats_servers import OwnNats, OwnNatsCluster, own_nats, own_nats_cluster
from tests.postgres_servers import SOMEBODY, OwnPostgres, own_postgres
from tests.proxy import Proxy, proxy_to
from tests.sentinels import OwnSentinels, own_sentinels
from tests.servers import OwnValkey, eventually, own_valkey
from tests.shifted_clocks import HOUR_S, Shifted, shifted_valkey

KEY: Final = "k"
"""What is asked for, since a cluster has it on one of its nodes."""
LASTS_S: Final = 1.5
"""How long a fault lasts, mostly."""
FROZEN: Final = "SIGSTOP, SIGCONT"

End = Callable[[], object]
Begin = Callable[[Any], End]
"""Has a fault begin, and returns what ends it."""
Serve = Callable[[], AbstractContextManager[tuple[str, Any]]]
"""The URL of an empty store, and what the fault befalls."""


class Fault(NamedTuple):
    """Something that befalls a store."""

    store: str
    name: str
    begin: Begin
    serve: Serve
    lasts_s: float = LASTS_S


def in_turn(*calls: Callable[[], object]) -> End:
    """One call after the other."""

    def call() -> None:
        for each in calls:
            each()

    return call


def nothing() -> None:
    """The end of what is over by itself."""


# What the faults befall.


@contextmanager
def a_file() -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/limits.db", Path(folder, "limits.db")


@contextmanager
def a_file_on_a_small_disk() -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder, "small")) as disk:
        yield f"sqlite:///{disk}/limits.db", disk


@contextmanager
def served(own: Callable[[], AbstractContextManager[Any]], options: str = "") -> Iterator[tuple[str, Any]]:
    """A server of one's own."""
    with own() as server:
        yield server.url + options, server


@contextmanager
def behind_a_proxy(own: Callable[[], AbstractContextManager[Any]]) -> Iterator[tuple[str, Proxy]]:
    """A server of one's own, of which only what stands in front of it can be reached."""
    with own() as server, proxy_to(server.port) as proxy:
        yield server.url.replace(f":{server.port}", f":{proxy.port}"), proxy


def complete_cluster() -> AbstractContextManager[OwnCluster]:
    """A cluster that answers only while all slots are served, as clusters do by default."""
    return own_cluster(**{"cluster-require-full-coverage": "yes"})  # type: ignore[arg-type]  # a name of the server's


@contextmanager
def with_a_clock_to_move() -> Iterator[tuple[str, Shifted]]:
    with tempfile.TemporaryDirectory() as folder, shifted_valkey(Path(folder)) as shifted:
        yield shifted.server.url, shifted


a_valkey: Final[Serve] = partial(
    served,
    partial(own_valkey, **{"enable-protected-configs": "yes", "loading-process-events-interval-bytes": "1024"}),
)
a_cluster: Final[Serve] = partial(served, own_cluster)
a_sentinel: Final[Serve] = partial(served, own_sentinels)
a_postgres: Final[Serve] = partial(served, own_postgres)
a_nats: Final[Serve] = partial(served, own_nats)
three_nats: Final[Serve] = partial(served, own_nats_cluster, "?replicas=3")


# SQLite


def locked_by_another_program(path: Path) -> End:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    return in_turn(lambda: other.execute("ROLLBACK"), other.close)


def file_deleted(path: Path) -> End:
    path.unlink()
    return nothing


HOLDER: Final = """
import sys, time
from pathlib import Path
from headgate.stores.sqlite.turns import Turns
turns = Turns(Path(sys.argv[1]))
turns.take()
print("held", flush=True)
time.sleep(60)
"""


def process_hangs_in_its_turn(path: Path) -> End:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)

    def end() -> None:
        holder.kill()
        holder.communicate()

    return end


# Valkey


def killed(server: OwnValkey) -> End:
    os.kill(server.pid, signal.SIGKILL)
    return in_turn(server.stop, server.start)


def frozen(server: Any) -> End:
    server.freeze()
    thaw: End = server.thaw
    return thaw


def ordered(*command: str, undo: tuple[str, ...] = ()) -> Begin:
    """Give a server an order, and another one in the end."""

    def begin(server: OwnValkey) -> End:
        with server.admin() as admin:
            admin.execute_command(*command)

        def end() -> None:
            if undo:
                with server.admin() as admin:
                    admin.execute_command(*undo)

        return end

    return begin


def out_of_memory(policy: str) -> Begin:
    def begin(server: OwnValkey) -> End:
        with server.admin() as admin:
            admin.config_set("maxmemory-policy", policy)
            admin.config_set("maxmemory", 1)

        def end() -> None:
            with server.admin() as admin:
                admin.config_set("maxmemory", 0)

        return end

    return begin


def misconfigured(server: OwnValkey) -> End:
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


def loading(server: OwnValkey) -> End:
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


def clock_moved(shifted: Shifted) -> End:
    shifted.move(-HOUR_S)
    return lambda: shifted.move(HOUR_S)


# What is between


def proxy_fails(how: Literal["swallow", "cut", "reset"], after: int = 0) -> Begin:
    def begin(proxy: Proxy) -> End:
        proxy.fail(how, after)
        return proxy.recover

    return begin


def proxy_delays(proxy: Proxy) -> End:
    proxy.delay(0.05)
    return proxy.recover


def proxy_refuses(proxy: Proxy) -> End:
    proxy.refuse()
    return proxy.listen


def clients_clock_moved(_: Any) -> End:
    """The clock of this process's machine is an hour ahead."""
    was = time.time_ns, time.time
    time.time_ns = lambda: was[0]() + HOUR_S * 1_000_000_000
    time.time = lambda: was[1]() + HOUR_S

    def end() -> None:
        time.time_ns, time.time = was

    return end


# Cluster


def node_hangs(cluster: OwnCluster) -> End:
    node = cluster.node_of(KEY)
    node.freeze()
    return node.thaw


def node_down(cluster: OwnCluster) -> End:
    """Another node than that of the key is gone, and the others want to be complete."""
    mine = cluster.node_of(KEY)
    lost = next(node for node in cluster.primaries if node is not mine)
    for node in cluster.primaries:
        with node.admin() as admin:
            admin.config_set("cluster-node-timeout", 500)
    lost.freeze()
    with mine.admin() as admin:
        eventually(lambda: "cluster_state:fail" in admin.execute_command("CLUSTER", "INFO"), "the cluster is down")

    def end() -> None:
        lost.thaw()
        with mine.admin() as admin:
            eventually(lambda: "cluster_state:ok" in admin.execute_command("CLUSTER", "INFO"), "the cluster is up")

    return end


def slot_moves(cluster: OwnCluster) -> End:
    """It is between two nodes for as long as the fault lasts, and then the other's."""
    mine = cluster.node_of(KEY)
    moving = ExitStack()
    moving.enter_context(cluster.moving(KEY, next(node for node in cluster.primaries if node is not mine)))
    return moving.close


# Sentinel


def kill_primary(own: OwnSentinels) -> None:
    os.kill(own.primary().pid, signal.SIGKILL)


def freeze_primary(own: OwnSentinels) -> None:
    own.primary().freeze()


def failed_over(how: Callable[[OwnSentinels], object]) -> Begin:
    def begin(own: OwnSentinels) -> End:
        before = own.primary()
        how(own)
        return lambda: eventually(lambda: own.primary() is not before, "another one is the primary")

    return begin


# PostgreSQL


def restarted(server: OwnPostgres) -> End:
    server.stop()
    return server.start


def terminated(server: OwnPostgres) -> End:
    with server.admin() as admin:
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    return nothing


def row_locked(server: OwnPostgres) -> End:
    other = psycopg.connect(server.url)
    other.execute("select * from headgate.state for update")
    return in_turn(other.rollback, other.close)


def read_only(server: OwnPostgres) -> End:
    with server.admin() as admin:
        admin.execute("alter database postgres set default_transaction_read_only = on")
    terminated(server)

    def end() -> None:
        with server.admin() as admin:
            admin.execute("set default_transaction_read_only = off")
            admin.execute("alter database postgres set default_transaction_read_only = off")

    return end


def disk_full(server: OwnPostgres) -> End:
    small = ExitStack()
    disk = small.enter_context(small_disk(server.folder / "small", SOMEBODY))
    with server.admin() as admin:
        admin.execute(f"create tablespace small location '{disk}'")
        admin.execute("alter table headgate.state set tablespace small")
    make_room = fill(disk)

    def end() -> None:
        make_room()
        with server.admin() as admin:
            admin.execute("alter table headgate.state set tablespace pg_default")
            admin.execute("checkpoint")
            admin.execute("drop tablespace small")
        small.close()

    return end


def idles_with_a_lock(server: OwnPostgres) -> End:
    """Somebody who has locked the row does nothing, until the server ends that transaction."""
    other = psycopg.connect(server.url)
    other.execute(f"set idle_in_transaction_session_timeout = '{LASTS_S / 2:g}s'")
    other.execute("select * from headgate.state for update")
    return other.close


def no_connection_left(server: OwnPostgres) -> End:
    """Others have taken all, since it was started again."""
    server.stop()
    server.start("max_connections=8", "superuser_reserved_connections=0")
    held: list[psycopg.Connection[Any]] = []
    with suppress(psycopg.OperationalError):
        while True:
            held.append(psycopg.connect(server.url))
    return in_turn(*(one.close for one in held))


# NATS


def nats_killed(server: OwnNats) -> End:
    server.kill()
    return server.start


def nats_frozen(server: OwnNats) -> End:
    server.send(signal.SIGSTOP)
    return server.go_on


def leader_lost(cluster: OwnNatsCluster) -> End:
    """The node that leads is killed, and another is elected."""
    lost = cluster.leader()
    lost.kill()
    return in_turn(cluster.leader, lost.start)


def leader_alone(cluster: OwnNatsCluster) -> End:
    """Of three nodes, the one that leads is left, which is not enough."""
    left = cluster.leader()
    lost = [node for node in cluster.nodes if node is not left]
    for node in lost:
        node.kill()
    return in_turn(*(node.start for node in lost), cluster.leader)


EVICTION_POLICIES: Final = (
    *("noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random"),
    *("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"),
)
FAULTS: Final = (
    Fault("SQLite", "locked by another program", locked_by_another_program, a_file),
    Fault("SQLite", "the file is deleted", file_deleted, a_file),
    Fault("SQLite", "a process hangs in its turn", process_hangs_in_its_turn, a_file),
    Fault("SQLite", "the disk is full", fill, a_file_on_a_small_disk),
    Fault("Valkey", "kill -9, and started again, empty", killed, a_valkey),
    Fault("Valkey", FROZEN, frozen, a_valkey),
    Fault("Valkey", "script flush", ordered("SCRIPT", "FLUSH"), a_valkey),
    Fault("Valkey", "connections killed", ordered("CLIENT", "KILL", "TYPE", "normal"), a_valkey),
    *(Fault("Valkey", f"maxmemory, {policy}", out_of_memory(policy), a_valkey) for policy in EVICTION_POLICIES),
    Fault("Valkey", "a replica now", ordered("REPLICAOF", "127.0.0.1", "1", undo=("REPLICAOF", "NO", "ONE")), a_valkey),
    Fault("Valkey", "snapshots fail", misconfigured, a_valkey),
    Fault("Valkey", "it loads its data", loading, a_valkey),
    Fault("Valkey", "its clock is an hour behind", clock_moved, with_a_clock_to_move),
    Fault("Valkey", "the client's clock is an hour ahead", clients_clock_moved, a_valkey),
    *(
        Fault(store, f"the network {name}", begin, partial(behind_a_proxy, own))
        for store, own in (("Valkey", own_valkey), ("PostgreSQL", own_postgres), ("NATS", own_nats))
        for name, begin in (
            ("swallows all replies", proxy_fails("swallow")),
            ("cuts connections in the midst of a reply", proxy_fails("cut", after=3)),
            ("takes 50 ms", proxy_delays),
            ("refuses connections", proxy_refuses),
        )
    ),
    Fault("Cluster", "a node hangs", node_hangs, a_cluster),
    Fault("Cluster", "a node is gone, and all are wanted", node_down, partial(served, complete_cluster)),
    Fault("Cluster", "a slot moves", slot_moves, a_cluster),
    Fault("Sentinel", "kill -9 of the primary", failed_over(kill_primary), a_sentinel),
    Fault("Sentinel", "SIGSTOP of the primary", failed_over(freeze_primary), a_sentinel),
    Fault("Sentinel", "SENTINEL FAILOVER", failed_over(OwnSentinels.fail_over), a_sentinel),
    Fault("PostgreSQL", "stopped, and started again", restarted, a_postgres),
    Fault("PostgreSQL", FROZEN, frozen, a_postgres),
    Fault("PostgreSQL", "backends terminated", terminated, a_postgres),
    Fault("PostgreSQL", "a lock that somebody holds", row_locked, a_postgres),
    Fault("PostgreSQL", "a transaction idles with the lock, and is ended", idles_with_a_lock, a_postgres),
    Fault("PostgreSQL", "no connection is left", no_connection_left, a_postgres),
    Fault("PostgreSQL", "read-only", read_only, a_postgres),
    Fault("PostgreSQL", "the disk is full", disk_full, a_postgres),
    Fault("NATS", "kill -9, and started again", nats_killed, a_nats),
    Fault("NATS", FROZEN, nats_frozen, a_nats),
    Fault("NATS", "of three nodes, the leader is killed", leader_lost, three_nats),
    Fault("NATS", "of three nodes, all but the leader are killed", leader_alone, three_nats),
)
