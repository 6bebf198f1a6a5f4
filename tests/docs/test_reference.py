"""The reference says what there is: every public name, every method, and the errors as they are."""

from __future__ import annotations

import re

import pytest

import headgate
from headgate import AsyncLimiter, Decision, Limiter, errors, testing
from tests.docs.markdown import ROOT, blocks

API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
EVERYTHING = API + (ROOT / "docs/testing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({*headgate.__all__, *testing.__all__} - {"Limit", "Hold", "HeadgateError"}))
def test_every_public_name_is_there(name: str) -> None:
    assert re.search(rf"\b{name}\b", EVERYTHING)


@pytest.mark.parametrize(
    "name",
    sorted(
        {name for owner in (Limiter, AsyncLimiter, Decision) for name in dir(owner) if not name.startswith("_")}
        - {
            "claim",
            "mark",
            "group",
            "facts",
            "wait_us",
            "instants_us",
            "standings",
            "left",
        }  # for stores, limiters, headers
    ),
)
def test_every_method_is_there(name: str) -> None:
    assert re.search(rf"`[^`\n]*\b{name}\b", API)


def test_the_tree_of_errors_is_the_one_in_the_code() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^ *((?:[├└│]|HeadgateError$).*)$", errors.__doc__, re.MULTILINE)
    (listed,) = (block.code for block in blocks(ROOT / "docs/api.md") if block.code.startswith("HeadgateError"))
    assert [line.strip() for line in listed.splitlines()] == [line.strip() for line in drawn]


def test_the_license_and_the_changelog_are_those_of_the_package() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## {headgate.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
