"""Kinds of values: how each is read, and what it is called in errors and in the JSON schema.

A kind reads a value of TOML, or the object that stands for it where a configuration comes from code. What it refuses
is just what its schema refuses. This module must not know which keys there are.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

from headgate.config.places import WRONG, FromEnvironment, Place, shown
from headgate.limits import Limit
from headgate.rules.durations import UNITS_US_OF, seconds_of

Json = dict[str, Any]

_PLACEHOLDER: Final = {"type": "string", "pattern": r"\$\{"}
"""A value that the environment has."""


class Kind(Protocol):
    """A kind of values."""

    @property
    def words(self) -> str:
        """The kind in words, as the end of "is to be"."""

    def takes(self, value: Any) -> bool:
        """Is the value of this kind's type, if perhaps not right?"""

    def read(self, value: Any, place: Place) -> Any:
        """The value as it is used; where it is wrong, the problem is said."""

    def schema(self) -> Json:
        """The JSON schema of the values that are right."""


@dataclass(frozen=True)
class Text:
    """Texts, perhaps of a pattern."""

    words: str = "a text"
    pattern: str = ""
    is_secret: bool = False
    """Are they kept out of all texts of ours?"""

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, str)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        is_right = isinstance(value, str) and re.search(self.pattern, value) is not None
        given = f"not {type(value).__name__}" if self.is_secret else f"not {shown(value)}"
        return value if is_right else place.say(f"is to be {self.words}, {given}")

    def schema(self) -> Json:
        """As `Kind.schema`."""
        if not self.pattern:
            return {"type": "string"}
        return {"type": "string", "anyOf": [{"pattern": self.pattern}, {"pattern": r"\$\{"}]}


@dataclass(frozen=True)
class Word:
    """One word of a few."""

    choices: tuple[str, ...]

    @property
    def words(self) -> str:
        """As `Kind.words`."""
        *most, last = map(repr, self.choices)
        return f"{', '.join(most)} or {last}" if most else last

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, str)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        return str(value) if value in self.choices else place.say(f"is to be {self.words}, not {shown(value)}")

    def schema(self) -> Json:
        """As `Kind.schema`."""
        return {"anyOf": [{"enum": list(self.choices)}, _PLACEHOLDER]}


@dataclass(frozen=True)
class Flag:
    """True or false; or only one of them."""

    only: bool | None = None

    @property
    def words(self) -> str:
        """As `Kind.words`."""
        return "true or false" if self.only is None else str(self.only).lower()

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, bool)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        if isinstance(value, FromEnvironment):
            value = {"true": True, "false": False}.get(value.lower(), value)
        is_right = isinstance(value, bool) and self.only in (None, value)
        return value if is_right else place.say(f"is to be {self.words}, not {shown(value)}")

    def schema(self) -> Json:
        """As `Kind.schema`."""
        return {"anyOf": [{"type": "boolean"} if self.only is None else {"const": self.only}, _PLACEHOLDER]}


@dataclass(frozen=True)
class Number:
    """Numbers within bounds: whole ones, or all."""

    least: float = 0
    most: float = math.inf
    is_whole: bool = True
    is_above: bool = False
    """Is the least itself too small?"""

    @property
    def words(self) -> str:
        """As `Kind.words`."""
        what = "a whole number" if self.is_whole else "a number"
        bounds = f"above {self.least:g}" if self.is_above else f"of at least {self.least:g}"
        return f"{what} {bounds}" + (f" and at most {self.most:g}" if self.most < math.inf else "")

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        number = value
        if isinstance(value, FromEnvironment):
            with contextlib.suppress(ValueError):
                number = int(value) if self.is_whole else float(value)
        if self.is_whole and isinstance(number, float) and number.is_integer():
            number = int(number)
        is_right = self.takes(number) and (isinstance(number, int) or not self.is_whole)
        is_right = is_right and (self.least < number if self.is_above else self.least <= number)
        is_right = is_right and number <= self.most and number != math.inf
        return number if is_right else place.say(f"is to be {self.words}, not {shown(value)}")

    def schema(self) -> Json:
        """As `Kind.schema`."""
        made: Json = {"type": "integer" if self.is_whole else "number"}
        made["exclusiveMinimum" if self.is_above else "minimum"] = self.least
        if self.most < math.inf:
            made["maximum"] = self.most
        return {"anyOf": [made, _PLACEHOLDER]}


def _any_case(word: str) -> str:
    return "".join(f"[{letter.upper()}{letter}]" for letter in word)


