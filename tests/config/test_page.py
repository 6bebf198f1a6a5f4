"""The page has every key, in the words of the tables' description. To write its rows anew:
`python -m tests.config.test_page`."""

from __future__ import annotations

import pytest

from headgate.config import tables
from headgate.config.table import Table
from tests.docs.markdown import ROOT

SHOWN = {
    "`[stores.NAME]`": tables.STORE,
    "`breaker` of a store": tables.BREAKER,
    "`[limiters.NAME]`": tables.LIMITER,
    "`lease` of a limiter": tables.LEASE,
    "`[web]`": tables.WEB,
    "`api_key` of `[web]`": tables.API_KEY,
    "`[[rules]]`": tables.RULE,
    "`charge_when` of a rule": tables.RESPONSES,
    "`cost` and `actual_cost` of a rule, from a header": tables.OF_HEADER,
}


def rows(title: str, table: Table) -> list[str]:
    own = {name: key for name, key in table.keys.items() if not key.alias_of}
    return [
        f"| {title} | meaning | value |",
        "| --- | --- | --- |",
        *(f"| `{name}` | {key.help} | {key.kind.words} |" for name, key in own.items()),
    ]


@pytest.mark.parametrize("title", SHOWN)
def test_the_page_has_every_key(title: str) -> None:
    page = (ROOT / "docs/configuration.md").read_text("utf-8")
    assert "\n".join(rows(title, SHOWN[title])) in page


if __name__ == "__main__":
    print("\n\n".join("\n".join(rows(title, table)) for title, table in SHOWN.items()))
