"""The grammar of limits: what is understood, what is refused and where the caret stands, and that printing a limit and
reading it again are each other's opposite."""

from __future__ import annotations

import pickle
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headgate import (
    Concurrency,
    FixedWindow,
    Limit,
    LimitError,
    LimitOutOfBounds,
    LimitSyntaxError,
    Penalty,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
    parse_limit,
)
from headgate.limits.grammar import parse_penalty

UNDERSTOOD: list[tuple[str, Limit]] = [
    ("100/minute", TokenBucket(100, per=60)),
    ("5 per second", TokenBucket(5, per=1)),
    ("5persecond", TokenBucket(5, per=1)),
    ("10/30s", TokenBucket(10, per=30)),
    ("10 / 30 s", TokenBucket(10, per=30)),
    ("1000/day", TokenBucket(1000, per=86_400)),
    ("100/minute; burst=20", TokenBucket(100, per=60, burst=20)),
    ("100/minute;burst = 20", TokenBucket(100, per=60, burst=20)),
    ("100/minute; BURST=20", TokenBucket(100, per=60, burst=20)),
    ("token-bucket 100/minute", TokenBucket(100, per=60)),
    ("TOKEN_BUCKET 100/MINUTE", TokenBucket(100, per=60)),
    ("sliding-window 100/minute", SlidingWindow(100, per=60)),
    ("sliding_window 100/minute", SlidingWindow(100, per=60)),
    ("sliding-log 5/300s", SlidingLog(5, per=300)),
    ("fixed-window 1000/day", FixedWindow(1000, per="day")),
    ("fixed-window 1000/day", FixedWindow(1000, per=86_400)),
    ("fixed-window 1000/day; tz=Europe/Berlin", FixedWindow(1000, per="day", tz="Europe/Berlin")),
    ("fixed-window 1000/day; tz=UTC", FixedWindow(1000, per="day")),
    ("fixed-window 1000/hour; tz=Asia/Kathmandu", FixedWindow(1000, per="hour", tz="Asia/Kathmandu")),
    ("fixed-window 9/week", FixedWindow(9, per="week")),
    ("fixed-window 9/7d", FixedWindow(9, per=604_800)),
    ("fixed-window 9/month", FixedWindow(9, per="month")),
    ("fixed-window 9/year; tz=America/New_York", FixedWindow(9, per="year", tz="America/New_York")),
    ("concurrency 50", Concurrency(50)),
    ("concurrency 50; ttl=90s", Concurrency(50, ttl=90)),
    ("concurrency 50; ttl=500ms", Concurrency(50, ttl=0.5)),
    ("1_000_000/s", TokenBucket(1_000_000)),
    ("3/0.5s", TokenBucket(3, per=0.5)),
    ("3/500ms", TokenBucket(3, per=0.5)),
    ("3/1.5minutes", TokenBucket(3, per=90)),
    ("3/500_000us", TokenBucket(3, per=0.5)),
    ("1/2 weeks", TokenBucket(1, per=1_209_600)),
    ("7/usec", TokenBucket(7, per=0.000_001)),
    ("  100\t/ minute  ", TokenBucket(100, per=60)),
    ("007/minute", TokenBucket(7, per=60)),
    ("penalty 10 denials/minute -> 1h", Penalty(10, per=60, block=3600)),
    ("10 denials/minute -> 1h", Penalty(10, per=60, block=3600)),
    ("penalty 10/minute -> 1h", Penalty(10, per=60, block=3600)),
    ("10 denials per 5 minutes -> 1 hour", Penalty(10, per=300, block=3600)),
    ("PENALTY 1 Denial / 30s\N{RIGHTWARDS ARROW}1.5 days", Penalty(1, per=30, block=129_600)),
    ("10denials/minute->1h", Penalty(10, per=60, block=3600)),
]


@pytest.mark.parametrize(("text", "limit"), UNDERSTOOD)
def test_a_limit_in_words_is_understood(text: str, limit: Limit) -> None:
    parsed = parse_limit(text)
    assert parsed == limit
    assert type(parsed) is type(limit)
    assert (parsed.rate, parsed.period_us, parsed.capacity) == (limit.rate, limit.period_us, limit.capacity)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("us usec microsecond microseconds", "0.000001"),
        ("ms msec millisecond milliseconds", "0.001"),
        ("s sec secs second seconds", "1"),
        ("m min mins minute minutes", "60"),
        ("h hr hrs hour hours", "3600"),
        ("d day days", "86400"),
        ("w week weeks", "604800"),
    ],
)
def test_each_unit_of_time_has_its_words(words: str, seconds: str) -> None:
    from decimal import Decimal

    for word in words.split():
        assert parse_limit(f"3/{word}") == TokenBucket(3, per=Decimal(seconds))
        assert parse_limit(f"3 per 2 {word.upper()}") == TokenBucket(3, per=2 * Decimal(seconds))


