"""How many requests a limiter admits that does exactly what its algorithm promises: the ideal that others are held
against.

A caller knows no instant of a decision, only a span that it lies in: from just before the call to just after it, by the
clock that the server has too. So an ideal is a pair of bounds. Each is rigorous: whatever the true instants within the
spans were, a correct limiter admits no fewer than `least` and no more than `most` of these requests. Where the spans
are single instants, as in the test suite, the two are equal (but for the sliding window, whose rounding is free).

Requests of several processes may overlap. Sorting the starts and the ends of the spans, each by itself, bounds the
instants in the order in which they truly came, since each request costs the same.

Integers throughout: time in microseconds, rates as `tokens` per `period_us`. This module must not know any library."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

EXPIRY_GRAIN_US: Final = 1_001
"""A key that expires on the server does so by a clock of milliseconds, and up to one late."""


class Span(NamedTuple):
    """When one request was decided, as far as the caller can tell."""

    before_us: int
    after_us: int


class Rate(NamedTuple):
    """A limit in numbers. `burst` counts for token buckets only: windows have `tokens` for a capacity."""

    tokens: int
    period_us: int
    burst: int


class Bounds(NamedTuple):
    """A correct limiter admits at least `least`, and at most `most`."""

    least: int
    most: int

    def ratio(self, admitted: int) -> float:
        """1.0 within the bounds; outside, the ratio to the nearer one."""
        if admitted < self.least:
            return admitted / self.least
        if admitted > self.most:
            return admitted / self.most if self.most else float("inf")
        return 1.0

    def or_else(self, other: Bounds | None) -> Bounds:
        """What holds where either may."""
        return self if other is None else Bounds(min(self.least, other.least), max(self.most, other.most))


Ideal = Callable[[Sequence[Span], Rate], Bounds]
"""From the spans of all requests, admitted or not, to the bounds."""


def token_bucket(spans: Sequence[Span], rate: Rate) -> Bounds:
    """In every interval of length t at most `burst + rate * t`, and no request is denied that this leaves room for.

    Let c(k) be the number admitted among the first k. What was admitted from request i up to k is at most
    `burst + rate * (t(k) - t(i))`, for each i; a bucket that admits whatever it can makes c(k) the greatest number that
    this allows. It grows with t(k), and shrinks as t(i) grows: hence the bounds."""
    befores, afters = _in_order(spans)
    tokens, period, full = rate.tokens, rate.period_us, rate.burst * rate.period_us
    least = most = 0
    room_least = room_most = 0  # the least, over all i so far, of c(i - 1) - rate * t(i), in 1/period tokens
    for k, (before, after) in enumerate(zip(befores, afters, strict=True)):
        edge_most = most * period - tokens * before
        room_most = edge_most if k == 0 else min(room_most, edge_most)
        most = min(most + 1, (full + tokens * after + room_most) // period)
        # In an interval of no length there is room for the burst, however unsure its instant is.
        by_others = (full + tokens * before + room_least) // period if k else least + rate.burst
        edge_least = least * period - tokens * after
        room_least = edge_least if k == 0 else min(room_least, edge_least)
        least = max(least, min(least + 1, by_others))
    return Bounds(least, most)


def sliding_log(spans: Sequence[Span], rate: Rate) -> Bounds:
    """In every interval of the period at most `tokens`, and no request is denied that this leaves room for."""
    befores, afters = _in_order(spans)
    period = rate.period_us
    least, most = [0], [0]  # c(0), c(1), ...
    gone_least = gone_most = 0
    for before, after in zip(befores, afters, strict=True):
        while gone_most < len(most) - 1 and befores[gone_most] + period <= after:
            gone_most += 1
        while gone_least < len(least) - 1 and afters[gone_least] + period <= before:
            gone_least += 1
        most.append(min(most[-1] + 1, rate.tokens + most[gone_most]))
        least.append(max(least[-1], min(least[-1] + 1, rate.tokens + least[gone_least])))
    return Bounds(least[-1], most[-1])


def fixed_window(spans: Sequence[Span], rate: Rate) -> Bounds:
    """At most `tokens` in each window of the epoch's grid. A request that may lie on either side of an edge counts on
    both for the upper bound, and on neither for the lower."""
    surely: dict[int, int] = {}
    perhaps: dict[int, int] = {}
    for before, after in spans:
        first, last = before // rate.period_us, after // rate.period_us
        for window in range(first, last + 1):
            perhaps[window] = perhaps.get(window, 0) + 1
        if first == last:
            surely[first] = surely.get(first, 0) + 1
    least = sum(min(rate.tokens, asked) for asked in surely.values())
    return Bounds(least, min(len(spans), sum(min(rate.tokens, asked) for asked in perhaps.values())))


def fixed_window_from_first(spans: Sequence[Span], rate: Rate) -> Bounds:
    """At most `tokens` in each window, and a window begins with the first request after the last one has expired.

    Which request that is may be unsure, so all that are possible are followed up."""
    befores, afters = _in_order(spans)
    asked = len(spans)
    begun = {0: Bounds(0, 0)}  # by the request that a window begins with: what was admitted before it
    total: Bounds | None = None
    for first in range(asked):
        if first not in begun:
            continue
        so_far = begun.pop(first)
        earliest = bisect_left(afters, befores[first] + rate.period_us, first + 1)
        latest = bisect_left(befores, afters[first] + rate.period_us + EXPIRY_GRAIN_US, first + 1)
        for following in range(earliest, latest + 1):
            admitted = min(rate.tokens, following - first)
            here = Bounds(so_far.least + admitted, so_far.most + admitted)
            if following < asked:
                begun[following] = here.or_else(begun.get(following))
            else:
                total = here.or_else(total)
    return total or Bounds(0, 0)


def sliding_window_rounded_up(spans: Sequence[Span], rate: Rate) -> Bounds:
    """Two counters on the epoch's grid. The previous one weighs by the share that is still in view, rounded against the
    caller."""
    return _sliding(spans, rate, 0, 0, rounds_up=True)


def sliding_window_rounded_down(spans: Sequence[Span], rate: Rate) -> Bounds:
    """The same, rounded in the caller's favour."""
    return _sliding(spans, rate, 0, 0, rounds_up=False)


