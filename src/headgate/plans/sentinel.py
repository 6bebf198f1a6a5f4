"""The primary that sentinels watch over: where it is, as far as is known, and whom to ask about it.

Learnt from the sentinels, as a plan. Plain values: no I/O, no clock, no threads. Safe to share between threads: whoever
asks a server that is no primary any more is told so by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from headgate.drive import Plan
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.plans.redis.resp import command
from headgate.plans.topology import Address, Question, Remap, TimeIsUp

ASK_FOR_ROLE: Final = command("ROLE")
"""A server is asked this on each new connection."""

_DOWN: Final = {"s_down", "o_down"}
"""A sentinel's words for a server that does not answer it."""


class Succession:
    """Where the primary of a service is, as far as is known.

    :param sentinels: whom to ask.
    :param service: the name by which the sentinels know it.
    :param remap: makes of the address that a sentinel tells the one by which we can reach that server.
    """

    def __init__(self, sentinels: Iterable[Address], service: str, remap: Remap | None = None) -> None:
        self._remap = remap
        self._sentinels = tuple(dict.fromkeys(sentinels))
        """The most promising first."""
        self.service: Final = service
        commands = [command("SENTINEL", asked, service) for asked in ("GET-MASTER-ADDR-BY-NAME", "MASTER")]
        self.question: Final[Question] = b"".join(commands), len(commands)
        """Two commands for a sentinel. The first names the new primary as soon as there is one, and the
        second tells of the one before whether it is down."""
        self.nodes: frozenset[Address] = frozenset()
        """The primary; empty if there is none."""
        self.is_doubtful = True
        """Should it be learnt (anew)?"""

    def primary(self) -> Address | None:
        """The primary; None if there is none."""
        return next(iter(self.nodes), None)

    def failed(self) -> None:
        """The primary did not answer as one: perhaps another has taken its place."""
        self.is_doubtful = True

    def learning(self, name: str) -> Plan[Address, None]:
        """The plan that learns it from one of the sentinels. It asks for their addresses, and receives the replies to
        `question`, an outage, or `TimeIsUp`. Who did not answer is the last to be asked the next time. If none of them
        answers, what was known holds; if one says that the primary is down, there is none.

        :raises StoreOutage: if none of them names a primary.
        """
        was_doubtful = self.is_doubtful
        self.is_doubtful = False  # whoever comes meanwhile goes on with what is known
        outages: list[StoreOutage] = []
        try:
            for address in self._sentinels:
                reply = yield address
                if isinstance(reply, TimeIsUp):
                    break
                try:
                    if isinstance(reply, StoreOutage):
                        raise reply
                    primary = self._read(reply, address)
                except StoreOutage as outage:
                    self._sentinels = (*(other for other in self._sentinels if other != address), address)
                    outages.append(outage)
                    continue
                self.nodes = frozenset((primary,))
                return
        except BaseException:
            self.is_doubtful = True
            raise
        problem = self._none_named(name, outages)
        self.is_doubtful = self.is_doubtful or was_doubtful or not self.nodes
        raise problem

    def _none_named(self, name: str, outages: list[StoreOutage]) -> StoreOutage:
        for outage in outages:
            if isinstance(outage, _Down):
                self.nodes = frozenset()
                return StoreUnavailable(
                    name,
                    f"no primary now: {outage.store} says that {outage.address} is down, and no other has taken its "
                    f"place yet (MasterNotFoundError)",
                )
        for outage in outages:
            if isinstance(outage, _Unknown):
                return StoreUnavailable(
                    name,
                    f"the sentinels do not know the service {self.service!r}: check its name in the URL, and "
                    f"`sentinel monitor` in their configuration (MasterNotFoundError)",
                )
        if not outages:
            return StoreUnavailable(name, "there was no time to ask a sentinel for the primary")
        return StoreUnavailable(
            name,
            f"no sentinel answers: check their addresses, and that they run. The last was {outages[-1].store}: "
            f"{outages[-1].problem}",
        )

    def _read(self, replies: list[Any], asked: Address) -> Address:
        place, master = replies
        store = f"the sentinel at {asked}"
        if place is None:
            raise _Unknown(store, "it does not know the service")
        if isinstance(place, StoreOutage):
            raise place
        if isinstance(master, StoreOutage):
            raise master
        try:
            address = Address(place[0].decode(), int(place[1]))
            told = dict(zip(*[(part.decode() for part in master)] * 2, strict=False))
            watched = Address(told["ip"], int(told["port"]))
            is_down = not _DOWN.isdisjoint(told["flags"].split(","))
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            raise StoreUnavailable(store, "its answer is not understood: is this a sentinel?") from None
        if is_down and address == watched:
            raise _Down(store, address)
        return address if self._remap is None else Address(*self._remap(address))


class _Unknown(StoreUnavailable):
    """A sentinel does not know the service."""


class _Down(StoreUnavailable):
    """A sentinel takes the primary for down, and has none in its place."""

    def __init__(self, store: str, address: Address) -> None:
        super().__init__(store, "the primary is down")
        self.address = address


def is_primary(role: Any) -> bool:
    """Does a server's reply to `ASK_FOR_ROLE` say that it is a primary?"""
    return isinstance(role, list) and bool(role) and role[0] == b"master"
