"""`limit` and `exempt`, for the views of a project.

The rules are left on the view as an attribute, where the middleware finds them and asks them together with those of the
app. Where it does not, the decorator asks by itself: without the middleware, beneath a decorator that hides the
attribute, or in REST framework. A rule is asked once in either case.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator

from headgate.errors import InvalidUse
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.rules import Rule
from headgate.rules.rule import LimitLike
from headgate.web.django.asking import ask, ask_async
from headgate.web.django.exchange import (
    ATTRIBUTE,
    Exchange,
    end,
    end_async,
    exchange_of,
    finish,
    finish_async,
)
from headgate.web.django.request import http_of
from headgate.web.django.views import EXEMPT, RULES, name_of, operation_of, operations_of, rules_of_operation
from headgate.web.limits import rule_of_route
from headgate.web.messages import WebResponse
from headgate.web.placing import rule_of_method

View = TypeVar("View", bound=Callable[..., Any])


def limit(
    limit: LimitLike | Sequence[LimitLike] | Mapping[str, LimitLike] | Rule | Limiter | AsyncLimiter, **options: Any
) -> Callable[[View], View]:
    """Limit a view: a function, async or not, or a class.

        @limit("5/minute")
        def login(request): ...

        @method_decorator(limit("5/minute"), name="dispatch")
        class Login(View): ...

    :param limit: a limit, several, several by name, a `Rule`, or a limiter of your own: a `Limiter` where the project
        blocks, an `AsyncLimiter` where it does not.
    :param options: as for `Rule`: `name`, `key`, `cost`, `charge_when`, ... Without a name, each route of the view has
        a share of its own.
    :raises LimitError, InvalidUse: if something is not understood.
    """
    rule = rule_of_route(limit, options)

    def decorate(view: Any) -> Any:
        if isinstance(view, type):
            return method_decorator(decorate, name="dispatch")(view)
        if not callable(view):
            raise InvalidUse(f"limit(...) decorates a view, not {view!r}")
        if iscoroutinefunction(view):

            @functools.wraps(view)
            async def limited_async(*args: Any, **kwargs: Any) -> Any:
                native = _request_of(args, view)
                rules = _unasked(native, _rules_of(limited_async, view, native, native is not args[0]))
                if not rules:
                    return await view(*args, **kwargs)
                return await _answer_async(native, rules, view, args, kwargs)

            setattr(limited_async, RULES, (*getattr(view, RULES, ()), rule))
            return limited_async

        @functools.wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            native = _request_of(args, view)
            rules = _unasked(native, _rules_of(limited, view, native, native is not args[0]))
            if not rules:
                return view(*args, **kwargs)
            if getattr(
                _owner_of(view), "view_is_async", False
            ):  # its `dispatch` is no coroutine function, but returns a coroutine
                return _answer_async(native, rules, view, args, kwargs)
            return _answer(native, rules, view, args, kwargs)

        setattr(limited, RULES, (*getattr(view, RULES, ()), rule))
        return limited

    return cast("Callable[[View], View]", decorate)


def exempt(view: View) -> View:
    """Let a view meet no rule, neither of the app nor of its own. Networks that are refused stay so."""
    # Any, because a function or a class is not known to have such an attribute.
    any_view: Any = view
    setattr(any_view, EXEMPT, True)
    return view


def _answer(native: Any, rules: Sequence[Rule], view: Any, args: Any, kwargs: Any) -> Any:
    exchange = exchange_of(native)
    if exchange is not None:
        refusal = ask(exchange, native, rules, name_of(view))
        return refusal if refusal is not None else view(*args, **kwargs)
    exchange = Exchange(native)
    try:
        response = ask(exchange, native, rules, name_of(view))
        if response is None:
            response = view(*args, **kwargs)
    except BaseException as error:
        finish(exchange, _told(error, native))
        raise
    finally:
        delattr(exchange.http, ATTRIBUTE)
    if isinstance(response, HttpResponseBase):
        end(exchange, response)
    else:  # Django is going to complain of it
        finish(exchange, None)
    return response


async def _answer_async(native: Any, rules: Sequence[Rule], view: Any, args: Any, kwargs: Any) -> Any:
    exchange = exchange_of(native)
    if exchange is not None:
        refusal = await ask_async(exchange, native, rules, name_of(view))
        return refusal if refusal is not None else await view(*args, **kwargs)
    exchange = Exchange(native)
    try:
        response: Any = await ask_async(exchange, native, rules, name_of(view))
        if response is None:
            response = view(*args, **kwargs)
            response = await response if isinstance(response, Awaitable) else response
    except BaseException as error:
        await finish_async(exchange, _told(error, native))
        raise
    finally:
        delattr(exchange.http, ATTRIBUTE)
    if isinstance(response, HttpResponseBase):
        await end_async(exchange, response)
    else:  # Django is going to complain of it
        await finish_async(exchange, None)
    return response


def _request_of(args: Sequence[Any], view: Any) -> Any:
    """The request among the arguments of a view: the first, or behind the `self` of a method.

    :raises InvalidUse: if there is none.
    """
    for argument in args[:2]:
        if isinstance(http_of(argument), HttpRequest):
            return argument
    raise InvalidUse(f"{name_of(view)} is limited as a view, and was called without a request")


def _unasked(native: Any, rules: Sequence[Rule]) -> Sequence[Rule]:
    exchange = exchange_of(native)
    return rules if exchange is None else [rule for rule in rules if rule not in exchange.asked]


def _rules_of(limited: Any, view: Any, native: Any, is_method: bool) -> Sequence[Rule]:
    """The rules of a decorated view, of a decorated method of one, or of an operation of django-ninja."""
    if getattr(limited, EXEMPT, False):
        return ()
    rules: Sequence[Rule] = getattr(limited, RULES)
    http = http_of(native)
    match = http.resolver_match
    operations = () if match is None else operations_of(match.func)
    operation = operation_of(operations, http.method or "GET")
    if operation is not None:
        return rules_of_operation(operations, operation, rules)
    if is_method or _owner_of(view) is not None:
        name = view.__name__
        if name != "dispatch":
            return [rule_of_method(rule, name) for rule in rules]
    return rules


def _owner_of(view: Any) -> Any:
    """The class-based view that a bound method is of; None for a function."""
    while not hasattr(view, "__self__"):
        if isinstance(view, functools.partial):
            view = view.func
        elif hasattr(view, "__wrapped__"):
            view = view.__wrapped__
        else:
            return None
    return view.__self__


def _told(error: BaseException, native: Any) -> WebResponse | None:
    """The response that Django is going to make of what a view raised; None if nobody gets one."""
    if not isinstance(error, Exception):
        return None
    status = 500
    if isinstance(error, Http404):
        status = 404
    elif isinstance(error, PermissionDenied):
        status = 403
    elif isinstance(error, (BadRequest, SuspiciousOperation)):
        status = 400
    return WebResponse(status, {}, http_of(native))
