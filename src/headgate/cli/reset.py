"""`headgate reset`: has a store forget what keys owe."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from headgate import ConfigError, InvalidKey, InvalidUse, StoreOutage, StoreURLError
from headgate.cli.opening import NOT_UNDERSTOOD, OUTAGE, add_options, name_of, opened
from headgate.keys import check_key

if TYPE_CHECKING:
    from headgate.stores import ScannableStore


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command's arguments."""
    command = commands.add_parser(
        "reset",
        help="forget what keys owe",
        description="Forgets what keys owe, penalties included: their next requests begin afresh.",
        epilog="Exit codes: 0 done, 1 the store does not answer, 2 not understood, or not confirmed.",
    )
    command.add_argument("keys", metavar="KEY", nargs="*", help="a key, as the limiter is given it: user:42")
    command.add_argument("--all", action="store_true", help="all keys, or those that --prefix says")
    command.add_argument("--prefix", metavar="TEXT", default="", help="with --all: only keys that begin with this")
    command.add_argument("--limiter", metavar="NAME", help="only limits of this name")
    command.add_argument("--yes", "-y", action="store_true", help="with --all: do not ask")
    add_options(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run `headgate reset`."""
    try:
        if arguments.all == bool(arguments.keys):
            raise InvalidUse("which keys? Name some, or all of them by --all")
        if arguments.prefix and not arguments.all:
            raise InvalidUse("--prefix goes with --all")
        keys = [check_key(key) for key in arguments.keys]
        with opened(arguments.store, arguments.config, arguments.store_prefix) as store:
            if arguments.all:
                return _reset_all(store, arguments.prefix, arguments.limiter, is_confirmed=arguments.yes)
            for key in keys:
                forgotten = _reset(store, key, arguments.limiter)
                print(f"{key}: {_entries(forgotten)} forgotten" if forgotten else f"{key}: owes nothing")
    except (ConfigError, StoreURLError, InvalidUse, InvalidKey) as error:
        print(f"headgate: {error}", file=sys.stderr)
        return NOT_UNDERSTOOD
    except StoreOutage as outage:
        print(f"headgate: {outage}", file=sys.stderr)
        return OUTAGE
    return 0


def _reset(store: ScannableStore, key: str, name: str | None) -> int:
    """Forget one key, and no other that begins likewise."""
    from headgate.hits import Group, Hit
    from headgate.limits.grammar import parse_limit
    from headgate.limits.penalty import Penalty

    words = ("1/s", "fixed-window 1/s", "sliding-window 1/s", "sliding-log 1/s", "concurrency 1")
    some = {limit.code: limit for limit in (*map(parse_limit, words), Penalty(1, 1, block=1))}
    found = [entry for entry in store.scan(key_prefix=key, name=name) if entry.key == key]
    for entry in found:
        store.decide([Group((Hit(some[entry.code], key, entry.name),), 0, "forget")])
    return len(found)


def _reset_all(store: ScannableStore, prefix: str, name: str | None, *, is_confirmed: bool) -> int:
    what = "all keys" if not prefix else f"all keys that begin with {prefix!r}"
    if name is not None:
        what += f" of the limit {name!r}"
    if not is_confirmed:
        if not sys.stdin.isatty():
            raise InvalidUse("nobody is there to be asked: confirm it by --yes")
        if input(f"Forget {what} in {name_of(store)}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was forgotten.")
            return NOT_UNDERSTOOD
    print(f"{_entries(store.clear(key_prefix=prefix, name=name))} forgotten in {name_of(store)}")
    return 0


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"
