"""Each test of what the frameworks share is run blocking and in an event loop."""

from __future__ import annotations

from functools import partial

import pytest

from headgate import AsyncLimiter, Limiter
from tests.web.asking import App, MakeApp


@pytest.fixture(params=[Limiter, AsyncLimiter], ids=["blocking", "asyncio"])
def make_app(request: pytest.FixtureRequest) -> MakeApp:
    return partial(App, request.param)
