"""Stores that are down, hang, lie or refuse: every call is answered within its deadline, by the outage rule, once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from headgate import (
    AsyncLimiter,
    Decision,
    Limiter,
    Store,
    StoreOutage,
    StoreTimeout,
    StoreUnavailable,
)
from headgate.stores.redis import RedisStore
from tests.faults.workers import PATIENT
from tests.servers import (
    FakeServer,
    OwnValkey,
    eventually,
    fake_server,
    free_port,
    greetings_only,
    own_valkey,
    refusal,
    silence,
    soon,
)

PASSWORD = "hunter2"
Ask = Callable[..., Awaitable[Decision]]


@pytest.fixture
def server() -> Iterator[OwnValkey]:
    with own_valkey() as made:
        yield made


class Asker:
    """Asks a store through a limiter of one kind, and closes it."""

    def __init__(self, kind: str, store: Store, **options: Any) -> None:
        self.kind = kind
        self.store = store
        self.blocking = Limiter("5/day", store=store, name="api", **options)
        self.awaiting = AsyncLimiter("5/day", store=store, name="api", **options)

    async def __call__(self, key: str = "k", cost: int = 1) -> Decision:
        if self.kind == "blocking":
            return await asyncio.to_thread(self.blocking.try_acquire, key, cost)
        return await self.awaiting.try_acquire(key, cost)


Make = Callable[..., Asker]


@pytest.fixture(params=["blocking", "asyncio"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes askers of one kind, by a URL or a store and the limiter's options."""
    made: list[Asker] = []

    def make_one(store: str | Store, *, timeout: float = 0.25, **options: Any) -> Asker:
        if isinstance(store, str):
            store = RedisStore(store, timeout=timeout)
        made.append(Asker(request.param, store, **options))
        return made[-1]

    yield make_one
    for asker in made:
        with contextlib.suppress(StoreOutage):
            await asker.store.aclose()


async def outage_of(asker: Asker) -> StoreOutage:
    """What the store's failure is called."""
    with pytest.raises(StoreOutage) as caught:
        await asker()
    return caught.value


def everything_said(error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    """All that a user may get to see: the error with all its causes, and the log."""
    return "\n".join([*traceback.format_exception(error), repr(error), caplog.text])


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "headgate"]


# --- a store that is not there ---


async def test_a_store_that_is_down_when_the_limiter_is_made_is_an_outage_like_any_other(make: Make) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    assert (await make(url, on_outage="open")()).source == "fail_open"
    assert (await make(url, on_outage="closed")()).source == "fail_closed"
    outage = await outage_of(make(url, on_outage="raise"))
    assert isinstance(outage, StoreUnavailable)
    assert str(outage).startswith(f"store {url}: it cannot be reached: check the address, and that it runs (")


async def test_a_store_that_comes_up_later_is_found(make: Make) -> None:
    port = free_port()
    asker = make(f"redis://127.0.0.1:{port}/0", timeout=PATIENT, on_outage="closed")
    assert (await asker()).source == "fail_closed"
    for _ in range(5):
        try:
            server = OwnValkey(port, None, {})
            break
        except Exception:  # somebody else had the port for a moment
            await asyncio.sleep(0.5)
    try:
        decision = await asker()
        assert (decision.source, decision.remaining) == ("store", 4)
    finally:
        server.stop()


async def test_an_unknown_host_is_named(make: Make) -> None:
    asker = make(f"redis://me:{PASSWORD}@no-such-host.invalid:6379/0", timeout=PATIENT, on_outage="raise")
    outage = await outage_of(asker)
    assert isinstance(outage, StoreUnavailable)
    assert "store redis://no-such-host.invalid:6379/0: it cannot be reached: check the address" in str(outage)


