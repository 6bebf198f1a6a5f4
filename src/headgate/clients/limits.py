"""Limits of the requests that we make: the one plan of all clients.

A request waits for its turn, then for the end of what its vendor has asked all of us to stay away for. It is sent, and
what the answer says of limits is written where all workers read it. The plan asks for `Call`s alone; `run` and
`run_async` make them. This module must not know a client library.

A vendor's "stay away until then" is a token bucket of its own in the store, which earns one token each microsecond. It
is full unless somebody was told to stay away; to write that, the tokens of that time are taken from the top, and those
below are left (`reserve`): so of two answers, the later end counts, and no two add up. Requests only look whether it is
full.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypedDict

from headgate.clients.answers import Answer, Heed, pause_us
from headgate.clock import system_clock
from headgate.decision import Decision
from headgate.drive import Plan
from headgate.errors import AcquireTimeout, HeadgateError, InvalidUse
from headgate.keys import check_key
from headgate.limiter.decorator import is_async
from headgate.limiter.holds import Hold
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limiter.naming import Limits
from headgate.limiter.outage import OnOutage
from headgate.limiter.policy import Costs, Keys, wait_bound_us
from headgate.limiter.port import Port, port_for
from headgate.limits import Concurrency, TokenBucket
from headgate.plans.commands import Call
from headgate.stores.contract import Store

RETRIED: Final = frozenset({429, 503})
"""The statuses of answers after which a request may be sent again."""
FIRST_RETRY_US: Final = 1_000_000
"""How long a request stays away before it is sent again, where its vendor does not say; it doubles with each."""
MAX_WRITES: Final = 16
"""How often a block is written at most: each time, another worker has just written a longer one."""
NOT_RELEASED: Final = "headgate: the slots of a request expire by themselves, since they cannot be released: %s"

logger = logging.getLogger("headgate")

KeyOfRequest = Keys | Callable[[Any], Keys | Awaitable[Keys | None] | None]
CostOfRequest = Costs | Callable[[Any], Costs | Awaitable[Costs]]


class ClientOptions(TypedDict, total=False):
    """The options of a client's limits: see `ClientLimits`."""

    key: KeyOfRequest | None
    cost: CostOfRequest
    timeout: float | None
    retries: int
    heed: bool | Heed
    longest_block: float
    store: str | Store | None
    name: str | None
    on_outage: OnOutage
    instances: int | None


class Library(NamedTuple):
    """A client library, as far as limits have to know it."""

    host: Callable[[Any], str]
    """The host that a request goes to."""
    is_unsent: Callable[[Exception], bool]
    """Is it certain that a request that failed so has never reached its vendor?"""
    can_resend: Callable[[Any], bool]
    """Can the body of a request be sent once more?"""
    answer: Callable[[Any], Answer]
    """The part of a response that is about limits."""
    discard: Callable[[Any], Any]
    """Let go of a response that nobody is to see."""
    when_closed: Callable[[Any, Callable[[], Any]], bool]
    """Have a function called when a response is closed or has been read to its end, perhaps more than once. False if
    that is so by now: it is not called then.
    """


