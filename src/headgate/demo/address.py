"""The store's address, put together from what the environment says of it.

Knows URLs, and nothing of what is behind them.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

WITH_PASSWORD = ("redis", "rediss", "valkey", "valkeys", "unix")


def store_url(url: str, password: str | None) -> str:
    """Complete a store's URL: the scheme where it is missing, the password where it has none."""
    if "://" not in url:
        url = "redis://" + url
    parts = urlsplit(url)
    if not password or parts.password is not None or parts.scheme not in WITH_PASSWORD:
        return url
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{address}"))
