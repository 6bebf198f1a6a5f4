"""Give-backs that do not arrive: where nobody is told by an outage, a line goes to the log.

This module must not know who gives it back, nor how.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from headgate.errors import StoreOutage, StoreTimeout

logger = logging.getLogger("headgate")


class GoesOn(StoreTimeout):
    """A give-back that was not done within the call, and goes on after it. Whoever does that sees
    to what becomes of it.
    """

    is_of_server = False

    def __init__(self, store: str, timeout_s: float) -> None:
        super().__init__(store, f"it has not taken back within {timeout_s:g} s what it is given, and is asked on")


def tell_lost(answers: Iterable[object]) -> None:
    """Log what has not been given back, as far as answers to what gives back say, of which nobody else hears."""
    for answer in answers:
        if isinstance(answer, StoreOutage) and not isinstance(answer, GoesOn):
            logger.warning(
                "headgate: could not give back what was taken for nobody: %s",
                answer,
                extra={"event": "give_back_lost", "store": answer.store},
            )
