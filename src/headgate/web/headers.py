"""Rate-limit fields of an HTTP response, from plain numbers. Pure: knows no decision, no framework, no clock.

Generations, by the name that people know them under:

- `legacy`: `X-RateLimit-Limit`, `-Remaining`, `-Reset` (seconds from now, as most clients expect of small numbers).
- `draft-6`: `RateLimit-Limit`, `-Remaining`, `-Reset`, `RateLimit-Policy: 100;w=60`
  (draft-ietf-httpapi-ratelimit-headers-06).
- `draft-7`: `RateLimit: limit=100, remaining=50, reset=5` (-07).
- `draft-11`: `RateLimit-Policy: "api";q=100;w=60` and `RateLimit: "api";r=50;t=30` (-11, the current one, not yet
  an RFC).

`Retry-After` is added to every one of them on a denial, in whole seconds, rounded up and at least 1, so that a
client that heeds it is never early.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from headgate.errors import InvalidUse

HeaderStyle = Literal["legacy", "draft-6", "draft-7", "draft-11"]

STYLES: Final[tuple[str, ...]] = get_args(HeaderStyle)


def render(
    style: HeaderStyle,
    *,
    name: str,
    quota: int,
    remaining: int,
    reset_after_us: int,
    retry_after_us: int,
    window_us: int,
) -> dict[str, str]:
    """The fields of `style`. Times are in microseconds; `retry_after_us` of 0 means "not denied".

    :raises InvalidUse: if the style is unknown.
    """
    reset_after, window = _seconds(reset_after_us), max(1, _seconds(window_us))
    if style == "legacy":
        fields = {
            "X-RateLimit-Limit": str(quota),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(reset_after),
        }
    elif style == "draft-6":
        fields = {
            "RateLimit-Limit": str(quota),
            "RateLimit-Remaining": str(remaining),
            "RateLimit-Reset": str(reset_after),
            "RateLimit-Policy": f"{quota};w={window}",
        }
    elif style == "draft-7":
        fields = {
            "RateLimit-Policy": f"{quota};w={window}",
            "RateLimit": f"limit={quota}, remaining={remaining}, reset={reset_after}",
        }
    elif style == "draft-11":
        quoted = _string(name)
        until = max(1, _seconds(retry_after_us)) if retry_after_us else reset_after
        fields = {
            "RateLimit-Policy": f"{quoted};q={quota};w={window}",
            "RateLimit": f"{quoted};r={remaining};t={until}",
        }
    else:
        raise InvalidUse(f"unknown header style {style!r}; there are {', '.join(STYLES)}")
    if retry_after_us:
        fields["Retry-After"] = str(max(1, _seconds(retry_after_us)))
    return fields


def _seconds(microseconds: int) -> int:
    return -(-microseconds // 1_000_000)


def _string(text: str) -> str:
    """A String of RFC 9651: printable ASCII in quotes."""
    kept = "".join(character if " " <= character <= "~" else "?" for character in text)
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'
