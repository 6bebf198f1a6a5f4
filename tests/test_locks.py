"""Quick locks: one holder at a time, whatever ends the block."""

from __future__ import annotations

import threading
import time

import pytest

from headgate.locks import quick_lock


def test_one_holder_at_a_time() -> None:
    lock, inside, most = quick_lock(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with lock:
                inside += 1
                most = max(most, inside)
                time.sleep(0.0001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_an_exception_lets_go_and_comes_through() -> None:
    lock = quick_lock()
    with pytest.raises(KeyError, match="mine"), lock:
        raise KeyError("mine")
    with lock:
        pass


def test_each_is_a_lock_of_its_own() -> None:
    with quick_lock(), quick_lock():
        pass
