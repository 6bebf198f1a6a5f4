"""What the page on stores says of who was measured, and of who is not there. The command itself measures."""

from __future__ import annotations

import pytest
from benchmarks import rate_sync, stores
from benchmarks.stores import CONTENDERS, Contender, Row, tables


def not_asked(url: str, keys: int, seconds: float, start: object) -> list[float]:
    raise AssertionError


@pytest.fixture(autouse=True)
def contenders(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"slow": (Contender("one", not_asked), Contender("*two*", not_asked, lacks="needs three"))}
    monkeypatch.setattr(stores, "CONTENDERS", {**there, "away": (Contender("*two*", not_asked, lacks="is away"),)})


def test_a_row_has_the_medians_of_its_runs() -> None:
    row = Row("slow", 0, processes=8, keys=1000)
    lines = tables({row: [(2000.0, 1.0, 9.0), (1500.0, 2.0, 8.0), (1000.0, 3.0, 7.0)]}, ["slow"]).splitlines()
    assert "| one | 8 | 1,000 | 1,500 | 2.00 | 8.0 |" in lines


def test_who_is_not_there_is_named_under_the_table_with_the_reason() -> None:
    page = tables({Row("slow", 0, 1, 1): [(1.0, 1.0, 1.0)]}, ["slow", "away"])
    assert page.index("| one |") < page.index("- *two*: needs three") < page.index("## away")
    assert "## away\n\nNot here:\n\n- *two*: is away" in page


def test_single_callers_of_eight_processes_stand_beside_the_transaction_by_hand() -> None:
    eight = {each.name: each.keys for each in CONTENDERS["PostgreSQL"] if 8 in each.processes}
    assert eight == {"one caller": (1, 1000), stores.BY_HAND: (1, 1000)}


def test_rate_sync_is_asked_where_it_is_installed_with_its_client_and_else_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_sync, "find_spec", lambda _: None)
    assert rate_sync.lacks("asyncpg").startswith("needs Python 3.12 or later")
    monkeypatch.setattr(rate_sync, "find_spec", lambda name: None if name == "asyncpg" else name)
    assert rate_sync.lacks("asyncpg").startswith("needs asyncpg, which is not installed here")
    monkeypatch.setattr(rate_sync, "find_spec", lambda name: name)
    assert rate_sync.lacks("asyncpg") == ""