@dataclass(frozen=True)
class Duration:
    """Lengths of time, in seconds where they are read."""

    words: str = "a number of seconds, or a text such as '500ms'"
    pattern: str = r"^\s*[0-9]+(\.[0-9]+)?\s*(" + "|".join(map(_any_case, filter(None, UNITS_US_OF))) + r")?\s*$"

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, (int, float, str, timedelta)) and not isinstance(value, bool)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        try:
            return seconds_of(value)
        except TypeError:
            return place.say(f"is to be {self.words}, not {shown(value)}")

    def schema(self) -> Json:
        """As `Kind.schema`."""
        return {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": self.pattern}, _PLACEHOLDER]}


@dataclass(frozen=True)
class LimitText:
    """Limits in words. Whether they are understood is seen when they are made."""

    words: str = "a limit in words, such as '100/minute'"

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, (str, Limit))

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        return value if self.takes(value) else place.say(f"is to be {self.words}, not {shown(value)}")

    def schema(self) -> Json:
        """As `Kind.schema`."""
        return {"type": "string"}


@dataclass(frozen=True)
class Function:
    """Functions by their dotted paths; or functions."""

    words: str = "a function by its path, such as 'myapp.limits:cost'"
    pattern: str = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return callable(value) or isinstance(value, str)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        is_right = callable(value) or (isinstance(value, str) and re.search(self.pattern, value, re.ASCII) is not None)
        return value if is_right else place.say(f"is to be {self.words}, not {shown(value)}")

    def schema(self) -> Json:
        """As `Kind.schema`."""
        return Text(pattern=self.pattern).schema()


@dataclass(frozen=True)
class Several:
    """Lists of one kind."""

    of: Kind
    least: int = 0

    @property
    def words(self) -> str:
        """As `Kind.words`."""
        return f"a list; each of it {self.of.words}"

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, Sequence) and not isinstance(value, (str, bytes))

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        if not self.takes(value):
            return place.say(f"is to be {self.words}, not {shown(value)}")
        if len(value) < self.least:
            return place.say(f"is to be {self.words}, and not empty")
        read = [self.of.read(one, place.at(index)) for index, one in enumerate(value)]
        return WRONG if WRONG in read else read

    def schema(self) -> Json:
        """As `Kind.schema`."""
        return {"type": "array", "items": self.of.schema(), **({"minItems": self.least} if self.least else {})}


@dataclass(frozen=True)
class Named:
    """Tables with names of the user's, and values of one kind."""

    of: Kind
    what: str
    """The kind of the names."""
    names: str = ""
    """The pattern of the names."""
    least: int = 1
    keep: Callable[[Any], Any] = field(default=dict, repr=False)

    @property
    def words(self) -> str:
        """As `Kind.words`."""
        return f"a table of {self.what}"

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, Mapping)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        if not self.takes(value):
            return place.say(f"is to be {self.words}, not {shown(value)}")
        if len(value) < self.least:
            return place.say(f"is to be {self.words}, and not empty")
        read = {}
        for name, inner in value.items():
            if not isinstance(name, str) or not re.search(self.names, name):
                read[name] = place.at(str(name)).say(
                    "a name is of letters, digits, '_', '-' and '/', and begins with a letter or a digit"
                )
            else:
                read[name] = self.of.read(inner, place.at(name))
        return WRONG if WRONG in read.values() else self.keep(read)

    def schema(self) -> Json:
        """As `Kind.schema`."""
        made: Json = {"type": "object", "additionalProperties": self.of.schema()}
        if self.names:
            made["propertyNames"] = {"pattern": self.names}
        return {**made, **({"minProperties": self.least} if self.least else {})}


@dataclass(frozen=True)
class Either:
    """Values of one of several kinds, whose types differ."""

    kinds: tuple[Kind, ...]

    @property
    def words(self) -> str:
        """As `Kind.words`."""
        return "; or ".join(kind.words for kind in self.kinds)

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return any(kind.takes(value) for kind in self.kinds)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`."""
        taking = [kind for kind in self.kinds if kind.takes(value)]
        if isinstance(value, FromEnvironment) and not taking:
            taking = [kind for kind in self.kinds if isinstance(kind, (Number, Flag))]
        if not taking:
            return place.say(f"is to be {self.words}, not {shown(value)}")
        if len(taking) == 1:
            return taking[0].read(value, place)
        for kind in taking:
            attempt = Place()
            read = kind.read(value, attempt)
            if not attempt.problems:
                return read
        return place.say(f"is to be {'; or '.join(kind.words for kind in taking)}, not {shown(value)}")

    def schema(self) -> Json:
        """As `Kind.schema`."""
        return {"anyOf": [kind.schema() for kind in self.kinds]}
