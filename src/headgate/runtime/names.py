"""The addresses of servers' names, looked up by threads of our own.

The system's lookup knows no deadline: while no name server answers, it takes ten seconds and more. Meanwhile a caller
would be held up, or one of the few threads that an event loop has for everybody's blocking work. So a thread of ours
looks a name up, one for all who want to know the same, and they wait for as long as they may. What is found is not
kept: the next connection may have to lead to another server.

This module must not know what is connected to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from headgate.runtime.daemons import Daemon
from headgate.runtime.forks import begin_afresh_in_child

SHARED_FOR_S: Final = 1.0
"""How long a lookup is waited for by those who come later. Then another is begun: it may be that the name server has
come back, and the first one waits for an answer to a question that was lost.
"""
SHARE: Final = 0.9
"""The share of a deadline that a lookup may take: so there is time to tell what it was that took so long."""
MAX_UNDER_WAY: Final = 32
"""At most so many lookups go on at a time in a process; whoever comes then waits for one of the same name, or does
without.
"""


class NameOverdue(TimeoutError):
    """A name was not looked up in time."""

    def __init__(self, host: str) -> None:
        super().__init__(f"the name {host!r} was not looked up in time: do the name servers answer?")


class _Lookup:
    """A lookup, and who waits for it."""

    def __init__(self, host: str, ended: Callable[[_Lookup], object]) -> None:
        self.began_s: Final = time.monotonic()
        self.host: Final = host
        self._ended = ended
        self._thread: Daemon | None = None
        self._running: dict[str, object] = {}
        """Not empty once a thread looks up. Taken in one step: there must be no two."""
        self._found: list[list[str] | OSError] = []
        self._waiting: deque[Callable[[], object]] = deque()

    def begin(self) -> None:
        """Begin, unless somebody has. Whoever wants to wait begins: who was to do it may have been interrupted."""
        if self._running:
            return
        thread = self._thread = Daemon("headgate-names", self._run)
        thread.start()
        if not thread.is_alive and not self.is_done:  # there can be no threads here: better late than never
            self._run()

    def _run(self) -> None:
        own = object()
        if self._running.setdefault("by", own) is not own:
            return
        try:
            infos = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
            self._found.append(list(dict.fromkeys(str(info[4][0]) for info in infos)))
        except (OSError, UnicodeError) as error:  # a label of a name may be too long
            self._found.append(error if isinstance(error, OSError) else OSError(str(error)))
        finally:
            self._ended(self)
        self._tell()

    def call_when_done(self, call: Callable[[], object]) -> None:
        """Have something called once when it is done, from any thread."""
        self._waiting.append(call)
        if self.is_done:
            self._tell()

    def _tell(self) -> None:
        with suppress(IndexError):  # another thread took the last one
            while self._waiting:
                self._waiting.popleft()()

    @property
    def is_done(self) -> bool:
        """Is there something to tell?"""
        return bool(self._found)

    def addresses(self) -> list[str]:
        """The addresses, or the error, once it is done; before, that it is overdue."""
        if not self._found:
            raise NameOverdue(self.host)
        found = self._found[0]
        if isinstance(found, OSError):
            raise type(found)(*found.args)  # each has an error of its own: what is raised keeps all it went through
        return found


class Names:
    """Looks up names. Safe to share between threads, event loops, signal handlers and forked processes: no lock."""

    def __init__(self) -> None:
        self._begin()
        begin_afresh_in_child(self, Names._begin)

    def _begin(self) -> None:
        self._under_way: dict[int, _Lookup] = {}
        self._latest: dict[str, _Lookup] = {}
        """The one that was begun last for each name, of those under way."""

    def find(self, host: str, left_s: float) -> list[str]:
        """Find the addresses of a host, blocking; of an address, itself.

        :param left_s: until the deadline, in seconds.
        :raises NameOverdue: if they are not found by then.
        :raises OSError: if there are none.
        """
        if _is_address(host):
            return [host]
        lookup = self._lookup(host)
        is_done = threading.Lock()
        is_done.acquire()
        lookup.call_when_done(is_done.release)
        is_done.acquire(timeout=max(0.0, left_s * SHARE))
        return lookup.addresses()

    async def find_async(self, host: str, left_s: float) -> list[str]:
        """As `find`."""
        if _is_address(host):
            return [host]
        lookup = self._lookup(host)
        loop, is_done = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(is_done.set)

        lookup.call_when_done(tell)
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s * SHARE):
                await is_done.wait()
        return lookup.addresses()

    def _lookup(self, host: str) -> _Lookup:
        """The lookup of a name to wait for: the latest under way, or another one.

        :raises NameOverdue: if there are too many.
        """
        own = _Lookup(host, self._ended)
        latest = self._latest.setdefault(host, own)
        is_full = len(self._under_way) >= MAX_UNDER_WAY
        if latest is own and is_full:
            self._ended(own)
            raise NameOverdue(host)
        if latest is own or (own.began_s - latest.began_s > SHARED_FOR_S and not is_full):
            self._under_way[id(own)] = latest = self._latest[host] = own
        latest.begin()
        return latest

    def _ended(self, lookup: _Lookup) -> None:
        self._under_way.pop(id(lookup), None)
        if self._latest.get(lookup.host) is lookup:
            self._latest.pop(lookup.host, None)


def _is_address(host: str) -> bool:
    """Is this an address, rather than a name that has to be looked up?"""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


names: Final = Names()
"""Those of this process."""
