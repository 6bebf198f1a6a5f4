"""`headgate demo`: three instances behind one limit, on this machine, with nothing to set up.

Turns arguments into calls of `headgate.demo`. What the demo does is decided there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

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


def duration(_context: click.Context, _parameter: click.Parameter, seconds: float | None) -> float | None:
    """Check a positive number of seconds."""
    if seconds is not None and not 0 < seconds <= 86_400:
        raise click.BadParameter("between 0 and 86400 seconds")
    return seconds


@click.group(
    invoke_without_command=True,
    short_help="see one limit hold over three instances of an app",
    epilog="Exit codes: 0 done, 1 not as it should be, 2 not understood, 130 ended by Ctrl-C.",
)
@click.pass_context
def command(context: click.Context) -> int | None:
    """Run three instances of a small web app with one shared limit, and show that it holds."""
    return run("run") if context.invoked_subcommand is None else None


def _starting(action: str) -> None:
    @command.command(action, help=_sentence(action), short_help=ACTIONS[action])
    @click.option("--limit", metavar="LIMIT", help='Per user, a token bucket ("10/minute").')
    @click.option(
        "--store",
        metavar="URL",
        help="A store of your own instead of an embedded Valkey; memory:// gives each instance its own, and shows "
        "what goes wrong then.",
    )
    def start(**options: str | None) -> int:
        return run(action, **options)


def _plain(action: str) -> None:
    @command.command(action, help=_sentence(action), short_help=ACTIONS[action])
    def act_plainly() -> int:
        return run(action)


def _sentence(action: str) -> str:
    words = ACTIONS[action]
    return words[0].upper() + words[1:] + "."


@click.option("--user", default="alice", help="Whom to overwhelm with requests (alice).")
@click.option("--other", default="bob", help="The user beside them (bob).")
def _traffic(**options: str) -> int:
    return run("traffic", **options)


@click.option("--seconds", type=float, callback=duration, help="Stop by itself after so long.")
def _monitor(**options: float | None) -> int:
    return run("monitor", **options)


@click.option("--follow", "-f", is_flag=True, help="Go on with what is written next.")
@click.option("--instance", type=click.Choice(["1", "2", "3", "store"]), help="Only this part's, as written.")
@click.option("--lines", "-n", type=click.IntRange(0, 10_000), default=20, help="How many of each (20).")
def _logs(**options: Any) -> int:
    return run("logs", **options)


_OWN: dict[str, Callable[..., Any]] = {"traffic": _traffic, "monitor": _monitor, "logs": _logs}
for _action, _words in ACTIONS.items():
    if _action in ("run", "start"):
        _starting(_action)
    elif _action in _OWN:
        command.command(_action, help=_sentence(_action), short_help=_words)(_OWN[_action])
    else:
        _plain(_action)


def run(action: str, **options: Any) -> int:
    """Run one action."""
    if sys.platform == "win32":
        print("headgate: the demo needs Linux or macOS", file=sys.stderr)
        return 2
    require("demo", "aiohttp", "fastapi", "redis", "rich", "uvicorn")
    from headgate.cli import interrupt
    from headgate.cli.console import console
    from headgate.demo import DemoError

    screen = console()
    arguments = SimpleNamespace(**{"action": action, "limit": None, "store": None, **options})
    try:
        code = interrupt.run(act(arguments, screen))
        is_endless = action == "monitor" or (action == "logs" and arguments.follow)
        return 0 if is_endless and code == interrupt.CTRL_C else code
    except DemoError as error:
        print(f"headgate: {error}", file=sys.stderr)
        return 1


def act(arguments: SimpleNamespace, screen: Console) -> Coroutine[object, object, int]:
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
