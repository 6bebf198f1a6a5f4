"""Deciding about web requests by rules, whatever the framework."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest

from headgate import (
    AsyncLimiter,
    Breaker,
    Decision,
    InvalidCost,
    InvalidUse,
    Limit,
    Limiter,
    LimitError,
    LimitSyntaxError,
    ManualClock,
    MemoryStore,
    Observer,
    observer,
    parse_limit,
)
from headgate.identity import Identity
from headgate.plans.commands import Call
from headgate.rules import Rule, Rules
from headgate.web.admission import Admission
from headgate.web.core import WebLimiter, run_async
from headgate.web.limits import rule_of_route
from headgate.web.messages import WebResponse
from tests.web.asking import App, Asked, MakeApp


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


PEERS = ("203.0.113.1", "203.0.113.2", "203.0.113.3")


def nobody_listens() -> str:
    """A store that does not answer."""
    return "redis://127.0.0.1:1/0"


class Heard(Observer):
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def near_limit(self, limiter: str, decision: Decision) -> None:
        self.told.append(("near", limiter))

    def shadow_denied(self, limiter: str, decision: Decision) -> None:
        self.told.append(("shadow", limiter))


@pytest.fixture
def heard() -> Any:
    observing = Heard()
    detach = observer.attach(observing)
    yield observing
    detach()


# --- rules ---


async def test_a_request_that_meets_no_rule_goes(make_app: MakeApp) -> None:
    app = make_app([Rule("1/hour", paths=["/login"])])
    for _ in range(3):
        admission = await app.admit()
        assert admission.is_admitted
        assert admission.binding is None
        assert app.limiter.fields(admission) == []


async def test_a_rule_admits_as_many_as_it_says(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour", name="all")])
    assert await app.left() == 3
    admission = await app.admit()
    assert admission.refusal == "limit"
    assert admission.binding is not None
    assert admission.binding.label == "all"
    assert app.limiter.refuse(admission).status == 429


async def test_limits_of_one_period_hold_all_of_them(make_app: MakeApp) -> None:
    app = make_app([Rule(["3/hour", "fixed-window 9/hour", "9/hour"], name="all")])
    admission = await app.admit()
    assert [hit.limit.capacity for hit in admission.verdicts[0].decision.group.hits] == [3, 9, 9]
    assert await app.left() == 2


async def test_each_caller_has_a_share(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour")])
    assert await app.left() == 3
    assert await app.left(Asked(peer="203.0.113.8")) == 3


async def test_several_rules_stand_or_fall_together(make_app: MakeApp, store: MemoryStore) -> None:
    app = make_app([Rule("3/hour", name="few"), Rule("10/hour", name="many")], store=store)
    assert await app.left() == 3
    more = make_app([Rule("10/hour", name="many")], store=store)
    assert await more.left() == 7  # the denials took nothing


async def test_one_limit_alone_and_beside_others_is_the_same_limit(make_app: MakeApp) -> None:
    app = make_app([Rule("5/hour", name="all"), Rule("9/hour", name="api", paths=["/api/*"])])
    assert (await app.admit(Asked("/api/x"))).is_admitted
    assert (await app.admit(Asked("/"))).is_admitted
    assert await app.left(Asked("/api/x")) == 3


@pytest.mark.parametrize("name", ["all", "a-b", "with/slash", "x" * 64])
async def test_a_rule_counts_on_under_other_numbers(make_app: MakeApp, store: MemoryStore, name: str) -> None:
    app = make_app([Rule("fixed-window 5/hour", name=name)], store=store)
    assert await app.left() == 5
    app.limiter.rules = Rules([Rule("fixed-window 8/hour", name=name), Rule("9/hour", name="other")])
    assert await app.left() == 3


async def test_rules_that_do_not_fit_leave_the_old_ones(store: MemoryStore) -> None:
    async def tier(request: object) -> str:
        return "pro"

    app = App(Limiter, [Rule("2/hour", name="a")], store=store)
    with pytest.raises(InvalidUse, match=r"tier of rule 'a' is async, and this framework blocks"):
        app.limiter.rules = Rules([Rule("9/hour", name="a", tier=tier)])
    assert await app.left() == 2


async def test_a_route_s_own_rules_are_asked_with_the_app_s(make_app: MakeApp) -> None:
    own = Rule("2/hour", name="own")
    app = make_app([Rule("9/hour", name="default", is_default=True), Rule("5/hour", name="all")])
    assert await app.left(Asked(), own) == 2
    assert await app.left() == 3


async def test_own_rules_may_be_asked_after_the_app_s(make_app: MakeApp) -> None:
    own = Rule("2/hour", name="own")
    app = make_app([Rule("9/hour", name="default", is_default=True), Rule("5/hour", name="all")])
    for index in range(3):
        admission = await app.admit(Asked(), has_own=True)
        assert admission.is_admitted
        assert await app.admit(None, own, known=admission) is admission
        assert admission.is_admitted is (index < 2)
    assert await app.left() == 3  # of the third, the app's was given back


async def test_one_name_in_several_places_is_one_share(make_app: MakeApp) -> None:
    app = make_app([])
    first, second = Rule("5/hour", name="shared"), Rule("5/hour", name="shared")
    assert (await app.admit(Asked("/a"), first)).is_admitted
    assert await app.left(Asked("/b"), second) == 4


async def test_a_rule_without_a_name_gives_each_route_a_share(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour", name="each", is_per_route=True)])
    assert await app.left(Asked("/u/1", route="GET /u/{id}")) == 3
    assert await app.left(Asked("/u/2", route="GET /u/{id}")) == 0
    assert await app.left(Asked("/v", route="GET /v")) == 3
    assert await app.left(Asked("/w")) == 3  # those of no known route, together
    assert await app.left(Asked("/x")) == 0


async def test_several_rules_without_names_in_one_place_are_told_apart(make_app: MakeApp) -> None:
    app = make_app([])
    own = [Rule("3/hour", is_per_route=True), Rule("2/hour", is_per_route=True, key="*")]
    admission = await app.admit(Asked(route="GET /"), *own)
    (verdict,) = admission.verdicts
    assert verdict.part.labels == ("GET /:3/hour", "GET /:2/hour")
    assert await app.left(Asked(route="GET /", peer="203.0.113.9"), *own) == 1


# --- keys ---


@pytest.mark.parametrize(
    ("key", "peer", "user", "is_shared"),
    [
        ("ip", "203.0.113.7", "other", True),
        ("ip", "203.0.113.8", "user", False),
        ("user", "203.0.113.8", "user", True),
        ("user", "203.0.113.7", "other", False),
        ("*", "203.0.113.8", "other", True),
        (lambda request: request.user, "203.0.113.8", "user", True),
        (lambda request: request.user, "203.0.113.7", "other", False),
        (Identity("user"), "203.0.113.8", "user", True),
    ],
)
async def test_a_rule_says_whose_share_it_is(
    make_app: MakeApp, key: Any, peer: str, user: str, is_shared: bool
) -> None:
    app = make_app([Rule("5/hour", key=key, name="all")])
    assert await app.left(Asked(peer="203.0.113.7", user="user")) == 5
    assert await app.left(Asked(peer=peer, user=user)) == (0 if is_shared else 5)


async def test_functions_may_be_async_in_an_event_loop() -> None:
    async def key(request: Asked) -> str | None:
        return request.values("x-team")[0]

    async def cost(request: Asked) -> int:
        return 2

    async def exempt_when(request: Asked) -> bool:
        return request.path == "/free"

    app = App(AsyncLimiter, [Rule("6/hour", key=key, cost=cost, exempt_when=exempt_when)])
    team = {"x-team": "a"}
    assert await app.left(Asked(headers=team)) == 3
    assert (await app.admit(Asked("/free", headers=team))).is_admitted


@pytest.mark.parametrize("what", ["key", "cost", "tier", "limit_for", "exempt_when", "charge_when", "actual_cost"])
def test_a_framework_that_blocks_takes_no_async_function(what: str) -> None:
    async def function(request: object) -> Any:
        return None

    given: Any = {what: function}
    with pytest.raises(InvalidUse, match=f"{what} of rule '5/second' is async, and this framework blocks: give a def"):
        App(Limiter, [Rule("5/s", **given)])


def test_a_limiter_is_of_the_framework_s_kind() -> None:
    with pytest.raises(InvalidUse, match="takes AsyncLimiter, and Limiter would block its event loop"):
        App(AsyncLimiter, [Rule(limiter=Limiter("5/s"))])
    with pytest.raises(InvalidUse, match="takes Limiter, and AsyncLimiter would have to be awaited"):
        App(Limiter, [Rule(limiter=AsyncLimiter("5/s"))])


async def test_a_limiter_of_ones_own_is_asked_for_what_it_limits_elsewhere(make_app: MakeApp) -> None:
    probe = make_app([])
    limiter = probe.limiter.kind(["5/hour", "9/day"], name="mine")
    app = make_app([Rule(limiter=limiter, key="*")])
    spent = limiter.try_acquire("*", 2)
    assert spent if isinstance(limiter, Limiter) else await spent
    assert await app.left() == 3


async def test_a_limiter_of_ones_own_may_be_near_its_limit(make_app: MakeApp, heard: Heard) -> None:
    limiter = make_app([]).limiter.kind(["5/hour", "9/day"])
    app = make_app([Rule(limiter=limiter, name="mine", near=0.5)])
    assert await app.left() == 5
    assert heard.told == [("near", "web.mine:5/hour")] * 3


async def test_a_denial_that_is_remembered_is_told_of_as_any_other(
    make_app: MakeApp, valkey_url: str, prefix: str
) -> None:
    rules = [Rule("9/hour", name="a"), Rule("2/hour", name="b")]
    app = make_app(rules, store=valkey_url, prefix=prefix)
    assert await app.left() == 2
    denied = await app.admit()
    assert denied.decision is not None
    assert denied.decision.source == "memory_of_denial"
    assert denied.binding is not None
    assert denied.binding.label == "b"
    answer = app.limiter.refuse(denied)
    assert json.loads(answer.body)["violated-policies"] == ["b"]
    assert dict(answer.headers)["RateLimit"].startswith('"b";r=0;t=')


# --- cost, tiers ---


async def test_a_cost_is_a_number_or_a_function(make_app: MakeApp) -> None:
    app = make_app(
        [
            Rule("10/hour", name="two", cost=2, paths=["/a"]),
            Rule("10/hour", name="f", cost=lambda request: len(request.path) + 3, paths=["/b"]),
        ]
    )
    assert await app.left(Asked("/a")) == 5
    assert await app.left(Asked("/b")) == 2


async def test_requests_and_tokens_are_one_rule(make_app: MakeApp) -> None:
    rule = Rule({"requests": "5/hour", "tokens": "100/hour"}, name="llm", cost={"tokens": lambda r: int(r.path[1:])})
    app = make_app([rule])
    admission = await app.admit(Asked("/60"))
    assert len(admission.verdicts) == 1
    refused = await app.admit(Asked("/50"))
    assert refused.binding is not None
    assert refused.binding.label == "llm:tokens"
    assert await app.left(Asked("/1")) == 4
    assert await binds(app, Asked("/1")) == "llm:requests"


async def test_a_cost_that_is_none_takes_nothing(make_app: MakeApp) -> None:
    app = make_app(
        [
            Rule("5/hour", name="a"),
            Rule("5/hour", name="b", cost=lambda request: -len(request.path), exempt_when=lambda r: r.path == "/x"),
        ]
    )
    with pytest.raises(InvalidCost):
        await app.admit()
    assert await app.left(Asked("/x")) == 5


async def test_a_cost_that_can_never_be_admitted_is_told_from_a_denial(make_app: MakeApp) -> None:
    app = make_app([Rule("5/hour", name="a"), Rule({"x": "5/hour"}, name="b", cost={"x": lambda r: len(r.path)})])
    admission = await app.admit(Asked("/123456"))
    assert admission.refusal == "cost"
    assert app.limiter.refuse(admission).status == 413
    assert await app.left(Asked("/")) == 5


TIERS = {"pro": "8/hour", "free": "2/hour"}


async def test_a_caller_s_tier_has_numbers_of_its_own(make_app: MakeApp) -> None:
    app = make_app([Rule("4/hour", tiers=TIERS, tier=lambda r: r.path[1:])])
    for tier, peer, expected in (
        ("pro", "1.1.1.1", 8),
        ("free", "1.1.1.2", 2),
        ("", "1.1.1.3", 4),
        ("x", "1.1.1.4", 4),
    ):
        assert await app.left(Asked(f"/{tier}", peer=peer)) == expected


async def test_a_function_says_the_limit_for_a_request(make_app: MakeApp) -> None:
    said: dict[str, str | Limit | None] = {"/a": "3/hour", "/b": parse_limit("sliding-log 5/hour"), "/c": None}
    app = make_app([Rule("2/hour", name="api", limit_for=lambda r: said[r.path])])
    assert [await app.left(Asked(path, peer=peer)) for path, peer in zip(said, PEERS, strict=True)] == [3, 5, 2]


async def test_it_goes_before_the_tier_and_for_the_limits_that_it_names(make_app: MakeApp) -> None:
    limits = {"requests": "9/hour", "bytes": "9/hour"}
    rule = Rule(
        limits,
        name="api",
        tiers={"pro": {"requests": "7/hour", "bytes": "8/hour"}},
        tier=lambda _: "pro",
        limit_for=lambda r: {"requests": "4/hour"} if r.path == "/few" else None,
        penalty="90 denials/minute -> 1h",
    )
    app = make_app([rule])
    assert await app.left(Asked("/few", peer=PEERS[0])) == 4
    assert await app.left(Asked("/", peer=PEERS[1])) == 7


async def test_a_limit_that_is_said_and_not_understood_is_raised_and_takes_nothing(make_app: MakeApp) -> None:
    app = make_app(
        [
            Rule("9/hour", name="all"),
            Rule("2/hour", name="api", limit_for=lambda r: r.path[1:].replace("-", "/") or None),
        ]
    )
    for path in ("/2-fortnight", "/many"):
        with pytest.raises(LimitSyntaxError):
            await app.admit(Asked(path))
    several = make_app([Rule(["2/hour", "9/day"], name="api", limit_for=lambda _: "1/hour")])
    with pytest.raises(InvalidUse, match="is to say which of its limits it means"):
        await several.admit()
    slots = make_app([Rule("2/hour", name="api", limit_for=lambda _: "concurrency 2")])
    with pytest.raises(InvalidUse, match="says 'concurrency 2', and its limit is '2/hour'"):
        await slots.admit()
    assert await app.left() == 2


async def test_a_tier_goes_for_the_limits_that_it_names(make_app: MakeApp) -> None:
    rule = Rule(
        {"requests": "4/hour", "tokens": "100/hour"},
        name="llm",
        tiers={"pro": {"requests": "8/hour"}},
        tier=lambda r: r.path[1:] or None,
        cost={"tokens": 10},
    )
    app = make_app([rule])
    assert await app.left(Asked("/pro")) == 8
    assert await app.left(Asked("/")) == 0
    assert await app.left(Asked("/", peer="203.0.113.8")) == 4


# --- exempt, networks, preflights ---


async def test_who_is_exempt_is_not_counted(make_app: MakeApp) -> None:
    rules = Rules(
        [Rule("2/hour", name="a", exempt_when=lambda r: r.path == "/x"), Rule("9/hour", name="b")], exempt=["/h"]
    )
    app = make_app(rules)
    assert await app.left(Asked("/x")) == 9
    assert await app.left(Asked("/")) == 0
    for _ in range(3):
        assert (await app.admit(Asked("/h"))).is_admitted


async def test_a_network_is_let_through_or_refused(make_app: MakeApp) -> None:
    app = make_app(Rules([Rule("1/hour")], allow=["10.0.0.0/8"], deny=["203.0.113.0/24", "2001:db8::/32"]))
    for _ in range(3):
        assert (await app.admit(Asked(peer="10.1.2.3"), Rule("1/hour"))).is_admitted
    for peer in ("203.0.113.7", "2001:db8::1"):
        admission = await app.admit(Asked(peer=peer))
        assert admission.refusal == "network"
        assert app.limiter.refuse(admission).status == 403
    assert await app.left(Asked(peer="198.51.100.1")) == 1
    assert (await app.admit(Asked(peer=None))).is_admitted


async def test_a_preflight_is_not_counted(make_app: MakeApp) -> None:
    app = make_app([Rule("1/hour")])
    headers = {"origin": "https://a.example", "access-control-request-method": "GET"}
    for _ in range(3):
        assert (await app.admit(Asked(method="OPTIONS", headers=headers), Rule("1/hour"))).is_admitted
    assert (await app.admit(Asked(headers=headers))).is_admitted
    assert not (await app.admit(Asked(headers=headers))).is_admitted
    assert not (await app.admit(Asked(method="OPTIONS"))).is_admitted


@pytest.mark.parametrize("name", ["x-http-method-override", "x-http-method", "x-method-override"])
async def test_who_asks_for_another_method_meets_its_rules(make_app: MakeApp, name: str) -> None:
    app = make_app([Rule("2/hour", methods=["DELETE"])])
    asked = Asked(method="POST", headers={name: ["patch", " delete"]})
    assert await app.left(asked) == 2


@pytest.mark.parametrize("name", ["x-http-method-override", "x-http-method", "x-method-override"])
async def test_who_asks_for_another_method_is_no_preflight(make_app: MakeApp, name: str) -> None:
    app = make_app([Rule("2/hour", methods=["DELETE"])])
    headers = {"origin": "https://a.example", "access-control-request-method": "GET", name: "DELETE"}
    assert await app.left(Asked(method="OPTIONS", headers=headers)) == 2


# --- shadows, waiting, outages ---


async def test_a_shadow_counts_and_never_denies(make_app: MakeApp, heard: Heard) -> None:
    app = make_app([Rule("2/hour", name="new", is_shadow=True), Rule("5/hour", name="old")])
    assert await app.left() == 5
    assert heard.told == [("shadow", "web.new")] * 3
    admission = await app.admit()
    assert admission.binding is not None
    assert admission.binding.label == "old"


async def test_who_is_near_a_limit_is_told_of(make_app: MakeApp, heard: Heard) -> None:
    app = make_app([Rule("10/hour", name="a", near=0.25), Rule("100/hour", name="b")])
    assert await app.left() == 10
    assert heard.told == [("near", "web.a")] * 3  # at 2, 1 and 0


async def test_a_rule_may_hold_requests_back(make_app: MakeApp) -> None:
    app = make_app([Rule("50/second; burst=1", name="slow", wait="5s"), Rule("9/hour", name="all")])
    assert await app.left() == 9
    denied = await app.admit()
    assert denied.binding is not None
    assert denied.binding.label == "all"


async def test_who_would_wait_too_long_is_denied_at_once(make_app: MakeApp, store: MemoryStore) -> None:
    app = make_app([Rule("1/hour; burst=1", wait="500ms", name="a"), Rule("9/hour", name="b")], store=store)
    assert await app.left() == 1
    assert (await app.admit()).decision.retry_after == 3600.0  # type: ignore[union-attr]  # it was asked
    assert await make_app([Rule("9/hour", name="b")], store=store).left() == 8


@pytest.mark.parametrize(("on_outage", "refusal"), [("open", None), ("closed", "outage")])
async def test_a_rule_says_what_an_outage_means(make_app: MakeApp, on_outage: Any, refusal: str | None) -> None:
    app = make_app([Rule("1/hour", on_outage=on_outage)], store=nobody_listens())
    for _ in range(3):
        admission = await app.admit()
        assert admission.refusal == refusal
        await app.finish(admission)
    if refusal:
        assert app.limiter.refuse(admission).status == 503


async def test_each_rule_says_it_for_itself(make_app: MakeApp) -> None:
    rules = [Rule("1/hour", name="a"), Rule("1/hour", name="b", on_outage="closed", paths=["/b"])]
    app = make_app(rules, store=nobody_listens(), breaker=Breaker(failures=1, open_for=60))
    assert (await app.admit(Asked("/"))).is_admitted
    assert (await app.admit(Asked("/b"))).refusal == "outage"


async def test_rules_have_other_limits_in_an_outage(make_app: MakeApp) -> None:
    away: dict[str, Any] = {"on_outage": "local", "instances": 2}
    rules = [
        Rule("90/hour", name=secrets.token_hex(4), paths=["/one"], outage_limit="8/hour", **away),
        Rule(["90/hour", "concurrency 80"], name=secrets.token_hex(4), paths=["/two"], outage_limit="6/hour", **away),
        Rule({"a": "90/hour", "b": "80/hour"}, name=secrets.token_hex(4), outage_limit={"b": "20/hour"}, **away),
    ]
    app = make_app(rules, store=nobody_listens(), breaker=Breaker(failures=1, open_for=60))
    assert await app.left(Asked("/one")) == 4
    assert await app.left(Asked("/two")) == 3
    assert await app.left(Asked("/three")) == 10 - 4 - 3


# --- a reserve ---


def spare(request: Asked) -> int:
    return 0 if request.path == "/critical" else 4


async def test_a_share_is_kept_for_critical_requests(make_app: MakeApp) -> None:
    app = make_app([Rule("10/hour", name="api", reserve=spare)])
    assert await app.left() == 6
    assert (await app.admit()).refusal == "limit"
    assert await app.left(Asked("/critical")) == 4


async def test_a_reserve_goes_by_limit_and_beside_other_rules(make_app: MakeApp) -> None:
    rules = [
        Rule({"requests": "9/hour", "tokens": "100/hour"}, name="llm", cost={"tokens": 10}, reserve={"tokens": 50}),
        Rule(["20/hour", "concurrency 15"], name="all", reserve=13, penalty="90 denials/minute -> 1h"),
    ]
    app = make_app(rules)
    assert await app.left() == 5
    assert await binds(app, Asked()) == "llm:tokens"
    await app.run(app.limiter.reset("ip:203.0.113.7", "llm"))
    assert await app.left() == 2
    assert await binds(app, Asked()) == "all:per-hour"


async def test_a_reserve_may_be_found_out_in_an_event_loop() -> None:
    async def later(request: Asked) -> int:
        return spare(request)

    app = App(AsyncLimiter, [Rule("10/hour", name="api", reserve=later)])
    assert await app.left() == 6
    with pytest.raises(InvalidUse, match="reserve of rule 'api' is async"):
        App(Limiter, [Rule("10/hour", name="api", reserve=later)])


# --- methods ---


async def test_a_rule_of_a_route_is_about_its_methods_and_the_default_about_the_others(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour", name="default", is_default=True)])
    own = Rule("1/hour", name="own", methods=["post"])
    assert await app.left(Asked(method="POST", route="/x"), own) == 1
    assert await app.left(Asked(method="GET", route="/x"), own) == 3
    admission = await app.admit(Asked(method="GET", peer="203.0.113.9"))
    assert (await app.admit(admission.request, own, known=admission)).is_admitted  # type: ignore[arg-type]  # it is asked
    disguised = Asked(method="GET", route="/x", headers={"x-http-method-override": "POST"})
    assert await binds(app, disguised, own) == "own"


async def test_each_method_has_a_share_and_methods_that_are_made_up_have_none(make_app: MakeApp) -> None:
    app = make_app([Rule("2/hour", name="each", is_per_method=True)])
    assert await app.left(Asked(method="POST")) == 2
    assert await app.left(Asked(method="HEAD")) == 2
    assert await app.left(Asked(method="GET")) == 0
    assert sum([(await app.admit(Asked(method=f"MADE-UP-{number}"))).is_admitted for number in range(9)]) == 2
    assert await binds(app, Asked(method="POST")) == "each@POST"
    standing = await app.run(app.limiter.peek(Asked(method="PUT")))
    assert standing.decision.remaining == 2


async def test_each_route_and_each_method_have_a_share(make_app: MakeApp) -> None:
    app = make_app([])
    own = Rule("1/hour", is_per_route=True, is_per_method=True)
    for asked in [Asked(method=method, route=route) for method in ("GET", "POST") for route in ("/a", "/b")]:
        assert await app.left(asked, own) == 1
    assert await binds(app, Asked(method="POST", route="/a"), own) == "/a@POST:1/hour"


def test_a_rule_of_a_route_has_no_paths() -> None:
    with pytest.raises(InvalidUse, match="a rule of a route is about that route"):
        rule_of_route("5/minute", {"paths": ["/x"]})


# --- penalties ---


async def test_who_is_denied_too_often_is_blocked(make_app: MakeApp, clock: ManualClock, store: MemoryStore) -> None:
    app = make_app(
        [Rule("2/minute", name="login", cost=lambda request: len(request.path), penalty="3/minute -> 1h")], store=store
    )
    other = Asked(peer="203.0.113.8")
    assert await app.left() == 2  # and one denial
    for label in ("login", "login:penalty"):
        admission = await app.admit()
        assert admission.binding is not None
        assert admission.binding.label == label
    clock.advance(seconds=3599)
    assert not (await app.admit()).is_admitted
    assert (await app.admit(other)).is_admitted
    clock.advance(seconds=2)
    assert await app.left() == 2


async def binds(app: App, request: Asked, *own: Rule) -> str:
    """The name of the limit that binds, for one request more."""
    binding = (await app.admit(request, *own)).binding
    assert binding is not None
    return binding.label


def together(*rules: Rule, **options: Any) -> Rules:
    return Rules(rules, penalty="3 denials/minute -> 2h", **options)


LOGIN, SEARCH = Rule("1/hour", name="login", paths=["/login"]), Rule("1/hour", name="search", paths=["/search"])


async def test_denials_of_all_rules_together_block_from_all(
    make_app: MakeApp, clock: ManualClock, store: MemoryStore
) -> None:
    app = make_app(together(LOGIN, SEARCH, Rule("9/hour", name="rest", paths=["/rest"])), store=store)
    assert await app.left(Asked("/login")) == 1  # and one denial
    assert await app.left(Asked("/search")) == 1  # and another one
    assert (await app.admit(Asked("/rest"))).is_admitted
    denied = await app.admit(Asked("/login"))
    assert json.loads(app.limiter.refuse(denied).body)["violated-policies"] == ["login", "penalty"]
    assert denied.decision is not None
    assert denied.decision.retry_after == 7200  # the third denial begins the block, and says so
    for path in ("/login", "/search", "/rest"):
        assert await binds(app, Asked(path)) == "penalty"
    assert (await app.admit(Asked("/login", peer="203.0.113.8"))).is_admitted
    clock.advance(seconds=7201)
    assert (await app.admit(Asked("/rest"))).is_admitted


async def test_denials_together_are_of_the_caller_whatever_the_rules_count(make_app: MakeApp) -> None:
    app = make_app(together(Rule("1/hour", name="all", key="*"), Rule("9/hour", name="by", key="ip")))
    ada, bob = Asked(), Asked(peer="203.0.113.8")
    assert (await app.admit(ada)).is_admitted
    assert [await binds(app, ada) for _ in range(4)] == ["all", "all", "penalty", "penalty"]
    assert await binds(app, bob) == "all"


async def test_denials_are_counted_together_by_rules_that_differ_in_outages_and_waits(make_app: MakeApp) -> None:
    closed = Rule("1/hour", name="closed", paths=["/closed"], on_outage="closed")
    patient = Rule("1/hour", name="patient", paths=["/patient"], wait=0.001)
    app = make_app(together(LOGIN, closed, patient))
    assert await app.left(Asked("/login")) == 1
    assert await app.left(Asked("/closed")) == 1
    assert await app.left(Asked("/patient")) == 1
    for path in ("/login", "/closed", "/patient"):
        assert await binds(app, Asked(path)) == "penalty"


async def test_a_rule_with_a_penalty_of_its_own_and_a_shadow_are_apart(make_app: MakeApp) -> None:
    own = Rule("1/hour", name="own", paths=["/own", "/both"], penalty="2 denials/minute -> 3h")
    listed = Rule(["9/hour", "penalty 9 denials/minute -> 2h"], name="listed", paths=["/own"])
    shadow = Rule("1/hour", name="shadow", paths=["/shadow"], is_shadow=True)
    both = Rule("9/hour", name="both", paths=["/both"])
    app = make_app(together(own, listed, shadow, LOGIN, both))
    assert await app.left(Asked("/own")) == 1
    for _ in range(5):
        assert (await app.admit(Asked("/shadow"))).is_admitted
    assert await binds(app, Asked("/own")) == "own:penalty"
    assert await app.left(Asked("/login")) == 1
    assert [await binds(app, Asked("/login")) for _ in range(2)] == ["login", "penalty"]
    bob = "203.0.113.8"
    for _ in range(4):
        await app.admit(Asked("/login", peer=bob))
    assert await binds(app, Asked("/both", peer=bob)) == "penalty"
    assert (await app.admit(Asked("/own", peer=bob))).is_admitted


async def test_a_penalty_of_all_rules_is_lifted_with_a_reset_and_holds_for_rules_of_routes(make_app: MakeApp) -> None:
    app = make_app(together(LOGIN))
    of_route = Rule("1/hour", is_per_route=True)
    for _ in range(5):
        await app.admit(Asked("/x", route="/x"), of_route)
    assert await binds(app, Asked("/login")) == "penalty"
    await app.run(app.limiter.reset("ip:203.0.113.7"))
    assert (await app.admit(Asked("/login"))).is_admitted


async def test_one_round_trip_counts_a_denial_of_all_rules(make_app: MakeApp, store: MemoryStore) -> None:
    app = make_app(together(Rule("1/hour", name="a"), Rule("5/hour", name="b")), store=store)
    (part,) = app.limiter._parts.of(app.limiter.rules.all, None)
    assert part.labels == ("a", "b", "penalty")


def test_the_penalty_of_all_rules_has_its_name_for_itself() -> None:
    with pytest.raises(InvalidUse, match="'penalty' is what the penalty of all rules is called"):
        together(Rule("1/hour", name="penalty"))
    with pytest.raises(LimitError):
        Rules((), penalty="5/minute")


async def test_a_penalty_takes_no_tokens_and_is_not_settled(make_app: MakeApp) -> None:
    rule = Rule(
        {"tokens": "100/hour"},
        name="llm",
        cost=40,
        actual_cost=lambda response: response.status_code // 20,
        penalty="3/minute -> 1h",
    )
    app = make_app([rule])
    for _ in range(5):
        await app.finish(await app.admit())
    admission = await app.admit()
    assert admission.decision is not None
    assert (admission.decision.limit, admission.decision.remaining) == (100, 10)


async def test_a_cost_is_computed_once_for_all_limits_of_a_rule(make_app: MakeApp) -> None:
    asked = []

    def cost(request: Asked) -> int:
        asked.append(request)
        return 2

    app = make_app([Rule(["10/second", "10/hour"], name="a", cost=cost, penalty="9/minute -> 1h")])
    assert (await app.admit()).is_admitted
    assert len(asked) == 1


async def test_a_reset_lets_a_key_start_afresh_and_lifts_its_penalty(make_app: MakeApp) -> None:
    app = make_app([Rule("2/hour", name="login", penalty="1/minute -> 1h"), Rule("9/hour", name="all")])
    assert await app.left() == 2
    assert await app.left() == 0
    await app.run(app.limiter.reset("ip:203.0.113.7", "login"))
    assert await app.left() == 2
    with pytest.raises(InvalidUse, match="there is no rule 'c'; there are login, all"):
        await app.run(app.limiter.reset("ip:203.0.113.7", "c"))


# --- where one stands ---


async def test_a_caller_may_ask_where_they_stand(make_app: MakeApp) -> None:
    app = make_app([Rule("5/hour", name="a", paths=["/a"]), Rule("3/hour", name="b", paths=["/b"])])
    await app.admit(Asked("/a"))
    for _ in range(2):
        admission = await app.run(app.limiter.peek(Asked("/status"), "a"))
        assert admission.decision.remaining == 4
        assert (await app.run(app.limiter.peek(Asked("/status")))).decision.limit == 5
    with pytest.raises(InvalidUse, match="there is no rule 'c'; there are a, b"):
        await app.run(app.limiter.peek(Asked("/status"), "c"))


# --- outcomes ---


def failed(response: WebResponse) -> bool:
    return response.status_code == 401


async def test_only_what_a_rule_says_counts(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour", name="login", charge_when=failed), Rule("50/hour", name="all")])
    for _ in range(5):
        await app.finish(await app.admit(), 200)
    for _ in range(3):
        await app.finish(await app.admit(), 401)
    assert (await app.admit()).refusal == "limit"
    assert (await app.admit()).binding.label == "login"  # type: ignore[union-attr]  # it was asked


async def test_guesses_side_by_side_never_pass(make_app: MakeApp) -> None:
    app = make_app([Rule("5/hour", charge_when=failed)])
    under_way = [await app.admit() for _ in range(50)]
    assert sum(admission.is_admitted for admission in under_way) == 5
    for admission in under_way:
        await app.finish(admission, 401)
    assert await app.left() == 0


async def test_a_cost_known_afterwards_is_settled(make_app: MakeApp) -> None:
    rule = Rule(
        {"requests": "9/hour", "tokens": "100/hour"},
        name="llm",
        cost={"tokens": 50},
        actual_cost={"tokens": lambda response: int(response.headers["X-Tokens"])},
    )
    app = make_app([rule])
    await app.finish(await app.admit(), 200, **{"x-tokens": "10"})
    assert (await app.admit()).is_admitted
    denied = await app.admit()
    assert denied.decision is not None
    assert (denied.decision.remaining, denied.decision.binding) == (40, "llm:tokens")


async def test_who_has_gone_pays_what_was_reserved(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour", charge_when=failed)])
    for _ in range(3):
        await app.finish(await app.admit(), None)
    assert await app.left() == 0


async def test_slots_are_held_until_the_request_is_done(make_app: MakeApp) -> None:
    app = make_app([Rule("concurrency 2", name="slots"), Rule("9/hour", name="all")])
    under_way = [await app.admit(), await app.admit()]
    assert (await app.admit()).refusal == "limit"
    await app.finish(under_way[0], None)
    third = await app.admit()
    assert third.is_admitted
    await app.finish(third, 500)
    await app.finish(under_way[1], 200)
    assert await app.left() == 2


# --- whatever happens in between ---


class Struck(BaseException):
    """Raised in the midst of a plan."""


def cut_short(app: App, at: int, *own: Rule) -> int:
    """Run a plan that is struck at its call number `at`, after the call was made; how many calls there were."""
    plan = app.limiter.admit(Asked(), own)
    calls = 0
    try:
        call: Call = next(plan)
        while True:
            reply = call.function(*call.arguments)
            calls += 1
            call = plan.throw(Struck()) if calls == at else plan.send(reply)
    except StopIteration:
        return calls


async def test_wherever_it_is_cut_short_what_was_taken_goes_back(store: MemoryStore) -> None:
    rules = [
        Rule("9/hour", name="a"),
        Rule("9/hour", name="b", on_outage="closed"),
        Rule("9/second", name="c", wait=1),
    ]
    app = App(Limiter, rules, store=store)
    calls = cut_short(app, 0)
    assert calls == 3
    for at in range(1, calls + 1):
        with pytest.raises(Struck):
            cut_short(app, at)
    # The call in which it was struck may have counted, as in a limiter: none before it did.
    left = {name: await App(Limiter, [Rule("9/hour", name=name)], store=store).left() for name in "ab"}
    assert left == {"a": 7, "b": 7}


async def test_a_task_that_is_cancelled_gives_back(store: MemoryStore) -> None:
    started = asyncio.Event()

    class Waiting(AsyncLimiter):
        async def acquire(self, *arguments: Any, **options: Any) -> Decision:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

    limits: WebLimiter[Any] = WebLimiter(
        Waiting, Rules([Rule("9/hour", name="a"), Rule("9/hour", name="b", wait=1)]), store=store
    )
    task: asyncio.Task[Admission] = asyncio.create_task(run_async(limits.admit(Asked())))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await App(Limiter, [Rule("9/hour", name="a")], store=store).left() == 9


async def test_a_plan_that_is_dropped_ends(store: MemoryStore) -> None:
    for steps in range(1, 3):
        plan = App(Limiter, [Rule("9/s", name="a"), Rule("9/s", name="b", wait=1)], store=store).limiter.admit(Asked())
        call = next(plan)
        for _ in range(steps - 1):
            call = plan.send(call.function(*call.arguments))
        plan.close()


async def test_parts_are_not_kept_without_bound(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour", name="each", is_per_route=True)])
    for index in range(3000):
        await app.admit(Asked(route=f"GET /{index}"))
    assert len(app.limiter._parts) <= 1024


async def test_a_tier_that_a_rule_has_not_is_logged_once(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    plans = iter(["pro", "entreprise", "gold", None])
    rule = Rule("2/hour", name="api", tiers={"pro": "6/hour"}, tier=lambda _: next(plans))
    app = make_app([rule])
    assert [(await app.admit()).verdicts[0].decision.limit for _ in range(4)] == [6, 2, 2, 2]
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == "headgate: rule 'api' has no tier 'entreprise', only 'pro': its own limits apply"
