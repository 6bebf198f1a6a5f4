"""A real server of gRPC on 127.0.0.1 with all four kinds of methods, blocking or in an event loop, and a client."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import pytest

from headgate.grpc import RateLimitInterceptor
from headgate.grpc import aio as grpc_aio
from tests.servers import eventually

KINDS = ("blocking", "asyncio", "threads")
"""A blocking server; one of asyncio; and one of asyncio whose handlers are blocking."""
PATIENCE = 20
GRPC_LEAVES_A_COROUTINE = pytest.mark.filterwarnings("ignore:coroutine 'Queue.put' was never awaited:RuntimeWarning")
"""Of a blocking stream that has ended early, gRPC puts the last message on a queue that may have no loop any more."""


class Service:
    """What handlers and tests tell each other."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        """Opens for the handlers of `wait`."""
        self.started = 0
        """How many handlers have been called."""
        self.stopped = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            self.started += 1

    def stop(self) -> None:
        with self._lock:
            self.stopped += 1

    async def opened(self) -> None:
        while not self.gate.is_set():  # noqa: ASYNC110  # an event of threads, since a test opens it
            await asyncio.sleep(0.005)


def blocking_handlers(service: Service) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    def act(request: bytes, context: Any) -> None:
        service.start()
        if request == b"wait":
            assert service.gate.wait(PATIENCE)
        elif request == b"fail":
            raise RuntimeError("so it is")
        elif request == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        elif request == b"mark":
            context.set_trailing_metadata((("mark", "12"), ("ratelimit-policy", "mine")))

    def one(request: bytes, context: Any) -> bytes:
        try:
            act(request, context)
            return request
        finally:
            service.stop()

    def out(request: bytes, context: Any) -> Iterator[bytes]:
        try:
            yield b"first"
            act(request, context)
            while request == b"flow":
                yield b"more"
            yield b"last"
        finally:
            service.stop()

    def into(requests: Iterator[bytes], context: Any) -> bytes:
        try:
            got = []
            for request in requests:
                act(request, context)
                got.append(request)
            return b"+".join(got)
        finally:
            service.stop()

    def both(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        try:
            for request in requests:
                act(request, context)
                yield request
        finally:
            service.stop()

    return {
        "One": grpc.unary_unary_rpc_method_handler(one),
        "Out": grpc.unary_stream_rpc_method_handler(out),
        "In": grpc.stream_unary_rpc_method_handler(into),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    }


def async_handlers(service: Service) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    async def act(request: bytes, context: Any) -> None:
        service.start()
        if request == b"wait":
            await service.opened()
        elif request == b"fail":
            raise RuntimeError("so it is")
        elif request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        elif request == b"mark":
            context.set_trailing_metadata((("mark", "12"), ("ratelimit-policy", "mine")))

    async def one(request: bytes, context: Any) -> bytes:
        try:
            await act(request, context)
            return request
        finally:
            service.stop()

    async def out(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await act(request, context)
            while request == b"flow":
                yield b"more"
            yield b"last"
        finally:
            service.stop()

    async def into(requests: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            got = []
            async for request in requests:
                await act(request, context)
                got.append(request)
            return b"+".join(got)
        finally:
            service.stop()

    async def both(requests: AsyncIterator[bytes], context: Any) -> None:
        try:
            async for request in requests:
                await act(request, context)
                await context.write(request)
        finally:
            service.stop()

    make: Any = grpc
    return {
        "One": make.unary_unary_rpc_method_handler(one),
        "Out": make.unary_stream_rpc_method_handler(out),
        "In": make.stream_unary_rpc_method_handler(into),
        "Both": make.stream_stream_rpc_method_handler(both),
    }


class Answer(NamedTuple):
    """The end of a call."""

    code: grpc.StatusCode
    details: str
    messages: tuple[bytes, ...]
    metadata: dict[str, Any]
    """The trailing metadata."""


class Served:
    """A server, and a client of it."""

    def __init__(self, limits: Any, service: Service, target: str) -> None:
        self.limits = limits
        self.service = service
        self.target = target
        self.channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])

    def start(
        self, method: str, *requests: bytes | Iterable[bytes], channel: Any = None, metadata: Any = (), **options: Any
    ) -> Any:
        """Begin a call."""
        name = method if method.startswith("/") else f"/test.Echo/{method}"
        kind = name.rpartition("/")[2]
        channel = channel or self.channel
        options |= {"metadata": tuple(metadata), "timeout": options.get("timeout", PATIENCE)}
        if kind == "Out":
            return channel.unary_stream(name)(requests[0], **options)
        if kind == "In":
            return channel.stream_unary(name).future(iter(requests), **options)
        if kind == "Both":
            sent = requests[0] if requests and not isinstance(requests[0], bytes) else iter(requests)
            return channel.stream_stream(name)(sent, **options)
        return channel.unary_unary(name).future(requests[0] if requests else b"", **options)

    def call(self, method: str, *requests: bytes, **options: Any) -> Answer:
        """Make a call."""
        is_unary = method not in ("Out", "Both")
        return self.end(self.start(method, *requests, **options), is_unary=is_unary)

    def end(self, call: Any, *, is_unary: bool) -> Answer:
        """Wait for the end of a call."""
        messages: list[bytes] = []
        with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
            if is_unary:
                messages = [call.result()]
            else:
                for message in call:
                    messages.append(message)  # those before an error are kept
        code = call.code()
        return Answer(code, call.details(), tuple(messages), {pair[0]: pair[1] for pair in call.trailing_metadata()})

    def codes(self, number: int, method: str = "One", *requests: bytes, **options: Any) -> list[str]:
        """The statuses of so many calls."""
        return [self.call(method, *(requests or (b"hello",)), **options).code.name for _ in range(number)]


Serve = Callable[..., Served]


@contextlib.contextmanager
def serving(kind: str, *rules: Any, address: str = "127.0.0.1:0", **options: Any) -> Iterator[Served]:
    """A server of a kind behind limits."""
    service = Service()
    make: Any = RateLimitInterceptor if kind == "blocking" else grpc_aio.RateLimitInterceptor
    limits = make(*rules, **options)
    run = _blocking if kind == "blocking" else _in_loop
    handlers = (async_handlers if kind == "asyncio" else blocking_handlers)(service)
    with run(limits, handlers, address) as target:
        served = Served(limits, service, target)
        try:
            yield served
        finally:
            service.gate.set()
            served.channel.close()


@contextlib.contextmanager
def _blocking(limits: Any, handlers: Any, address: str) -> Iterator[str]:
    with ThreadPoolExecutor(32) as pool:
        server = grpc.server(pool, interceptors=[limits])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
        port = server.add_insecure_port(address)
        server.start()
        try:
            yield _target(address, port)
        finally:
            server.stop(0).wait(PATIENCE)
            limits.close()


@contextlib.contextmanager
def _in_loop(limits: Any, handlers: Any, address: str) -> Iterator[str]:
    found: list[Any] = []

    async def main() -> None:
        server = grpc.aio.server(interceptors=[limits], migration_thread_pool=ThreadPoolExecutor(32))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
        port = server.add_insecure_port(address)
        await server.start()
        stop = asyncio.Event()
        found.extend((port, asyncio.get_running_loop(), stop))
        await stop.wait()
        await server.stop(0)
        await limits.aclose()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    eventually(lambda: len(found) == 3, "the server has started")
    port, loop, stop = found
    try:
        yield _target(address, port)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)


def _target(address: str, port: int) -> str:
    return address if address.startswith("unix:") else address.rpartition(":")[0] + f":{port}"
