"""Something that happens at each step of a call, as a signal's handler or a finalizer may."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def at_each_step(work: Callable[[], object], interrupt: Callable[[], object], *, within: str) -> Iterator[int]:
    """Do `work` again and again, with an interruption before its first step (an instruction of the interpreter's) in
    modules whose name begins with `within`, before its second, and so on. Yields the number of the step each time.
    """
    for at in itertools.count():
        steps = itertools.count()
        has_come = False

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal has_come
            if not frame.f_globals.get("__name__", "").startswith(within):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and next(steps) == at:  # noqa: B023  # called in this round only
                has_come = True
                interrupt()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(before)
        if not has_come:
            return
        yield at
