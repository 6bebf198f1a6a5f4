"""The decorator behind `Limiter.limit` and `AsyncLimiter.limit`, for blocking and for async functions.

It must not know how a limiter decides: it calls `try_acquire`, `acquire` or `hold`, and the function only after
those let it. What cannot be decorated is refused at once, and a call that cannot be made asks for nothing.
"""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from headgate.errors import InvalidUse, LimitExceeded, StoreOutage
from headgate.limiter.policy import CallLimit, Costs, Keys, Policy, wait_bound_us
from headgate.runtime.loops import running_loop

if TYPE_CHECKING:
    from headgate.limiter import AsyncLimiter, Limiter

P = ParamSpec("P")
R = TypeVar("R")
KeyOfCall = Keys | Callable[..., Keys | Awaitable[Keys]]
"""A key, or what makes one of a call's arguments; for async functions, it may have to be awaited."""
CostOfCall = Costs | Callable[..., Costs | Awaitable[Costs]]
"""The same for a cost."""

MAX_SHAPES: Final = 256
"""How many ways to call one function are remembered as fitting: with `*args` and `**kwargs`, they have no end."""

_handing_on: Final[weakref.WeakSet[Callable[..., Any]]] = weakref.WeakSet()
"""The decorated functions: they take what the functions beneath them take."""
_CACHED: Final = type(functools.cache(len))
"""The functions that `functools.cache` and `lru_cache` make; likewise."""
_BOUND_AS_KNOWN: Final = (
    types.FunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    functools.partial,
)


