"""What is asked in `make exactness`: six schedules, each the same for every library.

Each answers with `Outcome`s: how many requests were admitted, and how many a correct limiter of the same algorithm
would have admitted at these very instants, as bounds (see `ideals.py`). An exception that reaches the caller counts as
a request that was not admitted.

This module must not know how results are shown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import redis

from benchmarks import ideals
from benchmarks.ideals import Bounds, Rate, Span
from benchmarks.peers import OUR_ENTRIES, OURS, PEER_ENTRIES, Contender, Entry, Quota, limit_of, ours
from headgate import Decision, Limit, Limiter

KEY: Final = "user:42"


LEASED: Final = ours("token bucket", "leases", lease=True)
"""Our bucket with tokens that are drawn ahead and spent locally."""

ENTRIES: Final = (*OUR_ENTRIES, LEASED, *(entry for entry in PEER_ENTRIES if entry.admits_at_once))
"""All that are asked. A peer that makes every caller sleep has nothing to say to one who asks for now."""


class Quotas(NamedTuple):
    """The same rate for a bucket and for a window; a window's capacity is its `tokens`."""

    bucket: Quota
    window: Quota

    def of(self, entry: Entry) -> Quota:
        return self.bucket if kind_of(entry) == "token bucket" else self.window


def kind_of(entry: Entry) -> str:
    """The algorithm, whatever its options are."""
    return entry.kind.partition(",")[0]


FLOOD: Final = Quotas(Quota(1_500, 1, 10), Quota(1_500, 1))
"""A token takes 666 2/3 microseconds: whoever rounds that is found out."""
IDLE: Final = Quotas(Quota(10, 1, 1_000), Quota(1_000, 100))
DRIP: Final = Quotas(Quota(9, 10, 3), Quota(9, 10))
FLUSH: Final = Quotas(Quota(500, 1, 50), Quota(500, 1))
CROWD: Final = Quotas(Quota(500, 1, 100), Quota(500, 1))

FLOOD_S, FLOOD_CYCLE_S, FLOOD_LEAD_S = 1.7, 2.0, 0.2
IDLE_S, IDLE_CALLS = 2.2, 1_100
DRIP_S, DRIP_KEYS, DRIP_SHARE = 18.0, 8, 0.95
FLUSH_S, FLUSH_EVERY_S = 1.2, 0.1
TIERS_ASKED, TIERS_WIDE, TIERS_NARROW, TIERS_PER_S = 60, 100, 20, 86_400
TIERS: Final = ("user", "ip", "global")
"""In the order in which a library without groups asks for them."""


