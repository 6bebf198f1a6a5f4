"""Unary calls of gRPC: servers of a kind, one without limits and one behind a limit in memory that admits all, in one
process of their own. No limiter is usual there.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.web.apps import LIMIT
from benchmarks.web.measured import BARE, OURS, Pace, Rounds, shuffled
from headgate.grpc import RateLimitInterceptor
from headgate.grpc import aio as grpc_aio


def _handlers(echo: Any) -> Any:
    methods: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    return (grpc.method_handlers_generic_handler("bench.Echo", methods),)


def _serve_blocking() -> None:
    ports = []
    servers = []  # one that nobody has ends
    several: tuple[list[Any], ...] = ([], [RateLimitInterceptor(LIMIT)])
    for interceptors in several:
        server = grpc.server(ThreadPoolExecutor(4), interceptors=interceptors)
        server.add_generic_rpc_handlers(_handlers(lambda request, _: request))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        server.start()
        servers.append(server)
    print(*ports, flush=True)
    sys.stdin.read()


async def _serve_in_loop() -> None:
    async def echo(request: bytes, _: Any) -> bytes:
        return request

    ports = []
    servers = []
    for interceptors in ([], [grpc_aio.RateLimitInterceptor(LIMIT)]):
        server = grpc.aio.server(interceptors=interceptors)
        server.add_generic_rpc_handlers(_handlers(echo))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    print(*ports, flush=True)
    await asyncio.to_thread(sys.stdin.read)


def rounds(kind: str, pace: Pace) -> Rounds:
    """The median of the microseconds that calls take in each round; `blocking` and `asyncio` are kinds of servers."""
    command = [sys.executable, "-m", "benchmarks.web.grpc_calls", kind]
    taken: Rounds = {BARE: [], OURS: []}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ports = server.stdout.readline().split()
        channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for port in ports]
        methods: list[Any] = [channel.unary_unary("/bench.Echo/Echo") for channel in channels]
        by_name = dict(zip(taken, methods, strict=True))
        for _ in range(pace.rounds):
            for name in shuffled(taken):
                call, times = by_name[name], []
                for _ in range(pace.chunk):
                    began = time.perf_counter()
                    call(b"hello")
                    times.append(time.perf_counter() - began)
                taken[name].append(statistics.median(times) * 1e6)
        for channel in channels:
            channel.close()
        server.terminate()
    return taken


if __name__ == "__main__":
    if sys.argv[1] == "blocking":
        _serve_blocking()
    else:
        asyncio.run(_serve_in_loop())