# Text, the problem, and what stands right behind the caret ("$": the end of the text).
REFUSED: list[tuple[str, type[LimitError], str, str]] = [
    ("", LimitSyntaxError, "expected a whole number of at least 1, such as 100", "$"),
    ("   ", LimitSyntaxError, "expected a whole number of at least 1", "$"),
    ("1 pr day", LimitSyntaxError, "expected '/', 'per' or ';' after 1", "pr day"),
    ("100", LimitSyntaxError, "expected '/' or 'per', then a period such as minute or 30s", "$"),
    ("100/", LimitSyntaxError, "expected a unit of time", "$"),
    ("100 per", LimitSyntaxError, "expected a unit of time", "$"),
    ("100/30", LimitSyntaxError, "expected a unit of time", "$"),
    ("100/fortnight", LimitSyntaxError, "unknown unit of time 'fortnight'", "fortnight"),
    ("100/minut", LimitSyntaxError, "unknown unit of time 'minut'", "minut"),
    ("100//minute", LimitSyntaxError, "expected a unit of time", "/minute"),
    ("100/minute/hour", LimitSyntaxError, "expected ';' and an option, or the end", "/hour"),
    ("100/minute, 5/s", LimitSyntaxError, "expected ';' and an option, or the end", ", 5/s"),
    ("100/minute 5/s", LimitSyntaxError, "expected ';' and an option, or the end", "5/s"),
    ("100 minute", LimitSyntaxError, "expected '/', 'per' or ';' after 100", "minute"),
    ("100:minute", LimitSyntaxError, "expected '/', 'per' or ';' after 100", ":minute"),
    ("-5/minute", LimitSyntaxError, "expected a whole number of at least 1", "-5/minute"),
    ("+5/minute", LimitSyntaxError, "expected a whole number of at least 1", "+5/minute"),
    ("5/-1s", LimitSyntaxError, "expected a unit of time", "-1s"),
    ("1e9/minute", LimitSyntaxError, "expected '/', 'per' or ';' after 1", "e9/minute"),
    ("1.5/s", LimitSyntaxError, "expected a whole number; for one and a half a second, write 3/2s", "1.5/s"),
    ("0x10/s", LimitSyntaxError, "expected '/', 'per' or ';' after 0", "x10/s"),
    ("1,000/s", LimitSyntaxError, "expected '/', 'per' or ';' after 1", ",000/s"),
    ("٣/minute", LimitSyntaxError, "expected a whole number", "٣/minute"),
    ("²/minute", LimitSyntaxError, "unknown algorithm '²'", "²/minute"),
    ("∞/minute", LimitSyntaxError, "expected a whole number", "∞/minute"),
    ("5_/minute", LimitSyntaxError, "expected '/', 'per' or ';' after 5", "_/minute"),
    ("5__0/minute", LimitSyntaxError, "expected '/', 'per' or ';' after 5", "__0/minute"),
    ("5/1__0s", LimitSyntaxError, "unknown unit of time", "__0s"),
    ("5/minute; burst=5_", LimitSyntaxError, "expected '/', 'per' or ';' after 5", "_"),
    ("unlimited", LimitSyntaxError, "unknown algorithm 'unlimited'; there are token-bucket,", "unlimited"),
    ("none", LimitSyntaxError, "unknown algorithm 'none'", "none"),
    ("leaky-bucket 5/s", LimitSyntaxError, "unknown algorithm 'leaky-bucket'", "leaky-bucket 5/s"),
    ("sliding 5/s", LimitSyntaxError, "unknown algorithm 'sliding'", "sliding 5/s"),
    ("token-bucket", LimitSyntaxError, "expected a whole number", "$"),
    ("sliding-log /s", LimitSyntaxError, "expected a whole number", "/s"),
    ("10/0s", LimitSyntaxError, "a period must be longer than nothing", "0s"),
    ("10/0.0000001s", LimitSyntaxError, "a period must be a whole number of microseconds", "0.0000001s"),
    ("10/1.5us", LimitSyntaxError, "a period must be a whole number of microseconds", "1.5us"),
    ("10/month", LimitSyntaxError, "a month has no fixed length: write 30d or 365d", "month"),
    ("10/years", LimitSyntaxError, "a years has no fixed length", "years"),
    ("fixed-window 10/2month", LimitSyntaxError, "a month has no fixed length", "month"),
    ("100/minute;", LimitSyntaxError, "expected an option; its one option is burst=...", "$"),
    ("100/minute; 5", LimitSyntaxError, "expected an option; its one option is burst=...", "5"),
    (
        "100/minute; brust=5",
        LimitSyntaxError,
        "token-bucket has no option 'brust'; its one option is burst=...",
        "brust=5",
    ),
    ("100/minute; burst", LimitSyntaxError, "expected '=' after burst", "$"),
    ("100/minute; burst 5", LimitSyntaxError, "expected '=' after burst", "5"),
    ("100/minute; burst=", LimitSyntaxError, "expected a whole number", "$"),
    ("100/minute; burst=many", LimitSyntaxError, "expected a whole number", "many"),
    ("100/minute; burst=-1", LimitSyntaxError, "expected a whole number", "-1"),
    ("100/minute; burst=1.5", LimitSyntaxError, "expected a whole number", "1.5"),
    ("100/minute; burst=5; burst=6", LimitSyntaxError, "burst is given twice", "burst=6"),
    ("100/minute; tz=UTC", LimitSyntaxError, "token-bucket has no option 'tz'", "tz=UTC"),
    (
        "sliding-window 5/s; burst=9",
        LimitSyntaxError,
        "sliding-window has no option 'burst'; it has no options",
        "burst=9",
    ),
    ("sliding-log 5/s; ttl=9s", LimitSyntaxError, "sliding-log has no option 'ttl'; it has no options", "ttl=9s"),
    ("fixed-window 5/day; tz=", LimitSyntaxError, "expected a time zone, such as Europe/Berlin", "$"),
    ("concurrency", LimitSyntaxError, "expected a whole number", "$"),
    ("concurrency 5/minute", LimitSyntaxError, "expected ';' and an option, or the end", "/minute"),
    ("concurrency 5 per minute", LimitSyntaxError, "expected ';' and an option, or the end", "per minute"),
    ("concurrency 5; ttl=5", LimitSyntaxError, "expected a unit of time", "$"),
    ("concurrency 5; ttl=0s", LimitSyntaxError, "a period must be longer than nothing", "0s"),
    ("penalty 10/minute", LimitSyntaxError, "expected '->' and for how long the key is blocked", "$"),
    ("10 denials/minute; 1h", LimitSyntaxError, "expected '->' and for how long the key is blocked", "; 1h"),
    ("10 denials/minute > 1h", LimitSyntaxError, "expected '->' and for how long the key is blocked", "> 1h"),
    ("10 denials/minute ->", LimitSyntaxError, "expected a unit of time", "$"),
    ("10 denials/minute -> 1", LimitSyntaxError, "expected a unit of time", "$"),
    ("10 denials/minute -> soon", LimitSyntaxError, "unknown unit of time 'soon'", "soon"),
    ("10 denials/minute -> month", LimitSyntaxError, "a month has no fixed length", "month"),
    ("10 denials/minute -> 0s", LimitSyntaxError, "a period must be longer than nothing", "0s"),
    ("10 denials -> 1h", LimitSyntaxError, "expected '/' or 'per', then a period", "-> 1h"),
    ("penalty", LimitSyntaxError, "expected a whole number", "$"),
    ("denials/minute -> 1h", LimitSyntaxError, "unknown algorithm 'denials'", "denials"),
    ("10/minute -> 1h", LimitSyntaxError, "expected ';' and an option, or the end", "-> 1h"),
    ("penalty 10/minute -> 1h -> 2h", LimitSyntaxError, "expected ';' and an option, or the end", "-> 2h"),
    ("penalty 10/minute -> 1h; burst=5", LimitSyntaxError, "penalty has no option 'burst'; it has no options", "burst"),
    ("sliding-log 5 denials/s -> 1h", LimitSyntaxError, "denials are counted by a penalty, not by", "denials"),
    ("penalty 0/s -> 1h", LimitOutOfBounds, "denials must be at least 1, not 0", "0/s"),
    ("penalty 1001/s -> 1h", LimitOutOfBounds, "a penalty remembers each denial by itself; 1001 is above", "1001"),
    ("penalty 5/s -> 36500d", LimitOutOfBounds, "a period must be shorter than 35 years", "5/s"),
    ("0/s", LimitOutOfBounds, "rate must be at least 1, not 0", "0/s"),
    ("sliding-log 0/s", LimitOutOfBounds, "rate must be at least 1, not 0", "0/s"),
    ("concurrency 0", LimitOutOfBounds, "slots must be at least 1, not 0", "0"),
    ("5/s; burst=0", LimitOutOfBounds, "burst must be at least 1, not 0", "5/s"),
    ("9007199254740992/s", LimitOutOfBounds, "rate must be below 2**51", "9007"),
    ("5/36 500 d", LimitSyntaxError, "expected a unit of time", "500 d"),
    ("5/36500d", LimitOutOfBounds, "a period must be shorter than 35 years", "5/36500d"),
    ("1/day; burst=100000", LimitOutOfBounds, "takes more than 35 years to fill", "1/day"),
    ("sliding-log 10001/s", LimitOutOfBounds, "a sliding log keeps one entry for each hit; 10001 is above", "10001/s"),
    ("sliding-window 2251799813685247/365d", LimitOutOfBounds, "cannot be kept exactly: use a token bucket", "2251"),
    ("concurrency 100001", LimitOutOfBounds, "100001 slots are above 100000", "100001"),
    ("fixed-window 5/day; tz=Mars/Olympus", LimitOutOfBounds, "unknown time zone 'Mars/Olympus'", "5/day"),
    ("fixed-window 5/day; tz=../../etc/passwd", LimitOutOfBounds, "unknown time zone", "5/day"),
    ("fixed-window 5/30s; tz=Europe/Berlin", LimitOutOfBounds, "tz goes with a window of the calendar", "5/30s"),
]


