"""System checks: what `manage.py check` says about the settings of rate limits. This module decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

from headgate.errors import HeadgateError
from headgate.web.django.conf import KEYS, NAME, ProjectLimits
from headgate.web.django.middleware import RateLimitMiddleware

AUTHENTICATION: Final = "django.contrib.auth.middleware.AuthenticationMiddleware"


def check_settings(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    """See whether the settings are understood, and take effect."""
    try:
        limits = ProjectLimits(_given())
        rules = limits.either.rules
    except HeadgateError as error:
        return [Error(f"{NAME} is not understood: {error}", hint=_hint(error), id="headgate.E001")]
    found: list[CheckMessage] = []
    if rules.all and not _has_middleware():
        found.append(
            checks.Warning(
                f"{NAME} has limits, and no middleware that asks them.",
                hint="Add 'headgate.web.django.RateLimitMiddleware' to MIDDLEWARE.",
                id="headgate.W002",
            )
        )
    asks_for_users = "user" in rules.identity.sources or any(rule.key == "user" for rule in rules.all)
    if asks_for_users and AUTHENTICATION not in settings.MIDDLEWARE:
        found.append(
            checks.Warning(
                "Limits are by user, and no middleware knows the user: all callers are taken for nobody's.",
                hint=f"Add {AUTHENTICATION!r} to MIDDLEWARE, or leave 'user' out of the identity.",
                id="headgate.W003",
            )
        )
    found += _check_rates()
    return found


def check_deployment(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    """See whether the settings are fit for production: `manage.py check --deploy`."""
    try:
        limits = ProjectLimits(_given())
        rules = limits.either.rules
    except HeadgateError:
        return []  # said by the other check
    found: list[CheckMessage] = []
    if limits.is_in_memory:
        found.append(
            checks.Warning(
                f"{NAME} counts in memory, each worker by itself: with four of them, callers have four times as much.",
                hint="Give it a 'store' that workers share, such as 'redis://localhost:6379/0'.",
                id="headgate.W004",
            )
        )
    proxied = [
        name
        for name in ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT")
        if getattr(settings, name, None)
    ]
    if proxied and "ip" in rules.identity.sources and getattr(rules.identity, "proxies", None) is None:
        found.append(
            checks.Warning(
                f"{proxied[0]} says that there is a proxy, and {NAME} trusts none: all callers have the proxy's "
                "address, and share their limits.",
                hint="Say how many proxies there are: 'identity': Identity(\"ip\", proxies=Proxies(count=1)).",
                id="headgate.W005",
            )
        )
    return found


def _given() -> Any:
    """The setting, to be looked at only."""
    given = getattr(settings, NAME, {})
    return {**given, "watch": False} if isinstance(given, dict) and "config" in given else given


def _has_middleware() -> bool:
    for path in settings.MIDDLEWARE:
        try:
            found = import_string(path)
        except ImportError:
            continue  # Django says so
        if isinstance(found, type) and issubclass(found, RateLimitMiddleware):
            return True
    return False


def _check_rates() -> Iterator[CheckMessage]:
    """See whether the rates of REST framework are limits, where our throttles read them."""
    framework = getattr(settings, "REST_FRAMEWORK", None) or {}
    ours = [path for path in framework.get("DEFAULT_THROTTLE_CLASSES", ()) if str(path).startswith("headgate.")]
    if not ours:
        return
    from headgate.limits.grammar import parse_limit

    for scope, rate in framework.get("DEFAULT_THROTTLE_RATES", {}).items():
        try:
            if rate is not None:
                parse_limit(rate)
        except HeadgateError as error:
            yield Error(
                f"DEFAULT_THROTTLE_RATES has a rate for {scope!r} that is no limit: {error}",
                hint="Write it as '100/day' or '5/10s'.",
                id="headgate.E006",
            )


def _hint(error: HeadgateError) -> str:
    if isinstance(error, ValueError):
        return "A limit is written as '100/minute', '10/30s' or 'sliding-window 100/hour'."
    return f"{NAME} may have {', '.join(repr(key) for key in KEYS)}."
