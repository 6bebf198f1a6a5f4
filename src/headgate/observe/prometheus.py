"""Metrics for Prometheus, on the observer protocol, by `prometheus-client`.

    from headgate.observe.prometheus import expose

    expose()  # in the default registry, which your `/metrics` shows

Labels are of closed sets: names of limiters and stores, and results; never a key. A policy is a limiter, or one limit
of a limiter of several (`web.login`). In the multiprocess mode of `prometheus-client`, the processes' numbers add up.
This module must not know how anything is decided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from headgate import observer
from headgate.decision import Decision
from headgate.errors import InvalidUse, MissingExtra, StoreOutage
from headgate.observe.labels import is_request, part_of, policy_of, result_of
from headgate.observer import BreakerState, Observer
from headgate.runtime.forks import begin_afresh_in_child
from headgate.runtime.locks import lock

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ModuleNotFoundError as error:
    raise MissingExtra("prometheus-client", "prometheus") from error

MAX_NAMES: Final = 1000
"""How many policies, and how many stores, have labels of their own; all others are `other`."""

_SECONDS: Final = (1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 1e-2, 2.5e-2, 0.1, 0.25, 1.0, 10.0)
_WAITS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_GROUPS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_BREAKER: Final[dict[BreakerState, float]] = {"closed": 0, "half-open": 0.5, "open": 1}

Children = tuple[Callable[[], None], Callable[[float], None]]
"""Count a decision; and count its duration, in seconds."""


def expose(registry: CollectorRegistry | None = None) -> Callable[[], None]:
    """Count from now on what all limiters and stores of this process do. What is returned ends that.

    :param registry: where the metrics are; the default one, if None.
    :raises InvalidUse: if a registry has them already.
    """
    return observer.attach(PrometheusObserver(registry))


class PrometheusObserver(Observer):
    """Counts what it hears. Safe to share between threads.

    :param registry: where the metrics are; the default one, if None.
    :raises InvalidUse: if a registry has them already.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        where = REGISTRY if registry is None else registry
        try:
            self._make(where)
        except ValueError as error:
            raise InvalidUse(f"this registry has headgate's metrics already: expose them once ({error})") from None
        self._policies = _Names()
        self._stores = _Names()
        self._decided: dict[tuple[str, str, bool, str], Children] = {}
        self._sent: dict[tuple[str, str], tuple[Callable[..., None], ...]] = {}
        self._lock = lock()
        self._begin()
        begin_afresh_in_child(self, PrometheusObserver._begin)

    def _begin(self) -> None:
        self._is_busy = False
        """Is somebody counting? Whoever has the lock finds this to be so where he came in by a signal."""
        self._coming: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        """All that came in so."""

    def _make(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"headgate_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, mode: Any = "livesum") -> Gauge:
            return Gauge(f"headgate_{name}", text, labels, registry=registry, multiprocess_mode=mode)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"headgate_{name}", text, labels, registry=registry, buckets=buckets)

        self._decisions = counter("decisions_total", "Decisions on requests.", "policy", "result")
        self._durations = histogram(
            "decision_duration_seconds",
            "The time that a decision takes, waiting aside.",
            _SECONDS,
            "policy",
        )
        self._slots = gauge("slots_in_use", "Slots that blocks hold now.", "policy")
        self._near = counter("near_limit_total", "Requests admitted with little left of their limit.", "policy")
        self._waits = counter("waits_total", "Requests that would wait for a turn.", "policy", "result")
        self._wait_times = histogram("wait_seconds", "The time that they waited.", _WAITS, "policy")
        self._outage = gauge("outage", "Does the outage rule answer for it? 1 or 0.", "policy", mode="livemax")
        self._outages = counter("outages_total", "Outages that began.", "policy")
        self._trips = counter("round_trips_total", "Batches sent to a server.", "store", "result")
        self._trip_times = histogram(
            "round_trip_duration_seconds", "The time until a batch is answered, or given up.", _SECONDS, "store"
        )
        self._sizes = histogram("batch_size", "Groups of hits in a batch.", _GROUPS, "store")
        self._breaker = gauge(
            "breaker_open", "Is its breaker open? 1, or 0.5 while one request tries, or 0.", "store", mode="livemax"
        )
        self._changes = counter("breaker_changes_total", "Changes of a breaker's state.", "store", "state")
        self._leased = counter("leased_tokens_total", "Tokens drawn ahead of need, and returned.", "policy", "event")

    def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        """As `Observer.decided`."""
        with self._lock:
            if self._is_busy:
                self._coming.append((self.decided, (limiter, decision, duration_ns)))
                return
            try:  # as `_count` does, for the one that comes most often
                self._is_busy = True
                part = ""
                if type(decision) is Decision:
                    if not is_request(decision):
                        return
                    part = part_of(decision)
                found = self._decided.get((limiter, part, decision.allowed, decision.source))
                if found is None:
                    found = self._children(limiter, part, decision)
                found[0]()
                found[1](duration_ns * 1e-9)
            finally:
                self._is_busy = False
        if self._coming:
            self._count_coming()

    def _children(self, limiter: str, part: str, decision: Decision) -> Children:
        policy = self._policy(limiter, part)
        found = self._decisions.labels(policy, result_of(decision)).inc, self._durations.labels(policy).observe
        if len(self._decided) < 8 * MAX_NAMES:
            self._decided[limiter, part, decision.allowed, decision.source] = found
        return found

    def _count(self, count: Callable[..., None], *told: Any) -> None:
        """Have something counted: at once, or if a signal's handler asks for it in the middle of counting, right after
        that. The library's own locks would never let it go on.
        """
        with self._lock:
            if self._is_busy:
                self._coming.append((partial(self._count, count), told))
                return
            try:
                self._is_busy = True
                count(*told)
            finally:
                self._is_busy = False
        if self._coming:
            self._count_coming()

    def _count_coming(self) -> None:
        with suppress(IndexError):  # others look, too
            while True:
                count, told = self._coming.popleft()
                count(*told)

    def failed(self, limiter: str, outage: StoreOutage) -> None:
        """As `Observer.failed`."""
        self._count(lambda: self._decisions.labels(self._policy(limiter), "error").inc())

    def near_limit(self, limiter: str, decision: Decision) -> None:
        """As `Observer.near_limit`."""
        self._count(lambda: self._near.labels(self._policy(limiter)).inc())

    def shadow_denied(self, limiter: str, decision: Decision) -> None:
        """As `Observer.shadow_denied`."""
        if is_request(decision):
            policy = self._policy(limiter, part_of(decision))
            self._count(lambda: self._decisions.labels(policy, "shadow_denied").inc())

    def waited(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        """As `Observer.waited`."""
        result = "too_late" if not decision.allowed else "turn" if duration_ns else "at_once"
        self._count(self._count_wait, self._policy(limiter, part_of(decision)), result, duration_ns / 1e9)

    def _count_wait(self, policy: str, result: str, duration_s: float) -> None:
        self._waits.labels(policy, result).inc()
        if result == "turn":
            self._wait_times.labels(policy).observe(duration_s)

    def slots_taken(self, limiter: str, limit: str, slots: int) -> None:
        """As `Observer.slots_taken`."""
        self._count(lambda: self._slots.labels(self._policy(limiter, limit)).inc(slots))

    def slots_released(self, limiter: str, limit: str, slots: int) -> None:
        """As `Observer.slots_released`."""
        self._count(lambda: self._slots.labels(self._policy(limiter, limit)).dec(slots))

    def round_trip(self, store: str, groups: int, duration_ns: int, outage: StoreOutage | None) -> None:
        """As `Observer.round_trip`."""
        self._count(self._count_trip, store, groups, duration_ns / 1e9, "answered" if outage is None else "failed")

    def _count_trip(self, store: str, groups: int, duration_s: float, result: str) -> None:
        found = self._sent.get((store, result))
        if found is None:
            name = self._stores.known(store)
            found = (
                self._trips.labels(name, result).inc,
                self._trip_times.labels(name).observe,
                self._sizes.labels(name).observe,
            )
            if len(self._sent) < 2 * MAX_NAMES:
                self._sent[store, result] = found
        found[0]()
        found[1](duration_s)
        found[2](groups)

    def outage_began(self, limiter: str, outage: StoreOutage) -> None:
        """As `Observer.outage_began`."""
        self._count(self._count_outage, self._policy(limiter))

    def _count_outage(self, policy: str) -> None:
        self._outages.labels(policy).inc()
        self._outage.labels(policy).set(1)

    def outage_ended(self, limiter: str) -> None:
        """As `Observer.outage_ended`."""
        self._count(lambda: self._outage.labels(self._policy(limiter)).set(0))

    def breaker_changed(self, store: str, state: BreakerState) -> None:
        """As `Observer.breaker_changed`."""
        self._count(self._count_breaker, self._stores.known(store), state)

    def _count_breaker(self, store: str, state: BreakerState) -> None:
        self._changes.labels(store, state).inc()
        self._breaker.labels(store).set(_BREAKER[state])

    def lease_drawn(self, limiter: str, key: str, tokens: int) -> None:
        """As `Observer.lease_drawn`."""
        self._count(lambda: self._leased.labels(self._policy(limiter), "drawn").inc(tokens))

    def lease_returned(self, limiter: str, key: str, tokens: int) -> None:
        """As `Observer.lease_returned`."""
        self._count(lambda: self._leased.labels(self._policy(limiter), "returned").inc(tokens))

    def _policy(self, limiter: str, part: str = "") -> str:
        return self._policies.known(policy_of(limiter, part))


class _Names:
    """The names that are labels; from some number on, all others are one."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def known(self, name: str) -> str:
        """The name as a label."""
        if name not in self._known:
            if len(self._known) >= MAX_NAMES:
                return "other"
            self._known.add(name)
        return name
