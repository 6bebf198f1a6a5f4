"""Celery: limits of tasks that all workers share. A task that is denied comes back later, and no worker waits for it.

@app.task
@limit_task("10/minute", key=lambda user: user, store="redis://localhost:6379/0")
def send(user): ...

This module must not know how a limiter decides.
"""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final, Literal, ParamSpec, TypeVar, cast

try:
    from celery import Task, current_task
    from celery.exceptions import Reject, Retry
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("celery", "celery") from error

from headgate.decision import Decision
from headgate.errors import CostExceedsCapacity, InvalidUse, LimitExceeded
from headgate.limiter.decorator import CostOfCall, KeyOfCall, is_async
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limiter.naming import Limits
from headgate.limits import Concurrency, Limit
from headgate.rules.rule import LimitLike
from headgate.stores.contract import Store

P = ParamSpec("P")
R = TypeVar("R")

DENIALS: Final = "headgate_denials"
"""The header of a task's message that says how often it has been denied."""

_MAX_DOUBLINGS: Final = 6
_SLOT_WAIT: Final = 1.0
"""Seconds after which a task asks again where all slots are taken: nobody knows when one is released."""


def limit_task(
    limit: Limits | Limiter,
    *,
    key: KeyOfCall = "*",
    cost: CostOfCall = 1,
    store: str | Store | None = None,
    name: str | None = None,
    penalty: LimitLike | None = None,
    on_outage: Literal["open", "closed", "raise", "local"] = "open",
    instances: int | None = None,
    jitter: float = 1.0,
    max_wait: float = 600.0,
    max_denials: int | None = None,
    is_shadow: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate the function of a task, beneath `@app.task`: a worker runs it when its limit admits it. When it does
    not, the task is put back into its queue, to be taken up when the limit says; the worker goes on with others.

    What the task has of retries is left alone. The slots of `Concurrency` limits are held while it runs.

    :param limit: as for `Limiter`: one, several, or a dict of limits with a key each; or a `Limiter`, in which case
        `store` and what follows up to `instances` are said there.
    :param key: whose share, or a function of the task's arguments (`self` as well, where it is bound). By default, all
        runs of the task have one share.
    :param cost: how many tokens a run takes, likewise.
    :param store: where the state lives, for all workers: a URL or a `Store`. `memory://` is one process's alone.
    :param name: the limiter's name in the store; by default, that of the function. Tasks of one name share a limit.
    :param penalty: as for `Limiter`: each time that a task is denied counts.
    :param on_outage: as for `Limiter`; `closed` puts tasks back, `raise` lets them fail. `instances` likewise.
    :param jitter: tasks come back spread over so many seconds; those that have been denied before, over longer.
    :param max_wait: the longest that a task stays away before it asks again, in seconds. Less than the broker's
        `visibility_timeout`, or it would hand the task out once more.
    :param max_denials: after how many denials a task fails, with `LimitExceeded`; None for never.
    :param is_shadow: does it decide and count, and never put back? Of a limiter of yours, `shadow()` says so.
    :raises LimitError, StoreURLError, InvalidUse, MissingExtra: at once, as `Limiter` does, or if something else does
        not fit: an async function, or a task, which is to be decorated after this.
    :raises LimitExceeded: from a task that was called in place, by `task(...)` or `task.apply()`, and is denied.
    :raises CostExceedsCapacity: from the task, which fails: it would never be admitted.
    """
    if jitter < 0 or max_wait <= 0:
        raise InvalidUse(f"jitter is at least 0 seconds and max_wait above 0, not {jitter!r} and {max_wait!r}")
    if isinstance(limit, AsyncLimiter):
        raise InvalidUse("workers call functions that block: give limit_task a Limiter, not an AsyncLimiter")
    if store is None and not isinstance(limit, Limiter):
        raise InvalidUse("say in which store the workers share the limit: limit_task(..., store='redis://...')")
    options = {"store": store, "penalty": penalty, "on_outage": on_outage, "instances": instances}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        _check_function(function)
        limiter = (
            limit
            if isinstance(limit, Limiter)
            else Limiter(limit, name=name or _name_of(function), **cast("Any", options))
        )
        if is_shadow and not isinstance(limit, Limiter):
            limiter = limiter.shadow()
        has_slots = any(isinstance(one, Concurrency) for one in limiter.limits.values())

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            own_key: Any = key(*args, **kwargs) if callable(key) else key
            own_cost: Any = cost(*args, **kwargs) if callable(cost) else cost
            try:
                decision = limiter.try_acquire(own_key, own_cost)
            except CostExceedsCapacity:
                if is_shadow:
                    return function(*args, **kwargs)
                raise
            if not decision:
                if is_shadow:
                    return function(*args, **kwargs)
                raise _put_back(_task_of(limited), decision, limiter, jitter, max_wait, max_denials)
            with limiter.holding(decision) if has_slots else nullcontext():
                return function(*args, **kwargs)

        limited.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # Celery checks arguments by it
        return limited

    return decorate


def _check_function(given: Any) -> None:
    if isinstance(given, Task):
        raise InvalidUse(f"{given.name} is a task already: put @limit_task beneath @app.task")
    if not inspect.isroutine(given):
        raise InvalidUse(f"limit_task decorates the function of a task, not {given!r}")
    if is_async(given):
        raise InvalidUse(f"{_name_of(given)} is async, and workers call functions that block")


def _name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _task_of(limited: Callable[..., Any]) -> Any:
    """The task whose function this is, if a worker runs it now; None if it was called by somebody else."""
    task = current_task._get_current_object() if current_task else None
    if task is None or task.request.called_directly or task.request.is_eager:
        return None
    for function in (task.run, getattr(task, "__wrapped__", None)):
        inner = function
        while inner is not None:
            inner = getattr(inner, "__func__", inner)
            if inner is limited:
                return task
            inner = getattr(inner, "__wrapped__", None)
    return None


def _put_back(
    task: Any, decision: Decision, limiter: Limiter, jitter: float, max_wait: float, max_denials: int | None
) -> Exception:
    """Put the task that runs now back into its queue. Returns what is to be raised: Celery's `Retry`, mostly.

    `Task.retry` is not asked, because each of its retries counts.
    """
    if task is None:
        return LimitExceeded(decision)
    request = task.request
    headers = dict(request.headers or {})
    denials = int(headers.get(DENIALS) or 0)
    if max_denials is not None and denials >= max_denials:
        return LimitExceeded(decision)
    wait = _countdown(decision, limiter.limits, denials, jitter=jitter, max_wait=max_wait)
    again = task.signature_from_request(
        request, countdown=wait, retries=request.retries, headers={**headers, DENIALS: denials + 1}
    )
    try:
        again.apply_async()
    except Exception as error:
        # The broker has the message still where it is acknowledged late, and is to hand it to somebody.
        rejected: Exception = Reject(error, requeue=True)
        return rejected if task.acks_late else error
    why = f"{decision.binding!r} denies {decision.key!r}: again in {wait:.3f} s"
    later: Exception = Retry(why, when=wait, sig=again)
    return later


def _countdown(
    decision: Decision, limits: Mapping[str, Limit], denials: int, *, jitter: float, max_wait: float
) -> float:
    """The seconds after which a denied task is to come back: no sooner than it could be admitted, except where slots
    are missing.

    Many may be denied at once, and be told the same. So they come back spread: over `jitter` the first time, and over
    twice as long a time again with each denial.
    """
    wait = decision.retry_after
    if isinstance(limits.get(decision.binding), Concurrency):
        wait = min(wait, _SLOT_WAIT)
    spread: float = jitter + wait * (2 ** min(denials, _MAX_DOUBLINGS) - 1)
    return min(wait + random.random() * spread, max_wait)  # noqa: S311 - nobody gains by guessing it


__all__ = ["DENIALS", "limit_task"]