@pytest.mark.parametrize(("text", "kind", "problem", "behind"), REFUSED)
def test_a_text_that_is_no_limit_is_refused_with_a_caret_under_the_place(
    text: str, kind: type[LimitError], problem: str, behind: str
) -> None:
    with pytest.raises(LimitError) as caught:
        parse_limit(text)
    assert isinstance(caught.value, kind)
    said, shown, caret = str(caught.value).rsplit("\n", 2)
    assert problem in said
    assert shown == f"  {text}"
    at = caret.index("^") - 2
    assert caret.strip() == "^"
    assert text[at:].startswith(behind) if behind != "$" else at == len(text)
    if isinstance(caught.value, LimitSyntaxError):
        assert (caught.value.text, caught.value.position) == (text, at)
        assert problem in caught.value.problem


def test_the_message_of_a_typo_reads_well() -> None:
    with pytest.raises(LimitSyntaxError) as caught:
        parse_limit("100/minut; burst=20")
    assert str(caught.value) == (
        "unknown unit of time 'minut'; there are us, ms, s, m, h, d, w, and words such as minute\n"
        "  100/minut; burst=20\n"
        "      ^"
    )


@pytest.mark.parametrize("thing", [None, 5, 5.0, b"5/s", ["5/s"], {"rate": 5}, object])
def test_what_is_no_text_is_refused(thing: Any) -> None:
    with pytest.raises(LimitSyntaxError, match="a limit is a text or a Limit, not"):
        parse_limit(thing)


