"""`headgate demo`: three instances behind one limit, on this machine, with nothing to set up.

Turns arguments into calls of `headgate.demo`. What the demo does is decided there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from headgate.cli.extras import require

if TYPE_CHECKING:
    from rich.console import Console

ACTIONS = {
    "run": "start, send traffic, show it live, stop (what `headgate demo` does by itself)",
    "start": "start the demo in the background",
    "health": "show how each part of it is",
    "traffic": "send it 15 requests of one user and 5 of another",
    "keys": "list the limiter's keys in its store",
    "monitor": "print each command that reaches the store",
    "logs": "print the ends of the instances' logs",
    "stop": "stop it",
    "clean": "stop it and remove its folder, .demo/",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command's arguments."""
    command = commands.add_parser(
        "demo",
        help="see one limit hold over three instances of an app",
        description="Runs three instances of a small web app with one shared limit, and shows that it holds.",
    )
    command.set_defaults(run=run, action="run", limit=None, store=None)
    actions = command.add_subparsers(title="actions", metavar="ACTION")
    parsers = {}
    for action, words in ACTIONS.items():
        parsers[action] = actions.add_parser(action, help=words, description=words[0].upper() + words[1:] + ".")
        parsers[action].set_defaults(action=action)
    for action in ("run", "start"):
        parsers[action].add_argument("--limit", metavar="LIMIT", help='per user, a token bucket ("10/minute")')
        parsers[action].add_argument(
            "--store",
            metavar="URL",
            help="a store of your own instead of an embedded Valkey; memory:// gives each instance its own, "
            "and shows what goes wrong then",
        )
    parsers["traffic"].add_argument("--user", default="alice", help="whom to overwhelm with requests (alice)")
    parsers["traffic"].add_argument("--other", default="bob", help="the user beside them (bob)")
    parsers["monitor"].add_argument("--seconds", type=duration, help="stop by itself after so long")
    parsers["logs"].add_argument("--follow", "-f", action="store_true", help="go on with what is written next")
    parsers["logs"].add_argument("--instance", choices=("1", "2", "3", "store"), help="only this part's, as written")
    parsers["logs"].add_argument("--lines", "-n", type=count, default=20, help="how many of each (20)")


def duration(text: str) -> float:
    """Read a positive number of seconds."""
    seconds = float(text)
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError("between 0 and 86400 seconds")
    return seconds


def count(text: str) -> int:
    """Read a number of lines."""
    lines = int(text)
    if not 0 <= lines <= 10_000:
        raise argparse.ArgumentTypeError("between 0 and 10000 lines")
    return lines


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    if sys.platform == "win32":
        print("headgate: the demo needs Linux or macOS", file=sys.stderr)
        return 2
    require("demo", "aiohttp", "fastapi", "redis", "rich", "uvicorn")
    from headgate import HeadgateError
    from headgate.cli import interrupt
    from headgate.cli.console import console
    from headgate.demo import DemoError

    screen = console()
    try:
        code = interrupt.run(act(arguments, screen))
        is_endless = arguments.action == "monitor" or (arguments.action == "logs" and arguments.follow)
        return 0 if is_endless and code == interrupt.CTRL_C else code
    except HeadgateError as error:  # a limit that is not understood: used wrongly
        print(f"headgate: {error}", file=sys.stderr)
        return 2
    except DemoError as error:
        print(f"headgate: {error}", file=sys.stderr)
        return 1


def act(arguments: argparse.Namespace, screen: Console) -> Coroutine[object, object, int]:
    """Find the coroutine that does what was asked, and import no more than it needs."""
    from headgate.demo import LIMIT

    if arguments.action == "run":
        from headgate.demo.show import show

        return show(screen, limit=arguments.limit or LIMIT, store=arguments.store)

    from headgate.demo import background
    from headgate.demo.state import FOLDER

    match arguments.action:
        case "start":
            return background.start(screen, FOLDER, limit=arguments.limit or LIMIT, store=arguments.store)
        case "health":
            return background.health(screen, FOLDER)
        case "traffic":
            return background.traffic(screen, FOLDER, alice=arguments.user, bob=arguments.other)
        case "stop":
            return background.stop(screen, FOLDER)
        case "clean":
            return background.clean(screen, FOLDER)

    from headgate.demo import look

    match arguments.action:
        case "keys":
            return look.keys(screen, FOLDER)
        case "monitor":
            return look.monitor(screen, FOLDER, seconds=arguments.seconds)
        case _:
            part = f"instance-{arguments.instance}" if arguments.instance in tuple("123") else arguments.instance
            return look.logs(screen, FOLDER, part=part, lines=arguments.lines, follow=arguments.follow)
