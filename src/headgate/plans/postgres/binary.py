"""Values in PostgreSQL's binary format: integers, and arrays of one dimension without nulls."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Final

BYTEA_ARRAY: Final = 1001
INT4: Final = 23
INT8: Final = 20
INT8_ARRAY: Final = 1016
TEXT_ARRAY: Final = 1009
"""The types, by the numbers that they have in every PostgreSQL."""
BYTEA: Final = 17
_TEXT: Final = 25

_header: Final = struct.Struct(">iiIii")
_empty: Final = struct.Struct(">iiI")
_length: Final = struct.Struct(">i")
int4: Final = _length.pack
int8: Final = struct.Struct(">q").pack


@functools.lru_cache(maxsize=1024)
def _integers(count: int) -> struct.Struct:
    return struct.Struct(">" + count * "iq")


def int8_array(numbers: Sequence[int]) -> bytes:
    """An array of `bigint`."""
    count = len(numbers)
    if not count:
        return _empty.pack(0, 0, INT8)
    words = [8] * (2 * count)
    words[1::2] = numbers
    return _header.pack(1, 0, INT8, count, 1) + _integers(count).pack(*words)


def bytea_array(values: Sequence[bytes]) -> bytes:
    """An array of `bytea`."""
    return _of_bytes(values, BYTEA)


def text_array(values: Sequence[str]) -> bytes:
    """An array of `text`, in UTF-8."""
    return _of_bytes([value.encode() for value in values], _TEXT)


def _of_bytes(values: Sequence[bytes], element: int) -> bytes:
    if not values:
        return _empty.pack(0, 0, element)
    pack = _length.pack
    parts = [_header.pack(1, 0, element, len(values), 1)]
    for value in values:
        parts += (pack(len(value)), value)
    return b"".join(parts)


def read_int8_array(packed: bytes) -> tuple[int, ...]:
    """An array of `bigint`.

    :raises ValueError: if it is none.
    """
    try:
        dimensions, _, element = _empty.unpack_from(packed)  # a flag of nulls says that there might be some
        if dimensions == 0 and element == INT8:
            return ()
        count = _header.unpack_from(packed)[3]
        if dimensions != 1 or element != INT8 or len(packed) != _header.size + 12 * count:
            raise ValueError("no array of bigint")
        return _integers(count).unpack_from(packed, _header.size)[1::2]
    except struct.error as error:
        raise ValueError("no array of bigint") from error