async def test_a_password_is_in_nothing_that_is_ever_said(
    make: Make, server: OwnValkey, caplog: pytest.LogCaptureFixture
) -> None:
    with server.admin() as admin:
        admin.config_set("requirepass", "another")
    caplog.set_level(logging.DEBUG)
    urls = [
        f"redis://me:{PASSWORD}@127.0.0.1:{server.port}/0",
        f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0",
        f"redis://127.0.0.1:{server.port}/0?password={PASSWORD}",
        f"redis://me:{PASSWORD}@127.0.0.1:{free_port()}/0",
        f"redis://me:{PASSWORD}@no-such-host.invalid/0",
        f"rediss://me:{PASSWORD}@127.0.0.1:{server.port}/0",
        f"unix://me:{PASSWORD}@/no/such/socket",
    ]
    for url in urls:
        asker = make(url, on_outage="raise")
        said = everything_said(await outage_of(asker), caplog)
        said += repr(asker.store) + str(asker.store) + repr(asker.blocking) + repr(asker.awaiting)
        said += repr(await make(url, on_outage="closed")()) + caplog.text
        # Only a traceback's lines of source show the test's own words.
        assert PASSWORD not in said.replace("{PASSWORD}", "")


async def test_a_wrong_password_is_called_one(make: Make, server: OwnValkey) -> None:
    with server.admin() as admin:
        admin.config_set("requirepass", "right")
    for user in ("", "nobody"):
        url = f"redis://{user}:wrong@127.0.0.1:{server.port}/0"
        outage = await outage_of(make(url, timeout=PATIENT, on_outage="raise"))
        assert isinstance(outage, StoreUnavailable)
        assert "refuses the user name or password: check them" in str(outage)
        assert (await make(url, timeout=PATIENT)()).source == "fail_open"
    outage = await outage_of(make(server.url, timeout=PATIENT, on_outage="raise"))
    assert "refuses the user name or password: check them" in str(outage)


async def test_a_database_that_is_not_there_is_called_one(make: Make, server: OwnValkey) -> None:
    outage = await outage_of(make(f"redis://127.0.0.1:{server.port}/99", timeout=PATIENT, on_outage="raise"))
    assert str(outage) == (
        f"store redis://127.0.0.1:{server.port}/99: it has no database of this number: check the URL's path"
    )


# --- a store that hangs ---


async def test_a_server_that_accepts_and_never_answers_is_not_waited_for(make: Make) -> None:
    with fake_server(silence) as hole:
        assert (await make(hole.url, on_outage="open")()).source == "fail_open"
        assert (await make(hole.url, on_outage="closed")()).source == "fail_closed"
        outage = await outage_of(make(hole.url, on_outage="raise"))
        assert isinstance(outage, StoreTimeout)
        assert str(outage) == f"store {hole.url}: no answer within 0.25 s: is the server up and near?"
        assert hole.count(b"EVALSHA", b"EVAL") == 0


async def test_a_server_that_does_not_even_accept_is_not_waited_for(make: Make) -> None:
    with socket.socket() as listener:  # its queue is full, and nobody takes from it
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(address)
        outage = await outage_of(make(f"redis://127.0.0.1:{address[1]}", timeout=0.1, on_outage="raise"))
        assert isinstance(outage, StoreTimeout)
        for caller in callers:
            caller.close()


async def test_a_spend_that_timed_out_is_never_sent_again(make: Make) -> None:
    with fake_server(greetings_only) as mute:

        async def is_sent() -> bool:  # a slow machine may not even connect in time
            assert (await make(mute.url, timeout=0.1)(f"k{len(asked)}")).source == "fail_open"
            asked.append(mute.count(b"EVALSHA", b"EVAL"))
            return asked[-1] >= 3

        asked: list[int] = []
        await soon(is_sent, "three are sent")
        await asyncio.sleep(0.2)
        sent = Counter(words[3] for words in mute.commands if words[0].upper() in (b"EVALSHA", b"EVAL"))
        assert set(sent.values()) == {1}


