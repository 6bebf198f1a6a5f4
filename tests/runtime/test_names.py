"""Names of servers are looked up within deadlines, one lookup for all who want to know the same."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from headgate.runtime import names as module
from headgate.runtime.names import MAX_UNDER_WAY, NameOverdue, Names
from tests.servers import eventually
from tests.silent_names import SilentNames
from tests.striking import Struck, code_of, each_point, strike

PATIENT = 20.0
BRIEF = 0.02


@pytest.fixture
def names() -> Names:
    return Names()


Find = Callable[[Names, str, float], list[str]]


def find(names: Names, host: str, left_s: float) -> list[str]:
    return names.find(host, left_s)


def find_in_loop(names: Names, host: str, left_s: float) -> list[str]:
    return asyncio.run(names.find_async(host, left_s))


both_ways = pytest.mark.parametrize("find", [find, find_in_loop])


@both_ways
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%lo"])
def test_an_address_is_looked_up_by_nobody(names: Names, find: Find, address: str, silent_names: SilentNames) -> None:
    assert find(names, address, PATIENT) == [address]
    assert silent_names.asked == []


@both_ways
def test_a_name_has_its_addresses(names: Names, find: Find) -> None:
    infos = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    assert find(names, "localhost", PATIENT) == list(dict.fromkeys(info[4][0] for info in infos))


@both_ways
@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid", "a..b"])
def test_a_name_that_nobody_has_is_an_error_of_the_systems(names: Names, find: Find, host: str) -> None:
    with pytest.raises(OSError) as one:  # noqa: PT011  # its text is the system's
        find(names, host, PATIENT)
    assert not isinstance(one.value, TimeoutError)


@both_ways
def test_whoever_waits_has_a_deadline(names: Names, find: Find, silent_names: SilentNames) -> None:
    with pytest.raises(NameOverdue, match=r"the name 'db.example' was not looked up in time: do the name servers"):
        find(names, "db.example", BRIEF)


def test_one_lookup_serves_all_who_want_to_know_the_same(names: Names, silent_names: SilentNames) -> None:
    with ThreadPoolExecutor(9) as pool:
        found = [pool.submit(find, names, host, PATIENT) for host in ["a.example"] * 4 + ["b.example"] * 4]
        eventually(lambda: len(silent_names.asked) == 2, "both are looked up")
        found.append(pool.submit(find_in_loop, names, "a.example", PATIENT))
        silent_names.speak()
        assert [each.result() for each in found] == [["127.0.0.1"]] * 9
    assert sorted(silent_names.asked)[0] == "a.example"


def test_an_error_is_told_to_each_by_itself(names: Names, silent_names: SilentNames) -> None:
    silent_names.error = socket.gaierror(socket.EAI_AGAIN, "no answer yet")
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(find, names, "a.example", PATIENT) for _ in range(2)]
        eventually(lambda: silent_names.asked != [], "it is looked up")
        silent_names.speak()
        errors = [each.exception() for each in found]
    assert [error and error.args for error in errors] == [(socket.EAI_AGAIN, "no answer yet")] * 2
    assert errors[0] is not errors[1]


def test_what_was_found_is_not_kept(names: Names, silent_names: SilentNames) -> None:
    silent_names.speak()
    for _ in range(2):
        assert find(names, "a.example", PATIENT) == ["127.0.0.1"]
    assert silent_names.asked == ["a.example"] * 2


def test_after_a_while_another_lookup_is_begun_for_those_who_come_later(
    names: Names, silent_names: SilentNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARED_FOR_S", -1.0)
    for count in range(1, MAX_UNDER_WAY + 1):
        with pytest.raises(NameOverdue):
            find(names, "a.example", 0)
        eventually(lambda: len(silent_names.asked) == count, "it is looked up")  # noqa: B023  # called here
    for host in ("a.example", "b.example"):
        with pytest.raises(NameOverdue):  # there are enough
            find(names, host, BRIEF)
    assert silent_names.asked == ["a.example"] * MAX_UNDER_WAY
    silent_names.speak()
    eventually(lambda: not names._under_way, "all are done")
    assert find(names, "b.example", PATIENT) == ["127.0.0.1"]


def test_a_signals_handler_may_ask_while_its_thread_waits(names: Names, silent_names: SilentNames) -> None:
    found: list[list[str]] = []

    def handle(*_: Any) -> None:
        silent_names.speak()
        found.append(names.find("a.example", PATIENT))

    before = signal.signal(signal.SIGUSR1, handle)

    def strike_once() -> None:
        eventually(lambda: silent_names.asked != [], "it is looked up")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    striker = threading.Thread(target=strike_once)
    striker.start()
    try:
        found.append(names.find("a.example", PATIENT))
    finally:
        striker.join()
        signal.signal(signal.SIGUSR1, before)
    assert found == [["127.0.0.1"]] * 2


def test_wherever_a_call_is_interrupted_the_next_one_finds(silent_names: SilentNames) -> None:
    silent_names.speak()
    for point in each_point():
        names = Names()
        with suppress(Struck):
            point.striking(lambda: names.find("a.example", PATIENT), code_of(module), strike)  # noqa: B023  # called here
        assert names.find("a.example", PATIENT) == ["127.0.0.1"], point
        eventually(lambda: not names._under_way and not names._latest, "all are done")  # noqa: B023  # called here


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_process_looks_up_for_itself(names: Names, silent_names: SilentNames) -> None:
    with pytest.raises(NameOverdue):
        find(names, "a.example", BRIEF)
    pid = os.fork()
    if pid == 0:  # the parent's lookup goes on in the parent only
        silent_names.speak()
        os._exit(0 if find(names, "a.example", PATIENT) == ["127.0.0.1"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def test_whoever_is_cancelled_leaves_the_lookup_to_others(names: Names, silent_names: SilentNames) -> None:
    first, second = (asyncio.create_task(names.find_async("a.example", PATIENT)) for _ in range(2))
    await asyncio.sleep(0)  # both wait
    first.cancel()
    silent_names.speak()
    assert await second == ["127.0.0.1"]
    with pytest.raises(asyncio.CancelledError):
        await first


def test_an_event_loop_may_be_closed_meanwhile(names: Names, silent_names: SilentNames) -> None:
    with pytest.raises(NameOverdue):
        find_in_loop(names, "a.example", BRIEF)
    silent_names.speak()
    eventually(lambda: not names._under_way, "it is done")


def test_without_threads_the_caller_looks_up(
    names: Names, silent_names: SilentNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    silent_names.speak()
    assert find(names, "a.example", PATIENT) == ["127.0.0.1"]
    assert not names._under_way
