"""A bucket, as one event loop uses it: it is found or made, what the plans ask for is carried out, and batches that
have entries in common go one after the other, for each would refuse the other's writes.

This module must not know a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from headgate.batching import Arrive
from headgate.clock import Clock, monotonic_us
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group
from headgate.plans.nats import (
    Judge,
    Known,
    Place,
    Places,
    Restored,
    Terms,
    decide,
    restore,
)
from headgate.runtime.loops import calls_here, start
from headgate.stores.nats import bucket as buckets
from headgate.stores.nats.batches import Batch
from headgate.stores.nats.bucket import Bucket, Ready
from headgate.stores.nats.carrying import Carrying
from headgate.stores.nats.connector import Connector
from headgate.stores.nats.library import Message, Reply
from headgate.stores.nats.link import Link, Request
from headgate.stores.nats.replies import Refused, time_us, told_of
from headgate.stores.nats.requests import API, Listed, Requests
from headgate.stores.nats.server_clock import ServerClock
from headgate.stores.remote.connections import anew

STANDS_STILL_US: Final = 1_000_000
"""Where the estimate of the server's clock goes back by less than this, time stands still instead."""
RETRY_SHARE: Final = 0.7
"""Nothing is judged again after this share of the deadline."""
CLOSED_WITHIN_S: Final = 0.1
KEPT_IN_TESTS_US: Final = 3_600_000_000


