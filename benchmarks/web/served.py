"""Requests to apps under their servers: uvicorn, and aiohttp's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.web.measured import Pace, Rounds, shuffled

REQUEST: Final = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n"


@contextlib.contextmanager
def served(app: str, store: str | None, server: str = "uvicorn") -> Iterator[int]:
    """The port of an app of `benchmarks.web.apps` in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    if store is not None:
        environment["REDIS_URL"] = store
    options = f"--factory --log-level error --no-access-log --http h11 --loop asyncio --port {port}".split()
    command = [sys.executable, "-m", "uvicorn", *options, f"benchmarks.web.apps:{app}"]
    if server == "aiohttp":
        run = f"web.run_app(apps.{app}(), host='127.0.0.1', port={port}, access_log=None, print=None)"
        command = [sys.executable, "-c", f"from aiohttp import web\nfrom benchmarks.web import apps\n{run}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{app} did not start") from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def _client(port: int, requests: int) -> None:
    """Sends requests over one connection, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(requests):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
    finally:
        writer.close()
        await writer.wait_closed()


def _one_client(port: int, requests: int) -> None:
    """The same, blocking, with as little work of our own as can be."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            connection.sendall(REQUEST)
            told = connection.recv(65_536)
            while not told.endswith(b"}"):
                told += connection.recv(65_536)
            assert told.startswith(b"HTTP/1.1 200"), told


def one_client(framework: str, names: Sequence[str], pace: Pace, server: str = "uvicorn") -> Rounds:
    """Microseconds a request of one client takes in each round, with the store in memory."""
    taken: Rounds = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(served(f"{framework}_{name}", None, server)) for name in names}
        for _ in range(pace.rounds):
            for name in shuffled(ports):
                began = time.perf_counter()
                _one_client(ports[name], pace.chunk)
                taken[name].append((time.perf_counter() - began) / pace.chunk * 1e6)
    return taken


def many_clients(framework: str, names: Sequence[str], pace: Pace, clients: int, store: str) -> Rounds:
    """Requests a second of so many clients in each round."""
    taken: Rounds = {name: [] for name in names}

    async def crowd(port: int) -> None:
        await asyncio.gather(*(_client(port, pace.chunk // clients) for _ in range(clients)))

    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(served(f"{framework}_{name}", store)) for name in names}
        for _ in range(pace.rounds):
            for name in shuffled(ports):
                began = time.perf_counter()
                asyncio.run(crowd(ports[name]))
                taken[name].append(pace.chunk / (time.perf_counter() - began))
    return taken
