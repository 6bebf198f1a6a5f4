"""Slots are held until a response is closed or has been read to its end, whichever client it is of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
import httpx
import pytest
import requests

from headgate import AcquireTimeout, Limiter, MemoryStore
from headgate.clients.aiohttp import RateLimitMiddleware
from headgate.clients.httpx import AsyncRateLimitTransport, RateLimitTransport
from headgate.clients.requests import RateLimitAdapter
from tests.clients.calling import LOST, REFUSED, calling
from tests.clients.vendors import Told, Vendor
from tests.servers import free_port, soon

LIMIT = "concurrency 2"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def taken(store: MemoryStore) -> Callable[[], int]:
    """How many slots of the vendor are held."""
    limiter = Limiter(LIMIT, store=store)
    return lambda: 2 - limiter.peek("127.0.0.1").remaining


async def test_no_more_requests_are_under_way_than_there_are_slots(
    kind: str, vendor: Vendor, store: MemoryStore
) -> None:
    vendor.on_request = lambda: time.sleep(0.01)  # it takes its time
    async with calling(kind, [LIMIT, "1000/second"], store=store) as call:
        assert await asyncio.gather(*[call(vendor.url) for _ in range(12)]) == [200] * 12
    assert vendor.count == 12
    assert vendor.most_at_once == 2


@pytest.mark.parametrize("body", [b"here you are", b"", b"x" * 1_000_000])
@pytest.mark.parametrize("status", [200, 404])
async def test_a_slot_is_free_when_all_has_been_read(
    kind: str, vendor: Vendor, store: MemoryStore, taken: Callable[[], int], body: bytes, status: int
) -> None:
    vendor.answers = [Told(status, {}, body)]
    async with calling(kind, LIMIT, store=store) as call:
        await call(vendor.url)
        await soon(lambda: is_none(taken), "the slot is free")


async def is_none(taken: Callable[[], int]) -> bool:
    return taken() == 0


async def test_a_slot_is_free_after_a_failure_and_while_a_retry_waits(
    kind: str, vendor: Vendor, store: MemoryStore, taken: Callable[[], int]
) -> None:
    async with calling(kind, LIMIT, store=store, retries=1) as call:
        with pytest.raises((*REFUSED, *LOST)):
            await call(f"http://127.0.0.1:{free_port()}")
        assert taken() == 0
        vendor.answers = [Told(429, {"Retry-After": "0.01"})]
        assert await call(vendor.url) == 200
        await soon(lambda: is_none(taken), "the slot is free")


BODY = b"x" * 3_000_000


def test_a_stream_of_httpx_holds_its_slot(vendor: Vendor, store: MemoryStore, taken: Callable[[], int]) -> None:
    vendor.answers = [Told(200, {}, BODY)] * 3
    transport = RateLimitTransport(LIMIT, store=store, timeout=0)
    with httpx.Client(transport=transport) as client:
        with client.stream("GET", vendor.url) as first, client.stream("GET", vendor.url) as second:
            assert taken() == 2
            with pytest.raises(AcquireTimeout):
                client.get(vendor.url)
            assert len(first.read()) == len(BODY)
            assert taken() == 1
            next(second.iter_bytes())
            assert taken() == 1
        assert taken() == 0


async def test_a_stream_of_asyncio_httpx_holds_its_slot(
    vendor: Vendor, store: MemoryStore, taken: Callable[[], int]
) -> None:
    vendor.answers = [Told(200, {}, BODY)] * 2
    async with httpx.AsyncClient(transport=AsyncRateLimitTransport(LIMIT, store=store)) as client:
        async with client.stream("GET", vendor.url) as first, client.stream("GET", vendor.url):
            assert taken() == 2
            assert len(await first.aread()) == len(BODY)
            assert taken() == 1
        assert taken() == 0


def test_a_stream_of_requests_holds_its_slot(vendor: Vendor, store: MemoryStore, taken: Callable[[], int]) -> None:
    vendor.answers = [Told(200, {}, BODY)] * 2
    with requests.Session() as session:
        session.mount("http://", RateLimitAdapter(LIMIT, store=store))
        with session.get(vendor.url, stream=True) as first, session.get(vendor.url, stream=True):
            assert taken() == 2
            assert len(first.content) == len(BODY)
            assert taken() == 1
        assert taken() == 0


async def test_a_stream_of_aiohttp_holds_its_slot(vendor: Vendor, store: MemoryStore, taken: Callable[[], int]) -> None:
    vendor.answers = [Told(200, {}, BODY)] * 2
    limits = RateLimitMiddleware(LIMIT, store=store)
    async with limits, aiohttp.ClientSession(middlewares=(limits,)) as session:
        first, second = await session.get(vendor.url), await session.get(vendor.url)
        assert taken() == 2
        assert len(await first.read()) == len(BODY)
        await soon(lambda: is_one(taken), "one slot is free")
        second.close()
    assert taken() == 0


async def is_one(taken: Callable[[], int]) -> bool:
    return taken() == 1


def test_an_answer_that_was_never_a_stream_holds_nothing(store: MemoryStore, taken: Callable[[], int]) -> None:
    answering = httpx.MockTransport(lambda _: httpx.Response(200, text="ready"))
    with httpx.Client(transport=RateLimitTransport(LIMIT, answering, store=store)) as client:
        assert client.get("http://127.0.0.1").text == "ready"
        assert taken() == 0
