"""Words and commands, packed as RESP, in which Redis is asked."""

from __future__ import annotations


def word(value: str | int) -> str:
    """One word of a command, as a bulk string."""
    text = str(value)
    return f"${len(text) if text.isascii() else len(text.encode())}\r\n{text}\r\n"


def command(*words: str | int) -> bytes:
    """A whole command."""
    return f"*{len(words)}\r\n{''.join(map(word, words))}".encode()
