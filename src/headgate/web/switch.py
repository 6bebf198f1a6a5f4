"""The switch of an app's limits: on, unless code, a configuration or the environment says that they are off.

This module must not know a framework.
"""

from __future__ import annotations

import os
from typing import Final

from headgate.errors import InvalidUse

VARIABLE: Final = "HEADGATE_ENABLED"
"""The environment's word on it."""
_WORDS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def is_on(said: bool | None, by_config: bool | None) -> bool:
    """Are limits on? Code says it first, then the configuration, and then the environment.

    :raises InvalidUse: if one of them says neither.
    """
    for one in (said, by_config):
        if one is not None:
            if not isinstance(one, bool):
                raise InvalidUse(f"enabled is True or False, not {one!r}")
            return one
    word = os.environ.get(VARIABLE, "").strip().lower()
    if word and word not in _WORDS:
        raise InvalidUse(f"the environment's {VARIABLE} is true or false (or 1 or 0), not {word!r}")
    return _WORDS.get(word, True)
