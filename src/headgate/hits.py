"""Requests to a store: hits, groups of hits, and what to do with them. Plain values; no I/O."""

from __future__ import annotations

from numbers import Integral, Number
from typing import Any, Final, Literal, NamedTuple

from headgate.errors import CostExceedsCapacity, InvalidCost
from headgate.limits import Limit, integer_of

Action = Literal["spend", "peek", "give_back", "take", "renew", "forget"]
"""The action to take on a group.

- `spend`: judge all hits, and take all their costs or none.
- `peek`: judge, and take nothing.
- `give_back`: return the cost of an earlier hit, which `receipt` tells.
- `take`: charge the cost whatever the limit says.
- `renew`: put off the expiry of a holder's slots (`Concurrency` only); not allowed means that they were lost.
- `forget`: forget all that is known of the key.

All but `spend` and `peek` go in groups of one hit, save a `give_back` that undoes a `spend` (see `Once.takes_back`).
"""


class Hit(NamedTuple):
    """One (limit, key, cost) to be judged."""

    limit: Limit
    key: str
    """Whose share it is."""
    name: str
    """The limit's name, part of where its state lives."""
    cost: int = 1
    """The tokens that are asked for."""
    holder: str = ""
    """Who holds the slots (`Concurrency` only): a name that nobody else has, as hex digits, a dot and for how many
    microseconds a slot is held; of other names, stores do not know that."""
    receipt: Any = None
    """The receipt of an earlier decision on this hit, for `give_back`."""
    tier: str = ""
    """The limit's name among users, where that is another."""
    spare: int = 0
    """The tokens that are to be left (not of slots and penalties): a `spend` or `peek` passes if its cost and these
    fit, and takes its cost alone. To other actions, it says nothing."""

    @property
    def needed(self) -> int:
        """The tokens that have to be there: the cost, and what is to be left."""
        return self.cost + self.spare


class Once(NamedTuple):
    """A mark that makes a group count once, however often it is sent, and by whomever: where a decision has copies."""

    mark: str
    """Says for which decision or request: no other has the same. Groups of one mark, key and name count once between
    them."""
    until_us: int = 0
    """Until when the store knows the mark, by its clock. From then on, the group is too late, and does nothing."""
    life_us: int = 0
    """Of `spend`, in place of `until_us`: how long the store knows the mark, from the decision on. A group that is
    denied leaves no mark. It does not wait."""
    takes_back: bool = False
    """Of `give_back`: does it undo the `spend` that left the mark, good until `until_us`? The hits are all of that
    `spend`. If the mark is as it was left, they come back, and the mark goes; if a group was answered by it since, or
    it is gone, nothing is done."""
    was_known: bool = False
    """Of a decision's group: was the mark known, or was it too late to know, so that nothing was done?"""


class Group(NamedTuple):
    """Hits that stand or fall together. Their (key, name) pairs must differ."""

    hits: tuple[Hit, ...]
    max_wait_us: int = 0
    """The longest that the caller can wait for its turn, in microseconds: a token bucket then admits into the future.
    For groups of one hit, penalties aside; the others of a larger group are charged at once, and do not know of the
    wait."""
    action: Action = "spend"
    once: Once | None = None
    """Of `give_back` and `take`, and of a `spend` whose hits have one key: what makes it count once. A group that comes
    again does nothing, and is answered as a `peek` that is allowed, with `known` in place of it."""

    @property
    def is_plain(self) -> bool:
        """Is it one hit to spend now, with nothing else that an algorithm's fast path would have to know?"""
        hits, max_wait_us, action, once = self
        return len(hits) == 1 and action == "spend" and max_wait_us == 0 and once is None and hits[0].spare == 0


def known(group: Group) -> Group:
    """A group that counts once, as the decision has it when nothing was done: its hits cost nothing."""
    assert group.once is not None
    return group._replace(
        hits=tuple([hit._replace(cost=0) for hit in group.hits]), once=group.once._replace(was_known=True)
    )


KNOWN: Final = 2
"""The answer of stores in place of 1 (allowed) where nothing was done, since the mark was known."""


def marked_key(key: str, mark: str) -> str:
    """The key under which a mark is kept, beside the state of a group's first hit. No key of a user's holds NUL."""
    return f"{key}\0{mark}"


JUDGING: Final = ("spend", "peek")
"""The actions that judge."""


class SingleHit:
    """A single-hit request without its key: what it spends, and of which limit. Hits that are alike differ in their
    keys alone, and what is the same for all of them is worked out once. Two of these are never equal.
    """

    __slots__ = ("cost", "limit", "name")

    def __init__(self, limit: Limit, name: str, cost: int) -> None:
        self.limit = limit
        self.name = name
        self.cost = cost

    def __reduce__(self) -> tuple[Any, ...]:
        return SingleHit, (self.limit, self.name, self.cost)  # what is worked out stays here

    def group(self, key: str) -> Group:
        """The hit, as a group."""
        return Group((Hit(self.limit, key, self.name, self.cost),))


def integer_cost(cost: object, rule: str = "a cost is an integer") -> int:
    """A cost as a plain integer.

    :raises InvalidCost: if it is none.
    """
    found = integer_of(cost)
    if found is None:
        remedy = "await it" if hasattr(cost, "__await__") else "write int(...)"
        if isinstance(cost, Number) and not isinstance(cost, Integral):
            remedy += ", or count in a smaller unit, such as cents or thousandths"
        raise InvalidCost(f"{rule}, not {cost!r}: {remedy}")
    return found


def check_cost(cost: object, limit: Limit, name: str) -> int:
    """A cost as a plain integer, if it is one for `limit`.

    :raises InvalidCost: if it is not an integer of at least 0.
    :raises CostExceedsCapacity: if it can never be admitted.
    """
    found = cost if type(cost) is int else integer_cost(cost)  # the latter takes as long as all else here
    if found < 0:
        raise InvalidCost(f"a cost is at least 0, not {found}: to give tokens back, use refund(decision)")
    if found > limit.capacity:
        raise CostExceedsCapacity(found, limit.capacity, name)
    return found
