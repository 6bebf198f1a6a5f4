"""The rate limits of one app of Flask: its requests, and what is decided about them.

This module must not know how they are installed, nor how views come to their rules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import flask
from werkzeug.exceptions import Forbidden, RequestEntityTooLarge, ServiceUnavailable, TooManyRequests
from werkzeug.wrappers import Response

from headgate.decision import Decision
from headgate.rules import Rule
from headgate.web import wsgi
from headgate.web.admission import Admission
from headgate.web.asking import admit
from headgate.web.flask.views import Own, methods_of, own_of, route_name
from headgate.web.limits import RouteEntry
from headgate.web.placing import placed_late, rule_of_method
from headgate.web.wsgi import EXCHANGE, Exchange, WsgiRequest, exchange_of

EXTENSION: Final = "headgate"
"""Where `app.extensions` keeps the limits of an app, and `flask.g` the decision on a request."""


class RateLimitExceeded(TooManyRequests):
    """A request was refused by a limit. A handler of it, or of its status, may answer as it likes: the headers of the
    limit go with that answer, too. `decision` is the one that denied.
    """

    decision: Decision | None = None


_ERRORS: Final = {429: RateLimitExceeded, 503: ServiceUnavailable, 403: Forbidden, 413: RequestEntityTooLarge}


class FlaskRequest(WsgiRequest):
    """A request of Flask, as rules and identities see it."""

    __slots__ = ()

    @property
    def user(self) -> str | None:
        """The user of Flask-Login, if the app has that; or else the one that the server has authenticated."""
        login = sys.modules.get("flask_login")
        if login is not None and hasattr(flask.current_app, "login_manager"):
            user = login.current_user
            if user is not None and user.is_authenticated:
                return str(user.get_id())
        return super().user


class Route(NamedTuple):
    """The route of a request: its name, and its own rules."""

    view: Any
    name: str | None
    own: Own


_NO_ROUTE: Final = Route(None, None, Own())


class FlaskLimits(wsgi.RateLimits):
    """The rate limits of one app of Flask, in `app.extensions["headgate"]`: see `AppLimits`."""

    def __init__(self, extension: object, *rules: Any, **options: Any) -> None:
        super().__init__(*rules, **options)
        self.extension: Final = extension
        """The limits by which views and blueprints have their rules."""
        self.has_started = False
        """Has there been a request?"""
        self._ends_bare = False
        self.looks_at_responses = False
        """Has there been a request of which something was left to do when its response was there?"""
        self._routes: dict[tuple[str, str], Route] = {}

    def routes(self, app: flask.Flask) -> Iterable[RouteEntry]:
        """The routes of an app, with the rules that each meets. Methods that meet different rules have lines each."""
        for url_rule in app.url_map.iter_rules():
            by_rules: dict[tuple[tuple[Rule, ...], bool], list[str]] = {}
            for method in methods_of(url_rule) or ("GET",):
                own = self._route(app, url_rule.endpoint, method).own
                is_exempt = own.is_exempt or self.rules.is_exempt(url_rule.rule)
                given = [rule for rule in own.given if rule.meets((method,))]
                met = (*self.rules.of(url_rule.rule, [method], has_own=bool(given)), *given)
                by_rules.setdefault(((() if is_exempt else met), is_exempt), []).append(method)
            for (met, is_exempt), methods in by_rules.items():
                yield RouteEntry(url_rule.rule, tuple(methods), url_rule.endpoint, met, is_exempt)

    def decide(self, app: flask.Flask) -> Response | None:
        """Ask about the present request, unless it was asked about before; returns the user's answer to a refusal.

        :raises HTTPException: if it is refused, and the user has no answer.
        """
        if not self.limiter.is_enabled:
            flask.g.headgate = None
            return None
        native, exchange = self._exchange(app)
        if exchange.decided and exchange.admission_of(self.limiter) is not None:
            return None
        request = FlaskRequest(native.environ, native)
        endpoint = native.endpoint
        route = _NO_ROUTE if endpoint is None else self._route(app, endpoint, request.method)
        request.route, own = route.name, route.own
        admission = admit(self.limiter, request, own.asked, is_exempt=own.is_exempt)
        exchange.decided.append((self.limiter, admission))
        if own.given:
            exchange.asked = (*exchange.asked, *own.given)
        return self._told(app, admission)

    def decide_late(self, app: flask.Flask, rule: Rule, method: str) -> Response | None:
        """Ask about a rule of a view that another decorator has hidden. One that was asked is not asked again.

        :param method: the method of a class-based view whose rule it is; empty for other functions.
        :raises HTTPException: as `decide`.
        """
        if not self.limiter.is_enabled:
            return None
        _, exchange = self._exchange(app)
        if rule in exchange.asked:
            return None
        known = exchange.admission_of(self.limiter)
        if known is None:
            refusal = self.decide(app)
            known = exchange.admission_of(self.limiter)
            if refusal is not None or known is None or rule in exchange.asked:
                return refusal
        exchange.asked = (*exchange.asked, rule)
        native_request = known.request.native
        own = (
            self._route(app, native_request.endpoint, known.request.method).own.asked if native_request.endpoint else ()
        )
        asked = placed_late(rule_of_method(rule, method) if method else rule, own, exchange.late)
        admission = admit(self.limiter, known.request, (asked,), known=known)
        return self._told(app, admission)

    def _end_bare(self) -> None:
        """End an exchange at which no server looks, as in a test that makes a context by itself."""
        exchange = exchange_of(flask.request.environ)
        if exchange is not None and exchange.is_bare:
            exchange.end()

    def _exchange(self, app: flask.Flask) -> tuple[flask.Request, Exchange]:
        # Any, because a proxy does not tell type checkers how to get behind it.
        proxy: Any = flask.request
        native: flask.Request = proxy._get_current_object()
        exchange = exchange_of(native.environ)
        if exchange is None:
            exchange = native.environ[EXCHANGE] = Exchange(self.limiter)
            exchange.is_bare = True
            if not self._ends_bare:
                self._ends_bare = True
                app.teardown_request_funcs.setdefault(None, []).append(lambda _: self._end_bare())
        return native, exchange

    def _route(self, app: flask.Flask, endpoint: str, method: str) -> Route:
        view = app.view_functions.get(endpoint)
        route = self._routes.get((endpoint, method), _NO_ROUTE)
        if view is not route.view:
            names = endpoint.split(".")[:-1]
            blueprints = [app.blueprints.get(".".join(names[:count])) for count in range(len(names), 0, -1)]
            own = own_of(self.extension, view, blueprints, method)
            route = Route(view, route_name(app.url_map.iter_rules(endpoint)), own)
            self._routes[endpoint, method] = route
        return route

    def _told(self, app: flask.Flask, admission: Admission) -> Response | None:
        decision = flask.g.headgate = admission.decision
        if admission.refusal is None:
            if admission.is_unfinished:
                self.looks_at_responses = True
            return None
        if self.on_denied is not None:
            own = self.on_denied(admission.request.native, decision)
            if own is not None:
                return app.make_response(own)
        status, headers, body = self.limiter.refuse(admission)
        response = app.response_class(body or None, status, list(headers))  # empty bytes would say 0
        refused = _ERRORS.get(status, RateLimitExceeded)(response=response)
        if isinstance(refused, RateLimitExceeded):
            refused.decision = decision
        raise refused
