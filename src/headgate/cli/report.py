"""Drawing the load: how it goes while it runs, the table at its end, and the verdict on a limit.

Reads a tally and never changes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from yarl import URL

from headgate import TokenBucket
from headgate.cli.sender import Plan, Tally

REFRESH = 0.2
LINE_EVERY = 1.0


@contextlib.asynccontextmanager
async def progress(console: Console, plan: Plan, tally: Tally) -> AsyncIterator[None]:
    """Show how the load goes: a bar on a terminal, now and then a line anywhere else."""
    show = bar(console, plan, tally) if console.is_terminal else lines(console, plan, tally)
    task = asyncio.create_task(show)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def bar(console: Console, plan: Plan, tally: Tally) -> None:
    """Draw a bar with the rate of the moment, and remove it at the end."""
    columns = (BarColumn(bar_width=24), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as drawing:
        task = drawing.add_task("", total=plan.seconds)
        began = before = time.monotonic()
        finished_before = 0
        while True:
            await asyncio.sleep(REFRESH)
            now = time.monotonic()
            rate = (tally.finished - finished_before) / (now - before)
            before, finished_before = now, tally.finished
            drawing.update(task, completed=now - began, description=words(tally, rate))


async def lines(console: Console, plan: Plan, tally: Tally) -> None:
    """Print a line each second, or ten over a long run."""
    step = max(LINE_EVERY, plan.seconds / 10)
    began = time.monotonic()
    finished_before = 0
    while True:
        await asyncio.sleep(step)
        rate = (tally.finished - finished_before) / step
        finished_before = tally.finished
        console.print(Text(f"{time.monotonic() - began:5.0f} s  {words(tally, rate)}"))


def words(tally: Tally, rate: float) -> str:
    """Say how it stands."""
    failed = tally.errors.total() + sum(tally.others.values())
    return f"{rate:,.0f} req/s  {tally.allowed:,} allowed  {tally.denied:,} denied  {failed:,} failed"


def table(console: Console, plan: Plan, tally: Tally) -> None:
    """Print what came of it."""
    url = URL(plan.url).with_user(None)
    console.print(Text(f"{url}, {plan.concurrency} at a time"), soft_wrap=True)
    drawn = Table(box=box.ROUNDED, show_header=False)
    drawn.add_column()
    drawn.add_column(justify="right")
    seconds = tally.elapsed_us / 1e6
    drawn.add_row("requests", f"{tally.finished:,} in {seconds:.2f} s")
    drawn.add_row("requests a second", f"{tally.finished / seconds:,.1f}" if seconds else "-")
    drawn.add_section()
    drawn.add_row("allowed (2xx)", f"{tally.allowed:,}", style="green")
    drawn.add_row("denied (429)", f"{tally.denied:,}", style="red" if tally.denied else "")
    for status, number in tally.others.items():
        drawn.add_row(f"other ({status})", f"{number:,}", style="yellow")
    for error, number in sorted(tally.errors.items()):
        drawn.add_row(Text(f"error ({error})"), f"{number:,}", style="yellow")
    drawn.add_row("admitted a second", f"{tally.allowed / seconds:,.2f}" if seconds else "-")
    if tally.answered:
        drawn.add_section()
        for percent in (50, 90, 99):
            drawn.add_row(f"latency p{percent}", milliseconds(tally.percentile(percent)))
        drawn.add_row("latency max", milliseconds(tally.longest_us))
    console.print(drawn)


def milliseconds(microseconds: int) -> str:
    """Write a latency."""
    return f"{microseconds / 1000:.1f} ms"


def most_allowed(limit: TokenBucket, elapsed_us: int) -> int:
    """The most that a token bucket lets through in a span of time: burst + rate * time, rounded down."""
    return (limit.capacity * limit.period_us + limit.rate * elapsed_us) // limit.period_us


def is_within(tally: Tally, limit: TokenBucket) -> bool:
    """Is what was let through within a limit?"""
    return tally.allowed <= most_allowed(limit, tally.elapsed_us)


def described(tally: Tally, limit: TokenBucket | None) -> dict[str, object]:
    """All that came of it, for programs."""
    return {
        "requests": tally.finished,
        "seconds": tally.elapsed_us / 1e6,
        "allowed": tally.allowed,
        "denied": tally.denied,
        "others": {str(status): number for status, number in tally.others.items()},
        "errors": dict(tally.errors),
        "latency_us": {f"p{percent}": tally.percentile(percent) for percent in (50, 90, 99)},
        "most_allowed": None if limit is None else most_allowed(limit, tally.elapsed_us),
        "is_within": None if limit is None else is_within(tally, limit),
    }


def verdict(console: Console, tally: Tally, limit: TokenBucket) -> bool:
    """Say whether what was let through is within a limit."""
    most = most_allowed(limit, tally.elapsed_us)
    span = f"in {tally.elapsed_us / 1e6:.2f} s {limit} lets at most {most:,} through"
    if tally.allowed > most:
        console.print(Text(f"OVER THE LIMIT: {span}, and {tally.allowed:,} passed.", style="bold red"))
        return False
    console.print(Text(f"Within the limit: {span}, and {tally.allowed:,} passed.", style="bold green"))
    if not tally.denied:
        console.print("Nothing was denied, so the limit was not put to the test: send more, or for longer.")
    return True


def failure(console: Console, tally: Tally) -> None:
    """Say that nothing got through."""
    if tally.errors:
        why = tally.errors.most_common(1)[0][0]
    elif tally.statuses:
        why = f"the answer was {tally.statuses.most_common(1)[0][0]}"
    else:
        why = "there was no time to send anything"
    console.print(Text(f"headgate load: no request was allowed or denied: {why}.", style="bold red"))
