"""The topology of a Redis Cluster: which node serves which slot, as far as is known, and whom to ask about it.

Learnt from `CLUSTER SLOTS`, as a plan; corrected by redirections. Plain values: no I/O, no clock, no threads. Safe to
share between threads: whoever reads an older table is redirected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from headgate.drive import Plan
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.keys import SLOTS
from headgate.plans.redis.resp import command


class Address(NamedTuple):
    """Where a node is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Question = tuple[bytes, int]
"""A question to a node about others, packed, and how many replies there are to it."""


class TimeIsUp:
    """The reply of whoever has no time left to ask a node."""


Remap = Callable[[Address], tuple[str, int]]
"""From the address that a node tells of another to the one by which we can reach that."""


class Topology:
    """Which node serves which slot, as far as is known.

    :param seeds: the nodes that are known at first.
    :param remap: makes of the address that a node tells of another the one by which we can reach that.
    """

    question: Final[Question] = command("CLUSTER", "SLOTS"), 1

    def __init__(self, seeds: Iterable[Address], remap: Remap | None = None) -> None:
        self._remap = remap
        self._seeds = tuple(dict.fromkeys(seeds))
        self._known: tuple[Address, ...] = self._seeds
        """Whom to ask, the most promising first."""
        self._owners: list[Address | None] = [None] * SLOTS
        self.nodes: frozenset[Address] = frozenset()
        """The nodes that were serving slots when this was last learnt."""
        self.is_doubtful = True
        """Should it be learnt (anew)?"""

    def owner(self, slot: int) -> Address | None:
        """The node that serves a slot; None if that is not known."""
        return self._owners[slot]

    def moved(self, slot: int, address: Address) -> None:
        """A node said that another serves a slot: where one has moved, others may have."""
        self._owners[slot] = address
        self.is_doubtful = True

    def failed(self, address: Address) -> None:
        """A node did not answer: perhaps another has taken its place. It is the last to be asked about that."""
        self._put_last(address)
        self.is_doubtful = True

    def _put_last(self, address: Address) -> None:
        others = tuple(known for known in self._known if known != address)
        if others:
            self._known = (*others, address)

    def told(self, host: str, port: int, asked: Address) -> Address:
        """The address of a node of which the node `asked` has told. Without a host, it is on the same one."""
        address = Address(host or asked.host, port)
        return address if self._remap is None else Address(*self._remap(address))

    def learning(self, name: str) -> Plan[Address, None]:
        """The plan that learns it from one of the known nodes. It asks for the addresses of nodes, and receives what
        they reply to the question, an outage, or `TimeIsUp`. Who did not answer is the last to be asked the
        next time: a node that hangs would use up all the time again.

        :raises StoreOutage: if none of them tells.
        """
        self.is_doubtful = False  # whoever comes meanwhile goes on with what is known
        outage: StoreOutage = StoreUnavailable(name, "no node of the cluster is known")
        try:
            for address in dict.fromkeys((*self._known, *self._seeds)):
                reply = yield address
                if isinstance(reply, TimeIsUp):
                    break
                if isinstance(reply, StoreOutage):
                    outage = reply
                    self._put_last(address)
                    continue
                try:
                    (slots,) = reply
                    self._read(slots, address)
                except StoreOutage as told:
                    outage = told
                except (TypeError, ValueError, IndexError, AttributeError):
                    outage = StoreUnavailable(f"redis://{address}", "its answer to CLUSTER SLOTS is not understood")
                else:
                    return
        except BaseException:
            self.is_doubtful = True
            raise
        self.is_doubtful = True
        raise outage

    def _read(self, reply: list[Any], asked: Address) -> None:
        owners: list[Address | None] = [None] * SLOTS
        replicas: list[Address] = []
        for first, last, primary, *others in reply:
            owner = self._node(primary, asked)
            owners[first : last + 1] = [owner] * (last + 1 - first)
            replicas += [node for other in others if (node := self._node(other, asked)) is not None]
        if len(owners) != SLOTS:
            raise ValueError(reply)
        serving = [owner for owner in dict.fromkeys(owners) if owner is not None]
        if not serving:
            raise StoreUnavailable(f"redis://{asked}", "no node of its cluster serves any slot yet")
        self._known = tuple(dict.fromkeys((asked, *serving, *replicas)))
        self._owners = owners
        self.nodes = frozenset(serving)

    def _node(self, told: list[Any], asked: Address) -> Address | None:
        host = (told[0] or b"").decode()
        return None if host == "?" else self.told(host, int(told[1]), asked)