class ClientLimits:
    """The limits of a client. Safe to share between threads, tasks and event loops.

    :param limit: as for `Limiter`: one, several, or a dict of limits with costs of their own; or a limiter of yours, in
        which case `store`, `on_outage` and `instances` are said there.
    :param key: whose share a request takes, or a function of the request that says so; for an asyncio client, it may be
        async. By default, the host. For a dict of limits, it may be a dict, too. A request whose key is None is sent at
        once, and heeds nothing.
    :param cost: how many tokens a request takes, likewise.
    :param timeout: how long a request may wait in all before it is sent, in seconds; None for as long as it takes.
    :param retries: how often a request is sent again after a 429 or 503, when its vendor says; where that is not said,
        after 1, 2, 4 seconds and so on. It takes its cost each time. What cannot be sent again, such as a stream, is
        not, nor where the wait would be longer than `timeout`: the answer is returned then.
    :param heed: keep away all requests of the key, in every process, for as long as an answer says; or a function of an
        `Answer` that says for how many seconds, None for not at all. False leaves what vendors say alone.
    :param longest_block: for how many seconds an answer can keep us away at most.
    :param store: where the state lives: a URL or a `Store`. In `memory://`, the default, it is this client's alone.
    :param name: the name in the store, of the limit and of what vendors say. Limits have their text by default.
    :param on_outage: as for `Limiter`; likewise `instances`. In an outage, a process heeds what it was told itself.
    :raises LimitError, StoreURLError, InvalidUse, MissingExtra: at once, as limiters do, or if something else does not
        fit.
    """

    def __init__(
        self,
        kind: type[Limiter | AsyncLimiter],
        library: Library,
        limit: Limits | Limiter | AsyncLimiter,
        *,
        key: KeyOfRequest | None = None,
        cost: CostOfRequest = 1,
        timeout: float | None = None,
        retries: int = 0,
        heed: bool | Heed = True,
        longest_block: float = 60.0,
        store: str | Store | None = None,
        name: str | None = None,
        on_outage: OnOutage = "open",
        instances: int | None = None,
    ) -> None:
        for what, function in (("key", key), ("cost", cost), ("heed", heed)):
            if callable(function) and is_async(function) and (kind is Limiter or what == "heed"):
                raise InvalidUse(f"{what} is async, and is called here without being awaited: give a plain function")
        if type(retries) is not int or retries < 0:
            raise InvalidUse(f"retries is an integer of at least 0, not {retries!r}")
        self._library: Final = library
        self._key: Final = library.host if key is None else key
        self._cost: Final = cost
        self.timeout: Final = timeout
        self._timeout_us: Final = wait_bound_us(timeout)
        self._retries: Final = retries
        self._heed: Final = heed
        self._opened: Any = None
        if isinstance(limit, (Limiter, AsyncLimiter)):
            if store is not None or instances is not None or on_outage != "open":
                raise InvalidUse("store, on_outage and instances are said where the limiter is made, not here")
            if not isinstance(limit, kind):
                raise InvalidUse(f"this client asks by a {kind.__name__}, not by a {type(limit).__name__}")
            self.limiter: Any = limit
        else:
            store = "memory://" if store is None else store
            made = kind(limit, store=store, name=name, on_outage=on_outage, instances=instances)
            self.limiter = self._opened = made
        self._tiers: Final = self.limiter.tiers
        self._has_slots: Final = any(isinstance(one, Concurrency) for one in self.limiter.limits.values())
        longest_us = wait_bound_us(longest_block, "longest_block")
        if not longest_us:
            raise InvalidUse("longest_block is a number of seconds above 0; to heed nothing, give heed=False")
        self._longest_us: Final = longest_us
        # In an outage, a process knows at least what it was told itself.
        self._blocks: Final[Any] = kind(
            TokenBucket(1, timedelta(microseconds=1), burst=longest_us),
            store=self.limiter.store,
            name=f"{name or 'clients'}:blocked",
            on_outage="local",
        )
        self._port: Final = Port(self.limiter.store)
        self._is_async: Final = kind is AsyncLimiter

    def exchange(self, request: Any, send: Callable[[], Any]) -> Plan[Call, Any]:
        """Wait for a request's turn, send it, heed the answer, and return it.

        :raises AcquireTimeout: if it would wait for longer than it may. It is not sent.
        :raises InvalidKey, InvalidCost, StoreOutage: as `acquire` does.
        """
        key = (yield Call(self._key, (request,))) if callable(self._key) else self._key
        if key is None:
            return (yield Call(send))
        cost = (yield Call(self._cost, (request,))) if callable(self._cost) else self._cost
        wait, block_key, retries = _Wait(self._timeout_us), _plain(key), 0
        if self._tiers and not isinstance(key, Mapping):
            key = dict.fromkeys(self._tiers, key)
        while True:
            decision = yield from self._turn(key, cost, block_key, wait)
            end = (yield from self._held(decision)) if self._has_slots else None
            try:
                response = yield Call(send)
            except GeneratorExit:  # dropped: nobody is there to do anything
                raise
            except BaseException as error:
                if end is not None:
                    yield Call(end)
                if isinstance(error, Exception) and self._library.is_unsent(error):
                    yield from self._give_back(decision)
                raise
            try:
                answer = self._library.answer(response)
                told_us = yield from self._heeded(answer, block_key)
                later_us = told_us or min(FIRST_RETRY_US << min(retries, 32), self._longest_us)
                is_last = answer.status not in RETRIED or retries >= self._retries
                if is_last or later_us > wait.left_us() or not self._library.can_resend(request):
                    if end is not None and not self._library.when_closed(response, end):
                        yield Call(end)
                    return response
            except GeneratorExit:
                raise
            except BaseException:
                yield from self._dropped(response, end)
                raise
            yield from self._dropped(response, end)
            retries += 1
            if not (told_us and self._heed):
                yield from self._sleep(later_us, wait)

    def _held(self, decision: Decision) -> Plan[Call, Callable[[], Any]]:
        """Hold the slots of a decision, and return what releases them."""
        block = self.limiter.holding(decision)
        try:
            yield Call(block.__aenter__ if self._is_async else block.__enter__)
        except GeneratorExit:
            raise
        except BaseException:
            yield from self._give_back(decision)
            raise
        return partial(_release_async if self._is_async else _release, block)

    def _dropped(self, response: Any, end: Callable[[], Any] | None) -> Plan[Call, None]:
        """Let go of a response, and of the slots that were held for it."""
        try:
            yield Call(self._library.discard, (response,))
        except GeneratorExit:
            raise
        except BaseException:
            if end is not None:
                yield Call(end)
            raise
        if end is not None:
            yield Call(end)

    def _turn(self, key: Keys, cost: Costs, block_key: str, wait: _Wait) -> Plan[Call, Decision]:
        """Wait for a turn at which no vendor keeps us away."""
        while True:
            left = None if self.timeout is None else wait.left_us() / 1_000_000
            decision: Decision = yield Call(partial(self.limiter.acquire, key, cost, timeout=left))
            wait.passed(decision.wait_us)
            if not self._heed:
                return decision
            try:
                unblocked: Decision = yield Call(self._blocks.peek, (block_key, self._longest_us))
            except GeneratorExit:  # dropped: nobody is there to give anything back
                raise
            except BaseException:
                yield from self._give_back(decision)
                raise
            if unblocked:
                return decision
            yield from self._give_back(decision)
            if unblocked.retry_after_us > wait.left_us():
                raise AcquireTimeout(unblocked, self.timeout or 0.0)
            yield from self._sleep(unblocked.retry_after_us, wait)

    def _heeded(self, answer: Answer, block_key: str) -> Plan[Call, int]:
        """Keep all away for as long as an answer says; returns that, in microseconds."""
        if callable(self._heed):
            told = self._heed(answer)
            told_us = wait_bound_us(told, "what heed returns") if told is not None else 0
        else:
            told_us = pause_us(answer, system_clock())
        if told_us > self._longest_us:
            logger.warning(
                "headgate: an answer says to stay away from %r for %.0f s; longest_block makes that %g s",
                block_key,
                told_us / 1_000_000,
                self._longest_us / 1_000_000,
                extra={"event": "block_capped", "key": block_key},
            )
            told_us = self._longest_us
        if told_us and self._heed:
            yield from self._block(block_key, told_us)
        return told_us

    def _block(self, key: str, block_us: int) -> Plan[Call, None]:
        """Keep all away from a key, for so long from now, unless they are kept away for longer already. Whatever the
        store says, the answer is the caller's to see.
        """
        blocked_us = 0
        for _ in range(MAX_WRITES):
            ask = partial(self._blocks.try_acquire, reserve=self._longest_us - block_us)
            try:
                written: Decision = yield Call(ask, (key, block_us - blocked_us))
            except HeadgateError as error:
                logger.warning("headgate: cannot keep others away from %r: %s", key, error)
                return
            if written:
                logger.info(
                    "headgate: an answer says to stay away from %r for %.3f s",
                    key,
                    block_us / 1_000_000,
                    extra={"event": "blocked", "key": key},
                )
                return
            blocked_us = written.reset_after_us
            if blocked_us >= block_us:
                return

    def _give_back(self, decision: Decision) -> Plan[Call, None]:
        try:
            yield Call(self.limiter.refund, (decision,))
        except HeadgateError as error:  # it counts as spent, and what led here is more to the point
            logger.warning("headgate: the tokens of a request that was not sent are spent: %s", error)

    def _sleep(self, duration_us: int, wait: _Wait) -> Plan[Call, None]:
        port = port_for(self._port)
        slept_us: int = yield Call(port.sleep_async if self._is_async else port.sleep, (duration_us,))
        wait.passed(slept_us)

    def close(self) -> None:
        """Close the limiter of a client that blocks, if it was made here."""
        if self._opened is not None:
            self._opened.close()

    async def aclose(self) -> None:
        """Close the limiter of an asyncio client, if it was made here."""
        if self._opened is not None:
            await self._opened.aclose()


