"""The examination of Redis and Valkey, alone, as a cluster, or behind sentinels: each server that decides is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from headgate import StoreOutage
from headgate.cli.findings import Finding

if TYPE_CHECKING:
    from headgate.stores.redis import RedisStore

OLDEST: Final = (6, 2)
NEARLY_FULL: Final = 0.8


def examine(store: RedisStore) -> Iterator[Finding]:
    """Examine all servers that decide."""
    told = store.ask_each("INFO")
    yield Finding("ok", "reachable", f"{len(told)} server{'s' if len(told) > 1 else ''}: {', '.join(told)}")
    for name, reply in told.items():
        where = f" of {name}" if len(told) > 1 else ""
        if isinstance(reply, StoreOutage):
            yield Finding("note", f"settings{where}", f"they cannot be seen: {reply.problem}")
            continue
        facts = read_info(reply)
        for finding in (*_version(facts), *_memory(facts), *_persistence(facts), *_role(facts)):
            yield finding._replace(what=finding.what + where)
    if "+cluster" in store.name.partition("://")[0]:
        yield from _cluster(store)


def read_info(reply: Any) -> dict[str, str]:
    """Read the lines of INFO."""
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: value.strip() for name, _, value in pairs}


def _version(facts: Mapping[str, str]) -> Iterator[Finding]:
    is_valkey = "valkey_version" in facts
    version = facts.get("valkey_version") or facts.get("redis_version", "")
    told = f"{'Valkey' if is_valkey else 'Redis'} {version}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if not is_valkey and numbers < OLDEST:
        yield Finding("fault", "version", told, "it takes Redis 6.2 or later, or Valkey")
    else:
        yield Finding("ok", "version", told)


def _memory(facts: Mapping[str, str]) -> Iterator[Finding]:
    most, policy = int(facts.get("maxmemory", 0)), facts.get("maxmemory_policy", "noeviction")
    used = int(facts.get("used_memory", 0))
    if most and policy != "noeviction":
        yield Finding(
            "change",
            "eviction",
            f"maxmemory-policy is {policy}: when memory is full, limits are forgotten, and a forgotten one is unspent",
            "CONFIG SET maxmemory-policy noeviction, on a server of the limits' own",
        )
    elif policy != "noeviction":
        yield Finding(
            "note",
            "eviction",
            f"maxmemory-policy is {policy}, and there is no maxmemory: nothing is forgotten until one is set",
            "CONFIG SET maxmemory-policy noeviction",
        )
    else:
        yield Finding("ok", "eviction", "noeviction: no limit is forgotten before its time")
    if int(facts.get("evicted_keys", 0)):
        yield Finding(
            "change",
            "evicted",
            f"{int(facts['evicted_keys']):,} keys were evicted since it started, limits perhaps among them",
            "give it more memory, and noeviction",
        )
    if most and used > NEARLY_FULL * most:
        yield Finding(
            "change",
            "memory",
            f"{used / most:.0%} of maxmemory is used",
            "raise maxmemory: a full server denies writes",
        )


def _persistence(facts: Mapping[str, str]) -> Iterator[Finding]:
    if facts.get("loading", "0") != "0":
        yield Finding("fault", "persistence", "it is still loading its data", "wait until it has")
    elif facts.get("aof_enabled") == "1":
        yield Finding("ok", "persistence", "append-only file: a restart forgets what the last moment owed, at most")
    else:
        words = "no append-only file: a restart forgets all that was owed since the last snapshot"
        yield Finding("note", "persistence", words, "CONFIG SET appendonly yes, if a limit is to outlast a restart")
    if facts.get("rdb_last_bgsave_status", "ok") != "ok" or facts.get("aof_last_write_status", "ok") != "ok":
        yield Finding("change", "disk", "its last write to disk failed", "see its log, and the room on its disk")


def _role(facts: Mapping[str, str]) -> Iterator[Finding]:
    if facts.get("role") == "slave":
        place = f"{facts.get('master_host', '?')}:{facts.get('master_port', '?')}"
        yield Finding("fault", "role", "it is a replica, which cannot decide", f"name the primary, {place}")
        return
    replicas = int(facts.get("connected_slaves", 0))
    yield Finding("ok", "role", f"primary, {replicas} replica{'' if replicas == 1 else 's'} connected")


def _cluster(store: RedisStore) -> Iterator[Finding]:
    for name, reply in store.ask_each("CLUSTER", "INFO").items():
        if isinstance(reply, StoreOutage):
            yield Finding("note", f"cluster by {name}", f"its state cannot be seen: {reply.problem}")
            continue
        facts = read_info(reply)
        state, slots = facts.get("cluster_state", "?"), facts.get("cluster_slots_ok", "?")
        if state == "ok" and slots == "16384":
            yield Finding(
                "ok", f"cluster by {name}", f"all slots are served by {facts.get('cluster_size', '?')} primaries"
            )
        else:
            yield Finding(
                "fault", f"cluster by {name}", f"its state is {state}, and {slots} of 16384 slots are served",
                "redis-cli --cluster check HOST:PORT",
            )  # fmt: skip
