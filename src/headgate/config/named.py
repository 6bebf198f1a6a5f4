"""Limiters by name: `acquire("api")`, and what `get_limiter("api")` gives.

A name has one limiter that blocks and one that is awaited, made when they are first used, of what is configured then.
This module must not know a file.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, TypeVar

from headgate.config.metrics import Counts, Metrics
from headgate.decision import Decision
from headgate.errors import InvalidUse
from headgate.limiter.holds import Hold
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limiter.policy import CallLimit, Keys
from headgate.limits import Concurrency, Limit
from headgate.stores.contract import Store

if TYPE_CHECKING:
    from headgate.config.settings import LimiterSettings, StoreSettings

EVERYBODY: Final = "global"
"""The key of those who give none: one share for all."""
AS_CONFIGURED: Final = "as configured"
L = TypeVar("L", Limiter, AsyncLimiter)
Timeout = float | None | Literal["as configured"]


class Now(NamedTuple, Generic[L]):
    """All that a call needs of a configuration as it is now."""

    limiter: L
    keys: Keys
    """The key, for each limit where they have names."""
    limit: CallLimit
    """The limits of the caller's tier, where it has some."""
    timeout_s: float | None


class ConfiguredLimiter:
    """The limiter of a name. When its configuration changes, it goes on with the new one, and its state stays. Safe to
    share between threads, tasks and event loops, and with forked processes.

    Keys may be left out: all calls without one have one share. `limiter` and `async_limiter` do whatever else limiters
    do.
    """

    def __init__(self, settings: LimiterSettings, open_store: Callable[[StoreSettings], Store]) -> None:
        self._open_store = open_store
        self.counts = Counts()
        """Counts what is asked here."""
        self._limiters: tuple[LimiterSettings, dict[type[Any], Any]] = settings, {}

    def __repr__(self) -> str:
        return f"<ConfiguredLimiter {self.name!r} {self.limiter!r}>"

    @property
    def settings(self) -> LimiterSettings:
        """The settings of now."""
        return self._limiters[0]

    def configure(self, settings: LimiterSettings) -> None:
        """Go on with other settings. Calls that are under way end by those they began with."""
        if settings != self.settings:
            self._limiters = settings, {}

    @property
    def name(self) -> str:
        """The name, which is part of where its state lives."""
        return self.settings.name

    @property
    def limiter(self) -> Limiter:
        """The limiter that blocks. Its keys are those of `keys`."""
        return self.now(Limiter).limiter

    @property
    def async_limiter(self) -> AsyncLimiter:
        """The limiter that is awaited, of the same limits and state."""
        return self.now(AsyncLimiter).limiter

    def now(self, kind: type[L], key: str = EVERYBODY, tier: str | None = None) -> Now[L]:
        """All that a call needs, of one and the same configuration."""
        settings, made = self._limiters
        limiter = made.get(kind)
        if limiter is None:
            new: Any = kind
            store = self._open_store(settings.store)
            limiter = new(settings.limits, store=store, name=settings.name, **settings.options)
            limiter = made.setdefault(kind, limiter)
        limits = settings.limits
        keys = dict.fromkeys(limits, key) if isinstance(limits, dict) else key
        return Now(limiter, keys, None if tier is None else settings.tiers.get(tier), settings.timeout)

    def keys(self, key: str = EVERYBODY) -> Keys:
        """A key in the form in which `limiter` takes it: for each limit, where they have names."""
        return self.now(Limiter, key).keys

    @property
    def has_slots(self) -> bool:
        """Does it say how many may go at the same time?"""
        limits = self.settings.limits
        every = limits.values() if isinstance(limits, Mapping) else (limits,) if isinstance(limits, Limit) else limits
        return any(isinstance(limit, Concurrency) for limit in every)

    def try_acquire(
        self, key: str = EVERYBODY, cost: int = 1, *, tier: str | None = None, reserve: int | None = None
    ) -> Decision:
        """Ask whether a request may go now, and spend its cost if so: as `Limiter.try_acquire`, blocking.

        :param tier: the caller's tier; one without limits of its own has those of everybody.
        :param reserve: how many tokens are to be left behind it, for more critical requests, which ask without.
        :raises InvalidKey, InvalidCost, StoreOutage: as that does.
        """
        now = self.now(Limiter, key, tier)
        return self._counted(now.limiter.try_acquire(now.keys, cost, limit=now.limit, reserve=reserve))

    async def try_acquire_async(
        self, key: str = EVERYBODY, cost: int = 1, *, tier: str | None = None, reserve: int | None = None
    ) -> Decision:
        """As `try_acquire`, in an event loop."""
        now = self.now(AsyncLimiter, key, tier)
        return self._counted(await now.limiter.try_acquire(now.keys, cost, limit=now.limit, reserve=reserve))

    def try_acquire_up_to(self, key: str, most: int, *, tier: str | None = None) -> Decision:
        """Spend as many tokens as there are now, up to `most`: as `Limiter.try_acquire_up_to`, blocking.

        :raises InvalidUse, InvalidKey, InvalidCost, StoreOutage: as that does.
        """
        now = self.now(Limiter, key, tier)
        return self._counted(now.limiter.try_acquire_up_to(now.keys, most, limit=now.limit))

    async def try_acquire_up_to_async(self, key: str, most: int, *, tier: str | None = None) -> Decision:
        """As `try_acquire_up_to`, in an event loop."""
        now = self.now(AsyncLimiter, key, tier)
        return self._counted(await now.limiter.try_acquire_up_to(now.keys, most, limit=now.limit))

    def try_acquire_once(
        self, key: str, request_id: str, cost: int = 1, *, period: float = 86_400.0, tier: str | None = None
    ) -> Decision:
        """Ask for a request that may come again, and is charged once: as `Limiter.try_acquire_once`, blocking.

        :raises InvalidUse, InvalidKey, InvalidCost, StoreOutage: as that does.
        """
        now = self.now(Limiter, key, tier)
        return self._counted(now.limiter.try_acquire_once(now.keys, request_id, cost, period=period, limit=now.limit))

    async def try_acquire_once_async(
        self, key: str, request_id: str, cost: int = 1, *, period: float = 86_400.0, tier: str | None = None
    ) -> Decision:
        """As `try_acquire_once`, in an event loop."""
        now = self.now(AsyncLimiter, key, tier)
        return self._counted(
            await now.limiter.try_acquire_once(now.keys, request_id, cost, period=period, limit=now.limit)
        )

    def _counted(self, decision: Decision) -> Decision:
        self.counts.decided(decision)
        return decision

    def acquire(
        self, key: str = EVERYBODY, cost: int = 1, *, timeout: Timeout = AS_CONFIGURED, tier: str | None = None
    ) -> Acquiring:
        """A turn to be waited for: see `acquire`."""
        return Acquiring(self, key, cost, timeout, tier)

    def metrics(self) -> Metrics:
        """Counts of what was asked here in this process. What `limiter` and `async_limiter` are asked is not among
        them.
        """
        return self.counts.metrics()


