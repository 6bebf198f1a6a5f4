"""What an answer says of limits: for how long it asks us to stay away."""

from __future__ import annotations

import string
from email.utils import formatdate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from headgate import Limiter, ManualClock, MemoryStore
from headgate.clients.answers import Answer, pause_us
from tests.profiles import quickly

NOW_S = 1_800_000_000
NOW_US = NOW_S * 1_000_000


def pause(status: int, **fields: str) -> float:
    """The seconds for which an answer asks us to stay away; fields have `_` for `-`."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return pause_us(Answer(status, headers, None), NOW_US) / 1_000_000


@pytest.mark.parametrize("status", [403, 429, 503])
@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        ("1.5", 1.5),
        ("0.0000001", 0.000001),
        (formatdate(NOW_S + 30, usegmt=True), 30),
        (formatdate(NOW_S - 30, usegmt=True), 0),
        ("Fri, 15 Jan 2027 09:00:30 +0100", 30),
        (str(NOW_S + 30), 30),
    ],
)
def test_a_refusal_says_when_to_come_back(status: int, told: str, seconds: float) -> None:
    assert pause(status, Retry_After=told) == seconds
    assert pause(status, retry_after=told) == seconds


@pytest.mark.parametrize("status", [200, 202, 301, 404, 500])
def test_the_retry_after_of_other_answers_is_about_something_else(status: int) -> None:
    assert pause(status, Retry_After="7") == 0


def test_dates_are_by_the_vendors_clock() -> None:
    late = formatdate(NOW_S + 3600, usegmt=True)
    assert pause(429, Date=late, Retry_After=formatdate(NOW_S + 3630, usegmt=True)) == 30
    assert pause(200, Date=late, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(NOW_S + 3630)) == 30


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ('"api";r=0;t=30', 30),
        ('"api";r=0;t=30;pk=:cHVwc2Y=:', 30),
        ('"api"; r=0; t=30', 30),
        ('"a";r=5;t=99, "b";r=0;t=30, "c";r=0;t=12', 30),
        ('"api";r=1;t=30', 0),
        ('"api";r=0', 0),
        ('"r=0;t=9, x";r=1;t=30', 0),
        ('"a\\";r=0;t=9";r=1;t=30', 0),
        ("limit=100, remaining=0, reset=30", 30),
        ("limit=100, remaining=1, reset=30", 0),
        ("limit=100;w=60, remaining=0, reset=30", 0),
    ],
)
def test_the_field_of_the_drafts_says_when_something_is_left_again(field: str, seconds: float) -> None:
    assert pause(200, RateLimit=field) == seconds
    assert pause(429, RateLimit=field) == seconds


@pytest.mark.parametrize("family", ["RateLimit", "X-RateLimit", "X-Rate-Limit"])
@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [
        ("0", "30", 30),
        ("0.5", "30", 30),
        ("1", "30", 0),
        ("0", str(NOW_S + 30), 30),
        ("0", str((NOW_S + 30) * 1000), 30),
        ("0", formatdate(NOW_S + 30, usegmt=True), 30),
        ("0", str(NOW_S - 30), 0),
        ("0", "soon", 0),
        ("none", "30", 0),
    ],
)
def test_fields_of_one_number_each_say_it_likewise(family: str, remaining: str, reset: str, seconds: float) -> None:
    assert pause(200, **{f"{family}-Remaining": remaining, f"{family}-Reset": reset}) == seconds


def test_a_refusal_need_not_say_what_remains() -> None:
    assert pause(429, X_RateLimit_Reset="30") == 30
    assert pause(200, X_RateLimit_Reset="30") == 0
    assert pause(429, X_RateLimit_Remaining="5", X_RateLimit_Reset="30") == 0  # another limit has refused it


def test_a_field_that_was_sent_twice_is_one() -> None:
    fields = CIMultiDict([("RateLimit", '"a";r=0;t=5'), ("ratelimit", '"b";r=0;t=30'), ("RateLimit", '"c";r=0;t=7')])
    assert pause_us(Answer(200, fields, None), NOW_US) == 30_000_000


def test_the_more_exact_field_counts() -> None:
    assert pause(429, X_RateLimit_Remaining="0", X_RateLimit_Reset="30", X_RateLimit_Reset_After="29.5") == 29.5
    assert pause(429, Retry_After="1", RateLimit='"api";r=0;t=60') == 1
    assert pause(429, Retry_After="soon", RateLimit='"api";r=0;t=60') == 60
    assert pause(429, RateLimit='"api";r=0;t=5', X_RateLimit_Remaining="0", X_RateLimit_Reset="60") == 5


@pytest.mark.parametrize("style", ["legacy", "draft-6", "draft-7", "draft-11"])
def test_our_own_refusals_are_understood(style: str) -> None:
    limiter = Limiter("1/10s", store=MemoryStore(ManualClock()), name="api")
    limiter.try_acquire("ann")
    headers = limiter.try_acquire("ann").headers(style)  # type: ignore[arg-type]  # one of them
    assert pause_us(Answer(429, headers, None), NOW_US) == 10_000_000
    del headers["Retry-After"]
    assert pause_us(Answer(429, headers, None), NOW_US) == 10_000_000


NAMES = ["Retry-After", "Date", "RateLimit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Reset-After"]
DIGITS = st.text(string.digits, min_size=1, max_size=40)
GARBAGE = st.one_of(
    st.text(st.characters(codec="latin-1"), max_size=40),  # as clients read fields
    st.text(string.digits + " .:;,=-+rt\"'", max_size=40),
    DIGITS,
    st.builds("{}.{}".format, DIGITS, DIGITS),
    st.builds('"a";r={};t={}, "b";t={};r=0'.format, DIGITS, DIGITS, DIGITS),
    st.builds(
        "{}, {} {} {} {}:{}:{} {}".format,
        st.sampled_from(["Fri", "x"]),
        st.integers(-1, 99999),
        st.sampled_from(["Jan", "Feb", "Dec", "x"]),
        st.integers(-1, 99999),
        st.integers(-1, 99),
        st.integers(-1, 99),
        st.integers(-1, 99),
        st.sampled_from(["GMT", "+9999", "-9999", "x", ""]),
    ),
)


@settings(max_examples=quickly(300))
@given(st.sampled_from([200, 403, 429, 503]), st.dictionaries(st.sampled_from(NAMES), GARBAGE))
@example(429, {"Retry-After": "٣"})
@example(429, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 -2359"})
@example(429, {"Retry-After": "Mon, 01 Jan 0001 00:00:00 +2359"})
@example(429, {"Retry-After": "9" * 5000})
def test_whatever_a_vendor_says_is_a_time_or_nothing(status: int, headers: dict[str, str]) -> None:
    told = pause_us(Answer(status, headers, None), NOW_US)
    assert type(told) is int
    assert told >= 0
