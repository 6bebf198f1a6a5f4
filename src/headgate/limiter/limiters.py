"""The limiters: what users call. Each method asks the store once, and none of them knows an algorithm.

`Limiter` and `AsyncLimiter` differ in how they ask and sleep, and in nothing else: what to ask is decided in
`policy.py` and in `plans/waiting.py`, for both.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import random
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from headgate.decision import Decision, Single
from headgate.drive import drive, drive_async
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.limiter.any import AnyLimiter
from headgate.limiter.decorator import CostOfCall, KeyOfCall, decorator, key_rule
from headgate.limiter.holds import AsyncHolding, Hold, Holding, Renewer
from headgate.limiter.policy import CallLimit, Costs, Keys, wait_bound_us
from headgate.limits import Limit
from headgate.plans import waiting
from headgate.plans.groups import give_back_groups, refund_groups, settle_groups
from headgate.runtime.daemons import Daemon, InterpreterEnds
from headgate.runtime.loops import finish, running_loop
from headgate.stores import GiveUp, SingleHitStore, Submit

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("headgate")
RETURNING_AT_EXIT_S: Final = 1.0
"""For how long leases are given back when the process ends."""
_leasing: weakref.WeakSet[Limiter] = weakref.WeakSet()


class Limiter(AnyLimiter):
    """Decides whether a request may go now, and if not, when. Safe to share between threads, and with forked
    processes.

    A context manager; it closes what it opened itself.
    """

    _asks_in_loops = False
    _renewer: Renewer
    """Made with the first hold."""
    _returning: Daemon
    """Made with the first lease: gives back what is idle."""

    @staticmethod
    def _quick(store: SingleHitStore) -> Callable[[Limit, str], Single]:
        return store.single

    def try_acquire(self, key: Keys, cost: Costs = 1, *, limit: CallLimit = None) -> Decision:
        """Ask whether a request may go now, and spend its cost if so. One round trip; never waits for a turn.

        :param key: whose share it is; for tiers, a dict with the key of each.
        :param cost: how many tokens it takes; 0 asks without spending. For tiers, optionally a dict.
        :param limit: a limit for this call, such as the caller's own tier, in place of the limiter's.
        :raises InvalidKey: if the key is not usable.
        :raises InvalidCost: if the cost is not an integer of at least 0; `CostExceedsCapacity` if it can never be
            admitted.
        :raises StoreOutage: if the store does not answer and `on_outage` is `raise`.
        """
        if limit is None and (single := self._single) is not None:
            try:
                decision = single(key, cost)
            except StoreOutage as outage:
                decision = self._outage.decide(self._policy.group(key, cost), outage)
            if decision is not None:  # `_answered` would have nothing to do, and takes a tenth of the time
                return decision if self._on_decision is None and not self._outage.is_out else self._answered(decision)
        return self._ask(self._policy.group(key, cost, limit))

    def acquire(self, key: Keys, cost: Costs = 1, *, timeout: float | None = None, limit: CallLimit = None) -> Decision:
        """Wait for the request's turn, at most `timeout` seconds (None: as long as it takes).

        A token bucket reserves the place: waiters of all processes are served in order, with one round trip each.
        Whatever interrupts the sleep (a signal's exception, say) gives the tokens back.

        :raises AcquireTimeout: at once, if the turn would come later than that. Nothing is spent.
        :raises InvalidKey, InvalidCost, StoreOutage: as `try_acquire` does.
        """
        timeout_us = wait_bound_us(timeout)
        if self._leases is not None and limit is None and (leased := self._leased(key, cost)) is not None:
            return leased
        plan = waiting.acquire(self._policy.group(key, cost, limit), timeout_us, timeout, random.random)
        return drive(plan, self._send)

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
        return Holding(acquire, self._renewing(), self._release)

    def peek(self, key: Keys, cost: Costs = 1, *, limit: CallLimit = None) -> Decision:
        """What `try_acquire` would answer now. Spends nothing; `remaining` is what is there before such a spend."""
        return self._ask(self._policy.group(key, cost, limit, "peek"))

    def refund(self, decision: Decision) -> None:
        """Give back what an allowed decision took, slots included. Nothing happens for a denied one, or one that
        the store did not make.

        Tokens that the bucket has earned again since do not count twice, and those of a window that is over have
        gone with it. A decision and its copies count once, in whatever process they are: after the first, nothing
        happens, nor for a copy more than a day after the decision.

        :raises InvalidUse: if the decision has been refunded or settled before.
        :raises StoreOutage: if the store does not answer and `on_outage` is `raise`.
        """
        decision.claim()
        groups = refund_groups(decision)
        if groups:
            self._ask_leniently(groups)

    def settle(self, decision: Decision, actual: Costs) -> Decision:
        """Replace the estimated cost of an allowed decision by the actual one: give back, or charge, the
        difference.

        A charge is made whatever the limit says, as the truth is. Slots are left alone. Returns how things stand now;
        that decision cannot be settled again. It counts once, as `refund` does.

        :raises InvalidUse: if the decision has been refunded or settled before.
        :raises InvalidCost: if `actual` is not an integer of at least 0.
        :raises StoreOutage: if the store does not answer and `on_outage` is `raise`.
        """
        costs = self._policy.actual(decision, actual)
        decision.claim()
        groups = settle_groups(decision, costs)
        answers = self._ask_leniently([group for _, group in groups]) if groups else []
        return self._settled(decision, costs, dict(zip([index for index, _ in groups], answers, strict=False)))

    def reset(self, key: Keys, *, limit: CallLimit = None) -> None:
        """Forget all that is known of a key, in all limits: it starts afresh.

        :raises StoreOutage: if the store does not answer, whatever `on_outage` says.
        """
        group = self._policy.group(key, 0, limit)
        if self._leases is not None:
            self._leases.discard(group)
        self._ask_store([Group((hit,), 0, "forget") for hit in group.hits])

    def limit(
        self,
        plain_key: Keys | None = None,
        /,
        cost: CostOfCall = 1,
        *,
        key: KeyOfCall | None = None,
        timeout: float | None = 0.0,
        limit: CallLimit = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a function, blocking or async: it runs only when the limit admits the call.

        :param key: a key, or a callable that gets the call's arguments and returns it; for an async function, it may be
            async too. `cost` likewise. A key that is not computed may also be given first, without its name.
        :param timeout: how long a call may wait for its turn, in seconds; 0 (the default) means not at all, None as
            long as it takes.
        :raises InvalidUse: at once, if there is no key, or what is decorated is no function: a class, a property, a
            generator. Static and class methods may be decorated from outside or inside.
        :raises LimitExceeded: from the call, if it is denied and does not wait.
        :raises AcquireTimeout: from the call, if its turn would come too late.

        `Concurrency` slots are held while the function runs. A call with arguments that the function does not take
        raises its `TypeError`, and spends nothing.
        """
        rule = key_rule(plain_key, key)
        return decorator(self._policy, self, _twin(self, AsyncLimiter), rule, cost, timeout, limit)

    def close(self) -> None:
        """Give back what was leased, and close what this limiter opened itself."""
        self._return_leases()
        if self._share is not None:
            self._share.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, group: Group) -> Decision:
        leases = self._leases
        try:
            if leases is None:
                decision = self._store.decide((group,))[0]
            else:
                decision = drive(leases.asking(group), self._send_plainly)
        except StoreOutage as outage:
            decision = self._outage.decide(group, outage)
        if leases is not None and leases.is_holding and not self._returner().is_alive:
            _leasing.add(self)
            self._returner().start()
        return self._answered(decision)

    def _returner(self) -> Daemon:
        """What gives back leases that are idle."""
        made = vars(self).get("_returning")
        daemon: Daemon = made or vars(self).setdefault("_returning", Daemon("headgate-leases", self._return_idle))
        return daemon

    def _return_idle(self) -> None:
        assert self._leases is not None
        daemon = self._returner()

        def send(command: waiting.Ask | waiting.Pause) -> Any:
            if isinstance(command, waiting.Ask):
                return self._ask_store(command.groups)
            if not daemon.sleep(command.duration_us / 1_000_000):
                raise InterpreterEnds
            return command.duration_us

        with suppress(InterpreterEnds):
            drive(self._leases.returning(), send)

    def _return_leases(self) -> None:
        if self._leases is not None:
            drive(self._leases.giving_back(only_idle=False), self._send_plainly)

    def _ask_store(self, groups: list[Group]) -> list[Decision]:
        return self._store.decide(groups)

    def _ask_leniently(self, groups: list[Group]) -> list[Decision]:
        """Ask what is no request: an outage is logged and answered by the rule, or raised."""
        try:
            return self._ask_store(groups)
        except StoreOutage as outage:
            return [self._outage.decide(group, outage) for group in groups]

    def _renewing(self) -> Renewer:
        made = vars(self).get("_renewer")
        renewer: Renewer = made or vars(self).setdefault("_renewer", Renewer(self._ask_store))
        return renewer

    def _release(self, decision: Decision) -> None:
        try:
            self._ask_store(give_back_groups(decision, only_slots=True))
        except StoreOutage as outage:
            logger.warning("headgate: could not release a slot, it will expire: %s", outage)

    def _pause(self, duration_us: int) -> int:
        started = time.monotonic_ns()
        time.sleep(duration_us / 1_000_000)
        return (time.monotonic_ns() - started) // 1_000

    def _send_plainly(self, command: waiting.Ask | waiting.Pause) -> Any:
        """For plans that see to outages themselves."""
        if isinstance(command, waiting.Pause):
            return self._pause(command.duration_us)
        return self._ask_store(command.groups)

    def _send(self, command: waiting.Ask | waiting.Pause) -> Any:
        if isinstance(command, waiting.Pause):
            return self._pause(command.duration_us)
        if command.groups and command.groups[0].action == "spend":
            return [self._ask(group) for group in command.groups]
        return self._ask_leniently(command.groups)