class Session:
    """The bucket in one event loop. To be made there, and used in no other.

    :param clock: of the server, shared by all sessions.
    :param given: tells the clock that is to decide in its place, in tests.
    """

    def __init__(
        self,
        connector: Connector,
        bucket: Bucket,
        places: Places,
        timeout_s: float,
        judge: Judge,
        clock: ServerClock,
        given: Callable[[], Clock | None],
    ) -> None:
        self.name: Final = connector.name
        self._loop = asyncio.get_running_loop()
        self._call_here = calls_here()
        self._connector = connector
        self._bucket = bucket
        self._timeout_s = timeout_s
        self._judge = judge
        self._clock = clock
        self._given = given
        self._known = Known()
        self._link: Link | None = None
        self._links: list[Link] = []
        """Those that may not be closed yet."""
        self._ready: Ready | None = None
        self._connecting: asyncio.Task[tuple[Link, Ready]] | None = None
        self._turns: dict[Place, Batch] = {}
        """The last batch that has each entry."""
        self._asking = 0
        self._is_retired = False
        self._last_us = 0
        self.requests: Final = Requests(bucket, places, connector.name)

    def begin(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        """Begin to judge a batch; `arrive` gets the answers. What is returned gives it up."""
        batch = Batch(self, groups, arrive, self._loop.time() + self._timeout_s * RETRY_SHARE)
        self._asking += 1
        batch.wait_for(self._turns)
        return batch.give_up

    def start(self, batch: Batch) -> None:
        """It is a batch's turn."""
        link, ready = self._link, self._ready
        if link is not None and ready is not None and link.is_usable:
            self._judge_batch(batch, link, ready)
        else:
            start(self._link_and_judge(batch))

    async def _link_and_judge(self, batch: Batch) -> None:
        try:
            link, ready = await self.linked()
        except Exception as error:  # an outage, or the wrong event loop
            batch.end(error)
        else:
            if not batch.is_over:
                self._judge_batch(batch, link, ready)

    def _judge_batch(self, batch: Batch, link: Link, ready: Ready) -> None:
        self._ask_clock(link)
        terms = Terms(self._judge, self._known, ready.is_atomic, self._contention, self._margin_us())
        plan = decide(batch.groups, self.now_us(), terms)
        batch.link = link
        batch.carrying = Carrying(self, link, ready, plan, batch.end, batch.until_s)

    def ended(self, batch: Batch) -> None:
        """A batch is answered, or given up."""
        for place in batch.places:
            if self._turns.get(place) is batch:
                del self._turns[place]
        self._asking -= 1
        if self._is_retired:
            self.retire()

    def give_up(self, link: Link) -> None:
        """There was no answer in time: the next one is asked on another connection."""
        if self._link is link and self._connector.is_own:
            link.retire()
            self._link = None

    def _margin_us(self) -> int:
        """How much longer than it says an entry is to be kept: by a test's clock, which may stand still, an hour."""
        return self._clock.margin_us() if self._given() is None else KEPT_IN_TESTS_US

    def _contention(self, is_stalled: bool) -> StoreOutage:
        if is_stalled:
            return StoreUnavailable(
                self.name, "an earlier write waits for most of the bucket's servers to agree: are enough of them up?"
            )
        outage = StoreUnavailable(
            self.name,
            "contention: other processes wrote this key each time before we could. Spread it over several keys, lease "
            "tokens, or ask in fewer processes",
        )
        outage.is_of_server = False
        return outage

    def now_us(self) -> int:
        """The time that decides."""
        given = self._given()
        if given is not None:
            return given()
        now_us = self._clock.now_us(monotonic_us())
        if now_us < self._last_us < now_us + STANDS_STILL_US:
            return self._last_us
        self._last_us = now_us
        return now_us

    # The connection, and the bucket

    async def linked(self) -> tuple[Link, Ready]:
        """The connection, with the bucket there.

        :raises StoreOutage: if there is none.
        """
        if self._link is not None and self._ready is not None and self._link.is_usable:
            return self._link, self._ready
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._connect(), name="headgate-connecting")
            self._connecting.add_done_callback(_seen)
        connecting = self._connecting
        try:
            return await asyncio.shield(connecting)
        except StoreOutage as outage:  # one for each who waits
            raise anew(outage) from None
        except asyncio.CancelledError:
            if connecting.cancelled():
                raise StoreUnavailable(self.name, "the connection to it was closed") from None
            raise

    async def _connect(self) -> tuple[Link, Ready]:
        try:
            before, self._link = self._link, None
            if before is not None:
                before.retire()
            link = await self._connector.connect()
            try:
                async with asyncio.timeout(self._timeout_s):
                    ready = await self._open_bucket(link)
            except TimeoutError:
                link.close()
                raise StoreUnavailable(
                    self.name, "JetStream does not answer: is there a leader, and have we the right to ask for it?"
                ) from None
            except BaseException:
                link.close()
                raise
            self._known.clear()
            self._link, self._ready = link, ready
            self._links = [one for one in self._links if one.closing is None or not one.closing.done()] + [link]
            if self._is_retired:
                self.retire()
            return link, ready
        finally:
            self._connecting = None

    async def _open_bucket(self, link: Link) -> Ready:
        info = await self._api(link, f"STREAM.INFO.{self._bucket.stream}", b"")
        if isinstance(info, Refused) and buckets.is_missing(info):
            for is_atomic in (True, False):
                made = await self._api(
                    link, f"STREAM.CREATE.{self._bucket.stream}", self._bucket.config(is_atomic=is_atomic)
                )
                if not isinstance(made, Refused) or buckets.is_there(made):
                    break
                if not is_atomic or not buckets.is_too_old(made):
                    raise buckets.outage_of(made, self.name)
            info = await self._api(link, f"STREAM.INFO.{self._bucket.stream}", b"")
        if isinstance(info, Refused):
            raise buckets.outage_of(info, self.name)
        if not self._clock.is_known:
            raise StoreUnavailable(self.name, "it does not tell the time: it takes nats-server 2.11 or later")
        return self._checked(link, info["config"])

    def _checked(self, link: Link, config: dict[str, Any]) -> Ready:
        largest = config.get("max_msg_size", -1)
        link.max_message = largest if largest > 0 else link.client.max_payload
        return buckets.check(config, self._bucket, self.name)

    async def _api(self, link: Link, subject: str, data: bytes) -> dict[str, Any] | Refused:
        asked_us = monotonic_us()
        reply = await link.ask(Message(f"{API}.{subject}", {}, data))
        told, refused = told_of(reply, self.name)
        if refused is None:
            self._learn_clock(told, asked_us)
        return told if refused is None else refused

    async def about(self) -> dict[str, Any]:
        """The server's facts about itself and about the bucket.

        :raises StoreOutage: if it does not answer, or refuses.
        """
        link, _ = await self.linked()
        info = await self._api(link, f"STREAM.INFO.{self._bucket.stream}", b"")
        if isinstance(info, Refused):
            raise buckets.outage_of(info, self.name)
        told = link.client.connected_server_version
        version = f"{told.major}.{told.minor}.{told.patch}"
        return {"server": {"version": version, "max_payload": link.client.max_payload}, "stream": info}

    def _learn_clock(self, told: dict[str, Any], asked_us: int) -> None:
        with suppress(KeyError, ValueError, TypeError):
            self._clock.learn(time_us(told["ts"]), asked_us, monotonic_us())

    def _ask_clock(self, link: Link) -> None:
        """Ask for the server's clock again, if it is time, and see if the bucket will still do. Nobody waits for it."""
        asked_us = monotonic_us()
        if not self._clock.is_due(asked_us) or self._given() is not None:
            return
        self._clock.asked(asked_us)

        def replied(reply: Reply | StoreOutage) -> None:
            with suppress(StoreOutage):
                told, refused = told_of(reply, self.name)
                self._learn_clock(told, asked_us)
                if refused is None and self._link is link:
                    self._look_again(link, told["config"])

        link.send([Request([Message(f"{API}.STREAM.INFO.{self._bucket.stream}", {}, b"")], replied)])

    def _look_again(self, link: Link, config: dict[str, Any]) -> None:
        """Somebody may have changed the bucket."""
        try:
            self._ready = self._checked(link, config)
        except StoreOutage:  # whoever asks next is told
            self.doubt(link)

    def doubt(self, link: Link) -> None:
        """The bucket may be gone, or others have taken over: look again the next time."""
        if self._link is link:
            self._ready = None
            if self._link is not None:
                self._link.retire()
                self._link = None

    # For operators

    async def page(self, first: int, name: str | None) -> tuple[list[Listed], int | None, int]:
        """List entries, as `Requests.listed`, and tell the time.

        :raises StoreOutage: if the server does not answer.
        """
        link, _ = await self.linked()
        listed, following = self.requests.listed(await link.collect(self.requests.page(first, name)))
        return listed, following, self.now_us()

    async def restore(self, entries: Sequence[Restored]) -> int:
        """Keep entries, each merged with what is kept in its place; count those that were written.

        :raises StoreOutage: if the server does not answer.
        """
        link, ready = await self.linked()
        written: asyncio.Future[int] = self._loop.create_future()

        def done(result: int | Exception) -> None:
            if isinstance(result, Exception):
                written.set_exception(result)
            else:
                written.set_result(result)

        Carrying(self, link, ready, restore(entries, self.now_us(), self._margin_us()), done)
        return await written

    async def remove(self, places: Sequence[Place]) -> None:
        """Forget entries, whatever they are by now.

        :raises StoreOutage: if the server does not answer.
        """
        link, _ = await self.linked()
        for reply in await link.ask_all([self.requests.remove(place) for place in places]):
            removed = self.requests.revisions(reply, 1)
            if isinstance(removed, StoreOutage):
                raise removed

    # As `LoopConnection`

    def close(self) -> None:
        """Close at once."""
        self._is_retired = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.close()
            self._link = None

    def retire(self) -> None:
        """Close as soon as nobody is asking."""
        self._is_retired = True
        if not self._asking and self._link is not None:
            self._link.retire()
            self._link = None

    async def closed(self) -> None:
        """Wait until what was closed is closed, for a moment at most."""
        closing = [task for link in self._links if (task := link.closing) is not None]
        if closing:
            await asyncio.wait(closing, timeout=CLOSED_WITHIN_S)

    def retire_soon(self) -> None:
        """As `retire`, from any thread."""
        self._call_here(self.retire)

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None:
            self._call_here(link.retire)


def _seen(task: asyncio.Task[Any]) -> None:
    """Whoever waited was told."""
    if not task.cancelled():
        task.exception()
