"""Events of limiters and stores, told to whoever wants to hear it: metrics, traces and logs hang on this.

    class Denials(Observer):
        def decided(self, limiter, decision, duration_ns):
            if not decision:
                print(limiter, decision.key)

    detach = attach(Denials())

Observers hear of all limiters and stores of the process. They are called where something happens, in whatever thread or
event loop, and hold that up: they are to be quick, and safe to share between threads. What they raise is logged, and
changes nothing. This module must not know who tells, nor what becomes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Literal

from headgate.decision import Decision
from headgate.errors import InvalidUse, StoreOutage

BreakerState = Literal["closed", "open", "half-open"]

logger = logging.getLogger("headgate")


class Observer:
    """Hears what happens. Override what you want to hear of. Times are in nanoseconds, keys are as they were asked
    for.
    """

    def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        """A request was decided on. `limiter` is the limiter's name; `decision.source` tells who decided. A denial
        after which an `acquire` asks again later is not told.
        """

    def failed(self, limiter: str, outage: StoreOutage) -> None:
        """A request was not decided on, as the store did not answer: its caller gets the outage raised."""

    def waited(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        """An `acquire` (or a `hold`) has come to its end. It was admitted after so long, 0 if at once; or denied, since
        its turn would have come later than the timeout.
        """

    def slots_taken(self, limiter: str, limit: str, slots: int) -> None:
        """A block holds slots from now on, of this limit of a limiter."""

    def slots_released(self, limiter: str, limit: str, slots: int) -> None:
        """It has ended. Told to those who were told of its beginning."""

    def near_limit(self, limiter: str, decision: Decision) -> None:
        """A request was admitted, and less is left of the limit than the share at which its rule wants that to be told.
        `limiter` is the app's name and the rule's: `web.login`.
        """

    def shadow_denied(self, limiter: str, decision: Decision) -> None:
        """A rule that only looks would have denied a request. It is not told as `decided`."""

    def round_trip(self, store: str, groups: int, duration_ns: int, outage: StoreOutage | None) -> None:
        """So many groups were sent to a store (or a node of one) as one batch, and were answered, or not."""

    def outage_began(self, limiter: str, outage: StoreOutage) -> None:
        """From now on, the outage rule answers for a limiter."""

    def outage_ended(self, limiter: str) -> None:
        """The store answers again."""

    def breaker_changed(self, store: str, state: BreakerState) -> None:
        """The breaker of a store (or a node of one) has another state."""

    def lease_drawn(self, limiter: str, key: str, tokens: int) -> None:
        """Tokens of a key were drawn ahead of need."""

    def lease_returned(self, limiter: str, key: str, tokens: int) -> None:
        """Some that nobody used go back."""


attached: Final[list[Observer]] = []
"""Who hears. To be looked at before anything is told or measured, so that it costs nothing where nobody does."""
listeners: Final[list[Callable[[], None]]] = []
"""Called when `attached` has changed."""


def attach(observer: Observer) -> Callable[[], None]:
    """Let an observer hear from now on. What is returned detaches it.

    :raises InvalidUse: if it is no `Observer`.
    """
    if not isinstance(observer, Observer):
        raise InvalidUse(f"an observer is an instance of a subclass of Observer, not {type(observer).__name__}")
    attached.append(observer)
    _changed()

    def detach() -> None:
        with suppress(ValueError):  # it has been detached before
            attached.remove(observer)
            _changed()

    return detach


def _changed() -> None:
    for listener in listeners:
        listener()


def tell(call: Callable[[Observer], None], to: Iterable[Observer] | None = None) -> None:
    """Tell all observers, or those of them that are among `to`: `call` makes the call of one.

    >>> tell(lambda observer: observer.outage_ended("api"))
    """
    for observer in tuple(attached) if to is None else [one for one in to if one in attached]:
        try:
            call(observer)
        except Exception:  # somebody else's code; whatever it does, what was decided stands
            note_failure(observer)


def note_failure(observer: Observer) -> None:
    """Log the exception that an observer has raised just now."""
    logger.exception("headgate: the observer %r failed; what it was told stands", observer)