def _release(block: AbstractContextManager[Hold]) -> None:
    try:
        block.__exit__(None, None, None)
    except HeadgateError as error:
        logger.warning(NOT_RELEASED, error)


async def _release_async(block: AbstractAsyncContextManager[Hold]) -> None:
    try:
        await block.__aexit__(None, None, None)
    except HeadgateError as error:
        logger.warning(NOT_RELEASED, error)


class _Wait:
    """How long a request has waited, and may still."""

    def __init__(self, most_us: int) -> None:
        self._most_us = most_us
        self._started_ns = 0
        self._passed_us = 0

    def passed(self, duration_us: int) -> None:
        """Take note of a wait, which may have been one by a clock of tests."""
        self._passed_us += duration_us

    def left_us(self) -> int:
        """How long it may still wait: all of the time, when asked first."""
        if not self._started_ns:
            self._started_ns = time.monotonic_ns()
            return self._most_us
        passed_us = max(self._passed_us, (time.monotonic_ns() - self._started_ns) // 1_000)
        return max(0, self._most_us - passed_us)


def _plain(key: Keys) -> str:
    """The key of what vendors say: the request's own, or one for all of its tiers together."""
    if not isinstance(key, Mapping):
        return check_key(key)
    text = ",".join(f"{tier}={key[tier]}" for tier in sorted(key))
    return text if len(text) <= 256 else hashlib.sha256(text.encode()).hexdigest()
