"""Things by their keys: one for all who ask, for as long as somebody has it, and nothing afterwards."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

from headgate.runtime import interned
from headgate.runtime.interned import Interned
from tests.servers import PATIENCE
from tests.striking import code_of, each_point


class Thing:
    """What can be referred to weakly."""


def test_all_who_ask_for_a_key_get_the_same_thing() -> None:
    things: Interned[str, Thing] = Interned()
    one = things.intern("a", Thing())
    assert things.intern("a", Thing()) is one
    assert things.get("a") is one
    assert things.intern("b", Thing()) is not one


def test_a_thing_lives_for_as_long_as_somebody_has_it() -> None:
    things: Interned[str, Thing] = Interned()
    one = things.intern("a", Thing())
    assert things.all() == [one]
    del one
    gc.collect()
    assert things.get("a") is None
    assert things.all() == []
    other = Thing()
    assert things.intern("a", other) is other
    assert things.get("a") is other


def test_what_has_gone_takes_no_room() -> None:
    things: Interned[int, Thing] = Interned()
    kept = [things.intern(-1 - number, Thing()) for number in range(100)]
    for number in range(10_000):
        things.intern(number, Thing())
    assert len(things) <= 2 * len(kept)
    assert all(things.get(-1 - number) is thing for number, thing in enumerate(kept))


def test_threads_that_come_at_the_same_time_get_the_same_thing() -> None:
    things: Interned[int, Thing] = Interned()
    start = threading.Barrier(8)

    def ask() -> list[Thing]:
        mine = []
        for number in range(500):
            if number % 50 == 0:
                start.wait(PATIENCE)
            mine.append(things.intern(number, Thing()))
            things.intern(-number, Thing())  # and gone
        return mine

    with ThreadPoolExecutor(8) as threads:
        told = [asked.result() for asked in [threads.submit(ask) for _ in range(8)]]
    assert all(len({id(thing) for thing in same}) == 1 for same in zip(*told, strict=True))


def test_whoever_interrupts_gets_the_same_thing() -> None:
    things: Interned[str, Thing] = Interned()
    mine: list[Thing] = []
    seen: list[Thing] = []

    def ask() -> None:
        mine.append(things.intern("k", Thing()))

    def interrupt() -> None:
        thing = things.intern("k", Thing())
        if things.get("k") is thing:
            seen.append(thing)

    for point in each_point():
        point.striking(ask, code_of(interned), interrupt)
        assert things.get("k") is mine[0]
        assert seen == (mine if point.place else [])
        mine.clear()  # what was there for the key has gone before the next round
        seen.clear()
        assert things.get("k") is None
    mine.clear()
    thing = Thing()
    assert things.intern("k", thing) is thing  # nothing is left of all the interrupting
    assert things.get("k") is thing
