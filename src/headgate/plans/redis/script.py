"""The scripts, and calls of them."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import Any, Final, NamedTuple

from headgate.drive import Plan

FILES: Final = {
    "tb": ("token_bucket_notes.lua", "token_bucket.lua", "token_bucket_each.lua"),
    "fw": ("fixed_window.lua",),
    "sw": ("sliding_window.lua",),
    "sl": ("sliding_log.lua",),
    "cc": ("concurrency.lua",),
    "pn": ("penalty.lua",),
}
_TEXTS: Final = {
    file.name: file.read_text("utf-8")
    for file in resources.files("headgate.algorithms").iterdir()
    if file.name.endswith(".lua")
}
"""The scripts by their files' names. They are read here, and not in a call, where a signal might interrupt it."""


class ScriptMissing:
    """The reply of a server that does not know the script: it was restarted, flushed, or never had it."""


class Script(NamedTuple):
    """Run a script: by its digest, or with its text where `is_whole`."""

    sha: str
    text: str
    packed: bytes
    """The call as it is sent, in RESP."""
    is_whole: bool = False

    def whole(self) -> Script:
        """The same call, with the script's text."""
        text = self.text.encode()
        packed = self.packed.replace(
            b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % self.sha.encode(), b"$4\r\nEVAL\r\n$%d\r\n%b\r\n" % (len(text), text), 1
        )
        return Script(self.sha, self.text, packed, True)


def run(script: Script) -> Plan[Script, Any]:
    """Run a script, with its text where the server does not have it."""
    reply = yield script
    return (yield script.whole()) if isinstance(reply, ScriptMissing) else reply


def _block(*names: str) -> str:
    """Files in a block of their own, where their local names stay. Those of clock and prelude are everybody's."""
    return "do\n" + "\n".join(_TEXTS[name] for name in names) + "end\n"


def joined(*names: str) -> str:
    """A script of some files, whose local names are everybody's."""
    return "\n".join(_TEXTS[name] for name in names)


@functools.cache
def compose(codes: frozenset[str]) -> tuple[str, str]:
    """The script for a set of algorithms, as `(sha, text)`. What a batch does not use is not sent, nor run."""
    single = [_block("token_bucket_single.lua")] if "tb" in codes else []
    algorithms = [_block(*FILES[code]) for code in sorted(codes)]
    parts = [_TEXTS["clock.lua"], *single, _TEXTS["prelude.lua"], *algorithms, _block("decide.lua")]
    text = "\n".join(parts)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text
