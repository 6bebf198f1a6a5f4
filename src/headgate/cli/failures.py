"""Errors as exit codes: each is a line on standard error that says what was wrong."""

from __future__ import annotations

import sys

from headgate import HeadgateError, StoreOutage

DONE, OUTAGE, NOT_UNDERSTOOD, DENIED, UNHEALTHY = 0, 1, 2, 3, 4
INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended."""


def code_of(error: Exception) -> int:
    """Say what was wrong, and give back the exit code. What is no error of ours is raised again."""
    if not isinstance(error, HeadgateError):
        raise error
    print(f"headgate: {error}", file=sys.stderr)
    return OUTAGE if isinstance(error, StoreOutage) else NOT_UNDERSTOOD
