"""The short ways, which most requests take, say what the long ones say."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.profiles  # noqa: F401 - its settings hold
from headgate import Limiter, ManualClock, MemoryStore
from headgate.identity import Identity
from headgate.rules import Rule, Rules
from headgate.web.admission import Admission
from headgate.web.asgi import RateLimits
from headgate.web.asking import admit
from headgate.web.core import WebLimiter
from headgate.web.headers import STYLES, binding_of, fields
from headgate.web.responses import Responses, encoded
from tests.web.asking import Asked

LIMITS = [
    "5/minute",
    "1/second; burst=3",
    "fixed-window 5/minute",
    "fixed-window 3/day; tz=Europe/Berlin",
    "sliding-window 5/minute",
    "sliding-log 5/minute",
    "concurrency 2",
]


PLAIN = [
    ([Rule("5/hour")], {}, True),
    ([Rule("5/hour")], {"exempt": ["/health"]}, True),
    ([Rule("5/hour", cost=2)], {}, True),
    ([Rule("5/hour"), Rule("9/hour")], {}, False),
    ([Rule(["5/hour", "9/hour"])], {}, False),
    ([Rule("5/hour", paths=["/"])], {}, False),
    ([Rule("5/hour", methods=["GET"])], {}, False),
    ([Rule("5/hour")], {"allow": ["10.0.0.0/8"]}, False),
    ([Rule("5/hour")], {"deny": ["10.0.0.0/8"]}, False),
    ([Rule("5/hour")], {"identity": Identity("user", "ip")}, False),
    ([Rule("5/hour", exempt_when=lambda request: request.path == "/free")], {}, False),
    ([Rule("5/hour", key="*")], {}, True),
    ([Rule("5/hour", key="ip")], {}, True),
    ([Rule("5/hour", key=Identity("ip", ipv6_prefix=56))], {}, True),
    ([Rule("5/hour", key="user")], {}, False),
    ([Rule("5/hour", key=lambda request: request.user)], {}, False),
    ([Rule("5/hour", tier=lambda request: request.user, tiers={"pro": "9/hour"})], {}, False),
    ([Rule("5/hour", is_shadow=True)], {}, False),
    ([Rule("5/hour", wait=1)], {}, False),
    ([Rule("5/hour", near=0.1)], {}, False),
    ([Rule("5/hour", penalty="10 denials/minute -> 1h")], {}, False),
    ([Rule("concurrency 5")], {}, False),
    ([], {}, False),
]
"""Rules of apps, what else these say, and whether a request of theirs is plain."""


@pytest.mark.parametrize(("rules", "options", "is_plain"), PLAIN)
def test_the_short_way_is_for_plain_requests_alone(rules: list[Rule], options: dict[str, Any], is_plain: bool) -> None:
    app = WebLimiter(Limiter, Rules(rules, **options))
    assert (app.plain.of(Asked(), (), has_own=False, known=None) is not None) is is_plain
    assert app.plain.of(Asked(method="OPTIONS"), (), has_own=False, known=None) is None
    assert app.plain.of(Asked(), (Rule("5/hour", wait=1),), has_own=False, known=None) is None
    if options.get("exempt"):
        assert app.plain.of(Asked("/health"), (), has_own=False, known=None) is None


def test_what_was_decided_before_decides_about_the_short_way() -> None:
    app, own = WebLimiter(Limiter, Rules([Rule("5/hour", paths=["/x"])])), (Rule("3/hour", name="own"),)
    known = Admission(Asked())
    assert app.plain.of(Asked(), own, has_own=False, known=None) is None
    assert app.plain.of(Asked(), own, has_own=False, known=known) is not None
    known.is_exempt = True
    assert app.plain.of(Asked(), own, has_own=False, known=known) is None
    known = Admission(Asked())
    known.refusal = "limit"
    assert app.plain.of(Asked(), own, has_own=False, known=known) is None


def in_full(responses: Responses, admission: Admission) -> list[tuple[str, str]]:
    """The fields as they follow from how the key stands with each limit."""
    standings = [one for verdict in admission.verdicts for one in verdict.decision.standings(verdict.labels)]
    return fields(responses.styles, standings, binding_of(standings), reset=responses.reset)


@given(
    limit=st.sampled_from(LIMITS),
    styles=st.sampled_from([*[(style,) for style in STYLES], ("legacy", "draft-11")]),
    steps=st.lists(st.tuples(st.integers(0, 40_000_000), st.integers(1, 2)), min_size=1, max_size=12),
)
def test_the_fields_are_those_of_how_the_key_stands(
    limit: str, styles: tuple[Any, ...], steps: list[tuple[int, int]]
) -> None:
    clock, responses = ManualClock(), Responses(styles)
    rules = Rules([Rule(limit, name="api", cost=lambda request: int(request.headers["cost"]))])
    app = WebLimiter(Limiter, rules, store=MemoryStore(clock), responses=responses)
    for pause_us, cost in steps:
        clock.advance(microseconds=pause_us)
        told = admit(app, Asked(headers={"cost": str(cost)}))
        assert responses.fields(told) == in_full(responses, told)
        assert responses.raw_fields(told) == encoded(in_full(responses, told))


class Server:
    """A server's part in a request: as with most of them, its `send` has the scope."""

    def __init__(self) -> None:
        self.scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("203.0.113.7", 5)}
        self.told: list[Any] = []

    async def receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.told.append(message)


@pytest.mark.parametrize("limit", ["5/minute", "concurrency 5"])
async def test_nothing_of_a_request_waits_for_the_garbage_collector(limit: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    limited = RateLimits(limit).middleware(app)
    gc.disable()
    try:
        server = Server()
        await limited(server.scope, server.receive, server.send)
        assert server.told[0]["headers"]
        left = weakref.ref(server)
        await asyncio.sleep(0)  # a task that has ended is let go by its loop
        del server
        assert left() is None
    finally:
        gc.enable()
