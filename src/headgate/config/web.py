"""The table of a web app in a configuration, beside its rules: how clients are told, and whether its limits are on.

This module must not know a framework or a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from headgate.config.places import WRONG, Place
from headgate.config.rules import Find
from headgate.config.settings import StoreSettings, WebSettings
from headgate.errors import HeadgateError
from headgate.identity.sources import check_secret
from headgate.web.headers import checked_names, checked_styles

_TOLD: Final = {
    "headers": "styles",
    "body": "body",
    "reset": "reset",
    "retry_after": "retry_after",
    "header_names": "names",
    "partition_secret": "partition_secret",
}
"""The keys that say how clients are told, and the words of `Responses` for them."""


def web_settings(said: Mapping[str, Any], store: StoreSettings, place: Place, find: Find) -> Any:
    """The settings of an app by the table `[web]`, whose values were read. Problems are said."""
    if WRONG in said.values():
        return WRONG
    told = {word: said[key] for key, word in _TOLD.items() if key in said}
    if "styles" in told:
        told["styles"] = checked_styles(told["styles"] or None)
        try:
            checked_names(told.get("names", {}), told["styles"])
        except HeadgateError as error:
            place.at("header_names").say(str(error).removeprefix("header_names: "))
    try:
        check_secret(told.get("partition_secret"))
    except HeadgateError as error:
        place.at("partition_secret").say(str(error))
    on_denied = said.get("on_denied")
    if isinstance(on_denied, str):
        on_denied = find(on_denied, place.at("on_denied"))
    return WebSettings(store, said.get("name", "web"), told, on_denied or None, said.get("enabled"))
