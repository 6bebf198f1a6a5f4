"""The examination of NATS: the server's version, and the bucket of JetStream that keeps the limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from headgate.cli.findings import Finding

if TYPE_CHECKING:
    from headgate.stores.nats import NatsStore

IN_ONE_STEP: Final = (2, 12)
NEARLY_FULL: Final = 0.8


def examine(store: NatsStore) -> Iterator[Finding]:
    """Examine a bucket. It is made, if there is none yet, as the first decision would make it."""
    told = store.about()
    version = told["server"]["version"]
    yield Finding("ok", "reachable", f"{store.name}, with JetStream")
    numbers = tuple(int(part) for part in version.split(".")[:2])
    config: dict[str, Any] = told["stream"]["config"]
    state: dict[str, Any] = told["stream"].get("state", {})
    yield Finding("ok", "version", f"nats-server {version}")
    if numbers < IN_ONE_STEP or not config.get("allow_atomic"):
        yield Finding(
            "note",
            "groups",
            "limits of several keys are written one after the other, and given back where a later one denies",
            "nats-server 2.12 or later, and allow_atomic for the bucket's stream",
        )
    else:
        yield Finding("ok", "groups", "limits of several keys are written in one step")
    yield Finding(
        "ok", "bucket", f"{config['name']}: {state.get('messages', 0):,} entries, {state.get('bytes', 0):,} bytes"
    )
    most, used = max(config.get("max_bytes", -1), 0), state.get("bytes", 0)
    if most and used > NEARLY_FULL * most:
        yield Finding("change", "room", f"{used / most:.0%} of the bucket's max_bytes are used", "raise max_bytes")
    yield from _persistence(config, told["stream"].get("cluster") or {})


def _persistence(config: dict[str, Any], cluster: dict[str, Any]) -> Iterator[Finding]:
    replicas, storage = config.get("num_replicas", 1), config.get("storage")
    if storage == "memory":
        words = "in memory: a restart of its server forgets all that is owed"
        yield Finding(
            "note" if replicas == 1 else "ok",
            "persistence",
            f"{words}, of all {replicas} at once" * (replicas > 1) or words,
        )
    else:
        yield Finding("ok", "persistence", "in files: what is owed outlasts a restart")
    if replicas == 1:
        yield Finding("note", "replicas", "one server keeps the bucket: without it, nothing is decided", "replicas=3")
        return
    behind = [one["name"] for one in cluster.get("replicas", []) if one.get("offline") or not one.get("current", True)]
    if behind:
        yield Finding("change", "replicas", f"{', '.join(behind)} of {replicas} are away or behind", "see their logs")
    else:
        yield Finding("ok", "replicas", f"{replicas} servers keep the bucket, all of them current")
