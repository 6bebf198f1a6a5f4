"""The demo in the background: start it, ask after it, send it traffic, stop it, clean up after it.

Each function is one command, run by itself; what passes from one to the next is the record in `.demo/`.
"""

from __future__ import annotations

from pathlib import Path

import aiohttp
from rich import box
from rich.console import Console
from rich.table import Table

from headgate.demo import LIMIT, DemoError, state, to_run
from headgate.demo.fleet import Fleet, ask_health, land, launch
from headgate.demo.show import play_on
from headgate.demo.traffic import ALICE, BOB, token_bucket


def running(folder: Path) -> Fleet:
    """Find the demo that runs here."""
    fleet = state.load(folder)
    if fleet is None or not any(process.alive for process in fleet.processes):
        raise DemoError("The demo is not running here. Start it with: " + to_run("start"))
    return fleet


async def start(console: Console, folder: Path, *, limit: str = LIMIT, store: str | None = None) -> int:
    """Start the demo and leave it running."""
    limit = str(token_bucket(limit))
    state.prepare(folder)
    with state.locked(folder):
        fleet = state.load(folder)
        if fleet is not None and all(process.alive for process in fleet.processes):
            console.print("The demo is already running.")
            if fleet.limit != limit:
                console.print(f"Its limit is {fleet.limit}. To change it, stop the demo first.")
            return await health(console, folder)
        if fleet is not None:  # what is left of one that broke
            await land(fleet)
            state.forget(folder)
        try:
            with console.status("Starting the demo ..."):
                fleet = await launch(folder, limit=limit, store=store, watch=state.save)
        except BaseException:
            state.forget(folder)
            raise
    first = fleet.instances[0]
    console.print(f"The demo is running, with {fleet.limit} for each user. Its logs are in {folder}/.")
    code = await health(console, folder)
    console.print("\nTry:")
    console.print(f"  curl -i -H 'X-User-ID: alice' {first.url}/api/data", markup=False, soft_wrap=True)
    console.print(f"  curl -H 'X-User-ID: alice' {fleet.instances[1].url}/api/status", markup=False, soft_wrap=True)
    for action in ("traffic", "keys", "monitor", "logs", "stop"):
        console.print(f"  {to_run(action)}")
    return code


async def health(console: Console, folder: Path) -> int:
    """Show how each part is; 0 if all are well."""
    fleet = running(folder)
    table = Table(box=box.ROUNDED)
    for heading in ("part", "address", "pid", "state", "reaches the store"):
        table.add_column(heading)
    well = True
    async with aiohttp.ClientSession() as session:
        for instance in fleet.instances:
            answer = await ask_health(session, instance) if instance.process.alive else None
            up = answer is not None
            reaches = answer is not None and answer.get("store") == "up"
            well = well and reaches
            table.add_row(
                instance.name,
                instance.url,
                str(instance.process.pid) if instance.process.alive else "",
                "[green]up[/]" if up else "[red]down[/]",
                ("[green]yes[/]" if reaches else "[red]no[/]") if up else "",
            )
    if fleet.server is not None:
        alive = fleet.server.alive
        well = well and alive
        table.add_row(
            "store (Valkey)",
            (fleet.store or "").removesuffix("/0"),
            str(fleet.server.pid) if alive else "",
            "[green]up[/]" if alive else "[red]down[/]",
            "",
        )
    console.print(table)
    return 0 if well else 1


async def traffic(console: Console, folder: Path, *, alice: str = ALICE, bob: str = BOB) -> int:
    """Send the demo's traffic to the instances that run; 0 if the limit held."""
    return await play_on(console, running(folder), alice=alice, bob=bob)


async def stop(console: Console, folder: Path) -> int:
    """End what we started, and nothing else. Nothing to end is no error."""
    if not state.is_ours(folder):
        console.print("The demo is not running here.")
        return 0
    with state.locked(folder):
        fleet = state.load(folder)
        stopped = [] if fleet is None else await land(fleet)
        state.forget(folder)
    names = ", ".join(process.name for process in stopped)
    console.print(f"Stopped {names}." if names else "The demo is not running here.")
    return 0


async def clean(console: Console, folder: Path) -> int:
    """Stop the demo and remove its folder."""
    if not state.exists(folder):
        console.print("There is nothing to clean.")
        return 0
    if not state.is_ours(folder):
        raise DemoError(f"{folder} holds files that are not the demo's: it stays.")
    code = await stop(console, folder)
    state.remove(folder)
    console.print(f"Removed {folder}/.")
    return code
