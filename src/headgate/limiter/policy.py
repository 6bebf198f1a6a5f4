"""Policies: all that a limiter is made of apart from its store, which is named limits, and how a request becomes a
group of hits.

A policy checks what callers say (keys, costs, limits of this call) and builds groups. It must not know a store, a
clock or a thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, SupportsIndex, TypeVar

from headgate.algorithms import MAX_SPAN_US, MAX_TOKENS
from headgate.decision import Decision
from headgate.errors import InvalidCost, InvalidUse, LimitSyntaxError
from headgate.hits import Action, Group, Hit, check_cost, integer_cost
from headgate.keys import check_key
from headgate.limiter.outage import OnOutage
from headgate.limits import Concurrency, Limit
from headgate.limits.grammar import parse_limit

LimitLike = str | Limit
Limits = LimitLike | Sequence[LimitLike] | Mapping[str, LimitLike]
"""One limit, several limits on one key, or named limits (tiers) that each have a key of their own."""
Keys = str | Mapping[str, str]
"""A key, or for tiers a key by tier."""
Costs = SupportsIndex | Mapping[str, SupportsIndex]
"""Tokens, or for tiers tokens by tier. An integer, or what is one, such as those of numpy."""
CallLimit = LimitLike | Mapping[str, LimitLike] | None
"""A limit for this call only, in place of the limiter's own; for tiers, by tier."""

MAX_LIMITS: Final = 32
T = TypeVar("T")
_new: Final = tuple.__new__


