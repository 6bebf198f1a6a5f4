"""States as flat text, for stores that keep them: a version, and the state's numbers, with spaces between.

Integers are written whole, however long. What is read back is the same state, or a `ValueError`: never a guess.
"""

from __future__ import annotations

import re
from typing import Final

VERSION: Final = "1"
"""The first field of each text. To be raised when an algorithm's fields come to mean something else."""

_INTEGER: Final = re.compile(r"-?[0-9]+")
_ESCAPES: Final = (("%", "%25"), (" ", "%20"), ("\n", "%0A"), ("\r", "%0D"), ("\0", "%00"))


def flat(*fields: int | str) -> str:
    """The text of a state with these fields."""
    return " ".join(map(str, (VERSION, *fields)))


def fields(text: str, what: str) -> list[str]:
    """The fields of a state's text.

    :raises ValueError: if it is of another version.
    """
    version, *found = text.split(" ")
    if version != VERSION:
        raise unreadable(text, what)
    return found


def numbers(text: str, what: str) -> list[int]:
    """The fields of a state's text which are all integers.

    :raises ValueError: if they are not, or it is of another version.
    """
    return integers(fields(text, what), text, what)


def integers(some: list[str], text: str, what: str) -> list[int]:
    """Some of the fields of a text, which are integers.

    :raises ValueError: if they are not.
    """
    if not all(map(_INTEGER.fullmatch, some)):
        raise unreadable(text, what)
    return list(map(int, some))


def unreadable(text: str, what: str) -> ValueError:
    """The error for a text that is no state."""
    shown = ascii(text if len(text) <= 60 else text[:60] + "...")
    return ValueError(
        f"{shown} is not the state of a {what}, as this version of headgate writes it: a newer version has written it, "
        "or something else; forget the key to begin afresh"
    )


def escaped(text: str) -> str:
    """A text as a field: without spaces and line breaks."""
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text


def plain(field: str) -> str:
    """The text that was escaped."""
    for character, escape in reversed(_ESCAPES):
        field = field.replace(escape, character)
    return field
