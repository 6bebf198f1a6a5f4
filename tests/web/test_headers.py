"""Rate-limit fields of HTTP responses, in each of their generations."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate import InvalidUse, Limiter, ManualClock, MemoryStore, TokenBucket
from headgate.web.headers import STYLES, Policy, Standing, binding_of, checked_styles, expose_headers, fields
from tests.web.structured import parsed

NOW_US = 1_700_000_000_000_000
SECRET = b"0123456789abcdef"


def standing(
    name: str = "api",
    *,
    quota: int = 100,
    remaining: int | None = 50,
    reset_after_us: int = 4_200_000,
    retry_after_us: int = 0,
    window_us: int = 60_000_000,
    unit: str = "",
    is_quota: bool = True,
    key: str = "ip:203.0.113.7",
) -> Standing:
    policy = Policy(name, quota, window_us, unit, is_quota=is_quota)
    return Standing(policy, key, remaining, reset_after_us, retry_after_us, NOW_US)


USUAL = standing()
DENIED = standing(remaining=0, reset_after_us=60_000_000, retry_after_us=600_000)
DAILY = standing("daily", quota=1000, remaining=700, reset_after_us=80_000_000_000, window_us=86_400_000_000)
SLOTS = standing("uploads", quota=4, remaining=3, window_us=0, unit="concurrent-requests")


def render(style: Any, *standings: Standing, **options: Any) -> dict[str, str]:
    found = fields(checked_styles(style), standings, binding_of(standings), **options)
    assert len(dict(found)) == len(found)
    return dict(found)


def test_the_legacy_fields() -> None:
    assert render("legacy", USUAL) == {
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "50",
        "X-RateLimit-Reset": "5",
    }


def test_legacy_fields_may_say_times_since_the_epoch() -> None:
    assert render("legacy", USUAL, reset="epoch")["X-RateLimit-Reset"] == "1700000005"
    with pytest.raises(InvalidUse, match="reset is 'delta'"):
        Limiter("5/s").try_acquire("a").headers(reset="ms")  # type: ignore[arg-type]  # pyrefly: ignore


def test_the_fields_of_draft_6() -> None:
    assert render("draft-6", USUAL) == {
        "RateLimit-Limit": "100",
        "RateLimit-Remaining": "50",
        "RateLimit-Reset": "5",
        "RateLimit-Policy": "100;w=60",
    }


def test_the_fields_of_draft_7() -> None:
    assert render("draft-7", USUAL) == {
        "RateLimit-Policy": "100;w=60",
        "RateLimit": "limit=100, remaining=50, reset=5",
    }


def test_the_fields_of_draft_11() -> None:
    assert render("draft-11", USUAL) == {
        "RateLimit-Policy": '"api";q=100;w=60',
        "RateLimit": '"api";r=50;t=5',
    }
    assert render("draft-11", DENIED) == {
        "RateLimit-Policy": '"api";q=100;w=60',
        "RateLimit": '"api";r=0;t=1',
        "Retry-After": "1",
    }


def test_the_examples_of_the_draft_are_written_as_it_has_them() -> None:
    burst = standing("burst", remaining=40, reset_after_us=20_000_000)
    found = render("draft-11", burst, DAILY)
    assert found["RateLimit-Policy"] == '"burst";q=100;w=60, "daily";q=1000;w=86400'
    assert render("draft-11", standing("default", remaining=50, reset_after_us=30_000_000))["RateLimit"] == (
        '"default";r=50;t=30'
    )
    peruser = standing("peruser", quota=65_535, window_us=10_000_000, unit="content-bytes")
    assert render("draft-11", peruser)["RateLimit-Policy"] == '"peruser";q=65535;qu="content-bytes";w=10'


def test_the_example_of_draft_6_with_several_policies() -> None:
    windows = [(10, 1), (50, 60), (1000, 3600), (5000, 86_400)]
    several = [standing(quota=quota, remaining=quota, window_us=s * 1_000_000) for quota, s in windows]
    assert render("draft-6", *several)["RateLimit-Policy"] == "10;w=1, 50;w=60, 1000;w=3600, 5000;w=86400"


def test_draft_11_tells_of_all_limits_and_the_others_of_the_one_that_binds() -> None:
    assert render("draft-11", DAILY, USUAL, SLOTS) == {
        "RateLimit-Policy": '"daily";q=1000;w=86400, "api";q=100;w=60, "uploads";q=4;qu="concurrent-requests"',
        "RateLimit": '"daily";r=700;t=80000, "api";r=50;t=5, "uploads";r=3',
    }
    assert render("legacy", DAILY, USUAL, SLOTS)["X-RateLimit-Limit"] == "100"
    assert render("draft-6", DAILY, USUAL, SLOTS) == {
        "RateLimit-Limit": "100",
        "RateLimit-Remaining": "50",
        "RateLimit-Reset": "5",
        "RateLimit-Policy": "1000;w=86400, 100;w=60",
    }
    assert render("draft-7", DAILY, USUAL)["RateLimit"] == "limit=100, remaining=50, reset=5"


def test_a_limit_that_denies_binds_and_no_other_contradicts_when_to_come_back() -> None:
    found = render(["draft-11", "legacy"], DAILY, DENIED, SLOTS)
    assert found["RateLimit"] == '"daily";r=700, "api";r=0;t=1, "uploads";r=3'
    assert found["Retry-After"] == "1"
    assert found["X-RateLimit-Remaining"] == "0"


def test_of_several_that_deny_the_one_to_wait_for_longest_binds() -> None:
    spent = DAILY._replace(remaining=0, retry_after_us=7_000_000)
    assert render("draft-11", DENIED, spent)["Retry-After"] == "7"
    assert render("draft-11", DENIED, spent)["RateLimit"] == '"api";r=0;t=1, "daily";r=0;t=7'


def test_a_penalty_is_told_of_only_while_it_blocks() -> None:
    idle = standing("penalty", quota=10, remaining=1, is_quota=False)
    assert render("draft-11", USUAL, idle) == render("draft-11", USUAL)
    assert render("legacy", USUAL, idle) == render("legacy", USUAL)
    assert render("draft-6", idle, USUAL) == render("draft-6", USUAL)
    blocks = idle._replace(remaining=0, retry_after_us=3_600_000_000, reset_after_us=3_600_000_000)
    found = render(["draft-11", "legacy"], USUAL, blocks)
    assert found["RateLimit"] == '"api";r=50;t=5, "penalty";r=0;t=3600'
    assert found["Retry-After"] == found["X-RateLimit-Reset"] == "3600"


def test_where_the_store_did_not_answer_nothing_is_made_up() -> None:
    silent = standing(remaining=None, reset_after_us=0)
    assert render("draft-11", silent) == {"RateLimit-Policy": '"api";q=100;w=60'}
    assert render("draft-7", silent) == {"RateLimit-Policy": "100;w=60"}
    assert render("draft-6", silent) == {"RateLimit-Limit": "100", "RateLimit-Policy": "100;w=60"}
    assert render("legacy", silent) == {"X-RateLimit-Limit": "100"}
    assert render("draft-11", silent, DAILY)["RateLimit"] == '"daily";r=700;t=80000'
    assert render("legacy", silent, DAILY)["X-RateLimit-Limit"] == "1000"
    assert render("legacy", silent._replace(retry_after_us=1_000_000)) == {
        "X-RateLimit-Limit": "100",
        "Retry-After": "1",
    }


def test_keys_are_told_apart_by_hashes_that_only_the_secret_makes() -> None:
    found = render("draft-11", USUAL, DAILY, partition_secret=SECRET)
    (_, one), (_, other) = parsed(found["RateLimit"])
    assert one["pk"] == other["pk"]
    assert "203" not in found["RateLimit"]
    (_, policy), _ = parsed(found["RateLimit-Policy"])
    assert policy["pk"] == one["pk"]
    someone = render("draft-11", USUAL._replace(key="ip:198.51.100.1"), partition_secret=SECRET)
    assert parsed(someone["RateLimit"])[0][1]["pk"] != one["pk"]
    assert render("draft-11", USUAL, DAILY, partition_secret=SECRET[::-1]) != found
    assert "pk" not in render("draft-11", USUAL)["RateLimit"]


@pytest.mark.parametrize("style", STYLES)
def test_retry_after_is_there_on_a_denial_and_only_then(style: Any) -> None:
    assert "Retry-After" not in render(style, USUAL)
    assert render(style, DENIED)["Retry-After"] == "1"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("microseconds", "seconds"),
    [(1, "1"), (999_999, "1"), (1_000_000, "1"), (1_000_001, "2"), (59_999_999, "60"), (86_400_000_000, "86400")],
)
def test_a_client_that_heeds_retry_after_is_never_early(style: Any, microseconds: int, seconds: str) -> None:
    assert render(style, DENIED._replace(retry_after_us=microseconds))["Retry-After"] == seconds


@given(st.sampled_from(STYLES), st.integers(0, 2**50), st.integers(0, 2**50), st.integers(1, 2**50))
def test_seconds_are_rounded_up_and_whole(style: Any, reset_us: int, retry_us: int, window_us: int) -> None:
    found = render(style, standing(reset_after_us=reset_us, retry_after_us=retry_us, window_us=window_us))
    assert all(value.isascii() and value.isprintable() for value in found.values())
    if retry_us:
        assert (int(found["Retry-After"]) - 1) * 1_000_000 < retry_us <= int(found["Retry-After"]) * 1_000_000
    window = re.search(r";w=(\d+)", found.get("RateLimit-Policy", ";w=1"))
    assert window is not None
    assert int(window[1]) >= 1


STANDINGS = st.builds(
    standing,
    st.text(max_size=30),
    quota=st.integers(1, 2**53),
    remaining=st.none() | st.integers(0, 2**53),
    reset_after_us=st.integers(0, 2**53),
    retry_after_us=st.just(0) | st.integers(0, 2**53),
    window_us=st.just(0) | st.integers(1, 2**53),
    unit=st.sampled_from(["", "concurrent-requests"]),
    is_quota=st.booleans(),
    key=st.text(min_size=1, max_size=20),
)


@given(st.lists(STANDINGS, min_size=1, max_size=4), st.none() | st.just(SECRET))
def test_draft_11_is_structured_fields_that_say_what_was_meant(several: list[Standing], secret: bytes | None) -> None:
    found = render("draft-11", *several, partition_secret=secret)
    told = [
        one for one in several if one.policy.is_quota or (one is several[binding_of(several)] and one.retry_after_us)
    ]
    policies = parsed(found["RateLimit-Policy"]) if "RateLimit-Policy" in found else []
    assert [name for name, _ in policies] == [one.policy.name for one in told]
    assert [values["q"] for _, values in policies] == [min(one.policy.quota, 10**15 - 1) for one in told]
    assert all(values.get("w", 1) >= 1 and ("pk" in values) is (secret is not None) for _, values in policies)
    known = [one for one in told if one.remaining is not None]
    items = parsed(found["RateLimit"]) if known else []
    assert known or "RateLimit" not in found
    assert [(name, values["r"]) for name, values in items] == [
        (one.policy.name, min(one.remaining or 0, 10**15 - 1)) for one in known
    ]
    if "Retry-After" in found:
        assert all(values.get("t", 0) <= int(found["Retry-After"]) for _, values in items)


@given(st.lists(STANDINGS, min_size=1, max_size=4))
def test_the_drafts_before_are_structured_fields(several: list[Standing]) -> None:
    six, seven = render("draft-6", *several), render("draft-7", *several)
    assert all(parsed(six[name], "item") for name in six if name != "RateLimit-Policy")
    for found in (six, seven):
        if "RateLimit-Policy" in found:
            for quota, values in parsed(found["RateLimit-Policy"]):
                assert isinstance(quota, int)
                assert values["w"] >= 1
    if "RateLimit" in seven:
        assert list(parsed(seven["RateLimit"], "dictionary")) == ["limit", "remaining", "reset"]


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("api", '"api"'),
        ("100/minute; burst=20", '"100/minute; burst=20"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("größe", '"gr%C3%B6%C3%9Fe"'),
        ("a\r\nSet-Cookie: x=1", '"a%0D%0ASet-Cookie: x=1"'),
        ("", '""'),
        ("\x7f\x00\t", '"%7F%00%09"'),
        ("\ud800", '"%ED%A0%80"'),
    ],
)
def test_a_name_becomes_a_string_that_cannot_break_out_of_its_field(name: str, quoted: str) -> None:
    found = render("draft-11", standing(name, remaining=0, retry_after_us=1))
    assert found["RateLimit"] == f"{quoted};r=0;t=1"
    assert found["RateLimit-Policy"] == f"{quoted};q=100;w=60"


@given(st.text(max_size=50))
def test_no_name_puts_a_line_break_or_a_foreign_character_into_a_field(name: str) -> None:
    for value in render("draft-11", standing(name)).values():
        assert value.isascii()
        assert value.isprintable()


def test_an_unknown_style_is_refused() -> None:
    style: Any = "draft-99"
    with pytest.raises(
        InvalidUse, match="unknown header style 'draft-99'; there are legacy, draft-6, draft-7, draft-11"
    ):
        render(style, USUAL)


def test_styles_go_together_unless_they_write_the_same_field() -> None:
    assert checked_styles(None) == checked_styles([]) == ()
    assert checked_styles(["draft-11", "legacy", "draft-11"]) == ("draft-11", "legacy")
    with pytest.raises(InvalidUse, match="draft-7 and draft-11 both write RateLimit-Policy: choose one"):
        checked_styles(["draft-7", "draft-11"])
    with pytest.raises(InvalidUse, match="draft-6 and draft-11 both write RateLimit-Policy"):
        checked_styles(["draft-6", "draft-11"])


@pytest.mark.parametrize("styles", [*STYLES, ("legacy", "draft-11"), ("draft-7", "legacy")])
def test_all_fields_that_may_be_written_are_named_for_other_origins(styles: Any) -> None:
    assert set(render(styles, DENIED)) == set(expose_headers(styles))


def test_without_styles_there_is_retry_after_alone() -> None:
    assert render(None, USUAL) == {}
    assert render(None, DENIED) == {"Retry-After": "1"}
    assert expose_headers(None) == ("Retry-After",)


def test_a_decision_tells_of_all_its_limits() -> None:
    limiter = Limiter(["100/minute; burst=200", "10000/day", "concurrency 5"], store=MemoryStore(ManualClock()))
    assert limiter.try_acquire("a").headers("draft-11") == {
        "RateLimit-Policy": '"100/minute; burst=200";q=200;w=120, "10000/day";q=10000;w=86400, '
        '"concurrency 5";q=5;qu="concurrent-requests"',
        "RateLimit": '"100/minute; burst=200";r=199;t=1, "10000/day";r=9999;t=9, "concurrency 5";r=4',
    }


def test_a_policy_of_a_bucket_says_in_what_time_it_fills() -> None:
    headers = Limiter(TokenBucket(10, per=1, burst=5)).try_acquire("a").headers("draft-11")
    assert headers["RateLimit-Policy"].endswith(";q=5;w=1")


@pytest.mark.parametrize(
    "limit", ["2/minute", "fixed-window 2/minute", "sliding-window 2/minute", "sliding-log 2/minute"]
)
def test_headers_say_what_the_decision_says(limit: str) -> None:
    limiter = Limiter(limit, store=MemoryStore(ManualClock()), name="api")
    for _ in range(4):
        decision = limiter.try_acquire("a")
        headers = decision.headers("draft-11")
        ((name, values),) = parsed(headers["RateLimit"])
        assert (name, values["r"]) == ("api", decision.remaining)
        until = decision.reset_after if decision.allowed else decision.retry_after
        assert values["t"] - 1 < until <= values["t"]
        assert ("Retry-After" in headers) is not decision.allowed


def test_in_an_outage_a_decision_says_no_more_than_its_policy() -> None:
    limiter = Limiter("5/minute", store="redis://127.0.0.1:1", name="api", timeout=0.05)
    assert limiter.try_acquire("a").headers("draft-11") == {"RateLimit-Policy": '"api";q=5;w=60'}
