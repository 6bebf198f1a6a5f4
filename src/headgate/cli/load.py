"""`headgate load`: many requests at once against a URL, and whether what came through kept to a limit.

Reads and checks the arguments and chooses the exit code. The requests are sent in `sender.py`, and what
came of them is drawn in `report.py`.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headgate.cli.extras import require

if TYPE_CHECKING:
    from headgate import TokenBucket
    from headgate.cli.sender import Plan

MOST_CONCURRENCY = 1_000
MOST_SECONDS = 3_600.0
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]*)")

OVER_THE_LIMIT, BAD_USAGE, NOTHING_ANSWERED = 1, 2, 3


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command's arguments."""
    command = commands.add_parser(
        "load",
        help="send many requests at once and check what was let through",
        description="Sends GET requests from many senders at once, and counts what was allowed and denied.",
        epilog="Exit codes: 0 all is well, 1 more was let through than --expect allows, 2 wrong usage, "
        "3 no request got a 2xx or 429 answer.",
    )
    argument = command.add_argument
    argument("--url", metavar="URL", required=True, type=web_url, help="where to; http:// or https://")
    argument("--concurrency", metavar="N", type=concurrency, default=20, help="requests at the same time (20)")
    argument("--seconds", metavar="S", type=seconds, default=10.0, help="for how long (10)")
    argument("--expect", metavar="LIMIT", help='a token bucket to check against ("100/minute; burst=20")')
    argument("--header", metavar="'N: V'", type=header, action="append", default=[], help="sent along; repeatable")
    argument("--user", metavar="ID", type=header_value, help="sent as X-User-ID")
    argument("--api-key", metavar="KEY", type=header_value, help="sent as X-API-Key")
    command.set_defaults(run=run)


def web_url(text: str) -> str:
    """Check a URL."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise argparse.ArgumentTypeError("an address that starts with http:// or https:// is needed")
    return text


def concurrency(text: str) -> int:
    """Check the number of senders."""
    number = int(text)
    if not 1 <= number <= MOST_CONCURRENCY:
        raise argparse.ArgumentTypeError(f"between 1 and {MOST_CONCURRENCY}")
    return number


def seconds(text: str) -> float:
    """Check the duration."""
    number = float(text)
    if not 0 < number <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"above 0 and at most {MOST_SECONDS:.0f}")
    return number


def header(text: str) -> tuple[str, str]:
    """Read a header from `Name: value`."""
    found = HEADER.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("written as 'Name: value', in ASCII")
    return found[1], found[2].strip()


def header_value(text: str) -> str:
    """Check a header's value."""
    return header(f"X: {text}")[1]


def run(arguments: argparse.Namespace) -> int:
    """Send the load and report on it."""
    require("demo", "aiohttp", "rich")
    from headgate import HeadgateError
    from headgate.cli import interrupt
    from headgate.cli.sender import Plan

    try:
        expect = None if arguments.expect is None else token_bucket(arguments.expect)
    except HeadgateError as error:
        print(f"headgate load: --expect: {error}", file=sys.stderr)
        return BAD_USAGE
    headers = list(arguments.header)
    if arguments.user is not None:
        headers.append(("X-User-ID", arguments.user))
    if arguments.api_key is not None:
        headers.append(("X-API-Key", arguments.api_key))
    plan = Plan(arguments.url, tuple(headers), arguments.concurrency, arguments.seconds)
    return interrupt.run(load(plan, expect))


def token_bucket(text: str) -> TokenBucket:
    """Read the expected limit. Only a token bucket bounds what passes in any span of time by one formula."""
    from headgate import LimitError, TokenBucket, parse_limit

    limit = parse_limit(text)
    if not isinstance(limit, TokenBucket):
        raise LimitError(f"only a token bucket such as 100/minute can be checked, not {limit}")
    return limit


async def load(plan: Plan, expect: TokenBucket | None) -> int:
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
        if tally.finished:
            report.table(screen, plan, tally)
    if not tally.allowed and not tally.denied:
        report.failure(console(stderr=True), tally)
        return NOTHING_ANSWERED
    if expect is not None and not report.verdict(screen, tally, expect):
        return OVER_THE_LIMIT
    return 0
