"""`--limiter` of `headgate keys`, `top`, `reset` and `copy`: all that a limiter counts, and nothing that others do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headgate import Limiter
from headgate.stores.registry import open_store
from tests.cli.stored import in_terminal, told

LIMITERS = {
    "multi": (["10/hour; burst=20", "fixed-window 1000/day"], None),
    "login": ("1/day", "2 denials/hour -> 1h"),
    "web": ({"user": "5/hour", "ip": "9/hour"}, "2 denials/hour -> 1h"),
    "webhooks": ("3/hour", None),
    "shop.cart": ("1/hour", "1 denial/hour -> 1h"),
}
"""An app's limiters: their limits, and their penalties."""
NAMES = {
    "multi": {"multi.per-hour", "multi.per-day"},
    "login": {"login", "login.penalty"},
    "web": {"web.user", "web.user:penalty", "web.ip"},
    "webhooks": {"webhooks"},
    "shop.cart": {"shop.cart", "shop%2Ecart.penalty"},
}
"""What of each a store keeps, when `mallory` was denied often."""


@contextmanager
def limiters(url: str, prefix: str) -> Iterator[dict[str, Limiter]]:
    """The app's limiters."""
    store = open_store(url, prefix=prefix, timeout=10)
    yield {
        name: Limiter(limits, name=name, penalty=penalty, store=store, on_outage="raise")  # type: ignore[arg-type]
        for name, (limits, penalty) in LIMITERS.items()
    }
    store.close()


@pytest.fixture
def named(url: str, prefix: str) -> tuple[str, ...]:
    """The store, in which `mallory` owes to all limiters, and is blocked by those that have a penalty."""
    with limiters(url, prefix) as found:
        for name, limiter in found.items():
            if name == "web":
                limiter.try_acquire({"user": "mallory", "ip": "192.0.2.1"}, 5)
            for _ in range(3):
                limiter.try_acquire({"user": "mallory", "ip": "192.0.2.1"} if name == "web" else "mallory")
    return "--store", url, "--store-prefix", prefix


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> set[str]:
    """The names of limits that `keys` lists."""
    code, out, err = told(capsys, "keys", "--json", "--first", "0", *argv)
    assert (code, err) == (0, "")
    return {json.loads(line)["limit"] for line in out.splitlines()}


def test_keys_and_top_show_all_that_a_limiter_counts(
    named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for limiter, names in NAMES.items():
        assert shown(capsys, *named, "--limiter", limiter) == names
        code, out, _ = told(capsys, "top", "--once", "--json", *named, "--limiter", limiter)
        look = json.loads(out)
        assert {row["limit"] for row in look["rows"]} == names
        assert code == (3 if LIMITERS[limiter][1] else 0)  # the block is seen
    assert shown(capsys, *named, "--limiter", "login.penalty") == {"login.penalty"}  # a limit, as `keys` calls it
    assert shown(capsys, *named, "--limiter", "shop") == {"shop.cart"}  # which it may have, for all that a store knows
    assert shown(capsys, *named, "--limiter", "we") == set()


def test_who_is_reset_is_blocked_no_more(
    named: tuple[str, ...], url: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = told(capsys, "reset", "mallory", "--limiter", "login", *named)
    assert (code, out) == (0, "mallory: 2 entries forgotten\n")
    with limiters(url, prefix) as found:
        assert found["login"].try_acquire("mallory")
        assert not found["shop.cart"].try_acquire("mallory")
    assert shown(capsys, *named) == set().union(*NAMES.values()) - {"login.penalty"}


def test_a_limiter_is_reset_for_all(named: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "reset", "--all", "--yes", "--limiter", "web", *named)
    assert code == 0
    assert out.startswith("3 entries forgotten in ")
    assert shown(capsys, *named) == set().union(*NAMES.values()) - NAMES["web"]


def test_blocks_are_carried_to_another_store(
    named: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"sqlite:///{tmp_path}/target.db"
    for limiter, names in NAMES.items():
        code, out, _ = told(
            capsys, "copy", "--from", named[1], "--from-prefix", named[3], "--to", target, "--limiter", limiter
        )
        assert code == 0
        assert out.startswith(f"{len(names)} of {len(names)} entries written to ")
        assert shown(capsys, "--store", target, "--limiter", limiter) == names
    with limiters(target, "headgate") as found:
        assert not found["login"].try_acquire("mallory")


@pytest.mark.parametrize(
    "arguments",
    [("keys",), ("top", "--once"), ("peek", "k"), ("reset", "k"), ("reset", "--all", "--yes")],
    ids=" ".join,
)
def test_a_file_that_is_not_there_is_said_and_not_made(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = told(capsys, *arguments, "--store", f"sqlite:///{tmp_path}/slip.db")
    assert (code, out) == (2, "")
    assert err.startswith(f"headgate: there is no file '{tmp_path}/slip.db': check the path")
    assert not list(tmp_path.iterdir())


def test_nothing_is_carried_from_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(
        capsys, "copy", "--from", f"sqlite:///{tmp_path}/slip.db", "--to", f"sqlite:///{tmp_path}/new.db"
    )
    assert (code, out) == (2, "")
    assert f"there is no file '{tmp_path}/slip.db'" in err
    assert not list(tmp_path.iterdir())


def test_what_the_file_says_to_be_another_limiters_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    store = open_store(url)
    for limits, name, key in (
        ({"user": "5/hour"}, "web", {"user": "k"}),
        ("5/hour", "web.user", "k"),
        ("5/hour", "web.admin", "k"),
        ("5/hour", "web.old", "k"),
    ):
        Limiter(limits, name=name, store=store).try_acquire(key)
    store.close()
    file = tmp_path / "headgate.toml"
    head = f'[stores.main]\nurl = "{url}"\n'
    others = "".join(f'[limiters."{name}"]\nstore = "main"\nlimit = "5/hour"\n' for name in ("web.user", "web.admin"))
    own = '[limiters.web]\nstore = "main"\nlimits = { user = "5/hour" }\n'
    assert shown(capsys, "--store", url, "--limiter", "web") == {"web.user", "web.admin", "web.old"}
    file.write_text(head + others)
    assert shown(capsys, "--config", str(file), "--limiter", "web") == {"web.old"}
    file.write_text(head + others + own)  # two limiters count in one place
    assert shown(capsys, "--config", str(file), "--limiter", "web") == {"web.user", "web.old"}
    told(capsys, "reset", "--all", "--yes", "--config", str(file), "--limiter", "web")
    assert shown(capsys, "--store", url) == {"web.admin"}


def test_it_asks_of_a_limiter(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    (tmp_path / "limits.db").touch()
    printed = in_terminal("reset", "--all", "--limiter", "web", "--store", url, answer="n\n")
    assert "Forget all keys of the limiter 'web' in sqlite:///" in printed
