"""The settings in the config of an app of Flask: `HEADGATE_STORE`, and one for each other option.

This module must not know a framework.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from headgate.errors import InvalidUse
from headgate.limits import Limit
from headgate.rules import Rule
from headgate.web.limits import AppLimits

PREFIX: Final = "HEADGATE_"
"""With this each setting begins."""
OPTIONS: Final = frozenset(
    name
    for name, parameter in inspect.signature(AppLimits).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
)
"""The options of the limits of an app."""


def configured(
    config: Mapping[str, Any], rules: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The rules and options of an app: as given, but for what its config says."""
    made = dict(options)
    for setting, value in config.items():
        if not setting.startswith(PREFIX):
            continue
        name = setting.removeprefix(PREFIX).lower()
        if name == "limits":
            limits = [value] if isinstance(value, (str, Limit)) else list(value)
            rules = [*limits, *[rule for rule in rules if isinstance(rule, Rule)]]
        elif name == "enabled":
            if not isinstance(value, bool):
                raise InvalidUse(f"{setting} is True or False, not {value!r}")
            made["enabled"] = value
        elif name in OPTIONS:
            made[name] = value
        else:
            known = [PREFIX + one.upper() for one in (*OPTIONS, "limits")]
            raise InvalidUse(f"there is no setting {setting}{nearest(setting, known)}")
    return rules, made


def nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f": did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