async def test_a_spend_whose_connection_broke_is_never_sent_again(make: Make) -> None:
    hung_up: list[FakeServer] = []

    def hang_up(words: list[bytes]) -> bytes | None:
        if words[0].upper() in (b"EVALSHA", b"EVAL"):
            raise OSError("ends this connection")
        return b"+OK\r\n"

    with fake_server(hang_up) as rude:
        hung_up.append(rude)
        for number in range(1, 4):
            asker = make(rude.url, timeout=PATIENT, on_outage="raise")
            await outage_of(asker)
            assert rude.count(b"EVALSHA", b"EVAL") == number


async def test_a_client_of_the_users_own_does_not_send_a_spend_again_either() -> None:
    with fake_server(greetings_only) as mute:
        with redis.Redis(port=mute.port, retry=Retry(NoBackoff(), 3), protocol=2) as client:
            store = RedisStore(client=client, timeout=0.5)
            assert Limiter("5/day", store=store).try_acquire("k").source == "fail_open"
            assert mute.count(b"EVALSHA", b"EVAL") == 1
        async with redis.asyncio.Redis(port=mute.port, retry=AsyncRetry(NoBackoff(), 3), protocol=2) as awaiting:
            store = RedisStore(client=awaiting, timeout=0.5)
            assert (await AsyncLimiter("5/day", store=store).try_acquire("k")).source == "fail_open"
            assert mute.count(b"EVALSHA", b"EVAL") == 2


def test_a_client_of_the_users_own_that_does_not_retry_is_not_waited_for_beyond_our_deadline() -> None:
    with fake_server(silence) as hole:
        for port in (free_port(), hole.port):
            with redis.Redis(port=port, socket_timeout=0.3, retry=Retry(NoBackoff(), 0)) as client:
                decision = Limiter("5/day", store=RedisStore(client=client, timeout=0.1)).try_acquire("k")
                assert decision.source == "fail_open"
        assert hole.connections <= 1


async def test_a_frozen_server_is_not_waited_for_and_found_again_when_it_thaws(
    make: Make, server: OwnValkey, caplog: pytest.LogCaptureFixture
) -> None:
    asker = make(server.url, timeout=0.25, on_outage="closed")

    async def is_answered() -> bool:
        return (await asker(cost=0)).source == "store"

    await soon(is_answered, "the server answers in time")  # a slow machine may need more than one try
    caplog.clear()
    server.freeze()
    for _ in range(3):
        assert (await asker()).source == "fail_closed"
    server.thaw()
    await soon(is_answered, "the server is found again")
    decision = await asker(cost=0)
    # Of the three that timed out, those that had been sent may have been counted; none was sent twice.
    assert decision.source != "store" or 2 <= decision.remaining <= 5
    outages = [message for message in messages(caplog) if "answers 'closed' until it is back" in message]
    ends = [message for message in messages(caplog) if "answers again" in message]
    assert len(outages) == len(ends) >= 1
    assert messages(caplog)[0].startswith(f"headgate: store {server.url}: no answer within 0.25 s")


async def test_a_whole_crowd_is_answered_while_the_server_is_frozen(make: Make, server: OwnValkey) -> None:
    asker = make(server.url, timeout=0.25, on_outage="open")
    await asker()
    server.freeze()
    answers = await asyncio.gather(*(asker() for _ in range(30)))
    assert {answer.source for answer in answers} == {"fail_open"}
    server.thaw()


async def test_a_server_that_drips_is_not_waited_for_to_its_last_drop(make: Make) -> None:
    is_over = threading.Event()

    def drip(words: list[bytes]) -> bytes | None:
        return b"*5\r\n:1\r\n" if words[0].upper() in (b"EVALSHA", b"EVAL") else b"+OK\r\n"

    with fake_server(drip) as slow:
        outage = await outage_of(make(slow.url, timeout=0.2, on_outage="raise"))
        assert isinstance(outage, StoreTimeout)
        is_over.set()


# --- a store that refuses or lies ---


