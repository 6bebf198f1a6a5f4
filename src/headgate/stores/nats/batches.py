"""Batches of one event loop that have entries in common go one after the other, for each would refuse the other's
writes.

This module must not know how a batch is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from headgate.batching import Arrive
from headgate.decision import Answer
from headgate.hits import Group
from headgate.plans.nats import Place, places_of
from headgate.stores.nats.carrying import Carrying
from headgate.stores.nats.link import Link


class Asked(Protocol):
    """Judges batches: a session."""

    def start(self, batch: Batch) -> None:
        """It is a batch's turn."""

    def ended(self, batch: Batch) -> None:
        """A batch is answered, or given up."""

    def give_up(self, link: Link) -> None:
        """There was no answer in time."""


class Batch:
    """Groups that are judged together, and the batches that have entries in common with them and came before."""

    __slots__ = (
        "_after",
        "_arrive",
        "_asked",
        "_waits",
        "carrying",
        "groups",
        "is_over",
        "link",
        "places",
        "until_s",
    )

    def __init__(self, asked: Asked, groups: Sequence[Group], arrive: Arrive, until_s: float) -> None:
        self._asked = asked
        self._arrive = arrive
        self.groups = groups
        self.until_s = until_s
        """Nothing begins anew after that, by the event loop's clock."""
        self.places: dict[Place, None] = {}
        for group in groups:
            self.places.update(dict.fromkeys(places_of(group)))
        self._waits = 0
        """For how many other batches it waits."""
        self._after: list[Batch] = []
        """Those that wait for this one."""
        self.link: Link | None = None
        self.carrying: Carrying[list[Answer]] | None = None
        self.is_over = False

    def wait_for(self, turns: dict[Place, Batch]) -> None:
        """Begin when those have ended that came before, for each entry."""
        before = {batch for place in self.places if (batch := turns.get(place)) is not None}
        turns.update(dict.fromkeys(self.places, self))
        self._waits = len(before)
        for batch in before:
            batch._after.append(self)
        if not before:
            self._asked.start(self)

    def give_up(self) -> None:
        """There was no answer in time. If the server is silent, the next batch is asked on another connection."""
        carrying, link = self.carrying, self.link
        self._release()
        if carrying is not None and link is not None and carrying.give_up():
            self._asked.give_up(link)

    def end(self, answers: list[Answer] | Exception) -> None:
        """Hand out the answers, unless it was given up."""
        if not self.is_over:
            self._release()
            self._arrive(answers)

    def _release(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.carrying = None  # no cycle is left for the garbage collector
        self._asked.ended(self)
        for batch in self._after:
            batch._waits -= 1
            if not batch._waits and not batch.is_over:
                asyncio.get_running_loop().call_soon(batch._start)

    def _start(self) -> None:
        if not self.is_over:
            self._asked.start(self)
