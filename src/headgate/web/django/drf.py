"""Throttles for Django REST framework, with the names and settings of its own.

    REST_FRAMEWORK = {
        "DEFAULT_THROTTLE_CLASSES": [
            "headgate.web.django.drf.AnonRateThrottle",
            "headgate.web.django.drf.UserRateThrottle",
        ],
        "DEFAULT_THROTTLE_RATES": {"anon": "100/day", "user": "1000/day"},
    }

All throttles of a view are asked in one round trip, once REST framework knows the caller: a request spends in all of
them or in none. Rates are limits in words, so `5/10s` and `sliding-window 100/hour` are rates, too. This module must
not know the middleware.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.core.signals import setting_changed

try:
    from rest_framework.exceptions import APIException
    from rest_framework.request import Request
    from rest_framework.settings import api_settings
    from rest_framework.throttling import BaseThrottle
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("Django REST framework", "drf") from error

from headgate.errors import InvalidUse
from headgate.rules import Rule
from headgate.rules.rule import KeyOfRule, LimitLike
from headgate.web.core import run
from headgate.web.django.conf import project_limits
from headgate.web.django.exchange import Exchange, exchange_of
from headgate.web.django.request import DjangoRequest

if TYPE_CHECKING:  # it reads the setting that names these classes, and so imports this module
    from rest_framework.views import APIView

_STATUSES: Final = {"outage": 503, "network": 403, "cost": 413}
"""Refusals that are none of a rate."""


class HeadgateThrottle(BaseThrottle):  # type: ignore[misc]  # REST framework has no types
    """A throttle of one limit, for subclasses: it is `rate`, or else what the settings have for `scope`.

        class Burst(HeadgateThrottle):
            rate = "60/minute"

        class Export(HeadgateThrottle):
            rule = Rule("10/hour", name="export", key="user")

    Several instances ask once. Used by one thread at a time, as REST framework does.

    :raises InvalidUse: when a request comes, if there is no rate.
    """

    rate: ClassVar[LimitLike | None] = None
    """The limit."""
    rule: ClassVar[Rule | None] = None
    """All that there is to say of the limit, in place of a rate."""
    scope: ClassVar[str | None] = None
    """The name of the rate in `DEFAULT_THROTTLE_RATES`, and of the limit for clients."""
    key: ClassVar[KeyOfRule | None] = None
    """Whose share, as for a rule; None for the identity of the project."""

    _wait: float | None = None

    def scope_of(self, view: APIView) -> str | None:
        """The scope of a request's view; None for a view without one."""
        return self.scope

    def key_of(self, request: Request) -> KeyOfRule | None:
        """Whose share a request takes, where `rule` does not say. To be overridden."""
        return self.key

    def is_for(self, request: Request, view: APIView) -> bool:
        """Does the throttle say something about a request? To be overridden."""
        return True

    def rule_for(self, request: Request, view: APIView) -> Rule | None:
        """The rule that a request meets; None if it meets none."""
        if not self.is_for(request, view):
            return None
        if self.rule is not None:
            return self.rule
        return _rule(type(self), self.scope_of(view), self.rate, self.key_of(request))

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Ask, for this throttle and all others of the view that are not asked yet; says whether the request goes on.

        :raises APIException: with 503 if the store does not answer and the rule is closed, 403 if the caller's network
            is refused, 413 if the request costs more than its limit can ever admit.
        """
        rule = self.rule_for(request, view)
        if rule is None:
            return True
        exchange = exchange_of(request)
        if exchange is None:
            exchange = Exchange(request)
            exchange.is_bare = True
        if rule not in exchange.asked:
            rules = [rule, *_others(request, view, rule, exchange)]
            exchange.is_asked = True  # by the middleware, or by nobody: throttles ask for themselves alone
            asked = exchange.ask(project_limits().blocking, DjangoRequest(request, is_async=False), rules)
            is_admitted = run(asked)
            if exchange.is_bare:
                view.headers.update(exchange.fields())
            if not is_admitted:
                view.headers["Cache-Control"] = "no-store"
            elif exchange.is_bare and exchange.is_unfinished:
                raise InvalidUse("a throttle whose rule looks at the response needs RateLimitMiddleware in MIDDLEWARE")
        shown = exchange.shown
        if shown is None or shown.is_admitted:
            return True
        if shown.refusal in _STATUSES:
            raise _refused(_STATUSES[shown.refusal])
        decision = shown.decision
        self._wait = None if decision is None else decision.retry_after
        return False

    def wait(self) -> float | None:
        """For how many seconds a denied caller has to wait: exact, and rounded up by REST framework."""
        return self._wait

    @classmethod
    def listed_rule(cls, view: Any, initial: Mapping[str, Any]) -> Rule | None:  # noqa: ARG003 - for subclasses
        """The rule, as lists of routes show it; None if there is none for a view."""
        if cls.rule is not None:
            return cls.rule
        return _rule(cls, cls.scope, cls.rate, cls.key) if cls.scope or cls.rate is not None else None


class UserRateThrottle(HeadgateThrottle):
    """As REST framework's: a share for each user; for callers who are none, by their address."""

    scope = "user"

    def key_of(self, request: Request) -> KeyOfRule | None:
        """The user, or else the address."""
        return _user_or_address(request)


