"""Rate-limit fields of HTTP responses, in each of their generations."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate import InvalidUse
from headgate.web.headers import STYLES, render

USUAL: dict[str, Any] = {
    "name": "api",
    "quota": 100,
    "remaining": 50,
    "reset_after_us": 4_200_000,
    "retry_after_us": 0,
    "window_us": 60_000_000,
}
DENIED: dict[str, Any] = {**USUAL, "remaining": 0, "reset_after_us": 60_000_000, "retry_after_us": 600_000}


def test_the_legacy_fields() -> None:
    assert render("legacy", **USUAL) == {
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "50",
        "X-RateLimit-Reset": "5",
    }


def test_the_fields_of_draft_6() -> None:
    assert render("draft-6", **USUAL) == {
        "RateLimit-Limit": "100",
        "RateLimit-Remaining": "50",
        "RateLimit-Reset": "5",
        "RateLimit-Policy": "100;w=60",
    }


def test_the_fields_of_draft_7() -> None:
    assert render("draft-7", **USUAL) == {
        "RateLimit-Policy": "100;w=60",
        "RateLimit": "limit=100, remaining=50, reset=5",
    }


def test_the_fields_of_draft_11() -> None:
    assert render("draft-11", **USUAL) == {
        "RateLimit-Policy": '"api";q=100;w=60',
        "RateLimit": '"api";r=50;t=5',
    }
    assert render("draft-11", **DENIED) == {
        "RateLimit-Policy": '"api";q=100;w=60',
        "RateLimit": '"api";r=0;t=1',
        "Retry-After": "1",
    }


@pytest.mark.parametrize("style", STYLES)
def test_retry_after_is_there_on_a_denial_and_only_then(style: Any) -> None:
    assert "Retry-After" not in render(style, **USUAL)
    assert render(style, **DENIED)["Retry-After"] == "1"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("microseconds", "seconds"),
    [(1, "1"), (999_999, "1"), (1_000_000, "1"), (1_000_001, "2"), (59_999_999, "60"), (86_400_000_000, "86400")],
)
def test_a_client_that_heeds_retry_after_is_never_early(style: Any, microseconds: int, seconds: str) -> None:
    assert render(style, **{**DENIED, "retry_after_us": microseconds})["Retry-After"] == seconds


@given(st.sampled_from(STYLES), st.integers(0, 2**50), st.integers(0, 2**50), st.integers(1, 2**50))
def test_seconds_are_rounded_up_and_whole(style: Any, reset_us: int, retry_us: int, window_us: int) -> None:
    fields = render(style, **{**USUAL, "reset_after_us": reset_us, "retry_after_us": retry_us, "window_us": window_us})
    assert all(value.isascii() and value.isprintable() for value in fields.values())
    if retry_us:
        assert (int(fields["Retry-After"]) - 1) * 1_000_000 < retry_us <= int(fields["Retry-After"]) * 1_000_000
    window = re.search(r";w=(\d+)", fields.get("RateLimit-Policy", ";w=1"))
    assert window is not None
    assert int(window[1]) >= 1


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("api", '"api"'),
        ("100/minute; burst=20", '"100/minute; burst=20"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("größe", '"gr??e"'),
        ("a\r\nSet-Cookie: x=1", '"a??Set-Cookie: x=1"'),
        ("", '""'),
        ("\x7f\x00\t", '"???"'),
    ],
)
def test_a_name_becomes_a_string_that_cannot_break_out_of_its_field(name: str, quoted: str) -> None:
    fields = render("draft-11", **{**DENIED, "name": name})
    assert fields["RateLimit"] == f"{quoted};r=0;t=1"
    assert fields["RateLimit-Policy"] == f"{quoted};q=100;w=60"


@given(st.text(max_size=50))
def test_no_name_puts_a_line_break_or_a_foreign_character_into_a_field(name: str) -> None:
    for value in render("draft-11", **{**USUAL, "name": name}).values():
        assert value.isascii()
        assert value.isprintable()


def test_an_unknown_style_is_refused() -> None:
    style: Any = "draft-99"
    with pytest.raises(
        InvalidUse, match="unknown header style 'draft-99'; there are legacy, draft-6, draft-7, draft-11"
    ):
        render(style, **USUAL)
