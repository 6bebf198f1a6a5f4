"""The plans for a key-value bucket of NATS, which holds states and can do one thing: write an entry if nobody has
written it since it was read.

`commands.py` is what plans ask for; `judging.py` judges a batch of groups by what is known of the entries, and writes
what comes of it, in the parts that `parts.py` makes of it; `restoring.py` keeps entries of another store; `places.py`
says where an entry lies; `kept.py` is what is known of one, and how it is written.
"""

from __future__ import annotations

from headgate.plans.merging import Place
from headgate.plans.nats.commands import Command, Commit, Judge, Moved, Now, Pause, Put, Read, Terms
from headgate.plans.nats.judging import decide
from headgate.plans.nats.kept import Kept, Known
from headgate.plans.nats.parts import places_of
from headgate.plans.nats.places import Places
from headgate.plans.nats.restoring import Restored, restore

__all__ = [
    "Command",
    "Commit",
    "Judge",
    "Kept",
    "Known",
    "Moved",
    "Now",
    "Pause",
    "Place",
    "Places",
    "Put",
    "Read",
    "Restored",
    "Terms",
    "decide",
    "places_of",
    "restore",
]
