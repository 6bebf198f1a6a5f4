"""Deciding about web requests by rules: all that the fronts of the frameworks share.

A front makes a `WebLimiter` and, for each request, runs two plans: `admit` before the app, `finish` after it. Between
them it adds `fields` to the response, or answers `refuse`. The plans ask for `Call`s alone: `run` and `run_async` make
them. This module must not know a framework.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

from headgate import observer
from headgate.decision import Decision
from headgate.drive import Plan, drive
from headgate.errors import AcquireTimeout, CostExceedsCapacity, InvalidUse
from headgate.identity import ApiKey, Identity
from headgate.limiter.decorator import is_async
from headgate.limiter.limiters import AsyncLimiter
from headgate.limiter.making import AnyLimiter
from headgate.plans.commands import Call
from headgate.rules import Rule, Rules
from headgate.rules.rules import PENALTY
from headgate.stores.contract import Store
from headgate.stores.registry import share_store
from headgate.web.admission import Admission, Answer, Refusal, Verdict
from headgate.web.charging import Charges, Finals, may_be_charged, settled
from headgate.web.messages import WebRequest, WebResponse
from headgate.web.parts import KnownParts, Maker, Part
from headgate.web.placing import placed
from headgate.web.plain import PlainQuestions
from headgate.web.questions import Question, is_preflight, key_at_once, key_of, methods_of, question_of
from headgate.web.responses import Responses
from headgate.web.settling import actual_costs

L = TypeVar("L", bound=AnyLimiter)
R = TypeVar("R")

_FUNCTIONS: Final = ("key", "cost", "tier", "limit_for", "exempt_when", "charge_when", "actual_cost", "reserve")
"""The parts of a rule that may be functions of the user's."""


def run(plan: Plan[Call, R]) -> R:
    """Run a plan, blocking."""
    return drive(plan, _make)


async def run_async(plan: Plan[Call, R]) -> R:
    """Run a plan, and await what is to be awaited.

    As `drive_async` does, but for a coroutine for each call, which would take as long as the call.
    """
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


def _make(call: Call) -> Any:
    return call.function(*call.arguments)


