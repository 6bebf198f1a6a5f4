"""Where an entry lies in a bucket: the subject that it is published to.

`$KV.headgate.shop.api.tb.user=3A42`: the bucket, the prefix, the limit's name, the algorithm, the key. Each of them is
one token of the subject, and escaped so that no two different places ever share one: a byte that a key of a bucket must
not hold, or that would part the token, is `=` and two hex digits. A token that would be long is `==` and base64. The
name comes before the key, so that the entries of one limit can be asked for. This module must not know what is there.
"""

from __future__ import annotations

import base64
import functools
import re
from typing import Final

from headgate.plans.merging import Place

LONG: Final = 256
"""Escaped tokens above this length are in base64. The server reads no line longer than 4,096 bytes."""
_EMPTY: Final = "="
"""The token of an empty text."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_/-]+")
_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9_/-]")


def token_of(text: str) -> str:
    """The token for a text. Injective."""
    if len(text) <= LONG and _PLAIN.fullmatch(text):
        return text
    if not text:
        return _EMPTY
    data = text.encode()
    escaped = _UNSAFE.sub(lambda found: b"=%02X" % found[0][0], data)
    if len(escaped) > LONG:
        escaped = b"==" + base64.urlsafe_b64encode(data).rstrip(b"=")
    return escaped.decode()


def text_of(token: str) -> str:
    """The text of a token.

    :raises ValueError: if `token_of` makes no such token.
    """
    if token == _EMPTY:
        return ""
    if token.startswith("=="):
        data = token[2:].encode()
        text = base64.b64decode(data + b"=" * (-len(data) % 4), b"-_", validate=True).decode()
    else:
        text = re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), token.encode()).decode()
    if token_of(text) != token:
        raise ValueError("no text is escaped like that")
    return text


class Places:
    """The subjects of a bucket's entries.

    :param bucket: its name, which is a token as it stands.
    :param prefix: the first part of every key.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._begin: Final = f"$KV.{bucket}.{token_of(prefix)}."
        self._frame = functools.lru_cache(maxsize=4096)(self._new_frame)

    def _new_frame(self, name: str, code: str) -> str:
        return f"{self._begin}{token_of(name)}.{code}."

    def subject(self, place: Place) -> str:
        """Where an entry is published."""
        name, code, key = place
        return self._frame(name, code) + token_of(key)

    def all_of(self, name: str | None) -> str:
        """The subjects of a limit's entries, or of all limits', with a wildcard."""
        return f"{self._begin}>" if name is None else f"{self._begin}{token_of(name)}.>"

    def place(self, subject: str) -> Place | None:
        """The place whose subject it is; None if it is none of ours."""
        if not subject.startswith(self._begin):
            return None
        parts = subject[len(self._begin) :].split(".")
        if len(parts) != 3:
            return None
        try:
            return Place(text_of(parts[0]), parts[1], text_of(parts[2]))
        except ValueError:
            return None
