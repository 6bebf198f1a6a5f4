"""`headgate keys`, `reset` and `copy`, on each kind of store that processes share."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from headgate import (
    Concurrency,
    Decision,
    FixedWindow,
    Limiter,
    ManualClock,
    MemoryStore,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from headgate.cli import main
from headgate.cli.copy import compare_clocks
from headgate.stores import Group, Hit, Limit, ScannableStore
from headgate.stores.registry import open_store
from tests.cli.stored import in_terminal, limiter_of, spent, told, url_of

KINDS = ["SQLite", "Valkey", "Cluster", "PostgreSQL"]
"""The targets of copies: every way of keeping what is carried."""


def test_keys_lists_the_longest_debts_first(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent(url, prefix)
    code, out, err = told(capsys, "keys", "--store", url, "--store-prefix", prefix)
    assert (code, err) == (0, "")
    head, *rows, foot = [line for line in out.splitlines() if line]
    assert head.split() == ["key", "limit", "algorithm", "owes", "kept", "for"]
    assert len(rows) == 6
    assert rows[0].split()[:4] == ["mallory", "login", "token", "bucket"]
    assert "blocked for 60 min" in next(row for row in rows if "login.penalty" in row)
    assert "2 slots held" in rows[-1]
    assert foot.startswith("6 in ")
    assert "\x1b" not in out  # nobody reads colours in a pipe


def test_keys_in_json_by_prefix_and_limiter(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix, "--json")
    _, out, _ = told(capsys, "keys", *named, "--prefix", "user:1", "--limiter", "api")
    found = [json.loads(line) for line in out.splitlines()]
    assert sorted(one["key"] for one in found) == ["user:1", "user:12"]
    assert {one["limit"] for one in found} == {"api"}
    assert all(0 < one["left_s"] <= 3_600 and not one["is_blocked"] for one in found)
    _, out, _ = told(capsys, "keys", *named, "--first", "1")
    assert len(out.splitlines()) == 1
    _, out, _ = told(capsys, "keys", *named, "--first", "0")
    assert len(out.splitlines()) == 6


def test_reset_forgets_these_keys_and_no_others(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix)
    code, out, _ = told(capsys, "reset", "user:1", "nobody", *named)
    assert code == 0
    assert out == "user:1: 2 entries forgotten\nnobody: owes nothing\n"
    api = limiter_of(url, prefix)
    assert api.peek("user:1").remaining == 5
    assert api.peek("user:12").remaining == 2
    code, out, _ = told(capsys, "reset", "mallory", *named)
    assert out == "mallory: 2 entries forgotten\n"
    assert limiter_of(url, prefix, "1/day", "login", penalty="2 denials/hour -> 1h").try_acquire("mallory")


def test_reset_all_by_prefix(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix)
    code, out, _ = told(capsys, "reset", "--all", "--prefix", "user:", "--limiter", "api", "--yes", *named)
    assert code == 0
    assert out.startswith("2 entries forgotten in ")
    code, out, _ = told(capsys, "reset", "--all", "--yes", *named)
    assert out.startswith("4 entries forgotten in ")
    assert "Nothing is owed" in told(capsys, "keys", *named)[1]


def test_all_is_not_forgotten_unless_it_is_confirmed(
    tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, _, err = told(capsys, "reset", "--all", *named)
    assert (code, err) == (2, "headgate: nobody is there to be asked: confirm it by --yes\n")
    assert limiter_of(url, prefix).peek("user:1").remaining == 2


@pytest.mark.parametrize(("answer", "is_done"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False)])
def test_in_a_terminal_it_asks(answer: str, is_done: bool, tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    printed = in_terminal("reset", "--all", "--store", url, "--store-prefix", prefix, answer=answer)
    assert "Forget all keys in sqlite:///" in printed
    assert ("6 entries forgotten" in printed) is is_done
    assert ("Nothing was forgotten." in printed) is not is_done
    assert limiter_of(url, prefix).peek("user:1").remaining == (5 if is_done else 2)


def test_in_a_terminal_there_are_colours_and_no_line_is_too_long(tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    limiter_of(url, prefix).try_acquire("\x1b[31mred" + "k" * 200)
    printed = in_terminal("keys", "--store", url, "--store-prefix", prefix, columns=60)
    assert "\x1b[31m" in printed  # of what is blocked
    assert "\\x1b[31mred" in printed  # a key, of which a terminal is told nothing
    plain = printed.replace("\x1b[31m", "").replace("\x1b[0m", "").replace("\x1b[1m", "")
    assert max(len(line) for line in plain.splitlines() if "sqlite" not in line) <= 62


def test_in_a_pipe_no_key_is_folded(
    tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    url = f"sqlite:///{tmp_path}/limits.db"
    limiter = limiter_of(url, prefix, name="a limit of which the name is long " * 4)
    limiter.try_acquire("k" * 1_000)
    _, out, _ = told(capsys, "keys", "--store", url, "--store-prefix", prefix)
    assert "k" * 1_000 in out
    assert len(out.splitlines()) == 3
    _, out, _ = told(capsys, "peek", "k" * 1_000, "--store", url, "--store-prefix", prefix)
    assert "k" * 1_000 in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("keys", "--store", "mongodb://x"), "store URL mongodb://... is not understood"),
        (("keys", "--store", "main", "--store-prefix", "p"), "--store-prefix goes with a URL"),
        (
            ("keys", "--store", "other", "--config", "FILE"),
            "the configuration has no store 'other': there are main, spare",
        ),
        (("keys", "--config", "FILE"), "which store? Name it by --store: there are main, spare"),
        (("reset", "--store", "sqlite:///x.db"), "which keys? Name some, or all of them by --all"),
        (("reset", "k", "--all", "--store", "sqlite:///x.db"), "which keys?"),
        (("reset", "k", "--prefix", "p", "--store", "sqlite:///x.db"), "--prefix goes with --all"),
        (("reset", "a\0b", "--store", "sqlite:///x.db"), "a key must not hold NUL"),
        (("keys", "--store", "memory://"), "a store in memory is in one process"),
    ],
)
def test_what_is_not_understood_is_said(
    argv: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[stores.main]\nurl = "sqlite:///a.db"\n[stores.spare]\nurl = "sqlite:///b.db"\n')
    code, out, err = told(capsys, *[str(file) if word == "FILE" else word for word in argv])
    assert (code, out) == (2, "")
    assert message in err


def test_a_store_may_be_named_in_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(f'[stores.main]\nurl = "sqlite:///{tmp_path}/a.db"\nkey_prefix = "shop"\n')
    limiter_of(f"sqlite:///{tmp_path}/a.db", "shop").try_acquire("user:1")
    for named in ((), ("--store", "main")):
        code, out, _ = told(capsys, "keys", *named, "--config", str(file), "--json")
        assert code == 0
        assert json.loads(out)["key"] == "user:1"


def test_a_store_that_does_not_answer_is_an_outage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody, there = "redis://127.0.0.1:1", f"sqlite:///{tmp_path}/x.db"
    for argv in (
        ("keys", "--store", nobody),
        ("reset", "k", "--store", nobody),
        ("copy", "--from", nobody, "--to", there),
        ("copy", "--from", there, "--to", nobody),
    ):
        code, out, err = told(capsys, *argv)
        assert (code, out) == (1, "")
        assert "it cannot be reached" in err


# Moving to another store


@pytest.mark.parametrize("target", KINDS)
def test_what_is_owed_is_carried_to_another_store(
    url: str,
    target: str,
    prefix: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spent(url, prefix)
    there = url_of(request, target, tmp_path / "target.db")
    to = ("--to", there, "--to-prefix", f"{prefix}-moved")
    command = ("copy", "--from", url, "--from-prefix", prefix, *to)
    code, out, _ = told(capsys, *command, "--dry-run")
    assert code == 0
    assert out.startswith("6 entries in ")
    code, out, err = told(capsys, *command)
    assert (code, err) == (0, "")
    assert out.startswith("6 of 6 entries written to ")
    moved = f"{prefix}-moved"
    assert limiter_of(there, moved).peek("user:1").remaining == 2
    assert limiter_of(there, moved, "concurrency 3; ttl=60s", "jobs").peek("user:1").remaining == 1
    login = limiter_of(there, moved, "1/day", "login", penalty="2 denials/hour -> 1h")
    assert login.peek("mallory").retry_after > 3_000


def test_while_an_app_goes_over_it_admits_at_most_a_bucket_more(url: str, prefix: str, tmp_path: Path) -> None:
    """Copied, then half the instances go over, then copied again when all have."""
    there = f"sqlite:///{tmp_path}/target.db"
    command = ("copy", "--from", url, "--from-prefix", prefix, "--to", there, "--to-prefix", prefix)
    before, after = limiter_of(url, prefix, "100/day"), limiter_of(there, prefix, "100/day")

    def admitted(*limiters: Limiter, times: int) -> int:
        decisions: list[Decision] = [limiter.try_acquire("k") for _ in range(times) for limiter in limiters]
        return sum(decision.allowed for decision in decisions)

    count = admitted(before, times=60)
    assert main(command) == 0
    count += admitted(before, after, times=15)  # the new ones do not know what the old ones spend
    assert main(command) == 0  # the same was spent in both: whichever lasts longer is kept
    count += admitted(after, times=100)
    assert 100 <= count <= 100 + 15


def test_slots_that_are_held_stay_held(url: str, prefix: str, tmp_path: Path) -> None:
    there = f"sqlite:///{tmp_path}/target.db"
    limit = Concurrency(2, ttl=60)
    before = Limiter(limit, store=open_store(url, prefix=prefix, timeout=10), name="jobs")
    after = Limiter(limit, store=open_store(there, prefix=prefix), name="jobs")
    held = before.try_acquire("k", 2)
    assert held
    assert main(("copy", "--from", url, "--from-prefix", prefix, "--to", there, "--to-prefix", prefix)) == 0
    assert not after.try_acquire("k")


# The bounds that docs/moving-stores.md names, by a clock of the test's


def owing(limit: Limit, cost: int, clock: ManualClock, holder: str = "holder") -> MemoryStore:
    """A store in which a key has spent."""
    store = MemoryStore(clock)
    store.decide([spend_of(limit, cost, holder)])
    return store


def spend_of(limit: Limit, cost: int = 1, holder: str = "holder") -> Group:
    return Group((Hit(limit, "k", "api", cost, holder),))


def left(store: MemoryStore, limit: Limit) -> int:
    """How much the key may still spend."""
    count: int = store.decide([Group((Hit(limit, "k", "api"),), 0, "peek")])[0].remaining
    return count


LASTING = [
    TokenBucket(100, per=3_600),
    FixedWindow(100, per=3_600),
    SlidingWindow(100, per=3_600),
    SlidingLog(100, per=3_600),
]


@pytest.mark.parametrize("limit", LASTING, ids=lambda limit: type(limit).__name__)
def test_copied_before_the_new_store_is_used_nothing_is_given_away(limit: Limit) -> None:
    clock = ManualClock()
    before, after = owing(limit, 70, clock), MemoryStore(clock)
    after.restore(before.scan())
    assert left(after, limit) == 30


@pytest.mark.parametrize("limit", LASTING, ids=lambda limit: type(limit).__name__)
def test_while_an_app_goes_over_at_most_twice_the_limit_is_admitted(limit: Limit) -> None:
    """Whatever is spent where, and in whichever order."""
    for spent_before, spent_old, spent_new in ((0, 100, 100), (60, 40, 40), (10, 1, 90), (10, 90, 1), (100, 0, 0)):
        clock = ManualClock()
        before, after = MemoryStore(clock), MemoryStore(clock)
        count = 0

        def admit(store: MemoryStore, times: int, clock: ManualClock = clock) -> int:
            clock.advance(0.001)
            return sum(store.decide([spend_of(limit)])[0].allowed for _ in range(times))

        count += admit(before, spent_before)
        after.restore(before.scan())
        count += admit(after, spent_new) + admit(before, spent_old)
        after.restore(before.scan())
        count += admit(after, 300)
        assert 100 <= count <= 100 + spent_new


def test_a_second_copy_of_a_bucket_leaves_the_greater_debt() -> None:
    clock, limit = ManualClock(), LASTING[0]
    for old, new in ((70, 20), (20, 70)):
        after = owing(limit, new, clock)
        after.restore(owing(limit, old, clock).scan())
        assert left(after, limit) == 30


@pytest.mark.parametrize("limit", LASTING[1:3], ids=lambda limit: type(limit).__name__)
def test_of_a_window_that_both_stores_have_begun_the_greater_count_is_kept(limit: Limit) -> None:
    clock = ManualClock()
    for old, new in ((70, 20), (20, 70)):
        after = owing(limit, new, clock)
        after.restore(owing(limit, old, clock).scan())
        assert left(after, limit) == 30


def test_of_a_log_and_of_slots_all_are_kept() -> None:
    clock = ManualClock()
    for limit in (SlidingLog(100, per=3_600), Concurrency(100, ttl=3_600)):
        after = owing(limit, 70, clock, "new")
        clock.advance(1)
        after.restore(owing(limit, 1, clock, "old").scan())
        assert left(after, limit) == 29


@pytest.mark.parametrize("ahead_s", [-2, 2])
def test_clocks_that_differ_give_away_no_more_than_is_earned_in_that_time(
    ahead_s: int, capsys: pytest.CaptureFixture[str]
) -> None:
    limit, ours, theirs = TokenBucket(100, per=100), ManualClock(), ManualClock()
    before = owing(limit, 100, ours)
    if ahead_s > 0:
        theirs.advance(ahead_s)
    else:
        ours.advance(-ahead_s)
        before = owing(limit, 100, ours)
    after = MemoryStore(theirs)
    compare_clocks(before, after)
    words = "ahead: of each limit, as much is given away" if ahead_s > 0 else "behind: of each limit, as much is owed"
    assert f"2.00 s {words}" in capsys.readouterr().err
    after.restore(before.scan())
    assert left(after, limit) == max(0, ahead_s)


def test_clocks_that_hardly_differ_are_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = ManualClock(), ManualClock()
    theirs.advance(0.05)
    compare_clocks(MemoryStore(ours), MemoryStore(theirs))
    assert capsys.readouterr().err == ""


def test_how_far_a_copy_is_shows_on_a_terminal_and_nowhere_else(tmp_path: Path, prefix: str) -> None:
    here, there = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"
    limit = FixedWindow(3, per=86_400)
    crowd = MemoryStore()
    crowd.decide([Group((Hit(limit, f"user:{number}", "api"),)) for number in range(1_100)])
    store = open_store(here, prefix=prefix)
    assert isinstance(store, ScannableStore)
    store.restore(crowd.scan())
    store.close()
    command = ("copy", "--from", here, "--from-prefix", prefix, "--to", there, "--to-prefix", prefix)
    assert "1,000 entries" in in_terminal(*command, "--dry-run")
    piped = subprocess.run([sys.executable, "-m", "headgate", *command], capture_output=True, text=True, check=True)
    assert piped.stdout.startswith("1,100 of 1,100 entries written to ")
    assert piped.stderr == ""
