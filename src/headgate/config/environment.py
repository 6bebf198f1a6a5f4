"""Values of the environment in texts: `${NAME}`, and `${NAME:-default}` where it may be missing or empty.

`$${` is a plain `${`. This module must not know what the texts are for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from headgate.config.places import WRONG, FromEnvironment, Place

_REFERENCE: Final = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?"
)


def expanded(value: Any, environment: Mapping[str, str], place: Place) -> Any:
    """The same, with the values of the environment in all texts of it. Problems are said at their places."""
    if isinstance(value, str):
        return _text(value, environment, place) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: expanded(inner, environment, place.at(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [expanded(inner, environment, place.at(index)) for index, inner in enumerate(value)]
    return value


def _text(text: str, environment: Mapping[str, str], place: Place) -> Any:
    is_plain, is_wrong = True, False

    def value(found: re.Match[str]) -> str:
        nonlocal is_plain, is_wrong
        if found["escaped"]:
            return "${"
        is_plain = False
        name, default = found["name"], found["default"]
        if name is None:
            is_wrong = True
            place.say("'${' is not understood: write ${NAME} or ${NAME:-default}, or $${ for the characters themselves")
            return ""
        known = environment.get(name)
        if default is not None:
            return known or default
        if known is None:
            is_wrong = True
            place.say(f"the environment has no {name}: set it, or write ${{{name}:-...}} with what goes without it")
        return known or ""

    made = _REFERENCE.sub(value, text)
    if is_wrong:
        return WRONG
    return made if is_plain else FromEnvironment(made, text)
