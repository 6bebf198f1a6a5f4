"""Patterns of paths beside the routing of frameworks: all that leads to a route of a template has its pattern."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from django.http import HttpResponse
from django.urls import path as django_path
from starlette.routing import compile_path
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.routing import Rule as FlaskRule

from headgate.rules.matching import compiled, plain_path

TEMPLATES = ["/", "/a", "/a/", "/{x}", "/a/{x}", "/{x}/b", "/a-{x}", "/a/{x:path}", "/{x:path}/b", "/{x:path}", "/a.b"]
PIECES = ["/", "//", "a", "b", "A", ".", "-", "\n", "\r", "\x00", "\x85", "\u2028", "\ufffd", ";", " "]
IsRouted = Callable[[str], bool]


def paths(most: int) -> Iterator[str]:
    """All paths of at most so many pieces."""
    for count in range(most + 1):
        for pieces in itertools.product(PIECES, repeat=count):
            yield "/" + "".join(pieces)


def in_angles(template: str) -> str:
    """A template as Flask and Django write it."""
    return template.replace("{x:path}", "<path:x>").replace("{", "<").replace("}", ">")


def starlette(template: str) -> IsRouted:
    expression = compile_path(template)[0]
    return lambda path: expression.match(path) is not None


def django(template: str) -> IsRouted:
    route = django_path(in_angles(template)[1:], HttpResponse)
    return lambda path: route.resolve(path[1:]) is not None


def werkzeug(template: str) -> IsRouted:
    routes = Map([FlaskRule(in_angles(template), endpoint="here")]).bind("localhost")

    def is_routed(path: str) -> bool:
        try:
            routes.match(path)
        except HTTPException:  # not found, or to be asked for under another path
            return False
        return True

    return is_routed


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(("framework", "most"), [(starlette, 4), (django, 3), (werkzeug, 3)])
def test_what_is_routed_has_the_pattern(template: str, framework: Callable[[str], IsRouted], most: int) -> None:
    pattern, is_routed = compiled(template), framework(template)
    routed = [path for path in paths(most) if is_routed(path)]
    assert routed
    assert [path for path in routed if not pattern.fullmatch(plain_path(path))] == []
