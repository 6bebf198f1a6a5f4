"""The rate limits of an app, framework aside: how they are made, from code or from a file, and what is done with them.

Each framework's `RateLimits` is one of these, with the framework's own ways to install it and to limit a route. This
module must not know a framework.
"""

from __future__ import annotations

import dataclasses
import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple

from headgate.breaker import Breaker
from headgate.config.loading import Config
from headgate.config.loading import Source as ConfigSource
from headgate.errors import InvalidUse
from headgate.identity import ApiKey, ClientIP, Identity, Source
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limits import Limit
from headgate.rules import Rule, Rules
from headgate.rules.rule import LimitLike
from headgate.stores.contract import Store
from headgate.web.configured import FromConfig, OwnRules
from headgate.web.core import L, WebLimiter
from headgate.web.headers import HeaderStyle, Reset, RetryAfter
from headgate.web.responses import Body, Responses
from headgate.web.switch import is_on

logger = logging.getLogger("headgate")

OnDenied = Callable[[Any, Any], Any]
"""Answers a refused request in the user's own way: by the framework's request and the decision that denied, a response
of the framework's."""


class RouteEntry(NamedTuple):
    """One route of an app, as an audit lists it."""

    path: str
    """Its template, mounts included."""
    methods: tuple[str, ...]
    endpoint: str
    """The name of what answers."""
    rules: tuple[Rule, ...]
    """The rules that its requests meet, its own and the app's."""
    is_exempt: bool = False
    """Has somebody said that it is to meet none?"""


installed: Final[weakref.WeakKeyDictionary[Any, AppLimits[Any]]] = weakref.WeakKeyDictionary()
"""The limits of each app that has some."""


def limits_of(app: Any) -> AppLimits[Any] | None:
    """The limits of an app: those that are installed for it, or are a plugin of it; None if it has none."""
    try:
        return installed.get(app)
    except TypeError:  # of a class without weak references
        return next((one for one in getattr(app, "plugins", ()) if isinstance(one, AppLimits)), None)


