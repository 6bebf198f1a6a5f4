"""Metrics and span attributes for OpenTelemetry, on the observer protocol, by its API alone: what becomes of them, your
SDK says.

    from headgate.observe.opentelemetry import instrument

    instrument()

Names follow those of ASP.NET Core's rate limiting, in a namespace of ours. Keys are told only if that is asked for, and
then as hashes. This module must not know how anything is decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from headgate import observer
from headgate.decision import Decision
from headgate.errors import MissingExtra, StoreOutage
from headgate.observe.labels import hash_of, is_request, part_of, policy_of, result_of
from headgate.observer import BreakerState, Observer

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import MeterProvider
except ModuleNotFoundError as error:
    raise MissingExtra("opentelemetry-api", "otel") from error

_NAME: Final = "headgate"


def instrument(
    meter_provider: MeterProvider | None = None, *, keys: bool = False, secret: bytes | str | None = None
) -> Callable[[], None]:
    """Tell OpenTelemetry from now on what all limiters and stores of this process do. What is returned ends that.

    :param meter_provider: whose metrics; the global one's, if None.
    :param keys: put a hash of the key on spans?
    :param secret: makes the hashes. Processes with the same one have the same hash of a key; if None, each has its own.
    """
    return observer.attach(OpenTelemetryObserver(meter_provider, keys=keys, secret=secret))


class OpenTelemetryObserver(Observer):
    """Tells what it hears to a meter, and to the span that is current. Safe to share between threads.

    :param meter_provider: whose metrics; the global one's, if None.
    :param keys: put a hash of the key on spans?
    :param secret: makes the hashes. Processes with the same one have the same hash of a key; if None, each has its own.
    """

    def __init__(
        self, meter_provider: MeterProvider | None = None, *, keys: bool = False, secret: bytes | str | None = None
    ) -> None:
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._keys = keys
        self._secret = secret
        self._requests = meter.create_counter(
            "headgate.rate_limiting.requests", "{request}", "Decisions on requests, by policy and result."
        )
        self._durations = meter.create_histogram(
            "headgate.rate_limiting.decision.duration", "s", "The time that a decision takes, waiting aside."
        )
        self._waits = meter.create_histogram(
            "headgate.rate_limiting.request.time_in_queue", "s", "The time that requests waited for a turn."
        )
        self._slots = meter.create_up_down_counter(
            "headgate.rate_limiting.active_slots", "{slot}", "Slots that blocks hold now."
        )
        self._near = meter.create_counter(
            "headgate.rate_limiting.near_limit", "{request}", "Requests admitted with little left of their limit."
        )
        self._trips = meter.create_histogram(
            "headgate.store.round_trip.duration", "s", "The time until a batch is answered, or given up."
        )
        self._outages = meter.create_counter("headgate.rate_limiting.outages", "{outage}", "Outages that began.")
        self._changes = meter.create_counter(
            "headgate.store.breaker.changes", "{change}", "Changes of a breaker's state."
        )

    def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        """As `Observer.decided`."""
        if not is_request(decision):
            return
        policy = policy_of(limiter, part_of(decision))
        told = {"headgate.policy": policy, "headgate.result": result_of(decision)}
        self._requests.add(1, told)
        self._durations.record(duration_ns / 1e9, {"headgate.policy": policy})
        span = trace.get_current_span()
        if span.is_recording():
            attributes: dict[str, str | int | float] = {
                **told,
                "headgate.source": decision.source,
                "headgate.limit": decision.limit,
                "headgate.remaining": decision.remaining,
            }
            if self._keys:
                attributes["headgate.key.hash"] = hash_of(decision.key, self._secret)
            span.set_attributes(attributes)
            if not decision.allowed:
                span.add_event("headgate.denied", {**told, "headgate.retry_after": decision.retry_after})

    def failed(self, limiter: str, outage: StoreOutage) -> None:
        """As `Observer.failed`."""
        told = {"headgate.policy": policy_of(limiter, ""), "headgate.result": "error"}
        self._requests.add(1, told)
        trace.get_current_span().set_attributes(told)

    def waited(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        """As `Observer.waited`."""
        result = "too_late" if not decision.allowed else "turn" if duration_ns else "at_once"
        policy = policy_of(limiter, part_of(decision))
        self._waits.record(duration_ns / 1e9, {"headgate.policy": policy, "headgate.result": result})

    def slots_taken(self, limiter: str, limit: str, slots: int) -> None:
        """As `Observer.slots_taken`."""
        self._slots.add(slots, {"headgate.policy": policy_of(limiter, limit)})

    def slots_released(self, limiter: str, limit: str, slots: int) -> None:
        """As `Observer.slots_released`."""
        self._slots.add(-slots, {"headgate.policy": policy_of(limiter, limit)})

    def near_limit(self, limiter: str, decision: Decision) -> None:
        """As `Observer.near_limit`."""
        self._near.add(1, {"headgate.policy": policy_of(limiter, "")})

    def shadow_denied(self, limiter: str, decision: Decision) -> None:
        """As `Observer.shadow_denied`."""
        if is_request(decision):
            policy = policy_of(limiter, part_of(decision))
            self._requests.add(1, {"headgate.policy": policy, "headgate.result": "shadow_denied"})

    def round_trip(self, store: str, groups: int, duration_ns: int, outage: StoreOutage | None) -> None:
        """As `Observer.round_trip`."""
        result = "answered" if outage is None else "failed"
        self._trips.record(duration_ns / 1e9, {"headgate.store": store, "headgate.result": result})

    def outage_began(self, limiter: str, outage: StoreOutage) -> None:
        """As `Observer.outage_began`."""
        self._outages.add(1, {"headgate.policy": policy_of(limiter, "")})

    def breaker_changed(self, store: str, state: BreakerState) -> None:
        """As `Observer.breaker_changed`."""
        self._changes.add(1, {"headgate.store": store, "headgate.state": state})
