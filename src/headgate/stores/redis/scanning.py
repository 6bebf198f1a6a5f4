"""Listing, clearing and restoring what is kept, in small steps: for operators, never on the way of a decision.

`SCAN` goes through all keys of a server, a few hundred at a time, and holds up nobody. This module must not know how a
server is reached, nor what an algorithm stores.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast

from headgate.errors import StoreOutage
from headgate.plans import merging
from headgate.plans.cluster import Redirect
from headgate.plans.merging import Place, pages, to_keep
from headgate.plans.redis import stored
from headgate.plans.redis.resp import command
from headgate.stores.contract import Entry
from headgate.stores.redis.server import Server
from headgate.stores.remote import Learnt, Servers

PAGE: Final = 500
"""How many keys a server looks at in one call, and how many are read or written in one round trip."""
_ATTEMPTS: Final = 20
"""So often a slot that is moved is asked for."""
_TRIES: Final = 1_000
"""After so many, which takes half a second, an entry that others write all the time is written over. Then, what is
spent there during one round trip is lost."""
_PAUSE_S: Final = 0.1

_Call = tuple[Place, bytes]
"""A packed call, and the place that it is about."""


class Scanning:
    """Asks what operators want to know of the servers of a store."""

    def __init__(self, prefix: str, servers: Servers, learnt: Learnt) -> None:
        self._prefix = prefix
        self._servers = servers
        self._learnt = learnt

    def scan(self, key_prefix: str, name: str | None, name_prefix: str) -> Iterator[Entry]:
        """As `ScannableStore.scan`."""
        pattern = stored.pattern_of(self._prefix, key_prefix)
        told: set[Place] = set()
        """The places that were told: a server may find one twice, and two servers one that moves."""
        for server in self._serving():
            cursor = b"0"
            while True:
                (reply,) = _ask(server, [command("SCAN", cursor.decode(), "MATCH", pattern, "COUNT", PAGE)])
                if isinstance(reply, StoreOutage):
                    raise reply
                cursor, keys = reply
                fresh = []
                for key in keys:
                    place = stored.place_of(self._prefix, key)
                    if place is None or place in told or not place.key.startswith(key_prefix):
                        continue
                    if (name is None or place.name == name) and place.name.startswith(name_prefix):
                        told.add(place)
                        fresh.append(place)
                now_us = self._learnt.now_us()
                calls = [stored.read_call(self._prefix, place, now_us) for place in fresh]
                for place, answer in zip(fresh, _ask(server, calls), strict=True):
                    if isinstance(answer, StoreOutage) and not isinstance(answer, Redirect):
                        raise answer
                    kept = stored.read_reply(place, answer)
                    if kept is not None:
                        yield Entry(*place, *kept)
                    else:
                        told.discard(place)  # it may be on its way to another node
                if cursor == b"0":
                    break

    def clear(self, key_prefix: str, name: str | None, name_prefix: str) -> int:
        """As `ScannableStore.clear`."""
        count = 0
        for page in pages(self.scan(key_prefix, name, name_prefix), PAGE):
            places = [Place(*entry[:3]) for entry in page]
            count += sum(self._everywhere([(place, stored.remove_call(self._prefix, place)) for place in places]))
        return count

    def restore(self, entries: Iterable[Entry]) -> int:
        """As `ScannableStore.restore`.

        :raises ValueError: if a text is no state.
        """
        return merging.restore(entries, self._merge, size=PAGE, tries=_TRIES)

    def ask_each(self, words: Sequence[str]) -> dict[str, Any]:
        """Ask each server that decides for the same: the replies, by the servers' names. One that is an error is an
        outage.

        :raises StoreOutage: if a server does not answer.
        """
        return {server.name: _ask(server, [command(*words)])[0] for server in self._serving()}

    def _merge(self, entries: list[Entry], is_last: bool) -> tuple[list[Entry], int]:
        """As `merging.restore` wants it. At the last try, they are written whatever is there."""
        now_us = self._learnt.now_us()
        places = [Place(*entry[:3]) for entry in entries]
        reads = [(place, stored.read_call(self._prefix, place, now_us)) for place in places]
        asked, writes = [], []
        for entry, place, reply in zip(entries, places, self._everywhere(reads), strict=True):
            told = to_keep(entry.code, entry.key, entry[3:], stored.read_reply(place, reply))
            if told is not None:
                seen = "" if is_last else stored.seen_in(reply)
                asked.append(entry)
                writes.append((place, stored.restore_call(self._prefix, place, *told, now_us, seen)))
        replies = self._everywhere(writes)
        moved = [entry for entry, reply in zip(asked, replies, strict=True) if reply == stored.MOVED_ON]
        return moved, replies.count(1)

    def _everywhere(self, calls: list[_Call]) -> list[Any]:
        """Ask each server for what is about its places, and have the replies in order. While a slot is moved, it is
        asked again.
        """
        replies: list[Any] = [None] * len(calls)
        waiting = list(range(len(calls)))
        for attempt in range(_ATTEMPTS):
            by_server: dict[Server, list[int]] = {}
            for index in waiting:
                (server,) = self._serving(calls[index][0].key.partition("\0")[0])
                by_server.setdefault(server, []).append(index)
            waiting, outage = [], None
            for server, asked in by_server.items():
                for index, reply in zip(asked, _ask(server, [calls[index][1] for index in asked]), strict=True):
                    if isinstance(reply, StoreOutage):
                        outage = reply
                        waiting.append(index)
                    else:
                        replies[index] = reply
            if outage is None:
                break
            if attempt == _ATTEMPTS - 1:
                raise outage
            time.sleep(_PAUSE_S)
        return replies

    def _serving(self, key: str | None = None) -> list[Server]:
        return cast("list[Server]", self._servers.serving(key))


def _ask(server: Server, calls: Sequence[bytes]) -> list[Any]:
    """Ask for some replies. One that is an error is an outage.

    :raises StoreOutage: if the server does not answer.
    """
    return server.answers_to(b"".join(calls), len(calls)) if calls else []
