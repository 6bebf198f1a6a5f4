"""The replies of JetStream's interface: objects, of which some are errors.

Pure; this module must not know what was asked.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final, NamedTuple

from headgate.errors import StoreOutage, StoreUnavailable
from headgate.stores.nats.library import Reply

_NO_RESPONDERS: Final = "503"


class Refused(NamedTuple):
    """An error of the interface."""

    code: int
    text: str


def told_of(reply: Reply | StoreOutage, store: str) -> tuple[dict[str, Any], Refused | None]:
    """Read a reply, and the error in it, if there is one.

    :raises StoreOutage: if there is none.
    """
    if isinstance(reply, StoreOutage):
        raise reply
    if reply.status == _NO_RESPONDERS:
        raise StoreUnavailable(store, "JetStream does not answer: is it enabled, and has the bucket a leader?")
    try:
        told = json.loads(reply.data)
        error = told.get("error")
        if error is None:
            return told, None
        return told, Refused(int(error.get("err_code", error.get("code", 0))), str(error.get("description", error)))
    except (ValueError, TypeError, AttributeError):
        raise StoreUnavailable(store, "its answer is not understood: is it a NATS server?") from None


def time_us(text: str) -> int:
    """An instant that the server says, with nanoseconds, in microseconds since the epoch.

    :raises ValueError: if it is none.
    """
    found = re.fullmatch(r"(.*T\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    if found is None:
        raise ValueError(text)
    whole = datetime.fromisoformat(found[1] + ("+00:00" if found[3] == "Z" else found[3]))
    return int(whole.timestamp()) * 1_000_000 + int((found[2] or "").ljust(6, "0")[:6])
