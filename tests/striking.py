"""What strikes in the midst of a call: a signal handler or a finalizer that calls the same code again, or an exception
that a signal handler raises. Tried at each point where the interpreter lets such in, one after the other.

CPython looks for signals, and lets the collector run, after a call, at a function's entry, and where a loop goes back;
before 3.12 the collector also runs where a container is made. Between two such points, nothing comes in.

    for point in each_point():
        limiter = Limiter("5/s")
        point.striking(lambda: limiter.try_acquire("k"), code_of(headgate), lambda: limiter.try_acquire("k"))
        assert ...
"""

from __future__ import annotations

import dis
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, Final, TypeVar

T = TypeVar("T")
Within = Callable[[CodeType], bool]
"""Is this code to be struck?"""

_MAKES_CONTAINERS: Final = ("BUILD_", "GET_ITER", "MAKE_FUNCTION")


class Struck(BaseException):
    """What a signal handler raises."""


def strike() -> None:
    """Raise `Struck`: the strike of a handler that ends what is under way."""
    raise Struck


def code_of(*modules: ModuleType) -> Within:
    """The code of some modules; of a package, that of all below it."""
    places = []
    for module in modules:
        path = Path(module.__file__ or "")
        places.append(str(path.parent) + "/" if path.name == "__init__.py" else str(path))
    starts = tuple(places)
    return lambda code: code.co_filename.startswith(starts)


def each_point(*, with_collector: bool = True) -> Iterator[Point]:
    """The first point of a call, the second, and so on, until a call has no more. Each is to be used once, on what is
    made anew. `with_collector`: also where only the collector comes in, which swallows exceptions.
    """
    for number in count(1):
        point = Point(number, with_collector=with_collector)
        yield point
        if not point.place:
            assert number > 1, "nothing was struck: is the code that is called within what is to be struck?"
            return


class Point:
    """The n-th point of a call."""

    def __init__(self, number: int, *, with_collector: bool = True) -> None:
        self.number = number
        self.place = ""
        """Where it was found. Empty: the call has fewer points."""
        self._left = number
        self._with_collector = with_collector and sys.version_info < (3, 12)

    def __repr__(self) -> str:
        return f"<point {self.number}: {self.place or 'not reached'}>"

    def striking(self, call: Callable[[], T], within: Within, strike: Callable[[], object]) -> T:
        """Make the call, and strike once, at this point. What the strike raises comes out of that place."""

        def strike_alone() -> Iterator[T]:
            # On 3.11, an exception that tracing raises where another is handled leaves that one behind as the current
            # one: of this generator, which ends with it.
            yield self._strike(call, within, strike)

        return next(strike_alone())

    def _strike(self, call: Callable[[], T], within: Within, strike: Callable[[], object]) -> T:
        thread = threading.get_ident()
        befores: dict[int, int] = {}  # by the frames' ids, since nothing here should keep a frame alive

        def look(frame: FrameType) -> bool:
            """Is this the point? Asked before each instruction."""
            if threading.get_ident() != thread:
                return False
            names, at = _names(frame.f_code), frame.f_lasti
            before, befores[id(frame)] = befores.get(id(frame), -1), at
            if self.place or names[at] == "RESUME" or not self._is_point(names, before, at):
                return False
            self._left -= 1
            if self._left == 0:
                after = names[at - 2] if names.get(at - 2) == "RESUME" else names[before]
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} after {after}"
            return self._left == 0

        return _traced(call, within, look, strike)

    def _is_point(self, names: dict[int, str], before: int, at: int) -> bool:
        """Does something come in between these two instructions, of which one was followed by the other?"""
        if names.get(at - 2) == "RESUME":  # of which itself we do not hear
            return True
        name = names.get(before, "")
        if name.startswith("CALL") and not name.startswith("CALL_INTRINSIC"):
            return True
        if "JUMP_BACKWARD" in name:
            return at < before and "NO_INTERRUPT" not in name
        return self._with_collector and name.startswith(_MAKES_CONTAINERS)


@functools.cache
def _names(code: CodeType) -> dict[int, str]:
    """The instructions of some code, by their offsets."""
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def _traced(
    call: Callable[[], T], within: Within, look: Callable[[FrameType], bool], strike: Callable[[], object]
) -> T:
    """Make the call. Before each instruction of the code, `look` at its frame; where that says so, strike."""
    if sys.version_info >= (3, 12):  # whose tracing begins some functions too late
        monitoring, tool = sys.monitoring, 4

        def see(code: CodeType, offset: int) -> Any:
            if not within(code):
                return monitoring.DISABLE
            if look(sys._getframe(1)):
                monitoring.set_events(tool, 0)
                strike()
            return None

        monitoring.use_tool_id(tool, "striking")
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, see)
        monitoring.restart_events()
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)
        try:
            return call()
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(tool)

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        if not within(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return step

    def step(frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode" and look(frame):
            strike()
        return step

    former = sys.gettrace()
    sys.settrace(enter)
    try:
        return call()
    finally:
        sys.settrace(former)
