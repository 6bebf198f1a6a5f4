"""rate-sync as a peer, where it is installed: it needs Python 3.12, and the others make do with 3.11.

Its token bucket lets calls through at equal distances, and has no burst to be compared; its sliding window is a log."""

from __future__ import annotations

import itertools
import platform
from importlib.util import find_spec
from typing import Any, Final

from benchmarks.shape import Contender, Entry, Quota


def lacks(module: str) -> str:
    """Why rate-sync cannot be asked here, with this module of it or of its client's; empty if it can."""
    if find_spec("ratesync") is None:
        return f"needs Python 3.12 or later and is not installed here, with {platform.python_version()}"
    return "" if find_spec(module) else f"needs {module}, which is not installed here, with {platform.python_version()}"


LACKS: Final = lacks("ratesync")

_openings: Final = itertools.count()
"""Its limiters have a name in the process, for good. Processes that ask together open the same in the same order."""


def _open_async(url: str, quota: Quota) -> Contender:
    import ratesync

    name = f"bench-{next(_openings)}"
    ratesync.configure_store(name, strategy="redis", url=url)
    ratesync.configure_limiter(
        name,
        store_id=name,
        algorithm="sliding_window",
        limit=quota.tokens,
        window_seconds=quota.per_s,
        fail_closed=True,  # else it admits what the store did not answer, and would be fast at that
    )

    async def call(key: str) -> Any:
        return await (await ratesync.get_or_clone_limiter(name, key)).try_acquire(timeout=0)

    async def close() -> None:
        for each in ratesync.list_limiters():
            if each.startswith(f"{name}:"):
                await ratesync.get_limiter(each).disconnect()

    return Contender("rate-sync", "sliding log", call, close=close)


ENTRIES: Final[tuple[Entry, ...]] = (
    () if LACKS else (Entry("rate-sync", "sliding log", open_async=_open_async, remark="a pool for each key"),)
)
