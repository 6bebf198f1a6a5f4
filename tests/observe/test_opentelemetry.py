"""Metrics and span attributes for OpenTelemetry, read by its own SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headgate import AcquireTimeout, Breaker, Limiter, StoreTimeout, observer
from headgate.observe.opentelemetry import OpenTelemetryObserver, instrument
from headgate.testing import deterministic
from tests.limiter.bench import FailingStore
from tests.servers import free_port


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    reading = InMemoryMetricReader()
    provider = MeterProvider([reading])
    end = instrument(provider, keys=True)
    yield reading
    end()
    provider.shutdown()


def told(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    data = reader.get_metrics_data()
    assert data is not None
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        points: Any = metric.data.data_points
        found[metric.name] = [(dict(point.attributes), getattr(point, "value", None)) for point in points]
    return found


def test_decisions_are_counted_by_policy_and_result(reader: InMemoryMetricReader) -> None:
    limiter = Limiter({"user": "2/hour", "ip": "9/hour"}, name="api")
    for _ in range(3):
        limiter.try_acquire({"user": "a", "ip": "b"})
    found = told(reader)
    assert sorted(found["headgate.rate_limiting.requests"], key=lambda pair: -pair[1]) == [
        ({"headgate.policy": "api.user", "headgate.result": "allowed"}, 2),
        ({"headgate.policy": "api.user", "headgate.result": "denied"}, 1),
    ]
    assert "headgate.rate_limiting.decision.duration" in found


def test_outages_round_trips_and_breakers_are_told(reader: InMemoryMetricReader) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    Limiter("2/hour", store=url, name="far", breaker=Breaker(failures=1, open_for=60)).try_acquire("k")
    found = told(reader)
    assert found["headgate.rate_limiting.outages"] == [({"headgate.policy": "far"}, 1)]
    assert [point[0]["headgate.result"] for point in found["headgate.store.round_trip.duration"]] == ["failed"]
    assert [point[0]["headgate.state"] for point in found["headgate.store.breaker.changes"]] == ["open"]


def test_waits_slots_and_failures_are_told(reader: InMemoryMetricReader) -> None:
    with deterministic() as clock:
        clock.set(1_800_000_000_000_000)
        limiter = Limiter("fixed-window 1/minute", name="vendor")
        for _ in range(2):
            limiter.acquire("k")
        with pytest.raises(AcquireTimeout):
            limiter.acquire("k", timeout=1)
        with Limiter("concurrency 5", name="jobs").hold("k", 2):
            held = told(reader)
    store = FailingStore()
    store.is_down = True
    with pytest.raises(StoreTimeout):
        Limiter("1/hour", store=store, name="strict", on_outage="raise").try_acquire("k")
    assert held["headgate.rate_limiting.active_slots"] == [({"headgate.policy": "jobs"}, 2)]
    found = told(reader)
    assert found["headgate.rate_limiting.active_slots"] == [({"headgate.policy": "jobs"}, 0)]
    waits = [
        point["headgate.result"]
        for point, _ in found["headgate.rate_limiting.request.time_in_queue"]
        if point["headgate.policy"] == "vendor"
    ]
    assert sorted(waits) == ["at_once", "too_late", "turn"]
    requests = found["headgate.rate_limiting.requests"]
    assert ({"headgate.policy": "strict", "headgate.result": "error"}, 1) in requests
    assert ({"headgate.policy": "vendor", "headgate.result": "denied"}, 1) in requests


def test_the_current_span_says_what_was_decided(reader: InMemoryMetricReader) -> None:
    exporter = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    limiter = Limiter("1/hour", name="signup")
    for _ in range(2):
        with tracing.get_tracer("test").start_as_current_span("request"):
            limiter.try_acquire("someone@example.org")
    first, second = exporter.get_finished_spans()
    assert first.attributes is not None
    assert first.attributes["headgate.result"] == "allowed"
    assert first.attributes["headgate.remaining"] == 0
    assert [event.name for event in second.events] == ["headgate.denied"]
    assert "someone" not in str(first.attributes)


def test_whatever_fails_the_decision_stands(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(OpenTelemetryObserver):
        def decided(self, *told: object) -> None:
            raise ZeroDivisionError

    detach = observer.attach(Failing())
    try:
        assert Limiter("1/hour").try_acquire("k")
    finally:
        detach()
    assert "what it was told stands" in caplog.text