class WebLimiter(Generic[L]):
    """Decides about requests by rules. Safe to share between threads, tasks and event loops.

    :param kind: the limiters that it makes: `Limiter` for frameworks that block, `AsyncLimiter` for those that do not.
    :param rules: the rules of the app.
    :param store: where the state lives, as for limiters.
    :param name: the app's name in the store: apps of one name, and rules of one name, share their limits.
    :param responses: how clients are told.
    :param options: of the store, where it is a URL.
    :raises InvalidUse: if something does not fit, such as an async function for a framework that blocks.
    """

    def __init__(
        self,
        kind: type[L],
        rules: Rules,
        *,
        store: str | Store = "memory://",
        name: str = "web",
        responses: Responses | None = None,
        **options: Any,
    ) -> None:
        self.kind: Final[Any] = kind
        self.name: Final = name
        self.responses: Final = responses or Responses()
        self._share = None
        given = {option: value for option, value in options.items() if value is not None}
        if given and isinstance(store, Store):
            raise InvalidUse(f"{', '.join(given)} goes with a store URL: give it to the store object itself")
        if not isinstance(store, Store):
            self._share = share_store(store, asks_in_loops=kind is AsyncLimiter, **given)
            store = self._share.store
        self.store: Final[Store] = store
        self._maker = Maker(kind, store, name)
        self._is_enabled = True
        self.rules = rules

    @property
    def rules(self) -> Rules:
        """The rules of the app. New ones take effect with the next request; what was counted stays.

        :raises InvalidUse: when they are set, if one of them does not fit. The old ones stay.
        """
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        for rule in rules.all:
            self.check(rule)
        self._check_identity(rules.identity)
        penalty = None if rules.penalty is None else Rule(rules.penalty, name=PENALTY)
        self._parts = KnownParts(replace(self._maker, penalty=penalty))
        self._rules = rules
        self.is_enabled = self._is_enabled

    @property
    def is_enabled(self) -> bool:
        """Is anything asked? If not, each request goes, and meets no rule. It may be set at any time."""
        return self._is_enabled

    @is_enabled.setter
    def is_enabled(self, is_enabled: bool) -> None:
        self._is_enabled = is_enabled
        self.plain = PlainQuestions(self._rules, self._parts, is_enabled=is_enabled)
        """The questions of most requests, the short way; none, where nothing is asked."""

    def check(self, rule: Rule) -> None:
        """See whether a rule fits the framework.

        :raises InvalidUse: if one of its functions is async, or its limiter is, and the framework is not; or the other
            way round.
        """
        if rule.limiter is not None and not isinstance(rule.limiter, self.kind):
            given, wanted = type(rule.limiter).__name__, self.kind.__name__
            why = "block its event loop" if self.kind is AsyncLimiter else "have to be awaited"
            raise InvalidUse(f"rule {rule.title!r}: this framework takes {wanted}, and {given} would {why}")
        if isinstance(rule.key, (ApiKey, Identity)):
            self._check_identity(rule.key if isinstance(rule.key, Identity) else Identity(rule.key))
        if self.kind is AsyncLimiter:
            return
        for what in _FUNCTIONS:
            given_here = getattr(rule, what)
            for function in given_here.values() if isinstance(given_here, Mapping) else (given_here,):
                if callable(function) and is_async(function):
                    raise InvalidUse(f"{what} of rule {rule.title!r} is async, and this framework blocks: give a def")

    def _check_identity(self, identity: Identity) -> None:
        if self.kind is not AsyncLimiter and any(is_async(function) for function in identity.functions):
            raise InvalidUse("a function of the identity is async, and this framework blocks: give a def")

    def admit(
        self,
        request: WebRequest,
        own: Sequence[Rule] = (),
        *,
        has_own: bool = False,
        is_exempt: bool = False,
        known: Admission | None = None,
    ) -> Plan[Call, Admission]:
        """Decide about a request, and take what it costs. Whatever interrupts that, what was taken goes back.

        :param own: the rules of its route.
        :param has_own: has the route rules of its own that are asked later, and not here?
        :param is_exempt: is its route to meet no rule?
        :param known: what was decided about the request before: the app's rules were asked then.
        :raises InvalidCost: if a function of the user's says a cost that is none. Whatever such a function raises is
            raised.
        """
        admission = known if known is not None else Admission(request)
        if not self._is_enabled:
            admission.is_exempt = True
            return admission
        rules = self._rules
        own = placed(tuple(own)) if len(own) > 1 else own
        if any(rule.methods for rule in own):
            asked_as = methods_of(request)
            own = [rule for rule in own if rule.meets(asked_as)]
        met: Sequence[Rule] = own
        if known is None:
            admission.is_exempt = (
                is_exempt
                or (request.method == "OPTIONS" and is_preflight(request))
                or (bool(rules.exempt) and rules.is_exempt(request.path))
            )
            if rules.allow or rules.deny:
                self._look_at_network(admission, rules)
            if not admission.is_exempt and admission.refusal is None:
                methods = () if rules.is_same_for_all else methods_of(request)
                of_app = rules.of(request.path, methods, has_own=has_own or bool(own))
                met = (*of_app, *own) if own else of_app
        if admission.is_exempt or admission.refusal is not None or not met:
            return admission
        for rule in met:
            if rule.exempt_when is not None and (yield Call(rule.exempt_when, (request.native,))):
                met = tuple([one for one in met if one is not rule])
        parts = self._parts.of(tuple(met), request.route, request.method)
        earlier = admission.verdicts
        if len(parts) == 1 and parts[0].is_plain and not may_be_charged(admission, parts[0]):
            part = parts[0]  # nearly always, of one rule: no more than this is to be done
            rule = part.members[0].rule
            key = key_at_once(rule, request, rules.identity) or (yield from key_of(rule, request, rules.identity, []))
            decision = yield Call(part.limiter.try_acquire, (key, part.plain_cost))
            if decision.allowed:
                admission.verdicts = (*earlier, Verdict(part, decision))
            else:
                yield from self._refused(admission, _why(decision), [*earlier, Verdict(part, decision)])
            return admission
        asked = []  # everything is found out before anything is taken: a function of the user's may fail
        caller: list[str] = []
        for part in parts:
            question = yield from question_of(part, request, rules.identity, caller)
            asked.append((part, question))
        verdicts = []
        refusal: Refusal | None = None
        is_more = len(parts) > 1 or bool(admission.verdicts or admission.before or admission.shadows)
        charges = Charges(admission) if is_more else None
        try:
            for part, question in asked:
                left = question if charges is None else charges.left(part, question)
                if left is None:  # a rule of the same name has asked it
                    continue
                decision, why = yield from _decide(part, left)
                if charges is not None:
                    charges.note(part, decision)
                if part.is_shadow:
                    admission.shadows = (*admission.shadows, Verdict(part, decision))
                    continue
                refusal = why
                verdicts.append(Verdict(part, decision))
                if refusal is not None:
                    break
                if part.is_watched:
                    _tell_near(self.name, verdicts[-1])
        except GeneratorExit:  # nobody is there any more who would give back
            raise
        except BaseException:
            yield from _give_back(verdicts)
            raise
        if refusal is not None:
            yield from self._refused(admission, refusal, [*earlier, *verdicts])
            return admission
        admission.verdicts = (*earlier, *verdicts)
        for verdict in verdicts:
            if verdict.part.has_slots:
                block = verdict.part.limiter.holding(verdict.decision)
                yield Call(block.__aenter__ if self.kind is AsyncLimiter else block.__enter__)
                admission.slots.append(block)
        return admission

    def refused(self, admission: Admission, part: Part, denial: Decision) -> Plan[Call, None]:
        """Refuse a request that a plain part has denied."""
        return self._refused(admission, _why(denial), [*admission.verdicts, Verdict(part, denial)])

    def _refused(self, admission: Admission, refusal: Refusal, verdicts: Sequence[Verdict]) -> Plan[Call, None]:
        """Refuse a request by the last of these verdicts, and give back what the others took."""
        admission.refusal = refusal
        yield from _give_back(verdicts[:-1])
        yield from self._release(admission)
        admission.verdicts = verdicts[-1:]

    def peek(self, request: WebRequest, *names: str) -> Plan[Call, Admission]:
        """Tell a caller where they stand with the rules of the app of these names, or with all: nothing is taken.

        :raises InvalidUse: if there is no rule of such a name.
        """
        admission = Admission(request)
        caller: list[str] = []
        verdicts = []
        for part in self._parts_called(names, request.route, request.method) if self._is_enabled else ():
            key, cost, limit, _ = yield from question_of(part, request, self._rules.identity, caller)
            nothing = 0 if part.has_one_key else dict.fromkeys(cost, 0)
            decision = yield Call(partial(part.limiter.peek, key, nothing, limit=limit))
            verdicts.append(Verdict(part, decision))
        admission.verdicts = verdicts
        return admission

    def reset(self, key: str, *names: str) -> Plan[Call, None]:
        """Let a key start afresh with the rules of these names, or with all rules of the app; a penalty is lifted.

        :raises InvalidUse: if there is no rule of such a name.
        """
        for part in self._parts_called(names, None) if self._is_enabled else ():
            yield Call(part.limiter.reset, (key if part.has_one_key else dict.fromkeys(part.labels, key),))

    def finish(
        self, admission: Admission, response: WebResponse | None, finals: Finals | None = None
    ) -> Plan[Call, None]:
        """Release what was held for a request, and settle what it took, now that it is answered: what its rules say
        does not count goes back.

        :param response: the answer, of status 500 where the app raised; None if there was none, as the client has gone:
            all that was taken counts.
        :param finals: what the request has cost by its other admissions, which end before.
        """
        if admission.slots:
            yield from self._release(admission)
        if response is None or not admission.is_admitted:
            return
        finals = {} if finals is None else finals
        for part, decision in admission.verdicts:
            said = (yield from actual_costs(part, decision, response)) if part.is_settled else None
            costs = settled(part, decision, said, finals)
            if part.is_settled and costs != [hit.cost for hit in decision.group.hits]:
                actual = costs[0] if part.has_one_key else dict(zip(part.labels, costs, strict=True))
                yield Call(part.limiter.settle, (decision, actual))

    def fields(self, admission: Admission) -> list[tuple[str, str]]:
        """The headers to add to the response of a request."""
        return self.responses.fields(admission)

    def refuse(self, admission: Admission) -> Answer:
        """The response to a request that was not admitted."""
        return self.responses.refuse(admission)

    def close(self) -> None:
        """Close the store, if it was given as a URL."""
        if self._share is not None:
            self._share.close()

    async def aclose(self) -> None:
        """The same, in an event loop."""
        if self._share is not None:
            await self._share.aclose()

    def _parts_called(self, names: Sequence[str], route: str | None, method: str = "") -> tuple[Part, ...]:
        known = {rule.title: rule for rule in self._rules.all}
        for name in names:
            if name not in known:
                raise InvalidUse(f"there is no rule {name!r}; there are {', '.join(known)}")
        return self._parts.of(tuple([known[name] for name in names or known]), route, method)

    def _look_at_network(self, admission: Admission, rules: Rules) -> None:
        text = rules.identity.address(admission.request)
        if text is None:
            return
        address = ipaddress.ip_address(text)
        if any(address in network for network in rules.deny):
            admission.refusal = "network"
        elif any(address in network for network in rules.allow):
            admission.is_exempt = True

    def _release(self, admission: Admission) -> Plan[Call, None]:
        while admission.slots:
            block = admission.slots.pop()
            yield Call(block.__aexit__ if self.kind is AsyncLimiter else block.__exit__, (None, None, None))


