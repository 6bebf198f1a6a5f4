"""A project behind real servers: gunicorn with threads and two workers, and uvicorn, over HTTP."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tests.docs.markdown import ROOT
from tests.servers import eventually, free_port

COMMANDS = {
    "gunicorn": "-m gunicorn --workers 2 --threads 4 --chdir examples --log-level warning "
    "--bind 127.0.0.1:{port} django_app:application",
    "uvicorn": "-m uvicorn --app-dir examples --log-level warning --port {port} django_app:asgi",
}


SHARED = {
    "gunicorn": "-m gunicorn --threads 4 --log-level critical --bind 127.0.0.1:{port} "
    "tests.web.django.served:application",
    "uvicorn": "-m uvicorn --log-level critical --port {port} tests.web.django.served:asgi",
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(port: int, path: str, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
    finally:
        connection.close()


@contextmanager
def served(command: str, url: str, prefix: str) -> Iterator[int]:
    port = free_port()
    environment = {**os.environ, "REDIS_URL": url, "HEADGATE_PREFIX": prefix}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    words = [sys.executable, "-W", "error", *command.format(port=port).split()]
    server = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )

    def listens() -> bool:
        assert server.poll() is None, server.communicate()[1]
        try:
            return ask(port, "/health").status in (200, 301)
        except OSError:
            return False

    try:
        eventually(listens, "the server listens")
        yield port
    finally:
        server.terminate()
        _, said = server.communicate(timeout=20)
    assert "Traceback" not in said, said


@pytest.fixture(params=list(COMMANDS))
def port(request: pytest.FixtureRequest, valkey_url: str, prefix: str) -> Iterator[int]:
    with served(COMMANDS[request.param], valkey_url, prefix) as found:
        yield found


def test_a_project_answers_as_it_should(port: int) -> None:
    home = ask(port, "/")
    assert home.status == 200
    assert home.body == b'{"remaining": 99}'
    assert ";r=99;" in home.headers["ratelimit"]
    assert [ask(port, "/login?password=open%20sesame").status for _ in range(4)] == [200] * 4
    assert [ask(port, "/login").status for _ in range(3)] == [401, 401, 429]
    assert ask(port, "/nowhere").status == 404
    assert ";r=97;" in ask(port, "/").headers["ratelimit"]
    assert "ratelimit" not in ask(port, "/health").headers


def test_64_clients_pass_exactly_what_the_limit_has(port: int) -> None:
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda _: ask(port, "/search"), range(64)))
    assert Counter(answer.status for answer in answers) == {200: 2, 429: 62}
    denied = next(answer for answer in answers if answer.status == 429)
    assert int(denied.headers["retry-after"]) >= 1
    assert denied.headers["cache-control"] == "no-store"


def test_a_head_of_a_denial_has_no_body(port: int) -> None:
    for _ in range(2):
        ask(port, "/search", "HEAD")
    denied = ask(port, "/search", "HEAD")
    assert (denied.status, denied.body) == (429, b"")
    assert "ratelimit" in denied.headers


@pytest.mark.parametrize(("server", "path"), [("gunicorn", "/endless/"), ("uvicorn", "/endless/async/")])
def test_a_client_that_goes_away_leaves_no_slot_behind(server: str, path: str, valkey_url: str, prefix: str) -> None:
    with served(SHARED[server], valkey_url, prefix) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            assert begin(connection, path) == b"HTTP/1.1 200"
            with socket.create_connection(("127.0.0.1", port), timeout=20) as other:
                assert begin(other, path) == b"HTTP/1.1 429"
        for _ in range(3):
            eventually(lambda: is_free(port, path), "the slot is free again")


def begin(connection: socket.socket, path: str) -> bytes:
    """Ask for something endless; returns how the answer begins."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection.recv(12)


def is_free(port: int, path: str) -> bool:
    """Is the slot free? This takes it for an instant, and goes away."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        return begin(connection, path) == b"HTTP/1.1 200"
