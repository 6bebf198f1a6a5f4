"""What clients open, they close; and what they need, they name."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.clients.calling import calling, limiter_kind
from tests.clients.vendors import Vendor
from tests.servers import OwnValkey, own_valkey, soon


async def connections(valkey: OwnValkey) -> int:
    """How many connections there are, but for ours."""
    with valkey.admin() as admin:
        return len(admin.client_list()) - 1


async def test_a_client_closes_the_store_that_it_opened(kind: str, vendor: Vendor) -> None:
    with own_valkey() as valkey:
        async with calling(kind, "5/second", store=valkey.url) as call:
            await call(vendor.url)
            assert await connections(valkey) > 0

        async def are_closed() -> bool:
            return await connections(valkey) == 0

        await soon(are_closed, "all connections are closed")


async def test_a_limiter_of_ones_own_stays_open(kind: str, vendor: Vendor) -> None:
    with own_valkey() as valkey:
        limiter: Any = limiter_kind(kind)("5/second", store=valkey.url)
        async with calling(kind, limiter) as call:
            await call(vendor.url)
        assert await connections(valkey) > 0
        if hasattr(limiter, "aclose"):
            await limiter.aclose()
        else:
            limiter.close()


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("httpx", "httpx", "httpx"),
        ("httpx2", "httpx2", "httpx2"),
        ("requests", "requests", "requests"),
        ("aiohttp", "aiohttp (3.12 or later)", "aiohttp-client"),
    ],
)
def test_a_missing_library_says_what_to_install(module: str, library: str, extra: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; import headgate.clients, headgate.clients.{module}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        f"headgate.errors.MissingExtra: {library} is not installed: pip install 'headgate[{extra}]'"
    )


def test_the_common_part_loads_no_client() -> None:
    program = "import sys, headgate.clients, headgate.clients.limits; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"httpx", "httpx2", "requests", "urllib3", "aiohttp"} & set(done.stdout.split())
