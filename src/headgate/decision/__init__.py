"""The answer to a request: allowed or denied, what binds, what remains, when to come back.

A decision keeps the integers that the store answered and computes what is asked of it when it is asked, exactly. It
must not know how it was obtained. Those that answer a single hit are made in great numbers, so each is made in the
quickest way that was measured: it keeps what it was told, and makes a group and facts of that on demand.

| class | answers | made by | it keeps |
| --- | --- | --- | --- |
| `Decision` | a group | any store, several servers (`instants_us`), outages (`source`) | the group, its facts |
| `ToldDecision` | a single hit | memory, Redis | a bucket's arrival time, a window's packed state, or the facts |
| `SingleHitDecision` | a single hit | Redis, where many that are alike are sent together | a bucket's debt |
| `RememberedDenial` | a single hit | the memory of denials | the denial |
| `LeasedDecision` | a single hit | leases | a bucket's arrival time, or the facts of the draw and what is left |
"""

from __future__ import annotations

from headgate.decision.decision import Answer, Decision, Source
from headgate.decision.single import (
    LeasedDecision,
    Remembered,
    RememberedDenial,
    Single,
    SingleHitDecision,
    ToldDecision,
    undecided,
)

__all__ = [
    "Answer",
    "Decision",
    "LeasedDecision",
    "Remembered",
    "RememberedDenial",
    "Single",
    "SingleHitDecision",
    "Source",
    "ToldDecision",
    "undecided",
]
