"""A signal's handler that is called over and over, while a test goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beating(beat: Callable[[], object], after_s: float) -> Iterator[None]:
    """Have SIGALRM's handler call `beat` so long after its last call has ended, and again, until the block is over."""

    def handle(*_: object) -> None:
        beat()
        signal.setitimer(signal.ITIMER_REAL, after_s)

    former = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        # Before the timer is stopped: a last call would set it again, and the alarm would be the former handler's,
        # which is that of the test's own deadline.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
