"""Name servers that say nothing, as stores see them that have to connect: each call comes back in time and says what it
was, no thread of the event loop's is taken, and all is normal when they answer again. And names of several addresses.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing

import pytest

from headgate import AsyncLimiter, Limiter, StoreOutage
from headgate.stores import Store
from headgate.stores.registry import open_store
from tests.silent_names import SilentNames
from tests.stores.told import outages_of

BRIEF = 0.1
PATIENT = 20.0
HOST = "store.example"
STORES = ["valkey_url", "cluster_url", "sentinel_url", "postgres_url", "nats_url"]


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> str:
    """Where a store is, by name."""
    found: str = request.getfixturevalue(request.param)
    return found.replace("127.0.0.1", HOST)


def opened(url: str, prefix: str, timeout: float) -> Store:
    return open_store(url, prefix=prefix, timeout=timeout, breaker=False)


def test_a_call_has_its_deadline_while_no_name_server_answers(url: str, prefix: str, silent_names: SilentNames) -> None:
    with closing(opened(url, prefix, BRIEF)) as store:
        limiter = Limiter("5/day", store=store, name="n", on_outage="raise")
        with pytest.raises(StoreOutage, match=f"the name '{HOST}' was not looked up in time: do the name servers answ"):
            limiter.try_acquire("k")
    silent_names.speak()
    with closing(opened(url, prefix, PATIENT)) as store:
        assert Limiter("5/day", store=store, name="n", on_outage="raise").try_acquire("k").remaining == 4


async def test_an_event_loop_keeps_its_threads_while_no_name_server_answers(
    url: str, prefix: str, silent_names: SilentNames
) -> None:
    async with aclosing(opened(url, prefix, BRIEF)) as store:
        limiter = AsyncLimiter("5/day", store=store, name="n", on_outage="raise")
        for _ in range(3):
            with pytest.raises(StoreOutage):
                await limiter.try_acquire("k")
    assert asyncio.get_running_loop()._default_executor is None  # type: ignore[attr-defined]  # nobody has used it
    silent_names.speak()
    async with aclosing(opened(url, prefix, PATIENT)) as store:
        limiter = AsyncLimiter("5/day", store=store, name="n", on_outage="raise")
        assert (await limiter.try_acquire("k")).remaining == 4


@pytest.mark.parametrize("addresses", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_where_one_address_of_a_name_does_not_answer_another_is_asked(
    url: str, prefix: str, silent_names: SilentNames, addresses: list[str]
) -> None:
    silent_names.addresses = addresses  # nobody listens at the second
    silent_names.speak()
    async with aclosing(opened(url, prefix, PATIENT)) as store:
        assert Limiter("5/day", store=store, name="n", on_outage="raise").try_acquire("k").remaining == 4
        limiter = AsyncLimiter("5/day", store=store, name="n", on_outage="raise")
        assert (await limiter.try_acquire("k")).remaining == 3


async def test_where_no_address_of_a_name_answers_that_is_told(
    url: str, prefix: str, silent_names: SilentNames
) -> None:
    silent_names.addresses = ["127.0.0.2", "127.0.0.3"]
    silent_names.speak()
    for said in await outages_of(opened(url, prefix, PATIENT)):
        assert "refused" in said or "127.0.0.3" in said