@pytest.mark.parametrize("text", ["10/minute -> 1h", "10 denials/minute -> 1h", "penalty 10 denials/minute -> 1h"])
def test_where_nothing_but_a_penalty_can_be_meant_its_words_may_be_left_out(text: str) -> None:
    assert parse_penalty(text) == Penalty(10, per=60, block=3600)
    assert parse_penalty(parse_penalty(text)) == Penalty(10, per=60, block=3600)


@pytest.mark.parametrize(
    ("thing", "problem"),
    [
        ("10/minute", "expected '->' and for how long the key is blocked, such as '-> 1h'"),
        ("token-bucket 10/minute", "a penalty is one such as '10 denials/minute -> 1h', not '10/minute'"),
        (TokenBucket(10), "a penalty is one such as '10 denials/minute -> 1h', not '10/second'"),
        (7, "a penalty is one such as '10 denials/minute -> 1h', not int"),
        (None, "a penalty is one such as '10 denials/minute -> 1h', not NoneType"),
    ],
)
def test_where_a_penalty_is_meant_nothing_else_is_understood(thing: Any, problem: str) -> None:
    with pytest.raises(LimitSyntaxError) as caught:
        parse_penalty(thing)
    assert caught.value.problem == problem


def test_a_very_long_text_is_refused_without_being_repeated() -> None:
    with pytest.raises(LimitSyntaxError, match="a limit has at most 200 characters") as caught:
        parse_limit("9" * 100_000)
    assert len(str(caught.value)) < 200


