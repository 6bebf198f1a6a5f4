"""Rules of a web app as a configuration says them. This module must not know a framework or a store."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from headgate import identity
from headgate.config.functions import found, named_only, number_of_header, responses
from headgate.config.limiters import limit_of
from headgate.config.places import WRONG, FromEnvironment, Place
from headgate.errors import HeadgateError
from headgate.identity import Identity
from headgate.rules import Rule, Rules
from headgate.rules.rules import PENALTY

_WORDS = {"shadow": "is_shadow", "default": "is_default", "per_route": "is_per_route", "per_method": "is_per_method"}
_FUNCTIONS = ("tier", "limit_for", "exempt_when", "charge_when", "actual_cost", "cost", "reserve", "key")
_LONGEST: Final = 56
"""The longest name that is made here, before a number; names are of 64 characters at most."""
_SOURCES = ("ip", "user", "api_key", "*")

Find = Callable[[str, Place], Any]


def finder(*, imports: bool) -> Find:
    """Finds functions by their paths; or, where nothing is to be imported, puts something in their place."""
    return found if imports else lambda path, _: named_only(path)


def rules_of(said: Sequence[Mapping[str, Any]], web: Mapping[str, Any], place: Place, find: Find) -> list[Rule]:
    """The rules of the tables, whose values were read. Problems are said."""
    rules: list[Rule] = []
    for index, one in enumerate(said):
        at = place.at(index)
        at.title = str(one.get("name") or "")
        # What is called by its limits would begin anew when they change.
        named = one if one.get("name") else {**one, "name": _name_of(one, {PENALTY, *(known.name for known in rules)})}
        rule = _rule(named, web.get("tiers_of") or {}, at, find)
        if rule:
            same = next((known for known in rules if known.title == rule.title), None)
            if same is not None:
                at.say(f"there is a rule {rule.title!r} already: give this one another name")
            else:
                rules.append(rule)
    return rules


def _name_of(said: Mapping[str, Any], taken: Collection[str]) -> str:
    """A name for a rule that has none: of what it is about."""
    paths, methods = _texts(said.get("paths")), _texts(said.get("methods"))
    about = ["default"] if said.get("default") is True else [method.lower() for method in methods]
    about += [part for part in re.split(r"[^A-Za-z0-9_-]+", paths[0]) if part.strip("_-")] if paths else []
    name = "-".join(about).strip("_-")[:_LONGEST] or "all"
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def _texts(said: Any) -> list[str]:
    return [one for one in ([said] if isinstance(said, str) else said or ()) if isinstance(one, str)]


def _rule(said: Mapping[str, Any], tiers_of: Mapping[str, str], place: Place, find: Find) -> Any:
    if WRONG in said.values():
        return WRONG
    options = {_WORDS.get(key, key): value for key, value in said.items()}
    given = options.pop("limit", None)
    place_of_limits = place.at("limit" if given is not None else "limits")
    limits = _all_limits(given if given is not None else options.pop("limits"), place_of_limits)
    options.pop("limits", None)
    if "tiers" in options:
        options["tiers"] = {tier: _all_limits(one, place.at("tiers", tier)) for tier, one in options["tiers"].items()}
        if tiers_of:
            options.setdefault("tier", tiers_of)
        if options["tiers"] and "tier" not in options:
            return place.at("tiers").say(
                "nothing tells the tier of a caller: write tier = 'myapp:tier', or [web.tiers_of]"
            )
    if "outage_limit" in options:
        options["outage_limit"] = _all_limits(options["outage_limit"], place.at("outage_limit"))
    for key in _FUNCTIONS:
        if key in options:
            options[key] = _function(options[key], place.at(key), find)
    if limits is WRONG or WRONG in options.values() or WRONG in (options.get("tiers") or {}).values():
        return WRONG
    try:
        return Rule(limits, **options)
    except HeadgateError as error:
        if isinstance(penalty := options.get("penalty"), FromEnvironment):
            return place.say(
                f"this does not go together with penalty {penalty!r} (what the environment has is not shown)"
            )
        return place.say(str(error))


def _all_limits(said: Any, place: Place) -> Any:
    """One limit, or several, in the form in which a rule takes them."""
    if isinstance(said, Mapping):
        read: Any = {name: limit_of(one, place.at(name)) for name, one in said.items()}
        return WRONG if WRONG in read.values() else read
    if isinstance(said, list):
        read = [limit_of(one, place.at(index)) for index, one in enumerate(said)]
        return WRONG if WRONG in read else read
    return limit_of(said, place)


def _function(said: Any, place: Place, find: Find) -> Any:
    """A value that a rule takes for a function: the function, a number, or what a table says."""
    if isinstance(said, str):
        return str(said) if said in _SOURCES else find(said, place)
    if not isinstance(said, Mapping) or place.path[-1] == "tier":
        return said
    if place.path[-1] == "charge_when":
        return responses(said)
    if isinstance(said.get("header"), str) and ":" not in said["header"]:
        return number_of_header(said)
    read = {name: _function(one, place.at(name), find) for name, one in said.items()}
    return WRONG if WRONG in read.values() else read


def identity_of(said: Mapping[str, Any], place: Place, find: Find) -> Any:
    """Who is asked whose share a request takes. Problems are said."""
    given = said.get("identity", "ip")
    names = [given] if isinstance(given, str) or callable(given) else given
    sources = [_function(source, place.at("identity"), find) for source in names]
    if WRONG in sources:
        return WRONG
    options: dict[str, Any] = {key: said[key] for key in ("ipv4_prefix", "ipv6_prefix", "secret") if key in said}
    kinds: Any = identity  # whose kinds check what they are given
    try:
        if "api_key" in said:
            sources = [kinds.ApiKey(**said["api_key"]) if source == "api_key" else source for source in sources]
        if proxies := said.get("proxies"):
            trusted: dict[str, Any] = {"count": proxies} if isinstance(proxies, int) else {"networks": proxies}
            if "forwarded" in said:
                trusted["header"] = said["forwarded"]
            options["proxies"] = kinds.Proxies(**trusted)
        return Identity(*sources, **options)
    except HeadgateError as error:
        return place.say(str(error))


def app_rules(said: Mapping[str, Any], rules: Sequence[Rule], place: Place, find: Find) -> Any:
    """All rules, and what goes for all of them. Problems are said."""
    who = identity_of(said, place, find)
    if who is WRONG:
        return WRONG
    networks = {}
    for key in ("exempt", "allow", "deny"):
        value = said.get(key, ())
        networks[key] = [value] if isinstance(value, str) else value
        try:
            one: dict[str, Any] = {key: networks[key]}
            Rules((), **one)
        except HeadgateError as error:
            place.at(key).say(str(error))
            networks[key] = ()
    penalty = said.get("penalty") or None
    try:
        return Rules(rules, identity=who, penalty=penalty, **networks)
    except HeadgateError as error:
        is_shown = not isinstance(penalty, FromEnvironment)
        return place.at("penalty").say(str(error) if is_shown else f"{penalty!r} is no penalty (it is not shown)")
