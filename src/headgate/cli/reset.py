"""`headgate reset`: has a store forget what keys owe."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from headgate import InvalidUse
from headgate.cli.chosen import Chosen
from headgate.cli.extras import printable
from headgate.cli.failures import NOT_UNDERSTOOD
from headgate.cli.opening import StoreAt, json_option, limiter_option, name_of, opened, store_options
from headgate.keys import check_key

if TYPE_CHECKING:
    from headgate.stores import ScannableStore


@click.command(
    short_help="forget what keys owe",
    epilog="Exit codes: 0 done, 1 the store does not answer, 2 not understood, or not confirmed.",
)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All keys, or those that --prefix and --limiter say.")
@click.option("--prefix", metavar="TEXT", default="", help="With --all: only keys that begin with this.")
@limiter_option
@click.option("--yes", "-y", "is_confirmed", is_flag=True, help="With --all: do not ask.")
@store_options
@json_option
def command(
    keys: tuple[str, ...],
    prefix: str,
    limiter: str | None,
    *,
    at: StoreAt,
    is_all: bool,
    is_confirmed: bool,
    is_json: bool,
) -> int:
    """Forget what keys owe, penalties included: their next requests begin afresh."""
    if is_all == bool(keys):
        raise InvalidUse("which keys? Name some, or all of them by --all")
    if prefix and not is_all:
        raise InvalidUse("--prefix goes with --all")
    checked = [check_key(key) for key in keys]
    with opened(*at) as there:
        if is_all:
            chosen = Chosen(prefix, limiter, at.config)
            if not is_confirmed and not _is_agreed(there, chosen):
                print("Nothing was forgotten.")
                return NOT_UNDERSTOOD
            forgotten = chosen.clear(there)
            done = f"{_entries(forgotten)} forgotten in {name_of(there)}"
            print(json.dumps({"forgotten": forgotten}) if is_json else done)
            return 0
        for key in checked:
            forgotten = _reset(there, key, Chosen(key, limiter, at.config))
            if is_json:
                print(json.dumps({"key": key, "forgotten": forgotten}, ensure_ascii=False))
            else:
                said = f"{_entries(forgotten)} forgotten" if forgotten else "owes nothing"
                print(f"{printable(key)}: {said}")
    return 0


def _reset(store: ScannableStore, key: str, chosen: Chosen) -> int:
    """Forget one key, and no other that begins likewise."""
    from headgate.cli.findings import one_of_each
    from headgate.hits import Group, Hit

    some = {limit.code: limit for limit in one_of_each()}
    found = [entry for entry in chosen.scan(store) if entry.key == key]
    for entry in found:
        store.decide([Group((Hit(some[entry.code], key, entry.name),), 0, "forget")])
    return len(found)


def _is_agreed(store: ScannableStore, chosen: Chosen) -> bool:
    what = f"all keys that begin with {chosen.key_prefix!r}" if chosen.key_prefix else "all keys"
    if chosen.limiter is not None:
        what += f" of the limiter {chosen.limiter!r}"
    if not sys.stdin.isatty():
        raise InvalidUse("nobody is there to be asked: confirm it by --yes")
    return input(f"Forget {what} in {name_of(store)}? [y/N] ").strip().lower() in ("y", "yes")


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"
