"""The decorator behind `Limiter.limit` and `AsyncLimiter.limit`, for blocking and for async functions.

It must not know how a limiter decides: it calls `try_acquire`, `acquire` or `hold`, and the function only after
those let it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from headgate.errors import InvalidUse, LimitExceeded
from headgate.policy import CallLimit, Costs, Keys

if TYPE_CHECKING:
    from headgate.limiter import AsyncLimiter, Limiter

P = ParamSpec("P")
R = TypeVar("R")
KeyOfCall = Keys | Callable[..., Keys]
CostOfCall = Costs | Callable[..., Costs]


def decorator(
    blocking: Limiter,
    awaiting: AsyncLimiter,
    key: KeyOfCall,
    cost: CostOfCall,
    timeout: float | None,
    limit: CallLimit,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """What `limit(...)` returns: blocking functions ask `blocking`, async ones `awaiting`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function):
            raise InvalidUse(
                f"a decorator is made by limit(key=...), and decorates a function, not {type(function).__name__}"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            name = getattr(function, "__qualname__", repr(function))
            raise InvalidUse(f"{name} is a generator: limit what it calls, or what calls it")
        if is_async(function):

            @functools.wraps(function)
            async def limited_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                own_key, own_cost = _of_call(key, args, kwargs), _of_call(cost, args, kwargs)
                if timeout == 0:
                    decision = await awaiting.try_acquire(own_key, own_cost, limit=limit)
                    if not decision:
                        raise LimitExceeded(decision)
                else:
                    decision = await awaiting.acquire(own_key, own_cost, timeout=timeout, limit=limit)
                async with awaiting.holding(decision):
                    result: Any = function(*args, **kwargs)
                    return await result

            return cast("Callable[P, R]", limited_async)

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            own_key, own_cost = _of_call(key, args, kwargs), _of_call(cost, args, kwargs)
            if timeout == 0:
                decision = blocking.try_acquire(own_key, own_cost, limit=limit)
                if not decision:
                    raise LimitExceeded(decision)
            else:
                decision = blocking.acquire(own_key, own_cost, timeout=timeout, limit=limit)
            with blocking.holding(decision):
                return function(*args, **kwargs)

        return limited

    return decorate


def is_async(function: Callable[..., Any]) -> bool:
    """Is what a call of this returns to be awaited?"""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _of_call(value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return value(*args, **kwargs) if callable(value) else value