@pytest.mark.parametrize(
    "text",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "LOADING Valkey is loading the dataset in memory",
        "BUSY Valkey is busy running a script.",
        "READONLY You can't write against a read only replica.",
        "MISCONF Errors writing to the AOF file",
        "MASTERDOWN Link with MASTER is down",
        "CLUSTERDOWN The cluster is down",
        "MOVED 3999 127.0.0.1:6381",
        "ERR max number of clients reached",
        "EXECABORT Transaction discarded",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR user_script:1: attempt to perform arithmetic on a nil value",
        "NOPERM User gate has no permissions to run the 'evalsha' command",
        "NOAUTH Authentication required.",
    ],
    ids=lambda text: text.split()[0] + "-" + text.split()[1],
)
async def test_an_error_of_the_server_is_an_outage_that_says_what_it_said(make: Make, text: str) -> None:
    with fake_server(refusal(text)) as refusing:
        outage = await outage_of(make(refusing.url, timeout=PATIENT, on_outage="raise"))
        assert isinstance(outage, StoreUnavailable)
        assert refusing.url in str(outage)
        if text.startswith("NOPERM"):
            assert "its user may not run EVALSHA: grant +evalsha" in str(outage)
        elif text.startswith("NOAUTH"):
            assert "it refuses the user name or password: check them" in str(outage)
        else:
            assert text.split(" ", 1)[1].rstrip(".")[:20] in str(outage)
        assert (await make(refusing.url, timeout=PATIENT)()).source == "fail_open"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*1\r\n:1\r\n",
        b"*2\r\n:1800000000000000\r\n:1\r\n",
        b"*5\r\n:1\r\n:2\r\n$1\r\nx\r\n:4\r\n:5\r\n",
        b":1\r\n",
        b"\x00\xff\xfe\r\n",
    ],
    ids=repr,
)
async def test_an_answer_that_makes_no_sense_is_an_outage(make: Make, reply: bytes) -> None:
    with fake_server(lambda words: reply if words[0].upper() in (b"EVALSHA", b"EVAL") else b"+OK\r\n") as liar:
        outage = await outage_of(make(liar.url, timeout=5, on_outage="raise"))
        assert liar.url in str(outage)
        assert (await make(liar.url, timeout=5, on_outage="closed")()).source == "fail_closed"