class AppLimits(Generic[L]):
    """The rate limits of one app. Safe to share between threads, tasks and event loops.

    :param rules: limits, as text or object, for the routes without rules of their own; and `Rule`s.
    :param store: where the state lives: a URL or a `Store`.
    :param identity: whose share a request takes: an `Identity`, or its sources.
    :param exempt: patterns of paths that meet no rule.
    :param allow: networks of callers who meet no rule.
    :param deny: networks of callers who are refused.
    :param penalty: for how long a caller is blocked after so many denials, by whichever of the rules that have no
        penalty of their own: `10 denials/minute -> 1h`. It blocks them from all of these.
    :param headers: the generation of headers that clients are told by, or several that go together; None for none.
    :param reset: how `X-RateLimit-Reset` says a time: `delta`, in seconds from now, or `epoch`, since 1970.
    :param retry_after: how `Retry-After` says a time: `delta`, in seconds from now, or `date`, as a date of HTTP.
    :param header_names: other names for some of the fields: `{"X-RateLimit-Limit": "X-Quota"}`.
    :param partition_secret: of at least 16 bytes: headers of draft 11 tell keys apart, by hashes that it makes.
    :param body: of a refusal: `problem` (RFC 9457) or `text`.
    :param on_denied: answers a refused request: a function of the framework's request and the decision.
    :param enabled: are they on? If not, nothing is asked, nobody is refused and no header is sent, as though they were
        not installed. By default, what the configuration says, or else the environment's `HEADGATE_ENABLED`.
    :param name: the app's name in the store.
    :param timeout: of a store that is given as the URL of a server, as for limiters; likewise `prefix`,
        `remember_denials` and `breaker`.
    :param config: a configuration: a file of TOML, or a dict of the same shape. Its rules are added to those given
        here, and what is given here goes before what it says else.
    :param watch: does a change of that file take effect? One that is not understood is logged, and changes nothing.
    :param on_sighup: is it also read again when the process gets a SIGHUP? Only in the main thread.
    :raises ConfigError: if the configuration is missing or not understood.
    :raises LimitError, StoreURLError, InvalidUse, MissingExtra: as limiters do, or if something else does not fit.
    """

    kind: ClassVar[Any]
    """The limiters of the framework."""

    def __init__(
        self,
        *rules: str | Limit | Rule | L,
        store: str | Store | None = None,
        identity: Identity | Source | Sequence[Source] | None = None,
        exempt: Sequence[str] = (),
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        penalty: LimitLike | None = None,
        headers: HeaderStyle | Sequence[HeaderStyle] | Literal[False] | None = False,
        reset: Reset | None = None,
        retry_after: RetryAfter | None = None,
        header_names: Mapping[str, str] | None = None,
        partition_secret: bytes | str | None = None,
        body: Body | None = None,
        on_denied: OnDenied | None = None,
        enabled: bool | None = None,
        name: str | None = None,
        timeout: float | None = None,
        prefix: str | None = None,
        remember_denials: float | None = None,
        breaker: Breaker | Literal[False] | None = None,
        config: ConfigSource | Config | None = None,
        watch: bool = True,
        on_sighup: bool = False,
    ) -> None:
        if identity is not None and not isinstance(identity, Identity):
            sources: Any = identity  # one, or several
            is_one = isinstance(sources, (str, ApiKey, ClientIP)) or callable(sources)
            identity = Identity(sources) if is_one else Identity(*sources)
        own = OwnRules(self._rules(rules), identity, exempt, allow, deny, penalty)
        self._named: dict[str, Rule] = {}
        """The rules of routes by their names."""
        self.configured: Final = None if config is None else FromConfig(config, own, watch=watch, on_sighup=on_sighup)
        """The part of the limits that is from a file, where there is one."""
        for_url = {"timeout": timeout, "prefix": prefix, "remember_denials": remember_denials, "breaker": breaker}
        options: dict[str, Any] = {option: value for option, value in for_url.items() if value is not None}
        for_clients = {
            "body": body,
            "reset": reset,
            "retry_after": retry_after,
            "names": header_names,
            "partition_secret": partition_secret,
        }
        told: dict[str, Any] = {option: value for option, value in for_clients.items() if value is not None}
        if headers is not False:
            told["styles"] = headers
        web = None
        if self.configured is not None:
            web = self.configured.web
            names = {} if headers is None else web.told  # without headers, there are none to be named
            told = {**web.told, "names": names.get("names"), **told}
            if store is None:
                store, said = self.configured.store
                options = said | options
            name = web.name if name is None else name
            on_denied = on_denied or web.on_denied
        responses = Responses(**told)
        self.headers: Final = responses.styles
        self.on_denied: Final = on_denied
        self._enabled: Final = enabled
        self.limiter: Final[WebLimiter[L]] = WebLimiter(
            self.kind,
            own.rules() if self.configured is None else self.configured.rules,
            store="memory://" if store is None else store,
            name="web" if name is None else name,
            responses=responses,
            **options,
        )
        self.switch(None if web is None else web.is_enabled)
        if self.configured is not None:
            self.configured.start(self)

    def switch(self, by_config: bool | None) -> None:
        """Be on or off from the next request on, by what a configuration says and code does not. A change is logged.

        :raises InvalidUse: if it is not known which.
        """
        limiter = self.limiter
        was_on, limiter.is_enabled = limiter.is_enabled, is_on(self._enabled, by_config)
        if was_on != limiter.is_enabled:
            state = "on again" if limiter.is_enabled else "off: nothing is asked, and nobody is refused"
            logger.warning("headgate: the limits of %r are %s", limiter.name, state)

    @property
    def rules(self) -> Rules:
        """The rules of the app. Those that are set take effect with the next request, and the state stays."""
        return self.limiter.rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self.limiter.rules = rules

    def own_rule(self, limit: Any, options: dict[str, Any]) -> Rule:
        """The rule of a route, of what its decorator or dependency was given. One without a name gives each route that
        has it a share of its own; of one name, all routes have one together.

        :raises InvalidUse: if it does not fit the framework, or a rule of its name has other limits.
        """
        rule = rule_of_route(limit, options)
        self.limiter.check(rule)
        if rule.name and not rule.is_per_route:
            of_app = next((one for one in self.rules.all if one.name == rule.name), None)
            other = of_app or self._named.setdefault(rule.name, rule)
            if (rule.named_limits(), rule.is_shadow) != (other.named_limits(), other.is_shadow):
                ours, theirs = map(_words, (rule, other))
                raise InvalidUse(
                    f"two rules are called {rule.name!r}, one of {theirs} and one of {ours}: rules of one name are one "
                    f"rule, so give one of them another name"
                )
        return rule

    def routes(self, app: Any) -> Iterable[RouteEntry]:
        """The routes of an app, with the rules that each meets."""
        raise NotImplementedError

    def _rules(self, given: Sequence[Any]) -> list[Rule]:
        limits = [one for one in given if not isinstance(one, (Rule, Limiter, AsyncLimiter))]
        rules = [one for one in given if isinstance(one, Rule)]
        limiters = [Rule(limiter=one, is_default=True) for one in given if isinstance(one, (Limiter, AsyncLimiter))]
        defaults = [Rule(limits, name="default", is_default=True)] if limits else []
        return [*defaults, *limiters, *rules]


def _words(rule: Rule) -> str:
    text = " + ".join(f"{part}: {limit}" if part else str(limit) for part, limit in rule.named_limits().items())
    return f"{text!r}, which only looks" if rule.is_shadow else repr(text)


def rule_of_route(limit: Any, options: dict[str, Any]) -> Rule:
    """The rule of a route, of what its decorator or dependency was given, without a look at its framework.

    :raises LimitError, InvalidUse: as `Rule` does.
    """
    rule = _rule(limit, options)
    if rule.paths:
        raise InvalidUse(
            f"paths of rule {rule.title!r}: a rule of a route is about that route; give it to RateLimits(...)"
        )
    if not rule.name and rule.limiter is None:
        rule = dataclasses.replace(rule, is_per_route=True)
    return rule


def _rule(limit: Any, options: dict[str, Any]) -> Rule:
    if isinstance(limit, Rule):
        if options:
            raise InvalidUse(f"{', '.join(options)}: give that to the Rule itself")
        return limit
    if isinstance(limit, (Limiter, AsyncLimiter)):
        return Rule(limiter=limit, **options)
    return Rule(limit, **options)
