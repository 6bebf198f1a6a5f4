"""Keys: what is accepted as one, and how it is laid out in a store.

`headgate:{user:42}:api:tb`: prefix, key, the limit's name, the algorithm. The braces are a Redis Cluster hash tag,
so that all limits of one key share a slot. Parts are escaped, so that no two different pairs of key and name ever
share a counter; the algorithm is part of it, so that a changed algorithm never meets the other's data. With a hash tag
of its own, `headgate:{tag}:user:42:api:tb`, all that a store keeps lies in one slot. This module must not know what
is stored there.
"""

from __future__ import annotations

import binascii
import functools
from collections.abc import Callable
from typing import Final

from headgate.errors import InvalidKey

MAX_KEY_BYTES: Final = 1024
"""The longest key, in bytes of UTF-8. Longer identities are to be hashed."""
MAX_PLAIN: Final = 256
"""The longest key that takes the fast paths, in characters."""
SLOTS: Final = 16_384
"""The number of slots of a Redis Cluster."""


def check_key(key: str) -> str:
    """Hand back a usable key.

    :raises InvalidKey: if it is empty, longer than 1,024 bytes, holds a NUL or a lone surrogate, or is not a `str`.
    """
    if type(key) is str and key and len(key) <= MAX_PLAIN and key.isascii() and "\0" not in key:  # nearly always
        return key
    if not isinstance(key, str):
        raise InvalidKey(f"a key is a str, not {type(key).__name__}: {_remedy(key)}")
    if not key:
        raise InvalidKey("a key must not be empty: for one counter for everybody, use a key such as 'global'")
    if "\0" in key:
        raise InvalidKey(f"a key must not hold NUL, as {_shown(key)} does at index {key.index(chr(0))}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidKey(f"a key must be encodable as UTF-8; {_shown(key)} is not, at index {error.start}") from None
    if size > MAX_KEY_BYTES:
        raise InvalidKey(
            f"a key has at most {MAX_KEY_BYTES} bytes; {_shown(key)} has {size}: store a hash of it instead"
        )
    return key.encode().decode()  # of a StrEnum, say, the plain text


def is_plain(text: str) -> bool:
    """Are a key's characters, or those of several joined, usable as they are: is there nothing to check or escape, and
    does each take one byte?
    """
    return text.isascii() and "{" not in text and "}" not in text and "%" not in text and "\0" not in text


def storage_key(prefix: str, key: str, name: str, code: str) -> str:
    """The place of the state of one limit for one key. Injective: different arguments never meet."""
    key = _escaped_key(key)
    if prefix.endswith("}"):  # it has the hash tag
        return f"{prefix}:{key}:{_escaped_name(name)}:{code}"
    return f"{prefix}:{{{key}}}:{_escaped_name(name)}:{code}"


def read_storage_key(prefix: str, stored: str) -> tuple[str, str, str] | None:
    """The key, the name and the algorithm's code that `storage_key` made this of; None if it did not."""
    is_tagged = prefix.endswith("}")
    begin, end = (f"{prefix}:", ":") if is_tagged else (f"{prefix}:{{", "}:")
    if not stored.startswith(begin):
        return None
    rest, _, code = stored[len(begin) :].rpartition(":")
    key, _, name = rest.rpartition(end)  # no name holds a colon
    key, name = _unescape(key), _unescape(name.replace("%3A", ":"))
    return (key, name, code) if storage_key(prefix, key, name, code) == stored else None


@functools.lru_cache(maxsize=4096)
def storage_key_frame(prefix: str, name: str, code: str) -> tuple[str, str, int]:
    """The text that `storage_key` puts before and after a key that is plain, and how many bytes that is."""
    begin, end = storage_key(prefix, "\0", name, code).split("\0")
    return begin, end, len((begin + end).encode())


@functools.lru_cache(maxsize=4096)
def _escaped_name(name: str) -> str:
    return _escape(name).replace(":", "%3A")


def _escaped_key(key: str) -> str:
    return key if is_plain(key) else _escape(key)


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def _unescape(part: str) -> str:
    return part.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")


def check_prefix(prefix: str) -> str:
    """Hand back a usable prefix: no braces, which would move the hash tag.

    :raises InvalidKey: if it is empty or holds a brace or what no key may hold.
    """
    check_key(prefix)
    if "{" in prefix or "}" in prefix:
        raise InvalidKey(f"a key prefix must not hold braces, as {_shown(prefix)} does")
    return prefix


def tagged_prefix(prefix: str, tag: str) -> str:
    """The prefix of keys that all lie in one slot, that of the hash tag.

    :raises InvalidKey: if the tag is no usable key, or holds a brace.
    """
    check_key(tag)
    if "{" in tag or "}" in tag:
        raise InvalidKey(f"a hash tag must not hold braces, as {_shown(tag)} does: they are put around it")
    return f"{prefix}:{{{tag}}}"


def slot_finder(prefix: str) -> Callable[[str], int]:
    """Make what finds the slot of a key: CRC-16 of the hash tag, as the specification of Redis Cluster has it."""
    if prefix.endswith("}"):
        tagged = _slot(prefix[prefix.index("{") + 1 : -1])
        return lambda _: tagged

    return lambda key: _slot(_escaped_key(key))


def _slot(tag: str) -> int:
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


def _remedy(key: object) -> str:
    return "await it" if hasattr(key, "__await__") else "write str(...) or f'user:{user_id}'"


def _shown(key: str) -> str:
    return ascii(key if len(key) <= 40 else key[:40] + "...")
