"""Quick locks: one holder at a time, whatever ends the block."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from headgate.runtime.locks import lock


def test_one_holder_at_a_time() -> None:
    one, inside, most = lock(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with one:
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
    one = lock()
    with pytest.raises(KeyError, match="mine"), one:
        raise KeyError("mine")
    with one:
        pass


def test_each_is_a_lock_of_its_own() -> None:
    with lock(), lock():
        pass


@pytest.mark.parametrize("between", [False, True])
def test_a_forked_process_finds_it_free(between: bool) -> None:
    """Whoever held it is not there. `between`: while it passes from one to the other."""
    one = lock()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with one:
            held.set()
            done.wait()

    def pass_on() -> None:
        while not done.is_set():
            with one:
                held.set()

    threads = [threading.Thread(target=target) for target in ([pass_on] * 3 if between else [hold])]
    for thread in threads:
        thread.start()
    held.wait()
    try:
        for _ in range(10):
            time.sleep(0.002)
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(2)  # were it not free, the child would end by this
                with one:
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_who_has_it_may_take_it_again() -> None:
    one = lock()
    with one, one:
        pass
    thread = threading.Thread(target=one.__enter__)  # nobody has it
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
