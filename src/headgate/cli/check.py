"""`headgate check`: asks a limit for a key, and spends, as an app would."""

from __future__ import annotations

import click

from headgate.cli.asking import LimitAsked, asked, limit_options, show
from headgate.cli.failures import DENIED
from headgate.cli.opening import StoreAt, json_option, store_options


@click.command(
    short_help="ask a limit for a key, and spend",
    epilog="Exit codes: 0 allowed, 3 denied, 1 the store does not answer, 2 not understood.",
)
@click.argument("key")
@limit_options
@click.option("--cost", metavar="N", type=click.IntRange(min=0), default=1, help="How much to spend (1).")
@store_options
@json_option
def command(key: str, cost: int, *, which: LimitAsked, at: StoreAt, is_json: bool) -> int:
    """Ask whether KEY may go now, and spend its cost if so, in one round trip. For scripts:

    headgate check nightly-report --limit "1/hour" && ./report
    """
    with asked(key, which, at) as (one, keys, limit, place):
        decision = one.try_acquire(keys, cost, limit=limit)
    show(decision, place, is_json=is_json, has_spent=True)
    return 0 if decision.allowed else DENIED