def _decide(part: Part, question: Question) -> Plan[Call, tuple[Decision, Refusal | None]]:
    key, cost, limit, reserve = question
    decision: Decision
    try:
        if part.wait:
            decision = yield Call(partial(part.limiter.acquire, key, cost, timeout=part.wait, limit=limit))
        elif limit is None and reserve is None:
            decision = yield Call(part.limiter.try_acquire, (key, cost))
        else:
            decision = yield Call(partial(part.limiter.try_acquire, key, cost, limit=limit, reserve=reserve))
    except AcquireTimeout as timeout:
        decision = timeout.decision
    except CostExceedsCapacity:
        # Never, and not "not now": the client is told so. How things stand with the limit goes with it.
        decision = yield Call(part.limiter.peek, (key, 0 if part.has_one_key else dict.fromkeys(cost, 0)))
        return decision, "cost"
    return decision, None if decision.allowed else _why(decision)


def _why(denial: Decision) -> Refusal:
    return "outage" if denial.source == "fail_closed" else "limit"


def _give_back(verdicts: Sequence[Verdict]) -> Plan[Call, None]:
    for part, decision in verdicts:
        yield Call(part.limiter.refund, (decision,))


def _tell_near(name: str, verdict: Verdict) -> None:
    """Tell observers that a key is near its limit, where its rule says so."""
    decision = verdict.decision
    labels = verdict.part.labels
    near = verdict.part.members[labels.index(verdict.label)].rule.near
    if near is not None and decision.remaining < near * decision.limit:
        observer.tell(lambda one: one.near_limit(f"{name}.{verdict.label}", decision))