def sliding_window_from_first(spans: Sequence[Span], rate: Rate) -> Bounds:
    """The same, rounded in the caller's favour, on a grid that begins with the first request."""
    if not spans:
        return Bounds(0, 0)
    befores, afters = _in_order(spans)
    return _sliding(spans, rate, befores[0], afters[0] + EXPIRY_GRAIN_US, rounds_up=False)


def _sliding(spans: Sequence[Span], rate: Rate, grid_least: int, grid_most: int, *, rounds_up: bool) -> Bounds:
    """The grid begins between `grid_least` and `grid_most`.

    In a window with `previous` behind it, the count may reach `tokens - previous * view`, where `view` is the share of
    the previous window that is left. It grows with time, and shrinks as `previous` grows. A request near an edge counts
    on both sides for the upper bound, and on neither for the lower."""
    befores, afters = _in_order(spans)
    period = rate.period_us
    least: dict[int, int] = {}
    most: dict[int, int] = {}

    def counted(now: int, previous: int, left: int) -> int:
        in_view = -(-previous * left // period) if rounds_up else previous * left // period
        return max(now, min(now + 1, rate.tokens - in_view))

    for before, after in zip(befores, afters, strict=True):
        first, last = (before - grid_most) // period, (after - grid_least) // period
        for window in range(first, last + 1):
            left = period - min(period, after - grid_least - window * period)
            most[window] = counted(most.get(window, 0), least.get(window - 1, 0), left)
        if first == last:
            left = period - max(0, before - grid_most - first * period)
            least[first] = counted(least.get(first, 0), most.get(first - 1, 0), left)
    return Bounds(sum(least.values()), min(len(spans), sum(most.values())))


def largest_burst(admitted: Sequence[Span], rate: Rate) -> float:
    """The most that was ever admitted above the steady rate: the least burst B for which `B + rate * t` holds in every
    interval. No instants within the spans can make it smaller."""
    befores, afters = _in_order(admitted)
    largest = 0
    behind: int | None = None
    for k, (before, after) in enumerate(zip(befores, afters, strict=True)):
        begun = rate.tokens * before - k * rate.period_us
        behind = begun if behind is None else max(behind, begun)
        largest = max(largest, (k + 1) * rate.period_us - rate.tokens * after + behind)
    return largest / rate.period_us


def _in_order(spans: Sequence[Span]) -> tuple[list[int], list[int]]:
    return sorted(span.before_us for span in spans), sorted(span.after_us for span in spans)