class Acquiring:
    """A turn that is asked for in one of four ways, once: `await` it, or call `wait()`, which blocks; or hold slots for
    the time of a block, with `async with` or `with`.

    Nothing is asked before. A turn that nobody asks for is a mistake, as is a coroutine that nobody awaits: Python
    warns of it.
    """

    __slots__ = ("_arguments", "_block", "_is_used", "_limiter")

    def __init__(self, limiter: ConfiguredLimiter, key: str, cost: int, timeout: Timeout, tier: str | None) -> None:
        self._is_used = False
        self._limiter = limiter
        self._arguments = key, cost, timeout, tier
        self._block: Any = None

    def __await__(self) -> Generator[Any, Any, Decision]:
        return self._wait_async().__await__()

    def wait(self) -> Decision:
        """Wait for the turn, blocking.

        :raises AcquireTimeout: at once, if it would come later than the timeout. Nothing is spent.
        :raises InvalidKey, InvalidCost, StoreOutage: as `Limiter.acquire` does.
        :raises InvalidUse: if the turn was asked for before, or the limiter has slots: nobody would give them back.
        """
        self._check_slots()
        now, cost, timeout_s = self._use(Limiter)
        counts = self._limiter.counts
        with counts.timing_out() as started:
            decision = now.limiter.acquire(now.keys, cost, timeout=timeout_s, limit=now.limit)
            counts.acquired(decision, time.monotonic() - started)
        return decision

    async def _wait_async(self) -> Decision:
        self._check_slots()
        now, cost, timeout_s = self._use(AsyncLimiter)
        counts = self._limiter.counts
        with counts.timing_out() as started:
            decision = await now.limiter.acquire(now.keys, cost, timeout=timeout_s, limit=now.limit)
            counts.acquired(decision, time.monotonic() - started)
        return decision

    def __enter__(self) -> Hold:
        now, cost, timeout_s = self._use(Limiter)
        counts = self._limiter.counts
        block: AbstractContextManager[Hold] = now.limiter.hold(now.keys, cost, timeout=timeout_s, limit=now.limit)
        with counts.timing_out() as started:
            hold = block.__enter__()
            self._block = block
            counts.acquired(hold.decision, time.monotonic() - started)
        counts.entered()
        return hold

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._limiter.counts.left()
        self._block.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Hold:
        now, cost, timeout_s = self._use(AsyncLimiter)
        counts = self._limiter.counts
        block: AbstractAsyncContextManager[Hold] = now.limiter.hold(now.keys, cost, timeout=timeout_s, limit=now.limit)
        with counts.timing_out() as started:
            hold = await block.__aenter__()
            self._block = block
            counts.acquired(hold.decision, time.monotonic() - started)
        counts.entered()
        return hold

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._limiter.counts.left()
        await self._block.__aexit__(kind, error, traceback)

    def _use(self, kind: type[L]) -> tuple[Now[L], int, float | None]:
        if self._is_used:
            raise InvalidUse("a turn is asked for once: call acquire(...) again for the next one")
        self._is_used = True
        key, cost, timeout, tier = self._arguments
        now = self._limiter.now(kind, key, tier)
        return now, cost, now.timeout_s if timeout == AS_CONFIGURED else timeout

    def _check_slots(self) -> None:
        if self._limiter.has_slots:
            self._is_used = True
            name = self._limiter.name
            raise InvalidUse(
                f"limiter {name!r} says how many may go at the same time, and a turn without a block has no end: "
                f"write 'async with acquire({name!r})', or 'with'"
            )

    def __del__(self) -> None:
        if not getattr(self, "_is_used", True):
            warnings.warn(
                f"acquire({self._limiter.name!r}) was neither awaited nor entered, nor was wait() called: "
                "nothing was limited",
                RuntimeWarning,
                stacklevel=2,
            )
