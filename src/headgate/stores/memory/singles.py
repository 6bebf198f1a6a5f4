"""The fast paths of the memory store: what decides on single hits of a limit, by key and cost.

Each is the algorithm's `judge` with `spend` or `keep` in one, for packed states, with no point between reading an
entry and writing it (see `operations.py`): that takes a fifth of the time of the general way, for keys that are known,
dead or new alike. Hence what looks odd here. What is not plain is left to an operation.
docs/decisions/0013-memory-for-every-key.md has the figures.
"""

from __future__ import annotations

from typing import Any

from headgate.algorithms import Facts, fixed_window, sliding_log, sliding_window
from headgate.clock import Clock, in_nanoseconds
from headgate.decision import Decision, Single, ToldDecision
from headgate.keys import check_key
from headgate.limits import Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.stores.memory.operations import Operations


def single(operations: Operations, clock: Clock, limit: Limit, name: str) -> Single:
    """Decides on single hits of a limit. Leaves what is no plain key, or no cost from 1 to the capacity (None)."""
    if isinstance(limit, SlidingWindow):
        return _sliding(operations, clock, limit, name)
    if isinstance(limit, SlidingLog):
        return _in_log(operations, clock, limit, name)
    if isinstance(limit, TokenBucket) or (limit.algorithm is fixed_window and limit.is_plain):
        return _rising(operations, clock, limit, name)
    return _otherwise(operations, limit, name)


def _rising(operations: Operations, clock: Clock, limit: Limit, name: str) -> Single:
    """As `single`, for states that are packed into a number which rises with time and with what is spent: the
    theoretical arrival time of a token bucket, and the fixed window with its count. It is the algorithm's `judge`
    with `spend` or `keep` in one.
    """
    token, tolerance, unit = limit.arguments(1, 0, "")
    grid, scale = unit, 1 << fixed_window.SPENT_BITS
    if isinstance(limit, TokenBucket):
        grid, scale = 1, unit
    table, capacity = operations.table_in(unit, limit, name), limit.capacity
    entries, add_place, make_room = table.entries, table.places.append, operations.tables.make_room
    lock, time_ns = operations.lock, in_nanoseconds(clock)
    asked = (limit, name)

    def single(key: Any, cost: Any) -> Decision | None:
        if key.__class__ is not str or cost.__class__ is not int:
            return None
        if cost == 1:
            increment = token
        elif 0 < cost <= capacity:
            increment = cost * token
        else:
            return None
        with lock:
            now_us = time_ns() // 1_000
            now = now_us * scale if grid == 1 else now_us // grid * scale
            if key in entries:
                # From here on, there is no point until it is written.
                if operations.under_way is not None or (told := entries[key]).__class__ is not int:
                    return operations.decide_single(limit, key, name, cost)
                if told < now:  # noqa: PLR1730  # `max` takes longer than all the sums here
                    told = now
                spent = told + increment
                full = now + tolerance
                if is_allowed := spent <= full:
                    entries[key] = told = spent
                elif told > full:  # more than full: the clock has stepped back, or more was charged
                    return operations.decide_single(limit, key, name, cost)
            else:
                if not key.isascii() or not 0 < len(key) <= 256 or "\0" in key:
                    check_key(key)
                if len(entries) >= table.granted:
                    make_room(table, now_us)
                # From here on, there is no point until it is written, and has its place.
                if (
                    operations.under_way is not None
                    or key in entries
                    or not table.is_swept
                    or table.entries is not entries
                ):
                    return operations.decide_single(limit, key, name, cost)
                entries[key] = told = now + increment
                add_place(key)
                is_allowed = True
        decision: ToldDecision = ToldDecision()
        decision.now_us = now_us
        decision.allowed = is_allowed
        decision.asked = asked
        decision.key = key
        decision.cost = cost
        decision.told = told
        return decision

    return single


