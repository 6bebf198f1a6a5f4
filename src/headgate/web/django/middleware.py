"""The middleware: each request meets its rules once, and each response says how things stand.

It decides when URLs have led to a view, and before that runs: by then every other middleware has seen the request, the
user is known, and the view's own rules are asked together with those of the app. A request that leads to no view, or
that another middleware answers, is decided about when its response comes by. This module must not know how views come
to their rules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from headgate.web.django.asking import ask, ask_async
from headgate.web.django.conf import project_limits
from headgate.web.django.exchange import Exchange, closers_of, end, end_async, exchange_of, finish, finish_async
from headgate.web.django.views import own_of

Response = HttpResponseBase


class RateLimitMiddleware:
    """Puts a project behind its limits: `MIDDLEWARE = [..., "headgate.web.django.RateLimitMiddleware"]`.

    Under WSGI it blocks, under ASGI it does not. Safe to share between threads and tasks.

    :raises HeadgateError: if the setting `HEADGATE` is not understood.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response: Final = get_response
        self._is_async: Final = bool(iscoroutinefunction(get_response))
        self.process_view: Final[Callable[..., Any]] = (
            self._process_view_async if self._is_async else self._process_view
        )
        limits = project_limits()
        if self._is_async:
            # Any, because to the type checker an object is no function.
            this: Any = self
            markcoroutinefunction(this)
            _ = limits.awaiting
        else:
            _ = limits.blocking

    def __call__(self, request: HttpRequest) -> Response | Awaitable[Response]:
        """Answer a request."""
        if exchange_of(request) is not None:  # the middleware is there twice
            return cast("Response", self.get_response(request))
        if self._is_async:
            return self._answer_async(request)
        exchange = Exchange(request)
        try:
            response: Response = self.get_response(request)
        except BaseException:
            finish(exchange, None)
            raise
        if not exchange.is_asked:
            exchange.is_late = True
            own = _own(request)
            refusal: Response | None = ask(exchange, request, own.rules, has_own=own.has_later, is_exempt=own.is_exempt)
            if refusal is not None:
                response = _in_place_of(response, refusal)
        end(exchange, response)
        return response

    async def _answer_async(self, request: HttpRequest) -> Response:
        exchange = Exchange(request)
        try:
            response: Response = await self.get_response(request)
        except BaseException:
            await finish_async(exchange, None)
            raise
        if not exchange.is_asked:
            exchange.is_late = True
            own = _own(request)
            refusal = await ask_async(exchange, request, own.rules, has_own=own.has_later, is_exempt=own.is_exempt)
            if refusal is not None:
                response = _in_place_of(response, refusal)
        await end_async(exchange, response)
        return response

    def _process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> Response | None:
        exchange = exchange_of(request)
        if exchange is None or exchange.is_asked:
            return None
        own = own_of(view, request.method or "GET")
        refusal: Response | None = ask(exchange, request, own.rules, has_own=own.has_later, is_exempt=own.is_exempt)
        return refusal

    async def _process_view_async(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> Response | None:
        exchange = exchange_of(request)
        if exchange is None or exchange.is_asked:
            return None
        own = own_of(view, request.method or "GET")
        return await ask_async(exchange, request, own.rules, has_own=own.has_later, is_exempt=own.is_exempt)


def _own(request: HttpRequest) -> Any:
    """The rules of the view to which the URLs led, if they led to one."""
    found = request.resolver_match
    return own_of(None if found is None else found.func, request.method or "GET")


def _in_place_of(response: Response, refusal: Response) -> Response:
    """The refusal; with what is to be closed of the response that nobody will see."""
    closers_of(refusal).extend(closers_of(response))
    return refusal
