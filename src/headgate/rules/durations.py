"""Times as people write them: `0.5`, `500ms`, `1h`. This module must not know what they are for."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from typing import Final

from headgate.errors import InvalidUse
from headgate.limits.limit import UNITS_US

_TEXT: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")
UNITS_US_OF: Final = {"": UNITS_US["s"]} | {
    word: length
    for unit, length in UNITS_US.items()
    for word in {
        "week": ("w", "week", "weeks"),
        "d": ("d", "day", "days"),
        "h": ("h", "hour", "hours"),
        "m": ("m", "min", "minute", "minutes"),
        "s": ("s", "sec", "second", "seconds"),
    }.get(unit, (unit,))
}
"""The words for units of time, each with its length in microseconds; none is seconds."""


def seconds_of(duration: float | str | timedelta) -> float:
    """A duration in seconds, from a number of them, a `timedelta`, or a text such as `500ms`.

    :raises InvalidUse: if it is none of them, or negative.
    """
    seconds: float | None = None
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        match = _TEXT.fullmatch(duration.lower())
        if match is not None and match[2] in UNITS_US_OF:
            seconds = float(match[1]) * UNITS_US_OF[match[2]] / UNITS_US["s"]
    elif not isinstance(duration, bool):
        with suppress(TypeError, ValueError):
            seconds = float(duration)
    if seconds is None or not 0 <= seconds < float("inf"):
        raise InvalidUse(f"a duration is a number of seconds, or a text such as '500ms' or '1h', not {duration!r}")
    return seconds
