"""The processor's time of one request in this process, without a server and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from benchmarks.web.measured import Pace, Rounds, shuffled

ASGI = Callable[..., Awaitable[None]]


def addresses(*, has_many: bool) -> Iterator[str]:
    """The addresses that requests come from: one, or another for each."""
    if not has_many:
        return itertools.repeat("127.0.0.1")
    return (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number in itertools.count())


class _Receive:
    """A request without a body, from a client who stays."""

    def __init__(self) -> None:
        self._is_read = False

    async def __call__(self) -> dict[str, Any]:
        if self._is_read:
            await asyncio.get_running_loop().create_future()  # until the app has done, and does not ask any more
        self._is_read = True
        return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    assert message.get("status", 200) == 200, message


def _scope(address: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"accept", b"*/*")],
        "client": (address, 50_000),
        "server": ("127.0.0.1", 80),
    }


@contextlib.asynccontextmanager
async def _running(app: ASGI) -> AsyncIterator[None]:
    """Let an app start and end, as servers do. Sanic serves nobody before."""
    asked: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    told: asyncio.Queue[str] = asyncio.Queue()

    async def send(message: Any) -> None:
        told.put_nowait(message["type"])

    async def serve() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, asked.get, send)
        finally:
            told.put_nowait("the end")

    task = asyncio.create_task(serve())
    asked.put_nowait({"type": "lifespan.startup"})
    assert await told.get() == "lifespan.startup.complete", app
    try:
        yield
    finally:
        asked.put_nowait({"type": "lifespan.shutdown"})
        await task


def asgi(apps: Mapping[str, ASGI], pace: Pace, *, has_many_addresses: bool) -> Rounds:
    """Microseconds a request of each app takes, in each round."""
    taken: Rounds = {name: [] for name in apps}
    callers = {name: addresses(has_many=has_many_addresses) for name in apps}

    async def measure() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for app in apps.values():
                await stack.enter_async_context(_running(app))
            for _ in range(pace.rounds):
                for name in shuffled(apps):
                    app, caller = apps[name], callers[name]
                    began = time.thread_time()  # what others do with the core meanwhile does not count
                    for _ in range(pace.chunk):
                        await app(_scope(next(caller)), _Receive(), _send)
                    taken[name].append((time.thread_time() - began) / pace.chunk * 1e6)

    gc.collect()
    asyncio.run(measure())
    return taken


def _environ(address: str, path: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": address,
        "HTTP_HOST": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def wsgi(apps: Mapping[str, tuple[Any, str]], pace: Pace, *, has_many_addresses: bool) -> Rounds:
    """The same of apps of WSGI, each with the path that it is asked for."""
    taken: Rounds = {name: [] for name in apps}
    callers = {name: addresses(has_many=has_many_addresses) for name in apps}

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        assert status.startswith("200"), status

    gc.collect()
    for _ in range(pace.rounds):
        for name in shuffled(apps):
            (app, path), caller = apps[name], callers[name]
            began = time.thread_time()
            for _ in range(pace.chunk):
                answered = app(_environ(next(caller), path), start_response)
                b"".join(answered)
                getattr(answered, "close", int)()
            taken[name].append((time.thread_time() - began) / pace.chunk * 1e6)
    return taken
