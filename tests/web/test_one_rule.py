"""Which rules are one: those of one name, wherever they stand. Two without a name are never one."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headgate import AsyncLimiter, Limiter, ManualClock, MemoryStore
from headgate.rules import Rule
from headgate.web.limits import rule_of_route
from headgate.web.messages import WebResponse
from headgate.web.placing import placed, placed_late, rule_of_method
from tests.web.asking import App, Asked, MakeApp

unnamed = st.builds(
    rule_of_route,
    st.sampled_from(["3/hour", "5/hour", "fixed-window 3/hour", "4/day", "concurrency 9"]),
    st.sampled_from(
        [{}, {"key": "*"}, {"is_shadow": True}, {"on_outage": "closed"}, {"wait": "1ms"}, {"penalty": "9/day -> 1s"}]
    ),
)
kinds = st.sampled_from([Limiter, AsyncLimiter])


def made(kind: Any, *rules: Rule) -> App:
    return App(kind, rules, store=MemoryStore(clock=ManualClock()))


async def admits(app: App, request: Asked, groups: list[list[Rule]], seen: tuple[Rule, ...]) -> bool:
    """Ask groups of a route's rules, one group after the other."""
    known = None
    late: list[Rule] = []
    for group in groups:
        asked = [placed_late(rule, seen, late) for rule in group]
        known = await app.admit(request, *asked, known=known)
        if not known.is_admitted:
            return False
    if known is not None:
        await app.finish(known)
    return True


@given(
    kind=kinds,
    rules=st.lists(unnamed, min_size=1, max_size=4),
    cuts=st.sets(st.integers(1, 3)),
    seen=st.integers(0, 4),
)
async def test_limits_without_a_name_share_nothing_however_they_are_asked(
    kind: Any, rules: list[Rule], cuts: set[int], seen: int
) -> None:
    app = made(kind)
    bounds = [0, *sorted(cuts), len(rules)]
    groups = [rules[start:end] for start, end in itertools.pairwise(bounds)]
    real = [limit for rule in rules if not rule.is_shadow for limit in rule.named_limits().values()]
    expected = min([limit.capacity for limit in real if str(limit) != "concurrency 9"], default=20)
    count = 0
    while count < 20 and await admits(app, Asked(route="GET /x"), groups, tuple(rules[:seen])):
        count += 1
    assert count == expected


@given(rules=st.lists(unnamed, min_size=2, max_size=5), data=st.data())
def test_what_a_limit_is_called_is_the_same_whichever_others_are_asked(rules: list[Rule], data: Any) -> None:
    asked = data.draw(st.permutations(rules))
    whole = dict(zip(rules, placed(tuple(rules)), strict=True))
    assert [placed_late(rule, rules, []) for rule in asked] == [whole[rule] for rule in asked]


@given(
    kind=kinds,
    costs=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    cuts=st.sets(st.integers(1, 3)),
    of_app=st.booleans(),
    wait=st.booleans(),
)
async def test_rules_of_one_name_charge_a_request_once_the_highest_of_their_costs(
    kind: Any, costs: list[int], cuts: set[int], of_app: bool, wait: bool
) -> None:
    rules = [
        Rule("100/hour", name="one", cost=cost, wait="1ms" if wait and number % 2 else 0)
        for number, cost in enumerate(costs)
    ]
    app = made(kind, *[dataclasses.replace(rules[0], cost=1)] if of_app else [])
    bounds = [0, *sorted(cuts), len(rules)]
    known = await app.admit(Asked()) if of_app else None
    for start, end in itertools.pairwise(bounds):
        known = await app.admit(Asked(), *rules[start:end], known=known)
    assert known is not None
    charged: dict[str, int] = {}
    for _, decision in known.verdicts:
        charged[decision.key] = charged.get(decision.key, 0) + decision.cost
    assert list(charged.values()) == [max(costs)]
    assert app.limiter.fields(known)[1][1].startswith(f'"one";r={100 - max(costs)};')


async def test_one_rule_charges_each_key_by_itself(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour", name="one")])
    of_user = Rule("3/hour", name="one", key=lambda _: "user:ann")
    assert await app.left(Asked(), of_user) == 3
    assert await app.left(Asked(peer="203.0.113.8"), of_user) == 0  # the user's share is spent
    assert await app.left(Asked(peer="203.0.113.8")) == 3  # and that of the address was not touched


async def test_rules_of_one_name_take_one_slot_together(make_app: MakeApp) -> None:
    app = make_app([Rule("concurrency 2", name="slots")])
    own = Rule("concurrency 2", name="slots", on_outage="closed")
    first = await app.admit(Asked(), own)
    second = await app.admit(Asked(), own, known=await app.admit())
    assert first.is_admitted
    assert second.is_admitted
    assert not (await app.admit(Asked(), own)).is_admitted
    await app.finish(first)
    assert (await app.admit(Asked(), own)).is_admitted


async def test_a_rule_that_only_looks_takes_nothing_off_the_one_that_denies(make_app: MakeApp) -> None:
    app = make_app([])
    looking, denying = Rule("2/hour", name="one", is_shadow=True), Rule("3/hour", name="two")
    request = Asked()
    known = await app.admit(request, looking)
    known = await app.admit(request, denying, known=known)
    assert [part.labels for part, _ in known.verdicts] == [("two",)]


async def test_what_two_rules_of_one_name_are_settled_at_is_the_highest(make_app: MakeApp) -> None:
    app = make_app([Rule("100/hour", name="one")])

    def tokens(response: WebResponse) -> int:
        return int(response.headers["x-tokens"])

    own = Rule("100/hour", name="one", cost=10, actual_cost=tokens)
    standing = [100]
    for told in (30, 4, 10):
        await app.finish(await app.admit(Asked(), own), 200, **{"x-tokens": str(told)})
        peeked = await app.run(app.limiter.peek(Asked(), "one"))
        standing.append(peeked.decision.remaining)
    assert [before - after for before, after in itertools.pairwise(standing)] == [30, 4, 10]


async def test_what_is_given_back_is_given_back_by_all_of_them(make_app: MakeApp) -> None:
    app = make_app([Rule("3/hour", name="one", charge_when=lambda _: False)])
    own = Rule("3/hour", name="one", cost=3, charge_when=lambda _: False)
    for _ in range(3):
        admission = await app.admit(Asked(), own)
        assert admission.is_admitted
        await app.finish(admission)


def test_limits_of_methods_of_a_view_are_told_apart() -> None:
    rules = [rule_of_route("3/hour", {}), rule_of_route("3/hour", {"key": "*"})]
    methods = [rule_of_method(rule, method) for method in ("get", "post") for rule in rules]
    assert len(set(placed(tuple(methods)))) == 4
    assert [getattr(rule, "place", None) for rule in placed(tuple(methods))] == [0, 1, 0, 1]
    assert rule_of_method(rules[0], "get") is methods[0]
