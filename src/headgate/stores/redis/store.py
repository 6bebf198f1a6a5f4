"""The Redis and Valkey store: one script call for a batch, by the server's clock. Redis 6.2 or later, any Valkey.

This module must not know any algorithm: it carries the plan's commands to the server. A spend that timed out may have
been counted, and is never sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic_ns
from typing import Any, Final

try:
    import hiredis
    import redis
    import redis.asyncio
    from redis import exceptions
except ImportError as error:  # pragma: no cover - the suite always has them
    from headgate.errors import MissingExtra

    raise MissingExtra("redis-py or hiredis", "redis") from error

from headgate.clock import Clock, system_clock
from headgate.coalesce import Arrive, AsyncCoalescer, ThreadCoalescer, decisions
from headgate.decision import Answer, Decision, Lone, leave
from headgate.denials import DenialMemory
from headgate.drive import drive, drive_by_callback
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Fare, Group
from headgate.keys import check_prefix
from headgate.limits import Limit, TokenBucket
from headgate.loops import PerLoop
from headgate.plans import redis as plans
from headgate.stores import Leave, Ride
from headgate.stores.redis.awaited import Exchange, Question
from headgate.stores.redis.blocking import Lines
from headgate.stores.redis.dialling import Dialler

MAX_REMEMBERED: Final = 60
"""The longest that a denial may be remembered, in seconds."""


class RedisStore:
    """State in Redis or Valkey, shared by everyone who asks the same server with the same prefix.

    :param url: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS, `unix:///path/to/socket?db=0`;
        `valkey://` and `valkeys://` mean the same. What redis-py understands as a query parameter is understood
        here.
    :param client: your own `redis.Redis` or `redis.asyncio.Redis`, in place of a URL, to be connected like it: to the
        same server, by the same name and rights. A blocking client serves `Limiter`, an asyncio one `AsyncLimiter`.
        The connections are the store's own, one for threads and one for each event loop; the client's pool is left
        alone.
    :param prefix: the first part of every key.
    :param timeout: the deadline of a call, in seconds. Connecting has one of its own.
    :param coalesce: let calls that come while a trip is under way travel together in the next one. The decisions are
        the same; a busy process makes far fewer trips. Without it, threads that ask at the same time have a
        connection each.
    :param remember_denials: for how many seconds at most a denial is repeated without asking the server again, while
        it is known that the server would deny; 0 for not at all. See docs/speed.md.
    :param options: anything else that redis-py's connections take: `password`, `username`, `db`, `ssl_ca_certs`,
        ...
    :raises StoreURLError: if the URL is not understood.

    Making a store does not connect: the server may be down. Safe to share between threads, tasks, event loops and
    forked processes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: redis.Redis | redis.asyncio.Redis | None = None,
        prefix: str = "headgate",
        timeout: float = 0.25,
        coalesce: bool = True,
        remember_denials: float = 1.0,
        **options: Any,
    ) -> None:
        if type(timeout) not in (int, float) or not 0 < timeout < float("inf"):
            raise InvalidUse(f"timeout is a number of seconds above 0, not {timeout!r}")
        if "max_connections" in options:
            raise InvalidUse(
                "the store has one connection for threads and one for each event loop: there is no pool to bound"
            )
        if client is not None and (url is not None or options):
            raise InvalidUse("a store takes a client or a URL with its options, not both")
        if type(remember_denials) not in (int, float) or not 0 <= remember_denials <= MAX_REMEMBERED:
            raise InvalidUse(
                f"remember_denials is a number of seconds from 0 to {MAX_REMEMBERED}, not {remember_denials!r}"
            )
        self.timeout = timeout
        self._denials: DenialMemory | None = None
        if remember_denials:
            self._denials = DenialMemory(int(remember_denials * 1_000_000))
        self._prefix = check_prefix(prefix)
        self._skew_us = 0
        self._now: Clock | None = None
        if client is None:
            self._dialler = Dialler(url or "redis://localhost:6379/0", timeout, options)
        else:
            self._dialler = Dialler.like(client, timeout)
        self._lines = Lines(self._dialler)
        self._exchanges = PerLoop(lambda _: Exchange(self._dialler))
        self._coalesces = coalesce
        self._threads = ThreadCoalescer(self._trip, self._dialler.overdue, timeout)
        self._tasks = AsyncCoalescer(
            self._start, self._dialler.overdue, timeout, start_alike=self._start_alike, is_together=coalesce
        )
        self.name = self._dialler.name
        """Where the server is, without a password."""

    def use_clock(self, clock: Clock) -> None:
        """Decide by `clock` instead of the server's, for tests."""
        self._now = clock
        if self._denials is not None:
            self._denials.clear()
            self._denials.clock = clock

    def __repr__(self) -> str:
        return f"<RedisStore {self.name}>"

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch in one trip, blocking.

        :raises StoreOutage: if the server cannot be asked.
        """
        if not groups:
            return []
        if len(groups) == 1 and (denial := self._recall(groups[0])) is not None:
            return [denial]
        return decisions(self._threads.decide(groups) if self._coalesces else self._trip(groups))

    def decide_async(self, groups: Sequence[Group], /) -> Coroutine[Any, Any, list[Decision]]:
        """Judge a batch in one trip.

        :raises StoreOutage: if the server cannot be asked.
        """
        # No coroutine itself: one that awaits another takes a twentieth of the time of a call among many.
        if not self._dialler.serves_event_loops:
            raise InvalidUse("this store was made from a blocking client: it serves Limiter only")
        if not groups:
            return _told([])
        if len(groups) == 1 and (denial := self._recall(groups[0])) is not None:
            return _told([denial])
        return self._tasks.decide(groups)

    def lone(self, limit: Limit, name: str) -> Lone:
        """What decides on a single hit of `limit`, by key and cost: the same as a batch of one, straight through. It
        leaves to others (None) what is not plain, and what has to wait for a trip that is under way.
        """
        recall = self._lone_recall(limit, name)
        if not limit.is_plain:
            return recall
        capacity = limit.capacity
        pack, read = plans.lone(limit, name, self._prefix)
        ask, denials = self._ask, self._denials
        try_lead, hand_over = self._threads.try_lead, self._threads.hand_over
        coalesces, refused = self._coalesces, self._dialler.refused

        def decide(key: Any, cost: Any) -> Decision | None:
            if type(key) is not str or type(cost) is not int or not 0 <= cost <= capacity:
                return None
            if (denial := recall(key, cost)) is not None:
                return denial
            packed = pack(key, cost) if self._now is None else None
            if packed is None:
                return None
            try:
                if coalesces and not try_lead():
                    return None
                sent_ns, forgettings = monotonic_ns(), 0 if denials is None else denials.forgettings
                reply = ask(packed)
            finally:
                if coalesces:
                    hand_over()
            if isinstance(reply, plans.ScriptMissing):
                return None  # nothing was spent: the long way round sends the script
            answer = read(reply, key, cost, refused)
            if isinstance(answer, StoreOutage):
                raise answer
            if denials is not None and not answer.allowed:
                denials.learn(answer, sent_ns // 1_000, forgettings)
            return answer

        return decide

    def lone_async(self, limit: Limit, name: str) -> Lone:
        """What recalls that a single hit of `limit` is denied, by key and cost, and leaves all else to
        `decide_async`.
        """
        return self._lone_recall(limit, name)

    def riding(self, limit: Limit, name: str) -> tuple[Ride, Leave] | None:
        """What has single hits of `limit` answered in an event loop, by key and cost, without the detour of a batch. It
        leaves to `decide_async` (None) what is no plain key or cost.
        """
        if not self._dialler.serves_event_loops:
            return None
        capacity, prefix, ride = limit.capacity, self._prefix, self._tasks.ride
        fares: dict[int, Fare] = {}
        longest = plans.MAX_PLAIN

        def fare_of(cost: int) -> Fare:
            if len(fares) >= plans.MAX_FRAMES:
                fares.clear()
            is_bucket = type(limit) is TokenBucket
            fare = plans.BucketFare(limit, name, cost, prefix) if is_bucket else Fare(limit, name, cost)
            fares[cost] = fare
            return fare

        def board(key: Any, cost: Any) -> asyncio.Future[Decision] | None:
            if type(key) is not str or type(cost) is not int or not 0 <= cost <= capacity:
                return None
            if not 0 < len(key) <= longest or not key.isascii() or "\0" in key:
                return None
            return ride(fares.get(cost) or fare_of(cost), key)

        return board, self._tasks.leave

    def _lone_recall(self, limit: Limit, name: str) -> Lone:
        return leave if self._denials is None else self._denials.lone(limit, name)

    def _recall(self, group: Group) -> Decision | None:
        # Single hits have come by `lone` or `lone_async`.
        return None if self._denials is None or len(group.hits) == 1 else self._denials.recall(group)

    def _trip(self, groups: Sequence[Group]) -> list[Answer]:
        mark = self._mark()
        try:
            answers = drive(self._plan(groups), self._send)
        except StoreOutage:
            self._forget(groups)
            raise
        return self._learn(groups, answers, mark)

    def _forget(self, groups: Sequence[Group]) -> None:
        """What was given back may have reached the server, though its answer did not reach us."""
        if self._denials is not None:
            self._denials.forget(groups)

    def _mark(self) -> tuple[int, int]:
        """When a question is sent, as `DenialMemory.learn` wants to know it."""
        return (0, 0) if self._denials is None else (self._denials.clock(), self._denials.forgettings)

    def _send(self, script: plans.Script) -> Any:
        return self._ask(script.packed)

    def _ask(self, packed: bytes) -> Any:
        """What the server says to a call, blocking.

        :raises StoreOutage: if that is nothing that a plan can act on.
        """
        try:
            reply = self._lines.ask(packed)
        except (exceptions.RedisError, hiredis.HiredisError, OSError) as error:
            raise self._dialler.outage(error) from error
        if type(reply) is list:
            return reply
        meaning = self._meaning(reply)
        if isinstance(meaning, StoreOutage):
            raise meaning
        return meaning

    def _start(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        """Begin a trip in this event loop."""
        mark = self._mark()

        def done(answers: list[Answer] | Exception) -> None:
            if isinstance(answers, Exception):
                self._forget(groups)
                arrive(answers)
            else:
                arrive(self._learn(groups, answers, mark))

        hang_up = self._begin(self._plan(groups), done)

        def give_up() -> None:
            self._forget(groups)
            hang_up()

        return give_up

    def _start_alike(self, fare: Fare, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        """Begin a trip of lone hits of one fare."""
        if type(fare) is not plans.BucketFare or len(keys) == 1 or self._now is not None:
            return self._start([fare.group(key) for key in keys], arrive)
        mark = self._mark()

        def done(answers: list[Answer] | Exception) -> None:
            if not isinstance(answers, Exception):
                self._learn_denials(answers, mark)
            arrive(answers)

        return self._begin(plans.decide_alike(fare, keys, prefix=self._prefix, refused=self._dialler.refused), done)

    def _begin(self, plan: Any, done: Arrive) -> Callable[[], None]:
        """Have a plan carried out in this event loop. What is returned gives it up."""
        exchange = self._exchanges.get(asyncio.get_running_loop())
        question: Question | None = None

        def send(script: plans.Script, resume: Callable[[Any], None]) -> None:
            nonlocal question
            question = exchange.ask(script.packed, lambda reply: resume(self._meaning(reply)))

        def give_up() -> None:
            if question is not None:
                question.give_up()

        drive_by_callback(plan, send, done)
        return give_up

    def _meaning(self, reply: Any) -> Any:
        """What the plan can act on: a reply as it is, the news that a script is missing, or an outage."""
        if type(reply) is not hiredis.ReplyError:
            return reply
        text = str(reply)
        return plans.ScriptMissing() if text.startswith("NOSCRIPT") else self._dialler.refused(text)

    def close(self) -> None:
        """Close what this store opened for threads, where nobody is asking, and have event loops close theirs."""
        self._lines.close()
        for loop in self._exchanges.loops():
            exchange = self._exchanges.pop(loop)
            self._tasks.forget(loop)
            if exchange is not None and loop.is_running():  # ours, or another thread's
                loop.call_soon_threadsafe(exchange.close)

    async def aclose(self) -> None:
        """Close what this store opened for this event loop, and for threads where nobody is asking."""
        loop = asyncio.get_running_loop()
        exchange = self._exchanges.pop(loop)
        self._tasks.forget(loop)
        if exchange is not None:
            exchange.close()
            await asyncio.sleep(0)  # let the transport end
        self._lines.close()

    def _plan(self, groups: Sequence[Group]) -> Any:
        now_us = None if self._now is None else self._now()
        near_us = system_clock() + self._skew_us if now_us is None else now_us
        return plans.decide(groups, prefix=self._prefix, near_us=near_us, now_us=now_us, refused=self._dialler.refused)

    def _learn_denials(self, answers: list[Answer], mark: tuple[int, int]) -> None:
        if self._denials is not None:
            for answer in answers:
                if not isinstance(answer, StoreOutage) and not answer.allowed:
                    self._denials.learn(answer, *mark)

    def _learn(self, groups: Sequence[Group], answers: list[Answer], mark: tuple[int, int]) -> list[Answer]:
        """Remember what was denied, and how far the server's clock is from ours: that is used to guess calendar
        windows, never to decide.
        """
        self._learn_denials(answers, mark)
        self._forget(groups)
        first = answers[0]
        if type(first) is Decision and self._now is None and not first.group.hits[0].limit.is_plain:
            skew_us = first.now_us - system_clock()
            if abs(skew_us - self._skew_us) > 1_000_000:
                self._skew_us = skew_us
        return answers


async def _told(decisions: list[Decision]) -> list[Decision]:
    """What is known without asking."""
    return decisions
