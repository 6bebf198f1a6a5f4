"""Operations of django-ninja have limits of their own, as views have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpRequest
from django.test import override_settings
from django.urls import path
from ninja import SSE, NinjaAPI, Router
from ninja.decorators import decorate_view
from ninja.security import APIKeyQuery
from ninja.testing import TestClient

from headgate.web.django import exempt, limit
from tests.web.django.conftest import Use
from tests.web.django.test_middleware import Asker, left, statuses
from tests.web.django.test_settings import listed


class Key(APIKeyQuery):
    def authenticate(self, request: HttpRequest, key: str | None) -> str | None:
        return "ada" if key == "right" else None


api, first, second, grouped = NinjaAPI(), Router(), Router(), Router()


@api.get("/plain")
def plain(request: HttpRequest) -> str:
    return "plain"


@api.get("/items/{number}")
@limit("2/minute")
def item(request: HttpRequest, number: int) -> dict[str, int]:
    return {"number": number}


@api.post("/items/{number}")
@limit("1/minute")
async def change(request: HttpRequest, number: int) -> dict[str, int]:
    return {"number": number}


@api.delete("/items/{number}")
def remove(request: HttpRequest, number: int) -> dict[str, int]:
    return {"number": number}


@api.get("/around")
@decorate_view(limit("2/minute"))
def around(request: HttpRequest) -> str:
    return "around"


@api.get("/twice/{number}")
@decorate_view(limit("3/minute", name="wide"))
@limit("2/minute", name="narrow")
def twice(request: HttpRequest, number: int) -> str:
    return "twice"


@api.put("/twice/{number}")
def put(request: HttpRequest, number: int) -> str:
    return "put"


@api.get("/keyed", auth=Key())
@limit("2/minute")
def keyed(request: HttpRequest) -> str:
    return "keyed"


@api.get("/wrong-keys", auth=Key())
@limit("2/minute", charge_when=lambda response: response.status_code == 401)
def wrong_keys(request: HttpRequest) -> str:
    return "right"


@api.get("/events", response=SSE[int])
@decorate_view(limit("2/minute"))
async def events(request: HttpRequest) -> AsyncIterator[int]:
    for number in range(3):
        yield number


@api.get("/health")
@exempt
def health(request: HttpRequest) -> str:
    return "fine"


@first.get("/same")
@limit("2/minute")
def same(request: HttpRequest) -> str:
    return "first"


def of_second(request: HttpRequest) -> str:
    return "second"


of_second.__name__ = "same"
second.get("/same")(limit("2/minute")(of_second))


@grouped.get("/one")
def one(request: HttpRequest) -> str:
    return "one"


@grouped.get("/two")
async def two(request: HttpRequest) -> str:
    return "two"


grouped.add_decorator(limit("2/minute", name="group"), mode="view")
api.add_router("/first", first)
api.add_router("/second", second)
api.add_router("/group", grouped)
translated = NinjaAPI(urls_namespace="translated")
translated.add_router("/first", first)
urlpatterns = [path("api/", api.urls), *i18n_patterns(path("", translated.urls))]


@pytest.fixture(autouse=True)
def _urls() -> Any:
    with override_settings(ROOT_URLCONF=__name__):
        yield


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest) -> Asker:
    return Asker(is_async=request.param == "asgi")


def test_a_limit_of_an_operation_takes_the_place_of_those_for_all(ask: Asker, use: Use) -> None:
    clock = use("1/minute")
    assert statuses(ask, "/api/plain", 2) == [200, 429]
    answers = [ask(f"/api/items/{number}") for number in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [left(answer) for answer in answers] == ["1", "0", "0"]
    assert answers[2].headers["Retry-After"] == "30"
    clock.advance(30)
    assert statuses(ask, "/api/items/1", 2) == [200, 429]


def test_operations_of_one_path_have_shares_of_their_own(ask: Asker, use: Use) -> None:
    use("1/minute")
    assert statuses(ask, "/api/items/1", 3) == [200, 200, 429]
    assert statuses(ask, "/api/items/1", 2, method="post") == [200, 429]
    assert statuses(ask, "/api/items/1", 2, method="delete") == [200, 429]
    assert statuses(ask, "/api/items/1", 1, method="patch") == [429]  # it answers none, and meets those for all


def test_without_the_middleware_the_limits_of_operations_hold(ask: Asker, use: Use) -> None:
    use("1/minute")
    with override_settings(MIDDLEWARE=[]):
        assert statuses(ask, "/api/items/1", 3) == [200, 200, 429]
        assert statuses(ask, "/api/items/1", 2, method="post") == [200, 429]
        assert statuses(ask, "/api/around", 3) == [200, 200, 429]
        assert statuses(ask, "/api/plain", 3) == [200] * 3


def test_the_client_of_ninja_meets_them(use: Use) -> None:
    use()
    client = TestClient(first)
    assert [client.get("/same").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("path", ["/api/around", "/api/first/same"])
def test_a_limit_goes_on_a_function_or_around_all_that_is_done_for_it(ask: Asker, use: Use, path: str) -> None:
    use("1/minute")
    answers = [ask(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [left(answer) for answer in answers] == ["1", "0", "0"]


def test_limits_on_and_around_a_function_are_asked_once_and_together(ask: Asker, use: Use) -> None:
    use("1/minute")
    assert [left(ask("/api/twice/1")) for _ in range(2)] == ["1", "0"]
    assert statuses(ask, "/api/twice/1", 1) == [429]


def test_a_decorator_of_a_router_limits_all_its_operations(ask: Asker, use: Use) -> None:
    use("1/minute")
    assert [*statuses(ask, "/api/group/one", 1), *statuses(ask, "/api/group/two", 2)] == [200, 200, 429]


def test_functions_of_one_name_have_shares_of_their_own(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/api/first/same", 3) == [200, 200, 429]
    assert statuses(ask, "/api/second/same", 3) == [200, 200, 429]


def test_a_caller_with_a_wrong_key_is_counted(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/api/keyed?key=wrong", 3) == [401, 401, 429]
    assert statuses(ask, "/api/keyed?key=right", 1) == [429]


def test_only_callers_with_a_wrong_key_are_counted_if_a_limit_says_so(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/api/wrong-keys?key=right", 4) == [200] * 4
    assert statuses(ask, "/api/wrong-keys?key=wrong", 3) == [401, 401, 429]


def test_an_async_generator_is_limited_around_all_that_is_done_for_it(use: Use) -> None:
    use()
    ask = Asker(is_async=True)
    answers = [ask("/api/events") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].body.count(b"data:") == 3


def test_an_exempt_operation_meets_no_rule(ask: Asker, use: Use) -> None:
    use("1/minute")
    assert statuses(ask, "/api/health", 3) == [200] * 3


def test_operations_are_listed_with_their_limits(use: Use) -> None:
    use("7/minute")
    rows = [line.split() for line in listed().splitlines()]
    items = [row[1:] for row in rows if row[0] == "/api/items/<number>"]
    assert items == [
        ["GET", f"{__name__}.item", "2/minute"],
        ["POST", f"{__name__}.change", "1/minute"],
        ["DELETE", f"{__name__}.remove", "default:", "7/minute"],
    ]
    assert [row[-1] for row in rows if row[0] == "/api/health"] == ["exempt"]
    assert [row[-1] for row in rows if row[0] == "/api/group/one"] == ["2/minute"]


def test_a_path_in_several_languages_is_one_route(ask: Asker, use: Use) -> None:
    use()
    asked = [ask(f"/{language}/first/same") for language in ("en", "de", "en")]
    assert [answer.status_code for answer in asked] == [200, 200, 429]
