"""Each framework behaves alike, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.web.behaviours.serving import FRAMEWORKS, Place, Server, served
from tests.web.behaviours.suite import Behaviour, everything
from tests.web.behaviours.table import PAGE, expected, page

Start = Callable[[Place], Server]


@pytest.fixture(scope="module", params=FRAMEWORKS)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts the servers of a framework: each once, and only if it is needed."""
    servers: dict[Place, Server] = {}
    with ExitStack() as stack:

        def found(place: Place) -> Server:
            if place not in servers:
                servers[place] = stack.enter_context(served(request.param, place))
            return servers[place]

        yield found


@pytest.mark.parametrize("one", everything(), ids=lambda one: one.title)
def test_a_framework(start: Start, one: Behaviour) -> None:
    server = start(one.place)
    try:
        if server.framework in one.lacks:
            with pytest.raises((AssertionError, KeyError)):
                one.check(server)
        else:
            one.check(server)
    finally:
        server.hang_up()


def test_the_page_has_the_table_of_today() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(expected()), "python -m tests.web.behaviours --write"


def test_no_two_behaviours_have_one_title() -> None:
    titles = [one.title for one in everything()]
    assert len(titles) == len(set(titles))
