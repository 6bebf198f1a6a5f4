"""Workers in several processes share a vendor's quota, and what it says; and the store may be away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import aiohttp
import pytest

from headgate import AcquireTimeout, StoreOutage
from tests.clients.calling import KINDS, calling
from tests.clients.vendors import Told, Vendor
from tests.docs.markdown import ROOT
from tests.proxy import proxy_to
from tests.servers import free_port, own_valkey


def worked(*commands: tuple[str, str, str, str, int]) -> list[Counter[str]]:
    """What processes print that work at the same time."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.clients.working", *map(str, command)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        printed = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [Counter(json.loads(text)) for text in printed]


@pytest.mark.parametrize("kinds", [("httpx", "requests"), ("httpx-async", "aiohttp")])
def test_exactly_the_limit_arrives(kinds: tuple[str, str], vendor: Vendor) -> None:
    with own_valkey() as valkey:
        told = worked(*[(kind, vendor.url, valkey.url, "fixed-window 30/day", 40) for kind in kinds])
    assert sum(told, Counter()) == {"200": 30, "fleet": 50}
    assert vendor.count == 30


def test_what_one_process_is_told_holds_for_the_others(vendor: Vendor) -> None:
    vendor.answers = [Told(429, {"Retry-After": "3600"})]
    with own_valkey() as valkey:
        assert worked(("requests", vendor.url, valkey.url, "1000/second", 1)) == [{"429": 1}]
        for kind in KINDS:
            assert worked((kind, vendor.url, valkey.url, "1000/second", 3)) == [{"fleet:blocked": 3}]
    assert vendor.count == 1


async def test_an_outage_is_answered_as_the_limiter_says(kind: str, vendor: Vendor) -> None:
    away = f"redis://127.0.0.1:{free_port()}"
    async with calling(kind, "5/second", store=away) as call:
        assert await call(vendor.url) == 200
    async with calling(kind, "5/second", store=away, on_outage="raise", timeout=0) as call:
        with pytest.raises((StoreOutage, aiohttp.ClientOSError)) as outage:
            await call(vendor.url)
        if kind == "aiohttp":  # which makes its own error of each OSError
            assert isinstance(outage.value.__cause__, StoreOutage)
        else:
            assert isinstance(outage.value, StoreOutage)
    async with calling(kind, "5/second", store=away, on_outage="closed", timeout=0) as call:
        with pytest.raises(AcquireTimeout):
            await call(vendor.url)
    assert vendor.count == 1


async def test_in_an_outage_a_process_heeds_what_it_was_told_itself(kind: str, vendor: Vendor) -> None:
    vendor.answers = [Told(429, {"Retry-After": "50"})]
    async with calling(kind, "5/second", store=f"redis://127.0.0.1:{free_port()}", timeout=1) as call:
        assert await call(vendor.url) == 429
        with pytest.raises(AcquireTimeout, match="'clients:blocked'"):
            await call(vendor.url)


@pytest.mark.parametrize("on_outage", ["open", "closed", "raise"])
async def test_an_answer_is_returned_though_the_store_has_gone_meanwhile(
    kind: str, vendor: Vendor, on_outage: Any
) -> None:
    with own_valkey() as valkey, proxy_to(valkey.port) as proxy:
        store = f"redis://127.0.0.1:{proxy.port}"
        async with calling(kind, "5/second", store=store, on_outage=on_outage, timeout=1) as call:
            assert await call(vendor.url) == 200
            vendor.answers = [Told(429, {"Retry-After": "50"})]
            vendor.on_request = proxy.refuse
            assert await call(vendor.url) == 429
