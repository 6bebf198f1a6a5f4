"""The messages that read and write entries, and the meaning of their replies.

Pure; this module must not know how messages are sent.
"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from headgate.errors import StoreOutage, StoreUnavailable
from headgate.plans.nats import Commit, Kept, Moved, Place, Places, Put, Read
from headgate.plans.nats.kept import NOTHING, written
from headgate.stores.nats.bucket import Bucket, Ready, outage_of
from headgate.stores.nats.library import Message, Reply
from headgate.stores.nats.replies import told_of

API: Final = "$JS.API"
PER_PAGE: Final = 256
"""How many entries are listed at a time."""

_MOVED: Final = frozenset({10071, 10164, 10176, 10210})
"""The errors of a write that was not done, and may be judged and done again: there is another revision, or the server
has too many batches under way."""
_NO_MESSAGE: Final = 10037


class Listed(NamedTuple):
    """An entry among others."""

    place: Place
    kept: Kept


class Requests:
    """The requests about one bucket."""

    def __init__(self, bucket: Bucket, places: Places, store: str) -> None:
        self._stream = bucket.stream
        self._places = places
        self._store = store
        self._batches = itertools.count(1)
        self._begin = secrets.token_hex(8)

    def read(self, command: Read, ready: Ready) -> Message:
        """Read an entry."""
        how = "DIRECT.GET" if ready.reads_directly else "STREAM.MSG.GET"
        asked = json.dumps({"last_by_subj": self._places.subject(command.place)})
        return Message(f"{API}.{how}.{self._stream}", {}, asked.encode())

    def commit(self, command: Commit) -> list[Message]:
        """Write entries, all or none. The last message is replied to."""
        puts = command.puts
        if len(puts) == 1:
            return [self._put(puts[0], {})]
        batch = f"{self._begin}{next(self._batches)}"
        messages = [
            self._put(put, {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)})
            for number, put in enumerate(puts, 1)
        ]
        last = messages[-1]
        messages[-1] = last._replace(headers={**last.headers, "Nats-Batch-Commit": "1"})
        return messages

    def _put(self, put: Put, headers: dict[str, str]) -> Message:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(put.revision)
        headers["Nats-TTL"] = str(put.life_s)
        if put.text is None:
            headers["KV-Operation"] = "DEL"
        return Message(self._places.subject(put.place), headers, written(put.text, put.until_us))

    def remove(self, place: Place) -> Message:
        """Forget an entry, whatever its revision."""
        headers = {"KV-Operation": "DEL", "Nats-TTL": "1"}
        return Message(self._places.subject(place), headers, b"")

    def page(self, first: int, name: str | None) -> Message:
        """List entries, from a revision on, in the order of these."""
        asked = {"seq": first, "next_by_subj": self._places.all_of(name), "batch": PER_PAGE}
        return Message(f"{API}.DIRECT.GET.{self._stream}", {}, json.dumps(asked).encode())

    def kept(self, reply: Reply | StoreOutage) -> Kept | StoreOutage:
        """Read the reply to `read`."""
        if isinstance(reply, StoreOutage):
            return reply
        if reply.status == "404":
            return NOTHING
        if reply.status:
            return StoreUnavailable(self._store, f"it cannot be read ({reply.status}): has the bucket a leader?")
        try:
            return _kept_of(reply.headers, reply.data)
        except _Refusal as refusal:
            return outage_of(refusal.refused, self._store)
        except (ValueError, KeyError, TypeError):
            outage = StoreUnavailable(self._store, "an entry holds something that is not ours: take another bucket")
            outage.is_of_server = False
            return outage

    def revisions(self, reply: Reply | StoreOutage, count: int) -> list[int] | Moved | StoreOutage:
        """Read the reply to `commit`."""
        try:
            told, refused = told_of(reply, self._store)
            if refused is not None:
                return Moved() if refused.code in _MOVED else outage_of(refused, self._store)
            last = int(told["seq"])
        except StoreOutage as outage:
            return outage
        except (KeyError, ValueError, TypeError):
            return StoreUnavailable(self._store, "its answer is not understood")
        return list(range(last - count + 1, last + 1))

    def listed(self, replies: list[Reply]) -> tuple[list[Listed], int | None]:
        """Read the replies to `page`: entries, and from which revision on there may be more; None if there are none.

        :raises StoreOutage: if it cannot be read.
        """
        *messages, last = replies
        if last.status not in ("204", "404"):
            raise StoreUnavailable(self._store, f"it cannot be listed ({last.status or 'no end'})")
        found = []
        latest = 0
        for message in messages:
            latest = int(message.headers["Nats-Sequence"])
            place = self._places.place(message.headers["Nats-Subject"])
            if place is not None:
                try:
                    found.append(Listed(place, _kept_of(message.headers, message.data)))
                except ValueError:
                    continue  # it is none of ours
        is_end = last.status == "404" or last.headers.get("Nats-Num-Pending", "0") == "0" or not messages
        return found, None if is_end else latest + 1


class _Refusal(Exception):
    """The server refuses to read."""

    def __init__(self, refused: Any) -> None:
        super().__init__(refused.text)
        self.refused = refused


def _kept_of(headers: Mapping[str, str], data: bytes) -> Kept:
    """Read an entry: a message as it was published, or, where the bucket's leader was asked, an object that has it.

    :raises ValueError: if it is none of ours.
    """
    revision = headers.get("Nats-Sequence")
    if revision is not None:
        return Kept.read(int(revision), data)
    told, refused = told_of(Reply("", headers, data), "")
    if refused is not None:
        if refused.code == _NO_MESSAGE:
            return NOTHING
        raise _Refusal(refused)
    message = told["message"]
    return Kept.read(int(message["seq"]), base64.b64decode(message.get("data", "")))
