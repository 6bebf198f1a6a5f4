"""The response to a request that was refused, and the headers of each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from headgate import AsyncLimiter, InvalidUse, Limiter, ManualClock, MemoryStore
from headgate.rules import Rule, Rules
from headgate.web.admission import Answer
from headgate.web.headers import STYLES
from headgate.web.responses import Responses
from tests.web.asking import App, Asked, MakeApp
from tests.web.structured import parsed

DEAD = "redis://127.0.0.1:1"
TYPES = "https://iana.org/assignments/http-problem-types#"


def app(make_app: MakeApp, rules: Sequence[Rule] | Rules, **options: Any) -> App:
    return make_app(rules, store=MemoryStore(ManualClock()), responses=Responses(**options))


async def refused(app: App, request: Asked | None = None) -> Answer:
    """The answer to the first request that is refused."""
    while (admission := await app.admit(request)).is_admitted:
        pass
    return app.limiter.refuse(admission)


async def test_a_refusal_is_a_problem_that_names_the_policies(make_app: MakeApp) -> None:
    answer = await refused(app(make_app, [Rule("1/minute", name="api"), Rule("100/minute", name="all")]))
    assert answer.status == 429
    assert dict(answer.headers) == {
        "RateLimit-Policy": '"api";q=1;w=60, "all";q=100;w=60',
        "RateLimit": '"api";r=0;t=60, "all";r=99;t=1',
        "Retry-After": "60",
        "Cache-Control": "no-store",
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(answer.body)),
    }
    assert json.loads(answer.body) == {
        "type": TYPES + "quota-exceeded",
        "title": "Quota Exceeded",
        "status": 429,
        "detail": "Too many requests (api): try again in 60 seconds.",
        "violated-policies": ["api"],
    }


async def test_the_rule_that_denies_has_the_word(make_app: MakeApp) -> None:
    rules = [
        Rule("1/minute", name="login", message="Too many log-ins."),
        Rule("3/minute", name="all", message="Later."),
    ]
    made = app(make_app, rules)
    answer = await refused(made)
    assert json.loads(answer.body)["detail"] == "Too many log-ins."
    made = app(make_app, rules[1:], body="text")
    assert (await refused(made)).body == b"Later.\n"


async def test_retry_after_may_be_a_date_that_is_not_too_early(make_app: MakeApp) -> None:
    clock = ManualClock(start_us=1_700_000_000_500_000)
    made = make_app([Rule("1/minute", name="api")], store=MemoryStore(clock), responses=Responses(retry_after="date"))
    answer = await refused(made)
    told = parsedate_to_datetime(dict(answer.headers)["Retry-After"])
    assert told.timestamp() == 1_700_000_061  # half a second after the whole minute
    assert dict(answer.headers)["Retry-After"].endswith(" GMT")
    clock.set(int(told.timestamp()) * 1_000_000)
    admitted = await made.admit()
    assert admitted.is_admitted
    assert "Retry-After" not in dict(made.limiter.fields(admitted))


async def test_fields_may_have_other_names(make_app: MakeApp) -> None:
    names = {"X-RateLimit-Limit": "X-Quota", "Retry-After": "X-Again"}
    made = app(make_app, [Rule("1/minute", name="api")], styles="legacy", names=names)
    admitted = await made.admit()
    fields = [("X-Quota", "1"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")]
    assert made.limiter.fields(admitted) == fields
    assert made.limiter.responses.raw_fields(admitted)[0] == (b"x-quota", b"1")
    assert [*(await refused(made)).headers[:4]] == [*fields, ("X-Again", "60")]


async def test_the_usual_fields_may_have_other_names_as_well(make_app: MakeApp) -> None:
    made = app(make_app, [Rule("1/minute", name="api")], names={"RateLimit": "X-Left"})
    admitted = await made.admit()
    assert [name for name, _ in made.limiter.fields(admitted)] == ["RateLimit-Policy", "X-Left"]
    assert [name for name, _ in made.limiter.responses.raw_fields(admitted)] == [b"ratelimit-policy", b"x-left"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retry_after": "soon"}, "retry_after is 'delta'"),
        ({"names": {"X-RateLimit-Limit": "X-Quota"}}, "is not written here; there are RateLimit-Policy, RateLimit"),
        ({"names": {"RateLimit": "a b"}}, "'a b' is no name of a header"),
        ({"names": {"RateLimit": "ratelimit-policy"}}, "two fields would have one name"),
    ],
)
def test_options_of_fields_that_do_not_fit_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidUse, match=says):
        Responses(**options)


async def test_a_refusal_may_be_a_line_of_text(make_app: MakeApp) -> None:
    answer = await refused(app(make_app, [Rule("1/second", name="api")], body="text"))
    assert answer.body == b"Too many requests (api): try again in 1 second.\n"
    assert dict(answer.headers)["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("body", ["problem", "text"])
async def test_a_refusal_of_head_has_no_body(make_app: MakeApp, body: str) -> None:
    answer = await refused(app(make_app, [Rule("1/second", name="api")], body=body), Asked(method="HEAD"))
    assert (answer.status, answer.body) == (429, b"")
    assert int(dict(answer.headers)["Content-Length"]) > 0  # as the response to a GET has it
    assert dict(answer.headers)["Retry-After"] == "1"


async def test_without_headers_a_refusal_says_when_to_come_back(make_app: MakeApp) -> None:
    limits = app(make_app, [Rule("1/minute", name="api")], styles=None)
    admission = await limits.admit()
    assert limits.limiter.fields(admission) == []
    assert dict((await refused(limits)).headers)["Retry-After"] == "60"


async def test_a_store_that_is_gone_is_a_503_that_names_no_store(make_app: MakeApp) -> None:
    limits = make_app([Rule("1/minute", name="api", on_outage="closed")], store=DEAD, timeout=0.05)
    answer = await refused(limits)
    assert answer.status == 503
    problem = json.loads(answer.body)
    assert problem["type"] == TYPES + "temporary-reduced-capacity"
    assert problem["title"] == "Temporary Reduced Capacity"
    assert "violated-policies" not in problem
    headers = dict(answer.headers)
    assert headers["Retry-After"] == "1"
    assert headers["Cache-Control"] == "no-store"
    assert "RateLimit" not in headers
    assert "127.0.0.1" not in f"{answer}"
    await limits.limiter.aclose()


async def test_in_an_outage_that_lets_requests_through_no_quota_is_made_up(make_app: MakeApp) -> None:
    limits = make_app([Rule("1/minute", name="api")], store=DEAD, timeout=0.05)
    admission = await limits.admit()
    assert limits.limiter.fields(admission) == [("RateLimit-Policy", '"api";q=1;w=60')]
    await limits.limiter.aclose()


@pytest.mark.parametrize("body", ["problem", "text"])
async def test_a_network_that_is_refused_gets_a_403(make_app: MakeApp, body: str) -> None:
    answer = await refused(app(make_app, Rules([Rule("9/s")], deny=["203.0.113.0/24"]), body=body))
    assert answer.status == 403
    assert b"Requests from this network are refused." in answer.body
    assert set(dict(answer.headers)) == {"Cache-Control", "Content-Type", "Content-Length"}
    if body == "problem":
        assert json.loads(answer.body) == {
            "type": "about:blank",
            "title": "Forbidden",
            "status": 403,
            "detail": "Requests from this network are refused.",
        }


async def test_a_request_that_costs_too_much_is_told_that_it_never_fits(make_app: MakeApp) -> None:
    answer = await refused(app(make_app, [Rule("5/minute", name="api", cost=lambda _: 6)]))
    assert answer.status == 413
    headers = dict(answer.headers)
    assert "Retry-After" not in headers
    assert headers["RateLimit"].startswith('"api";r=5')
    problem = json.loads(answer.body)
    assert (problem["type"], problem["title"]) == ("about:blank", "Content Too Large")
    assert problem["detail"] == "This request costs more than the limit api ever admits."


async def test_slots_that_are_taken_are_said_to_be_of_requests_at_the_same_time(make_app: MakeApp) -> None:
    limits = app(make_app, [Rule("concurrency 1", name="uploads")])
    admission = await limits.admit()
    assert limits.limiter.fields(admission) == [
        ("RateLimit-Policy", '"uploads";q=1;qu="concurrent-requests"'),
        ("RateLimit", '"uploads";r=0'),
    ]
    answer = await refused(limits)
    assert json.loads(answer.body)["detail"].startswith("Too many requests at the same time (uploads): try again in")
    await limits.finish(admission)


async def test_where_no_limit_was_asked_there_are_no_headers(make_app: MakeApp) -> None:
    for rules in (Rules([]), Rules([Rule("1/s")], exempt=["/"]), Rules([Rule("1/s", is_shadow=True)])):
        limits = app(make_app, rules, styles=["draft-11", "legacy"])
        assert limits.limiter.fields(await limits.admit()) == []


async def test_limits_that_are_asked_apart_are_told_of_together(make_app: MakeApp) -> None:
    rules = [Rule("10/minute", name="api"), Rule("4/minute", name="slow", wait=0.01)]
    limits = app(make_app, rules, styles=["draft-11", "legacy"])
    headers = dict(limits.limiter.fields(await limits.admit()))
    assert headers["RateLimit-Policy"] == '"api";q=10;w=60, "slow";q=4;w=60'
    assert headers["RateLimit"] == '"api";r=9;t=6, "slow";r=3;t=15'
    assert headers["X-RateLimit-Limit"] == "4"


async def test_names_are_those_of_the_rules_in_headers_and_bodies(make_app: MakeApp) -> None:
    rule = Rule({"requests": "10/minute", "tokens": "1/minute"}, name="llm")
    answer = await refused(app(make_app, [rule]))
    names = [name for name, _ in parsed(dict(answer.headers)["RateLimit"])]
    assert names == ["llm:requests", "llm:tokens"]
    assert json.loads(answer.body)["violated-policies"] == ["llm:tokens"]


async def test_no_key_is_in_a_refusal(make_app: MakeApp) -> None:
    for body in ("problem", "text"):
        for styles in STYLES:
            limits = app(make_app, [Rule("1/minute", key="user")], body=body, styles=styles, partition_secret="x" * 16)
            assert "alice" not in str(await refused(limits, Asked(user="alice")))


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
async def test_who_is_blocked_by_a_penalty_is_told_of_abnormal_usage(kind: Any) -> None:
    own = kind("1/minute", name="login", penalty="2 denials/minute -> 1h", store=MemoryStore(ManualClock()))
    limits = App(kind, [Rule(limiter=own)])
    admitted = dict(limits.limiter.fields(await limits.admit()))
    ((name, values),) = parsed(admitted["RateLimit"])
    assert values == {"r": 0, "t": 60}
    denied = await refused(limits)
    assert json.loads(denied.body)["type"] == TYPES + "quota-exceeded"
    assert json.loads(denied.body)["violated-policies"] == [name]
    blocked = await refused(limits)
    problem = json.loads(blocked.body)
    assert (blocked.status, problem["type"]) == (429, TYPES + "abnormal-usage-detected")
    assert problem["title"] == "Abnormal Usage Detected"
    assert dict(blocked.headers)["Retry-After"] == "3600"
    assert problem["detail"].startswith("Refused too often")
    assert problem["detail"].endswith("try again in 3600 seconds.")
    (_, quota), (_, penalty) = parsed(dict(blocked.headers)["RateLimit"])
    assert (quota, penalty) == ({"r": 0, "t": 60}, {"r": 0, "t": 3600})


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
async def test_a_limiter_of_ones_own_with_several_limits_has_its_names(kind: Any) -> None:
    own = kind(["5/s", "100/day"], store=MemoryStore(ManualClock()))
    limits = App(kind, [Rule(limiter=own)])
    headers = dict(limits.limiter.fields(await limits.admit()))
    assert len(parsed(headers["RateLimit"])) == 2


def test_what_does_not_fit_is_refused() -> None:
    wrong: Any = "html"
    with pytest.raises(InvalidUse, match="body is 'problem'"):
        Responses(body=wrong)
    with pytest.raises(InvalidUse, match="reset is 'delta'"):
        Responses(reset=wrong)
    with pytest.raises(InvalidUse, match="unknown header style 'html'"):
        Responses(wrong)
    with pytest.raises(InvalidUse, match="at least 16 bytes"):
        Responses(partition_secret="short")