class Policy:
    """Named limits, the rule for their keys, and what to answer in an outage. A frozen value.

    :param name: part of where state lives: give one, and the numbers can change without losing state.
    :param is_leased: are some of its tokens drawn ahead of need?
    :raises LimitError: if a limit is not understood or not usable.
    :raises InvalidUse: if there are too many limits, or two of one name.
    """

    is_tiered: bool
    """Has each limit a key of its own?"""
    is_single: bool
    """Is there just one limit, with the key as it is?"""
    has_slots: bool
    """Is one of the limits a `Concurrency`?"""
    as_given: Limits
    """The limits in the form in which they were given: they make the same policy again."""
    name: str
    """Its name for users: the one that they gave, or that of the first limit."""
    on_outage: OnOutage
    """The rule for outages: how to answer when the store does not."""
    _is_leased: bool
    _tiers: tuple[str, ...]
    _limits: tuple[Limit, ...]
    _names: tuple[str, ...]
    _first: Limit
    _first_name: str

    def __init__(
        self, limits: Limits, name: str | None = None, *, on_outage: OnOutage = "open", is_leased: bool = False
    ) -> None:
        if name is not None:
            check_key(name)
        as_given, tiers, parsed, names = _named(limits, name)
        if is_leased:
            parsed = tuple(limit.leased() for limit in parsed)
        if not 1 <= len(parsed) <= MAX_LIMITS:
            raise InvalidUse(f"a limiter has 1 to {MAX_LIMITS} limits, not {len(parsed)}")
        if len(set(names)) < len(names):
            raise InvalidUse(
                f"two limits would share the name {_twice(names)!r}: give them as a dict, with names of their own"
            )
        vars(self).update(
            is_tiered=isinstance(limits, Mapping),
            is_single=len(parsed) == 1 and not isinstance(limits, Mapping),
            has_slots=any(isinstance(limit, Concurrency) for limit in parsed),
            as_given=as_given,
            name=name or names[0],
            on_outage=on_outage,
            _is_leased=is_leased,
            _tiers=tiers,
            _limits=parsed,
            _names=names,
            _first=parsed[0],
            _first_name=names[0],
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a policy is frozen: make a new one instead of setting {name}")

    @property
    def limits(self) -> dict[str, Limit]:
        """The limits by their names, in order."""
        return dict(zip(self._names, self._limits, strict=True))

    def group(
        self, key: Keys, cost: Costs = 1, limit: CallLimit = None, action: Action = "spend", max_wait_us: int = 0
    ) -> Group:
        """The hits of one request.

        :raises InvalidKey: if a key is not usable.
        :raises InvalidCost: if a cost is not an integer of at least 0.
        :raises CostExceedsCapacity: if a cost can never be admitted.
        :raises InvalidUse: if keys, costs or limits do not fit the limiter's shape.
        """
        if self.is_single and limit is None and type(cost) is int and type(key) is str:  # nearly always
            if cost < 0 or cost > self._first.capacity:
                check_cost(cost, self._first, self._first_name)
            holder = _holder(self._first) if self.has_slots else ""
            # Past the names' own __new__, which takes twice as long.
            hit = _new(Hit, (self._first, check_key(key), self._first_name, cost, holder, None, ""))
            return _new(Group, ((hit,), max_wait_us, action, None))
        keys, costs, limits = self._keys(key), self._costs(cost), self._limits_of_call(limit)
        hits = []
        tiers = self._tiers or self._names
        for own, limit_here, name, key_here, cost_here, tier in zip(
            self._limits, limits, self._names, keys, costs, tiers, strict=True
        ):
            tokens = check_cost(cost_here, limit_here, name)
            name_here = name if limit_here is own else _name_of_call(name, own, limit_here)
            holder = _holder(limit_here) if isinstance(limit_here, Concurrency) else ""
            hits.append(Hit(limit_here, key_here, name_here, tokens, holder, None, tier))
        return Group(tuple(hits), max_wait_us, action)

    def single(self, make: Callable[[Limit, str], T]) -> T | None:
        """Call `make` with the limit and its name, where there is just one, and one without slots; else None."""
        return make(self._first, self._first_name) if self.is_single and not self.has_slots else None

    def actual(self, decision: Decision, actual: Costs) -> list[int]:
        """The real costs of a request, for each hit of its decision.

        :raises InvalidCost: if a cost is not an integer of at least 0.
        """
        given = self._costs(actual) if self.is_tiered else [actual] * len(decision.group.hits)
        rule = "an actual cost is an integer of at least 0"
        costs = [integer_cost(cost, rule) for cost in given]
        for cost in costs:
            if not 0 <= cost <= MAX_TOKENS:
                raise InvalidCost(f"{rule} and below 2**51, not {cost}")
        return costs

    def _keys(self, key: Keys) -> Sequence[str]:
        if not self.is_tiered:
            if isinstance(key, Mapping):
                raise InvalidUse("this limiter has one key: give it as a str; keys by tier go with Limiter({...})")
            return [check_key(key)] * len(self._limits)
        if not isinstance(key, Mapping):
            raise InvalidUse(f"this limiter has tiers: give a dict with a key for each of {', '.join(self._tiers)}")
        self._match(key, "key")
        return [check_key(key[tier]) for tier in self._tiers]

    def _costs(self, cost: Costs) -> Sequence[SupportsIndex]:
        if isinstance(cost, Mapping):
            if not self.is_tiered:
                raise InvalidUse("costs by tier go with Limiter({...}): give this limiter one int")
            self._match(cost, "cost")
            return [cost[tier] for tier in self._tiers]
        if len(self._limits) == 1 or not self.has_slots:
            return [cost] * len(self._limits)
        # Beside other limits, one request takes one slot, whatever its cost in tokens.
        tokens = cost if type(cost) is int else integer_cost(cost)
        return [min(tokens, 1) if isinstance(limit, Concurrency) else tokens for limit in self._limits]

    def _limits_of_call(self, limit: CallLimit) -> Sequence[Limit]:
        if limit is None:
            return self._limits
        if isinstance(limit, Mapping):
            if not self.is_tiered:
                raise InvalidUse("limits by tier go with Limiter({...}): give this limiter one limit")
            for tier in limit:
                if tier not in self._tiers:
                    raise InvalidUse(f"there is no tier {tier!r}; there are {', '.join(self._tiers)}")
            return [
                parse_limit(limit[tier]) if tier in limit else own
                for tier, own in zip(self._tiers, self._limits, strict=True)
            ]
        if not self.is_single:
            raise InvalidUse(
                "this limiter has several limits: to replace some for a call, name them in a dict of tiers"
            )
        return [parse_limit(limit).leased() if self._is_leased else parse_limit(limit)]

    def _match(self, given: Mapping[str, object], what: str) -> None:
        for tier in self._tiers:
            if tier not in given:
                raise InvalidUse(f"there is no {what} for the tier {tier!r}: a tier is never left out in silence")
        for tier in given:
            if tier not in self._tiers:
                raise InvalidUse(f"there is no tier {tier!r}; there are {', '.join(self._tiers)}")


def wait_bound_us(timeout: float | None) -> int:
    """A timeout in seconds as whole microseconds; None is as long as can be (35 years).

    :raises InvalidUse: if it is negative or not a number.
    """
    if timeout is None:
        return MAX_SPAN_US
    try:
        is_usable = not isinstance(timeout, bool) and timeout >= 0
    except TypeError:
        is_usable = False
    if not is_usable:
        raise InvalidUse(f"a timeout is a number of seconds of at least 0, or None, not {timeout!r}")
    return MAX_SPAN_US if timeout >= MAX_SPAN_US // 1_000_000 else int(timeout * 1_000_000)


def _named(limits: Limits, name: str | None) -> tuple[Limits, tuple[str, ...], tuple[Limit, ...], tuple[str, ...]]:
    """The limits as they are given, but read; the tiers, if there are any; all limits; and their names."""
    if isinstance(limits, Mapping):
        tiers = {check_key(tier): limit for tier, limit in limits.items()}
        read = {tier: parse_limit(limit) for tier, limit in tiers.items()}
        names = (joined(name, tier) if name else f"{tier}={limit}" for tier, limit in read.items())
        return read, tuple(read), tuple(read.values()), tuple(names)
    if isinstance(limits, (str, Limit)):
        limit = parse_limit(limits)
        return limit, (), (limit,), (name or str(limit),)
    if isinstance(limits, Sequence):
        parsed = [parse_limit(limit) for limit in limits]
        return parsed, (), tuple(parsed), tuple(joined(name, limit.label) if name else str(limit) for limit in parsed)
    raise LimitSyntaxError(repr(limits), 0, f"a limit is a text or a Limit, not {type(limits).__name__}")


def _name_of_call(name: str, own: Limit, given: Limit) -> str:
    """Where the state of a call's limit lives: with the limiter's own, unless it spans another time. Together, each
    would take the other's state for what it is not, and forget it.
    """
    is_alike = given.code != own.code or given.span == own.span
    return name if is_alike else f"{name}~{given.span}"


def _holder(limit: Limit) -> str:
    """A name that nobody else has. It tells how long a slot is held, which others need to know if the clock jumps."""
    return f"{secrets.token_hex(8)}.{limit.period_us}"


def joined(name: str, part: str) -> str:
    """A limiter's name and a part's, so that no other two come to the same."""
    return ".".join(text.replace("%", "%25").replace(".", "%2E") for text in (name, part))


def _twice(names: Sequence[str]) -> str:
    return next(name for index, name in enumerate(names) if name in names[:index])
