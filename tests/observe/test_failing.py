"""Whatever an observer of ours does when it is told something, all is decided as if nobody listened."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from headgate import Breaker, Lease, Limiter, StoreOutage, observer
from headgate.observe.logs import DenialLog
from headgate.observe.opentelemetry import OpenTelemetryObserver
from headgate.observe.prometheus import PrometheusObserver
from headgate.observer import Observer
from headgate.rules import Rule
from headgate.testing import deterministic
from headgate.web.core import run
from headgate.web.wsgi import RateLimits
from tests.limiter.bench import FailingStore
from tests.servers import free_port
from tests.web.asking import Asked

KINDS: dict[str, Callable[[], Observer]] = {
    "prometheus": lambda: PrometheusObserver(CollectorRegistry()),
    "opentelemetry": lambda: OpenTelemetryObserver(MeterProvider(), keys=True),
    "logs": lambda: DenialLog(to=logging.Logger("denials")),
}
EVENTS = {name for name, value in vars(Observer).items() if inspect.isfunction(value)}


def decisions(valkey_url: str, prefix: str) -> list[Any]:
    """All that there is to hear of, and what was decided."""
    found: list[Any] = []
    with deterministic():
        limiter = Limiter({"user": "fixed-window 2/minute", "all": "9/minute"}, name="api")
        found += [limiter.try_acquire({"user": "k", "all": "*"}).allowed for _ in range(3)]
        found.append(limiter.acquire({"user": "k", "all": "*"}).allowed)
        with Limiter("concurrency 2", name="slots").hold("k") as hold:
            found.append(hold.decision.allowed)
    rules = Rule("2/hour", name="near", near=0.9), Rule("1/hour", name="shadow", is_shadow=True)
    limits = RateLimits(*rules)
    found += [run(limits.limiter.admit(Asked("/"))).is_admitted for _ in range(3)]
    store = FailingStore()
    for mode in ("closed", "raise"):
        failing = Limiter("9/hour", store=store, on_outage=mode)
        for store.is_down in (False, True, False):
            try:
                found.append(failing.try_acquire(mode).source)
            except StoreOutage as outage:
                found.append(type(outage))
    url = f"redis://127.0.0.1:{free_port()}/0"
    found.append(Limiter("9/hour", store=url, breaker=Breaker(failures=1, open_for=60)).try_acquire("k").source)
    with Limiter("1000/hour", store=valkey_url, prefix=prefix, timeout=5, lease=Lease(10)) as leasing:
        found += [leasing.try_acquire("k").allowed for _ in range(50)]
    return found


def test_there_is_something_to_hear_of_each_kind(valkey_url: str, prefix: str) -> None:
    heard: set[str] = set()

    class Hearing(Observer):
        def __getattribute__(self, name: str) -> Any:
            heard.add(name)
            return super().__getattribute__(name)

    detach = observer.attach(Hearing())
    decisions(valkey_url, prefix)
    detach()
    assert heard >= EVENTS


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_in_an_observer_changes_no_decision(
    kind: str, valkey_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = decisions(valkey_url, f"{prefix}-expected")
    made = KINDS[kind]()

    def fail(*told: object) -> None:
        raise ZeroDivisionError

    overridden = EVENTS & set(vars(type(made)))
    for name in overridden:
        setattr(made, name, fail)
    detach = observer.attach(made)
    try:
        assert decisions(valkey_url, prefix) == expected
    finally:
        detach()
    assert "failed; what it was told stands" in caplog.text


@pytest.mark.parametrize("kind", ["prometheus", "opentelemetry"])
def test_what_fails_in_its_library_changes_no_decision(
    kind: str, valkey_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = decisions(valkey_url, f"{prefix}-expected")
    made = KINDS[kind]()
    instruments = {name: one for name, one in vars(made).items() if hasattr(one, "labels") or hasattr(one, "name")}
    assert len(instruments) >= 7
    for name in instruments:
        setattr(made, name, None)
    detach = observer.attach(made)
    try:
        assert decisions(valkey_url, prefix) == expected
    finally:
        detach()
    assert "failed; what it was told stands" in caplog.text
