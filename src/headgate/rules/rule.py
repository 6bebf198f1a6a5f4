"""One rule: which requests it is about, which limits they meet, whose share they take, and what is done with them.

A rule is a value: it says everything and does nothing. It must not know a framework, a store or a file.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from headgate.errors import InvalidUse
from headgate.identity import Identity, KeyFunction
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limits import Limit
from headgate.limits.grammar import parse_limit
from headgate.web.messages import WebResponse

LimitLike = str | Limit
CostFunction = Callable[[Any], int | Awaitable[int]]
"""The cost of a request in tokens, by the framework's own request."""
CostLike = int | CostFunction
ActualCost = Callable[[WebResponse], int | Awaitable[int]]
"""The cost of a request, once it has been answered."""
KeyOfRule = Literal["ip", "user", "api_key", "*"] | KeyFunction | Identity

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_/-]{0,63}")


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Limits for some requests of a web app.

        Rule("5/minute", name="login", paths=["/login"], methods=["POST"], wait=0.5)
        Rule({"requests": "60/minute", "tokens": "100_000/minute"}, name="llm", cost={"tokens": estimate})

    :raises LimitError: if a limit is not understood.
    :raises InvalidUse: if something else does not fit.
    """

    limits: LimitLike | Sequence[LimitLike] | Mapping[str, LimitLike] = ()
    """One limit, several, or several with names; a request spends in all of them or in none."""
    name: str = ""
    """The rule's name: part of where its state lives, and what clients, logs and metrics call it. Rules of one name are
    one rule in several places, and share their limits. Without one, a rule of an app is called by its limits, and one
    of a route by the route."""
    paths: Sequence[str] = ()
    """The paths that it is about (see `matching.py`); none for all."""
    methods: Sequence[str] = ()
    """The methods that it is about; none for all. `GET` goes for `HEAD`, too."""
    key: KeyOfRule | None = None
    """Whose share: `ip`, `user`, `api_key`, `*` (one share for everybody), a function of the framework's request, or an
    `Identity`; None for that of the app."""
    cost: CostLike | Mapping[str, CostLike] = 1
    """The tokens that a request takes, or a function of the request; for limits with names, optionally by name (those
    that are left out take 1)."""
    tiers: Mapping[str, LimitLike | Mapping[str, LimitLike]] = field(default_factory=dict)
    """Other numbers for some callers, by the name of their tier; those of none have `limits`."""
    tier: Callable[[Any], str | Awaitable[str | None] | None] | None = None
    """The tier of a caller, by the framework's request."""
    exempt_when: Callable[[Any], bool | Awaitable[bool]] | None = None
    """Which requests are not counted, by the framework's request."""
    charge_when: Callable[[WebResponse], bool | Awaitable[bool]] | None = None
    """Which responses count after all. The place is reserved before, and given back after."""
    actual_cost: ActualCost | Mapping[str, ActualCost] | None = None
    """The tokens that a request took after all, for all limits or by name; what was reserved is settled."""
    wait: float = 0.0
    """For how many seconds a request may be held back until its turn, rather than be denied."""
    is_shadow: bool = False
    """Does it decide and count, and never deny?"""
    on_outage: Literal["open", "closed"] = "open"
    """The answer where the store does not: let requests through, or answer 503."""
    penalty: LimitLike | None = None
    """The time for which a key is blocked after so many denials: `10 denials/minute -> 1h`."""
    is_per_route: bool = False
    """Does each route have a share of its own, and not all of them one together?"""
    is_default: bool = False
    """Is it for those routes only that have no rule of their own?"""
    limiter: Limiter | AsyncLimiter | None = None
    """A limiter of your own, in place of `limits`: its state is shared with all else that it limits."""
    near: float | None = None
    """Below which share of the capacity observers are told that a key is near its limit, such as 0.1."""

    def __post_init__(self) -> None:
        if (self.limiter is None) == (not self.limits):
            raise InvalidUse("a rule has limits, or a limiter that has them: to let everything through, leave it out")
        self.named_limits()
        set_ = object.__setattr__
        if self.name and not _NAME.fullmatch(self.name):
            raise InvalidUse(
                f"a rule's name is of letters, digits, '_', '-' and '/', at most 64 of them, not {self.name!r}"
            )
        for what in ("paths", "methods"):
            given = getattr(self, what)
            set_(self, what, (given,) if isinstance(given, str) else tuple(given))
        set_(self, "methods", tuple(method.upper() for method in self.methods))
        if self.tiers and self.tier is None:
            raise InvalidUse(
                f"rule {self.title!r} has tiers, and nothing that tells a caller's: give it tier=..., a function"
            )
        if not 0 <= self.wait <= 3600:
            raise InvalidUse(f"rule {self.title!r} may let requests wait for 0 to 3600 seconds, not {self.wait!r}")
        if self.on_outage not in ("open", "closed"):
            raise InvalidUse(f"on_outage of rule {self.title!r} is 'open' or 'closed', not {self.on_outage!r}")

    @property
    def title(self) -> str:
        """Its name, or else its limits."""
        return self.name or "+".join(str(limit) for limit in self.named_limits().values())

    def named_limits(self) -> dict[str, Limit]:
        """The limits by the names of their parts; one limit without a name is called the empty text."""
        if self.limiter is not None:
            own = self.limiter.limits
            return {"": next(iter(own.values()))} if len(own) == 1 else own
        if isinstance(self.limits, Mapping):
            return {part: parse_limit(limit) for part, limit in self.limits.items()}
        if isinstance(self.limits, (str, Limit)):
            return {"": parse_limit(self.limits)}
        limits = [parse_limit(limit) for limit in self.limits]
        return {"": limits[0]} if len(limits) == 1 else {limit.label: limit for limit in limits}

    def limits_of_tiers(self, part: str) -> dict[str, Limit]:
        """The limits of one of its parts, by the tiers that have their own."""
        limits = {}
        for tier, given in self.tiers.items():
            own = given.get(part) if isinstance(given, Mapping) else given
            if own is not None:
                limits[tier] = parse_limit(own)
        return limits
