"""Clients wait for their turn, and heed what their vendor says: each in the same way."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from headgate import AcquireTimeout, AsyncLimiter, CostExceedsCapacity, InvalidUse, Limiter, ManualClock, MemoryStore
from tests.clients.calling import ASYNC, LOST, MAKERS, REFUSED, calling, limiter_kind
from tests.clients.vendors import Told, Vendor
from tests.servers import free_port, soon

HOST = "127.0.0.1"


@contextmanager
def taking(clock: ManualClock, seconds: float, jitter_us: int = 0) -> Iterator[None]:
    """It takes so long, by the clock of the test; who waits for a window comes a little later."""
    started_us = clock()
    yield
    assert 0 <= clock() - started_us - seconds * 1_000_000 <= jitter_us


def spent(kind: str, limit: str, key: str = HOST, **options: Any) -> int:
    """The tokens of a limit that are gone."""
    limiter = Limiter(limit, **options)
    return next(iter(limiter.limits.values())).capacity - limiter.peek(key).remaining


async def test_requests_go_when_it_is_their_turn(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    async with calling(kind, "2/second; burst=1") as call:
        with taking(clock, 1):
            assert [await call(vendor.url) for _ in range(3)] == [200, 200, 200]
    assert vendor.count == 3


async def test_several_limits_hold_at_once(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    async with calling(kind, ["2/second; burst=1", "fixed-window 3/hour"], timeout=1) as call:
        with taking(clock, 1, jitter_us=2 * 50_000):
            for _ in range(3):
                await call(vendor.url)
        with pytest.raises(AcquireTimeout):
            await call(vendor.url)
    assert vendor.count == 3


@pytest.mark.parametrize("key", [None, "mine", {"requests": "a", "tokens": "b"}])
async def test_requests_and_tokens_are_taken_together(kind: str, vendor: Vendor, clock: ManualClock, key: Any) -> None:
    limits = {"requests": "60/minute; burst=60", "tokens": "600/minute"}

    def cost(_: Any) -> dict[str, int]:
        return {"requests": 1, "tokens": 300}

    async with calling(kind, limits, cost=cost, **({} if key is None else {"key": key})) as call:
        with taking(clock, 30, jitter_us=3 * 50_000):
            assert [await call(vendor.url) for _ in range(3)] == [200, 200, 200]
    assert vendor.count == 3


async def test_a_turn_that_comes_too_late_is_an_error_and_nothing_is_sent(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    async with calling(kind, "1/10s", timeout=9) as call:
        await call(vendor.url)
        with (
            taking(clock, 0),
            pytest.raises(AcquireTimeout, match=r"10\.000000 s, later than the timeout of 9 s") as late,
        ):
            await call(vendor.url)
        assert late.value.decision.retry_after == 10
        clock.advance(1)
        with taking(clock, 9):
            await call(vendor.url)
    assert vendor.count == 2


async def test_a_share_is_the_hosts(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    async with calling(kind, "1/hour", timeout=0) as call:
        await call(vendor.url)
        await call(vendor.url.replace("127.0.0.1", "localhost"))
        with pytest.raises(AcquireTimeout) as late:
            await call(vendor.url + "/other")
    assert late.value.decision.key == HOST


async def test_the_key_and_the_cost_may_be_functions_of_the_request(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    def path(request: Any) -> str | None:
        last = str(request.url).rsplit("/", 1)[-1]
        return None if last == "free" else last

    def size(request: Any) -> int:
        return int(request.headers["Content-Length"])

    async with calling(kind, "10/hour", key=path, cost=size, timeout=0) as call:
        for name in ("a", "b"):
            await call(f"{vendor.url}/{name}", "POST", b"1234567")
            with pytest.raises(AcquireTimeout) as late:
                await call(f"{vendor.url}/{name}", "POST", b"1234")
            assert (late.value.decision.key, late.value.decision.cost) == (name, 4)
            await call(f"{vendor.url}/{name}", "POST", b"123")
        with pytest.raises(CostExceedsCapacity):
            await call(f"{vendor.url}/a", "POST", b"12345678901")
        for _ in range(3):
            await call(f"{vendor.url}/free", "POST", b"1234567")


@pytest.mark.parametrize("kind", ASYNC)
async def test_functions_of_asyncio_clients_may_be_async(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    async def key(request: Any) -> str:
        await asyncio.sleep(0)
        return "all"

    async def cost(request: Any) -> int:
        await asyncio.sleep(0)
        return 3

    async with calling(kind, "5/hour", key=key, cost=cost, timeout=0) as call:
        await call(vendor.url)
        with pytest.raises(AcquireTimeout) as late:
            await call(vendor.url)
    assert (late.value.decision.key, late.value.decision.cost) == ("all", 3)


async def test_a_limiter_of_ones_own_may_have_tiers_and_stays_open(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    limiter = limiter_kind(kind)({"account": "2/hour", "host": "5/hour"}, name="vendor")
    async with calling(kind, limiter, key=lambda _: {"account": "a" * 500, "host": "h"}, timeout=0) as call:
        vendor.answers = [Told(), Told(429, {"Retry-After": "7"})]
        await call(vendor.url)
        assert await call(vendor.url) == 429
        with pytest.raises(AcquireTimeout):
            await call(vendor.url)
        await maybe(limiter.reset({"account": "a" * 500, "host": "h"}))
        with pytest.raises(AcquireTimeout, match="'clients:blocked'") as blocked:
            await call(vendor.url)
        assert blocked.value.decision.retry_after == 7


async def maybe(result: Any) -> Any:
    return await result if asyncio.iscoroutine(result) else result


async def test_a_redirect_is_a_request_of_its_own(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    vendor.answers = [Told(302, {"Location": "/there"})]
    async with calling(kind, "2/second; burst=1") as call:
        with taking(clock, 0.5):
            assert await call(vendor.url) == 200
    assert [one.path for one in vendor.seen] == ["/", "/there"]


async def test_what_a_vendor_says_keeps_all_away_who_share_the_store(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    vendor.answers = [Told(429, {"Retry-After": "7"}, b"not now")]
    async with calling(kind, "100/second") as told, calling("httpx-async", "5/second", timeout=8) as other:
        assert await told(vendor.url) == 429
        with taking(clock, 7):
            assert await other(vendor.url) == 200
        with taking(clock, 0):
            assert await told(vendor.url) == 200


async def test_only_the_key_is_kept_away(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    vendor.answers = [Told(503, {"Retry-After": "7"})]
    async with calling(kind, "100/second") as call:
        await call(vendor.url)
        with taking(clock, 0):
            assert await call(vendor.url.replace("127.0.0.1", "localhost")) == 200


async def test_who_cannot_wait_for_so_long_is_told_at_once_and_spends_nothing(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    vendor.answers = [Told(429, {"Retry-After": "7"})]
    async with calling(kind, "3/hour", timeout=6) as call:
        await call(vendor.url)
        for _ in range(5):
            with (
                taking(clock, 0),
                pytest.raises(AcquireTimeout, match=r"'clients:blocked' would admit .* in 7\."),
            ):
                await call(vendor.url)
        clock.advance(2)
        with taking(clock, 5):
            await call(vendor.url)
        await call(vendor.url)
    assert vendor.count == 3


async def test_a_success_that_was_the_last_one_keeps_all_away_too(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    vendor.answers = [Told(200, {"RateLimit": '"api";r=0;t=30'}), Told(200, {"RateLimit": '"api";r=1;t=30'})]
    async with calling(kind, "100/second") as call:
        await call(vendor.url)
        with taking(clock, 30):
            await call(vendor.url)
        with taking(clock, 0):
            await call(vendor.url)


async def test_of_two_blocks_the_later_end_counts(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    vendor.answers = [Told(429, {"Retry-After": seconds}) for seconds in ("30", "40", "10")]
    entered = 0

    async with calling(kind, "100/second") as call:

        async def enter() -> None:
            nonlocal entered
            entered += 1
            await call(vendor.url)

        # All three are on their way before the first is answered.
        vendor.hold_until = 3
        await asyncio.gather(*[enter() for _ in range(3)])
        with taking(clock, 40):
            assert await call(vendor.url) == 200


async def test_no_answer_keeps_all_away_for_longer_than_it_may(
    kind: str, vendor: Vendor, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    vendor.answers = [Told(429, {"Retry-After": "99999999"}), Told(), Told(429, {"Retry-After": "9" * 400})]
    async with calling(kind, "100/second", longest_block=20) as call:
        await call(vendor.url)
        with taking(clock, 20):
            await call(vendor.url)
        await call(vendor.url)
        with taking(clock, 0):
            await call(vendor.url)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [
        "headgate: an answer says to stay away from '127.0.0.1' for 99999999 s; longest_block makes that 20 s"
    ]


async def test_answers_need_not_be_heeded(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    vendor.answers = [Told(429, {"Retry-After": "7"}), Told(), Told(418, {"Come-Back": "in 9"})]
    async with calling(kind, "100/second", heed=False) as call:
        with taking(clock, 0):
            assert [await call(vendor.url) for _ in range(2)] == [429, 200]

    def own(answer: Any) -> float | None:
        return float(answer.headers["Come-Back"][3:]) if answer.status == 418 else None

    async with calling(kind, "100/second", heed=own) as call:
        await call(vendor.url)
        with taking(clock, 9):
            await call(vendor.url)


async def test_a_refused_request_is_sent_again_where_that_is_wished(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    vendor.answers = [Told(429, {"Retry-After": "7"}), Told(503, {"Retry-After": "3"})]
    async with calling(kind, "100/second", retries=2) as call:
        with taking(clock, 10):
            assert await call(vendor.url, "POST", b"one and the same") == 200
    assert [one.body for one in vendor.seen] == [b"one and the same"] * 3


@pytest.mark.parametrize("heed", [True, False])
async def test_where_no_time_is_said_retries_come_later_and_later_and_others_go_on(
    kind: str, vendor: Vendor, clock: ManualClock, heed: bool
) -> None:
    vendor.answers = [Told(429)] * 3
    async with calling(kind, "100/second", retries=2, heed=heed) as call:
        with taking(clock, 3):
            assert await call(vendor.url) == 429
    assert vendor.count == 3


async def test_a_retry_waits_for_what_is_said_even_if_others_do_not_heed_it(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    vendor.answers = [Told(429, {"Retry-After": "7"})]
    async with calling(kind, "100/second", retries=1, heed=False) as call:
        with taking(clock, 7):
            assert await call(vendor.url) == 200


async def test_each_retry_takes_its_cost(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    vendor.answers = [Told(429, {"Retry-After": "1"})]
    async with calling(kind, "fixed-window 2/day", retries=1, timeout=5) as call:
        assert await call(vendor.url) == 200
        with pytest.raises(AcquireTimeout):
            await call(vendor.url)


async def test_an_answer_is_returned_where_a_retry_would_wait_too_long(
    kind: str, vendor: Vendor, clock: ManualClock
) -> None:
    vendor.answers = [Told(429, {"Retry-After": "7"}), Told(429, {"Retry-After": "7"})]
    async with calling(kind, "100/second", retries=5, timeout=10) as call:
        with taking(clock, 7):
            assert await call(vendor.url) == 429
    assert vendor.count == 2


async def test_other_failures_are_not_retried(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    vendor.answers = [Told(500), Told(403, {"Retry-After": "7"})]
    async with calling(kind, "100/second", retries=3) as call:
        assert [await call(vendor.url) for _ in range(2)] == [500, 403]
    assert vendor.count == 2


async def test_a_stream_cannot_be_sent_again(kind: str, vendor: Vendor, clock: ManualClock) -> None:
    vendor.answers = [Told(429, {"Retry-After": "7"})]

    def pieces() -> Iterator[bytes]:
        yield b"piece"

    async def async_pieces() -> Any:
        yield b"piece"

    async with calling(kind, "100/second", retries=3) as call:
        assert await call(vendor.url, "POST", async_pieces() if kind in ASYNC else pieces()) == 429
    assert vendor.count == 1


async def test_a_request_that_found_no_connection_costs_nothing(kind: str, clock: ManualClock) -> None:
    async with calling(kind, "2/hour", timeout=0) as call:
        for _ in range(5):
            with pytest.raises(REFUSED):
                await call(f"http://127.0.0.1:{free_port()}")
    assert spent(kind, "2/hour") == 0


async def test_a_request_that_may_have_arrived_counts(kind: str, clock: ManualClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.close()

        async with calling(kind, "2/hour", timeout=0) as call:
            hanging_up = asyncio.create_task(asyncio.to_thread(hang_up))
            with pytest.raises(LOST):
                await call(f"http://127.0.0.1:{listener.getsockname()[1]}", "POST")
            await hanging_up
    assert spent(kind, "2/hour") == 1


async def in_queue(limiter: Limiter) -> bool:
    return limiter.peek(HOST).retry_after > 3600


@pytest.mark.parametrize("kind", ASYNC)
async def test_who_is_cancelled_while_waiting_for_a_turn_gives_the_tokens_back(kind: str, vendor: Vendor) -> None:
    store = MemoryStore(ManualClock())
    async with calling(kind, "1/hour", store=store) as call:
        await call(vendor.url)
        waiting = asyncio.create_task(call(vendor.url))
        limiter = Limiter("1/hour", store=store)
        await soon(lambda: in_queue(limiter), "it waits in the queue")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert limiter.peek(HOST).retry_after == 3600
    assert vendor.count == 1


@pytest.mark.parametrize("kind", ASYNC)
async def test_who_is_cancelled_while_kept_away_has_spent_nothing(kind: str, vendor: Vendor) -> None:
    store = MemoryStore(ManualClock())
    vendor.answers = [Told(429, {"Retry-After": "50"})]
    async with calling(kind, "5/hour", store=store) as call:
        await call(vendor.url)
        waiting = [asyncio.create_task(call(vendor.url)) for _ in range(4)]
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        assert all(isinstance(ended, asyncio.CancelledError) for ended in await gathered(waiting))
    assert spent(kind, "5/hour", store=store) == 1
    assert vendor.count == 1


async def gathered(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_does_not_fit_is_refused_at_once(kind: str) -> None:
    make, own = MAKERS[kind], limiter_kind(kind)
    other = Limiter if own is AsyncLimiter else AsyncLimiter
    with pytest.raises(InvalidUse, match=f"asks by a {own.__name__}, not by a {other.__name__}"):
        make(other("5/second"))
    for options in ({"store": "memory://"}, {"on_outage": "closed"}, {"instances": 2}):
        with pytest.raises(InvalidUse, match="said where the limiter is made"):
            make(own("5/second"), **options)
    for retries in (-1, 1.5, True):
        with pytest.raises(InvalidUse, match="retries is an integer of at least 0"):
            make("5/second", retries=retries)
    with pytest.raises(InvalidUse, match="longest_block is a number of seconds above 0"):
        make("5/second", longest_block=0)
    with pytest.raises(InvalidUse, match="a timeout is a number of seconds"):
        make("5/second", timeout=-1)

    async def later(_: Any) -> Any: ...

    with pytest.raises(InvalidUse, match="heed is async"):
        make("5/second", heed=later)
    if own is Limiter:
        with pytest.raises(InvalidUse, match="key is async"):
            make("5/second", key=later)
        with pytest.raises(InvalidUse, match="cost is async"):
            make("5/second", cost=later)
