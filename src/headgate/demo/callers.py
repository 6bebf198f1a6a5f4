"""The demo's users: they say who they are, and are believed. An app of yours asks its authentication.

This module must not know a limit.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import HTTPConnection

_USER: Final = re.compile(r"[A-Za-z0-9._@+-]{1,64}")


def user_of(request: HTTPConnection) -> str | None:
    """The user that the header X-User-ID names, if it comes once and names one."""
    values = request.headers.getlist("x-user-id")
    return f"user:{values[0]}" if len(values) == 1 and _USER.fullmatch(values[0]) else None
