"""Looking into the background demo: the limiter's keys, the commands that reach the store, the logs.

Reads only. The keys are shown as they are: what they mean is the limiter's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import redis.asyncio
from redis.exceptions import RedisError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headgate.demo import DemoError, state, to_run
from headgate.demo.address import store_url
from headgate.demo.background import running
from headgate.demo.fleet import Fleet
from headgate.demo.processes import last_lines

PREFIX = "headgate:"
MOST_KEYS = 500
POLL = 0.1


def store_of(fleet: Fleet) -> str:
    """The URL of a Redis or Valkey store, or a word on why it cannot be looked into."""
    store = fleet.store or ""
    if urlsplit(store).scheme not in ("redis", "rediss"):
        raise DemoError(f"This demo's store ({urlsplit(store).scheme}) cannot be looked into.")
    return store if fleet.server is not None else store_url(store, os.environ.get("REDIS_PASSWORD"))


async def keys(console: Console, folder: Path) -> int:
    """List the limiter's keys, with type, value and time to live. They are found by SCAN, never by KEYS."""
    store = store_of(running(folder))
    client = redis.asyncio.Redis.from_url(store, decode_responses=True, encoding_errors="backslashreplace")
    table = Table(box=box.ROUNDED)
    for heading in ("key", "type", "value"):
        table.add_column(heading, overflow="fold")
    table.add_column("expires in", justify="right")
    found = []
    try:
        async with client:
            async for key in client.scan_iter(match=PREFIX + "*", count=200):
                found.append(str(key))
                if len(found) >= MOST_KEYS:
                    break
            for key in sorted(found):
                kind, value = await value_of(client, key)
                left = await client.pttl(key)
                if left != -2:  # gone since it was found
                    table.add_row(Text(key), kind, Text(value), "never" if left < 0 else f"{left / 1000:.1f} s")
    except RedisError as error:
        raise DemoError(f"The store does not answer: {error}") from None
    if table.row_count:
        console.print(table)
        if len(found) >= MOST_KEYS:
            console.print(f"Only {MOST_KEYS} keys are shown.")
    else:
        console.print("There are no keys: nobody owes anything. Spend some first: " + to_run("traffic"))
    return 0


async def value_of(client: redis.asyncio.Redis, key: str) -> tuple[str, str]:
    """Read a key's type, and its value as text."""
    # redis-py types its asynchronous commands as "awaitable or not".
    commands = cast("Any", client)
    kind = str(await commands.type(key))
    match kind:
        case "string":
            value = await commands.get(key)
        case "hash":
            value = await commands.hgetall(key)
        case "zset":
            value = await commands.zrange(key, 0, 9, withscores=True)
        case "list":
            value = await commands.lrange(key, 0, 9)
        case "set":
            value = await commands.scard(key)
        case _:
            value = ""
    return kind, "" if value is None else str(value)


async def monitor(console: Console, folder: Path, *, seconds: float | None = None) -> int:
    """Print each command that reaches the store, as it arrives."""
    url = urlsplit(store_of(running(folder)))
    if url.scheme != "redis" or url.password is not None:
        raise DemoError("Only the demo's own store can be monitored.")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            try:
                reader, writer = await asyncio.open_connection(url.hostname, url.port or 6379, limit=2**20)
            except OSError as error:
                raise DemoError(f"The store does not answer: {error}") from None
            try:
                writer.write(b"MONITOR\r\n")
                if await reader.readline() == b"+OK\r\n":
                    console.print("Every command that reaches the store, until Ctrl-C:", style="dim")
                while line := await reader.readline():
                    text = line.decode(errors="backslashreplace").strip()
                    console.print(Text(text.removeprefix("+")), soft_wrap=True)
            finally:
                writer.close()
            raise DemoError("The store has gone.")
    return 0


async def logs(console: Console, folder: Path, *, part: str | None, lines: int, follow: bool) -> int:
    """Print the ends of the logs, each line with its part's name before it; one part's, as it is written."""
    if not state.is_ours(folder):
        raise DemoError("There are no logs here. Start the demo with: " + to_run("start"))
    names = ["instance-1", "instance-2", "instance-3", "store"] if part is None else [part]
    paths = {name: folder / f"{name}.log" for name in names}

    def show(name: str, line: str) -> None:
        sys.stdout.write(line + "\n" if part is not None else f"{name} | {line}\n")

    ends = {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}
    for name, path in paths.items():
        for line in last_lines(path, lines, ends[name]):
            show(name, line)
    sys.stdout.flush()
    rests = dict.fromkeys(names, b"")
    while follow:
        for name, path in paths.items():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                if path.stat().st_size < ends[name]:  # started anew
                    ends[name] = 0
                file.seek(ends[name])
                data = rests[name] + file.read()
                ends[name] = file.tell()
                *complete, rests[name] = data.split(b"\n")
                for each in complete:
                    show(name, each.decode(errors="replace"))
        sys.stdout.flush()
        await asyncio.sleep(POLL)
    return 0
