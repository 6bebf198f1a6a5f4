"""Asking a limit from the command line, for `headgate check` and `headgate peek`: a limit in words, or a limiter of the
configuration file.

The answer is a `Decision`, and a program is told no less of it than a person.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from headgate import InvalidUse
from headgate.cli.extras import printable, require
from headgate.cli.opening import StoreAt, limiters_named, name_of, opened
from headgate.cli.stored import duration

if TYPE_CHECKING:
    from headgate import Decision, Limiter
    from headgate.limiter.policy import CallLimit, Keys

F = TypeVar("F", bound=Callable[..., Any])


class Asked(NamedTuple):
    """All that is asked, once it is clear which limit is meant."""

    limiter: Limiter
    keys: Keys
    limit: CallLimit
    """The limits of a tier, where one is named."""
    place: str
    """The store, without its password."""


class LimitAsked(NamedTuple):
    """A limit, as options say which."""

    limits: tuple[str, ...]
    """In words."""
    limiter: str | None
    """Of the configuration file."""
    name: str | None
    tier: str | None


def limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which limit is asked; the command has them as its argument `which`."""

    @functools.wraps(function)
    def bundled(
        *args: Any, limits: tuple[str, ...], limiter: str | None, name: str | None, tier: str | None, **options: Any
    ) -> Any:
        return function(*args, which=LimitAsked(limits, limiter, name, tier), **options)

    for option in (
        click.option("--tier", metavar="NAME", help="With --limiter: the limits of this tier in the file."),
        click.option(
            "--name",
            metavar="NAME",
            help="With --limit: the name by which the app counts (name=...); by default, as there, the limit's text.",
        ),
        click.option(
            "--limiter", metavar="NAME", shell_complete=limiters_named, help="A limiter of the configuration file."
        ),
        click.option(
            "--limit",
            "limits",
            metavar="LIMIT",
            multiple=True,
            help='A limit in words ("100/minute; burst=20"); several go together.',
        ),
    ):
        bundled = option(bundled)
    return bundled


@contextmanager
def _told_once() -> Iterator[None]:
    """Have the log say nothing of an outage, which ends the command, and is said then."""

    def is_news(record: logging.LogRecord) -> bool:
        return getattr(record, "event", None) != "outage_began"

    logger = logging.getLogger("headgate")
    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)


@contextmanager
def asked(key: str, which: LimitAsked, at: StoreAt) -> Iterator[Asked]:
    """Find out which limit is meant, and open its store.

    :raises InvalidUse: if that is not clear.
    """
    from headgate import Limiter

    limits, limiter, name, tier = which
    if bool(limits) == (limiter is not None):
        raise InvalidUse('which limit? Say it by --limit "100/minute", or name one of the file by --limiter')
    if limiter is None:
        if tier is not None:
            raise InvalidUse("--tier goes with --limiter")
        with opened(*at, makes=True) as store, _told_once():
            made = Limiter(list(limits) if len(limits) > 1 else limits[0], store=store, name=name, on_outage="raise")
            yield Asked(made, key, None, name_of(store))
        return
    if name is not None:
        raise InvalidUse("--name goes with --limit: a limiter of the file has its own")
    settings = _configured(limiter, at.config)
    if tier is not None and tier not in settings.tiers:
        there = ", ".join(settings.tiers) or "none"
        raise InvalidUse(f"the limiter {limiter!r} has no tier {tier!r}: there are {there}")
    named = at.named if at.named is not None else _store_of(settings)
    with opened(named, at.config, at.prefix, makes=True) as store, _told_once():
        # Neither leases nor shares: this process asks once, and the store answers.
        options = {"penalty": settings.options["penalty"]} if "penalty" in settings.options else {}
        made = Limiter(settings.limits, store=store, name=settings.name, on_outage="raise", **options)
        keys = dict.fromkeys(settings.limits, key) if isinstance(settings.limits, dict) else key
        yield Asked(made, keys, None if tier is None else settings.tiers[tier], name_of(store))


def _configured(limiter: str, file: str | None) -> Any:
    from headgate.config import load

    found = load(file, imports=False).limiters
    if limiter not in found:
        raise InvalidUse(f"the configuration has no limiter {limiter!r}: there are {', '.join(found) or 'none'}")
    return found[limiter]


def _store_of(settings: Any) -> str:
    url: str = settings.store.url
    return url if url.lower().startswith("memory:") else settings.store.name


def described(decision: Decision) -> dict[str, Any]:
    """A decision, for programs."""
    return {
        "allowed": decision.allowed,
        "key": decision.key,
        "cost": decision.cost,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after_s": decision.retry_after,
        "reset_after_s": decision.reset_after,
        "binding": decision.binding,
        "limits": {
            standing.policy.name: {"limit": standing.policy.quota, "remaining": standing.remaining}
            for standing in decision.standings()
        },
    }


def show(decision: Decision, place: str, *, is_json: bool, has_spent: bool) -> None:
    """Print a decision."""
    if is_json:
        print(json.dumps(described(decision), ensure_ascii=False))
        return
    require("cli", "rich")
    from rich.text import Text

    from headgate.cli.console import console

    screen = console()
    verdict = "allowed" if decision.allowed else "denied"
    if not has_spent:
        verdict = f"would be {verdict}"
    line = Text()
    line.append(verdict, style="bold green" if decision.allowed else "bold red")
    line.append(f"  {printable(decision.key)}")
    if not decision.allowed:
        line.append(f"  come back in {duration(decision.retry_after)}, for {printable(decision.binding)}")
    screen.print(line, soft_wrap=True)
    for standing in decision.standings():
        left = f"{standing.remaining or 0:,} of {standing.policy.quota:,} left"
        screen.print(Text(f"  {printable(standing.policy.name)}: {left}"), soft_wrap=True)
    if decision.reset_after:
        screen.print(Text(f"  all is there again in {duration(decision.reset_after)}"), soft_wrap=True)
    screen.print(Text(f"  {place}", style="dim"), soft_wrap=True)