def decorator(
    policy: Policy,
    blocking: Limiter,
    awaiting: AsyncLimiter,
    key: KeyOfCall,
    cost: CostOfCall,
    timeout: float | None,
    limit: CallLimit,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The decorator that `limit(...)` returns: blocking functions ask `blocking`, async ones `awaiting`.

    :raises HeadgateError: if the key, the cost, the limit or the timeout could not be used in any call.
    """
    wait_bound_us(timeout)
    if not callable(key):
        policy.group(key, 0 if callable(cost) else cost, limit)
    may_hold = policy.has_slots or limit is not None

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if isinstance(function, (staticmethod, classmethod)):
            return cast("Callable[P, R]", type(function)(decorate(function.__func__)))
        _check_function(function)
        arguments = _Arguments(function)
        fitting = arguments.fitting
        if is_async(function):

            @functools.wraps(function)
            async def limited_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                if (len(args), *kwargs) not in fitting:
                    arguments.check(args, kwargs)
                own_key: Any = key(*args, **kwargs) if callable(key) else key
                if own_key.__class__ is not str and hasattr(own_key, "__await__"):
                    own_key = await own_key
                own_cost: Any = cost(*args, **kwargs) if callable(cost) else cost
                if own_cost.__class__ is not int and hasattr(own_cost, "__await__"):
                    own_cost = await own_cost
                if may_hold:
                    running_loop()  # without one, nothing could be held
                if timeout == 0:
                    decision = await awaiting.try_acquire(own_key, own_cost, limit=limit)
                    if not decision:
                        raise LimitExceeded(decision)
                else:
                    decision = await awaiting.acquire(own_key, own_cost, timeout=timeout, limit=limit)
                try:
                    result: Any
                    if not may_hold:
                        result = function(*args, **kwargs)
                        return await result
                    async with awaiting.holding(decision):
                        result = function(*args, **kwargs)
                        return await result
                except TypeError as error:
                    if arguments.has_not_arrived(error):
                        with suppress(StoreOutage):
                            await awaiting.refund(decision)
                    raise

            _handing_on.add(limited_async)
            return cast("Callable[P, R]", limited_async)

        for rule, what in ((key, "key"), (cost, "cost")):
            if callable(rule) and is_async(rule):
                raise InvalidUse(
                    f"{name_of(function)} is blocking, and its {what} would have to be awaited: give a plain function "
                    f"as the {what}, or decorate an async function"
                )

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            if (len(args), *kwargs) not in fitting:
                arguments.check(args, kwargs)
            own_key: Any = key(*args, **kwargs) if callable(key) else key
            if own_key.__class__ is not str and hasattr(own_key, "__await__"):
                _refuse_to_await(function, "key", own_key)
            own_cost: Any = cost(*args, **kwargs) if callable(cost) else cost
            if own_cost.__class__ is not int and hasattr(own_cost, "__await__"):
                _refuse_to_await(function, "cost", own_cost)
            if timeout == 0:
                decision = blocking.try_acquire(own_key, own_cost, limit=limit)
                if not decision:
                    raise LimitExceeded(decision)
            else:
                decision = blocking.acquire(own_key, own_cost, timeout=timeout, limit=limit)
            try:
                if not may_hold:
                    return function(*args, **kwargs)
                with blocking.holding(decision):
                    return function(*args, **kwargs)
            except TypeError as error:
                if arguments.has_not_arrived(error):
                    with suppress(StoreOutage):
                        blocking.refund(decision)
                raise

        _handing_on.add(limited)
        return limited

    return decorate


def key_rule(plain_key: Keys | None, key: KeyOfCall | None) -> KeyOfCall:
    """The key of a decorator, which is given by name, or first and without it if it is not computed.

    :raises InvalidUse: if there is none, or what there is looks like a function to decorate.
    """
    if plain_key is None and key is None:
        raise InvalidUse("a decorator needs a key: write @limiter.limit(key='...'), or key=lambda ...: ... of the call")
    if plain_key is None or key is None:
        first: Any = plain_key
        if first is None or isinstance(first, (str, Mapping)):
            return cast("KeyOfCall", plain_key if key is None else key)
        raise InvalidUse(
            f"{name_of(first)} is where the key should be: to decorate it, write @limiter.limit(key=...) above it; "
            "if it computes the key, name it: limit(key=...)"
        )
    raise InvalidUse("the key is given twice: write @limiter.limit(key=...)")


def is_async(function: Callable[..., Any]) -> bool:
    """Is what a call of this returns to be awaited?"""
    return _is_like(function, inspect.iscoroutinefunction)


def name_of(function: Any) -> str:
    """The name of a function in messages."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str | None = getattr(function, "__qualname__", None)
    return name or f"a {type(function).__name__}"


def _is_like(function: Callable[..., Any], is_kind: Callable[[object], bool]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return is_kind(function) or is_kind(type(function).__call__)


def _check_function(function: Any) -> None:
    """Refuse what is no function to decorate.

    :raises InvalidUse: if it is not.
    """
    name, kind = name_of(function), type(function).__name__
    if isinstance(function, type):
        raise InvalidUse(
            f"{name} is a class, and would not be one any more: decorate its __init__, or a function that makes one"
        )
    if not callable(function):
        if hasattr(type(function), "__get__"):
            raise InvalidUse(
                f"a {kind} is no function: put @limiter.limit(...) beneath it, on the function that it is of"
            )
        raise InvalidUse(f"a decorator is made by limit(key=...), and decorates a function, not {kind}")
    if _binds_in_its_own_way(function):
        raise InvalidUse(
            f"a {kind} does not become a method as functions do: put @limiter.limit(...) beneath it, "
            "on the function that it is of"
        )
    if _is_like(function, inspect.isgeneratorfunction) or _is_like(function, inspect.isasyncgenfunction):
        raise InvalidUse(f"{name} is a generator: limit what it calls, or what calls it")


def _binds_in_its_own_way(function: Any) -> bool:
    """As an attribute of a class, would it not get the instance, though what decorates it does?"""
    kind = type(function)
    if not hasattr(kind, "__get__") or isinstance(function, _BOUND_AS_KNOWN):
        return False
    probe = object()
    try:
        bound = kind.__get__(function, probe, object)
    except Exception:  # it does not take just any instance
        return True
    return getattr(bound, "__self__", None) is not probe


def _refuse_to_await(function: Callable[..., Any], what: str, found: Any) -> None:
    if inspect.iscoroutine(found):
        found.close()
    raise InvalidUse(
        f"the {what} of a call of {name_of(function)} came as {type(found).__name__}, which has to be awaited, and the "
        f"function is blocking: give a {what} that is computed at once, or decorate an async function"
    )


class _Arguments:
    """Which calls a function takes, as far as that can be known without calling it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = name_of(function)
        self._wrapped = _wrapped(function)
        self._signature = _signature(function)
        self.fitting: set[tuple[int | str, ...]] = set()
        """Calls that fit: how many arguments by place, and the names of the others."""

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse what the function does not take. Builtins that do not tell are taken to take anything.

        :raises TypeError: if it does not fit.
        """
        if self._signature is not None:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self._name}(): {error}") from None
        if len(self.fitting) < MAX_SHAPES:
            self.fitting.add((len(args), *kwargs))

    def has_not_arrived(self, error: TypeError) -> bool:
        """Did a call fail before the function ran? So it is where a wrapper takes anything, and what it wraps does not.
        A wrapper may also hand on other arguments than it gets, so this cannot be known beforehand.
        """
        wrapped, trace = self._wrapped, error.__traceback__
        if wrapped is None or not str(error).startswith(f"{wrapped.__qualname__}() "):  # as the interpreter says it
            return False
        while trace is not None:
            if trace.tb_frame.f_code is wrapped.__code__:
                return False
            trace = trace.tb_next
        return True


def _wrapped(function: Callable[..., Any]) -> types.FunctionType | None:
    """The innermost function that another one wraps; None if it wraps nothing."""
    with suppress(ValueError):  # they wrap each other
        innermost = inspect.unwrap(function)
        if innermost is not function and isinstance(innermost, types.FunctionType):
            return innermost
    return None


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """The signature of a callable itself; None if it does not tell."""
    try:
        return inspect.signature(_itself(function), follow_wrapped=False)
    except (ValueError, TypeError):
        return None


def _itself(function: Any) -> Callable[..., Any]:
    """A callable without what it says of itself. A wrapper commonly has the signature of what it wraps, and need not
    take the same: it may add an argument.
    """
    made: Callable[..., Any]
    if isinstance(function, functools.partial):
        made = functools.partial(_itself(function.func), *function.args, **function.keywords)
    elif isinstance(function, types.MethodType):
        made = types.MethodType(_itself(function.__func__), function.__self__)
    elif isinstance(function, _CACHED) or (isinstance(function, types.FunctionType) and function in _handing_on):
        made = _itself(cast("Any", function).__wrapped__)
    elif isinstance(function, types.FunctionType):
        made = types.FunctionType(function.__code__, {}, function.__name__, function.__defaults__, function.__closure__)
        made.__kwdefaults__ = function.__kwdefaults__
    elif isinstance(type(function).__call__, types.FunctionType):
        made = types.MethodType(_itself(type(function).__call__), function)
    else:
        made = function
    return made
