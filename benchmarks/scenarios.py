"""What the callers of a rate limiter do: who calls, with which keys, under which limit, and what is to be answered."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.floors import BARE_SOCKET, CLIENT, PIPELINED
from benchmarks.measure import SEED
from benchmarks.peers import ENTRIES, OURS, Entry, Quota, ours
from benchmarks.tiers import grouped, thrice

LONG_S: Final = 1_000_000_000
"""Thirty years: no window ends, and no bucket earns a token, during a run."""
AMPLE: Final = Quota(10_000, LONG_S)
"""For one key: never reached in a run (and the most that our sliding log takes)."""
BOUNDLESS: Final = Quota(100_000_000, LONG_S)
"""For one hot key: never reached in a run."""
TIGHT: Final = Quota(5, LONG_S)
"""For an attack: what is exhausted stays so."""
ROOMY: Final = Quota(10_000, 36)
"""A million an hour: what was spent is earned again within 3.6 ms, long before the same key is met again."""
EVERYDAY: Final = Quota(100, 60)
"""What a stranger owes is over before the next slice, and whoever keeps it has to forget it some time."""

USERS: Final = tuple(f"user:{number}" for number in range(100))
MORE_USERS: Final = tuple(f"user:{number}" for number in range(1_000))
MANY_USERS: Final = tuple(f"user:{number}" for number in range(100_000))
ATTACKERS: Final = tuple(f"attacker:{number}" for number in range(90))
CROWD: Final = tuple(f"user:{number}" for number in range(20_000))
CITIZENS: Final = 40_000
HOT_KEY: Final = "everybody"

FORGETS: Final = "The memory store of throttled-py keeps 1,024 keys, and forgets what the others owe."

REMEMBERS_NO_DENIALS: Final = ours("token bucket", "remember_denials=0", remember_denials=0)
LEASED: Final = ours("token bucket", "lease=True", lease=True)


def in_turn(keys: Sequence[str]) -> Iterator[str]:
    """Again and again, without a copy."""
    return itertools.chain.from_iterable(itertools.repeat(keys))


def shuffled(keys: Sequence[str]) -> Iterator[str]:
    """Each key once, in random order, again and again."""
    return in_turn(random.Random(SEED).sample(keys, len(keys)))


def at_random() -> Iterator[str]:
    """One of 20,000 keys, whichever. Drawn beforehand, since drawing takes its time."""
    return in_turn(_drawn())


@functools.cache
def _drawn() -> tuple[str, ...]:
    return tuple(random.Random(SEED).choices(CROWD, k=10 * len(CROWD)))


def strangers() -> Iterator[str]:
    """Keys that were never seen before."""
    return map("203.0.%d".__mod__, itertools.count())


def under_attack() -> Iterator[str]:
    """Nine of ten calls are for exhausted keys; the tenth is for a key that has room."""
    return in_turn(_attack())


@functools.cache
def _attack() -> tuple[str, ...]:
    """Long enough that no citizen comes more often than it may: drawn beforehand, since drawing takes its time."""
    order = random.Random(SEED)
    made: list[str] = []
    for number in range(CITIZENS):
        ten = [*order.sample(ATTACKERS, 9), f"citizen:{number}"]
        order.shuffle(ten)
        made += ten
    return tuple(made)


def always(_: str) -> bool:
    return True


def never(_: str) -> bool:
    return False


def is_citizen(key: str) -> bool:
    return not key.startswith("attacker")


@dataclass(frozen=True)
class Scenario:
    """One table of calls per second."""

    name: str
    title: str
    caller: Literal["blocking", "async", "memory"]
    callers: int
    """Threads if they block, tasks if they do not."""
    entries: tuple[Entry, ...]
    quota: Quota = AMPLE
    keys: Callable[[], Iterator[str]] = lambda: in_turn(USERS)
    warming: Sequence[str] = USERS
    """Keys that are called before anything is measured, one after another: connections, scripts, exhausted limits."""
    expects: Callable[[str], bool] = always
    stretch: float = 1.0
    """How many times as long as others its slices are."""
    made_before: int = 0
    """For each second of a slice, so many keys are made before it begins: for calls that are quicker than that."""
    by_kind: bool = False
    """Is each algorithm to be compared with the best peer's same one, too?"""
    remark: str = ""


def _opening(how: str, entries: tuple[Entry, ...], *, admitting: bool = True) -> tuple[Entry, ...]:
    """Those that can be opened in this way; where calls are to be admitted, without those that sleep first."""
    return tuple(
        entry for entry in entries if getattr(entry, how) is not None and (entry.admits_at_once or not admitting)
    )


BLOCKING: Final = _opening("open_sync", ENTRIES)
ASYNC: Final = _opening("open_async", ENTRIES)
ASYNC_DENYING: Final = _opening("open_async", ENTRIES, admitting=False)
MEMORY: Final = _opening("open_memory", ENTRIES)


