"""The option `lease` of a limiter, and the report on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from headgate.errors import InvalidUse


@dataclass(frozen=True)
class Lease:
    """The rule by which a limiter draws tokens ahead of need."""

    max_tokens: int | None = None
    """The most that is drawn at once; by default a tenth of the limit's capacity."""
    life: float = 1.0
    """After so many seconds, what was not used goes back to the store, as far as it still can."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and (type(self.max_tokens) is not int or self.max_tokens < 1):
            raise InvalidUse(f"max_tokens is an integer of at least 1, or None, not {self.max_tokens!r}")
        if type(self.life) not in (int, float) or not 0.01 <= self.life <= 60:
            raise InvalidUse(f"the life of a lease is a number of seconds from 0.01 to 60, not {self.life!r}")


class LeaseReport(NamedTuple):
    """The whereabouts of the tokens that one limiter drew, since it was made."""

    drawn: int
    spent: int
    returned: int
    held: int
    """Those that are still here, good or not."""

    @property
    def stranded(self) -> int:
        """Those that nobody used: they went to waste, though a token bucket has earned them again."""
        return self.drawn - self.spent - self.returned - self.held

    @property
    def stranded_share(self) -> float:
        """`stranded` as a share of what was drawn, from 0 to 1."""
        return self.stranded / self.drawn if self.drawn else 0.0
