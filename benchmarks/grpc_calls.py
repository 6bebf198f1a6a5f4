"""What limits add to a unary call of gRPC: `python -m benchmarks.grpc_calls [CALLS]`.

Two servers of a kind, one without limits and one behind a limit in memory that admits all, are called in turn by one
client, in rounds: both meet the same machine. The client is a process of its own.
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

from headgate.grpc import RateLimitInterceptor
from headgate.grpc import aio as grpc_aio

ROUND = 50
WARM_UP = 10
"""The first rounds, which do not count."""
LIMIT = "1_000_000_000/hour"


def handlers(echo: Any) -> Any:
    methods: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    return (grpc.method_handlers_generic_handler("bench.Echo", methods),)


def blocking() -> None:
    ports = []
    servers = []  # one that nobody has ends
    several: tuple[list[Any], ...] = ([], [RateLimitInterceptor(LIMIT)])
    for interceptors in several:
        server = grpc.server(ThreadPoolExecutor(4), interceptors=interceptors)
        server.add_generic_rpc_handlers(handlers(lambda request, _: request))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        server.start()
        servers.append(server)
    print(*ports, flush=True)
    sys.stdin.read()


async def in_loop() -> None:
    async def echo(request: bytes, _: Any) -> bytes:
        return request

    ports = []
    servers = []
    for interceptors in ([], [grpc_aio.RateLimitInterceptor(LIMIT)]):
        server = grpc.aio.server(interceptors=interceptors)
        server.add_generic_rpc_handlers(handlers(echo))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    print(*ports, flush=True)
    await asyncio.to_thread(sys.stdin.read)


def measure(kind: str, calls: int) -> None:
    command = [sys.executable, "-m", "benchmarks.grpc_calls", "serve", kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for port in server.stdout.readline().split()]
        methods: list[Any] = [channel.unary_unary("/bench.Echo/Echo") for channel in channels]
        took: list[list[float]] = [[], []]
        added = []
        for number in range(WARM_UP + calls // ROUND):
            of_round: list[float] = [0.0, 0.0]
            for which in (0, 1) if number % 2 else (1, 0):
                times = []
                for _ in range(ROUND):
                    started = time.perf_counter()
                    methods[which](b"hello")
                    times.append(time.perf_counter() - started)
                of_round[which] = statistics.median(times)
            if number >= WARM_UP:
                for which in (0, 1):
                    took[which].append(of_round[which])
                added.append(of_round[1] - of_round[0])
        for channel in channels:
            channel.close()
        server.terminate()
    bare, limited = (statistics.median(one) * 1e6 for one in took)
    print(f"{kind}: bare {bare:.0f} µs, limited {limited:.0f} µs, added {statistics.median(added) * 1e6:.0f} µs a call")


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        if sys.argv[2] == "blocking":
            blocking()
        else:
            asyncio.run(in_loop())
        return
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for kind in ("blocking", "asyncio"):
        measure(kind, calls)


if __name__ == "__main__":
    main()
