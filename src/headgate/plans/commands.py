"""The commands that the plans of a limiter yield: put groups to the store, or sleep."""

from __future__ import annotations

from typing import Literal, NamedTuple

from headgate.hits import Group

InOutage = Literal["decide", "tell", "raise"]
"""The way to go on where the store does not answer.

- `decide`: the outage rule decides on the groups, which are requests.
- `tell`: the outage is told, once, and the outage rule answers the groups, which are no requests.
- `raise`: the plan gets the `StoreOutage`, and sees to it.
"""


class Ask(NamedTuple):
    """Put groups to the store. The reply is a list of decisions."""

    groups: list[Group]
    in_outage: InOutage


class Pause(NamedTuple):
    """Sleep. The reply is how long it really took, in microseconds."""

    duration_us: int
