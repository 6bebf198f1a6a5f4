"""Policies: all that a limiter is made of apart from its store, which is named limits, and how a request becomes a
group of hits.

A policy checks what callers say (keys, costs, limits of this call) and builds groups. It must not know a store, a
clock or a thread.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, SupportsIndex, TypeVar

from headgate.algorithms import MAX_SPAN_US, MAX_TOKENS
from headgate.decision import Decision
from headgate.errors import CostExceedsCapacity, InvalidCost, InvalidUse
from headgate.hits import Action, Group, Hit, Once, check_cost, integer_cost
from headgate.keys import check_key
from headgate.limiter.naming import LimitLike, Limits, named, twice
from headgate.limiter.outage import OnOutage
from headgate.limits import Concurrency, Limit, Penalty
from headgate.limits.grammar import parse_limit, parse_penalty
from headgate.plans.requests import costs_up_to

Keys = str | Mapping[str, str]
"""A key, or for tiers a key by tier."""
Costs = SupportsIndex | Mapping[str, SupportsIndex]
"""Tokens, or for tiers tokens by tier. An integer, or what is one, such as those of numpy."""
CallLimit = LimitLike | Mapping[str, LimitLike] | None
"""A limit for this call only, in place of the limiter's own; for tiers, by tier."""

PenaltyLike = str | Penalty

MAX_LIMITS: Final = 32
T = TypeVar("T")
_new: Final = tuple.__new__


