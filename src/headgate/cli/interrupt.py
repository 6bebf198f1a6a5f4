"""Running a coroutine to its end, or to the first signal, with time to clean up; and what no signal may cut short.

The first SIGINT, SIGTERM or SIGHUP cancels the coroutine. Further ones change nothing: what the coroutine
does in its `finally` blocks is what the signal asks for, and is not cut short.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine, Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
CTRL_C = 128 + signal.SIGINT


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Have signals wait until what is done here is done as a whole: then, the first of them has its effect."""
    waiting: list[int] = []
    found = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in found.items() if handler is not None}
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        before = {}
    try:
        for number in before:
            signal.signal(number, lambda number, _: waiting.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if waiting:
        signal.raise_signal(waiting[0])


def run(main: Coroutine[object, object, int]) -> int:
    """Run to the end and give back the exit code; after a signal, 128 and the signal's number."""
    return asyncio.run(watched(main))


async def watched(main: Coroutine[object, object, int]) -> int:
    """Run while signals are watched for."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    caught: list[int] = []

    def stop(number: int) -> None:
        if not caught:
            caught.append(number)
            task.cancel()

    for number in SIGNALS:
        with contextlib.suppress(NotImplementedError):  # Windows: asyncio's own Ctrl-C has to do
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not caught:
            raise
        return 128 + caught[0]