class AsyncLimiter(AnyLimiter):
    """Decides whether a request may go now, and if not, when. Safe to share between tasks and event loops.

    An async context manager; it closes what it opened itself.
    """

    _asks_in_loops = True
    _returning: asyncio.Task[None] | None = None

    _ride: Submit | None = None
    _leave: GiveUp

    def _find_quick_way(self) -> None:
        """As in `AnyLimiter`. And a single hit goes straight to where it waits for company: a coroutine less."""
        super()._find_quick_way()
        store, self._ride = self._store, None
        if isinstance(store, SingleHitStore) and self._leases is None:
            submitting = self._policy.single(store.submitting)
            if submitting is not None:
                self._ride, self._leave = submitting

    @staticmethod
    def _quick(store: SingleHitStore) -> Callable[[Limit, str], Single]:
        return store.single_async

    async def try_acquire(self, key: Keys, cost: Costs = 1, *, limit: CallLimit = None) -> Decision:
        """As `Limiter.try_acquire`."""
        if limit is None and (single := self._single) is not None:
            decision = single(key, cost)
            if decision is None and self._ride is not None and (coming := self._ride(key, cost)) is not None:
                try:
                    decision = await coming
                except StoreOutage as outage:
                    decision = self._outage.decide(self._policy.group(key, cost), outage)
                except asyncio.CancelledError:
                    self._leave(coming)
                    raise
            if decision is not None:
                return decision if self._on_decision is None and not self._outage.is_out else self._answered(decision)
        return await self._ask(self._policy.group(key, cost, limit))

    async def acquire(
        self, key: Keys, cost: Costs = 1, *, timeout: float | None = None, limit: CallLimit = None
    ) -> Decision:
        """As `Limiter.acquire`. A task that is cancelled while it waits gives its tokens back before it ends."""
        running_loop()  # without one, nobody could wait for a turn: nothing is to be spent
        timeout_us = wait_bound_us(timeout)
        if self._leases is not None and limit is None and (leased := self._leased(key, cost)) is not None:
            return leased
        plan = waiting.acquire(self._policy.group(key, cost, limit), timeout_us, timeout, random.random)
        return await drive_async(plan, self._send)

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
        return AsyncHolding(acquire, self._ask_store, self._release)

    async def peek(self, key: Keys, cost: Costs = 1, *, limit: CallLimit = None) -> Decision:
        """As `Limiter.peek`."""
        return await self._ask(self._policy.group(key, cost, limit, "peek"))

    async def refund(self, decision: Decision) -> None:
        """As `Limiter.refund`. A task that is cancelled meanwhile gives back all the same, before it ends."""
        decision.claim()
        groups = refund_groups(decision)
        if groups:
            await finish(self._ask_leniently(groups))  # a task that is cancelled could not ask again

    async def settle(self, decision: Decision, actual: Costs) -> Decision:
        """As `Limiter.settle`. A task that is cancelled meanwhile settles all the same, before it ends."""
        costs = self._policy.actual(decision, actual)
        decision.claim()
        groups = settle_groups(decision, costs)
        answers: list[Decision] = []
        if groups:  # a task that is cancelled could not ask again
            answers = await finish(self._ask_leniently([group for _, group in groups]))
        return self._settled(decision, costs, dict(zip([index for index, _ in groups], answers, strict=False)))

    async def reset(self, key: Keys, *, limit: CallLimit = None) -> None:
        """As `Limiter.reset`."""
        group = self._policy.group(key, 0, limit)
        if self._leases is not None:
            self._leases.discard(group)
        await self._ask_store([Group((hit,), 0, "forget") for hit in group.hits])

    def limit(
        self,
        plain_key: Keys | None = None,
        /,
        cost: CostOfCall = 1,
        *,
        key: KeyOfCall | None = None,
        timeout: float | None = 0.0,
        limit: CallLimit = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """As `Limiter.limit`. A blocking function that is decorated asks blocking, in whatever thread it is
        called.
        """
        rule = key_rule(plain_key, key)
        return decorator(self._policy, _twin(self, Limiter), self, rule, cost, timeout, limit)

    async def aclose(self) -> None:
        """Give back what was leased, and close what this limiter opened itself."""
        if self._returning is not None and self._returning.get_loop() is running_loop():
            self._returning.cancel()
        if self._leases is not None:
            await drive_async(self._leases.giving_back(only_idle=False), self._send_back)
        if self._share is not None:
            await self._share.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(self, group: Group) -> Decision:
        leases = self._leases
        try:
            if leases is None:
                decision = (await self._store.decide_async((group,)))[0]
            else:
                decision = await drive_async(leases.asking(group), self._send_plainly)
        except StoreOutage as outage:
            decision = self._outage.decide(group, outage)
        if leases is not None and leases.is_holding and not self._is_returning():
            work = drive_async(leases.returning(), self._send_back)
            self._returning = asyncio.create_task(work, name="headgate-leases")
        return self._answered(decision)

    def _is_returning(self) -> bool:
        task = self._returning
        return task is not None and not task.done() and not task.get_loop().is_closed()

    async def _ask_store(self, groups: list[Group]) -> list[Decision]:
        return await self._store.decide_async(groups)

    async def _ask_leniently(self, groups: list[Group]) -> list[Decision]:
        try:
            return await self._ask_store(groups)
        except StoreOutage as outage:
            return [self._outage.decide(group, outage) for group in groups]

    async def _release(self, decision: Decision) -> None:
        try:
            await self._ask_store(give_back_groups(decision, only_slots=True))
        except StoreOutage as outage:
            logger.warning("headgate: could not release a slot, it will expire: %s", outage)

    async def _send_plainly(self, command: waiting.Ask | waiting.Pause) -> Any:
        if isinstance(command, waiting.Pause):
            return await self._pause(command.duration_us)
        return await self._ask_store(command.groups)

    async def _send_back(self, command: waiting.Ask | waiting.Pause) -> Any:
        """What was taken out of the leases has to arrive, whoever is cancelled."""
        work = self._send_plainly(command)
        return await (finish(work) if isinstance(command, waiting.Ask) else work)

    async def _pause(self, duration_us: int) -> int:
        started = time.monotonic_ns()
        await asyncio.sleep(duration_us / 1_000_000)
        return (time.monotonic_ns() - started) // 1_000

    async def _send(self, command: waiting.Ask | waiting.Pause) -> Any:
        if isinstance(command, waiting.Pause):
            return await self._pause(command.duration_us)
        if command.groups and command.groups[0].action == "spend":
            return [await self._ask(group) for group in command.groups]
        return await finish(self._ask_leniently(command.groups))


def _return_at_exit() -> None:
    until = time.monotonic() + RETURNING_AT_EXIT_S
    for limiter in list(_leasing):
        if time.monotonic() < until:  # where no store answers, the process is to end all the same
            limiter._return_leases()


atexit.register(_return_at_exit)

Colour = TypeVar("Colour", Limiter, AsyncLimiter)


def _twin(limiter: AnyLimiter, kind: type[Colour]) -> Colour:
    """The same limiter in the other colour: the same policy, store and outage rule."""
    twin = kind.__new__(kind)
    vars(twin).update(
        {name: value for name, value in vars(limiter).items() if name not in ("_renewer", "_returning", "try_acquire")}
    )
    twin._find_quick_way()
    return twin
