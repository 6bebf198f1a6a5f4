"""One rule: which requests it is about, which limits they meet, whose share they take, and what is done with them.

A rule is a value: it says everything and does nothing. It must not know a framework, a store or a file.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from headgate.errors import InvalidUse
from headgate.hits import check_cost
from headgate.identity import ApiKey, ClientIP, Identity, KeyFunction
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limits import Concurrency, Limit, Penalty
from headgate.limits.grammar import parse_limit, parse_penalty
from headgate.rules.durations import seconds_of
from headgate.rules.matching import compiled
from headgate.web.messages import WebResponse

LimitLike = str | Limit
CostFunction = Callable[[Any], int | Awaitable[int]]
"""The cost of a request in tokens, by the framework's own request; or, of a function with an attribute `of_web_request`
that is true, by the `WebRequest`."""
CostLike = int | CostFunction
LimitFunction = Callable[
    [Any], LimitLike | Mapping[str, LimitLike] | Awaitable[LimitLike | Mapping[str, LimitLike] | None] | None
]
"""The numbers for one request, by the framework's own request; None for the rule's."""
ActualCost = Callable[[WebResponse], int | Awaitable[int | None] | None]
"""The cost of a request, once it has been answered; None for the one that was reserved."""
KeyOfRule = Literal["ip", "user", "api_key", "*"] | KeyFunction | ApiKey | ClientIP | Identity

_MAX_WAIT: Final = 3600
"""The longest that a request may be held back, in seconds."""
_OF_A_KIND: Final = (Concurrency, Penalty)
"""Limits whose place no other kind can take."""
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
    """The methods that it is about, also of a route's own rule; none for all. `GET` goes for `HEAD`, too."""
    key: KeyOfRule | None = None
    """Whose share: `ip`, `user`, `api_key`, `*` (one share for everybody), a function of the framework's request, an
    `ApiKey`, a `ClientIP` or an `Identity`; None for that of the app."""
    cost: CostLike | Mapping[str, CostLike] = 1
    """The tokens that a request takes, or a function of the request; for limits with names, optionally by name (those
    that are left out take 1)."""
    tiers: Mapping[str, LimitLike | Mapping[str, LimitLike]] = field(default_factory=dict)
    """Other numbers for some callers, by the name of their tier; those of none have `limits`."""
    tier: Callable[[Any], str | Awaitable[str | None] | None] | Mapping[str, str] | None = None
    """The tier of a caller, by the framework's request; or a table of tiers by the keys of callers."""
    limit_for: LimitFunction | None = None
    """Numbers that are known with the request alone, by the framework's own: a limit in place of the rule's or, where
    it has several, some of them by name; None for those of the tier or of the rule."""
    exempt_when: Callable[[Any], bool | Awaitable[bool]] | None = None
    """Which requests are not counted, by the framework's request."""
    charge_when: Callable[[WebResponse], bool | Awaitable[bool]] | None = None
    """Which responses count after all. The place is reserved before, and given back after."""
    actual_cost: ActualCost | Mapping[str, ActualCost] | None = None
    """The tokens that a request took after all, for all limits or by name; what was reserved is settled."""
    reserve: CostLike | Mapping[str, CostLike] = 0
    """The tokens that a request leaves behind it, for more critical ones, of which a function of the request says 0;
    for limits with names, optionally by name. Of slots, nothing is kept back."""
    wait: float | str | timedelta = 0.0
    """For how long a request may be held back until its turn, rather than be denied: in seconds, or as `500ms`."""
    is_shadow: bool = False
    """Does it decide and count, and never deny?"""
    on_outage: Literal["open", "closed", "local"] = "open"
    """The answer where the store does not: let requests through, answer 503, or decide in memory by a share of the
    limits."""
    instances: int | None = None
    """For `local`: how many processes have a share."""
    outage_limit: LimitLike | Mapping[str, LimitLike] | None = None
    """For `local`: a limit that is shared then in place of each of the rule's, slots and penalties aside; for limits
    with names, optionally by name."""
    penalty: LimitLike | None = None
    """The time for which a key is blocked after so many denials: `10 denials/minute -> 1h`."""
    is_per_route: bool = False
    """Does each route have a share of its own, and not all of them one together?"""
    is_per_method: bool = False
    """Does each method have a share of its own? `HEAD` has that of `GET`, and all that are not common have one."""
    is_default: bool = False
    """Is it for those routes only that have no rule of their own?"""
    limiter: Limiter | AsyncLimiter | None = None
    """A limiter of your own, in place of `limits`: its state is shared with all else that it limits."""
    message: str = ""
    """The words for a client whom one of its limits denies, in place of those that there are."""
    near: float | None = None
    """Below which share of the capacity observers are told that a key is near its limit, such as 0.1."""

    def __post_init__(self) -> None:
        if (self.limiter is None) == (not self.limits):
            raise InvalidUse("a rule has limits, or a limiter that has them: to let everything through, leave it out")
        if self.name and not _NAME.fullmatch(self.name):
            raise InvalidUse(
                f"a rule's name is of letters, digits, '_', '-' and '/', at most 64 of them, not {self.name!r}"
            )
        set_ = object.__setattr__
        for what in ("paths", "methods"):
            given = getattr(self, what)
            set_(self, what, (given,) if isinstance(given, str) else tuple(given))
        set_(self, "methods", tuple(method.upper() for method in self.methods))
        for path in self.paths:
            compiled(path)
        set_(self, "wait", self._checked_wait())
        self._check_parts()
        self._check_rest()

    def _checked_wait(self) -> float:
        try:
            wait = seconds_of(self.wait)
        except InvalidUse as error:
            raise InvalidUse(f"wait of rule {self.title!r}: {error}") from None
        if wait > _MAX_WAIT:
            raise InvalidUse(f"rule {self.title!r} may let requests wait for at most {_MAX_WAIT} s, not {wait!r}")
        return wait

    def _check_parts(self) -> None:
        """Look through all that is said by the names of limits."""
        parts = self.named_limits()
        if self.limiter is None and isinstance(self.limits, Mapping):
            for part in parts:
                if not _NAME.fullmatch(part):
                    raise InvalidUse(f"a limit's name is of letters, digits, '_', '-' and '/', not {part!r}")
        for what in ("cost", "actual_cost", "reserve"):
            given = getattr(self, what)
            self._know(parts, given if isinstance(given, Mapping) else ())
        costs = self.cost if isinstance(self.cost, Mapping) else dict.fromkeys(parts, self.cost)
        for part, cost in costs.items():
            if not callable(cost):
                check_cost(cost, parts[part], self.title)
        reserves = self.reserve if isinstance(self.reserve, Mapping) else dict.fromkeys(parts, self.reserve)
        for part, reserve in reserves.items():
            if not callable(reserve) and not isinstance(parts[part], _OF_A_KIND):
                cost = costs.get(part, 1)
                check_cost(reserve, parts[part], f"reserve of {self.title}")
                check_cost(reserve + (1 if callable(cost) else cost), parts[part], self.title)
        if self.reserve != 0 and self.wait:
            raise InvalidUse(f"rule {self.title!r} has a reserve, and so lets nobody wait: give it wait=0")
        for part, limit in self.in_outage().items():
            if isinstance(limit, _OF_A_KIND) or isinstance(parts.get(part), _OF_A_KIND):
                raise InvalidUse(f"outage_limit of rule {self.title!r} is of tokens, in place of one of tokens")
        for tier, limits in self.tiers.items():
            if isinstance(limits, Mapping):
                self._know(parts, limits)
            elif len(parts) > 1:
                raise InvalidUse(
                    f"tier {tier!r} of rule {self.title!r} is to say which of its limits it means: "
                    f"{{{', '.join(f'{part!r}: ...' for part in parts)}}}"
                )
        for part in parts:
            self.limits_of_tiers(part)

    def _know(self, parts: Mapping[str, Limit], named: Iterable[str]) -> None:
        for part in named:
            if part not in parts:
                raise InvalidUse(
                    f"rule {self.title!r} has no limit called {part!r}: it has {', '.join(map(repr, parts))}"
                )

    def _check_rest(self) -> None:
        if self.tiers and self.tier is None:
            raise InvalidUse(f"rule {self.title!r} has tiers, and nothing that tells a caller's: give it tier=...")
        for what in ("tier", "limit_for", "exempt_when", "charge_when"):
            given = getattr(self, what)
            if given is not None and not callable(given) and not (what == "tier" and isinstance(given, Mapping)):
                raise InvalidUse(f"{what} is a function, not {given!r}")
        if isinstance(self.key, str) and self.key not in ("ip", "user", "api_key", "*"):
            raise InvalidUse(
                f"the key of rule {self.title!r} is one of 'ip', 'user', 'api_key' and '*' (one share for everybody), "
                f"a function of the request or an Identity, not {self.key!r}"
            )
        if self.on_outage not in ("open", "closed", "local"):
            raise InvalidUse(f"on_outage of rule {self.title!r} is 'open', 'closed' or 'local', not {self.on_outage!r}")
        if self.instances is not None and self.on_outage != "local":
            raise InvalidUse(f"instances of rule {self.title!r} goes with on_outage='local'")
        if self.outage_limit is not None and self.on_outage != "local":
            raise InvalidUse(f"outage_limit of rule {self.title!r} goes with on_outage='local'")
        if self.near is not None and not 0 < self.near <= 1:
            raise InvalidUse(f"near of rule {self.title!r} is a share between 0 and 1, such as 0.1, not {self.near!r}")
        if not isinstance(self.message, str):
            raise InvalidUse(f"message of rule {self.title!r} is a text, not {self.message!r}")
        if self.penalty is not None:
            parse_penalty(self.penalty)
        if self.limiter is not None:
            if self.penalty is not None:
                raise InvalidUse("a penalty beside a limiter of your own: give it to the limiter itself")
            if self.limiter.is_tiered:
                raise InvalidUse("a limiter of tiers has keys of their own: give the rule its limits, by name, instead")

    def meets(self, methods: Iterable[str]) -> bool:
        """Is it about requests of one of these methods?"""
        own = self.methods
        return not own or any(method in own or (method == "HEAD" and "GET" in own) for method in methods)

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
        limits = list(dict.fromkeys(parse_limit(limit) for limit in self.limits))
        if len(limits) == 1:
            return {"": limits[0]}
        named: dict[str, Limit] = {}
        for limit in limits:
            label = limit.label
            while label in named:  # two of one period
                label += "+"
            named[label] = limit
        return named

    def limits_said(self, said: Any) -> dict[str, Limit]:
        """The limits that `limit_for` has said for a request, by the names of their parts.

        :raises LimitError: if one is not understood.
        :raises InvalidUse: if it is not said which limit is meant, or there is none of such a name.
        """
        if said is None:
            return {}
        parts = self.named_limits()
        if isinstance(said, Mapping):
            self._know(parts, said)
            found = {part: parse_limit(limit) for part, limit in said.items()}
        elif len(parts) > 1:
            raise InvalidUse(
                f"limit_for of rule {self.title!r} is to say which of its limits it means: "
                f"{{{', '.join(f'{part!r}: ...' for part in parts)}}}"
            )
        else:
            found = dict.fromkeys(parts, parse_limit(said))
        for part, limit in found.items():  # what is held, or blocks, is another matter than what is spent
            own = parts[part]
            if limit.code != own.code and (isinstance(limit, _OF_A_KIND) or isinstance(own, _OF_A_KIND)):
                raise InvalidUse(f"limit_for of rule {self.title!r} says '{limit}', and its limit is '{own}'")
        return found

    def in_outage(self) -> dict[str, Limit]:
        """The limits that are shared while the store is away, in place of others, by the names of these."""
        given = self.outage_limit
        if given is None:
            return {}
        parts = self.named_limits()
        if isinstance(given, Mapping):
            self._know(parts, given)
            return {part: parse_limit(limit) for part, limit in given.items()}
        return {part: parse_limit(given) for part, limit in parts.items() if not isinstance(limit, _OF_A_KIND)}

    def limits_of_tiers(self, part: str) -> dict[str, Limit]:
        """The limits of one of its parts, by the tiers that have their own."""
        limits = {}
        for tier, given in self.tiers.items():
            own = given.get(part) if isinstance(given, Mapping) else given
            if own is not None:
                limits[tier] = parse_limit(own)
        return limits
