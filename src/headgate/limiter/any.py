"""How a limiter is made, and all that both limiters do without asking the store.

This module must not know how a store is asked: blocking or awaited, that is the limiters' own.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, TypeVar

from headgate.decision import Decision, Single, leave
from headgate.errors import InvalidUse
from headgate.hits import Group
from headgate.lease import Lease, LeaseReport, Leases
from headgate.limiter.decorator import is_async
from headgate.limiter.outage import OnOutage, OutageRule
from headgate.limiter.policy import Costs, Keys, Limits, Policy
from headgate.limits import Limit
from headgate.stores import SingleHitStore, Store
from headgate.stores.memory import MemoryStore
from headgate.stores.registry import share_store
from headgate.stores.sharing import Share

OnDecision = Callable[[Decision], None]

F = TypeVar("F", bound="AnyLimiter")

logger = logging.getLogger("headgate")


class AnyLimiter:
    """What both limiters share: the making, and all that asks nothing of the store."""

    _asks_in_loops: ClassVar[bool]
    """Are its calls awaited?"""

    def __init__(
        self,
        limit: Limits,
        *,
        store: str | Store = "memory://",
        name: str | None = None,
        on_outage: OnOutage = "open",
        on_decision: OnDecision | None = None,
        timeout: float | None = None,
        prefix: str | None = None,
        remember_denials: float | None = None,
        lease: bool | Lease = False,
    ) -> None:
        """Make a limiter. Nothing is connected yet: the store may be down.

        :param limit: a limit, as text or object; a list of limits that all hold for one key; or a dict of named
            limits (tiers), each with a key of its own.
        :param store: a URL (`memory://`, `redis://...`, `rediss://...`, `valkey://...`, `unix://...`), or a
            `Store`, which the limiter then does not close. Limiters of one URL, and the same `timeout`, `prefix` and
            `remember_denials`, share their connections.
        :param name: the limiter's name, part of where its state lives. Limiters of one name share their counters,
            and a named limiter's numbers can change without losing state. By default, the limit's text.
        :param on_outage: what to answer when the store does not: `open` admits, `closed` denies, `raise` raises
            `StoreOutage`.
        :param on_decision: called with each decision about a request. What it raises is logged, and changes
            nothing.
        :param timeout: the deadline of each call, in seconds, for a store that is given as a URL; 0.25 by default.
        :param prefix: the first part of every key, for a store that is given as a URL; `headgate` by default.
        :param remember_denials: for how many seconds at most a denial is repeated without asking the store again, for a
            store that is given as a URL; 1 by default, 0 for not at all.
        :param lease: draw tokens of keys in demand ahead of need, and spend them without asking the store: True, or a
            `Lease` that says how many and for how long. For one token bucket, fixed or sliding window. In memory,
            where nothing is far, it has no effect.
        :raises LimitError: if a limit is not understood or not usable.
        :raises StoreURLError: if the URL is not understood.
        :raises MissingExtra: if the store's client library is not installed.
        """
        if on_decision is not None and not callable(on_decision):
            raise InvalidUse(f"on_decision is a callable that takes a Decision, not {type(on_decision).__name__}")
        if on_decision is not None and is_async(on_decision):
            raise InvalidUse("on_decision is called and not awaited: give a plain function, which may start a task")
        self._options = {
            "store": store,
            "name": name,
            "on_outage": on_outage,
            "on_decision": on_decision,
            "timeout": timeout,
            "prefix": prefix,
            "remember_denials": remember_denials,
            "lease": lease,
        }
        """What makes another limiter like this one."""
        self._policy = Policy(limit, name)
        self._name = name or next(iter(self._policy.limits))
        self._outage = OutageRule(on_outage, self._name)
        self._on_decision = on_decision
        self._share: Share | None = None
        """What we have of a store that was made from a URL."""
        if isinstance(store, str):
            given = {"timeout": timeout, "prefix": prefix, "remember_denials": remember_denials}
            options = {key: value for key, value in given.items() if value is not None}
            self._share = share_store(store, asks_in_loops=self._asks_in_loops, **options)
            self._store: Store = self._share.store
        elif timeout is not None or prefix is not None or remember_denials is not None:
            raise InvalidUse(
                "timeout, prefix and remember_denials go with a store URL: set them on the store object itself"
            )
        elif not isinstance(store, Store):
            raise InvalidUse(
                f"store must be a URL or a Store, not {type(store).__name__}: wrap a client in RedisStore(client=...)"
            )
        else:
            self._store = store
        if isinstance(self._store, MemoryStore):  # a limiter like this one counts in the same memory
            self._options |= {"store": self._store, "timeout": None, "prefix": None, "remember_denials": None}
        self._leases = self._make_leases(lease, name)
        self._find_quick_way()

    def __reduce__(self) -> tuple[Any, ...]:
        # A store in memory, or one with a client of somebody's, says why it cannot go with us.
        return _remake, (type(self), self._policy.as_given, self._options), self._of_subclasses() or None

    def __copy__(self) -> Self:
        made = _remake(type(self), self._policy.as_given, self._options)
        vars(made).update(self._of_subclasses())
        return made

    def _of_subclasses(self) -> dict[str, Any]:
        """What others have set here."""
        ours = set(vars(_remake(type(self), "1/s", {"store": MemoryStore()})))
        for kind in type(self).__mro__:
            if kind.__module__.startswith("headgate."):
                ours.update(vars(kind), inspect.get_annotations(kind))
        return {name: value for name, value in vars(self).items() if name not in ours}

    def _find_quick_way(self) -> None:
        self._single: Single | None = None
        if isinstance(self._store, SingleHitStore):
            quick = self._quick if self._leases is None else _without_trip
            self._single = self._policy.single(quick(self._store))
        if self._leases is not None:
            self._single = self._leases.single(self._single or leave)

    def _make_leases(self, lease: bool | Lease, name: str | None) -> Leases | None:
        if lease is False:
            return None
        if lease is not True and not isinstance(lease, Lease):
            raise InvalidUse(f"lease is True, False or a Lease, not {lease!r}")
        if not self._policy.is_single:
            raise InvalidUse("a lease goes with a limiter of one limit: give each limit that is to be leased its own")
        ((name, limit),) = self._policy.limits.items()
        leases = Leases(limit, name, Lease() if lease is True else lease)
        if isinstance(self._store, MemoryStore):
            return None
        self._policy = Policy(self._policy.as_given, name, is_leased=True)
        return leases

    def _leased(self, key: Keys, cost: Costs) -> Decision | None:
        """A token that was drawn before."""
        decision = None if self._single is None else self._single(key, cost)
        return self._answered(decision) if decision is not None and decision.source == "lease" else None

    @property
    def lease_report(self) -> LeaseReport:
        """What has become of the tokens that this limiter drew ahead of need."""
        return LeaseReport(0, 0, 0, 0) if self._leases is None else self._leases.report

    @staticmethod
    def _quick(store: SingleHitStore) -> Callable[[Limit, str], Single]:
        raise NotImplementedError

    def __repr__(self) -> str:
        limits = ", ".join(repr(str(limit)) for limit in self._policy.limits.values())
        return f"<{type(self).__name__} {limits} on {self._store!r}>"

    @property
    def limits(self) -> dict[str, Limit]:
        """The limits by their names."""
        return self._policy.limits

    def _answered(self, decision: Decision) -> Decision:
        if self._outage.is_out and decision.source == "store":
            self._outage.over()
        if self._on_decision is not None:
            self._tell(decision)
        return decision

    def _tell(self, decision: Decision) -> None:
        assert self._on_decision is not None
        try:
            self._on_decision(decision)
        except Exception:  # a callback of the user's; whatever it does, the decision stands
            logger.exception("headgate: on_decision of limiter %r failed; the decision stands", self._name)

    def _settled(self, decision: Decision, actual: Sequence[int], told: dict[int, Decision]) -> Decision:
        """The decision as it would have been for the actual costs, with what is known now."""
        hits = tuple(hit._replace(cost=cost) for hit, cost in zip(decision.group.hits, actual, strict=True))
        facts = tuple(
            told[index].facts[0] if index in told and told[index].facts else facts
            for index, facts in enumerate(decision.facts)
        )
        at_us = [
            told[index].now_us if index in told and told[index].facts else now_us
            for index, now_us in enumerate(decision.instants_us)
        ]
        settled = Decision(Group(hits), max(at_us), decision.allowed, facts, decision.source, at_us)
        settled.claim()
        return settled


def _remake(kind: type[F], limit: Limits, options: dict[str, Any]) -> F:
    """Make a limiter like another. A subclass may ask for other arguments than we do: its `__init__` is passed by."""
    made = kind.__new__(kind)
    AnyLimiter.__init__(made, limit, **options)
    return made


def _without_trip(store: SingleHitStore) -> Callable[[Limit, str], Single]:
    """The short way that never asks: with leases, questions go the long way, on which tokens are drawn."""
    return store.single_async