async def test_a_server_of_another_kind_is_an_outage(make: Make) -> None:
    with fake_server(lambda _: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as web:
        outage = await outage_of(make(web.url, timeout=5, on_outage="raise"))
        assert web.url in str(outage)


async def test_a_full_server_is_an_outage_and_spends_nothing(make: Make) -> None:
    with own_valkey(**{"maxmemory-policy": "noeviction"}) as server:
        asker = make(server.url, timeout=PATIENT, on_outage="raise")
        assert (await asker()).remaining == 4
        with server.admin() as admin:
            admin.config_set("maxmemory", 1)
        outage = await outage_of(asker)
        assert isinstance(outage, StoreUnavailable)
        assert "OOM" in str(outage) or "maxmemory" in str(outage)
        with server.admin() as admin:
            admin.config_set("maxmemory", 0)
        assert (await asker(cost=0)).remaining == 4


@pytest.mark.parametrize("last", ["sliding-window 5/day", "concurrency 5"])
async def test_a_full_server_spends_all_of_a_group_or_nothing(server: OwnValkey, last: str) -> None:
    limits = {"a": "5/day", "b": "fixed-window 5/day; tz=Asia/Kathmandu", "c": "sliding-log 5/day", "d": last}
    store = RedisStore(server.url, timeout=PATIENT)
    limiter = Limiter(limits, store=store, on_outage="raise")
    keys = dict.fromkeys("abcd", "k")

    def remaining() -> list[int]:
        peeked = limiter.peek(keys, 0)
        return [
            hit.limit.remaining(facts, peeked.now_us)
            for hit, facts in zip(peeked.group.hits, peeked.facts, strict=True)
        ]

    for ask in range(2):
        with server.admin() as admin:
            admin.config_set("maxmemory", 1)
        before = remaining()
        try:
            took = int(limiter.try_acquire(keys).allowed)
        except StoreUnavailable:
            took = 0
        with server.admin() as admin:
            admin.config_set("maxmemory", 0)
        assert remaining() == [tokens - took for tokens in before], ask
        limiter.try_acquire(keys)
    store.close()


async def test_a_key_that_holds_something_else_is_an_outage_for_its_own_requests_only(
    make: Make, server: OwnValkey
) -> None:
    with server.admin() as admin:
        admin.rpush("headgate:{list}:api:tb", "x")
        admin.set("headgate:{text}:api:tb", "not a bucket")
        admin.set("headgate:{number}:api:tb", "1.5")
        admin.set("headgate:{empty}:api:tb", "")
    asker = make(server.url, timeout=PATIENT, on_outage="raise")
    for key in ("list", "text", "empty"):
        with pytest.raises(StoreUnavailable, match="answered with an error"):
            await asker(key)
        assert (await asker("sound")).source == "store"
        if asker.kind == "blocking":
            asker.blocking.reset(key)
        else:
            await asker.awaiting.reset(key)
        assert (await asker(key)).remaining == 4
    assert (await asker("number")).source == "store"


async def test_a_group_with_a_key_that_holds_something_else_spends_nothing(server: OwnValkey) -> None:
    limiter = Limiter(
        {"a": "5/day", "b": "5/day"}, name="api", store=RedisStore(server.url, timeout=PATIENT), on_outage="raise"
    )
    good = limiter.try_acquire({"a": "k", "b": "k"}, 0)
    names = [hit.name for hit in good.group.hits]
    with server.admin() as admin:
        for broken in (0, 1):
            admin.flushall()
            limiter.try_acquire({"a": "k", "b": "k"})
            keys = sorted(str(key) for key in admin.scan_iter())
            admin.delete(keys[broken])
            admin.rpush(keys[broken], "x")
            sound = admin.get(keys[1 - broken])
            with pytest.raises(StoreUnavailable):
                limiter.try_acquire({"a": "k", "b": "k"})
            assert admin.get(keys[1 - broken]) == sound, names
    limiter._store.close()


# --- what is said ---


async def test_a_warning_is_logged_once_per_change_of_state(
    make: Make, server: OwnValkey, caplog: pytest.LogCaptureFixture
) -> None:
    asker = make(server.url, timeout=PATIENT, on_outage="open")
    await asker()
    for rounds in range(1, 3):
        server.stop()
        for _ in range(4):  # too few for the breaker
            assert (await asker()).source == "fail_open"
        server.start()
        for _ in range(5):
            assert (await asker()).source == "store"
        assert len(messages(caplog)) == 2 * rounds
    down, up = messages(caplog)[:2]
    assert down.startswith(f"headgate: store {server.url}: it cannot be reached")
    assert down.endswith("limiter 'api' answers 'open' until it is back")
    assert up == "headgate: the store of limiter 'api' answers again"
    assert {record.levelname for record in caplog.records if record.name == "headgate"} == {"WARNING"}


async def test_slots_that_were_held_during_an_outage_are_released_or_expire(server: OwnValkey) -> None:
    store = RedisStore(server.url, timeout=PATIENT)
    limiter = Limiter("concurrency 1; ttl=500ms", store=store, on_outage="raise")
    with limiter.hold("k"):
        server.freeze()
        await asyncio.sleep(0.1)
        server.thaw()
    eventually(lambda: limiter.peek("k"), "the slot is free again")
    store.close()


async def test_a_store_that_forgot_a_held_slot_is_noticed(server: OwnValkey, caplog: pytest.LogCaptureFixture) -> None:
    store = RedisStore(server.url, timeout=PATIENT)
    limiter = Limiter("concurrency 1; ttl=150ms", store=store, on_outage="raise")
    with limiter.hold("k") as hold:
        server.stop()
        server.start()
        eventually(lambda: hold.is_lost, "the holder hears of its loss")
        eventually(lambda: any("was lost while held" in message for message in messages(caplog)), "it is said, too")
    store.close()
