"""Patterns of paths, and the rules that a request meets by them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import InvalidUse
from headgate.rules import Rule, Rules
from headgate.rules.matching import compiled, plain_path


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/login", "/login", True),
        ("/login", "/login/", True),
        ("/login/", "/login", True),
        ("/login", "//login", True),
        ("/login", "/LOGIN", False),
        ("/login", "/login/x", False),
        ("/login", "/loginx", False),
        ("/login", "/login\n", True),  # as Starlette routes it
        ("/login", "/login/\n", True),
        ("/login", "/login\n\n", False),
        ("/login", "/login\nx", False),
        ("/api/*", "/api", True),
        ("/api/*", "/api/", True),
        ("/api/*", "/api/a/b", True),
        ("/api/*", "/api/a\nb", True),
        ("/api/*", "/apix", False),
        ("/users/{id}", "/users/42", True),
        ("/users/{id}", "/users/42/", True),
        ("/users/{id}", "/users", False),
        ("/users/{id}", "/users/42/posts", False),
        ("/users/{id}/posts", "/users/42/posts", True),
        ("/users/{id:int}", "/users/42", True),
        ("/users/{id:int}", "/users/42/posts", False),
        ("/files/{name:path}", "/files/a/b", True),
        ("/files/{name:path}", "/files", True),
        ("/files/{name:path}/raw", "/files/a/b/raw", True),
        ("/files/{name:path}/raw", "/files/raw", True),
        ("/files/*/raw", "/files/a/b/raw", True),
        ("/files/*/raw", "/files/a/b", False),
        ("/files/*.csv", "/files/a/b.csv", True),
        ("/files/*.csv", "/files/a/bxcsv", False),
        ("*", "/anything/at/all", True),
        ("*.php", "/wp/login.php", True),
        ("/", "/", True),
        ("/", "", True),
        ("/", "/x", False),
        ("/*", "/", True),
        ("/*", "/x/y", True),
        ("/a.b+(c)", "/a.b+(c)", True),
    ],
)
def test_a_pattern_matches_what_it_says(pattern: str, path: str, matches: bool) -> None:
    assert bool(compiled(pattern).fullmatch(plain_path(path))) is matches


@pytest.mark.parametrize("pattern", ["", "login", "https://example.com/login"])
def test_a_pattern_that_is_no_path_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidUse, match="begins with '/'"):
        compiled(pattern)


@pytest.mark.parametrize("pattern", ["/users/<id>", "/users/<int:id>/posts", "/files/<path:name>"])
def test_a_pattern_as_flask_and_django_write_it_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidUse, match=r"is written \{id\}, or \* for anything, not <"):
        compiled(pattern)


@given(st.text(max_size=20), st.integers(0, 3), st.integers(0, 3))
def test_slashes_more_or_less_lead_past_no_pattern(path: str, before: int, after: int) -> None:
    pattern = compiled("/" + re.sub(r"[*{}<]", "", path))
    assert pattern.fullmatch(plain_path("/" * (before + 1) + re.sub(r"[*{}<]", "", path) + "/" * after))


def of(rules: Rules, path: str, *methods: str, has_own: bool = False) -> list[str]:
    return [rule.title for rule in rules.of(path, methods, has_own=has_own)]


def test_a_request_meets_the_rules_of_its_path_and_method() -> None:
    rules = Rules(
        [
            Rule("100/minute", name="all"),
            Rule("5/minute", name="login", paths=["/login"], methods=["post"]),
            Rule("10/minute", name="read", paths="/api/*", methods="GET"),
        ]
    )
    assert of(rules, "/", "GET") == ["all"]
    assert of(rules, "/login", "POST") == ["all", "login"]
    assert of(rules, "/login", "GET") == ["all"]
    assert of(rules, "/api/x", "HEAD") == ["all", "read"]
    assert of(rules, "/login", "GET", "POST") == ["all", "login"]  # it asks to be taken for another


def test_a_default_is_for_routes_without_rules_of_their_own() -> None:
    for others in ([], [Rule("1/s", name="other", paths=["/x"])]):
        rules = Rules([Rule("100/minute", name="default", is_default=True), Rule("9/s", name="all"), *others])
        assert of(rules, "/", "GET") == ["default", "all"]
        assert of(rules, "/", "GET", has_own=True) == ["all"]


def test_exempt_paths_are_patterns_too() -> None:
    rules = Rules(exempt=["/health", "/static/*"])
    assert [rules.is_exempt(path) for path in ("/health/", "/static/a.css", "/healthy", "/")] == [
        True,
        True,
        False,
        False,
    ]


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidUse, match="two rules are called 'a'"):
        Rules([Rule("1/s", name="a"), Rule("2/s", name="a")])
    with pytest.raises(InvalidUse, match="give each a name"):
        Rules([Rule("1/s", paths=["/a"]), Rule("1/s", paths=["/b"])])
    same = Rule("1/s", name="a")
    assert Rules([same, same]).all == (same, same)


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidUse, match="a network is written as"):
        Rules(deny=["10.0.0.0/99"])
