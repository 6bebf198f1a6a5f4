"""How the keys of a store stand with their limits: by what the store keeps, and, where the configuration file has the
limits, exactly.

A store keeps what is owed, not the limit. With the limit, the same arithmetic that decides tells here whether a request
would be denied now; nothing is asked for that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.cli.stored import is_mark, told
from headgate.hits import Group, Hit

if TYPE_CHECKING:
    from headgate.limits import Limit
    from headgate.stores import Entry

PAGE: Final = 500


class Row(NamedTuple):
    """How a key stands with one limit."""

    key: str
    limit: str
    """The limit's name."""
    algorithm: str
    owes: str
    left_s: float
    """After so many seconds, nothing is owed."""
    is_blocked: bool
    """Is it blocked by a penalty?"""
    is_denied: bool | None = None
    """Would a request of cost 1 be denied now? None where the limit is not known."""
    remaining: int | None = None
    capacity: int | None = None
    retry_after_s: float | None = None
    is_rising: bool = False
    """Has it come to owe more since the last look?"""

    @property
    def is_throttled(self) -> bool:
        """Is it being denied, as far as that is known?"""
        return self.is_blocked or bool(self.is_denied)


class Look(NamedTuple):
    """One look at a store."""

    rows: list[Row]
    """Those who are throttled first, and of them those who have to wait for the longest time."""
    seen: int
    throttled: int
    until_us: dict[tuple[str, str, str], int]
    """Until when each is kept, by name, algorithm and key: for the next look."""


def limiters_of(config: str | None) -> dict[str, dict[str, Limit]]:
    """The limiters of a configuration file, and of each the limits, by the names under which stores keep them; none
    without a file.
    """
    from headgate import ConfigError
    from headgate.config import load
    from headgate.limiter.policy import Policy

    try:
        limiters = load(config, imports=False).limiters
    except ConfigError:
        if config is not None:
            raise
        return {}
    return {
        settings.name: dict(Policy(settings.limits, settings.name, penalty=settings.options.get("penalty")).limits)
        for settings in limiters.values()
    }


def limits_of(config: str | None) -> dict[str, Limit]:
    """The limits of all its limiters."""
    return {name: limit for limits in limiters_of(config).values() for name, limit in limits.items()}


def look(
    entries: Iterable[Entry],
    limits: Mapping[str, Limit],
    first: int,
    now_us: int,
    before: Mapping[tuple[str, str, str], int] | None = None,
) -> Look:
    """Look at all entries once, and keep the `first` that matter most (all, if it is 0)."""
    until_us: dict[tuple[str, str, str], int] = {}
    throttled = 0

    def rows() -> Iterator[Row]:
        nonlocal throttled
        left = (entry for entry in entries if not is_mark(entry))
        while page := list(islice(left, PAGE)):
            for entry, row in zip(page, _rows(page, limits, now_us), strict=True):
                place = entry.name, entry.code, entry.key
                until_us[place] = entry.until_us
                throttled += row.is_throttled
                yield row._replace(is_rising=before is not None and entry.until_us > before.get(place, 0))

    def weight(row: Row) -> tuple[bool, bool, float]:
        return row.is_blocked, row.is_throttled, row.left_s if row.retry_after_s is None else row.retry_after_s

    found = heapq.nlargest(first, rows(), key=weight) if first else sorted(rows(), key=weight, reverse=True)
    return Look(found, len(until_us), throttled, until_us)


def _rows(page: list[Entry], limits: Mapping[str, Limit], now_us: int) -> list[Row]:
    from headgate import ManualClock, MemoryStore

    rows = [Row(*told(entry, now_us / 1e6)) for entry in page]
    known = [
        (index, entry, limits[entry.name])
        for index, entry in enumerate(page)
        if entry.name in limits and limits[entry.name].code == entry.code and entry.code != "pn"
    ]
    if known:
        store = MemoryStore(ManualClock(now_us))
        store.restore(entry for _, entry, _ in known)
        groups = [Group((Hit(limit, entry.key, entry.name),), 0, "peek") for _, entry, limit in known]
        for (index, _, _), decision in zip(known, store.decide(groups), strict=True):
            rows[index] = rows[index]._replace(
                is_denied=not decision.allowed,
                remaining=decision.remaining,
                capacity=decision.limit,
                retry_after_s=decision.retry_after,
            )
    return rows
