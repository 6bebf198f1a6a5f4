"""`headgate schema postgres`: what it prints makes the schema, for a role that it names."""

from __future__ import annotations

import psycopg
import pytest

from headgate import Limiter
from headgate.cli import main
from headgate.stores.postgres import PostgresStore


def test_what_is_printed_makes_the_schema(postgres_url: str, capsys: pytest.CaptureFixture[str], prefix: str) -> None:
    assert main(["schema", "postgres", "--schema", "printed", "--unlogged", "--grant", "printed_role"]) == 0
    printed = capsys.readouterr().out
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("drop schema if exists printed cascade")
        admin.execute("drop role if exists printed_role")
        admin.execute("create role printed_role login")
        try:
            for _ in range(2):
                admin.execute(printed)
            url = postgres_url.replace("//postgres@", "//printed_role@")
            store = PostgresStore(url, schema="printed", prefix=prefix, timeout=10)
            assert Limiter("10/day", store=store, on_outage="raise").try_acquire("k").remaining == 9
            store.close()
        finally:
            admin.execute("drop schema printed cascade")
            admin.execute("drop role printed_role")


@pytest.mark.parametrize("words", [["--schema", "a;b"], ["--grant", 'a"b']])
def test_a_name_that_would_need_quoting_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "postgres", *words]) == 2
    assert "at most 63 letters" in capsys.readouterr().err
