"""One exchange, a request and its response: all that is decided about it, where several places have rules to ask.

The middleware asks the rules of the app and of the view; throttles of REST framework, and decorators that the
middleware cannot see, ask theirs later. Each such asking is a unit. Whoever began the exchange ends it: every unit is
finished in the way in which it was asked, blocking or not, and the client is told of the limit that binds among them.
This module must not know where its rules come from.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from headgate.drive import Plan
from headgate.limiter.limiters import AsyncLimiter
from headgate.plans.commands import Call
from headgate.rules import Rule
from headgate.web.admission import Admission
from headgate.web.charging import Finals
from headgate.web.core import WebLimiter, run, run_async
from headgate.web.django.request import DjangoRequest, http_of
from headgate.web.django.views import all_rules_of
from headgate.web.limits import AppLimits
from headgate.web.messages import WebResponse
from headgate.web.placing import placed_late

ATTRIBUTE: Final = "_headgate_exchange"
"""Where a request keeps its exchange."""

logger = logging.getLogger("headgate")
_ending: Final[set[asyncio.Task[None]]] = set()
"""Exchanges that end in an event loop without somebody who waits for it."""


class Unit(NamedTuple):
    """Rules that were asked at once."""

    limiter: WebLimiter[Any]
    admission: Admission


class Exchange:
    """A request, what has been asked about it, and by whom. Used by one thread or task at a time."""

    __slots__ = ("_limiter", "asked", "http", "is_asked", "is_bare", "is_late", "late", "shown", "units")

    def __init__(self, native: Any) -> None:
        self.http: Final = http_of(native)
        self.units: Final[list[Unit]] = []
        self.asked: Final[set[Rule]] = set()
        """The rules that routes and throttles have of their own, and that were asked."""
        self.late: Final[list[Rule]] = []
        """The rules that were asked by themselves and that the view was not seen to have."""
        self.is_asked = False
        """Have the rules of the app been asked, or tried to?"""
        self.is_bare = False
        """Does nobody see the response, as there is no middleware?"""
        self.is_late = False
        """Is it asked when the response is there already? It may be a page from a cache, with old fields."""
        self.shown: Admission | None = None
        """The admission that the client is told of."""
        self._limiter: WebLimiter[Any] | None = None
        setattr(self.http, ATTRIBUTE, self)

    @property
    def is_admitted(self) -> bool:
        """Does the request go on?"""
        return self.shown is None or self.shown.is_admitted

    @property
    def is_unfinished(self) -> bool:
        """Is something to be done when the response is there?"""
        units = self.units
        if len(units) == 1:
            return units[0].admission.is_unfinished
        return any(unit.admission.is_unfinished for unit in units) or (len(units) > 1 and not self.is_admitted)

    def ask(
        self,
        limits: AppLimits[Any],
        request: DjangoRequest,
        own: Sequence[Rule],
        *,
        has_own: bool = False,
        is_exempt: bool = False,
    ) -> Plan[Call, bool]:
        """Ask rules of a route, and those of the app where nobody has yet; says whether the request goes on."""
        limiter: WebLimiter[Any] = limits.limiter
        for rule in own:
            _check(limiter, rule)
            self.asked.add(rule)
        if any(rule.is_per_route for rule in own):
            match = self.http.resolver_match
            of_view = () if match is None else all_rules_of(match.func, self.http.method or "GET")
            own = [placed_late(rule, of_view, self.late) for rule in own]
        if not self.is_asked:
            self.is_asked = True
            admission = yield from limiter.admit(request, own, has_own=has_own, is_exempt=is_exempt)
        else:
            own_only = Admission(request)
            own_only.before = [verdict for unit in self.units for verdict in unit.admission.verdicts]
            own_only.shadows = [verdict for unit in self.units for verdict in unit.admission.shadows]
            own_only.is_exempt = bool(self.units) and self.units[0].admission.is_exempt
            admission = yield from limiter.admit(request, own, known=own_only)
        self.units.append(Unit(limiter, admission))
        self._limiter = limiter
        self.shown = admission if len(self.units) == 1 or not admission.is_admitted else self._merged()
        # Any, because a request of Django knows no such attribute.
        any_request: Any = self.http
        any_request.headgate = self.shown
        return admission.is_admitted

    def refusal(self, limits: AppLimits[Any], native: Any) -> Plan[Call, HttpResponseBase]:
        """The response in place of the view's."""
        assert self.shown is not None
        limiter: WebLimiter[Any] = limits.limiter
        if limits.on_denied is not None and self.shown.refusal == "limit":
            own = yield Call(limits.on_denied, (native, self.shown.decision))
            if own is not None:
                own.headers.setdefault("Cache-Control", "no-store")
                response: HttpResponseBase = own
                self.tell(response)
                return response
        answer = limiter.refuse(self.shown)
        return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))

    def tell(self, response: HttpResponseBase) -> None:
        """Put the fields of the limit that binds into a response. A view's own stay as they are."""
        for name, value in self.fields():
            if self.is_late or name not in response.headers:
                response.headers[name] = value

    def fields(self) -> Iterable[tuple[str, str]]:
        """The fields of the limit that binds."""
        return () if self.shown is None or self._limiter is None else self._limiter.fields(self.shown)

    def _merged(self) -> Admission:
        merged = Admission(self.units[0].admission.request)
        merged.verdicts = [verdict for unit in self.units for verdict in unit.admission.verdicts]
        return merged


