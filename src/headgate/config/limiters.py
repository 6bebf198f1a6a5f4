"""Limiters as a configuration says them: limits in words, in numbers, and in rate-sync's words.

This module must not know a store's address.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from headgate.config.places import WRONG, FromEnvironment, Place
from headgate.config.settings import LimiterSettings, StoreSettings
from headgate.config.stores import store_of
from headgate.errors import HeadgateError, LimitError
from headgate.lease import Lease
from headgate.limiter.limiters import Limiter
from headgate.limiter.policy import CallLimit
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.limits.grammar import parse_limit

_WINDOWS = {"fixed_window": FixedWindow, "sliding_window": SlidingWindow, "sliding_log": SlidingLog}


def limit_of(said: Any, place: Place) -> Any:
    """A limit of its words. Problems are said."""
    try:
        return parse_limit(str(said) if isinstance(said, FromEnvironment) else said)
    except LimitError as error:
        if isinstance(said, FromEnvironment):
            return place.say(
                f"{said!r} is no limit, such as '100/minute', with what the environment has (which is not shown)"
            )
        return place.say(str(error))


def limits_of(said: Any, place: Place) -> Any:
    """The limits of a list or of a table, by their names. Problems are said."""
    if isinstance(said, Mapping):
        named = {name: limit_of(one, place.at(name)) for name, one in said.items()}
        return WRONG if WRONG in named.values() else named
    listed = [limit_of(one, place.at(index)) for index, one in enumerate(said)]
    if WRONG in listed:
        return WRONG
    labels = [limit.label for limit in listed]
    if len(set(labels)) < len(labels):
        return place.say("two of these are of one period: give them names, { NAME = ..., NAME = ... }")
    return listed[0] if len(listed) == 1 else dict(zip(labels, listed, strict=True))


def limiter_settings(name: str, said: Mapping[str, Any], stores: Mapping[str, StoreSettings], place: Place) -> Any:
    """The limiter of a table, whose values were read. Problems are said."""
    if WRONG in said.values():
        return WRONG
    store = store_of(said.get("store"), stores, place)
    limits = _limits(said, place)
    if not store or not limits:
        return WRONG
    tiers = {tier: _tier(one, limits, place.at("tiers", tier)) for tier, one in said.get("tiers", {}).items()}
    options = {key: said[key] for key in ("on_outage", "instances", "lease", "penalty") if key in said}
    if "outage_limit" in said:
        own, at = said["outage_limit"], place.at("outage_limit")
        options["outage_limit"] = limits_of(own, at) if isinstance(own, Mapping) else limit_of(own, at)
    if isinstance(options.get("lease"), Mapping):
        try:
            options["lease"] = Lease(**options["lease"])
        except HeadgateError as error:
            return place.at("lease").say(str(error))
    if WRONG in tiers.values() or WRONG in options.values():
        return WRONG
    if isinstance(limits, Mapping) and not tiers and not isinstance(said.get("limits"), Mapping):
        limits = tuple(
            limits.values()
        )  # their names are needed by nobody, and their state is called by them all the same
    penalty = options.get("penalty")
    try:
        Limiter(limits, name=name, **options)  # in memory, to see whether all goes together
    except HeadgateError as error:
        if isinstance(penalty, FromEnvironment):
            return place.say(
                f"this does not go together with penalty {penalty!r} (what the environment has is not shown)"
            )
        return place.say(str(error))
    return LimiterSettings(name, store, limits, options, said.get("timeout"), tiers)


def _limits(said: Mapping[str, Any], place: Place) -> Any:
    """The limits of a limiter: one, or several by their names."""
    limits: Any = None
    try:
        if "limits" in said:
            return limits_of(said["limits"], place.at("limits"))
        if "rate_per_second" in said:
            if said.get("algorithm", "token_bucket") != "token_bucket":
                return place.at("rate_per_second").say("goes with a token bucket: write limit and window_seconds")
            limits = _rate(said["rate_per_second"], said.get("burst"))
        elif isinstance(said.get("limit"), int):
            if "window_seconds" not in said:
                return place.at("limit").say("is a number, and so needs window_seconds; or write '100/minute'")
            window = Fraction(str(said["window_seconds"]))
            kind: Any = _WINDOWS.get(said.get("algorithm", ""), TokenBucket)
            limits = kind(said["limit"], _exact(window))
        elif "limit" in said:
            for key in ("window_seconds", "algorithm"):
                if key in said:
                    return place.at(key).say("goes with a limit that is a number: put it into the limit's words")
            limits = limit_of(said["limit"], place.at("limit"))
        elif "algorithm" in said:
            return place.at("algorithm").say("goes with limit and window_seconds, and there are none")
        if "max_concurrent" not in said or limits is WRONG:
            return limits
        slots = Concurrency(said["max_concurrent"])
    except LimitError as error:
        return place.say(str(error))
    if isinstance(limits, Concurrency):
        return place.at("max_concurrent").say("limit says how many at the same time already: give one of them")
    return slots if limits is None else {limits.label: limits, slots.label: slots}


def _rate(rate: float, burst: int | None) -> TokenBucket:
    """A bucket of so many tokens a second, to the last digit that is written."""
    exact = Fraction(str(rate)).limit_denominator(1_000_000)
    return TokenBucket(exact.numerator, exact.denominator, burst or max(1, math.ceil(exact)))


def _exact(seconds: Fraction) -> float | int:
    return seconds.numerator if seconds.denominator == 1 else float(seconds)


def _tier(said: Any, limits: Limit | Mapping[str, Limit], place: Place) -> CallLimit | Any:
    """The limits of a tier, in the form in which a call takes them."""
    if isinstance(said, Mapping):
        if not isinstance(limits, Mapping):
            return place.say("names limits, and the limiter has one without a name: write the limit itself")
        for name in said:
            if name not in limits:
                return place.at(name).say(f"there is no limit of this name: there are {', '.join(limits)}")
        return limits_of(said, place)
    limit = limit_of(said, place)
    if not isinstance(limits, Mapping) or limit is WRONG:
        return limit
    rates = [name for name, one in limits.items() if isinstance(one, Concurrency) == isinstance(limit, Concurrency)]
    if len(rates) != 1:
        return place.say(
            f"is to say which of the limits it means: {{ {', '.join(f'{name} = ...' for name in limits)} }}"
        )
    return {rates[0]: limit}
