"""The store that a limiter asks, where the state lives behind one server or several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol, Self

from headgate.batching import decisions
from headgate.clock import Clock
from headgate.decision import Answer, Decision, Single, undecided
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group, SingleHit
from headgate.keys import MAX_PLAIN
from headgate.limits import Limit
from headgate.stores.contract import GiveUp, Submit
from headgate.stores.remote.endpoint import Endpoint, Judging
from headgate.stores.remote.terms import Terms

NOTICEABLE_S: Final = 0.005
"""Whoever has asked for so long in vain has no new deadline when it asks again."""
MAX_COSTS: Final = 1024
"""For how many costs of one limit the single hit is kept."""


class Servers(Judging, Protocol):
    """One `Endpoint`, or several, that answer the batches of a store."""

    @property
    def name(self) -> str:
        """Where they are, without a password."""

    def call(self, key: str, request: Any) -> Any:
        """As `Endpoint.call`, of whichever server has the key."""

    def endpoints(self) -> Iterable[Endpoint]:
        """The servers, as far as there are any yet."""

    def serving(self, key: str | None = None) -> list[Endpoint]:
        """The servers that keep something, or the one that keeps a key: for operators, blocking.

        :raises StoreOutage: if it could not be learnt which those are.
        """


FastPath = tuple[Callable[[str, int], Any], Callable[[Any, str, int], Answer]]
"""Two callables: one packs a single hit as a request, by key and cost (None: it has to be asked for the general way),
and one reads the reply to it."""


_APART: Final = ("prefix", "hash_tag", "schema", "bucket")
"""The options that keep apart those who share a server."""


class RemoteStore:
    """A store over a network. Safe to share between threads, tasks, event loops and forked processes.

    :param servers: answer the batches, on the same `terms`.
    :param made_from: what makes another store like this one; None if nothing does.
    """

    serves_event_loops = True
    """False if it was made from a client of the user's that cannot."""

    def __init__(self, servers: Servers, terms: Terms, made_from: dict[str, Any] | None = None) -> None:
        self.timeout = terms.timeout_s
        self.name = servers.name
        self.place: object = None if made_from is None else (self.name, *[made_from.get(option) for option in _APART])
        """Where its state is: stores of one place have one state. None where only whoever made its client knows."""
        self._servers = servers
        self._learnt = terms.learnt
        self._made_from = made_from

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._made_from is None:
            like_this = f"{type(self).__name__}('{self.name.partition('://')[0]}://...')"
            raise InvalidUse(
                "a store with a client of yours cannot be pickled, for connections stay where they are: "
                f"make it from a URL, as {like_this}, or make it anew in each process"
            )
        if self._learnt.clock is not None:
            raise InvalidUse("a store that decides by a clock of a test's cannot be pickled: its copy would not see it")
        return partial(type(self), **self._made_from), ()

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))  # it has the same connections
        vars(copied).update(vars(self))
        return copied

    def fast_path(self, limit: Limit, name: str) -> FastPath | None:
        """For single hits of a limit, blocking, if there is one."""
        return None

    def single_hit(self, limit: Limit, name: str, cost: int) -> SingleHit:
        """A single hit, with what can be worked out before its key is known."""
        return SingleHit(limit, name, cost)

    def use_clock(self, clock: Clock) -> None:
        """Decide by `clock` instead of the server's, for tests."""
        self._learnt.use_clock(clock)

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch in one round trip, blocking.

        :raises StoreOutage: if the server cannot be asked.
        """
        if not groups:
            return []
        if len(groups) == 1 and (denial := self._recall(groups[0])) is not None:
            return [denial]
        return decisions(self._servers.decide(groups))

    def decide_async(self, groups: Sequence[Group], /) -> Coroutine[Any, Any, list[Decision]]:
        """Judge a batch in one round trip.

        :raises StoreOutage: if the server cannot be asked.
        """
        # No coroutine itself: one that awaits another takes a twentieth of the time of a call among many.
        if not self.serves_event_loops:
            raise InvalidUse("this store was made from a blocking client: it serves Limiter only")
        if not groups:
            return _known([])
        if len(groups) == 1 and (denial := self._recall(groups[0])) is not None:
            return _known([denial])
        return self._servers.decide_async(groups)

    def single(self, limit: Limit, name: str) -> Single:
        """A callable that decides on single hits of `limit`, by key and cost, as a batch of one would be. It
        leaves to others (None) what is not plain, and what has to wait for a round trip that is under way.
        """
        recall = self.single_async(limit, name)
        path = self.fast_path(limit, name)
        if path is None:
            return recall
        pack, read = path
        capacity, learnt, denials, call = limit.capacity, self._learnt, self._learnt.denials, self._servers.call
        timeout_s = self.timeout

        def decide(key: Any, cost: Any) -> Decision | None:
            if type(key) is not str or type(cost) is not int or not 0 <= cost <= capacity:
                return None
            if (denial := recall(key, cost)) is not None:
                return denial
            request = pack(key, cost) if learnt.clock is None else None
            if request is None:
                return None
            sent, began_s = learnt.mark(), monotonic()
            reply = call(key, request)
            if reply is None:  # the general way waits, sends the script, or finds the node
                took_s = monotonic() - began_s
                if took_s < NOTICEABLE_S:
                    return None
                group = self.single_hit(limit, name, cost).group(key)
                return decisions(self._servers.decide([group], max(0.0, timeout_s - took_s)))[0]
            answer = read(reply, key, cost)
            if isinstance(answer, StoreOutage):
                raise answer
            if not answer.allowed and denials is not None:
                denials.learn(answer, *sent)
            return answer

        return decide

    def single_async(self, limit: Limit, name: str) -> Single:
        """A callable that recalls that a single hit of `limit` is denied, by key and cost, and leaves all else to
        `decide_async`.
        """
        denials = self._learnt.denials
        return undecided if denials is None else denials.single(limit, name)

    def submitting(self, limit: Limit, name: str) -> tuple[Submit, GiveUp] | None:
        """Two callables: one has single hits of `limit` answered in an event loop, by key and cost, and one gives up
        such an answer. The first leaves to `decide_async` (None) what is no plain key or cost, and all while the
        breaker is not closed. Where there are several servers, there is no such way: a hit may have to go on from one
        to another.
        """
        server = self._servers
        if not self.serves_event_loops or not isinstance(server, Endpoint):
            return None
        capacity, enqueue, circuit = limit.capacity, server.submit, server.circuit
        singles: dict[int, SingleHit] = {}

        def single_of(cost: int) -> SingleHit:
            if len(singles) >= MAX_COSTS:
                singles.clear()
            single = singles[cost] = self.single_hit(limit, name, cost)
            return single

        def submit(key: Any, cost: Any) -> asyncio.Future[Decision] | None:
            if type(key) is not str or type(cost) is not int or not 0 <= cost <= capacity:
                return None
            if not 0 < len(key) <= MAX_PLAIN or not key.isascii() or "\0" in key or not circuit.state.is_closed:
                return None
            return enqueue(singles.get(cost) or single_of(cost), key)

        return submit, server.give_up

    def _recall(self, group: Group) -> Decision | None:
        # Single hits have come by `single` or `single_async`.
        denials = self._learnt.denials
        return None if denials is None or len(group.hits) == 1 else denials.recall(group)

    def close(self) -> None:
        """Close what this store opened, for threads and event loops, as soon as nobody is asking there. Denials are
        forgotten.
        """
        self._learnt.clear()
        for endpoint in self._servers.endpoints():
            endpoint.close()

    async def aclose(self) -> None:
        """Close what this store opened for this event loop, and for threads where nobody is asking. Denials are
        forgotten.
        """
        self._learnt.clear()
        for endpoint in self._servers.endpoints():
            await endpoint.close_loop(at_once=True)
            endpoint.close_idle()

    def close_loops(self) -> None:
        """Close what this store opened for event loops, as soon as nobody is asking there."""
        for endpoint in self._servers.endpoints():
            endpoint.close_loops()

    async def close_loop(self) -> None:
        """Close what this store opened for this event loop, as soon as nobody is asking there."""
        for endpoint in self._servers.endpoints():
            await endpoint.close_loop()


async def _known(decisions: list[Decision]) -> list[Decision]:
    """Answer without asking."""
    return decisions
