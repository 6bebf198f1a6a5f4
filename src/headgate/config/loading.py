"""Loading a configuration: from TOML, or from a dict of the same shape, to settings and rules.

What is needed for that is imported when it is done. This module must not know what becomes of a configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.config.settings import LimiterSettings, StoreSettings, WebSettings
    from headgate.rules import Rules

Source = str | os.PathLike[str] | Mapping[str, Any]
"""A file, or a dict of the same shape."""

FILE: Final = "headgate.toml"
VARIABLE: Final = "HEADGATE_CONFIG"


@dataclass(frozen=True)
class Config:
    """A configuration that was understood. A value; it opens nothing, and its `repr` holds no secret."""

    source: str
    """The file; or where it came from else."""
    stores: Mapping[str, StoreSettings] = field(default_factory=dict)
    limiters: Mapping[str, LimiterSettings] = field(default_factory=dict)
    web: WebSettings | None = None
    """All that goes for the rules of a web app; None where several stores leave open where they count."""
    rules: Rules | None = field(default=None, repr=False)
    """The rules of a web app, with whose share they take, and who meets none."""


def load(source: Source | Config | None = None, *, imports: bool = True) -> Config:
    """Read a configuration: a file of TOML, or a dict of the same shape. Without one, the file that the environment's
    HEADGATE_CONFIG names, or else `headgate.toml` in the current folder.

    :param imports: import the functions that rules name? If not, the rules cannot be used, and can be looked at.
    :raises ConfigError: if it is missing or not understood. It says all that is wrong, each with file, table and key.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return understood(source, "the configuration", imports=imports)
    path = path_of(source)
    return parsed(bytes_of(path), str(path), imports=imports)


def path_of(source: str | os.PathLike[str] | None) -> Path:
    """The file of a configuration, whether it is there or not."""
    from pathlib import Path

    return Path(source if source is not None else os.environ.get(VARIABLE) or FILE)


def bytes_of(path: Path) -> bytes:
    """The content of a file.

    :raises ConfigError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(str(path), [f"cannot be read: {reason} ({path.absolute()})"]) from None


def parsed(content: bytes, source: str, *, imports: bool = True) -> Config:
    """Understand the content of a file.

    :raises ConfigError: as `load` does.
    """
    import tomllib

    try:
        document = tomllib.loads(content.decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [f"is no TOML: {error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(source, [f"is not in UTF-8: byte {error.start} is none of it"]) from None
    return understood(document, source, imports=imports)


def understood(document: Mapping[str, Any], source: str, *, imports: bool = True) -> Config:
    """Understand a configuration of TOML's values.

    :raises ConfigError: as `load` does.
    """
    from headgate.config.environment import expanded
    from headgate.config.limiters import limiter_settings
    from headgate.config.places import WRONG, Place
    from headgate.config.rules import app_rules, finder, rules_of
    from headgate.config.stores import store_of, store_settings
    from headgate.config.tables import DOCUMENT
    from headgate.config.web import web_settings

    place = Place()
    read = DOCUMENT.read(expanded(document, os.environ, place), place)
    place.end(source)
    stores = {name: store_settings(name, one, place.at("stores", name)) for name, one in read.get("stores", {}).items()}
    known = {name: one for name, one in stores.items() if one is not WRONG}
    limiters = {}
    for name, said in read.get("limiters", {}).items():
        if said.get("store") not in stores or said.get("store") in known:  # else, that has been said
            limiters[name] = limiter_settings(name, said, known, place.at("limiters", name))
    web = read.get("web", {})
    find = finder(imports=imports)
    rules = app_rules(web, rules_of(read.get("rules", []), web, place.at("rules"), find), place.at("web"), find)
    store = None
    if "store" in web or len(known) <= 1 or read.get("rules"):
        store = store_of(web.get("store"), known, place.at("web"))
    settings = web_settings(web, store, place.at("web"), find) if store else None
    place.end(source)
    return Config(source, stores, limiters, settings, rules)
