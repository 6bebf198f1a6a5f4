"""The fleet: the store and the three instances in front of it, started together and stopped together.

Knows how the parts are started and when they are ready. It must not know who asked for them: the demo
in the foreground and the one in the background use the same fleet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from headgate.demo import LIMIT, PORTS, DemoError
from headgate.demo.processes import Process, last_lines, spawn, stop
from headgate.demo.valkey import start_server

START_PATIENCE = 20.0
STORE_PATIENCE = 1.5
POLL = 0.05

# What a user may have set for programs of their own, and what must not reach our instances by accident.
OURS = ("PORT", "HOST", "LISTEN_FD", "LIMIT", "INSTANCE", "REDIS_URL", "REDIS_PASSWORD")


@dataclass(frozen=True)
class Instance:
    """One instance of the app."""

    name: str
    port: int
    process: Process

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Fleet:
    """The processes that run, and where their logs are. `store` is a URL; `server` the process behind it, if it is
    ours.
    """

    folder: Path
    limit: str = LIMIT
    store: str | None = None
    server: Process | None = None
    instances: tuple[Instance, ...] = field(default=())

    @property
    def processes(self) -> list[Process]:
        """All processes of the fleet, in the order in which they have to go: the store last."""
        servers = [] if self.server is None else [self.server]
        return [instance.process for instance in self.instances] + servers

    def log_of(self, name: str) -> Path:
        """Where a part writes its log: `store` or an instance's name."""
        return self.folder / f"{name}.log"


Watch = Callable[[Fleet], None]
"""Called with the fleet each time that it has grown, so that a record of it is never behind."""


async def launch(folder: Path, *, limit: str = LIMIT, store: str | None = None, watch: Watch | None = None) -> Fleet:
    """Start everything and wait until all of it answers. If any part does not, nothing is left running.

    :param store: a store of the caller's own; without one, an embedded Valkey is started.
    """
    fleet = Fleet(folder, limit, store)

    def grow(**parts: object) -> None:
        nonlocal fleet
        fleet = replace(fleet, **parts)  # type: ignore[arg-type]
        if watch is not None:
            watch(fleet)

    try:
        if store is None:
            server, port = await start_server(folder / "valkey", fleet.log_of("store"))
            grow(server=server, store=f"redis://127.0.0.1:{port}/0")
        for number, preferred in enumerate(PORTS, start=1):
            instance = start_instance(fleet, f"instance-{number}", preferred, embedded=store is None)
            grow(instances=(*fleet.instances, instance))
        await wait_until_ready(fleet)
    except BaseException:
        await land(fleet)
        raise
    return fleet


async def land(fleet: Fleet) -> list[Process]:
    """Stop everything, the instances before the store that they ask."""
    stopped = await stop(instance.process for instance in fleet.instances)
    if fleet.server is not None:
        stopped += await stop([fleet.server])
    return stopped


def start_instance(fleet: Fleet, name: str, preferred: int, *, embedded: bool) -> Instance:
    """Start one instance on a socket that is opened here, so that nobody can take its port in between."""
    assert fleet.store is not None
    with open_socket(preferred) as listener:
        port: int = listener.getsockname()[1]
        environ = instance_environ(os.environ, embedded=embedded)
        environ |= {"LISTEN_FD": str(listener.fileno()), "REDIS_URL": fleet.store}
        environ |= {"LIMIT": fleet.limit, "INSTANCE": name}
        # -P: a file in the current directory must not stand in for a module of the same name.
        command = [sys.executable, "-P", "-m", "headgate.demo.app"]
        log = fleet.log_of(name)
        return Instance(name, port, spawn(name, command, log=log, environ=environ, pass_fds=[listener.fileno()]))


def instance_environ(environ: Mapping[str, str], *, embedded: bool) -> dict[str, str]:
    """Clean the environment for an instance; a store of the user's own keeps the user's password."""
    kept = {name: value for name, value in environ.items() if name not in OURS}
    if not embedded and "REDIS_PASSWORD" in environ:
        kept["REDIS_PASSWORD"] = environ["REDIS_PASSWORD"]
    return kept


def open_socket(preferred: int) -> socket.socket:
    """Listen on the preferred port of 127.0.0.1, or on any free one if it is taken."""
    try:
        return socket.create_server(("127.0.0.1", preferred), backlog=512)
    except OSError:
        return socket.create_server(("127.0.0.1", 0), backlog=512)


async def wait_until_ready(fleet: Fleet) -> None:
    """Wait until every instance answers and reaches the store; say what is wrong with one that does not."""
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(wait_for(fleet, instance, session) for instance in fleet.instances))


async def wait_for(fleet: Fleet, instance: Instance, session: aiohttp.ClientSession) -> None:
    """Wait for one instance."""
    log = fleet.log_of(instance.name)
    deadline = time.monotonic() + START_PATIENCE
    store_deadline: float | None = None
    while True:
        if not instance.process.alive:
            raise DemoError(f"{instance.name} did not start:\n" + "\n".join(last_lines(log)))
        health = await ask_health(session, instance)
        now = time.monotonic()
        if health is not None and health.get("store") == "up":
            return
        if health is not None:
            store_deadline = store_deadline or now + STORE_PATIENCE
            if now > store_deadline:
                problem = "\n".join(line for line in last_lines(log, 1000) if not line.startswith("{"))
                raise DemoError(f"{instance.name} runs, but its store does not answer.\n{problem}".rstrip())
        elif now > deadline:
            raise DemoError(
                f"{instance.name} did not answer within {START_PATIENCE:.0f} s:\n" + "\n".join(last_lines(log))
            )
        await asyncio.sleep(POLL)


async def ask_health(session: aiohttp.ClientSession, instance: Instance) -> dict[str, Any] | None:
    """Ask an instance how it is; None if it does not answer as our app does."""
    timeout = aiohttp.ClientTimeout(total=2.0)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
        async with session.get(f"{instance.url}/health", timeout=timeout) as response:
            answer = await response.json()
            if response.status == 200 and isinstance(answer, dict) and answer.get("instance") == instance.name:
                return answer
    return None
