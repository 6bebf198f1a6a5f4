"""Each test of what the frameworks share is run blocking and in an event loop, by the plan and the short way."""

from __future__ import annotations

from functools import partial

import pytest

from headgate import AsyncLimiter, Limiter
from tests.web.asking import App, MakeApp


@pytest.fixture(
    params=[(kind, is_short) for kind in (Limiter, AsyncLimiter) for is_short in (False, True)],
    ids=["blocking", "blocking-short", "asyncio", "asyncio-short"],
)
def make_app(request: pytest.FixtureRequest) -> MakeApp:
    kind, is_short = request.param
    return partial(App, kind, is_short=is_short)