@dataclass
class Trace:
    """All requests of one key: when they were decided, and how."""

    spans: list[Span] = field(default_factory=list)
    admitted: list[Span] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def ask(self, contender: Contender, key: str) -> bool:
        """Make one request."""
        is_admitted = False
        before = time.time_ns()
        try:
            is_admitted = contender.is_admitted(contender.call(key))
        except Exception as error:
            self.errors[type(error).__name__] += 1
        span = Span(before // 1_000, -(-time.time_ns() // 1_000))
        self.spans.append(span)
        if is_admitted:
            self.admitted.append(span)
        return is_admitted

    def ask_until(self, contender: Contender, key: str, until_s: float) -> None:
        """As fast as possible, until an instant of the machine's clock. All that is noted here would make a collection
        of garbage long enough for a small bucket to overflow, so there is none meanwhile."""
        until_ns = int(until_s * 1e9)
        gc.disable()
        try:
            while time.time_ns() < until_ns:
                self.ask(contender, key)
        finally:
            gc.enable()


@dataclass
class Outcome:
    """What became of one schedule with one library and algorithm."""

    entry: Entry
    asked: int
    admitted: int
    ideal: Bounds
    errors: Counter[str] = field(default_factory=Counter)
    notes: dict[str, str] = field(default_factory=dict)
    """More columns, by their title."""

    @property
    def ratio(self) -> float:
        return self.ideal.ratio(self.admitted)

    @property
    def is_exact(self) -> bool:
        return self.ideal.least <= self.admitted <= self.ideal.most


def outcome(entry: Entry, traces: Sequence[Trace], quota: Quota, **notes: str) -> Outcome:
    """Hold what was admitted of some keys against the ideal."""
    ideal, rate = ideal_of(entry), rate_of(quota)
    bounds = [ideal(trace.spans, rate) for trace in traces]
    return Outcome(
        entry,
        asked=sum(len(trace.spans) for trace in traces),
        admitted=sum(len(trace.admitted) for trace in traces),
        ideal=Bounds(sum(each.least for each in bounds), sum(each.most for each in bounds)),
        errors=sum((trace.errors for trace in traces), Counter()),
        notes=notes,
    )


def rate_of(quota: Quota) -> Rate:
    return Rate(quota.tokens, quota.per_s * 1_000_000, quota.capacity)


_FROM_FIRST: Final = {"limits", "asyncio-redis-rate-limit"}
"""Whose windows begin with a key's first request; the others' lie on the epoch's grid."""


def ideal_of(entry: Entry) -> ideals.Ideal:
    """The ideal of what an entry's algorithm promises."""
    from_first = entry.library in _FROM_FIRST
    kind = kind_of(entry)
    if kind == "fixed window":
        return ideals.fixed_window_from_first if from_first else ideals.fixed_window
    if kind == "sliding window" and entry.library == OURS:
        return ideals.sliding_window_rounded_up
    if kind == "sliding window":
        return ideals.sliding_window_from_first if from_first else ideals.sliding_window_rounded_down
    return {"token bucket": ideals.token_bucket, "sliding log": ideals.sliding_log}[kind]


class Bench:
    """A server, and a loop to run async libraries in. Opens contenders, and closes them."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.admin: Any = redis.Redis.from_url(base)
        self._runner = asyncio.Runner()
        self._databases = 1

    @contextlib.contextmanager
    def opened(self, entry: Entry, *quotas: Quota) -> Iterator[list[Contender]]:
        """Contenders of an entry, one for each quota, each in an empty database of its own."""
        made = [self._open(entry, quota) for quota in quotas]
        try:
            yield made
        finally:
            for contender in made:
                self._close(contender)

    def _open(self, entry: Entry, quota: Quota) -> Contender:
        self._databases += 1
        return open_blocking(entry, f"{self.base}/{self._databases}", quota, self._runner)

    def _close(self, contender: Contender) -> None:
        close_blocking(contender, self._runner)

    def empty(self) -> None:
        """Forget everything. The databases are numbered afresh."""
        self.admin.flushall()
        self._databases = 1

    def close(self) -> None:
        self._runner.close()
        self.admin.close()


def open_blocking(entry: Entry, url: str, quota: Quota, runner: asyncio.Runner) -> Contender:
    """Open an entry for a blocking caller. One that is async only runs in an event loop, call by call."""
    if entry.open_sync is not None:
        return entry.open_sync(url, quota)
    make = entry.open_async
    assert make is not None

    async def opening() -> Contender:
        return make(url, quota)

    contender = runner.run(opening())
    return Contender(
        contender.library,
        contender.algorithm,
        lambda key: runner.run(contender.call(key)),
        contender.is_admitted,
        contender.close,
    )


def close_blocking(contender: Contender, runner: asyncio.Runner) -> None:
    closing = contender.close()
    if asyncio.iscoroutine(closing):
        runner.run(closing)


Tick = Callable[[str], None]
"""Told what is being done, once for each step."""


def warmed(
    bench: Bench, entries: Sequence[Entry], quotas: Quotas, tick: Tick
) -> Iterator[tuple[Entry, Quota, Contender]]:
    """Each library by itself, on an empty server, connected and with its scripts there."""
    for entry in entries:
        tick(label(entry))
        bench.empty()
        quota = quotas.of(entry)
        with bench.opened(entry, quota) as (contender,):
            Trace().ask(contender, "warming up")
            yield entry, quota, contender


def flood(bench: Bench, entries: Sequence[Entry], tick: Tick) -> list[Outcome]:
    """As fast as possible. Begins shortly before a whole second, so that windows show their edges."""
    outcomes = []
    for entry, quota, contender in warmed(bench, entries, FLOOD, tick):
        trace = Trace()
        start_s = next_phase(FLOOD_LEAD_S)
        sleep_until(start_s)
        trace.ask_until(contender, KEY, start_s + FLOOD_S)
        burst = ideals.largest_burst(trace.admitted, rate_of(quota))
        promised = quota.capacity
        outcomes.append(outcome(entry, [trace], quota, **{"largest burst": f"{burst:,.1f} of {promised:,}"}))
    return outcomes


def next_phase(lead_s: float) -> float:
    """The next instant that is so long before a whole second."""
    return math.ceil(time.time() + lead_s + 0.01) - lead_s


def sleep_until(instant_s: float) -> None:
    time.sleep(max(0.0, instant_s - time.time()))


def idle(bench: Bench, entries: Sequence[Entry], tick: Tick) -> list[Outcome]:
    """Spend everything, stay away for a while, and come back."""
    bench.empty()
    outcomes = []
    with contextlib.ExitStack() as stack:
        stages = []
        for entry in entries:
            tick(label(entry))
            quota, trace = IDLE.of(entry), Trace()
            (contender,) = stack.enter_context(bench.opened(entry, quota))
            for _ in range(IDLE_CALLS):
                trace.ask(contender, KEY)
            stages.append((entry, contender, quota, trace, time.time()))
        for entry, contender, quota, trace, left_s in stages:
            tick(label(entry))
            sleep_until(left_s + IDLE_S)
            before = len(trace.admitted)
            for _ in range(IDLE_CALLS):
                trace.ask(contender, KEY)
            returned = len(trace.admitted) - before
            outcomes.append(outcome(entry, [trace], quota, **{"after idling": f"{returned:,}"}))
    return outcomes


def drip(bench: Bench, entries: Sequence[Entry], tick: Tick) -> list[Outcome]:
    """A little less than the limit, all libraries side by side, on several keys each that take turns."""
    bench.empty()
    with contextlib.ExitStack() as stack:
        stages = []
        for entry in entries:
            (contender,) = stack.enter_context(bench.opened(entry, DRIP.of(entry)))
            Trace().ask(contender, "warming up")
            stages.append((entry, contender, [Trace() for _ in range(DRIP_KEYS)]))
        rate = DRIP.bucket
        gap_s = rate.per_s / rate.tokens / DRIP_SHARE / DRIP_KEYS
        began_s = time.time() + 0.1
        for number in range(int(DRIP_S / gap_s)):
            key = number % DRIP_KEYS
            sleep_until(began_s + number * gap_s)
            for _, contender, traces in stages:
                traces[key].ask(contender, f"user:{key}")
            tick(f"{number * gap_s:.0f} of {DRIP_S:.0f} s")
        return [outcome(entry, traces, DRIP.of(entry)) for entry, _, traces in stages]


def drip_steps() -> int:
    """How often `drip` ticks."""
    rate = DRIP.bucket
    return int(DRIP_S / (rate.per_s / rate.tokens / DRIP_SHARE / DRIP_KEYS))


def flush(bench: Bench, entries: Sequence[Entry], tick: Tick) -> list[Outcome]:
    """As fast as possible, while the server forgets all scripts ten times a second."""
    outcomes = []
    for entry, quota, contender in warmed(bench, entries, FLUSH, tick):
        trace = Trace()
        began_s = time.time()
        for number in itertools.count(1):
            trace.ask_until(contender, KEY, began_s + min(FLUSH_S, number * FLUSH_EVERY_S))
            if number * FLUSH_EVERY_S >= FLUSH_S:
                break
            bench.admin.script_flush()
        outcomes.append(outcome(entry, [trace], quota))
    return outcomes


def tiers(bench: Bench, entries: Sequence[Entry], tick: Tick) -> list[Outcome]:
    """A user's, an address's and everybody's limit. Each in turn is the narrow one, and what is left in the two others
    is counted afterwards: what the requests that went through have not spent."""
    outcomes = []
    for entry in entries:
        tick(label(entry))
        left = should = 0
        trace, notes = Trace(), {}
        for narrow in TIERS:
            bench.empty()
            quotas = {name: Quota(TIERS_NARROW if name == narrow else TIERS_WIDE, TIERS_PER_S) for name in TIERS}
            with tiered(bench, entry, quotas) as tier:
                went = sum(trace.ask(tier.all_of_them, KEY) for _ in range(TIERS_ASKED))
                others = [name for name in TIERS if name != narrow]
                found = [left_in(tier.one_of_them[name]) for name in others]
            left += sum(found)
            should += len(others) * (TIERS_WIDE - went)
            notes[f"full: {narrow}"] = ", ".join(f"{name} {n}" for name, n in zip(others, found, strict=True))
        outcomes.append(Outcome(entry, len(trace.spans), left, Bounds(should, should), trace.errors, notes))
    return outcomes


class Tiered(NamedTuple):
    """Three limits of one library, asked for together, and each by itself."""

    all_of_them: Contender
    one_of_them: dict[str, Contender]


@contextlib.contextmanager
def tiered(bench: Bench, entry: Entry, quotas: dict[str, Quota]) -> Iterator[Tiered]:
    """As a group, where a library has groups: that is ours. Else one after the other, as far as each one admits."""
    if entry.library == OURS:
        limits: dict[str, Limit] = {name: limit_of(kind_of(entry), quota) for name, quota in quotas.items()}
        with Limiter(limits, store=f"{bench.base}/2") as limiter:

            def together(key: str) -> Decision:
                return limiter.try_acquire(dict.fromkeys(TIERS, key))

            def alone(name: str) -> Callable[[str], Decision]:
                costs = {tier: int(tier == name) for tier in TIERS}
                return lambda key: limiter.try_acquire(dict.fromkeys(TIERS, key), cost=costs)

            each = {name: Contender(OURS, entry.algorithm, alone(name)) for name in TIERS}
            yield Tiered(Contender(OURS, entry.algorithm, together), each)
        return
    with bench.opened(entry, *quotas.values()) as made:
        by_name = dict(zip(quotas, made, strict=True))

        def in_turn(key: str) -> bool:
            return all(contender.is_admitted(contender.call(key)) for contender in made)

        yield Tiered(Contender(entry.library, entry.algorithm, in_turn), by_name)


def left_in(contender: Contender) -> int:
    """How many more requests a limit admits."""
    trace = Trace()
    for _ in range(TIERS_WIDE + 1):
        trace.ask(contender, KEY)
    return len(trace.admitted)


def label(entry: Entry) -> str:
    return f"{entry.library}, {entry.algorithm}"
