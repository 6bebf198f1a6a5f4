"""The meaning of a server's words when a user may not do something: which permission is missing.

This module must not know what a script does.
"""

from __future__ import annotations

import re
from typing import Final

_WHERE: Final = 'see "Permissions" in docs/stores.md'
_COMMAND: Final = re.compile(r"has no permissions to run the '([^']+)' command")


def problem_of(text: str) -> str | None:
    """Say which permission is missing, where that is what a server's error says; None otherwise."""
    command = _COMMAND.search(text)
    if command:
        name = command[1].lower()
        return f"its user may not run {name.replace('|', ' ').upper()}: grant +{name}, {_WHERE}"
    if "can't run this command" in text:  # Redis before 7.2
        return f"its user may not run a command that the scripts need, and the server does not say which: {_WHERE}"
    if text.startswith(("NOPERM", "ERR ACL failure")) and "key" in text:
        return f"its user may not read and write the keys: grant ~headgate:*, or what the prefix is, {_WHERE}"
    if text.startswith(("NOPERM", "ERR ACL failure")):
        return f"its user may not do this ({text}): {_WHERE}"
    return None
