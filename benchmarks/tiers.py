"""A request that counts for a user, an address and everybody, and may pass only if all three have room.

Ours is one group: all is spent or nothing is, in one round trip. No peer has groups over several keys, so its users ask
three times, stop at the first denial, and what was already spent stays spent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from benchmarks.peers import OURS, Contender, Entry, Maker, Quota, close, limit_of, ours_admits
from headgate import AsyncLimiter, Limiter

ADDRESSES: Final = 20
"""So many addresses share the users among them."""


def keys_of(user: str) -> dict[str, str]:
    """What a request of some user is counted under."""
    number = int(user.rpartition(":")[2])
    return {"user": str(number), "ip": f"203.0.113.{number % ADDRESSES}", "global": "everybody"}


TIERS: Final = ("user", "ip", "global")


def grouped(algorithm: str) -> Entry:
    """Our three tiers in one group."""
    name = f"{algorithm}, one group"

    def open_sync(url: str, quota: Quota) -> Contender:
        limiter = Limiter(dict.fromkeys(TIERS, limit_of(algorithm, quota)), store=url)
        return Contender(OURS, name, _asking(limiter.try_acquire), ours_admits, limiter.close)

    def open_async(url: str, quota: Quota) -> Contender:
        limiter = AsyncLimiter(dict.fromkeys(TIERS, limit_of(algorithm, quota)), store=url)
        return Contender(OURS, name, _asking(limiter.try_acquire), ours_admits, limiter.aclose)

    return Entry(OURS, name, open_sync, open_async)


def _asking(try_acquire: Callable[[dict[str, str]], Any]) -> Callable[[str], Any]:
    return lambda user: try_acquire(keys_of(user))


def thrice(entry: Entry) -> Entry:
    """A peer's three tiers, asked one after another."""
    name = f"{entry.algorithm}, three calls"

    def opened(maker: Maker, asking: Any, url: str, quota: Quota) -> Contender:
        asked = {tier: maker(url, quota) for tier in TIERS}

        async def close_all() -> None:
            for contender in asked.values():
                await close(contender)

        return Contender(entry.library, name, functools.partial(asking, asked), bool, close_all)

    return Entry(
        entry.library,
        name,
        entry.open_sync and functools.partial(opened, entry.open_sync, _ask_all),
        entry.open_async and functools.partial(opened, entry.open_async, _ask_all_async),
        remark=entry.remark,
        admits_at_once=entry.admits_at_once,
    )


def _ask_all(asked: dict[str, Contender], user: str) -> bool:
    keys = keys_of(user)
    return all(contender.is_admitted(contender.call(f"{tier}:{keys[tier]}")) for tier, contender in asked.items())


async def _ask_all_async(asked: dict[str, Contender], user: str) -> bool:
    keys = keys_of(user)
    for tier, contender in asked.items():
        if not contender.is_admitted(await contender.call(f"{tier}:{keys[tier]}")):
            return False
    return True
