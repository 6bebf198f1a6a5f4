"""How some fresh servers become a Redis Cluster. The tests make theirs in the same way."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import redis

from headgate.keys import SLOTS

THIRDS: Final = (SLOTS // 3, SLOTS // 3, SLOTS - 2 * (SLOTS // 3))
PATIENCE_S: Final = 20.0
CONFIG: Final[dict[str, Any]] = {
    "cluster-enabled": "yes",
    "cluster-config-file": "nodes.conf",
    "cluster-node-timeout": 1_000,
    "cluster-require-full-coverage": "no",
    "cluster-replica-validity-factor": 0,
    "cluster-allow-replica-migration": "no",
}
"""What the servers are started with, besides a `cluster-port` of their own."""


class Node(NamedTuple):
    """Where a server on 127.0.0.1 is spoken to, by clients and by other nodes."""

    port: int
    bus_port: int
    tls_port: int = 0
    """Where the other nodes take it to be, if they speak TLS among themselves; 0 if they do not."""


def form_cluster(nodes: Sequence[Node], shares: Sequence[int]) -> None:
    """Make a cluster. The first nodes get so many slots each, in their order; the others become replicas, the first of
    the first one, and so on. Returns when all of them know all that.
    """
    admins: list[Any] = [redis.Redis(port=node.port, decode_responses=True) for node in nodes]
    for number, (admin, share, end) in enumerate(zip(admins, shares, itertools.accumulate(shares), strict=False)):
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", end - share, end - 1)
        admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for node in nodes[1:]:
        admins[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.tls_port or node.port, node.bus_port)
    _eventually(lambda: all(len(_known(admin)) == len(nodes) for admin in admins), "all nodes have met")
    for primary, replica in zip(admins, admins[len(shares) :], strict=False):
        identity = primary.execute_command("CLUSTER", "MYID")
        _eventually(lambda replica=replica, identity=identity: _follows(replica, identity), "a replica follows")
    _eventually(lambda: all(_knows_all(admin, len(nodes), len(shares)) for admin in admins), "all slots are served")
    for admin in admins:
        admin.close()


def _known(admin: Any) -> list[str]:
    return str(admin.execute_command("CLUSTER", "NODES")).splitlines()


def _follows(replica: Any, identity: str) -> bool:
    try:
        replica.execute_command("CLUSTER", "REPLICATE", identity)
    except redis.ResponseError:  # it has not heard of that one yet
        return False
    return True


def _knows_all(admin: Any, nodes: int, ranges: int) -> bool:
    slots = admin.execute_command("CLUSTER", "SLOTS")
    is_ok = "cluster_state:ok" in admin.execute_command("CLUSTER", "INFO")
    return is_ok and len(slots) == ranges and len({port for _, _, *told in slots for _, port, *_ in told}) == nodes


def _eventually(is_so: Callable[..., bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"never: {what}")
        time.sleep(0.01)
