"""Listing, clearing and restoring what is kept, in small steps: for operators, never on the way of a decision.

`SCAN` goes through all keys of a server, a few hundred at a time, and holds up nobody. This module must not know how a
server is reached, nor what an algorithm stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from headgate.errors import StoreOutage
from headgate.plans.cluster import Redirect
from headgate.plans.merging import to_keep
from headgate.plans.redis import stored
from headgate.plans.redis.packing import word
from headgate.plans.redis.stored import Address
from headgate.stores.contract import Entry
from headgate.stores.redis.server import Server
from headgate.stores.remote import Servers

PAGE: Final = 500
"""How many keys a server looks at in one call, and how many are read or written in one round trip."""
_ATTEMPTS: Final = 20
"""So often a slot that is moved is asked for."""
_TRIES: Final = 1_000
"""After so many, which takes half a second, an entry that others write all the time is written over. Then, what is
spent there during one round trip is lost."""
_PAUSE_S: Final = 0.1


Clock = Callable[[], int] | None
"""A test's clock, in place of the server's."""
_Call = tuple[str, bytes]
"""A key of the user's, and the packed call that is about it."""


class Scanning:
    """Asks what operators want to know of the servers of a store."""

    def __init__(self, prefix: str, servers: Servers) -> None:
        self._prefix = prefix
        self._servers = servers

    def scan(self, key_prefix: str, name: str | None, clock: Clock) -> Iterator[Entry]:
        """As `ScannableStore.scan`."""
        for _, entry in self._found(key_prefix, name, clock):
            yield entry

    def clear(self, key_prefix: str, name: str | None, clock: Clock) -> int:
        """As `ScannableStore.clear`."""
        found, count = self._found(key_prefix, name, clock), 0
        while page := list(islice(found, PAGE)):
            count += sum(self._everywhere([(_owner_of(entry), _unlink(key)) for key, entry in page]))
        return count

    def restore(self, entries: Iterable[Entry], clock: Clock) -> int:
        """As `ScannableStore.restore`.

        :raises ValueError: if a text is no state.
        """
        left, count = iter(entries), 0
        now_us = None if clock is None else clock()
        while page := list(islice(left, PAGE)):
            waiting, tries = page, 0
            while waiting:
                tries += 1
                waiting, written = self._merge(waiting, now_us, is_last=tries >= _TRIES)
                count += written
        return count

    def ask_each(self, words: Sequence[str]) -> dict[str, Any]:
        """Ask each server that decides for the same: the replies, by the servers' names. One that is an error is an
        outage.

        :raises StoreOutage: if a server does not answer.
        """
        call = f"*{len(words)}\r\n{''.join(map(word, words))}".encode()
        found = {}
        for server in self._servers.serving():
            assert isinstance(server, Server)
            (found[server.name],) = _ask(server, [call])
        return found

    def _merge(self, entries: list[Entry], now_us: int | None, *, is_last: bool) -> tuple[list[Entry], int]:
        """Merge each entry with what is in its place. Returns those for which something else was there when they were
        written, and how many were written. With `is_last`, they are written whatever is there.
        """
        first = {Address(*entry[:3]): entry for entry in reversed(entries)}
        later = [entry for entry in entries if first[Address(*entry[:3])] is not entry]
        reads = [
            (_owner_of(entry), stored.read_call(stored.stored_key_of(self._prefix, address).encode(), address, now_us))
            for address, entry in first.items()
        ]
        asked, writes = [], []
        for (address, entry), reply in zip(first.items(), self._everywhere(reads), strict=True):
            told = to_keep(entry.code, entry.key, entry[3:], stored.read_reply(address, reply))
            if told is not None:
                seen = "" if is_last else stored.seen_in(reply)
                asked.append(entry)
                writes.append((_owner_of(entry), stored.restore_call(self._prefix, address, *told, now_us, seen)))
        replies = self._everywhere(writes)
        moved = [entry for entry, reply in zip(asked, replies, strict=True) if reply == stored.MOVED_ON]
        return later + moved, replies.count(1)

    def _everywhere(self, calls: list[_Call]) -> list[Any]:
        """Ask each server for what is about its keys, and have the replies in order. While a slot is moved, it is asked
        again.
        """
        replies: list[Any] = [None] * len(calls)
        waiting = list(range(len(calls)))
        for attempt in range(_ATTEMPTS):
            by_server: dict[int, tuple[Server, list[int]]] = {}
            for index in waiting:
                (server,) = self._servers.serving(calls[index][0])
                assert isinstance(server, Server)
                by_server.setdefault(id(server), (server, []))[1].append(index)
            waiting, outage = [], None
            for server, asked in by_server.values():
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

    def _found(self, key_prefix: str, name: str | None, clock: Clock) -> Iterator[tuple[bytes, Entry]]:
        pattern = stored.pattern_of(self._prefix, key_prefix)
        told: set[bytes] = set()
        """The keys that were told: a server may find one twice, and two servers one that moves."""
        for server in self._servers.serving():
            assert isinstance(server, Server)
            cursor = b"0"
            while True:
                words: list[str | int] = ["SCAN", cursor.decode(), "MATCH", pattern, "COUNT", PAGE]
                call = f"*{len(words)}\r\n{''.join(map(word, words))}".encode()
                (reply,) = _ask(server, [call])
                if isinstance(reply, StoreOutage):
                    raise reply
                cursor, keys = reply
                fresh = []
                for key in keys:
                    address = stored.address_of(self._prefix, key)
                    if address is None or key in told or not address.key.startswith(key_prefix):
                        continue
                    if name is None or address.name == name:
                        told.add(key)
                        fresh.append((key, address))
                now_us = None if clock is None else clock()
                calls = [stored.read_call(key, address, now_us) for key, address in fresh]
                for (key, address), answer in zip(fresh, _ask(server, calls), strict=True):
                    if isinstance(answer, StoreOutage) and not isinstance(answer, Redirect):
                        raise answer
                    kept = stored.read_reply(address, answer)
                    if kept is not None:
                        yield key, Entry(*address, *kept)
                    else:
                        told.discard(key)  # it may be on its way to another node
                if cursor == b"0":
                    break


def _ask(server: Server, calls: Sequence[bytes]) -> list[Any]:
    """Ask for some replies. One that is an error is an outage.

    :raises StoreOutage: if the server does not answer.
    """
    return server.answers_to(b"".join(calls), len(calls)) if calls else []


def _owner_of(entry: Entry) -> str:
    """The key of the user's by which it lies where it does."""
    return entry.key.partition("\0")[0]


def _unlink(key: bytes) -> bytes:
    return b"*2\r\n$6\r\nUNLINK\r\n$%d\r\n%b\r\n" % (len(key), key)
