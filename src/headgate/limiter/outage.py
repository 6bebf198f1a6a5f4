"""Deciding when the store does not answer. One rule per limiter; a warning once per change of state.

This module must not know any store: it is told of a `StoreOutage`, and of the end of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

from headgate import observer
from headgate.decision import Decision
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import JUDGING, Group
from headgate.limiter.local import LocalShare
from headgate.limits import Limit
from headgate.runtime.locks import lock

OnOutage = Literal["open", "closed", "raise", "local"]
"""`open`: admit. `closed`: deny. `raise`: let the `StoreOutage` through to the caller. `local`: decide by a share
of the limit, in memory."""

MODES: Final[tuple[str, ...]] = get_args(OnOutage)

logger = logging.getLogger("headgate")


def _nothing(rule: object) -> None:
    """Do nothing."""


class OutageRule:
    """Decides in the store's place. Safe to share between threads and tasks.

    :param changed: called with the rule after each change of `is_out`.
    :param instances: for the mode `local`: how many processes have a share.
    :param in_place: likewise: the limits that are shared in place of the limiter's own, as for `LocalShare`.
    """

    def __init__(
        self,
        mode: OnOutage,
        limiter: str,
        changed: Callable[[OutageRule], None] = _nothing,
        instances: int | None = None,
        in_place: Mapping[str, tuple[Limit, str]] | None = None,
    ) -> None:
        if mode not in MODES:
            raise InvalidUse(f"on_outage is one of {', '.join(MODES)}, not {mode!r}")
        if instances is not None and mode != "local":
            raise InvalidUse(
                "instances goes with on_outage='local': it says how many processes have a share of a limit"
            )
        if in_place and mode != "local":
            raise InvalidUse("outage_limit goes with on_outage='local': it is a limit for as long as the store is away")
        self.local = LocalShare(1 if instances is None else instances, None, in_place) if mode == "local" else None
        """Decides in an outage, if that is the rule."""
        self.mode: Final = mode
        self.is_out = False
        """Did the last call fail?"""
        self._limiter = limiter
        self._changed = changed
        self._lock = lock()

    def decide(self, group: Group, outage: StoreOutage, *, is_request: bool = True) -> Decision:
        """Answer a group that the store did not answer.

        :param is_request: is it a caller's request? Then observers hear that it fails, if the mode is `raise`.
        :raises StoreOutage: the one that was told, if the mode is `raise`.
        """
        if self._changes(True):
            logger.warning(
                "headgate: %s; limiter %r answers %r until it is back",
                outage,
                self._limiter,
                self.mode,
                extra={"event": "outage_began", "limiter": self._limiter, "on_outage": self.mode},
            )
            observer.tell(lambda one: one.outage_began(self._limiter, outage))
        if self.mode == "raise":
            if is_request:
                observer.tell(lambda one: one.failed(self._limiter, outage))
            raise outage
        if self.local is not None:
            if is_request and group.action in JUDGING:
                return self.local.decide(group)
            # What follows a decision of the store is not for us; nor are tokens drawn ahead of need.
            return Decision(group, 0, group.action not in ("spend", "renew"), (), "local")
        is_open = self.mode == "open"
        return Decision(group, 0, is_open, (), "fail_open" if is_open else "fail_closed")

    def over(self) -> None:
        """Take note that the store has answered again."""
        if self._changes(False):
            logger.warning(
                "headgate: the store of limiter %r answers again",
                self._limiter,
                extra={"event": "outage_ended", "limiter": self._limiter},
            )
            observer.tell(lambda one: one.outage_ended(self._limiter))

    def _changes(self, is_out: bool) -> bool:
        with self._lock:
            changes = self.is_out != is_out
            self.is_out = is_out
        if changes:
            self._changed(self)
        return changes
