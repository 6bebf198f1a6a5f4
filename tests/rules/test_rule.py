"""What a rule may say, and what it is told that does not fit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from headgate import AsyncLimiter, HeadgateError, Limiter, LimitSyntaxError, parse_limit
from headgate.rules import Rule


def test_its_limits_have_the_names_of_its_parts() -> None:
    assert Rule("5/minute").named_limits() == {"": parse_limit("5/minute")}
    assert [*Rule(["5/second", "100/minute"]).named_limits()] == ["per-second", "per-minute"]
    assert [*Rule({"requests": "60/minute", "tokens": "9_000/minute"}).named_limits()] == ["requests", "tokens"]
    assert [*Rule(limiter=Limiter("5/minute")).named_limits()] == [""]


def test_it_is_called_by_its_name_or_by_its_limits() -> None:
    assert Rule("5/minute", name="login").title == "login"
    assert Rule(["5/second", "100/minute"]).title == "5/second+100/minute"


def test_one_text_is_one_path() -> None:
    rule = Rule("5/minute", paths="/login", methods="post")
    assert (rule.paths, rule.methods) == (("/login",), ("POST",))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "a rule has limits"),
        ({"limits": []}, "a rule has limits"),
        ({"limits": "5/s", "limiter": Limiter("5/s")}, "or a limiter that has them"),
        ({"limits": "5/s", "name": "a:b"}, "letters, digits"),
        ({"limits": "5/s", "name": "x" * 65}, "at most 64"),
        ({"limits": "5/s", "limit_for": "9/s"}, "limit_for is a function, not '9/s'"),
        ({"limits": "5/s", "message": 429}, "message of rule '5/second' is a text"),
        ({"limits": "5/s", "tiers": {"pro": "9/s"}}, "nothing that tells a caller's"),
        ({"limits": "5/s", "wait": -1}, "wait of rule '5/second': a duration"),
        ({"limits": "5/s", "wait": "a while"}, "wait of rule '5/second': a duration"),
        ({"limits": "5/s", "wait": 3601}, "at most 3600 s"),
        ({"limits": "5/s", "on_outage": "raise"}, "'open', 'closed' or 'local'"),
        ({"limits": "5/s", "reserve": 2, "wait": 1}, "has a reserve, and so lets nobody wait"),
        ({"limits": {"a": "5/s"}, "reserve": {"b": 2}}, "has no limit called 'b'"),
        ({"limits": "5/s", "outage_limit": "1/s"}, "outage_limit of rule '5/second' goes with on_outage='local'"),
        ({"limits": {"a": "5/s"}, "outage_limit": {"b": "1/s"}, "on_outage": "local"}, "has no limit called 'b'"),
        ({"limits": "concurrency 5", "outage_limit": {"": "1/s"}, "on_outage": "local"}, "in place of one of tokens"),
        ({"limits": "5/s", "outage_limit": "concurrency 5", "on_outage": "local"}, "in place of one of tokens"),
        ({"limits": "5/s", "instances": 4}, "instances of rule '5/second' goes with on_outage='local'"),
        ({"limits": "5/s", "near": 2}, "a share between 0 and 1"),
        ({"limits": "5/s", "paths": ["login"]}, "begins with '/'"),
        ({"limits": "5/s", "cost": {"tokens": 1}}, "has no limit called 'tokens'"),
        ({"limits": "5/s", "cost": -1}, "a cost is at least 0"),
        ({"limits": "5/s", "cost": 1.5}, "a cost is an integer"),
        ({"limits": {"a": "5/s", "b": "6/s"}, "actual_cost": {"c": len}}, "has no limit called 'c'"),
        (
            {"limits": {"a": "5/s", "b": "6/s"}, "tiers": {"pro": {"c": "9/s"}}, "tier": str},
            "has no limit called 'c'",
        ),
        ({"limits": {"a": "5/s", "b": "6/s"}, "tiers": {"pro": "9/s"}, "tier": str}, "say which of its limits"),
        ({"limits": {"a:b": "5/s"}}, "letters, digits"),
        ({"limits": "5/s", "key": "cookie"}, "'ip', 'user', 'api_key'"),
        ({"limits": "5/s", "exempt_when": True}, "exempt_when is a function"),
        ({"limiter": Limiter({"user": "5/s", "ip": "9/s"})}, "keys of their own"),
        (
            {"limiter": Limiter("5/s"), "tiers": {"pro": "9/s"}, "tier": str, "penalty": "9/m -> 1h"},
            "to the limiter itself",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(HeadgateError, match=says):
        Rule(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"limits": "5 per fortnight"},
        {"limits": "5/s", "tiers": {"pro": "9"}, "tier": str},
        {"limits": "5/s", "penalty": "9/m"},
    ],
)
def test_a_limit_that_is_not_understood_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(LimitSyntaxError):
        Rule(**options)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(0, 0), (0.5, 0.5), ("500ms", 0.5), ("1.5 s", 1.5), ("2m", 120), ("1 hour", 3600), (timedelta(seconds=3), 3)],
)
def test_a_wait_is_written_as_people_do(written: float | str | timedelta, seconds: float) -> None:
    assert Rule("5/s", wait=written).wait == seconds


def test_a_rule_is_a_value() -> None:
    rule = Rule("5/minute", limiter=None, name="a")
    with pytest.raises(AttributeError):
        rule.name = "b"  # type: ignore[misc]  # which is what is refused
    assert Rule(limiter=AsyncLimiter("5/s")).limiter is not None
