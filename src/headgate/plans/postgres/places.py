"""Where the state of a limit for a key is kept: the primary key of its row, as bytes.

`headgate:api:tb:user:42`: prefix, the limit's name, the algorithm, and the key as it is. In prefix and name, colons are
escaped, so that no two different places are the same. Bytes, since a key may hold any character, and that of a mark
holds a NUL.
"""

from __future__ import annotations

import functools
from urllib.parse import unquote


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace(":", "%3A")


@functools.lru_cache(maxsize=4096)
def frame(prefix: str, name: str, code: str) -> bytes:
    """All of a place but the key, which comes behind it."""
    return f"{_escaped(prefix)}:{_escaped(name)}:{code}:".encode()


def place_of(prefix: str, name: str, code: str, key: str) -> bytes:
    """The place of the state of one limit for one key."""
    return frame(prefix, name, code) + key.encode()


def begin_of(prefix: str, name: str | None, name_prefix: str = "") -> bytes:
    """The first bytes of all places of a prefix, and of one name or of all that begin with `name_prefix`."""
    names = _escaped(name_prefix) if name is None else f"{_escaped(name)}:"
    return f"{_escaped(prefix)}:{names}".encode()


def read_place(place: bytes) -> tuple[str, str, str]:
    """The name, the code and the key of a place."""
    _, name, code, key = place.decode().split(":", 3)
    return unquote(name), code, key
