"""Real Redis Clusters that tests start for themselves: some nodes, each a Valkey of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import redis

from headgate.keys import SLOTS, slot_finder
from tests.servers import OwnValkey, eventually, free_port, own_valkey

NODE_TIMEOUT_MS: Final = 1_000
_CONFIG: Final[dict[str, Any]] = {
    "cluster-enabled": "yes",
    "cluster-config-file": "nodes.conf",
    "cluster-node-timeout": NODE_TIMEOUT_MS,
    "cluster-require-full-coverage": "no",
    "cluster-replica-validity-factor": 0,
}


class OwnCluster:
    """Primaries that share the slots evenly, in their order, and replicas of the first ones."""

    def __init__(self, primaries: list[OwnValkey], replicas: list[OwnValkey]) -> None:
        self.primaries = primaries
        self.replicas = replicas
        first, *others = [*primaries, *replicas]
        per_node = SLOTS // len(primaries)
        for number, node in enumerate(primaries):
            last = SLOTS - 1 if node is primaries[-1] else (number + 1) * per_node - 1
            with node.admin() as admin:
                admin.execute_command("CLUSTER", "ADDSLOTSRANGE", number * per_node, last)
                admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        with first.admin() as admin:
            for node in others:
                admin.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        eventually(lambda: all(len(self._nodes(node)) == len(others) + 1 for node in (first, *others)), "all are met")
        for primary, replica in zip(primaries, replicas, strict=False):
            with replica.admin() as admin:
                eventually(lambda: _is_done(admin, "CLUSTER", "REPLICATE", self.identity(primary)), "a replica")  # noqa: B023  # called here
        eventually(self._is_ready, "every node sees all slots served, and its replicas")

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.primaries[0].port}"

    def identity(self, node: OwnValkey) -> str:
        """What the nodes call one of them."""
        with node.admin() as admin:
            return str(admin.execute_command("CLUSTER", "MYID"))

    def node_of(self, key: str) -> OwnValkey:
        """The primary that the slots of a key were given to at first."""
        return self.primaries[min(slot_of(key) * len(self.primaries) // SLOTS, len(self.primaries) - 1)]

    def key_at(self, node: OwnValkey, begin: str = "key") -> str:
        """Some key that is served by a primary."""
        return next(key for number in range(10_000) if self.node_of(key := f"{begin}{number}") is node)

    def calls(self, name: str) -> list[int]:
        """How often each primary was asked for something since its last CONFIG RESETSTAT."""
        return [node.calls()[name] for node in self.primaries]

    def reset_calls(self) -> None:
        """Count the calls from here on."""
        for node in self.primaries:
            with node.admin() as admin:
                admin.config_resetstat()

    def _nodes(self, node: OwnValkey) -> list[str]:
        with node.admin() as admin:
            return str(admin.execute_command("CLUSTER", "NODES")).splitlines()

    def _is_ready(self) -> bool:
        for node in [*self.primaries, *self.replicas]:
            with node.admin() as admin:
                slots = admin.execute_command("CLUSTER", "SLOTS")
                is_ok = "cluster_state:ok" in admin.execute_command("CLUSTER", "INFO")
            ports = {port for _, _, *nodes in slots for _, port, *_ in nodes}
            if not is_ok or len(slots) != len(self.primaries) or len(ports) < len(self.primaries + self.replicas):
                return False
        return True


def slot_of(key: str) -> int:
    """The slot of a limiter's key."""
    return slot_finder("any")(key)


def _is_done(admin: Any, *command: str) -> bool:
    try:
        admin.execute_command(*command)
    except redis.exceptions.ResponseError:
        return False
    return True


@contextmanager
def own_cluster(primaries: int = 3, *, replicas: int = 0, **config: Any) -> Iterator[OwnCluster]:
    """A cluster of one's own. It takes about two seconds."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(own_valkey(**{**_CONFIG, "cluster-port": free_port(), **config}))
            for _ in range(primaries + replicas)
        ]
        yield OwnCluster(nodes[:primaries], nodes[primaries:])
