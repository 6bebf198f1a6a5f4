"""Celery: a task that is put back keeps what it had, and is not lost where the broker cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Task, chain
from celery.contrib.testing.worker import start_worker
from kombu.exceptions import OperationalError

from headgate import Limiter, ManualClock, MemoryStore
from headgate.celery import DENIALS, limit_task
from tests.celery.apps import OwnApp

SOON: Any = {"jitter": 0.0, "max_wait": 0.05}


def double(number: int) -> int:
    return 2 * number


def work() -> str:
    return "done"


class Flaky(Task):  # type: ignore[misc]  # it has no types
    """A task that cannot be sent while `is_cut`."""

    is_cut = False

    def apply_async(self, *args: Any, **options: Any) -> Any:
        if self.is_cut:
            Flaky.is_cut = False
            raise OperationalError("the broker cannot be reached")
        return super().apply_async(*args, **options)


@pytest.fixture
def app() -> Any:
    return OwnApp()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limiter(clock: ManualClock) -> Limiter:
    return Limiter("1/minute", store=MemoryStore(clock=clock))


@pytest.fixture
def working(app: Any) -> Iterator[Callable[[], Any]]:
    def working() -> Any:
        return start_worker(app, pool="solo", perform_ping_check=False, loglevel="CRITICAL", shutdown_timeout=30)

    yield working
    app.close()


def test_the_rest_of_a_chain_comes_after_it(app: Any, limiter: Limiter, clock: ManualClock, working: Any) -> None:
    headers: list[Any] = []

    def add(self: Any, left: int, right: int) -> int:
        headers.append({**self.request.headers})
        return left + right

    def key(*_: Any) -> str:
        asked.append(1)
        if len(asked) == 3:  # it has been put back twice
            clock.advance(60)
        return "*"

    asked: list[int] = []
    task = app.task(bind=True, name="add")(limit_task(limiter, key=key, **SOON)(add))
    twice = app.task(name="double")(double)
    limiter.try_acquire("*")
    with working():
        result = chain(task.s(1, 2).set(headers={"from": "ada"}), twice.s()).apply_async()
        assert result.get(timeout=20) == 6
    assert headers[0][DENIALS] == 2
    assert headers[0]["from"] == "ada"


@pytest.mark.parametrize("acks_late", [True, False])
def test_where_it_cannot_be_sent_again_it_is_handed_out_anew_or_fails_loudly(
    app: Any, limiter: Limiter, clock: ManualClock, working: Any, acks_late: bool
) -> None:
    def key() -> str:
        asked.append(1)
        if len(asked) == 1:
            Flaky.is_cut = True
        else:
            clock.advance(60)
        return "*"

    asked: list[int] = []
    task = app.task(base=Flaky, name="work", acks_late=acks_late)(limit_task(limiter, key=key, **SOON)(work))
    limiter.try_acquire("*")
    with working():
        result = task.delay()
        if acks_late:
            assert result.get(timeout=20) == "done"
        else:
            with pytest.raises(OperationalError, match="cannot be reached"):
                result.get(timeout=20)
    assert len(asked) == (2 if acks_late else 1)