def test_a_limit_is_handed_back_as_it_is() -> None:
    limit = TokenBucket(5)
    assert parse_limit(limit) is limit


counts = st.integers(1, 10_000) | st.integers(1, 2**51 - 1)
periods_us = (
    st.integers(1, 10_000_000)
    | st.integers(1, 2**50 - 1)
    | st.sampled_from([1, 1_000, 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000, 604_800_000_000]).flatmap(
        lambda unit: st.integers(1, 100).map(lambda n: n * unit)
    )
)


@st.composite
def limits(draw: st.DrawFn) -> Limit:
    """Any limit that can be made."""
    from datetime import timedelta

    kind = draw(st.sampled_from(["tb", "fw", "calendar", "sw", "sl", "cc", "pn"]))
    per = timedelta(microseconds=draw(periods_us))
    if kind == "tb":
        rate, burst = draw(counts), draw(st.none() | counts)
        if (burst or rate) * (per // timedelta(microseconds=1)) > (2**50 - 1) * rate:
            burst = None
        return TokenBucket(rate, per, burst)
    if kind == "fw":
        return FixedWindow(draw(counts), per)
    if kind == "calendar":
        unit = draw(st.sampled_from(["hour", "day", "week", "month", "year"]))
        zone = draw(
            st.sampled_from([None, "UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Chatham", "Etc/GMT+12"])
        )
        return FixedWindow(draw(counts), unit, zone)
    if kind == "sw":
        return SlidingWindow(draw(st.integers(1, 10**6)), per)
    if kind == "sl":
        return SlidingLog(draw(st.integers(1, 10_000)), per)
    if kind == "pn":
        return Penalty(draw(st.integers(1, 1_000)), per, timedelta(microseconds=draw(periods_us)))
    return Concurrency(draw(st.integers(1, 100_000)), per)


@given(limits())
def test_a_limit_that_is_printed_and_read_again_is_the_same(limit: Limit) -> None:
    again = parse_limit(str(limit))
    assert again == limit
    assert hash(again) == hash(limit)
    assert type(again) is type(limit)
    assert str(again) == str(limit)
    for name in ("rate", "period_us", "capacity", "code", "label"):
        assert getattr(again, name) == getattr(limit, name)
    assert again.arguments(1, 10**15, "h") == limit.arguments(1, 10**15, "h")


@given(limits())
def test_a_limits_representation_can_be_evaluated_and_its_pickle_opened(limit: Limit) -> None:
    assert eval(repr(limit), {"parse_limit": parse_limit}) == limit
    assert pickle.loads(pickle.dumps(limit)) == limit


WORDS = "token-bucket fixed-window sliding-window sliding-log concurrency penalty denials -> "
WORDS += "burst tz ttl us ms s minute hour month year"
SIGNS = "/ per ; = . _ - ^ 1 0 10 007 1_0 5_ 9999999999 1.5 .5 1e9 -1 Europe/Berlin UTC é ٣ \u2028 \0 \ud800"
pieces = st.sampled_from([*WORDS.split(" "), *SIGNS.split(" "), "", " ", "\t", "\n"])


@given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=40) | st.text(string.printable, max_size=40))
@example("5_/minute")
@example("5_.5/minute")
@example("1/0_s")
@example("1/" + "9" * 190 + "s")
@example("9" * 190 + "/s")
@example("fixed-window 1/day; tz=" + "a/" * 80)
@example("fixed-window 1/day; tz=\0")
@example("fixed-window 1/day; tz=\ud800")
@example("fixed-window 1/day; tz=Europe")
@example("fixed-window 1/day; tz=.")
def test_any_text_is_a_limit_or_refused_as_one(text: str) -> None:
    try:
        limit = parse_limit(text)
    except LimitError as error:
        refused = str(error)
        assert "^" in refused
    else:
        assert parse_limit(str(limit)) == limit
        assert limit.capacity >= 1
        assert limit.period_us >= 1
