"""`headgate schema postgres`: what it prints makes the schema, for a role that it names."""

from __future__ import annotations

import pytest

from headgate import Limiter
from headgate.cli import main
from headgate.stores.postgres import PostgresStore
from tests.postgres_servers import own_postgres


def test_what_is_printed_makes_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "postgres", "--schema", "printed", "--unlogged", "--grant", "app-user@shop"]) == 0
    printed = capsys.readouterr().out
    with own_postgres() as server, server.admin() as admin:
        admin.execute('create role "app-user@shop" login')
        for _ in range(2):
            admin.execute(printed)
        store = PostgresStore(server.url_of("app-user%40shop"), schema="printed", timeout=10)
        assert Limiter("10/day", store=store, on_outage="raise").try_acquire("k").remaining == 9
        store.close()


@pytest.mark.parametrize("words", [["--schema", "a;b"], ["--grant", 'a"b']])
def test_a_name_that_would_need_quoting_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "postgres", *words]) == 2
    assert "at most 63 " in capsys.readouterr().err
