"""Real NATS servers that tests start for themselves, with JetStream, each with its files in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.servers import eventually, free_port


def nats_program() -> str:
    """The server, which a wheel brings."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server") or "nats-server"


class OwnNats:
    """A server of one's own.

    :param config: lines of its configuration file.
    """

    def __init__(self, folder: Path, config: str = "", *, jetstream: bool = True, port: int | None = None) -> None:
        self.port = port or free_port()
        self.monitor = free_port()
        self.folder = folder
        lines = [f'listen: "127.0.0.1:{self.port}"', f'http: "127.0.0.1:{self.monitor}"', config]
        if jetstream:
            lines.append(f'jetstream {{ store_dir: "{folder}" }}')
        (folder / "server.conf").write_text("\n".join(lines))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([nats_program(), "-c", str(self.folder / "server.conf")], stderr=log)
        eventually(self.answers, "it answers")

    @property
    def is_running(self) -> bool:
        """Has it been started, and not been killed since?"""
        return self._process is not None

    def answers(self) -> bool:
        """Does it greet whoever connects? It does so when it is ready."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            greeting = connection.recv(4096)
            if greeting.startswith(b"INFO "):
                return bool(json.loads(greeting[5:]).get("server_id"))
        return False

    def connections(self) -> int:
        """How many connections it has."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/connz", timeout=5) as reply:
            return int(json.load(reply)["num_connections"])

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Pause it: it hangs. It does so when this returns."""
        self.send(signal.SIGSTOP)
        assert self._process is not None
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def own_nats(config: str = "", *, jetstream: bool = True) -> Iterator[OwnNats]:
    """A server of one's own, for as long as the block."""
    with tempfile.TemporaryDirectory(prefix="headgate-nats-", ignore_cleanup_errors=True) as folder:
        server = OwnNats(Path(folder), config, jetstream=jetstream)
        server.start()
        try:
            yield server
        finally:
            server.kill()


class OwnNatsCluster:
    """Servers that are one."""

    def __init__(self, nodes: list[OwnNats]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        return f"nats://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def has_meta_leader(self) -> bool:
        """Has JetStream begun to answer?"""
        with suppress(Exception):
            return "error" not in request(self.nodes[0].url, "INFO")
        return False

    def leader(self, bucket: str = "headgate") -> OwnNats:
        """The node that leads a bucket, as soon as one does."""
        found: list[OwnNats] = []

        def is_led() -> bool:
            for node in self.nodes:
                if not node.is_running:
                    continue
                with suppress(Exception):
                    info = request(node.url, f"STREAM.INFO.KV_{bucket}", connect_timeout=1, allow_reconnect=False)
                    found.append(self.nodes[int(info["cluster"]["leader"][1:])])
                    return True
            return False

        eventually(is_led, "the bucket has a leader")
        return found[0]


@contextmanager
def own_nats_cluster(size: int = 3) -> Iterator[OwnNatsCluster]:
    """A cluster of one's own."""
    with ExitStack() as stack:
        routes = [free_port() for _ in range(size)]
        named = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        nodes = []
        for number, route in enumerate(routes):
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="headgate-nats-", ignore_cleanup_errors=True)
            )
            config = (
                f'server_name: n{number}\ncluster {{ name: "own", listen: "127.0.0.1:{route}", routes: [{named}] }}'
            )
            nodes.append(OwnNats(Path(folder), config))
        for node in nodes:
            stack.callback(node.kill)
            node.start()
        cluster = OwnNatsCluster(nodes)
        eventually(cluster.has_meta_leader, "JetStream is ready")
        yield cluster


BUCKET = {
    "max_msgs_per_subject": 1,
    "discard": "new",
    "allow_direct": True,
    "allow_msg_ttl": True,
    "allow_atomic": True,
}
"""A bucket as the store makes it, as far as that matters."""


def request(url: str, subject: str, data: bytes = b"", **connect: Any) -> dict[str, Any]:
    """Ask a server something of JetStream's interface."""

    async def ask() -> dict[str, Any]:
        import nats  # the tests of Redis run without it

        client = await nats.connect(url, **connect)
        try:
            reply = await client.request(f"$JS.API.{subject}", data, timeout=5)
        finally:
            await client.close()
        told: dict[str, Any] = json.loads(reply.data)
        return told

    return asyncio.run(ask())


def make_bucket(url: str, name: str, **changes: Any) -> None:
    """Make a bucket other than the store would."""
    config = {"name": f"KV_{name}", "subjects": [f"$KV.{name}.>"], **BUCKET, **changes}
    made = request(url, f"STREAM.CREATE.KV_{name}", json.dumps(config).encode())
    assert "error" not in made, made
