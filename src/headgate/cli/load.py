"""`headgate load`: many requests at once against a URL, and whether what came through kept to a limit.

Reads and checks the arguments and chooses the exit code. The requests are sent in `sender.py`, and what
came of them is drawn in `report.py`.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from headgate.cli.extras import require
from headgate.cli.opening import json_option

if TYPE_CHECKING:
    from headgate import TokenBucket
    from headgate.cli.sender import Plan

MOST_CONCURRENCY = 1_000
MOST_SECONDS = 3_600.0
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]*)")

OVER_THE_LIMIT, BAD_USAGE, NOTHING_ANSWERED = 1, 2, 3


def web_url(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Check a URL."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise click.BadParameter(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise click.BadParameter("an address that starts with http:// or https:// is needed")
    return text


def seconds_of(_context: click.Context, _parameter: click.Parameter, number: float) -> float:
    """Check the duration."""
    if not 0 < number <= MOST_SECONDS:  # nor is it NaN
        raise click.BadParameter(f"above 0 and at most {MOST_SECONDS:.0f}")
    return number


def header(text: str) -> tuple[str, str]:
    """Read a header from `Name: value`."""
    found = HEADER.fullmatch(text)
    if found is None:
        raise click.BadParameter("written as 'Name: value', in ASCII")
    return found[1], found[2].strip()


def headers_of(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read all headers."""
    return [header(text) for text in texts]


def header_value(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Check a header's value."""
    return None if text is None else header(f"X: {text}")[1]


@click.command(
    short_help="send many requests at once and check what was let through",
    epilog="Exit codes: 0 all is well, 1 more was let through than --expect allows, 2 wrong usage, "
    "3 no request got a 2xx or 429 answer, 130 ended by Ctrl-C.",
)
@click.option("--url", metavar="URL", required=True, callback=web_url, help="Where to; http:// or https://.")
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, MOST_CONCURRENCY),
    default=20,
    help="Requests at the same time (20).",
)
@click.option("--seconds", metavar="S", type=float, callback=seconds_of, default=10.0, help="For how long (10).")
@click.option("--expect", metavar="LIMIT", help='A token bucket to check against ("100/minute; burst=20").')
@click.option(
    "--header", "headers", metavar="'N: V'", multiple=True, callback=headers_of, help="Sent along; repeatable."
)
@click.option("--user", metavar="ID", callback=header_value, help="Sent as X-User-ID.")
@click.option("--api-key", metavar="KEY", callback=header_value, help="Sent as X-API-Key.")
@json_option
def command(
    url: str,
    concurrency: int,
    seconds: float,
    expect: str | None,
    headers: list[tuple[str, str]],
    user: str | None,
    api_key: str | None,
    *,
    is_json: bool,
) -> int:
    """Send GET requests from many senders at once, and count what was allowed and denied."""
    require("demo", "aiohttp", "rich")
    from headgate import HeadgateError
    from headgate.cli import interrupt
    from headgate.cli.sender import Plan

    try:
        limit = None if expect is None else token_bucket(expect)
    except HeadgateError as error:
        print(f"headgate load: --expect: {error}", file=sys.stderr)
        return BAD_USAGE
    sent = list(headers)
    if user is not None:
        sent.append(("X-User-ID", user))
    if api_key is not None:
        sent.append(("X-API-Key", api_key))
    return interrupt.run(load(Plan(url, tuple(sent), concurrency, seconds), limit, is_json=is_json))


def token_bucket(text: str) -> TokenBucket:
    """Read the expected limit. Only a token bucket bounds what passes in any span of time by one formula."""
    from headgate import LimitError, TokenBucket, parse_limit

    limit = parse_limit(text)
    if not isinstance(limit, TokenBucket):
        raise LimitError(f"only a token bucket such as 100/minute can be checked, not {limit}")
    return limit


async def load(plan: Plan, expect: TokenBucket | None, *, is_json: bool = False) -> int:
    """Send, show how it goes, report, judge."""
    from headgate.cli import report
    from headgate.cli.console import console
    from headgate.cli.sender import Tally, send

    tally = Tally()
    try:
        async with report.progress(console(stderr=True), plan, tally):
            await send(plan, tally)
    finally:  # also when a signal ends it early
        screen = console()
        if tally.finished and is_json:
            print(json.dumps(report.described(tally, expect)))
        elif tally.finished:
            report.table(screen, plan, tally)
    if not tally.allowed and not tally.denied:
        report.failure(console(stderr=True), tally)
        return NOTHING_ANSWERED
    if expect is not None and not (
        report.is_within(tally, expect) if is_json else report.verdict(screen, tally, expect)
    ):
        return OVER_THE_LIMIT
    return 0
