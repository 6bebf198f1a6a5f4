"""The routes of an app, and the limits that each meets. This module must not know a framework."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import InvalidUse
from headgate.web.names import named

if TYPE_CHECKING:
    from headgate.web.limits import RouteEntry

_log: Final = logging.getLogger("headgate.web")


@dataclass(frozen=True, slots=True)
class Audit:
    """The routes of an app. As text it is a table of them."""

    routes: tuple[RouteEntry, ...]
    """All routes, in the order of the app."""

    @property
    def unlimited(self) -> tuple[RouteEntry, ...]:
        """Those that meet no limit, and of which nobody has said so."""
        return tuple([route for route in self.routes if not route.rules and not route.is_exempt])

    @property
    def line(self) -> str:
        """All of it in one line, for the log."""
        count, unlimited = len(self.routes), self.unlimited
        routes = f"headgate: {count} route{'s' if count != 1 else ''}"
        if not unlimited:
            return f"{routes}, each with a limit or exempt"
        return f"{routes}, {len(unlimited)} without a limit: {', '.join(map(_request, unlimited))}"

    def __str__(self) -> str:
        rows = [("method", "path", "answered by", "limits")]
        for route in self.routes:
            limits = "exempt" if route.is_exempt else "; ".join(map(_limits, route.rules)) or "NONE"
            rows.append(("|".join(route.methods) or "any", route.path, route.endpoint, limits))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]) for row in rows
        ]
        return "\n".join([*lines, self.line])


def audit(app: Any, *, strict: bool = False) -> Audit:
    """List the routes of a web app, and the limits that each of them meets.

    :param app: an app of FastAPI, Starlette, Litestar, aiohttp, Flask or Django with limits installed.
    :param strict: are routes without a limit that are not exempt an error?
    :raises InvalidUse: if no limits are installed for the app, or if `strict` finds a route without.
    """
    from headgate.web.limits import limits_of

    limits = limits_of(app)
    if limits is None:
        raise InvalidUse(f"no rate limits are installed for {app!r}: RateLimits(...).init_app(app) does it")
    found = Audit(tuple(limits.routes(app)))
    if strict and found.unlimited:
        raise InvalidUse(
            f"no limit for {', '.join(map(_request, found.unlimited))}: give the app a default, or the route a limit "
            f"of its own or an exemption"
        )
    return found


def log_routes(app: Any) -> None:
    """Log the routes of an app without a limit, when it starts. Whatever goes wrong with that, it starts."""
    try:
        _log.info("%s", audit(app).line)
    except Exception:
        _log.exception("the routes of the app could not be listed")


def _request(route: RouteEntry) -> str:
    return named(route.methods, route.path)


def _limits(rule: Any) -> str:
    limits = " + ".join(f"{part}: {limit}" if part else str(limit) for part, limit in rule.named_limits().items())
    return f"{rule.name}: {limits}" if rule.name else limits
