"""The shape in which every limiter is measured: a call that takes a key, and an answer that says admitted or denied."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

OURS: Final = "headgate"


@dataclass(frozen=True)
class Quota:
    """So many tokens in so many seconds. Windows and logs have no burst, and take no notice of it."""

    tokens: int
    per_s: int
    burst: int | None = None

    @property
    def capacity(self) -> int:
        """What a full bucket holds."""
        return self.tokens if self.burst is None else self.burst


@dataclass(frozen=True)
class Contender:
    """One limiter at work. `call` takes a key, and returns (or awaits to) an answer that `is_admitted` understands."""

    library: str
    algorithm: str
    call: Callable[[str], Any]
    is_admitted: Callable[[Any], bool] = bool
    close: Callable[[], Any] = bool
    per_call: int = 1
    """How many decisions a call stands for."""


Maker = Callable[[str, Quota], Contender]


@dataclass(frozen=True)
class Entry:
    """A library with one of its algorithms, and how to open it: by a URL, or in this process's memory."""

    library: str
    algorithm: str
    open_sync: Maker | None = None
    open_async: Maker | None = None
    open_memory: Callable[[Quota], Contender] | None = None
    open_threads: Maker | None = None
    """For many threads, where that takes another call than for one. None: `open_sync` does."""
    remark: str = ""
    """What a reader of numbers has to know of it."""
    admits_at_once: bool = True
    """False of one that makes every caller sleep first: only its denials can be timed beside others."""

    @property
    def kind(self) -> str:
        """What may be compared with each other."""
        return kind_of(self.algorithm)


def kind_of(algorithm: str) -> str:
    """GCRA is a token bucket by another name."""
    return _SAME_AS.get(algorithm, algorithm)


_SAME_AS: Final = {"GCRA": "token bucket", "leaking bucket": "token bucket"}


async def close(contender: Contender) -> None:
    """Close a contender of either kind."""
    closing = contender.close()
    if inspect.isawaitable(closing):
        await closing
