"""The demo in the foreground: start, send, show, judge, and leave nothing behind.

Ties the fleet, the traffic and the board together. Signals are its caller's business: it is cancelled,
and cleans up.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console

from headgate.demo import LIMIT
from headgate.demo.board import Board
from headgate.demo.fleet import Fleet, land, launch
from headgate.demo.traffic import ALICE, BOB, play, token_bucket


async def show(console: Console, *, limit: str = LIMIT, store: str | None = None) -> int:
    """Run the whole demo; 0 if the limit held, 1 if it did not."""
    limit = str(token_bucket(limit))
    with tempfile.TemporaryDirectory(prefix="headgate-demo-", ignore_cleanup_errors=True) as folder:
        what = "a Valkey server and " if store is None else ""
        with console.status(f"Starting {what}three instances of one small web app ..."):
            fleet = await launch(Path(folder), limit=limit, store=store)
        try:
            own = "an embedded Valkey" if store is None else "the given store"
            console.print(f"Three instances of one small web app run on this machine. They share only {own}.")
            for instance in fleet.instances:
                console.print(f"  {instance.name}  {instance.url}")
            console.print()
            return await play_on(console, fleet)
        finally:
            await land(fleet)


async def play_on(console: Console, fleet: Fleet, *, alice: str = ALICE, bob: str = BOB) -> int:
    """Send the traffic to a fleet that runs, show it and judge it."""
    with Board(console, fleet, (alice, bob)) as board:
        stories = await play(fleet, board.see, alice=alice, bob=bob)
    return board.summary(stories)
