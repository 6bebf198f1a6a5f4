"""Tables of known keys: what may stand in them, together and alone.

A table is a kind of values, like those of `kinds.py`. This module must not know which tables there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headgate.config.kinds import Json, Kind
from headgate.config.places import WRONG, Place, nearest, shown


@dataclass(frozen=True)
class Key:
    """One key of a table."""

    kind: Kind
    help: str
    alias_of: str = ""
    """The key for which this is another word."""


@dataclass(frozen=True)
class Table:
    """Tables of known keys."""

    keys: Mapping[str, Key]
    what: str
    """The subject of the table, for errors and the schema."""
    needs_one_of: tuple[str, ...] = ()
    """One of these has to be there."""
    apart: tuple[tuple[str, str], ...] = ()
    """These cannot be there together."""
    together: tuple[tuple[str, str], ...] = ()
    """Where the first is, the second has to be."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Keys that others know, and what to write instead."""

    @property
    def words(self) -> str:
        """As `Kind.words`."""
        return f"a table: {self.what}"

    def takes(self, value: Any) -> bool:
        """As `Kind.takes`."""
        return isinstance(value, Mapping)

    def read(self, value: Any, place: Place) -> Any:
        """As `Kind.read`: the values by their keys, and other words for keys replaced."""
        if not self.takes(value):
            return place.say(f"is to be {self.words}, not {shown(value)}")
        read: dict[str, Any] = {}
        for name, inner in value.items():
            key = self.keys.get(name)
            if name in self.refused:
                place.at(name).say(self.refused[name])
            elif key is None:
                place.at(str(name)).say(f"there is no such key: {nearest(str(name), self.keys)}")
            elif inner is WRONG:  # it has been said
                read[key.alias_of or name] = WRONG
            else:
                read[key.alias_of or name] = key.kind.read(inner, place.at(name))
        self._check(value, place)
        return read

    def _check(self, value: Mapping[str, Any], place: Place) -> None:
        is_known = all(name in self.keys for name in value)  # else, one that is needed may be misspelt
        if self.needs_one_of and is_known and not any(name in value for name in self.needs_one_of):
            place.say(f"{self.what} needs {' or '.join(self.needs_one_of)}")
        for first, second in self._all_apart():
            if first in value and second in value:
                place.at(second).say(f"there is {first} already: give one of them")
        for first, second in self.together:
            if first in value and second not in value:
                place.at(first).say(f"goes with {second}, and there is none")

    def _all_apart(self) -> list[tuple[str, str]]:
        aliases = [(key.alias_of, name) for name, key in self.keys.items() if key.alias_of in self.keys]
        return [*self.apart, *aliases]

    def schema(self) -> Json:
        """As `Kind.schema`."""
        properties = {}
        for name, key in self.keys.items():
            described = f"Another word for {key.alias_of}." if key.alias_of else key.help
            properties[name] = {"description": described, **key.kind.schema()}
        made: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        needs: list[Json] = [{"not": {"required": list(pair)}} for pair in self._all_apart()]
        if self.needs_one_of:
            needs.append({"anyOf": [{"required": [name]} for name in self.needs_one_of]})
        if needs:
            made["allOf"] = needs
        if self.together:
            required: dict[str, list[str]] = {}
            for first, second in self.together:
                required.setdefault(first, []).append(second)
            made["dependentRequired"] = required
        return made