class Policy:
    """Named limits, the rule for their keys, and what to answer in an outage. A frozen value.

    :param name: part of where state lives: give one, and the numbers can change without losing state.
    :param penalty: watches the limit, or all limits of one key, or each tier's by itself; None for none.
    :param is_leased: are some of its tokens drawn ahead of need?
    :raises LimitError: if a limit is not understood or not usable.
    :raises InvalidUse: if there are too many limits, or two of one name.
    """

    is_tiered: bool
    """Has each limit a key of its own?"""
    is_single: bool
    """Is there just one limit, with the key as it is?"""
    has_penalty: bool
    """Is one of the limits a `Penalty`?"""
    has_slots: bool
    """Is one of the limits a `Concurrency`?"""
    as_given: Limits
    """The limits in the form in which they were given: with the penalty that was, they make the same policy again."""
    name: str
    """Its name for users: the one that they gave, or that of the first limit."""
    on_outage: OnOutage
    """The rule for outages: how to answer when the store does not."""
    _is_leased: bool
    _tiers: tuple[str, ...]
    """The tiers of all limits, in order."""
    _keyed_by: tuple[str, ...]
    """The tiers whose keys and costs they have: a penalty that was not given as a tier has those of the tier that it
    watches."""
    _shown: tuple[str, ...]
    """The tiers that the user gave."""
    _of_tokens: tuple[str, ...]
    """The tiers of all limits but penalties."""
    _takes_one: Sequence[bool]
    """Which limits take one at most of a cost in tokens; empty where none does."""
    _limits: tuple[Limit, ...]
    _names: tuple[str, ...]
    _first: Limit
    _first_name: str

    def __init__(
        self,
        limits: Limits,
        name: str | None = None,
        *,
        penalty: PenaltyLike | None = None,
        on_outage: OnOutage = "open",
        is_leased: bool = False,
    ) -> None:
        if name is not None:
            check_key(name)
        as_given, tiers, parsed, names = named(limits, name, None if penalty is None else parse_penalty(penalty))
        if is_leased:
            parsed = tuple(limit.leased() for limit in parsed)
        if not 1 <= len(parsed) <= MAX_LIMITS:
            raise InvalidUse(f"a limiter has 1 to {MAX_LIMITS} limits, not {len(parsed)}")
        if len(set(names)) < len(names):
            raise InvalidUse(
                f"two limits would share the name {twice(names)!r}: give them as a dict, with names of their own"
            )
        keyed_by = tiers if penalty is None else tuple(tiers[at - at % 2] for at in range(len(tiers)))
        of_tokens = [limit for limit in parsed if not isinstance(limit, Penalty)]
        takes_one = [
            isinstance(limit, Penalty) or (isinstance(limit, Concurrency) and len(of_tokens) > 1) for limit in parsed
        ]
        vars(self).update(
            is_tiered=isinstance(limits, Mapping),
            is_single=len(parsed) == 1 and not isinstance(limits, Mapping),
            has_slots=any(isinstance(limit, Concurrency) for limit in parsed),
            has_penalty=len(of_tokens) < len(parsed),
            as_given=as_given,
            name=name or names[0],
            on_outage=on_outage,
            _is_leased=is_leased,
            _tiers=tiers,
            _keyed_by=keyed_by,
            _shown=tuple(dict.fromkeys(keyed_by)),
            _of_tokens=tuple(tier for tier, limit in zip(tiers, parsed, strict=False) if limit in of_tokens),
            # Beside other limits, one request takes one slot, whatever its cost in tokens.
            _takes_one=() if not any(takes_one) else takes_one,
            _limits=parsed,
            _names=names,
            _first=parsed[0],
            _first_name=names[0],
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a policy is frozen: make a new one instead of setting {name}")

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that keys are given for, in order; empty where all limits have one key."""
        return self._shown if self.is_tiered else ()

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
            hit = _new(Hit, (self._first, check_key(key), self._first_name, cost, holder, None, "", 0))
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

    def leaving(self, group: Group, reserve: Costs) -> Group:
        """The same group, which passes only if this much is left behind it.

        :raises InvalidCost: if the reserve is not an integer of at least 0.
        :raises CostExceedsCapacity: if so much can never be left behind the cost.
        :raises InvalidUse: if the reserve does not fit the limiter's shape, or there are no tokens to be left.
        """
        if isinstance(reserve, Mapping):
            if not self.is_tiered:
                raise InvalidUse("a reserve by tier goes with Limiter({...}): give this limiter one int")
            for tier in reserve:
                if tier not in self._of_tokens:
                    raise InvalidUse(f"there is no tier {tier!r}; there are {', '.join(self._of_tokens)}")
            spares = [reserve.get(tier, 0) for tier in self._tiers]
        else:
            spares = [reserve] * len(group.hits)
        hits = []
        for hit, given in zip(group.hits, spares, strict=True):
            spare = integer_cost(given, "a reserve is an integer of at least 0")
            if spare < 0:
                raise InvalidCost(f"a reserve is an integer of at least 0, not {spare}")
            if isinstance(hit.limit, (Concurrency, Penalty)):
                hits.append(hit)
                continue
            if hit.cost + spare > hit.limit.capacity:
                raise CostExceedsCapacity(hit.cost, hit.limit.capacity, hit.tier or hit.name, spare)
            hits.append(hit._replace(spare=spare))
        if all(isinstance(hit.limit, (Concurrency, Penalty)) for hit in hits):
            raise InvalidUse("a reserve is of tokens: of slots, nothing is kept back")
        return group._replace(hits=tuple(hits))

    def once(self, group: Group, request_id: str, period_us: int) -> Group:
        """The same group, which is charged once among all of this id within the period.

        :raises InvalidUse: if its limits have several keys, or slots, or the period is none.
        :raises InvalidKey: if the id is not usable.
        """
        if self.has_slots or len({hit.key for hit in group.hits}) > 1:
            raise InvalidUse("an id goes with limits of one key, and none of slots: ask for the others by themselves")
        if period_us <= 0:
            raise InvalidUse("a period is a number of seconds above 0")
        # Of a fixed length, and no user's id reaches the store as it is. Marks of decisions are shorter.
        mark = hashlib.blake2b(check_key(request_id).encode(), digest_size=16).hexdigest()
        return group._replace(once=Once(mark, life_us=period_us))

    def up_to(self, key: Keys, most: SupportsIndex, limit: CallLimit) -> list[Group]:
        """The groups of which each takes its cost or nothing, and all together as much as there is, up to `most`.

        :raises InvalidUse: if there are slots or penalties: of what is not there, nothing is denied.
        """
        wanted = integer_cost(most)
        if wanted < 1:
            raise InvalidCost(f"to take up to a number of tokens, give a number of at least 1, not {wanted}")
        group = self.group(key, 0, limit)
        for hit in group.hits:
            if isinstance(hit.limit, (Concurrency, Penalty)):
                raise InvalidUse(f"try_acquire_up_to is for tokens, and {str(hit.limit)!r} has none")
        wanted = min(wanted, *[hit.limit.capacity for hit in group.hits])
        return [
            group._replace(hits=tuple([hit._replace(cost=cost) for hit in group.hits])) for cost in costs_up_to(wanted)
        ]

    def in_outage(self, given: CallLimit) -> dict[str, tuple[Limit, str]]:
        """The limits in place of the limiter's own while the store is away, with their names: by tier, or by name where
        there are no tiers. One for all is in place of each.

        :raises LimitError: if one is not understood.
        :raises InvalidUse: if one does not fit.
        """
        if given is None:
            return {}
        names = dict(zip(self._tiers or self._names, self._names, strict=True))
        of_tokens = [
            tier
            for tier, limit in zip(names, self._limits, strict=True)
            if not isinstance(limit, (Concurrency, Penalty))
        ]
        said = given if isinstance(given, Mapping) else dict.fromkeys(of_tokens, given)
        found = {tier: (parse_limit(limit), names.get(tier, "")) for tier, limit in said.items()}
        if not found or any(isinstance(limit, (Concurrency, Penalty)) for limit, _ in found.values()):
            raise InvalidUse("outage_limit is one of tokens, in place of others: slots and penalties have their own")
        for tier in found:
            if tier not in of_tokens:
                raise InvalidUse(
                    f"outage_limit: there is no limit {tier!r} of tokens; there are {', '.join(of_tokens)}"
                )
        return found

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
            raise InvalidUse(f"this limiter has tiers: give a dict with a key for each of {', '.join(self._shown)}")
        self._match(key, "key", self._shown)
        return [check_key(key[tier]) for tier in self._keyed_by]

    def _costs(self, cost: Costs) -> Sequence[SupportsIndex]:
        if isinstance(cost, Mapping):
            if not self.is_tiered:
                raise InvalidUse("costs by tier go with Limiter({...}): give this limiter one int")
            self._match(cost, "cost", self._of_tokens)
            if not self.has_penalty:
                return [cost[tier] for tier in self._tiers]
            return [
                min(integer_cost(cost.get(tier, 1)), 1) if isinstance(limit, Penalty) else cost[tier]
                for tier, limit in zip(self._keyed_by, self._limits, strict=True)
            ]
        if not self._takes_one:
            return [cost] * len(self._limits)
        tokens = cost if type(cost) is int else integer_cost(cost)
        return [min(tokens, 1) if takes_one else tokens for takes_one in self._takes_one]

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
                _in_place_of(own, limit[tier]) if tier in limit else own
                for tier, own in zip(self._tiers, self._limits, strict=True)
            ]
        first, *others = self._limits
        if self.is_tiered or not all(isinstance(other, Penalty) for other in others):
            raise InvalidUse(
                "this limiter has several limits: to replace some for a call, name them in a dict of tiers"
            )
        given = _in_place_of(first, limit)
        return [given.leased() if self._is_leased else given, *others]

    def _match(self, given: Mapping[str, object], what: str, needed: Sequence[str]) -> None:
        for tier in needed:
            if tier not in given:
                raise InvalidUse(f"there is no {what} for the tier {tier!r}: a tier is never left out in silence")
        for tier in given:
            if tier not in self._keyed_by:
                raise InvalidUse(f"there is no tier {tier!r}; there are {', '.join(self._shown)}")


def wait_bound_us(timeout: float | None, called: str = "a timeout") -> int:
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
        raise InvalidUse(f"{called} is a number of seconds of at least 0, or None, not {timeout!r}")
    return MAX_SPAN_US if timeout >= MAX_SPAN_US // 1_000_000 else int(timeout * 1_000_000)


def _in_place_of(own: Limit, given: LimitLike) -> Limit:
    """A limit for a call, in place of the limiter's own.

    :raises InvalidUse: if one is a penalty, and the other is none.
    """
    limit = parse_limit(given)
    if isinstance(limit, Penalty) != isinstance(own, Penalty):
        raise InvalidUse(f"{str(limit)!r} cannot stand in place of {str(own)!r}: of the two, one is a penalty")
    return limit


def _name_of_call(name: str, own: Limit, given: Limit) -> str:
    """Where the state of a call's limit lives: with the limiter's own, unless it spans another time. Together, each
    would take the other's state for what it is not, and forget it.
    """
    is_alike = given.code != own.code or given.span == own.span
    return name if is_alike else f"{name}~{given.span}"


def _holder(limit: Limit) -> str:
    """A name that nobody else has. It tells how long a slot is held, which others need to know if the clock jumps."""
    return f"{secrets.token_hex(8)}.{limit.period_us}"
