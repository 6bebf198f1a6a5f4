"""Celery: all workers share the limits of tasks; what is denied comes back, runs once, and holds nobody up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from headgate import Limiter
from tests.docs.markdown import ROOT
from tests.servers import OwnValkey, eventually, own_valkey

POOLS = {"prefork": ("prefork", "prefork"), "threads": ("threads", "solo")}
"""The pools of both workers."""


class Workers:
    """Two workers at work, and what they wrote down."""

    def __init__(self, server: OwnValkey, app: Any, prefix: str) -> None:
        self.server = server
        self.app = app
        self.prefix = prefix
        self.tasks = sys.modules["tests.celery.working"]

    def ran(self, who: str) -> list[str]:
        with self.server.admin() as admin:
            found: list[str] = admin.lrange(f"{self.prefix}:ran:{who}", 0, -1)
        return found

    def have_run(self, who: str, times: int) -> bool:
        return len(self.ran(who)) >= times

    def asked(self, who: str) -> int:
        with self.server.admin() as admin:
            return int(admin.get(f"{self.prefix}:asked:{who}") or 0)

    def asked_again(self, who: str, times: int) -> None:
        """Wait until the limits have been asked so many times more."""
        before = self.asked(who)
        eventually(lambda: self.asked(who) >= before + times, "the tasks come back")

    def reset(self, name: str, limit: Any, who: str) -> None:
        with Limiter(limit, store=self.server.url, name=name) as limiter:
            limiter.reset(f"{self.prefix}:{who}")


@pytest.fixture(scope="module", params=list(POOLS))
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    prefix = f"celery-{request.param}"
    with own_valkey() as server:
        os.environ |= {"HEADGATE_WORKING_URL": server.url, "HEADGATE_WORKING_PREFIX": prefix}
        sys.modules.pop("tests.celery.working", None)
        from tests.celery.working import app

        command = [sys.executable, "-m", "celery", "-A", "tests.celery.working", "worker", "--loglevel=WARNING"]
        command += ["--without-gossip", "--without-mingle", "--concurrency=2"]
        processes = [
            subprocess.Popen([*command, f"--pool={pool}", f"--hostname={number}@here"], cwd=ROOT, env={**os.environ})
            for number, pool in enumerate(POOLS[request.param])
        ]
        try:
            control = app.control
            eventually(lambda: len(control.ping(timeout=1.0)) == len(processes), "both workers answer")
            yield Workers(server, app, prefix)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)
            app.close()
            del os.environ["HEADGATE_WORKING_URL"], os.environ["HEADGATE_WORKING_PREFIX"]


@pytest.mark.parametrize("name", ["few", "few_late"])
def test_exactly_the_limit_is_run_at_first_and_nothing_is_lost(workers: Workers, name: str) -> None:
    numbers = range(17)
    task = getattr(workers.tasks, name)
    results = [task.delay(name, number) for number in numbers]
    for admitted in (5, 10, 15):
        eventually(partial(workers.have_run, name, admitted), "the limit is run")
        workers.asked_again(name, 2 * (len(numbers) - admitted))
        assert len(workers.ran(name)) == admitted
        workers.reset(name.replace("_", " "), "5/day", name)
    assert sorted(result.get(timeout=20) for result in results) == list(numbers)
    assert Counter(workers.ran(name)) == dict.fromkeys(map(str, numbers), 1)


def test_other_tasks_go_on_while_some_are_denied(workers: Workers) -> None:
    for number in range(12):
        workers.tasks.few.delay("crowd", number)
    eventually(lambda: len(workers.ran("crowd")) == 5, "the limit is run")
    workers.tasks.free.delay("others").get(timeout=20)
    assert len(workers.ran("crowd")) == 5
    for admitted in (10, 12):
        workers.reset("few", "5/day", "crowd")
        eventually(partial(workers.have_run, "crowd", admitted), "the next are run")
    assert len(workers.ran("crowd")) == 12


def test_a_denial_takes_none_of_the_retries_that_a_task_has(workers: Workers) -> None:
    result = workers.tasks.retrying.delay("patient")
    eventually(lambda: workers.asked("patient") >= 4, "its retry is denied, more often than it may retry")
    assert workers.ran("patient") == ["0"]
    workers.reset("retrying", "1/day", "patient")
    assert result.get(timeout=20) >= 2
    assert workers.ran("patient") == ["0", "1"]


def test_slots_are_held_while_tasks_run(workers: Workers) -> None:
    results = [workers.tasks.held.delay("holders") for _ in range(8)]
    for result in results:
        result.get(timeout=40)
    assert len(workers.ran("holders")) == 8
    assert set(workers.ran("holders")) <= {"1", "2"}


def test_a_cost_is_made_of_the_arguments_and_several_limits_are_asked(workers: Workers) -> None:
    assert workers.tasks.embed.delay("author", ["a"] * 7).get(timeout=20) == 7
    denied = workers.tasks.embed.delay("author", ["a"] * 4)
    eventually(lambda: workers.asked("author") >= 3, "it is denied")
    assert workers.tasks.embed.delay("author", ["a"] * 3).get(timeout=20) == 3
    workers.reset("texts", ["10/day", "1000/7d"], "author")
    assert denied.get(timeout=20) == 4


def test_a_task_that_would_never_be_admitted_fails(workers: Workers) -> None:
    with pytest.raises(Exception, match=r"CostExceedsCapacity.*can never"):
        workers.tasks.embed.delay("glutton", ["a"] * 11).get(timeout=20)


def test_a_task_may_give_up_after_so_many_denials(workers: Workers) -> None:
    workers.tasks.given_up.delay("hurried").get(timeout=20)
    with pytest.raises(Exception, match=r"LimitExceeded.*denies 'celery-"):
        workers.tasks.given_up.delay("hurried").get(timeout=20)
    assert workers.asked("hurried") == 4


def test_a_shadow_lets_all_tasks_run(workers: Workers) -> None:
    for _ in range(3):
        workers.tasks.watched.delay("watched").get(timeout=20)
    assert workers.ran("watched") == ["watched"] * 3
