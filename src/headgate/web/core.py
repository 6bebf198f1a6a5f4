"""Deciding about web requests by rules: all that the fronts of the frameworks share.

A front makes a `WebLimiter` and, for each request, runs two plans: `admit` before the app, `finish` after it. Between
them it adds `fields` to the response, or answers `refuse`. The plans ask for `Call`s alone: `run` and `run_async` make
them. This module must not know a framework.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from headgate.decision import Decision
from headgate.drive import Plan
from headgate.errors import AcquireTimeout, InvalidUse
from headgate.limiter.decorator import is_async
from headgate.limiter.limiters import AsyncLimiter
from headgate.limiter.making import AnyLimiter
from headgate.limiter.policy import joined
from headgate.limits import Limit
from headgate.plans.commands import Call
from headgate.rules import Rule, Rules
from headgate.stores.contract import Store
from headgate.stores.registry import share_store
from headgate.web.admission import Admission, Answer, Part, Verdict
from headgate.web.messages import WebRequest, WebResponse

L = TypeVar("L", bound=AnyLimiter)
R = TypeVar("R")

_OVERRIDES: Final = ("x-http-method-override", "x-http-method", "x-method-override")
"""Headers by which a request asks to be taken for one of another method."""


def run(plan: Plan[Call, R]) -> R:
    """Run a plan, blocking."""
    try:
        call = next(plan)
        while True:
            try:
                reply = call.function(*call.arguments)
            except BaseException as error:
                call = plan.throw(error)
            else:
                call = plan.send(reply)
    except StopIteration as done:
        result: R = done.value
        return result


async def run_async(plan: Plan[Call, R]) -> R:
    """Run a plan, and await what is to be awaited."""
    try:
        call = next(plan)
        while True:
            try:
                reply = call.function(*call.arguments)
                if isinstance(reply, Awaitable):
                    reply = await reply
            except BaseException as error:
                call = plan.throw(error)
            else:
                call = plan.send(reply)
    except StopIteration as done:
        result: R = done.value
        return result


class WebLimiter(Generic[L]):
    """Decides about requests by rules. Safe to share between threads, tasks and event loops.

    :param kind: the limiters that it makes: `Limiter` for frameworks that block, `AsyncLimiter` for those that do not.
    :param rules: the rules of the app.
    :param store: where the state lives, as for limiters.
    :param name: the app's name in the store: apps of one name, and rules of one name, share their limits.
    :raises InvalidUse: if something does not fit, such as an async function for a framework that blocks.
    """

    def __init__(self, kind: type[L], rules: Rules, *, store: str | Store = "memory://", name: str = "web") -> None:
        self.kind: Final[Any] = kind
        self.name: Final = name
        self.store: Final = (
            store if isinstance(store, Store) else share_store(store, asks_in_loops=kind is AsyncLimiter).store
        )
        self._parts: dict[tuple[tuple[Rule, ...], str], tuple[list[Part], list[Part]]] = {}
        self.rules = rules
        for rule in rules.all:
            self.check(rule)

    def check(self, rule: Rule) -> None:
        """See whether a rule fits the framework.

        :raises InvalidUse: if one of its functions is async, and the framework is not.
        """
        if self.kind is AsyncLimiter:
            return
        for what in ("key", "cost", "tier", "exempt_when", "charge_when", "actual_cost"):
            given = getattr(rule, what)
            for function in given.values() if isinstance(given, Mapping) else (given,):
                if callable(function) and is_async(function):
                    raise InvalidUse(f"{what} of rule {rule.name!r} is async, and this framework blocks: use def")

    def admit(
        self, request: WebRequest, own: Sequence[Rule] = (), *, has_own: bool = False, known: Admission | None = None
    ) -> Plan[Call, Admission]:
        """Decide about a request, and take what it costs.

        :param own: the rules of its route. Given alone, with `known`, where the app's were asked before.
        :param has_own: has the route rules of its own, which are asked later?
        :param known: what was decided about the request before.
        """
        admission = known or Admission(request)
        rules = self.rules
        if known is None:
            if request.method == "OPTIONS" and _is_preflight(request):
                return admission
            if rules.is_exempt(request.path):
                return admission
            methods = [request.method, *(value.upper() for name in _OVERRIDES for value in request.values(name))]
            own = (*rules.of(request.path, methods, has_own=has_own or bool(own)), *own)
        if not own:
            return admission
        counted = tuple(own)
        for rule in own:
            if rule.exempt_when is not None and (yield Call(rule.exempt_when, (request.native,))):
                counted = tuple(one for one in counted if one is not rule)
        parts, shadows = self._parts_of(counted, request.route or "")
        caller: str | None = None
        for part in (*parts, *shadows):
            keys: list[str] = []
            costs: list[int] = []
            limits: dict[str, Any] = {}
            for rule, label, name in zip(part.rules, part.labels, part.names, strict=True):
                if rule.key is None:
                    if caller is None:
                        caller = yield from rules.identity.of(request)
                    keys.append(caller)
                else:
                    keys.append((yield from _key(rule, request)))
                cost = rule.cost
                cost = cost.get(name, 1) if isinstance(cost, Mapping) else cost
                costs.append((yield Call(cost, (request.native,))) if callable(cost) else cost)
                if rule.tiers and rule.tier is not None:
                    tier = yield Call(rule.tier, (request.native,))
                    limit = rule.tiers.get(tier) if tier is not None else None
                    if limit is not None:
                        limits[label] = limit.get(name) if isinstance(limit, Mapping) else limit
            decision = yield from _decide(part, keys, costs, limits)
            if part.rules[0].is_shadow:
                continue
            admission.verdicts.append(Verdict(part, decision, keys[0]))
            if not decision.allowed:
                admission.refusal = "outage" if decision.source == "fail_closed" else "limit"
                for verdict in admission.verdicts[:-1]:
                    yield Call(verdict.part.limiter.refund, (verdict.decision,))
                break
        return admission

    def finish(self, admission: Admission, response: WebResponse | None) -> Plan[Call, None]:
        """Settle what a request took, now that it is answered: what its rules say does not count goes back.

        :param response: what was answered; None if nothing was, as the client has gone: all that was taken counts.
        """
        if not admission.is_admitted:
            return
        for part, decision, _ in admission.verdicts:
            if response is None or not any(rule.charge_when or rule.actual_cost for rule in part.rules):
                continue
            costs = []
            for rule, name, hit in zip(part.rules, part.names, decision.group.hits, strict=True):
                cost = hit.cost
                if rule.charge_when is not None and not (yield Call(rule.charge_when, (response,))):
                    cost = 0
                elif rule.actual_cost is not None:
                    actual = rule.actual_cost
                    function = actual.get(name) if isinstance(actual, Mapping) else actual
                    if function is not None:
                        cost = yield Call(function, (response,))
                costs.append(cost)
            if costs != [hit.cost for hit in decision.group.hits]:
                by_label = costs[0] if part.is_single else dict(zip(part.labels, costs, strict=True))
                yield Call(part.limiter.settle, (decision, by_label))

    def fields(self, admission: Admission) -> list[tuple[str, str]]:
        """The headers to add to the response of a request."""
        binding = admission.binding
        return [] if binding is None else list(binding.decision.headers("draft-11").items())

    def refuse(self, admission: Admission) -> Answer:
        """The response to a request that was not admitted."""
        status = {"limit": 429, "outage": 503, "network": 403}[admission.refusal or "limit"]
        headers = [*self.fields(admission), ("Cache-Control", "no-store"), ("Content-Type", "text/plain")]
        return Answer(status, headers, b"Too many requests\n")

    def _parts_of(self, rules: tuple[Rule, ...], route: str) -> tuple[list[Part], list[Part]]:
        """The parts to ask for these rules: limits that can be asked together; and the shadows, each alone."""
        key = (rules, route if any(rule.is_per_route for rule in rules) else "")
        found = self._parts.get(key)
        if found is None:
            together: dict[tuple[Any, ...], list[Rule]] = {}
            shadows = []
            for rule in dict.fromkeys(rules):
                if rule.is_shadow:
                    shadows.append(self._part([rule], route))
                else:
                    together.setdefault((rule.wait, rule.on_outage), []).append(rule)
            parts = [self._part(alike, route) for _, alike in sorted(together.items())]
            found = self._parts[key] = parts, shadows
        return found

    def _part(self, rules: Sequence[Rule], route: str) -> Part:
        limits: dict[str, Limit] = {}
        of: list[tuple[Rule, str]] = []
        for rule in rules:
            name = f"{rule.name}@{route or '?'}" if rule.is_per_route else rule.name
            for part, limit in rule.named_limits().items():
                limits[f"{name}:{part}" if part else name] = limit
                of.append((rule, part))
        is_single = len(limits) == 1
        ((label, limit), *_) = limits.items()
        options: dict[str, Any] = {"store": self.store, "on_outage": rules[0].on_outage}
        limiter = (
            self.kind(limit, name=joined(self.name, label), **options)
            if is_single
            else self.kind(limits, name=self.name, **options)
        )
        return Part(
            limiter,
            tuple(limits),
            tuple(rule for rule, _ in of),
            tuple(name for _, name in of),
            is_single,
            rules[0].wait,
        )


def _decide(part: Part, keys: list[str], costs: list[int], limits: Mapping[str, Any]) -> Plan[Call, Decision]:
    limiter = part.limiter
    options: dict[str, Any]
    if part.is_single:
        key: Any = keys[0]
        cost: Any = costs[0]
        options = {"limit": limits[part.labels[0]]} if limits else {}
    else:
        key, cost = dict(zip(part.labels, keys, strict=True)), dict(zip(part.labels, costs, strict=True))
        options = {"limit": limits} if limits else {}
    if not part.wait:
        decision: Decision = (
            yield Call(limiter.try_acquire, (key, cost))
            if not options
            else Call(lambda: limiter.try_acquire(key, cost, **options))
        )
        return decision
    try:
        decision = yield Call(lambda: limiter.acquire(key, cost, timeout=part.wait, **options))
    except AcquireTimeout as timeout:
        decision = timeout.decision
    return decision


def _key(rule: Rule, request: WebRequest) -> Plan[Call, str]:
    raise NotImplementedError


def _is_preflight(request: WebRequest) -> bool:
    return bool(request.values("origin") and request.values("access-control-request-method"))
