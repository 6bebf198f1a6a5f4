"""A decision as users see it: it keeps a group and its facts, and says of them what it is asked, exactly."""

from __future__ import annotations

import types
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal, cast

from headgate.algorithms import Facts
from headgate.decision import copies
from headgate.decision.standings import standings_of
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group, Hit
from headgate.limits import Penalty
from headgate.web.headers import HeaderStyle, Reset, Standing, binding_of, checked_reset, checked_styles, fields

Source = Literal["store", "memory_of_denial", "lease", "fail_open", "fail_closed", "local"]
"""Who decided. `fail_open`, `fail_closed` and `local`: the store did not answer, and the outage rule did."""

_SECOND_US: Final = 1_000_000


class Decision:
    """The answer to one request. `bool(decision)` is `decision.allowed`.

    A value: safe to share between threads and tasks.
    """

    __slots__ = ("__weakref__", "_facts", "_group", "_instants_us", "allowed", "now_us", "source")

    def __init__(
        self,
        group: Group,
        now_us: int,
        allowed: bool,
        facts: tuple[Facts, ...],
        source: Source = "store",
        instants_us: Sequence[int] = (),
    ) -> None:
        self._group = group
        self.now_us = now_us
        """When the store decided, by its clock, in microseconds since the epoch."""
        self.allowed = allowed
        """May the request go? With a waiting `acquire`: after `wait_us`."""
        self._facts = facts
        self.source = source
        """Who decided."""
        self._instants_us = instants_us

    @property
    def group(self) -> Group:
        """The group that was judged."""
        return self._group

    @property
    def facts(self) -> tuple[Facts, ...]:
        """The facts that the store told of each hit; empty if it did not answer."""
        return self._facts

    @property
    def was_known(self) -> bool:
        """Was the request charged before, and nothing now? Only `try_acquire_once` is answered so. Then `cost` is 0,
        and a refund or settlement does nothing.
        """
        once = self.group.once
        return once is not None and once.was_known

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        verdict = "allowed" if self.allowed else f"denied, retry_after={self.retry_after:.6f}"
        origin = "" if self.source == "store" else f", source={self.source}"
        return (
            f"<Decision {verdict}, key={self.key!r}, binding={self.binding!r}, "
            f"remaining={self.remaining}/{self.limit}{origin}>"
        )

    def _bind(self) -> int:
        """The index of the hit that denied (the one to wait for longest) or is nearest to denying."""
        hits = self.group.hits
        if len(hits) == 1 or not self.facts:
            return 0
        if self.allowed:
            of_tokens = [i for i, hit in enumerate(hits) if not isinstance(hit.limit, Penalty)] or range(len(hits))
            return min(of_tokens, key=lambda i: self._remaining(i) / hits[i].limit.capacity)
        return max(range(len(hits)), key=self._retry_after_us)

    def _hit(self) -> Hit:
        return self.group.hits[self._bind()]

    @property
    def instants_us(self) -> Sequence[int]:
        """When each hit was decided, by the clock of whoever decided it: several servers may have."""
        return self._instants_us or (self.now_us,) * len(self.group.hits)

    def _remaining(self, index: int) -> int:
        return self.group.hits[index].limit.remaining(self.facts[index], self.instants_us[index])

    def _retry_after_us(self, index: int) -> int:
        hit = self.group.hits[index]
        return hit.limit.retry_after_us(self.facts[index], self.instants_us[index], hit.needed)

    @property
    def binding(self) -> str:
        """The name of the limit that denied or, if allowed, is nearest to denying; of a penalty, while it blocks."""
        hit = self._hit()
        return hit.tier or hit.name

    @property
    def key(self) -> str:
        """The key that the binding limit was asked for."""
        return self._hit().key

    @property
    def cost(self) -> int:
        """The tokens that the binding limit was asked for."""
        return self._hit().cost

    @property
    def limit(self) -> int:
        """The capacity of the binding limit, in tokens."""
        return self._hit().limit.capacity

    @property
    def remaining(self) -> int:
        """The tokens that the binding limit would still admit at once, after this decision."""
        if not self.facts:
            return 0
        return self._remaining(self._bind())

    @property
    def retry_after_us(self) -> int:
        """Microseconds until the same request would be admitted, if nobody else spends; 0 if it was allowed.

        Exact for everything but slots: at this instant by the store's clock it is admitted, one microsecond earlier
        it is not. An outage has no such instant: a second is a guess then.
        """
        if self.allowed:
            return 0
        if not self.facts:
            return _SECOND_US
        return self._retry_after_us(self._bind())

    @property
    def retry_after(self) -> float:
        """`retry_after_us` in seconds."""
        return self.retry_after_us / _SECOND_US

    @property
    def reset_after_us(self) -> int:
        """Microseconds until the binding limit has its whole capacity again, if nobody spends."""
        if not self.facts:
            return 0
        index = self._bind()
        return self.group.hits[index].limit.reset_after_us(self.facts[index], self.instants_us[index])

    @property
    def reset_after(self) -> float:
        """`reset_after_us` in seconds."""
        return self.reset_after_us / _SECOND_US

    @property
    def wait_us(self) -> int:
        """Microseconds until the turn of a request that was admitted into the future; 0 if it may go now."""
        if not self.allowed or self.group.max_wait_us == 0:
            return 0
        waits = [hit.limit.wait_us(facts) for hit, facts in zip(self.group.hits, self.facts, strict=False)]
        return max(waits, default=0)

    def claim(self) -> None:
        """Say that the tokens of this decision are being refunded or settled, which may happen once. For limiters.

        :raises InvalidUse: if it has happened before.
        """
        if not copies.claim(self):
            raise InvalidUse("this decision has been refunded or settled before: its tokens can come back only once")

    def mark(self) -> str | None:
        """The mark that tells this decision and its copies from all others; None if it has no copies. For limiters."""
        return copies.mark(self, self.now_us, self._said)

    def _said(self) -> object:
        hits = [(str(hit.limit), *hit[1:5]) for hit in self.group.hits]
        return self.now_us, self.facts, hits

    def __getstate__(self) -> object:
        """The state for copies and pickles: what is kept, and not what a kind of decision makes of it; what the copies
        have in common; and whether the tokens have come back.
        """
        _, found = cast("tuple[None, dict[str, Any]]", super().__getstate__())
        kept = types.MemberDescriptorType
        slots = {name: value for name, value in found.items() if isinstance(getattr(type(self), name), kept)}
        mark = self.mark() or copies.mark_anew(self)  # before it is asked who has claimed it
        return slots, mark, copies.is_claimed(self)

    def __setstate__(self, state: tuple[dict[str, Any], str, bool]) -> None:
        slots, mark, claimed = state
        for name, value in slots.items():
            setattr(self, name, value)
        copies.restore(self, mark, claimed=claimed)

    def standings(self, names: Sequence[str] | None = None) -> list[Standing]:
        """How the keys stand with each limit, as headers tell it. For those who write headers.

        :param names: the names of the limits for clients, in the order of the hits, where those are others; of the
            first of them, at least.
        """
        hits = self.group.hits
        names = [*(names or ()), *[hit.tier or hit.name for hit in hits[len(names or ()) :]]]
        return standings_of(hits, names, self.facts, self.instants_us, is_allowed=self.allowed)

    def left(self) -> tuple[int, int] | None:
        """The tokens that one limit, the binding one, would still admit at once, and the microseconds until it has its
        whole capacity again. None for a denial, and where the store did not answer. For those who write headers.
        """
        return (self.remaining, self.reset_after_us) if self.allowed and self.facts else None

    def headers(
        self, style: HeaderStyle | Collection[HeaderStyle] = "legacy", *, reset: Reset = "delta"
    ) -> dict[str, str]:
        """HTTP response fields, with `Retry-After` on a denial: `draft-11` tells of all limits, the others of the
        binding one. Where the store did not answer, they say no more than what the limits are.

        :param style: `legacy`, `draft-6`, `draft-7` or `draft-11`, or several that go together.
        :param reset: how `X-RateLimit-Reset` says a time: `delta`, in seconds from now, or `epoch`, since 1970.
        :raises InvalidUse: if a style is unknown, or two of them write the same field.
        """
        standings = self.standings()
        return dict(fields(checked_styles(style), standings, binding_of(standings), reset=checked_reset(reset)))


Answer = Decision | StoreOutage
"""The answer of a store to one group of a batch: each fails alone."""