def _sliding(operations: Operations, clock: Clock, limit: SlidingWindow, name: str) -> Single:
    """As `single`, for packed states of the sliding window, with its `judge` and `spend` or `keep` in one."""
    _, most, period, step, steps = limit.arguments(1, 0, "")
    table = operations.table_in(period, limit, name)
    entries, add_place, make_room = table.entries, table.places.append, operations.tables.make_room
    lock, time_ns = operations.lock, in_nanoseconds(clock)
    asked, bits, window = (limit, name), sliding_window.SPENT_BITS, 1 << 2 * sliding_window.SPENT_BITS
    counts = (1 << bits) - 1

    def single(key: Any, cost: Any) -> Decision | None:
        if key.__class__ is not str or cost.__class__ is not int or not 0 < cost <= most:
            return None
        with lock:
            now_us = time_ns() // 1_000
            number = now_us // period
            now = number * window
            if key in entries:
                # From here on, there is no point until it is written.
                if operations.under_way is not None or (told := entries[key]).__class__ is not int:
                    return operations.decide_single(limit, key, name, cost)
                ahead = told - now
                if ahead < 0:  # what was the current window is the previous one, or older than that
                    ahead = told >> bits & counts if ahead >= -window else 0
                elif ahead >= window:  # the clock has stepped back
                    return operations.decide_single(limit, key, name, cost)
                room = most - (ahead >> bits)
                if previous := ahead & counts:
                    if previous > most:
                        return operations.decide_single(limit, key, name, cost)
                    left = -((now_us - (number + 1) * period) // step)
                    if left > steps:  # noqa: PLR1730  # `min` takes longer
                        left = steps
                    room += -(previous * left) // steps
                told = now + ahead
                if is_allowed := cost <= room:
                    entries[key] = told = told + (cost << bits)
            else:
                if not key.isascii() or not 0 < len(key) <= 256 or "\0" in key:
                    check_key(key)
                if len(entries) >= table.granted:
                    make_room(table, now_us)
                # From here on, there is no point until it is written, and has its place.
                if (
                    operations.under_way is not None
                    or key in entries
                    or not table.is_swept
                    or table.entries is not entries
                ):
                    return operations.decide_single(limit, key, name, cost)
                entries[key] = told = now + (cost << bits)
                add_place(key)
                is_allowed = True
        decision: ToldDecision = ToldDecision()
        decision.now_us = now_us
        decision.allowed = is_allowed
        decision.asked = asked
        decision.key = key
        decision.cost = cost
        decision.told = told
        return decision

    return single


def _in_log(operations: Operations, clock: Clock, limit: SlidingLog, name: str) -> Single:
    """As `single`, for logs. A log of one hit is packed; others are changed in place."""
    _, most, period = arguments = limit.arguments(1, 0, "")
    table = operations.table_in(period, limit, name)
    entries, add_place, make_room = table.entries, table.places.append, operations.tables.make_room
    lock, time_ns = operations.lock, in_nanoseconds(clock)
    asked, hit, bits = (limit, name), sliding_log.fast_path(arguments), sliding_log.COST_BITS

    def single(key: Any, cost: Any) -> Decision | None:
        if key.__class__ is not str or cost.__class__ is not int or not 0 < cost <= most:
            return None
        facts: Facts
        with lock:
            now_us = time_ns() // 1_000
            if key in entries:
                seen = entries[key]
                if operations.under_way is not None:
                    return operations.decide_single(limit, key, name, cost)
                if seen.__class__ is int and seen < now_us - period + 1 << bits:
                    entries[key] = (now_us << bits) + cost  # with no point since it was read
                    is_allowed, facts = True, (cost, now_us, 0)
                else:
                    state, until_us = sliding_log.unpack(seen, period) if seen.__class__ is int else seen
                    found = hit(state if until_us > now_us else None, now_us, cost)
                    if found is None:
                        return operations.decide_single(limit, key, name, cost)
                    is_allowed, state, until_us, facts = found
                    if is_allowed:
                        entry = (state, until_us)
                        if key in entries and (known := entries[key]) is seen:
                            entries[key] = entry
                        elif key in entries and known.__class__ is tuple and known[0] is state:
                            if known[1] < until_us:
                                entries[key] = entry
                        else:  # somebody came in, and what we have read of it is not what there is
                            return operations.decide_single(limit, key, name, cost)
            else:
                check_key(key)
                if len(entries) >= table.granted:
                    make_room(table, now_us)
                # From here on, there is no point until it is written, and has its place.
                if (
                    operations.under_way is not None
                    or key in entries
                    or not table.is_swept
                    or table.entries is not entries
                ):
                    return operations.decide_single(limit, key, name, cost)
                entries[key] = (now_us << bits) + cost
                add_place(key)
                is_allowed, facts = True, (cost, now_us, 0)
        decision: ToldDecision = ToldDecision()
        decision.now_us = now_us
        decision.allowed = is_allowed
        decision.asked = asked
        decision.key = key
        decision.cost = cost
        decision.told = facts
        return decision

    return single


def _otherwise(operations: Operations, limit: Limit, name: str) -> Single:
    """As `single`, for limits that have no fast path."""
    capacity = limit.capacity

    def single(key: Any, cost: Any) -> Decision | None:
        if key.__class__ is not str or cost.__class__ is not int or not 0 < cost <= capacity:
            return None
        with operations.lock:
            return operations.decide_single(limit, key, name, cost)

    return single