def exchange_of(native: Any) -> Exchange | None:
    """The exchange of a request, if somebody has begun one."""
    found: Exchange | None = getattr(http_of(native), ATTRIBUTE, None)
    return found


def end(exchange: Exchange, response: HttpResponseBase) -> None:
    """Tell the client, and finish everything: at once, or when a stream has ended."""
    exchange.tell(response)
    if not exchange.is_unfinished:
        return
    said = told(response, exchange.http)
    if response.streaming:
        _end_with(response, functools.partial(_logging, functools.partial(finish, exchange, said)))
    else:
        finish(exchange, said)


async def end_async(exchange: Exchange, response: HttpResponseBase) -> None:
    """The same, in an event loop."""
    exchange.tell(response)
    if not exchange.is_unfinished:
        return
    said = told(response, exchange.http)
    if response.streaming:
        if _is_async(response):
            _end_with_async(response, functools.partial(finish_async, exchange, said))
            finishing = functools.partial(_finish_from_anywhere, exchange, said)
            closers_of(response).append(functools.partial(_logging, finishing))
        else:
            _end_with(response, functools.partial(_logging, functools.partial(_finish_from_anywhere, exchange, said)))
    else:
        await finish_async(exchange, said)


def finish(exchange: Exchange, response: WebResponse | None) -> None:
    """Finish everything that was asked, whatever fails of it.

    :param response: None if the client has gone.
    """
    failure: Exception | None = None
    for unit, plan in _endings(exchange, response):
        try:
            if unit.limiter.kind is AsyncLimiter:
                async_to_sync(run_async)(plan)
            else:
                run(plan)
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


async def finish_async(exchange: Exchange, response: WebResponse | None) -> None:
    """The same, in an event loop."""
    failure: Exception | None = None
    for unit, plan in _endings(exchange, response):
        try:
            if unit.limiter.kind is AsyncLimiter:
                await run_async(plan)
            else:
                await sync_to_async(run)(plan)
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


def closers_of(response: Any) -> list[Any]:
    """The functions that are called when a response is closed. The name is private, and as old as Django 3.1."""
    closers: list[Any] = response._resource_closers
    return closers


def told(response: HttpResponseBase, http: HttpRequest) -> WebResponse:
    """A response, as rules see it."""
    return WebResponse(response.status_code, dict(response.items()), http)


@functools.lru_cache(maxsize=4096)
def _check(limiter: WebLimiter[Any], rule: Rule) -> None:
    """See once whether a rule fits the framework."""
    limiter.check(rule)


def _endings(exchange: Exchange, response: WebResponse | None) -> list[tuple[Unit, Plan[Call, None]]]:
    """All that is left to do, of each unit, once."""
    units, is_admitted = list(exchange.units), exchange.is_admitted
    exchange.units.clear()
    finals: Finals = {}
    return [
        (unit, unit.limiter.finish(unit.admission, response, finals) if is_admitted else _withdrawal(unit))
        for unit in units
        if unit.admission.is_admitted
    ]


def _withdrawal(unit: Unit) -> Plan[Call, None]:
    """Give back what was taken for a request that another unit has denied."""
    yield from unit.limiter.finish(unit.admission, None)
    for part, decision in unit.admission.verdicts:
        yield Call(part.limiter.refund, (decision,))


def _finish_from_anywhere(exchange: Exchange, response: WebResponse) -> None:
    """Finish in the event loop of the request, from a thread of it or from the loop itself."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        async_to_sync(finish_async)(exchange, response)
        return
    task = loop.create_task(finish_async(exchange, response))
    _ending.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[None]) -> None:
    _ending.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a streamed response could not be settled", exc_info=error)


def _is_async(response: Any) -> bool:
    """Is the content of a stream async?"""
    return bool(getattr(response, "is_async", False))


def _end_with(response: Any, finishing: Callable[[], None]) -> None:
    """Finish when a stream has ended, before its client knows; or else when it is closed. Files that the server sends
    by itself are left to it.
    """
    closers_of(response).append(finishing)
    if _is_async(response) or getattr(response, "file_to_stream", None) is not None:
        return

    def ending(content: Iterable[Any]) -> Iterator[Any]:
        yield from content
        finishing()

    response.streaming_content = ending(response.streaming_content)


def _end_with_async(response: Any, finishing: Callable[[], Awaitable[None]]) -> None:
    """The same for content that is async, save for the closing."""

    async def ending(content: AsyncIterable[Any]) -> AsyncIterator[Any]:
        async for part in content:
            yield part
        try:
            await finishing()
        except Exception:
            logger.exception("a streamed response could not be settled")

    response.streaming_content = ending(response.streaming_content)


def _logging(finishing: functools.partial[None]) -> None:
    """Django drops in silence what fails when a response is closed."""
    try:
        finishing()
    except Exception:
        logger.exception("a streamed response could not be settled")
