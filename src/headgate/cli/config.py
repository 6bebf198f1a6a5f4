"""`headgate config`: looks at a configuration file, or prints the JSON schema that editors check one with.

A file is understood as an app understands it; nothing is connected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from headgate import Concurrency, ConfigError, Limit
from headgate.cli.failures import NOT_UNDERSTOOD
from headgate.cli.opening import json_option

if TYPE_CHECKING:
    from headgate.config import Config
    from headgate.rules import Rule


@click.group(short_help="check a configuration file, or print its JSON schema")
def command() -> None:
    """Look at configuration files."""


@command.command(
    short_help="print what a file says, as it is understood",
    epilog="Exit codes: 0 all is well, 2 it is not understood.",
)
@click.argument("file", metavar="[FILE]", required=False, type=click.Path())
@click.option(
    "--import",
    "imports",
    is_flag=True,
    help="Import the functions that rules name, too; with `python -m headgate`, from the current folder.",
)
@json_option
def check(file: str | None, *, imports: bool, is_json: bool) -> int:
    """Print the stores, limiters and rules of a file, or all that is wrong with it.

    FILE is $HEADGATE_CONFIG or headgate.toml by default.
    """
    from headgate.config import load

    try:
        config = load(file, imports=imports)
    except ConfigError as error:
        if is_json:
            print(json.dumps({"is_understood": False, "source": error.source, "problems": list(error.problems)}))
        else:
            print(error, file=sys.stderr)
        return NOT_UNDERSTOOD
    if is_json:
        print(json.dumps({"is_understood": True, "source": config.source, **described(config)}, ensure_ascii=False))
    else:
        print("\n\n".join(sections(config)))
    return 0


@command.command("schema", short_help="print the JSON schema")
def print_schema() -> int:
    """Print the JSON schema of a configuration file."""
    from headgate.config.schema import schema

    print(json.dumps(schema(), indent=2))
    return 0


def described(config: Config) -> dict[str, Any]:
    """A configuration for programs, without what is secret."""
    return {
        "stores": {store.name: store.shown for store in config.stores.values()},
        "limiters": {
            limiter.name: {
                "limits": _limits(limiter.limits),
                "tiers": {tier: _limits(limit) for tier, limit in limiter.tiers.items()},
                "store": limiter.store.name,
                "timeout_s": limiter.timeout,
            }
            for limiter in config.limiters.values()
        },
        "rules": [] if config.rules is None else [rule.title for rule in config.rules.all],
    }


def sections(config: Config) -> list[str]:
    """Render a configuration as tables."""
    made = [f"{config.source} is understood."]
    if config.stores:
        rows = [
            (store.name, store.shown, _options(store.options, hidden={"password", "username"}))
            for store in config.stores.values()
        ]
        made.append(table(("store", "where", "options"), rows))
    if config.limiters:
        limiters = [
            (
                limiter.name,
                _limits(limiter.limits),
                _limits(limiter.tiers, ": "),
                limiter.store.name,
                "as long as it takes" if limiter.timeout is None else f"{limiter.timeout:g} s",
                _options(limiter.options),
            )
            for limiter in config.limiters.values()
        ]
        made.append(table(("limiter", "limits", "tiers", "store", "waits", "options"), limiters))
    rules = config.rules
    if rules is not None and (rules.all or rules.allow or rules.deny):
        made.append(
            table(("rule", "methods", "paths", "limits", "key", "options"), [_rule(rule) for rule in rules.all])
        )
        web = config.web
        lines = [
            ("counted in", "" if web is None else f"store {web.store.name!r}, as {web.name!r}"),
            ("whose share", ", then ".join(map(str, rules.identity.sources))),
            ("exempt", ", ".join(rules.exempt)),
            ("allowed", ", ".join(map(str, rules.allow))),
            ("refused", ", ".join(map(str, rules.deny))),
        ]
        made.append(table(("all rules", ""), [line for line in lines if line[1]]))
    return made


def _rule(rule: Rule) -> tuple[str, ...]:
    options = {
        "cost": None if rule.cost == 1 else _named(rule.cost),
        "reserve": None if rule.reserve == 0 else _named(rule.reserve),
        "tiers": _limits(rule.tiers, ": ") or None,
        "wait": f"{rule.wait:g} s" if rule.wait else None,
        "penalty": rule.penalty,
        "near": rule.near,
        "charge_when": _named(rule.charge_when),
        "actual_cost": _named(rule.actual_cost),
        "exempt_when": _named(rule.exempt_when),
        "on_outage": rule.on_outage if rule.on_outage != "open" else None,
        "outage_limit": None if rule.outage_limit is None else _limits(rule.outage_limit),
    }
    words = ["shadow"] * rule.is_shadow + ["default"] * rule.is_default + ["per route"] * rule.is_per_route
    words += ["per method"] * rule.is_per_method
    words += [f"{name} {value}" for name, value in options.items() if value is not None]
    return (
        rule.title,
        ", ".join(rule.methods) or "all",
        ", ".join(rule.paths) or "all",
        _limits(rule.named_limits()),
        str(_named(rule.key) or "-"),
        "; ".join(words),
    )


def _named(value: Any) -> Any:
    """A function by its name, and anything else as it is."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_named(one)}" for name, one in value.items())
    return getattr(value, "__qualname__", None) or (None if value is None else str(value))


def _limits(limits: Any, between: str = " ") -> str:
    if isinstance(limits, (tuple, list)):
        return " + ".join(map(str, limits))
    if not isinstance(limits, dict):
        return str(limits)
    parts = []
    for name, one in limits.items():
        is_said = isinstance(one, (Limit, Concurrency)) and name in ("", one.label)
        parts.append(_limits(one) if is_said else f"{name}{between}{_limits(one)}")
    return " + ".join(parts) if between == " " else ", ".join(parts)


def _options(options: Mapping[str, Any], hidden: Collection[str] = ()) -> str:
    return "; ".join(f"{name} {'***' if name in hidden else value}" for name, value in options.items())


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Rows in columns, without those that are empty."""
    columns = [index for index in range(len(header)) if any(row[index] for row in rows)]
    lines = [[header[index] for index in columns], *[[row[index] for index in columns] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
