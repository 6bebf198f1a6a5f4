"""Each test of gRPC is run with a blocking server, with one of asyncio, and with one that has blocking handlers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import pytest

from headgate import ManualClock
from tests.grpc.serving import KINDS, Serve, serving


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def serve(kind: str) -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:
        yield lambda *rules, **options: stack.enter_context(partial(serving, kind)(*rules, **options))
