"""How a limiter is made, and all that both limiters do without asking the store.

This module must not know how a store is asked: blocking or awaited, that is the limiters' own.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, Self, SupportsIndex, TypeVar

from headgate.breaker import Breaker
from headgate.decision import Decision, Single, undecided
from headgate.drive import Plan
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group
from headgate.lease import Lease, LeaseReport, Leases
from headgate.limiter.decorator import CostOfCall, KeyOfCall, decorator, is_async, key_rule
from headgate.limiter.local import LocalShare
from headgate.limiter.naming import Limits
from headgate.limiter.outage import OnOutage, OutageRule
from headgate.limiter.policy import CallLimit, Costs, Keys, PenaltyLike, Policy, wait_bound_us
from headgate.limiter.port import Port, connect_all, port_for, register
from headgate.limiter.reporting import OnDecision, Reporter
from headgate.limits import Limit
from headgate.plans import requests, waiting
from headgate.plans.commands import Ask, Command, IsTold
from headgate.stores.contract import SingleHitStore, Store
from headgate.stores.memory import MemoryStore
from headgate.stores.registry import anchored, share_store
from headgate.stores.sharing import Share

if TYPE_CHECKING:
    from headgate.limiter.limiters import AsyncLimiter, Limiter

L = TypeVar("L", bound="AnyLimiter")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a limiter, which it shares with its counterpart."""

    options: dict[str, Any]
    """Make another limiter like this one, beside its limits."""
    policy: Policy
    store: Store
    share: Share | None
    """Our share in a store that was made from a URL."""
    outage_rule: OutageRule
    reporter: Reporter
    leases: Leases | None


