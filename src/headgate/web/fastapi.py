"""FastAPI: rate limits as a middleware, and as dependencies of routes, routers and apps.

limits = RateLimits("100/minute", store="redis://localhost:6379/0", app=app)

@app.post("/login", dependencies=[Depends(limits.limit("5/minute"))])
def login(): ...
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, Final, Unpack

try:
    import fastapi
    from starlette.requests import HTTPConnection
    from starlette.responses import Response
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("fastapi", "fastapi") from error

from headgate.decision import Decision
from headgate.decision.untouched import untouched
from headgate.errors import InvalidUse
from headgate.hits import Group, Hit
from headgate.rules import Rule
from headgate.web import asgi
from headgate.web.exchange import App
from headgate.web.options import RuleOptions
from headgate.web.starlette import RULES, OwnLimit, RateLimitExceeded, StarletteLimits

__all__ = ["RateLimitExceeded", "RateLimitMiddleware", "RateLimits", "RouteLimit"]

_REFUSED: Final = {
    "description": "Too Many Requests: come back after the time that `Retry-After` says",
    "headers": {
        "Retry-After": {
            "description": "Seconds until the request may be repeated",
            "schema": {"type": "integer", "minimum": 1},
        },
    },
}
"""The refusal in OpenAPI."""
_USE: Final = 'write dependencies=[Depends(limits.limit("5/minute"))]'
_SIGNATURE: Final = inspect.Signature(
    [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
        for name, kind in (("connection", HTTPConnection), ("response", Response))
    ]
)
"""The parameters of the dependency by their types: not each FastAPI reads the names of types that an object's method
has for its parameters."""


class RouteLimit:
    """The limit of a route, as a dependency: `Depends(limits.limit("5/minute"))`. Its value is the decision that binds;
    where no limit is asked, as they are off or the request is exempt, one that allows.
    """

    def __init__(self, limits: RateLimits, rule: Rule) -> None:
        self._limits = limits
        self._rule = rule
        setattr(self, RULES, ((limits, rule),))
        self.__signature__ = _SIGNATURE
        setattr(self, "__call__", self._ask)  # noqa: B010 - by it FastAPI sees that it is to be awaited

    def __call__(self, connection: HTTPConnection, response: Response | None = None) -> Awaitable[Decision]:
        """Ask about a request.

        :raises RateLimitExceeded: if it is refused.
        :raises InvalidUse: if it is called as a decorator.
        """
        if response is None:
            raise InvalidUse(f"limit(...) is a dependency, and no decorator: {_USE}")
        return self._ask(connection, response)

    @property
    def dependency(self) -> Any:
        """There is none: FastAPI looks for it where `Depends` was left out.

        :raises InvalidUse: always.
        """
        raise InvalidUse(f"limit(...) is a function to depend on: {_USE}")

    async def _ask(self, connection: HTTPConnection, response: Response) -> Decision:
        limits = self._limits
        admission, is_bare = await limits.admit_own(connection, self._rule)
        if not admission.is_admitted:
            scope = connection.scope
            if "starlette.exception_handlers" in scope:  # of the app, mounted or not, whose route it is
                scope["starlette.exception_handlers"][0].setdefault(RateLimitExceeded, _answer)
            answer = limits.limiter.refuse(admission)
            raise RateLimitExceeded(admission, answer.status, dict(answer.headers), await limits.denial(admission))
        if is_bare:
            response.headers.update(dict(limits.limiter.fields(admission)))
        decision = admission.decision
        return self._unasked() if decision is None else decision

    def _unasked(self) -> Decision:
        """The decision where nothing was asked: nobody has taken anything."""
        rule = self._rule
        hits = [
            Hit(limit, "*", f"{rule.title}:{part}" if part else rule.title, cost=0)
            for part, limit in rule.named_limits().items()
        ]
        return untouched(Group(tuple(hits)))


class RateLimits(StarletteLimits):
    """The rate limits of an app of FastAPI: see `AppLimits`.

    :param app: the app to be put behind them; see `init_app`.
    """

    def limit(self, limit: OwnLimit, /, **options: Unpack[RuleOptions]) -> RouteLimit:
        """A dependency with which a route has rules of its own, in place of the defaults; likewise all routes of a
        router or an app that has it: each of them a share of its own, unless the rule has a name.

        :raises LimitError, InvalidUse: if the limit is not understood, blocks, or an option does not fit.
        """
        rule = self.own_rule(limit, dict(options))
        self.has_own_routes = True
        return RouteLimit(self, rule)

    async def decision(self, connection: HTTPConnection) -> Decision | None:
        """A dependency: the decision on the request that binds, the one that is nearest to denying; None if no rule was
        asked.
        """
        return self.decision_of(connection)

    def init_app(self, app: fastapi.FastAPI) -> None:  # type: ignore[override]  # an app of FastAPI documents itself
        """As for Starlette; and OpenAPI says which routes may answer 429."""
        super().init_app(app)
        document = app.openapi

        def openapi() -> dict[str, Any]:
            schema = document()
            self._document(app, schema)
            return schema

        app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI says that it is extended

    def _document(self, app: fastapi.FastAPI, schema: dict[str, Any]) -> None:
        for entry in self.routes(app):
            if not entry.rules or all(rule.is_shadow for rule in entry.rules):
                continue
            for method in entry.methods:
                operation = schema.get("paths", {}).get(entry.path, {}).get(method.lower())
                if operation is not None:
                    operation["responses"].setdefault("429", _REFUSED)


class RateLimitMiddleware(asgi.RateLimitMiddleware):
    """Puts an app of FastAPI behind its limits: `app.add_middleware(RateLimitMiddleware, "100/minute")`."""

    limits_class = RateLimits


async def _answer(connection: Any, error: RateLimitExceeded) -> App | None:
    if connection.scope["type"] == "http":
        return error.answer
    await error.answer(connection.scope, connection.receive, connection.send)  # a websocket's handler sends by itself
    return None
