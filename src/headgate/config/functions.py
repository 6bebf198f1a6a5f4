"""Functions that rules have from a configuration: by their dotted paths, or from headers, statuses and tables.

This module must not know a framework.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.config.places import FromEnvironment, Place
from headgate.web.messages import WebRequest, WebResponse


def found(path: str, place: Place) -> Any:
    """Import a function by its path, such as `myapp.limits:cost`. A problem is said at its place."""
    module, _, name = path.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception as error:  # importing runs somebody's code, which may raise whatever it likes
        told = "" if isinstance(path, FromEnvironment) else f": {error}"
        return place.say(f"{path!r} cannot be imported: {type(error).__name__}{told}")
    return value if callable(value) else place.say(f"{path!r} is a {type(value).__name__}, and no function")


def named_only(path: str) -> Callable[[Any], Any]:
    """Stands for a function that is not imported, where a configuration is only looked at."""

    def absent(_: Any) -> Any:
        raise NotImplementedError(path)

    absent.__qualname__ = path
    return absent


@dataclass(frozen=True)
class NumberOfHeader:
    """A cost, by a header of the request or of the response.

    Of a request, what is no whole number of at least 1 is the `default`, and of several the largest counts: a client
    who may write the header, too, cannot go free by it. Of a response, where the app itself may say that nothing was
    used, it is 0 or more, and without a default what was reserved stays.
    """

    header: str
    default: int | None = None
    most: int | None = None
    of_web_request = True
    """Is it asked with a `WebRequest`, and not with the framework's own?"""

    def __str__(self) -> str:
        return f"by header {self.header}"

    def __call__(self, message: WebRequest | WebResponse) -> Any:
        """The cost that a message says; None for that which was reserved."""
        name = self.header.lower()
        if isinstance(message, WebResponse):
            number = _largest([message.headers.get(name, "")], 0, self.default)
        else:
            number = _largest(message.values(name), 1, self.default or 1)
        return number if self.most is None or number is None else min(number, self.most)


def _largest(texts: Sequence[str], least: int, default: int | None) -> int | None:
    numbers = [int(text) for text in map(str.strip, texts) if text.isascii() and text.isdigit() and len(text) < 16]
    return max((number for number in numbers if number >= least), default=default)


@dataclass(frozen=True)
class Responses:
    """Which responses count, by their status, and by a header."""

    statuses: frozenset[int | str]
    """Statuses, and classes of them such as `4xx`; empty for all."""
    header: str = ""
    value: str = ""

    def __str__(self) -> str:
        said = [f"status {', '.join(sorted(map(str, self.statuses)))}"] if self.statuses else []
        return " and ".join([*said, *([f"{self.header}: {self.value}"] if self.header else [])])

    def __call__(self, response: WebResponse) -> bool:
        """Is a response one of them?"""
        status = response.status_code
        if self.statuses and status not in self.statuses and f"{status // 100}xx" not in self.statuses:
            return False
        return not self.header or response.headers.get(self.header.lower(), "").strip() == self.value


def responses(said: Mapping[str, Any]) -> Responses:
    """The responses of a table of the configuration."""
    status = said.get("status", ())
    given: Sequence[int | str] = status if isinstance(status, list) else (status,) if status != () else ()
    return Responses(frozenset(given), said.get("header", ""), said.get("value", ""))


def number_of_header(said: Mapping[str, Any]) -> NumberOfHeader:
    """The cost of a table of the configuration."""
    return NumberOfHeader(said["header"], said.get("default"), said.get("most"))
