"""Headers that proxies append to, read from the right: what the nearest proxy wrote comes first.

Everything to the left of what an honest proxy has appended may be by anybody. So nothing there, such as a quote that
is never closed, may change how the rest is read. This module must not know which proxies are trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

_PAIR: Final = re.compile(
    r"""[ \t]*
    (?: "(?P<quoted>(?:[^"]|"\\)*+)"   # in a quoted text, a quote has a backslash before it: backwards, behind it
      | (?P<bare>[^"=,; \t]+) )
    =(?P<name>[^"=,; \t]+)[ \t]*(?P<before>[,;]|\Z)""",
    re.VERBOSE,
)
"""A parameter of RFC 7239 and what stands before it, written backwards."""
_QUOTED: Final = re.compile(r'(?:[^"\\]|\\.)*')
_ESCAPED: Final = re.compile(r"\\(.)")


def entries(lines: Sequence[str]) -> Iterator[str]:
    """The entries of `X-Forwarded-For`, from the last one on, empty ones too."""
    for line in reversed(lines):
        rest, comma = line, ","
        while comma:
            rest, comma, entry = rest.rpartition(",")
            yield entry


def elements(lines: Sequence[str]) -> Iterator[str | None]:
    """The `for` of each element of `Forwarded` (RFC 7239), from the last one on; None if an element has none, or
    several, or cannot be read. That ends the reading.
    """
    for line in reversed(lines):
        backwards = line[::-1]
        position, rest = 0, True
        while rest:
            named: list[str] = []
            before = ";"
            while before == ";":
                pair = _PAIR.match(backwards, position)
                if pair is None:
                    yield None
                    return
                position, before = pair.end(), pair["before"]
                if pair["name"][::-1].lower() == "for":
                    named.append(_value(pair))
            rest = before == ","
            if len(named) != 1:
                yield None
                return
            yield named[0]


def _value(pair: re.Match[str]) -> str:
    if pair["quoted"] is None:
        return pair["bare"][::-1]
    text = pair["quoted"][::-1]
    return _ESCAPED.sub(r"\1", text) if _QUOTED.fullmatch(text) else ""