def _lean(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Without logs, which keep an entry for each request, and with one of several kinds of bucket."""
    return tuple(
        entry
        for entry in entries
        if entry.algorithm in ("token bucket", "GCRA", "fixed window")
        and (entry.library, entry.algorithm)
        not in {("pyrate-limiter", "fixed window"), ("throttled-py", "token bucket")}
    )


def _tiered(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Ours in groups; of the others, those without logs, three times."""
    return (
        *(grouped(entry.algorithm) for entry in entries if entry.library == OURS and entry.algorithm != "sliding log"),
        *(thrice(entry) for entry in _lean(entries) if entry.library != OURS),
    )


SCENARIOS: Final = (
    Scenario("sync", "one blocking caller", "blocking", 1, (*BLOCKING, BARE_SOCKET, CLIENT, PIPELINED)),
    Scenario("threads-16", "16 threads", "blocking", 16, (*BLOCKING, CLIENT), stretch=1.5),
    Scenario("threads-64", "64 threads", "blocking", 64, (*BLOCKING, CLIENT), stretch=1.5),
    Scenario("async-1", "one task", "async", 1, (*ASYNC, CLIENT)),
    Scenario("async-64", "64 tasks", "async", 64, (*ASYNC, CLIENT, PIPELINED)),
    Scenario(
        "async-512",
        "512 tasks",
        "async",
        512,
        (*_lean(ASYNC), CLIENT),
        stretch=2,
        remark="One algorithm of each kind, without logs: each row holds up to 512 connections.",
    ),
    Scenario(
        "hot-key",
        "one hot key, 64 tasks",
        "async",
        64,
        (LEASED, *_lean(ASYNC), CLIENT),
        BOUNDLESS,
        lambda: itertools.repeat(HOT_KEY),
        [HOT_KEY] * 20,
        remark="Without logs, which would keep an entry for each request. A lease draws tokens ahead of need.",
    ),
    Scenario(
        "hot-key-sync",
        "one hot key, one blocking caller",
        "blocking",
        1,
        (LEASED, *_lean(BLOCKING), CLIENT),
        BOUNDLESS,
        lambda: itertools.repeat(HOT_KEY),
        [HOT_KEY] * 20,
    ),
    Scenario(
        "keys-100k",
        "100,000 keys in random order, 64 tasks",
        "async",
        64,
        (*ASYNC, CLIENT),
        keys=lambda: shuffled(MANY_USERS),
        remark="Most keys are met for the first time.",
    ),
    Scenario(
        "attack",
        "an attack: 9 of 10 calls are denied, 64 tasks",
        "async",
        64,
        (*ASYNC, REMEMBERS_NO_DENIALS),
        TIGHT,
        under_attack,
        ATTACKERS * (TIGHT.tokens + 1),
        is_citizen,
        remark="The tenth call is for a key that has room, mostly one that is met for the first time.",
    ),
    Scenario(
        "attack-sync",
        "an attack: 9 of 10 calls are denied, one blocking caller",
        "blocking",
        1,
        (*BLOCKING, REMEMBERS_NO_DENIALS),
        TIGHT,
        under_attack,
        ATTACKERS * (TIGHT.tokens + 1),
        is_citizen,
    ),
    Scenario(
        "denied",
        "all denied, 64 tasks",
        "async",
        64,
        (*ASYNC_DENYING, REMEMBERS_NO_DENIALS),
        TIGHT,
        lambda: in_turn(ATTACKERS),
        ATTACKERS * (TIGHT.tokens + 1),
        never,
    ),
    Scenario(
        "tiers",
        "three tiers (user, address, everybody), 64 tasks",
        "async",
        64,
        _tiered(ASYNC),
        BOUNDLESS,
        remark="Requests per second. Our sliding log is left out: it takes no limit above 10,000.",
    ),
    Scenario(
        "tiers-sync",
        "three tiers (user, address, everybody), one blocking caller",
        "blocking",
        1,
        _tiered(BLOCKING),
        BOUNDLESS,
        remark="Requests per second.",
    ),
    Scenario(
        "memory",
        "in memory, 1,000 known keys",
        "memory",
        1,
        MEMORY,
        keys=lambda: in_turn(MORE_USERS),
        warming=MORE_USERS,
        by_kind=True,
        remark="One blocking caller; all of these keys owe something.",
    ),
    Scenario(
        "memory-random",
        "in memory, 20,000 keys at random",
        "memory",
        1,
        MEMORY,
        ROOMY,
        at_random,
        CROWD,
        by_kind=True,
        remark=f"One blocking caller. A million an hour for each key: most owe nothing when met again. {FORGETS}",
    ),
    Scenario(
        "memory-new",
        "in memory, keys never seen before",
        "memory",
        1,
        MEMORY,
        EVERYDAY,
        strangers,
        by_kind=True,
        made_before=2_000_000,
        remark=f"One blocking caller, 100 a minute for each key. {FORGETS}",
    ),
    Scenario(
        "memory-denied",
        "in memory, all denied",
        "memory",
        1,
        MEMORY,
        TIGHT,
        lambda: in_turn(ATTACKERS),
        ATTACKERS * (TIGHT.tokens + 1),
        never,
        by_kind=True,
        remark="One blocking caller.",
    ),
)
