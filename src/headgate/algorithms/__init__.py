"""The algorithms, each as one idea in two dialects: a Python reference and the Lua script beside it.

Both dialects use the same names and the same order of steps, and compute the same integers; the tests compare them for
equality. An algorithm is a module of pure functions over integers, which `Algorithm` lists.

A `state` of `None` means "nothing is owed". All times are integer microseconds since the epoch, and no number that a
script sees reaches 2**53, up to which the doubles of Lua count exactly.

The modules here must not know what a limit, a key, a store or a clock is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never, Protocol, TypeVar

from headgate.errors import InvalidUse

Facts = tuple[int, ...]
"""The outcome for one hit, as a decision keeps it: integers whose meaning the algorithm's module tells."""

State = TypeVar("State")
Arguments_contra = TypeVar("Arguments_contra", contravariant=True)
Judged = TypeVar("Judged")
Receipt_contra = TypeVar("Receipt_contra", contravariant=True)

Written = tuple[State | None, int, Facts]
"""`(state, expires_at, facts)`: what is kept from now on, the first instant at which it says nothing any more (0 where
there is no state), and what is told of the hit."""

Lasting = tuple[State, int]
"""`(state, expires_at)`: what is kept, and the first instant at which it says nothing any more."""
SLACK_US = 1_000
"""An `expires_at` may be told later than it is by so much less one: some servers keep it to the millisecond."""

MAX_SPAN_US = 2**50 - 1
"""The longest time that a limit may span, or a caller may wait, in microseconds (35 years).

Until the year 2112, now + debt + increment < 2**52 + 2**51 + 2**50 < 2**53.
"""
MAX_DEBT_US = 2**51 - 1
"""Where a debt saturates, in microseconds (71 years)."""
MAX_TOKENS = 2**51 - 1
"""The largest number of tokens that a limit may count."""


class Algorithm(Protocol[State, Arguments_contra, Judged, Receipt_contra]):
    """All that an algorithm's module provides. What a state is, and what the facts mean, is its own affair."""

    def judge(
        self, state: State | None, now: int, arguments: Arguments_contra, max_wait: int, /
    ) -> tuple[bool, Judged]:
        """May this hit pass? `(allowed, judged)`; nothing is taken yet."""

    def spend(self, judged: Judged, /) -> Written[State] | None:
        """Take the cost of a hit that was judged. A state that is changed in place is changed once, however often the
        hit is spent. None says that it has been changed since then otherwise (a signal handler asks in the midst of
        another's call).
        """

    def keep(self, judged: Judged, /) -> Facts:
        """Leave everything as it is, and say how it is."""

    def repaired(self, judged: Judged, /) -> tuple[State | None, int] | None:
        """The part of a hit to be spent that must be written although its group was denied: `(state, expires_at)` where
        the state was one of the future, since the clock stepped back. Were it not written, it would be repaired anew
        each time, until the clock is there again. Nearly always None; but a penalty has counted the denial.
        """

    def give_back(
        self, state: State | None, now: int, arguments: Arguments_contra, receipt: Receipt_contra, /
    ) -> Written[State]:
        """Return what the hit with this receipt took. Slots go by their holder."""

    def take(self, state: State | None, now: int, arguments: Arguments_contra, /) -> Written[State]:
        """Charge the cost whatever the limit says.

        :raises InvalidUse: if the algorithm has slots (see `not_here`).
        """

    def renew(self, state: State | None, now: int, arguments: Arguments_contra, /) -> tuple[bool, Written[State]]:
        """Put off the expiry of a holder's slots: `(are_held, written)`.

        :raises InvalidUse: if the algorithm has no slots (see `not_here`).
        """

    def pack(self, state: State, until_us: int, unit: int, /) -> int | None:
        """A state and its `expires_at` as one integer, for stores in memory; None if it is not a plain one. The `unit`
        is what the packed states of a limit have in common: the rate of buckets, the period of all else.
        """

    def unpack(self, packed: int, unit: int, /) -> tuple[State, int]:
        """The state that was packed, and its `expires_at`."""

    def least(self, now: int, unit: int, /) -> int:
        """The least packed state, of those that say something at `now`, is greater than this."""

    def wire(self, arguments: Arguments_contra, /) -> tuple[int | str, ...]:
        """The arguments as they are sent to a script."""

    def wire_receipt(self, arguments: Arguments_contra, receipt: Receipt_contra, /) -> tuple[int | str, ...]:
        """A receipt as it is sent to a script, behind the arguments."""

    def read(self, take: Callable[[], int], now: int, arguments: Arguments_contra, /) -> Facts:
        """The facts of one hit from a script's reply, of which `take` hands out one number after the other."""

    def dump(self, state: State, /) -> str:
        """The state as one line of text, for stores that keep it: see texts.py."""

    def load(self, text: str, /) -> State:
        """The state from its text: one of its own, on which all is decided as on the one that was dumped.

        :raises ValueError: if the text is none of `dump`'s, or of an unknown version.
        """

    def merge(self, kept: Lasting[State], other: Lasting[State], /) -> Lasting[State]:
        """One state of two that were kept in different stores for the same key, each with its `expires_at`: whom either
        would deny, it denies. Nothing is added up that both may know of. Merged with what is in it already, it stays as
        it is. It shares nothing with the two that is changed in place.
        """


def not_here(state: object, now: int, arguments: object) -> Never:
    """The `take` of algorithms with slots, and the `renew` of those without.

    :raises InvalidUse: always.
    """
    raise InvalidUse("only slots can be renewed, and all but slots be charged: nobody else asks for it")


AnyAlgorithm = Algorithm[Any, Any, Any, Any]
"""The algorithm of whatever limit: who calls it passes its states and arguments on, and looks into none."""
