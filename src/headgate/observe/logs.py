"""Logs of what limiters do, one JSON object a line, by the standard library's `logging`.

    from headgate.observe.logs import JSONFormatter, log_denials

    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    logging.getLogger("headgate").addHandler(handler)
    log_denials(per_second=10)

Denials are sampled: at most so many a second of each policy, and then how many were left out. Keys are hashed unless
one asks for them as they are. Outages and breakers are logged by the limiters and stores themselves, as warnings, once
for each change. This module must not know how anything is decided.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from headgate import observer
from headgate.clock import Clock, monotonic_us
from headgate.decision import Decision
from headgate.errors import InvalidUse
from headgate.observe.labels import hash_of, is_request, part_of, policy_of
from headgate.observer import Observer
from headgate.runtime.locks import lock

logger = logging.getLogger("headgate.denials")

_ORDINARY: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MAX_POLICIES: Final = 1000


class JSONFormatter(logging.Formatter):
    """Writes a record as one line of JSON: time, level, logger, message, and whatever was put on it by `extra=`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def log_denials(
    *,
    per_second: int = 10,
    keys: bool = False,
    secret: bytes | str | None = None,
    clock: Clock | None = None,
    to: logging.Logger = logger,
) -> Callable[[], None]:
    """Log denials from now on, at level INFO. What is returned ends that, and logs how many were left out in the end.

    :param per_second: how many denials of each policy are logged in a second; the others are counted.
    :param keys: log keys as they are, and not as hashes?
    :param secret: makes the hashes. Processes with the same one have the same hash of a key; if None, each has its own.
    :param clock: tells the time in microseconds; the machine's, if None.
    :param to: the logger.
    :raises InvalidUse: if `per_second` is less than 1.
    """
    log = DenialLog(per_second=per_second, keys=keys, secret=secret, clock=clock, to=to)
    detach = observer.attach(log)

    def end() -> None:
        detach()
        log.log_left_out()

    return end


class DenialLog(Observer):
    """Logs denials, a sample of them. Safe to share between threads: see `log_denials`."""

    def __init__(
        self,
        *,
        per_second: int = 10,
        keys: bool = False,
        secret: bytes | str | None = None,
        clock: Clock | None = None,
        to: logging.Logger = logger,
    ) -> None:
        if per_second < 1:
            raise InvalidUse(f"at least one denial a second is logged, not {per_second}: or else detach this")
        self._per_second = per_second
        self._keys = keys
        self._secret = secret
        self._clock = clock or monotonic_us
        self._logger = to
        self._lock = lock()
        self._seconds: dict[tuple[str, str], list[int]] = {}
        """By policy and result: the second, how many were logged in it, and how many were left out since."""

    def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        """As `Observer.decided`."""
        if not decision.allowed:
            self._log(limiter, decision, "denied")

    def shadow_denied(self, limiter: str, decision: Decision) -> None:
        """As `Observer.shadow_denied`."""
        self._log(limiter, decision, "shadow_denied")

    def _log(self, limiter: str, decision: Decision, result: str) -> None:
        if not is_request(decision):
            return
        policy = policy_of(limiter, part_of(decision))
        left_out = self._left_out(policy, result)
        if left_out is None:
            return
        key = decision.key if self._keys else f"hash:{hash_of(decision.key, self._secret)}"
        told = {
            "policy": policy,
            "result": result,
            "key": key,
            "source": decision.source,
            "cost": decision.cost,
            "limit": decision.limit,
            "retry_after": decision.retry_after,
            "left_out": left_out,
        }
        self._logger.info("%s %s; again in %.3f s", policy, result, decision.retry_after, extra=told)

    def log_left_out(self) -> None:
        """Log how many denials of each policy were left out since its last line."""
        with self._lock:
            left_out = {names: state[2] for names, state in self._seconds.items() if state[2]}
            self._seconds.clear()
        for (policy, result), count in left_out.items():
            told = {"policy": policy, "result": result, "left_out": count}
            self._logger.info("%s %s: %d more", policy, result, count, extra=told)

    def _left_out(self, policy: str, result: str) -> int | None:
        """How many denials were left out before this one, which is to be logged; None if it is left out, too."""
        second = self._clock() // 1_000_000
        with self._lock:
            names = policy, result
            if len(self._seconds) >= _MAX_POLICIES and names not in self._seconds:
                names = "other", result
            state = self._seconds.setdefault(names, [second, 0, 0])
            if state[0] != second:
                state[0], state[1] = second, 0
            if state[1] >= self._per_second:
                state[2] += 1
                return None
            state[1] += 1
            left_out, state[2] = state[2], 0
            return left_out
