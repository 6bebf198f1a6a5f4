"""Real servers of each framework, and callers who ask them over connections that are kept."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from headgate.web.switch import VARIABLE as SWITCH
from tests.servers import PATIENCE, OwnValkey, eventually, free_port, own_valkey
from tests.web.behaviours.description import HEADERS, STORE

ROOT: Final = Path(__file__).parents[3]
UVICORN: Final = "-m uvicorn --no-proxy-headers --log-level critical --port {port} --workers {workers} {app}"
GUNICORN: Final = (
    "-m gunicorn --threads 16 --keep-alive 60 --log-level critical --bind 127.0.0.1:{port} --workers {workers} {app}"
)
GUNICORN_AIOHTTP: Final = GUNICORN.replace("{app}", "--worker-class aiohttp.GunicornWebWorker {app}")
FRAMEWORKS: Final[dict[str, tuple[str, str]]] = {
    "ASGI": (UVICORN, "asgi:app"),
    "Starlette": (UVICORN, "starlette:app"),
    "FastAPI": (UVICORN, "fastapi:app"),
    "WSGI": (GUNICORN, "wsgi:app"),
    "Flask": (GUNICORN, "flask:app"),
    "Django": (GUNICORN, "django:app"),
    "Django, async": (UVICORN, "django:asgi"),
    "DRF": (GUNICORN, "drf:app"),
    "aiohttp": (GUNICORN_AIOHTTP, "aiohttp:app"),
    "Litestar": (UVICORN, "litestar:app"),
    "Ninja": (GUNICORN, "ninja:app"),
    "Ninja, async": (UVICORN, "ninja:asgi"),
    "Quart": (UVICORN, "quart:app"),
    "Sanic": (UVICORN, "sanic:app"),
    "Falcon": (GUNICORN, "falcon:app"),
    "Falcon, async": (UVICORN, "falcon:asgi"),
}
"""The command that serves each framework, and its app."""

Place = Literal["memory", "shared", "draft-7", "off", "outage"]
"""Which server a behaviour needs: one with its state in memory; one of two workers that share theirs on a server; one
with headers of another style; one whose limits are switched off; or one whose store is gone."""

_names = itertools.count(1)


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    """By their names in lower case; those that come twice with commas between them."""
    body: bytes

    @property
    def left(self) -> int:
        """What is left of the limit that binds, as the old headers say."""
        return int(self.headers["x-ratelimit-remaining"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Somebody with shares of their own, who keeps a connection. Used by one thread at a time."""

    def __init__(self, port: int, name: str | None) -> None:
        self.port = port
        self.name = name
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def ask(self, path: str, method: str = "GET", /, **headers: str) -> Answer:
        """Ask once.

        :param headers: with underscores for hyphens.
        """
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(method, path, given)

    def send(self, method: str, path: str, headers: Mapping[str, str | bytes]) -> Answer:
        """Ask once, with headers as they are."""
        named: dict[str, str | bytes] = {} if self.name is None else {"X-Caller": self.name}
        try:
            self._connection.request(method, path, headers={**named, **headers})
            response = self._connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):  # the server has closed it meanwhile
            self._connection.close()
            self._connection.request(method, path, headers={**named, **headers})
            response = self._connection.getresponse()
        found: dict[str, str] = {}
        body = response.read()
        if response.status == 500:  # some servers close the connection after it, some later than others
            self._connection.close()
        for name, value in response.getheaders():
            known = found.get(name.lower())
            found[name.lower()] = value if known is None else f"{known}, {value}"
        return Answer(response.status, found, body)

    def statuses(self, path: str, count: int, method: str = "GET", /, **headers: str) -> list[int]:
        return [self.ask(path, method, **headers).status for _ in range(count)]

    def close(self) -> None:
        self._connection.close()


class Server:
    """A server of one framework."""

    def __init__(self, framework: str, port: int, valkey: OwnValkey | None) -> None:
        self.framework = framework
        self.port = port
        self.valkey = valkey
        self._callers: list[Caller] = []

    def caller(self, name: str | None = "") -> Caller:
        """Somebody who has not asked yet; or by this name, or by the address alone."""
        caller = Caller(self.port, f"nobody-{next(_names)}" if name == "" else name)
        self._callers.append(caller)
        return caller

    def at_once(self, count: int, path: str, method: str = "GET", /, **headers: str) -> list[Answer]:
        """The answers to one caller who asks over many connections, all at the same time."""
        name = self.caller().name
        callers = [Caller(self.port, name) for _ in range(count)]
        start = threading.Barrier(count)

        def ask(caller: Caller) -> Answer:
            with contextlib.closing(caller):
                start.wait(PATIENCE)
                return caller.ask(path, method, **headers)

        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(ask, callers))

    def connect(self) -> socket.socket:
        """A bare connection, for requests that no client library would make."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def replies(self, requests: bytes) -> list[int]:
        """The statuses of all responses to some bytes, of which the last request asks to close the connection."""
        with self.connect() as connection:
            connection.sendall(requests)
            with contextlib.suppress(ConnectionResetError), connection.makefile("rb") as lines:
                said = lines.read()
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", said)]

    def hang_up(self) -> None:
        """Close all connections."""
        for caller in self._callers:
            caller.close()
        self._callers.clear()


@contextmanager
def served(framework: str, place: Place) -> Iterator[Server]:
    """A framework behind a real server, for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(own_valkey()) if place in ("shared", "outage") else None
        environment = {**os.environ, HEADERS: {"draft-7": "draft-7", "shared": "draft-6"}.get(place, "draft-11,legacy")}
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        environment.pop(STORE, None)
        environment[SWITCH] = "false" if place == "off" else "true"
        if valkey is not None:
            environment[STORE] = valkey.url
        port = free_port()
        command, app = FRAMEWORKS[framework]
        words = command.format(
            port=port, workers=2 if place == "shared" else 1, app=f"tests.web.behaviours.apps.{app}"
        ).split()
        log = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log)
        server = Server(framework, port, valkey)

        def listens() -> bool:
            if process.poll() is not None:
                log.seek(0)
                raise AssertionError(log.read().decode())
            try:
                return server.caller().ask("/health").status == 200
            except OSError:
                return False

        try:
            eventually(listens, f"{framework} listens")
            yield server
        finally:
            server.hang_up()
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def policies(value: str) -> dict[str, dict[str, int]]:
    """The fields of draft 11, roughly: the numbers of each policy by its name."""
    return {
        name: {key: int(number) for key, number in re.findall(r";(\w+)=(\d+)", rest)}
        for name, rest in re.findall(r'"([^"]*)"([^,"]*)', value)
    }
