"""Celery: what is limited, how it is decorated, and what becomes of calls that no worker makes."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, Task

from headgate import AsyncLimiter, CostExceedsCapacity, InvalidUse, Limiter, LimitExceeded, ManualClock, MemoryStore
from headgate.celery import limit_task


@pytest.fixture
def app() -> Any:
    return Celery("here", broker="memory://", backend="cache+memory://", set_as_current=False)


def store() -> MemoryStore:
    return MemoryStore(clock=ManualClock())


def double(number: int) -> int:
    """Twice as much."""
    return 2 * number


def test_a_task_that_is_called_in_place_and_denied_raises(app: Any) -> None:
    task = app.task(limit_task("1/minute", store=store())(double))
    assert task(2) == 4
    with pytest.raises(LimitExceeded) as caught:
        task(2)
    assert caught.value.decision.retry_after == 60.0


def test_so_does_one_that_is_applied(app: Any) -> None:
    task = app.task(limit_task("1/minute", store=store())(double))
    assert task.apply((2,)).get() == 4
    with pytest.raises(LimitExceeded):
        task.apply((2,)).get()


def test_keys_and_costs_are_made_of_the_arguments_and_of_the_task_where_it_is_bound(app: Any) -> None:
    def work(self: Any, who: str, amount: int) -> str:
        return f"{self.name} {who}"

    limit = limit_task(
        "10/minute",
        key=lambda self, who, **_: f"{self.name}:{who}",
        cost=lambda *_, amount: amount,
        store=store(),
    )
    task = app.task(bind=True, name="work")(limit(work))
    assert task("ada", amount=6) == "work ada"
    assert task("bob", amount=6) == "work bob"
    with pytest.raises(LimitExceeded):
        task("ada", amount=6)
    with pytest.raises(CostExceedsCapacity):
        task("eve", amount=11)


def test_celery_still_checks_the_arguments(app: Any) -> None:
    task = app.task(limit_task("1/minute", store=store())(double))
    with pytest.raises(TypeError, match="number"):
        task.delay()
    assert task.__doc__ == double.__doc__


def test_a_limiter_of_ones_own_goes_as_well(app: Any) -> None:
    limiter = Limiter({"user": "1/minute", "all": "3/minute"}, store=store())
    task = app.task(limit_task(limiter, key=lambda number: {"user": str(number), "all": "*"})(double))
    assert [task(1), task(2)] == [2, 4]
    with pytest.raises(LimitExceeded) as caught:
        task(1)
    assert caught.value.decision.binding == "user"
    assert limiter.peek({"user": "3", "all": "*"}).remaining == 1


def test_slots_are_free_after_a_task_that_failed(app: Any) -> None:
    def fail() -> None:
        raise ValueError("it failed")

    task = app.task(limit_task("concurrency 1", store=store())(fail))
    for _ in range(2):
        with pytest.raises(ValueError, match="it failed"):
            task()


def test_a_shadow_lets_even_that_through_which_costs_too_much(app: Any) -> None:
    task = app.task(limit_task("1/minute", cost=2, is_shadow=True, store=store())(double))
    assert task(2) == 4


def test_tasks_do_not_share_a_limit_unless_they_have_one_name(app: Any) -> None:
    def triple(number: int) -> int:
        return 3 * number

    shared = store()
    for name, is_shared in ((None, False), ("both", True)):
        limit = limit_task("1/minute", store=shared, name=name)
        first, second = app.task(name=f"double {name}")(limit(double)), app.task(name=f"triple {name}")(limit(triple))
        assert first(1) == 2
        if is_shared:
            with pytest.raises(LimitExceeded):
                second(1)
        else:
            assert second(1) == 3


def test_what_does_not_fit_is_refused_at_once(app: Any) -> None:
    async def waits() -> None: ...

    limit = limit_task("1/minute", store=store())
    with pytest.raises(InvalidUse, match=r"put @limit_task beneath @app\.task"):
        limit(app.task(double))
    with pytest.raises(InvalidUse, match="is async"):
        limit(waits)
    with pytest.raises(InvalidUse, match="the function of a task"):
        limit(Task)
    with pytest.raises(InvalidUse, match="in which store"):
        limit_task("1/minute")
    with pytest.raises(InvalidUse, match="max_wait above 0"):
        limit_task("1/minute", store=store(), max_wait=0)
    given: Any = AsyncLimiter("1/minute", store=store())
    with pytest.raises(InvalidUse, match="a Limiter"):
        limit_task(given)
