"""How the pages on coming from other limiters are put into pairs. The command itself runs both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import coming_from
from benchmarks.coming_from import Pair, in_markdown, told

from tests.docs.markdown import blocks

PAGE = """\
# Coming from slow

## Ask

```python peer
admitted = 3
```

```python
admitted = 2
```

Differs: it admits one
too many.

## Ask again

```python peer
admitted = [True, 1]
```

```python
admitted = [True, 1]
```

That is all.
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    written = tmp_path / "slow.md"
    written.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(coming_from, "FOLDER", tmp_path)
    return written


def test_each_side_runs_its_blocks_alone(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "POSTGRES_URL", "NATS_URL", "PREFIX"):
        monkeypatch.setenv(f"HEADGATE_DOCS_{name}", "not-asked")
    monkeypatch.setattr("tests.docs.run_blocks._use_prefix", lambda _: None)
    assert coming_from.run_side(page, "theirs") == {6: 3, 19: [True, 1]}
    assert coming_from.run_side(page, "ours") == {10: 2, 23: [True, 1]}


def test_a_pair_is_two_blocks_behind_each_other_and_what_the_page_says_of_them(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"theirs": {"6": 3, "19": [True, 1]}, "ours": {"10": 2, "23": [True, 1]}}
    monkeypatch.setattr(coming_from, "_in_process", lambda _, side, __: found[side])
    first, second = coming_from.pairs_of("slow", "redis://not-asked")
    assert first == Pair("slow", "Ask", 3, 2, "it admits one too many.")
    assert second == Pair("slow", "Ask again", [True, 1], [True, 1], "")
    found["ours"].pop("10")
    with pytest.raises(RuntimeError, match="line 6: nothing of ours stands beside it"):
        coming_from.pairs_of("slow", "redis://not-asked")


def test_a_page_has_to_say_what_differs_and_nothing_else() -> None:
    assert Pair("limits", "a", 3, 3, "").is_told
    assert Pair("limits", "a", 3, 2, "one more").is_told
    assert not Pair("limits", "a", 3, 2, "").is_told
    assert not Pair("limits", "a", 3, 3, "one more").is_told


def test_what_was_admitted_is_told_in_a_cell() -> None:
    assert told([True, False, 2]) == "yes, no, 2"
    assert told(10) == "10"


def test_every_page_is_run_or_has_a_reason_not_to_be() -> None:
    pages = {page.stem for page in coming_from.FOLDER.glob("*.md")} - {"README"}
    assert pages == set(coming_from.ORDER)
    for name in pages:
        sides = {"peer" in block.words for block in blocks(coming_from.page_of(name)) if block.language == "python"}
        assert sides == {True, False}


def test_the_table_names_the_difference() -> None:
    table = in_markdown([Pair("limits", "a", [3, True], 2, "one more.")], {"limits": "5.8.0"})
    assert "- [limits](limits.md) (5.8.0)" in table
    assert "| limits | a | 3, yes | 2 | one more. |" in table
    assert "0 of 1 admit the same" in table


def test_a_page_that_is_not_run_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coming_from, "NOT_RUN", {"rate-sync": "needs Python 3.12"})
    page = in_markdown([], {})
    assert "- [rate-sync](rate-sync.md) (not run here)" in page
    assert "The blocks of rate-sync are not run: it needs Python 3.12. Ours beside them are." in page