class AnyLimiter:
    """The common part of both limiters: how they are made, and all that asks nothing of the store."""

    _asks_in_loops: ClassVar[bool]
    """Are its calls awaited?"""
    _returner_kind: ClassVar[type[Any]]
    """Makes what gives back the tokens that were drawn, of leases and `_send`."""
    _returner: Any
    """Made where tokens are drawn."""
    _send: Any
    """Does what a plan asks for."""
    _parts: Parts
    _policy: Policy
    _store: Store
    _own_port: Port
    _port: Port
    """Where commands go."""
    _leases: Leases | None
    """None, too, where something is put in the store's place."""
    _single: Single
    """Decides on single hits without the detour of a plan, or leaves them alone."""
    _spend_leased: Single
    """Decides on those for which a token was drawn before, and asks nobody."""
    _local: LocalShare | None
    """Decides in an outage, if that is the rule, and knows what it has decided."""
    _is_heard: bool
    """Does anybody want to hear what is decided?"""

    def __init__(
        self,
        limit: Limits,
        *,
        store: str | Store = "memory://",
        name: str | None = None,
        penalty: PenaltyLike | None = None,
        on_outage: OnOutage = "open",
        instances: int | None = None,
        outage_limit: CallLimit = None,
        on_decision: OnDecision | None = None,
        timeout: float | None = None,
        prefix: str | None = None,
        remember_denials: float | None = None,
        breaker: Breaker | Literal[False] | None = None,
        lease: bool | Lease = False,
    ) -> None:
        """Make a limiter. Nothing is connected yet: the store may be down.

        :param limit: a limit, as text or object; a list of limits that all hold for one key; or a dict of named
            limits (tiers), each with a key of its own.
        :param store: a URL (`memory://`, `redis://...`, `rediss://...`, `valkey://...`, `unix://...`), or a
            `Store`, which the limiter then does not close. Limiters of one URL, and the same `timeout`, `prefix`,
            `remember_denials` and `breaker`, share their connections.
        :param name: the limiter's name, part of where its state lives. Limiters of one name share their counters,
            and a named limiter's numbers can change without losing state. By default, the limit's text.
        :param penalty: blocks a key that is denied too often, as text or object: `10 denials/minute -> 1h`. It watches
            the limits, all of one key together; of tiers, each has a penalty of its own, on its key, called
            `user:penalty`.
        :param on_outage: what to answer when the store does not: `open` admits, `closed` denies, `raise` raises
            `StoreOutage`, `local` decides in memory by a share of the limit.
        :param instances: for `local`: among how many processes the limit is shared; 1 by default, for one that has all.
        :param outage_limit: for `local`: a limit that is shared then in place of each of the limiter's, slots and
            penalties aside; for tiers, optionally by tier.
        :param on_decision: called with each decision about a request. What it raises is logged, and changes
            nothing. For all limiters at once, and more than decisions, see `headgate.observer`.
        :param timeout: the deadline of each call, in seconds, for a store that is given as the URL of a server; 0.25 by
            default.
        :param prefix: the first part of every key, for a server's URL; `headgate` by default.
        :param remember_denials: for how many seconds at most a denial is repeated without asking the store again, for a
            server's URL; 1 by default, 0 for not at all.
        :param breaker: after how many failures a server is left alone, and for how long, for a server's URL: a
            `Breaker`; False for never.
        :param lease: draw tokens of keys in demand ahead of need, and spend them without asking the store: True, or a
            `Lease` that says how many and for how long. For one token bucket, fixed or sliding window. In memory,
            where nothing is far, it has no effect.
        :raises LimitError: if a limit is not understood or not usable.
        :raises StoreURLError: if the URL is not understood.
        :raises InvalidUse: if an option does not fit, such as one that the store does not take.
        :raises MissingExtra: if the store's client library is not installed.
        """
        if on_decision is not None and not callable(on_decision):
            raise InvalidUse(f"on_decision is a callable that takes a Decision, not {type(on_decision).__name__}")
        if on_decision is not None and is_async(on_decision):
            raise InvalidUse("on_decision is called and not awaited: give a plain function, which may start a task")
        if lease is not False and lease is not True and not isinstance(lease, Lease):
            raise InvalidUse(f"lease is True, False or a Lease, not {lease!r}")
        for_url = {"timeout": timeout, "prefix": prefix, "remember_denials": remember_denials, "breaker": breaker}
        given = {option: value for option, value in for_url.items() if value is not None}
        policy = Policy(limit, name, penalty=penalty, on_outage=on_outage)
        outage_rule = OutageRule(on_outage, policy.name, connect_all, instances, policy.in_outage(outage_limit))
        if outage_rule.local is not None:
            outage_rule.local.check(list(policy.limits.values()))
        share = None
        if isinstance(store, str):
            store = anchored(store)  # a copy of this limiter may be in another folder
            share = share_store(store, asks_in_loops=self._asks_in_loops, **given)
            found = share.store
        elif given:
            raise InvalidUse(f"{', '.join(given)} goes with a store URL: give it to the store object itself")
        elif not isinstance(store, Store):
            raise InvalidUse(
                f"store must be a URL or a Store, not {type(store).__name__}: wrap a client in RedisStore(client=...)"
            )
        else:
            found = store
        if outage_rule.local is not None:
            outage_rule.local.count_with(found)
        options: dict[str, Any] = {"name": name, "on_outage": on_outage, "on_decision": on_decision, "lease": lease}
        options |= {"penalty": penalty, "instances": instances, "outage_limit": outage_limit}
        # A limiter like this one counts in the same memory.
        options |= {"store": found} if isinstance(found, MemoryStore) else {"store": store, **for_url}
        leases = None
        if lease is not False:
            if policy.has_penalty:
                raise InvalidUse("a lease does not go with a penalty: who spends what was drawn ahead asks nobody")
            is_far = not isinstance(found, MemoryStore)
            policy = Policy(limit, name, on_outage=on_outage, is_leased=is_far)
            made = _leases(policy, lease)
            leases = made if is_far else None
        reporter = Reporter(policy.name, outage_rule, on_decision)
        self._assemble(Parts(options, policy, found, share, outage_rule, reporter, leases))

    def _assemble(self, parts: Parts) -> None:
        self._parts, self._policy, self._store = parts, parts.policy, parts.store
        self._local = parts.outage_rule.local
        self._own_port = Port(parts.store)
        if parts.leases is not None:
            self._returner = self._returner_kind(parts.leases, self._send)
        register(self, AnyLimiter._connect, parts.outage_rule)
        self._connect()

    def _connect(self) -> None:
        """Look anew where commands go, and who wants to hear what is decided."""
        parts = self._parts
        while True:
            is_heard = parts.reporter.is_needed
            self._port = port = port_for(self._own_port)
            self._leases = parts.leases if port.is_real else None
            store = port.store if isinstance(port.store, SingleHitStore) else None
            single = self._find_fast_path(store)
            leased: Single = undecided
            if self._leases is not None:
                recall = None if store is None else self._policy.single(store.single_async)
                single = self._leases.single(single, recall or undecided)
                leased = self._leases.single(undecided, undecided)
            if is_heard:
                single = parts.reporter.reporting(single, self._policy.group)
                leased = parts.reporter.reporting(leased, self._policy.group)
            self._single, self._spend_leased = single, leased
            self._is_heard = is_heard
            if is_heard == parts.reporter.is_needed:
                return  # or else, that has changed meanwhile

    def _find_fast_path(self, store: SingleHitStore | None) -> Single:
        """The fast path of a store for single hits, if it has one, leases aside."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        # A store in memory, or one with a client of somebody's, says why it cannot go with us.
        return _remake, (type(self), self._policy.as_given, self._parts.options), self._of_subclasses() or None

    def __copy__(self) -> Self:
        made = _remake(type(self), self._policy.as_given, self._parts.options)
        vars(made).update(self._of_subclasses())
        return made

    def _of_subclasses(self) -> dict[str, Any]:
        """The attributes that others have set here."""
        ours: set[str] = set()
        for kind in type(self).__mro__:
            if kind.__module__.startswith("headgate."):
                ours.update(vars(kind), inspect.get_annotations(kind))
        return {name: value for name, value in vars(self).items() if name not in ours}

    def _counterpart(self, kind: type[L]) -> L:
        """The same limiter, blocking or asyncio: of the same policy, store, outage rule and leases."""
        made = kind.__new__(kind)
        made._assemble(self._parts)
        return made

    @property
    def lease_report(self) -> LeaseReport:
        """A count of what has become of the tokens that this limiter drew ahead of need."""
        leases = self._parts.leases
        return LeaseReport(0, 0, 0, 0) if leases is None else leases.report

    def __repr__(self) -> str:
        limits = ", ".join(repr(str(limit)) for limit in self._policy.limits.values())
        return f"<{type(self).__name__} {limits} on {self._store!r}>"

    @property
    def limits(self) -> dict[str, Limit]:
        """The limits by their names."""
        return self._policy.limits

    def shadow(self) -> Self:
        """The same limiter, for a rule that only looks: observers hear its denials as `shadow_denied`."""
        self._parts.reporter.is_shadow = True
        return self

    @property
    def store(self) -> Store:
        """The store that it asks."""
        return self._store

    @property
    def is_tiered(self) -> bool:
        """Has each of the limits a key of its own?"""
        return self._policy.is_tiered

    @property
    def tiers(self) -> tuple[str, ...]:
        """The names of limits that were given as a dict, for each of which a key is given; empty otherwise."""
        return self._policy.tiers

    def limit(
        self,
        plain_key: Keys | None = None,
        /,
        cost: CostOfCall = 1,
        *,
        key: KeyOfCall | None = None,
        timeout: float | None = 0.0,
        limit: CallLimit = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a function, blocking or async: it runs only when the limit admits the call.

        :param key: a key, or a callable that gets the call's arguments and returns it; for an async function, it may be
            async too. `cost` likewise. A key that is not computed may also be given first, without its name.
        :param timeout: how long a call may wait for its turn, in seconds; 0 (the default) means not at all, None as
            long as it takes.
        :raises InvalidUse: at once, if there is no key, or what is decorated is no function: a class, a property, a
            generator. Static and class methods may be decorated from outside or inside.
        :raises LimitExceeded: from the call, if it is denied and does not wait.
        :raises AcquireTimeout: from the call, if its turn would come too late.

        `Concurrency` slots are held while the function runs. A call with arguments that the function does not take
        raises its `TypeError`, and spends nothing. A blocking function asks blocking, in whatever thread it is called,
        an async one in its event loop, whichever limiter decorates it.
        """
        rule = key_rule(plain_key, key)
        return decorator(self._policy, *self._counterparts(), rule, cost, timeout, limit)

    def _counterparts(self) -> tuple[Limiter, AsyncLimiter]:
        """The same limiter, blocking and asyncio."""
        raise NotImplementedError

    def _asking(self, group: Group, is_told: IsTold | None = None) -> Plan[Command, Decision]:
        """The plan that asks for a group, and draws tokens ahead of need where that is wished."""
        return requests.ask(group, is_told) if self._leases is None else self._leases.asking(group, is_told)

    def _waiting(
        self, key: Keys, cost: Costs, timeout_us: int, timeout: float | None, limit: CallLimit
    ) -> Plan[Command, Decision]:
        """The plan of a call of `acquire`."""
        group = self._policy.group(key, cost, limit)
        return waiting.acquire(group, timeout_us, timeout, random.random, self._asking, self._parts.reporter.waited)

    def _reserving(self, group: Group, reserve: Costs | None) -> Plan[Command, Decision]:
        """The plan that asks for a group, or peeks, and leaves a reserve. Nothing is drawn ahead of need."""
        return requests.ask(group if reserve is None else self._policy.leaving(group, reserve))

    def _once(
        self, key: Keys, request_id: str, cost: Costs, period: float, limit: CallLimit
    ) -> Plan[Command, Decision]:
        """The plan of a call of `try_acquire_once`."""
        group = self._policy.group(key, cost, limit)
        return requests.ask(self._policy.once(group, request_id, wait_bound_us(period, "a period")))

    def _up_to(self, key: Keys, most: SupportsIndex, limit: CallLimit) -> Plan[Command, Decision]:
        """The plan of a call of `try_acquire_up_to`."""
        started_ns = time.perf_counter_ns()

        def tell(decision: Decision) -> None:
            if self._is_heard:
                self._parts.reporter.report(decision, time.perf_counter_ns() - started_ns)

        return requests.up_to(self._policy.up_to(key, most, limit), tell)

    def _forgetting(self, key: Keys, limit: CallLimit) -> Plan[Command, None]:
        group = self._policy.group(key, 0, limit)
        if self._leases is not None:
            self._leases.discard(group)
        if self._local is not None:
            self._local.forget(group)
        return requests.forget(group)

    def _answer(self, outage: StoreOutage, key: Keys, cost: Costs, started_ns: int = 0) -> Decision:
        """The answer of the outage rule to a single hit. `started_ns` is 0 if nobody wants to hear of it."""
        decision = self._parts.outage_rule.decide(self._policy.group(key, cost), outage)
        if started_ns:
            self._parts.reporter.look(decision)
            self._parts.reporter.report(decision, time.perf_counter_ns() - started_ns)
        return decision

    def _answers(self, outage: StoreOutage, command: Ask) -> list[Decision]:
        """The answers to a command in an outage.

        :raises StoreOutage: if that is what the command or the outage rule says.
        """
        if command.in_outage == "raise":
            raise outage
        decide = self._parts.outage_rule.decide
        return [
            decide(group, outage, is_request=index < command.requests) for index, group in enumerate(command.groups)
        ]

    def _reported(self, answers: list[Decision], command: Ask, started_ns: int) -> list[Decision]:
        """The answers, when those who want to hear have been told. `started_ns` is 0 if nobody does."""
        if started_ns and command.requests:
            duration_ns = time.perf_counter_ns() - started_ns
            reporter, is_told = self._parts.reporter, command.is_told
            for decision in answers[: command.requests]:
                reporter.look(decision, is_of_store=self._port.is_real)
                if is_told is None or is_told(decision):
                    reporter.report(decision, duration_ns)
        return answers

    def _leased(self, key: Keys, cost: Costs, limit: CallLimit) -> Decision | None:
        """A token that was drawn before, for a call of `acquire`."""
        decision = self._spend_leased(key, cost) if limit is None else None
        if decision is not None:
            self._parts.reporter.waited(decision, 0)
        return decision


def _remake(kind: type[L], limit: Limits, options: dict[str, Any]) -> L:
    """Make a limiter like another. A subclass may ask for other arguments than we do: its `__init__` is passed by."""
    made = kind.__new__(kind)
    AnyLimiter.__init__(made, limit, **options)
    return made


def _leases(policy: Policy, lease: bool | Lease) -> Leases:
    if not policy.is_single:
        raise InvalidUse("a lease goes with a limiter of one limit: give each limit that is to be leased its own")
    ((name, limit),) = policy.limits.items()
    return Leases(limit, name, lease if isinstance(lease, Lease) else Lease())