class AnonRateThrottle(HeadgateThrottle):
    """As REST framework's: for callers who are no users, by their address."""

    scope = "anon"
    key = "ip"

    def is_for(self, request: Request, view: APIView) -> bool:
        """Is the caller nobody's user?"""
        return not (request.user and request.user.is_authenticated)


class ScopedRateThrottle(HeadgateThrottle):
    """As REST framework's: for views with a `throttle_scope`, by the rate of that scope. Actions of a view set may have
    their own: `@action(throttle_scope="export")`; and so may methods: `throttle_scope = {"create": "writes"}`.
    """

    def key_of(self, request: Request) -> KeyOfRule | None:
        """The user, or else the address."""
        return _user_or_address(request)

    def scope_of(self, view: APIView) -> str | None:
        """The view's `throttle_scope`, or what it says of the action or method."""
        given = getattr(view, "throttle_scope", None)
        if isinstance(given, Mapping):
            method = (view.request.method or "").lower()
            given = given.get(getattr(view, "action", None) or method, given.get(method))
        return None if given is None else str(given)

    def rule_for(self, request: Request, view: APIView) -> Rule | None:
        """The rule of the scope; None for a view without one."""
        return super().rule_for(request, view) if self.scope_of(view) else None

    @classmethod
    def listed_rule(cls, view: Any, initial: Mapping[str, Any]) -> Rule | None:
        """As above; scopes by action are not listed."""
        scope = initial.get("throttle_scope", getattr(view, "throttle_scope", None))
        return _rule(cls, scope, cls.rate, cls.key) if isinstance(scope, str) else None


def _others(request: Request, view: APIView, rule: Rule, exchange: Exchange) -> list[Rule]:
    """The rules of the view's other throttles, to be asked in the same round trip."""
    from rest_framework.views import APIView  # by now it is there; see above

    rules: list[Rule] = []
    if len(view.throttle_classes) == 1 and type(view).get_throttles is APIView.get_throttles:
        return rules
    for throttle in view.get_throttles():
        if isinstance(throttle, HeadgateThrottle):
            other = throttle.rule_for(request, view)
            if other is not None and other is not rule and other not in rules and other not in exchange.asked:
                rules.append(other)
    return rules


_rules: Final[dict[tuple[Any, ...], Rule | None]] = {}
"""The rule of each throttle with its scope, rate and key: one for all its instances."""


def _rule(
    throttle: type[HeadgateThrottle], scope: str | None, rate: LimitLike | None, key: KeyOfRule | None
) -> Rule | None:
    known = (throttle, scope, rate, key)
    if known not in _rules:
        made = _made(throttle, scope, rate, key)
        _rules.setdefault(known, made)  # whoever comes first makes it for all threads
    return _rules[known]


def _made(
    throttle: type[HeadgateThrottle], scope: str | None, rate: LimitLike | None, key: KeyOfRule | None
) -> Rule | None:
    if rate is None:
        if scope is None:
            raise InvalidUse(f"{throttle.__qualname__} has no rate: give it rate=..., rule=... or scope=...")
        rates = getattr(throttle, "THROTTLE_RATES", None) or api_settings.DEFAULT_THROTTLE_RATES
        if scope not in rates:
            raise InvalidUse(f"DEFAULT_THROTTLE_RATES has no rate for the scope {scope!r} of {throttle.__qualname__}")
        rate = rates[scope]
        if rate is None:
            return None
    return Rule(rate, name=scope or throttle.__name__, key=key)


def _user_or_address(request: Request) -> KeyOfRule:
    user = request.user
    return "user" if user and user.is_authenticated and getattr(user, "pk", None) is not None else "ip"


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("REST_FRAMEWORK", "HEADGATE"):
        _rules.clear()


setting_changed.connect(_forget, dispatch_uid="headgate.web.django.drf")


def _refused(status: int) -> APIException:
    said = {
        503: "The rate limiter does not answer.",
        403: "Your network is refused.",
        413: "The request is too costly.",
    }
    error = APIException(said[status])
    error.status_code = status
    return error
