"""Every error that headgate raises on purpose, as one tree.

::

    HeadgateError
    ├── LimitError (ValueError)           a limit that cannot be
    │   ├── LimitSyntaxError              ... because its text is not understood (with a caret)
    │   └── LimitOutOfBounds              ... because its numbers are not usable
    ├── InvalidKey (ValueError)           a key that is empty, too long or not text
    ├── InvalidCost (ValueError)          a cost that is not an integer of at least 0
    │   └── CostExceedsCapacity           "never": the cost is above what the limit can ever hold
    ├── InvalidUse (TypeError)            a call or a setting that does not fit what it is made on
    ├── StoreURLError (ValueError)        a store URL that is not understood
    ├── ConfigError (ValueError)          a configuration that is not understood
    ├── MissingExtra (ImportError)        the client library of a store is not installed
    ├── AcquireTimeout (TimeoutError)     the turn would come later than the caller can wait
    ├── LimitExceeded                     raised by the decorator only, in place of the call
    └── StoreOutage (ConnectionError)     the store did not answer as it should
        ├── StoreTimeout                  ... within the deadline
        └── StoreUnavailable              ... or refused, or answered with an error

"Not now" is a `Decision`, never an exception: only a caller that has no place for a decision (a
decorated function, an `acquire` that may not wait long enough) meets it as one.

This module must not know about any other: it holds no logic, and no text in it carries a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.decision import Decision


class HeadgateError(Exception):
    """The root of the tree. Errors can be pickled, and so be sent to other processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, vars(self))


def _rebuild(kind: type[HeadgateError], args: tuple[Any, ...], values: dict[str, Any]) -> HeadgateError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(values)
    return error


class LimitError(HeadgateError, ValueError):
    """A limit that cannot be. Nothing that fails to become a limit ever means "unlimited"."""


class LimitSyntaxError(LimitError):
    """The text of a limit is not understood.

    `text` is the whole text, `position` the index of the character at which reading stopped.
    """

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.text = text
        self.position = position
        self.problem = problem
        super().__init__(f"{problem}\n  {text}\n  {' ' * position}^")


class LimitOutOfBounds(LimitError):
    """The numbers of a limit are not usable: not positive, or too large to be exact everywhere."""


class InvalidKey(HeadgateError, ValueError):
    """A key that is empty, too long, or not storable text. The message never holds a long key whole."""


class InvalidCost(HeadgateError, ValueError):
    """A cost that is not an integer of at least 0."""


class CostExceedsCapacity(InvalidCost):
    """The cost is above the capacity of the limit: no wait makes it possible ("never", not "not now")."""

    def __init__(self, cost: int, capacity: int, name: str, reserve: int = 0) -> None:
        self.cost = cost
        self.capacity = capacity
        self.name = name
        self.reserve = reserve
        kept = f" with a reserve of {reserve}" if reserve else ""
        less = "ask for less at once, keep less back" if reserve else "ask for less at once"
        super().__init__(
            f"a cost of {cost}{kept} can never pass {name!r}, whose capacity is {capacity}: "
            f"{less}, or raise the limit's burst"
        )


class InvalidUse(HeadgateError, TypeError):
    """A call or a setting that does not fit what it is made on, such as a plain key for a tiered limiter."""


class StoreURLError(HeadgateError, ValueError):
    """A store URL that is not understood. The message never holds the URL's password."""


class ConfigError(HeadgateError, ValueError):
    """A configuration that is not understood. It has no effect: what was configured before stays.

    `problems` says where each is and what to do, in the order of the file. No text holds what came from the
    environment, nor a password.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            super().__init__(f"{source}: {self.problems[0]}")
        else:
            super().__init__("\n  ".join([f"{source}: {len(self.problems)} problems", *self.problems]))


class MissingExtra(HeadgateError, ImportError):
    """The client library that a store needs is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} is not installed: pip install 'headgate[{extra}]'")


class AcquireTimeout(HeadgateError, TimeoutError):
    """The turn would come later than the caller can wait. Nothing was spent.

    It is raised as soon as that is known, not after the timeout. `decision` says when to come back.
    """

    def __init__(self, decision: Decision, timeout: float) -> None:
        self.decision = decision
        self.timeout = timeout
        super().__init__(
            f"{decision.binding!r} would admit {decision.key!r} in {decision.retry_after:.6f} s, "
            f"later than the timeout of {timeout:g} s"
        )


class LimitExceeded(HeadgateError):
    """A decorated function was called while its limit denies. The function did not run.

    `decision` says which limit binds and when to come back.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(f"{decision.binding!r} denies {decision.key!r}; retry in {decision.retry_after:.6f} s")


class StoreOutage(HeadgateError, ConnectionError):
    """The store did not answer as it should. `store` names it, without its password."""

    is_of_server = True
    """False if just one request is at fault, and the server answers others: a key holds something foreign, say."""

    def __init__(self, store: str, problem: str) -> None:
        self.store = store
        self.problem = problem
        super().__init__(f"store {store}: {problem}")


class StoreTimeout(StoreOutage):
    """No answer within the deadline. A spend that was under way may have been counted."""


class StoreUnavailable(StoreOutage):
    """The store cannot be reached, refuses us, or answers with an error."""
