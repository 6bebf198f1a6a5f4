"""Starts the processes of a test, all at the same moment, and collects what they say."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

T = TypeVar("T")

_SPAWN = multiprocessing.get_context("spawn")


def run_in_processes(work: Sequence[tuple[Callable[..., T], tuple[Any, ...]]]) -> list[T]:
    """Run each function in a fresh process and return what it returned. It is called as `function(start, *args)`;
    `start.wait()` returns when all processes are ready."""
    start = _SPAWN.Barrier(len(work) + 1)
    running = []
    try:
        for function, args in work:
            ours, theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(target=_run, args=(theirs, function, start, args), daemon=True)
            process.start()
            theirs.close()
            running.append((process, ours))
        _wait(start, running)
        results: list[T] = []
        for _, ours in running:
            assert ours.poll(90), "a process does not answer"
            results.append(_received(ours))
        return results
    finally:
        for process, ours in running:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
            ours.close()


def _wait(start: Barrier, running: list[tuple[Any, Connection]]) -> None:
    try:
        start.wait(60)
    except Exception:
        for _, ours in running:
            if ours.poll(1):
                _received(ours)  # tells why it did not start
        raise


def _received(ours: Connection) -> Any:
    try:
        is_done, result = ours.recv()
    except EOFError:
        raise AssertionError("a process died without a word") from None
    assert is_done, result
    return result


def _run(theirs: Connection, function: Callable[..., T], start: Barrier, args: tuple[Any, ...]) -> None:
    try:
        result: Any = (True, function(start, *args))
    except BaseException:
        start.abort()
        result = (False, traceback.format_exc())
    theirs.send(result)
    theirs.close()
