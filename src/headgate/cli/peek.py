"""`headgate peek`: asks what is left for a key and spends nothing, or lists what a store keeps of it."""

from __future__ import annotations

import json

import click

from headgate import InvalidUse
from headgate.cli.asking import LimitAsked, asked, limit_options
from headgate.cli.asking import show as show_decision
from headgate.cli.failures import DENIED
from headgate.cli.opening import StoreAt, json_option, name_of, opened, store_options
from headgate.cli.stored import is_mark, told
from headgate.cli.tables import show
from headgate.keys import check_key


@click.command(
    short_help="ask what is left, and spend nothing",
    epilog="Exit codes: 0 it would be allowed, 3 it would be denied, 1 the store does not answer, "
    "2 not understood. Without a limit: 0, and 3 where a penalty blocks the key.",
)
@click.argument("key")
@limit_options
@click.option("--cost", metavar="N", type=click.IntRange(min=0), default=1, help="Of a request of this cost (1).")
@store_options
@json_option
def command(key: str, cost: int, *, which: LimitAsked, at: StoreAt, is_json: bool) -> int:
    """Ask what is left for KEY, and spend nothing.

    Without --limit and --limiter, list all that the store keeps of this key, as `headgate keys` does.
    """
    if which.limits or which.limiter is not None:
        with asked(key, which, at) as (one, keys, limit, place):
            decision = one.peek(keys, cost, limit=limit)
        show_decision(decision, place, is_json=is_json, has_spent=False)
        return 0 if decision.allowed else DENIED
    if which.name is not None or which.tier is not None:
        raise InvalidUse("--name goes with --limit, and --tier with --limiter")
    checked = check_key(key)
    with opened(*at) as there:
        entries = there.scan(key_prefix=checked)
        found = [told(entry) for entry in entries if entry.key == checked and not is_mark(entry)]
        place = name_of(there)
    found.sort(key=lambda one: one.left_s, reverse=True)
    if is_json:
        for entry in found:
            print(json.dumps(entry._asdict(), ensure_ascii=False))
    else:
        show(found, len(found), place)
    return DENIED if any(entry.is_blocked for entry in found) else 0
