"""The JSON schema says the same as the code, of each file that tests bend in whatever way."""

from __future__ import annotations

import copy
import json
import tomllib
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import ConfigError
from headgate.config import load
from headgate.config.places import Place
from headgate.config.schema import schema
from headgate.config.tables import DOCUMENT
from tests.config.test_loading import WHOLE
from tests.docs.markdown import ROOT, blocks, pages

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLE = tomllib.loads(WHOLE.read_text("utf-8"))


def is_of_right_form(document: dict[str, Any]) -> bool:
    place = Place()
    DOCUMENT.read(document, place)
    return not place.problems


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inner for found in paths(one, (*path, key)))]


PATHS = [path for path in paths(EXAMPLE) if path]
WORDS = sorted({str(step) for path in PATHS for step in path} | {"limt", "path", "strategy", "penalty", "secret", "db"})
VALUES = st.one_of(
    st.none().map(lambda _: {}),
    st.booleans(),
    st.integers(-3, 1000),
    st.floats(-1, 600, allow_nan=False),
    st.sampled_from(["", "5/minute", "500ms", "5 parsecs", "ip", "*", "open", "a:b", "a.b:c.d", "4xx", "/x", "${X}"]),
    st.text(max_size=4),
    st.lists(st.sampled_from(["5/s", "/x", "10.0.0.0/8", 401, "legacy"]), max_size=2),
    st.dictionaries(st.sampled_from([*WORDS, "", "bad name"]), st.sampled_from(["5/s", "a:b", 3, {}]), max_size=2),
)


@st.composite
def bent(draw: st.DrawFn) -> dict[str, Any]:
    """The example with one to three changes: something left out, misspelt, added, or of another value."""
    document: dict[str, Any] = copy.deepcopy(EXAMPLE)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(PATHS))
        container: Any = document
        try:
            for step in above:
                container = container[step]
            value = container[last]
        except (KeyError, IndexError, TypeError):
            continue
        if not isinstance(container, (dict, list)):
            continue
        way = draw(st.sampled_from(["drop", "rename", "add", "replace", "replace"]))
        if way == "drop":
            del container[last]
        elif way == "replace":
            container[last] = draw(VALUES)
        elif way == "rename" and isinstance(container, dict):
            container[draw(st.sampled_from(WORDS))] = container.pop(last)
        elif isinstance(value, dict):
            value[draw(st.sampled_from(WORDS))] = draw(VALUES)
    return document


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_whole_example_is_right_for_both() -> None:
    VALIDATOR.validate(EXAMPLE)
    assert is_of_right_form(EXAMPLE)


@settings(max_examples=600, deadline=None)
@given(bent())
def test_the_schema_accepts_what_the_code_accepts(document: dict[str, Any]) -> None:
    is_placeholder = "${" in json.dumps(document)
    is_right = is_of_right_form(document)
    is_valid = VALIDATOR.is_valid(document)
    if is_placeholder:  # what the environment has is for the code alone to see
        assert is_valid or not is_right
    else:
        assert is_valid == is_right


@settings(max_examples=100, deadline=None)
@given(bent())
def test_whatever_is_loaded_is_right_by_the_schema(document: dict[str, Any]) -> None:
    try:
        load(document)
    except ConfigError:
        return  # for what a schema cannot say, perhaps
    assert VALIDATOR.is_valid(document)


def test_the_file_of_the_schema_is_that_of_the_code() -> None:
    """To write it anew: `python -m headgate config schema > docs/headgate.schema.json`."""
    assert json.loads((ROOT / "docs/headgate.schema.json").read_text("utf-8")) == SCHEMA


EXAMPLES = [
    (str(page.relative_to(ROOT)), block.line, block.code)
    for page in pages()
    for block in blocks(page)
    if block.language == "toml"
]


@pytest.mark.parametrize(("page", "line", "code"), EXAMPLES, ids=lambda value: str(value)[:40])
def test_examples_of_the_pages_are_right(page: str, line: int, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tomllib.loads(code)
    if "stores" in document or "limiters" in document or "rules" in document or "web" in document:
        VALIDATOR.validate(document)
        monkeypatch.setenv("REDIS_PASSWORD", "pass")
        monkeypatch.setenv("HEADGATE_SECRET", "sixteen bytes or more")
        load(document, imports=False)
