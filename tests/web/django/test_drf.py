"""Throttles of REST framework: its names, its settings, and exact limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import AsyncClient, Client, override_settings

from headgate import InvalidUse, MemoryStore
from headgate.testing import ManualClock
from tests.web.django.conftest import Use
from tests.web.django.test_middleware import Asker, left, statuses

OURS = "headgate.web.django.RateLimitMiddleware"


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest) -> Asker:
    return Asker(is_async=request.param == "asgi")


@pytest.fixture(params=["with", "without"], autouse=True)
def middleware(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(MIDDLEWARE=[OURS] if request.param == "with" else []):
        yield request.param


def token(name: str) -> dict[str, str]:
    return {"Authorization": f"Token {name}"}


def test_callers_without_a_name_have_the_rate_of_anon(ask: Asker, use: Use) -> None:
    clock = use()
    answers = [ask("/api/anonymous/") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [left(answer) for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].headers["Retry-After"] == "20"
    assert answers[3].headers["Cache-Control"] == "no-store"
    assert answers[3].json()["detail"].endswith("Expected available in 20 seconds.")
    assert statuses(ask, "/api/anonymous/", 5, headers=token("ada")) == [200] * 5
    clock.advance(19.9)
    answer = ask("/api/anonymous/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    clock.advance(0.1)
    assert ask("/api/anonymous/").status_code == 200


def test_users_of_a_token_have_a_share_each(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/api/users/", 6, headers=token("ada")) == [200] * 5 + [429]
    assert statuses(ask, "/api/users/", 6, headers=token("bob")) == [200] * 5 + [429]
    assert statuses(ask, "/api/users/", 6) == [200] * 5 + [429]


def test_a_forged_address_is_no_way_around(ask: Asker, use: Use) -> None:
    use()
    headers = [{"X-Forwarded-For": f"203.0.113.{number}"} for number in range(4)]
    assert [ask("/api/anonymous/", headers=one).status_code for one in headers] == [200, 200, 200, 429]


class Counting(MemoryStore):
    """A store that counts how often it is asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked = 0

    def decide(self, groups: Any) -> Any:
        self.asked += 1
        return super().decide(groups)


def test_several_throttles_are_one_group(use: Use) -> None:
    store = Counting(clock=ManualClock())
    use(store=store)
    client = Client()
    answers = [client.get("/api/several/", headers=token("ada")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"
    assert store.asked == 3
    # What `burst` denied took nothing of `user`: three of five are left.
    assert statuses(Asker(is_async=False), "/api/users/", 4, headers=token("ada")) == [200, 200, 200, 429]


def test_a_throttle_has_a_rate_of_its_own(ask: Asker, use: Use) -> None:
    clock = use()
    assert statuses(ask, "/api/own/", 3) == [200, 200, 429]
    clock.advance(10)
    assert ask("/api/own/").status_code == 200


def test_a_view_that_is_a_function_has_throttles(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/api/function/", 3) == [200, 200, 429]


def test_actions_have_scopes(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/api/items/", 5) == [200] * 5
    assert statuses(ask, "/api/items/", 3, method="post") == [201, 201, 429]
    assert statuses(ask, "/api/items/export/", 2) == [200, 429]


def test_an_action_that_is_limited_knows_the_user_of_a_token(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/api/items/mine/", 3, headers=token("ada")) == [200, 200, 429]
    assert statuses(ask, "/api/items/mine/", 3, headers=token("bob")) == [200, 200, 429]


@pytest.mark.parametrize("path", ["/api/limited/", "/api/formats/"])
def test_a_function_of_the_framework_is_limited_by_the_decorator(ask: Asker, use: Use, path: str) -> None:
    use()
    assert statuses(ask, path, 2) == [200, 429]


def test_a_suffix_of_a_format_is_no_way_around(ask: Asker, use: Use) -> None:
    use()
    assert [ask(path).status_code for path in ("/api/formats/", "/api/formats.json")] == [200, 429]


def test_the_app_and_the_throttle_are_both_asked_and_the_tighter_is_told_of(
    ask: Asker, use: Use, middleware: str
) -> None:
    use("10/minute")
    assert left(ask("/api/anonymous/")) == "2"
    use("2/minute")
    answers = [ask("/api/anonymous/") for _ in range(3)]
    if middleware == "with":
        assert [left(answer) for answer in answers] == ["1", "0", "0"]
        assert answers[2].status_code == 429
    else:
        assert [left(answer) for answer in answers] == ["2", "1", "0"]


def test_a_request_that_a_throttle_denies_spends_nothing_of_the_app(ask: Asker, use: Use) -> None:
    use("10/minute")
    assert statuses(ask, "/api/anonymous/", 7) == [200] * 3 + [429] * 4
    with override_settings(MIDDLEWARE=[OURS]):
        assert left(Asker(is_async=False)("/")) in ("6", "9")  # 9: where no middleware has asked for the app


def test_a_store_that_does_not_answer_is_no_429(ask: Asker, use: Use, middleware: str) -> None:
    with override_settings(HEADGATE={"store": "redis://127.0.0.1:1/0"}):
        answer = ask("/api/closed/")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "The rate limiter does not answer."
        assert ask("/api/anonymous/").status_code == 200


def test_a_throttle_may_look_at_the_response_where_the_middleware_is(ask: Asker, use: Use, middleware: str) -> None:
    use()
    if middleware == "with":
        assert statuses(ask, "/api/failing/", 5) == [200] * 5
    else:
        with pytest.raises(InvalidUse, match="needs RateLimitMiddleware"):
            Client().get("/api/failing/")


def test_a_throttle_without_a_rate_is_an_error(use: Use) -> None:
    use()
    with pytest.raises(InvalidUse, match="Nothing has no rate: give it rate"):
        Client().get("/api/nothing/")


def test_a_scope_without_a_rate_is_an_error_and_none_is_no_limit(use: Use) -> None:
    use()
    rest = {"DEFAULT_THROTTLE_RATES": {"anon": None}}
    with override_settings(REST_FRAMEWORK=rest):
        assert statuses(Asker(is_async=False), "/api/anonymous/", 9) == [200] * 9
        with pytest.raises(InvalidUse, match="no rate for the scope 'user' of UserRateThrottle"):
            Client().get("/api/users/")


def test_rates_that_change_are_heard(use: Use) -> None:
    use()
    with override_settings(REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": {"anon": "1/day"}}):
        assert statuses(Asker(is_async=False), "/api/anonymous/", 2) == [200, 429]


def test_many_threads_pass_exactly_what_the_rate_has(use: Use) -> None:
    use()

    async def all_at_once() -> list[int]:
        client = AsyncClient()
        answers = await asyncio.gather(*[client.get("/api/anonymous/") for _ in range(32)])
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(all_at_once()) == [200] * 3 + [429] * 29
