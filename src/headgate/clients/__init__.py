"""Clients of HTTP that wait for their turn before they call somebody else, and heed the limits that they are told of.

Each library has a module of its own here: `httpx`, `httpx2`, `requests`, `aiohttp`. They differ in how a request is
sent, and in nothing else.
"""

from __future__ import annotations

from headgate.clients.answers import Answer, seconds_told

__all__ = ["Answer", "seconds_told"]
