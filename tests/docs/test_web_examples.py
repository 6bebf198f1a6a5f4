"""The web apps among the examples are served by real servers, and answer over HTTP as they should."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.docs.markdown import ROOT
from tests.servers import eventually, free_port, own_valkey

APPS = sorted((ROOT / "examples").glob("*_app.py"))
"""These serve for ever: `test_examples.py` leaves them out."""

UVICORN = ("-m", "uvicorn", "--app-dir", "examples", "--port", "{port}", "--log-level", "warning")
GUNICORN = ("-m", "gunicorn", "--chdir", "examples", "--bind", "127.0.0.1:{port}", "--log-level", "warning")


class Served(NamedTuple):
    """An example, what serves it, and the statuses of requests that are made in order."""

    command: tuple[str, ...]
    """The arguments of Python; `{port}` is put in."""
    requests: tuple[tuple[str, str, int], ...]
    """The method, the path and the expected status of each."""


BY_PATH = (
    ("GET", "/", 200),
    ("POST", "/login", 200),
    ("POST", "/login", 200),
    ("POST", "/login", 429),
    ("GET", "/reports/1", 200),
    ("HEAD", "/reports/2", 200),
    ("GET", "/reports/3", 429),
    ("GET", "/health", 200),
)
"""What the examples of one kind answer."""

SERVED: dict[str, Served] = {
    "fastapi_app": Served(
        (*UVICORN, "fastapi_app:app"),
        (
            ("GET", "/", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 429),
            ("GET", "/reports/1", 200),
            ("GET", "/reports/2", 200),
            ("GET", "/reports/3", 429),
            ("GET", "/admin/users", 200),
            ("GET", "/admin/users", 429),
            ("GET", "/health", 200),
        ),
    ),
    "starlette_app": Served(
        (*UVICORN, "starlette_app:app"),
        (
            ("GET", "/", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 429),
            ("GET", "/api/report", 200),
            ("HEAD", "/api/report", 200),
            ("GET", "/api/report", 429),
            ("GET", "/health", 200),
        ),
    ),
    "flask_app": Served(
        (*GUNICORN, "flask_app:app"),
        (
            ("GET", "/", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 429),
            ("GET", "/reports/1", 200),
            ("DELETE", "/reports/2", 200),
            ("GET", "/reports/3", 429),
            ("DELETE", "/reports/3", 429),
            ("GET", "/health", 200),
        ),
    ),
    "django_app": Served(
        (*GUNICORN, "django_app:application"),
        (
            ("GET", "/", 200),
            ("GET", "/search", 200),
            ("GET", "/search", 200),
            ("GET", "/search", 429),
            ("GET", "/health", 200),
        ),
    ),
    "aiohttp_app": Served(
        (
            *(
                "-W",
                "ignore:There is no current event loop:DeprecationWarning",
            ),  # aiohttp's worker, from Python 3.12 on
            *(*GUNICORN, "--worker-class", "aiohttp.GunicornWebWorker", "aiohttp_app:make_app"),
        ),
        (
            ("GET", "/", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 429),
            ("GET", "/api/report/1", 200),
            ("GET", "/api/report/2", 200),
            ("GET", "/api/report/3", 429),
            ("GET", "/health", 200),
        ),
    ),
    "litestar_app": Served(
        (*UVICORN, "litestar_app:app"),
        (
            ("GET", "/", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 200),
            ("POST", "/login", 429),
            ("GET", "/reports/1", 200),
            ("DELETE", "/reports/2", 200),
            ("GET", "/reports/3", 429),
            ("GET", "/health", 200),
        ),
    ),
    "ninja_app": Served((*GUNICORN, "ninja_app:application"), BY_PATH),
    "sanic_app": Served((*UVICORN, "sanic_app:app"), BY_PATH),
    "quart_app": Served((*UVICORN, "quart_app:app"), BY_PATH),
    "falcon_app": Served((*GUNICORN, "falcon_app:app"), BY_PATH),
    "wsgi_app": Served(
        (*GUNICORN, "wsgi_app:app"),
        (
            ("GET", "/", 200),
            ("POST", "/login", 200),
            ("POST", "/login/", 200),
            ("POST", "//login", 429),
            ("GET", "/login", 200),
            ("HEAD", "/health", 200),
        ),
    ),
}
"""By the name of the example."""


def test_each_app_is_served() -> None:
    assert {path.stem for path in APPS} == set(SERVED)


def status(port: int, method: str, path: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


def listens(port: int, server: subprocess.Popen[str]) -> bool:
    assert server.poll() is None, server.communicate()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


@pytest.mark.parametrize("store", ["memory", "server"])
@pytest.mark.parametrize("name", sorted(SERVED))
def test_an_app_answers_over_http(name: str, store: str) -> None:
    served = SERVED[name]
    with contextlib.ExitStack() as stack:
        environment = {variable: value for variable, value in os.environ.items() if variable != "REDIS_URL"}
        if store == "server":
            environment["REDIS_URL"] = stack.enter_context(own_valkey()).url
        serve(name, served, environment)


def serve(name: str, served: Served, environment: dict[str, str]) -> None:
    port = free_port()
    command = [sys.executable, "-W", "error", *(word.format(port=port) for word in served.command)]
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: listens(port, server), f"{name} listens")
        for method, path, expected in served.requests:
            answered, headers = status(port, method, path)
            assert answered == expected, f"{method} {path}"
            if expected == 429:
                assert int(headers["retry-after"]) >= 1
                assert "ratelimit" in headers
    finally:
        server.terminate()
        _, said = server.communicate(timeout=20)
    assert "Traceback" not in said, said
