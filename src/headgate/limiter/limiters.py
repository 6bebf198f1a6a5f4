"""The limiters: what users call. Each method asks the store once, and none of them knows an algorithm.

`Limiter` and `AsyncLimiter` differ in how they ask and sleep, and in nothing else: what to ask is decided in
`policy.py` and by the plans, for both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Any, Self, SupportsIndex, TypeVar

from headgate.decision import Decision, Single, undecided
from headgate.drive import Plan, drive, drive_async
from headgate.errors import StoreOutage
from headgate.limiter.holds import AsyncHolding, Hold, Holding
from headgate.limiter.local import follow
from headgate.limiter.making import AnyLimiter
from headgate.limiter.policy import CallLimit, Costs, Keys, wait_bound_us
from headgate.limiter.returning import AsyncReturner, Returner
from headgate.plans import requests
from headgate.plans.commands import Ask, Command, Pause
from headgate.runtime.loops import finish, running_loop
from headgate.stores.contract import GiveUp, SingleHitStore, Submit

R = TypeVar("R")


class Limiter(AnyLimiter):
    """Decides whether a request may go now, and if not, when. Safe to share between threads, and with forked
    processes.

    A context manager; it closes what it opened itself.
    """

    _asks_in_loops = False
    _returner_kind = Returner
    _returner: Returner

    def _counterparts(self) -> tuple[Limiter, AsyncLimiter]:
        return self, self._counterpart(AsyncLimiter)

    def _find_fast_path(self, store: SingleHitStore | None) -> Single:
        return undecided if store is None else self._policy.single(store.single) or undecided

    def try_acquire(
        self, key: Keys, cost: Costs = 1, *, limit: CallLimit = None, reserve: Costs | None = None
    ) -> Decision:
        """Ask whether a request may go now, and spend its cost if so. One round trip; never waits for a turn.

        :param key: whose share it is; for tiers, a dict with the key of each.
        :param cost: how many tokens it takes; 0 asks without spending. For tiers, optionally a dict.
        :param limit: a limit for this call, such as the caller's own tier, in place of the limiter's.
        :param reserve: how many tokens are to be left behind it, for more critical requests, which ask without: the
            request passes if its cost and these fit. For tiers, optionally a dict; of penalties and slots, nothing is
            kept back.
        :raises InvalidKey: if the key is not usable.
        :raises InvalidCost: if the cost is not an integer of at least 0; `CostExceedsCapacity` if it can never be
            admitted.
        :raises StoreOutage: if the store does not answer and `on_outage` is `raise`.
        """
        if reserve is not None:
            return self._drive(self._reserving(self._policy.group(key, cost, limit), reserve))
        if limit is None:
            try:
                decision = self._single(key, cost)
            except StoreOutage as outage:
                return self._answer(outage, key, cost)
            if decision is not None:
                return decision
        group = self._policy.group(key, cost, limit)
        if self._leases is None:  # one question, and nothing after it: by a plan, 16 threads make 4 % fewer calls
            asked: list[Decision] = self._send(Ask([group], requests=1))
            return asked[0]
        return self._drive(self._asking(group))

    def try_acquire_up_to(self, key: Keys, most: SupportsIndex, *, limit: CallLimit = None) -> Decision:
        """Spend as many tokens as there are now, up to `most`, in one round trip; `decision.cost` says how many. It is
        denied if there is not even one. Of several limits, each is charged the same: what the narrowest has.

        :raises InvalidUse: if the limiter has slots or a penalty.
        :raises InvalidCost: if `most` is not an integer of at least 1.
        :raises InvalidKey, StoreOutage: as `try_acquire` does.
        """
        return self._drive(self._up_to(key, most, limit))

    def try_acquire_once(
        self, key: Keys, request_id: str, cost: Costs = 1, *, period: float = 86_400.0, limit: CallLimit = None
    ) -> Decision:
        """As `try_acquire`, for a request that may come again: it is charged once among all that have its id and its
        key, in whatever process. Those that come after it are allowed, and charged nothing: `decision.was_known` says
        so, and a refund or settlement of them does nothing. One that was denied may come again, and is judged anew, and
        so is one that was cancelled before it was answered, unless another was answered meanwhile. What is refunded is
        not charged again.

        :param request_id: tells a request from all others of its key, such as an `Idempotency-Key`. The store keeps a
            hash of it.
        :param period: how long the store knows the id, in seconds, from the charge on.
        :raises InvalidUse: if the limiter has slots, or tiers whose keys differ, or the period is none.
        :raises InvalidKey, InvalidCost, StoreOutage: as `try_acquire` does.
        """
        return self._drive(self._once(key, request_id, cost, period, limit))

    def acquire(self, key: Keys, cost: Costs = 1, *, timeout: float | None = None, limit: CallLimit = None) -> Decision:
        """Wait for the request's turn, at most `timeout` seconds (None: as long as it takes).

        A token bucket reserves the place: waiters of all processes are served in order, with one round trip each.
        Whatever interrupts the sleep (a signal's exception, say) gives the tokens back.

        :raises AcquireTimeout: at once, if the turn would come later than that. Nothing is spent.
        :raises InvalidKey, InvalidCost, StoreOutage: as `try_acquire` does.
        """
        timeout_us = wait_bound_us(timeout)
        if (leased := self._leased(key, cost, limit)) is not None:
            return leased
        return self._drive(self._waiting(key, cost, timeout_us, timeout, limit))

    def hold(
        self, key: Keys, cost: Costs = 1, *, timeout: float | None = None, limit: CallLimit = None
    ) -> AbstractContextManager[Hold]:
        """Wait for the turn as `acquire` does, and hold the slots of `Concurrency` limits for the time of the
        block: `with limiter.hold("key") as hold: ...`.

        Slots are renewed while held, and released at exit; after a crash they expire by themselves. Whatever interrupts
        the block, and wherever, a slot that was not released is renewed no more, and expires. Tokens of other limits
        are spent, as always.

        :raises AcquireTimeout, InvalidKey, InvalidCost, StoreOutage: on entering the block, as `acquire` does.
        """
        return self._holding(partial(self.acquire, key, cost, timeout=timeout, limit=limit))

    def holding(self, decision: Decision) -> AbstractContextManager[Hold]:
        """Hold the slots that an allowed decision took, for the time of the block: what `hold` does once it has
        them.
        """
        return self._holding(lambda: decision)

    def _holding(self, acquire: Callable[[], Decision]) -> AbstractContextManager[Hold]:
        return Holding(
            acquire,
            self._port.renewer(),
            lambda decision: self._drive(requests.release(decision)),
            self._parts.reporter.slots_of,
        )

    def peek(self, key: Keys, cost: Costs = 1, *, limit: CallLimit = None, reserve: Costs | None = None) -> Decision:
        """Answer as `try_acquire` would now. Spends nothing; `remaining` is what is there before such a spend."""
        return self._drive(self._reserving(self._policy.group(key, cost, limit, "peek"), reserve))

    def refund(self, decision: Decision) -> None:
        """Give back what an allowed decision took, slots included. Nothing happens for a denied one, or one that
        the store did not make.

        Tokens that the bucket has earned again since do not count twice, and those of a window that is over have
        gone with it. A decision and its copies count once, in whatever process they are: after the first, nothing
        happens, nor for a copy more than a day after the decision.

        :raises InvalidUse: if the decision has been refunded or settled before.
        :raises StoreOutage: if the store does not answer and `on_outage` is `raise`.
        """
        self._drive(requests.refund(decision))

    def settle(self, decision: Decision, actual: Costs) -> Decision:
        """Replace the estimated cost of an allowed decision by the actual one: give back, or charge, the
        difference.

        A charge is made whatever the limit says, as the truth is. Slots are left alone. Returns how things stand now;
        that decision cannot be settled again. It counts once, as `refund` does.

        :raises InvalidUse: if the decision has been refunded or settled before.
        :raises InvalidCost: if `actual` is not an integer of at least 0.
        :raises StoreOutage: if the store does not answer and `on_outage` is `raise`.
        """
        return self._drive(requests.settle(decision, self._policy.actual(decision, actual)))

    def reset(self, key: Keys, *, limit: CallLimit = None) -> None:
        """Forget all that is known of a key, in all limits: it starts afresh.

        :raises StoreOutage: if the store does not answer, whatever `on_outage` says.
        """
        self._drive(self._forgetting(key, limit))

    def close(self) -> None:
        """Give back what was leased, and close what this limiter opened itself."""
        if self._leases is not None:
            self._returner.return_all()
        if self._parts.share is not None:
            self._parts.share.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _drive(self, plan: Plan[Command, R]) -> R:
        result = drive(plan, self._send)
        if self._leases is not None and self._leases.is_holding:
            self._returner.keep_going()
        return result

    def _send(self, command: Command) -> Any:
        if isinstance(command, Pause):
            return self._port.sleep(command.duration_us)
        if command.must_arrive and (followed := follow(command.groups)) is not None:
            return followed
        started_ns = time.perf_counter_ns() if self._is_heard else 0
        try:
            answers = self._port.store.decide(command.groups)
        except StoreOutage as outage:
            answers = self._answers(outage, command)
        return self._reported(answers, command, started_ns)


class AsyncLimiter(AnyLimiter):
    """Decides whether a request may go now, and if not, when. Safe to share between tasks and event loops.

    An async context manager; it closes what it opened itself.
    """

    _asks_in_loops = True
    _returner_kind = AsyncReturner
    _returner: AsyncReturner
    _submitting: tuple[Submit, GiveUp] | None
    """Have single hits answered together with those of other tasks, or leave them alone; and give one up."""

    def _counterparts(self) -> tuple[Limiter, AsyncLimiter]:
        return self._counterpart(Limiter), self

    def _find_fast_path(self, store: SingleHitStore | None) -> Single:
        found = None if store is None else self._policy.single(store.submitting)
        if found is not None and self._leases is not None:
            found = self._leases.submitting(found[0]), found[1]
        self._submitting = found
        return undecided if store is None else self._policy.single(store.single_async) or undecided

    async def try_acquire(
        self, key: Keys, cost: Costs = 1, *, limit: CallLimit = None, reserve: Costs | None = None
    ) -> Decision:
        """As `Limiter.try_acquire`."""
        if reserve is not None:
            return await self._drive(self._reserving(self._policy.group(key, cost, limit), reserve))
        if limit is None:
            decision = self._single(key, cost)
            if decision is not None:
                return decision
            started_ns = time.perf_counter_ns() if self._is_heard else 0
            submitting = self._submitting
            if submitting is not None and (coming := submitting[0](key, cost)) is not None:
                try:
                    decision = await coming
                except StoreOutage as outage:
                    return self._answer(outage, key, cost, started_ns)
                except asyncio.CancelledError:
                    submitting[1](coming)
                    raise
                if started_ns:
                    self._parts.reporter.look(decision)
                    self._parts.reporter.report(decision, time.perf_counter_ns() - started_ns)
                return decision
        group = self._policy.group(key, cost, limit)
        if self._leases is None:
            asked: list[Decision] = await self._send(Ask([group], requests=1))
            return asked[0]
        return await self._drive(self._asking(group))

    async def try_acquire_up_to(self, key: Keys, most: SupportsIndex, *, limit: CallLimit = None) -> Decision:
        """As `Limiter.try_acquire_up_to`."""
        return await self._drive(self._up_to(key, most, limit))

    async def try_acquire_once(
        self, key: Keys, request_id: str, cost: Costs = 1, *, period: float = 86_400.0, limit: CallLimit = None
    ) -> Decision:
        """As `Limiter.try_acquire_once`."""
        return await self._drive(self._once(key, request_id, cost, period, limit))

    async def acquire(
        self, key: Keys, cost: Costs = 1, *, timeout: float | None = None, limit: CallLimit = None
    ) -> Decision:
        """As `Limiter.acquire`. A task that is cancelled while it waits gives its tokens back before it ends."""
        running_loop()  # without one, nobody could wait for a turn: nothing is to be spent
        timeout_us = wait_bound_us(timeout)
        if (leased := self._leased(key, cost, limit)) is not None:
            return leased
        return await self._drive(self._waiting(key, cost, timeout_us, timeout, limit))

    def hold(
        self, key: Keys, cost: Costs = 1, *, timeout: float | None = None, limit: CallLimit = None
    ) -> AbstractAsyncContextManager[Hold]:
        """As `Limiter.hold`: `async with limiter.hold("key") as hold: ...`."""
        return self._holding(partial(self.acquire, key, cost, timeout=timeout, limit=limit))

    def holding(self, decision: Decision) -> AbstractAsyncContextManager[Hold]:
        """As `Limiter.holding`."""

        async def admitted() -> Decision:
            return decision

        return self._holding(admitted)

    def _holding(self, acquire: Callable[[], Awaitable[Decision]]) -> AbstractAsyncContextManager[Hold]:
        return AsyncHolding(
            acquire,
            self._port.renewer_async(),
            lambda decision: self._drive(requests.release(decision)),
            self._parts.reporter.slots_of,
        )

    async def peek(
        self, key: Keys, cost: Costs = 1, *, limit: CallLimit = None, reserve: Costs | None = None
    ) -> Decision:
        """As `Limiter.peek`."""
        return await self._drive(self._reserving(self._policy.group(key, cost, limit, "peek"), reserve))

    async def refund(self, decision: Decision) -> None:
        """As `Limiter.refund`. A task that is cancelled meanwhile gives back all the same, before it ends."""
        await self._drive(requests.refund(decision))

    async def settle(self, decision: Decision, actual: Costs) -> Decision:
        """As `Limiter.settle`. A task that is cancelled meanwhile settles all the same, before it ends."""
        return await self._drive(requests.settle(decision, self._policy.actual(decision, actual)))

    async def reset(self, key: Keys, *, limit: CallLimit = None) -> None:
        """As `Limiter.reset`."""
        await self._drive(self._forgetting(key, limit))

    async def aclose(self) -> None:
        """Give back what was leased, and close what this limiter opened itself."""
        if self._leases is not None:
            await self._returner.return_all()
        if self._parts.share is not None:
            await self._parts.share.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    async def _drive(self, plan: Plan[Command, R]) -> R:
        result = await drive_async(plan, self._send)
        if self._leases is not None and self._leases.is_holding:
            self._returner.keep_going()
        return result

    async def _send(self, command: Command) -> Any:
        if isinstance(command, Pause):
            return await self._port.sleep_async(command.duration_us)
        if command.must_arrive and (followed := follow(command.groups)) is not None:
            return followed
        started_ns = time.perf_counter_ns() if self._is_heard else 0
        work = self._port.store.decide_async(command.groups)
        try:
            answers = await (finish(work) if command.must_arrive else work)
        except StoreOutage as outage:
            answers = self._answers(outage, command)
        return self._reported(answers, command, started_ns)
