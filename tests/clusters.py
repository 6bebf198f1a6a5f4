"""Real Redis Clusters that tests start for themselves: some nodes, each a Valkey of its own."""

from __future__ import annotations

import itertools
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.forming import CONFIG, THIRDS, Node, form_cluster

from headgate.keys import slot_finder
from tests.servers import OwnValkey, eventually, free_port, own_valkey


class OwnCluster:
    """Primaries that share the slots, in their order, and replicas of the first ones."""

    def __init__(self, nodes: list[OwnValkey], shares: Sequence[int]) -> None:
        self.primaries = nodes[: len(shares)]
        self.replicas = nodes[len(shares) :]
        self._ends = list(itertools.accumulate(shares))
        form_cluster([Node(node.port, node.bus_port, node.tls_port) for node in nodes], shares)
        if not self.replicas:  # nobody is to be replaced
            self.forgive_silence()

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.primaries[0].port}"

    def identity(self, node: OwnValkey) -> str:
        """What the nodes call one of them."""
        with node.admin() as admin:
            return str(admin.execute_command("CLUSTER", "MYID"))

    def node_of(self, key: str) -> OwnValkey:
        """The primary that the slots of a key were given to at first."""
        return self.primaries[bisect(self._ends, slot_of(key))]

    def key_at(self, node: OwnValkey, begin: str = "key") -> str:
        """Some key that is served by a primary."""
        return next(key for number in range(1_000_000) if self.node_of(key := f"{begin}{number}") is node)

    @contextmanager
    def moving(self, key: str, to: OwnValkey, source: OwnValkey | None = None) -> Iterator[Callable[..., None]]:
        """Move the slot of a key. Inside, it is between the two nodes; what is yielded moves so many of its keys."""
        slot, source = slot_of(key), source or self.node_of(key)
        with source.admin() as here, to.admin() as there:
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.identity(source))
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.identity(to))

            def move_keys(most: int = 1_000) -> None:
                keys = here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, most)
                if keys:
                    here.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, "KEYS", *keys)

            yield move_keys
            move_keys()
            for admin in (there, here):
                admin.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.identity(to))
            # Whoever takes a slot without having heard of the latest claim of all loses it to whoever made that.
            eventually(lambda: _claims(here) == _claims(there), "both have heard of it")

    def forgive_silence(self) -> None:
        """Have no node that is silent for a while taken for failed, be it frozen or the machine busy."""
        for node in (*self.primaries, *self.replicas):
            with node.admin() as admin:
                admin.config_set("cluster-node-timeout", 60_000)

    def calls(self, name: str) -> list[int]:
        """How often each primary was asked for something since its last CONFIG RESETSTAT."""
        return [node.calls()[name] for node in self.primaries]

    def reset_calls(self) -> None:
        """Count the calls from here on."""
        for node in self.primaries:
            with node.admin() as admin:
                admin.config_resetstat()


def _claims(admin: Any) -> dict[str, str]:
    """The number of the latest claim of each node, as far as one of them knows."""
    nodes = (line.split() for line in str(admin.execute_command("CLUSTER", "NODES")).splitlines())
    return {identity: words[5] for identity, *words in nodes}


def slot_of(key: str) -> int:
    """The slot of a limiter's key."""
    return slot_finder("any")(key)


@contextmanager
def own_cluster(
    *, shares: Sequence[int] = THIRDS, replicas: int = 0, program: Path | None = None, **config: Any
) -> Iterator[OwnCluster]:
    """A cluster of one's own, whose primaries get so many slots each; of Valkeys, or of another `program`. It takes
    about two seconds. With a `tls-cert-file`, it speaks TLS as well, and so do its nodes among themselves.
    """

    def tls() -> dict[str, Any]:
        return {"tls-port": free_port(), "tls-cluster": "yes"} if "tls-cert-file" in config else {}

    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                own_valkey(program=program, **{**CONFIG, "cluster-port": free_port(), **tls(), **config})
            )
            for _ in range(len(shares) + replicas)
        ]
        yield OwnCluster(nodes, shares)
