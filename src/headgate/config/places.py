"""Places in a configuration, and the problems that were found there.

A reader goes on after a problem, so that a user hears of all of them at once. This module must not know what is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from headgate.errors import ConfigError

_LONGEST: Final = 60
_OF_TABLES: Final = ("stores", "limiters")
"""Tables of tables."""


class FromEnvironment(str):
    """A text that holds values of the environment. It may be secret, and is never shown: its `template` is."""

    __slots__ = ("template",)
    template: str

    def __new__(cls, text: str, template: str) -> FromEnvironment:
        """Keep a text with what stood in its place."""
        made = super().__new__(cls, text)
        made.template = template
        return made

    def __repr__(self) -> str:
        return repr(self.template)


class Wrong:
    """Stands for a value in which a problem was found."""

    def __bool__(self) -> bool:
        return False


WRONG: Final = Wrong()


class Place:
    """Where a value stands: a table, and a key in it. Problems are said here, and kept for all places together."""

    __slots__ = ("path", "problems", "title")

    def __init__(self, problems: list[str] | None = None, path: tuple[str | int, ...] = (), title: str = "") -> None:
        self.problems: Final[list[str]] = [] if problems is None else problems
        self.path: Final = path
        self.title = title
        """The name that an entry of a list gives itself."""

    def at(self, *steps: str | int) -> Place:
        """A place below this one."""
        return Place(self.problems, (*self.path, *steps), self.title)

    def say(self, problem: str) -> Wrong:
        """Keep a problem. Returns what stands for the value."""
        where = str(self)
        self.problems.append(f"{where}: {problem}" if where else problem)
        return WRONG

    def __str__(self) -> str:
        path = list(self.path)
        if not path:
            return ""
        if len(path) > 1 and isinstance(path[1], int):
            name = f" ({self.title})" if self.title else ""
            table, rest = f"[[{path[0]}]] {path[1] + 1}{name}", path[2:]
        else:
            is_table = len(path) == 1 or (len(path) == 2 and path[0] in _OF_TABLES)
            above = path if is_table else path[:-1]
            table, rest = f"[{'.'.join(_key(step) for step in above)}]", path[len(above) :]
        return ", ".join([table, *([".".join(_key(step) for step in rest)] if rest else [])])

    def end(self, source: str) -> None:
        """Raise what was found, if anything was.

        :raises ConfigError: with all problems.
        """
        if self.problems:
            raise ConfigError(source, self.problems)


def _key(step: str | int) -> str:
    text = str(step)
    return text if text.replace("-", "").replace("_", "").isalnum() else f'"{text}"'


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that are like a name, as the end of a sentence; all of them, if none is."""
    from difflib import get_close_matches  # only where something is wrong

    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}" if names else "there is none"


def shown(value: Any) -> str:
    """A value as an error may show it: in short, and not what came from the environment."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
