"""The extension: installs rate limits in apps of Flask, and gives rules to views and blueprints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, Unpack

import click
import flask
from flask.views import View
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from headgate.decision import Decision
from headgate.errors import InvalidUse
from headgate.limiter.decorator import is_async
from headgate.limiter.limiters import Limiter
from headgate.limits import Limit
from headgate.rules import Rule
from headgate.rules.rule import LimitLike
from headgate.web.audit import audit, log_routes
from headgate.web.flask.of_app import EXTENSION, FlaskLimits
from headgate.web.flask.settings import OPTIONS, configured, nearest
from headgate.web.flask.views import add_rule, exempt_from, name_of
from headgate.web.limits import installed
from headgate.web.options import LimitsOptions, RuleOptions
from headgate.web.wsgi import answer, close, exchange_of

T = TypeVar("T")
OwnLimit = LimitLike | Sequence[LimitLike] | Mapping[str, LimitLike] | Rule | Limiter
"""The limit of a route: as text or object, several, several with names; or a rule or limiter that is there already."""

_NOT_OF_STORES: Final = frozenset(
    {
        "identity",
        "exempt",
        "allow",
        "deny",
        "penalty",
        "headers",
        "reset",
        "retry_after",
        "header_names",
        "partition_secret",
        "body",
        "on_denied",
    }
)
"""The options that can be looked at before there is an app."""


class RateLimits:
    """The rate limits of an app of Flask, or of several: see `AppLimits`. Each app has limits of its own by the same
    rules; what its `config` says goes before what is given here. Safe to share between threads.

        limits = RateLimits("100/minute")
        limits.init_app(app)

    :param rules: limits, as text or object, for the routes without rules of their own; and `Rule`s.
    :param app: the app to be put behind them; see `init_app`.
    :param options: as for `AppLimits`. `HEADGATE_STORE` of the app's config says the `store`, and so on.
    :raises LimitError, StoreURLError, InvalidUse, MissingExtra: as limiters do, or if something else does not fit.
    """

    def __init__(
        self, *rules: str | Limit | Rule | Limiter, app: flask.Flask | None = None, **options: Unpack[LimitsOptions]
    ) -> None:
        self._rules: Final = rules
        self._options: Final[dict[str, Any]] = dict(options)
        for name in options:
            if name not in OPTIONS:
                raise InvalidUse(f"there is no option {name!r}{nearest(name, OPTIONS)}")
        looked_at = {name: value for name, value in self._options.items() if name in _NOT_OF_STORES}
        self._sample: Final = FlaskLimits(self, *rules, enabled=True, **looked_at)
        """Mistakes are found here and now, and not only when there is an app."""
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Put an app behind its limits.

        :raises InvalidUse: if the app has limits, or its config has a setting that there is not.
        :raises HeadgateError: if a setting is not understood.
        """
        if EXTENSION in app.extensions:
            raise InvalidUse("this app has rate limits: give its one RateLimits all rules")
        rules, options = configured(app.config, self._rules, self._options)
        limits = FlaskLimits(self, *rules, **options)
        preprocess, finalize, inner = app.preprocess_request, app.finalize_request, app.wsgi_app

        def preprocess_request(*args: Any, **kwargs: Any) -> Any:
            try:
                answered = preprocess(*args, **kwargs)
            except Exception:
                refusal = limits.decide(app)
                if refusal is None:
                    raise
                return refusal
            try:
                refusal = limits.decide(app)
            except HTTPException:
                close(answered)
                raise
            if refusal is None:
                return answered
            close(answered)
            return refusal

        def finalize_request(*args: Any, **kwargs: Any) -> Any:
            response = finalize(*args, **kwargs)
            if not limits.looks_at_responses:
                return response
            is_plain_error = any(isinstance(one, HTTPException) and one.response is None for one in args)
            exchange = exchange_of(flask.request.environ)
            if exchange is not None and exchange.is_unfinished:  # Flask makes a stream of a plain error
                exchange.is_whole = is_plain_error or not response.is_streamed
            return response

        def wsgi_app(environ: Any, start_response: Any) -> Any:
            if not limits.has_started:
                limits.has_started = True
                _announce(app)
            if exchange_of(environ) is not None:  # somebody further out ends it
                return inner(environ, start_response)
            return answer(inner, limits.limiter, environ, start_response)

        # Of this app alone; the last as Flask says that it is done.
        app.preprocess_request = preprocess_request  # type: ignore[method-assign]
        app.finalize_request = finalize_request  # type: ignore[method-assign]
        app.wsgi_app = wsgi_app  # type: ignore[method-assign]
        app.cli.add_command(_limits)
        app.extensions[EXTENSION] = installed[app] = limits

    def limit(self, limit: OwnLimit, /, **options: Unpack[RuleOptions]) -> Callable[[T], T]:
        """A decorator of views, async or not, of their classes and methods, and of blueprints: these have rules of
        their own, in place of the defaults. Without a name, each route has a share of its own.

        :raises LimitError, InvalidUse: if the limit is not understood, is asyncio's, or an option does not fit.
        """
        rule = self._sample.own_rule(limit, dict(options))

        def decorate(target: Any) -> Any:
            if isinstance(target, flask.Blueprint):
                add_rule(self, target, rule)
            elif isinstance(target, type):
                if not issubclass(target, View):
                    raise InvalidUse(f"{target.__qualname__} is no View")
                add_rule(self, target, rule)
                target.decorators = [*target.decorators, functools.partial(self._limited, rule=rule)]
            elif callable(target):
                return self._limited(target, rule)
            else:
                raise InvalidUse(f"limit(...) decorates a view or a blueprint, not {target!r}")
            return target

        return decorate

    def limit_blueprint(
        self, blueprint: flask.Blueprint, limit: OwnLimit, /, **options: Unpack[RuleOptions]
    ) -> flask.Blueprint:
        """Give all views of a blueprint, and of those nested in it, a rule: as `limit(...)(blueprint)`.

        :raises LimitError, InvalidUse: as `limit` does.
        """
        return self.limit(limit, **options)(blueprint)

    def exempt(self, target: T) -> T:
        """A decorator of views, of their classes and methods, and of blueprints: they meet no rule. In a blueprint that
        is exempt, a view with a rule of its own meets rules all the same. Networks that are refused stay so.
        """
        exempt_from(self, target)
        return target

    @property
    def decision(self) -> Decision | None:
        """The decision on the present request that binds, the one that is nearest to denying; None if no rule was
        asked. It is at `flask.g.headgate`, too.
        """
        found: Decision | None = flask.g.get(EXTENSION)
        return found

    def _limited(self, view: Any, rule: Rule) -> Any:
        name = getattr(view, "__name__", "")
        limited: Any

        def ask(args: tuple[Any, ...]) -> Response | None:
            if not flask.has_request_context():
                return None
            # Any, as in `_exchange`.
            proxy: Any = flask.current_app
            limits = proxy.extensions.get(EXTENSION)
            if limits is None or limits.extension is not self:
                raise InvalidUse(f"the limits of {name_of(view)} are not installed in this app: limits.init_app(app)")
            is_method = bool(args) and isinstance(args[0], View) and name != "dispatch_request"
            found: Response | None = limits.decide_late(proxy._get_current_object(), rule, name if is_method else "")
            return found

        if is_async(view):

            @functools.wraps(view)
            async def limited_async(*args: Any, **kwargs: Any) -> Any:
                refusal = ask(args)
                return await view(*args, **kwargs) if refusal is None else refusal

            limited = limited_async
        else:

            @functools.wraps(view)
            def limited_blocking(*args: Any, **kwargs: Any) -> Any:
                refusal = ask(args)
                return view(*args, **kwargs) if refusal is None else refusal

            limited = limited_blocking
        add_rule(self, limited, rule)
        return limited


@click.command("limits")
@click.option("--strict", is_flag=True, help="Fail if a route has neither a limit nor an exemption.")
@flask.cli.with_appcontext
def _limits(*, strict: bool) -> None:
    """List the routes, and the limits that each meets."""
    # Any, as in `_exchange`.
    proxy: Any = flask.current_app
    found = audit(proxy._get_current_object())
    click.echo(found)
    if strict and found.unlimited:
        raise click.exceptions.Exit(1)


def _announce(app: flask.Flask) -> None:
    """Log the routes without a limit."""
    log_routes(app)
