"""The setting `HEADGATE`, and the limits that it makes: one set of rules, asked by a blocking and by an async side.

Both sides share a store and all names in it: a project counts the same under WSGI and under ASGI. This module must not
know requests.
"""

from __future__ import annotations

import difflib
import inspect
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from headgate.errors import InvalidUse
from headgate.identity import Identity
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.rules import Rule
from headgate.stores.memory import MemoryStore
from headgate.web.limits import AppLimits, RouteEntry

NAME: Final = "HEADGATE"
KEYS: Final = (
    "limits",
    "rules",
    *(name for name, one in inspect.signature(AppLimits).parameters.items() if one.kind is one.KEYWORD_ONLY),
)
"""The keys of the setting: those of the limits of any app, in code."""
FUNCTIONS: Final = ("key", "cost", "tier", "limit_for", "exempt_when", "charge_when", "actual_cost", "reserve")
"""The parts of a rule that may be functions, or, in the setting, dotted paths of functions."""

T = TypeVar("T")


class BlockingLimits(AppLimits[Limiter]):
    """The limits of a project where it may block."""

    kind = Limiter

    def routes(self, app: Any) -> Iterable[RouteEntry]:
        """The routes of a module of URLs; of None, those of the project."""
        from headgate.web.django.routes import routes

        return routes(self.rules, app)


class AwaitingLimits(AppLimits[AsyncLimiter]):
    """The limits of a project in an event loop."""

    kind = AsyncLimiter

    def routes(self, app: Any) -> Iterable[RouteEntry]:
        """The routes of a module of URLs; of None, those of the project."""
        from headgate.web.django.routes import routes

        return routes(self.rules, app)


class ProjectLimits:
    """The limits of a project, by its settings. Safe to share between threads and event loops.

    :param given: the value of `HEADGATE`.
    :raises HeadgateError: if it is not understood.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping):
            raise InvalidUse(f"{NAME} is a dict, such as {{'limits': ['100/minute']}}, not {given!r}")
        for key in given:
            _know(key, KEYS, f"{NAME} has no")
        options = {key: value for key, value in given.items() if key not in ("limits", "rules")}
        self.rules: Final = (*_texts(given.get("limits", ())), *map(_rule, given.get("rules", ())))
        if isinstance(options.get("identity"), Mapping):
            options["identity"] = _identity(options["identity"])
        if isinstance(options.get("on_denied"), str):
            options["on_denied"] = _imported(options["on_denied"], "on_denied")
        self._options: Final = options
        self._lock: Final = threading.RLock()
        self._blocking: BlockingLimits | None = None
        self._awaiting: AwaitingLimits | None = None

    @property
    def blocking(self) -> BlockingLimits:
        """Those that block.

        :raises InvalidUse: if a function of the rules is async, or a limiter.
        """
        with self._lock:
            if self._blocking is None:
                self._blocking = BlockingLimits(*self.rules, **self._options_beside(self._awaiting))
            return self._blocking

    @property
    def awaiting(self) -> AwaitingLimits:
        """Those that are awaited.

        :raises InvalidUse: if a limiter of the rules blocks.
        """
        with self._lock:
            if self._awaiting is None:
                self._awaiting = AwaitingLimits(*self.rules, **self._options_beside(self._blocking))
            return self._awaiting

    @property
    def either(self) -> AppLimits[Any]:
        """Those of the side that its rules are for: async ones if a function or a limiter is."""
        try:
            return self.blocking
        except InvalidUse:
            return self.awaiting

    @property
    def is_in_memory(self) -> bool:
        """Does each process count by itself?"""
        return isinstance(self.either.limiter.store, MemoryStore)

    def _options_beside(self, other: AppLimits[Any] | None) -> dict[str, Any]:
        """The options of one side: where the other has its state in memory, that is theirs together."""
        if other is not None and isinstance(other.limiter.store, MemoryStore):
            return {**self._options, "store": other.limiter.store}
        return self._options


_current: ProjectLimits | None = None
_making: Final = threading.Lock()


def project_limits() -> ProjectLimits:
    """The limits of the project, made when they are first asked for.

    :raises HeadgateError: if the setting is not understood.
    """
    global _current  # noqa: PLW0603 - settings are the process's, too
    current = _current
    if current is None:
        with _making:
            current = _current
            if current is None:
                current = _current = ProjectLimits(getattr(settings, NAME, {}))
    return current


def _forget(*, setting: str, **_: Any) -> None:
    global _current  # noqa: PLW0603 - as above
    if setting == NAME:
        _current = None


setting_changed.connect(_forget, dispatch_uid="headgate.web.django.conf")


def _texts(limits: Any) -> list[Any]:
    return list(limits) if isinstance(limits, (list, tuple)) else [limits]


def _rule(given: Any) -> Rule:
    if isinstance(given, Rule):
        return given
    if not isinstance(given, Mapping):
        return Rule(given)
    known = tuple(name for name in Rule.__dataclass_fields__)
    options = dict(given)
    for name, value in options.items():
        _know(name, known, "a rule has no")
        if name in FUNCTIONS:
            options[name] = _function(value, name)
    return Rule(**options)


def _function(value: Any, what: str) -> Any:
    if isinstance(value, str) and "." in value:
        return _imported(value, what)
    if isinstance(value, Mapping):
        return {part: _function(one, what) for part, one in value.items()}
    return value


def _identity(given: Mapping[str, Any]) -> Identity:
    options = dict(given)
    sources = options.pop("sources", ("ip",))
    sources = (sources,) if isinstance(sources, str) else sources
    return Identity(*[_function(source, "identity") for source in sources], **options)


def _imported(path: str, what: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise InvalidUse(f"{what} names {path!r}, which cannot be imported: {error}") from None


def _know(key: str, known: Iterable[str], complaint: str) -> None:
    """Refuse a key that nobody knows.

    :raises InvalidUse: with the nearest that is known.
    """
    if key in known:
        return
    near = difflib.get_close_matches(str(key), list(known), n=1)
    hint = f": did you mean {near[0]!r}?" if near else f"; it may have {', '.join(sorted(known))}"
    raise InvalidUse(f"{complaint} {key!r}{hint}")
