"""Views have limits of their own: functions and classes, async or not, with the middleware and without."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from headgate import AsyncLimiter, InvalidUse, LimitSyntaxError
from headgate.rules import Rule
from headgate.web.django import RateLimitMiddleware, exempt, limit
from headgate.web.messages import WebResponse
from tests.web.django.conftest import Use
from tests.web.django.test_middleware import Asker, left, statuses

MIDDLEWARES = {
    "with": ["headgate.web.django.RateLimitMiddleware"],
    "without": [],
    "outside": [
        "headgate.web.django.RateLimitMiddleware",
        "tests.web.django.test_decorators.BlockingMiddleware",
    ],
}


class BlockingMiddleware:
    """A middleware that cannot but block: under ASGI, all before it is called in a thread."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest) -> Asker:
    return Asker(is_async=request.param == "asgi")


@pytest.fixture(params=list(MIDDLEWARES), autouse=True)
def middleware(request: pytest.FixtureRequest) -> Any:
    with override_settings(MIDDLEWARE=MIDDLEWARES[request.param]):
        yield request.param


@pytest.mark.parametrize(
    "path",
    [
        "/limited/",
        "/limited/async/",
        "/hidden/",
        "/class/",
        "/class/async/",
        "/class/whole/",
        "/class/method/",
        "/class/method/async/",
    ],
)
def test_a_view_has_its_limit(ask: Asker, use: Use, path: str) -> None:
    clock = use()
    answers = [ask(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [left(answer) for answer in answers] == ["1", "0", "0"]
    assert answers[2].headers["Retry-After"] == "30"
    clock.advance(30)
    assert statuses(ask, path, 2) == [200, 429]


def test_methods_of_a_class_have_limits_of_their_own(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/class/method/", 2, method="post") == [200, 429]
    assert statuses(ask, "/class/method/", 3) == [200, 200, 429]
    assert statuses(ask, "/class/method/", 1, method="head") == [429]
    assert statuses(ask, "/class/method/", 3, method="put") == [200] * 3


def test_limits_of_a_view_share_nothing_whatever_else_they_say(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/stacked/", 4) == [200, 200, 200, 429]


def test_limits_of_one_name_are_one_wherever_they_are_hidden(ask: Asker, use: Use) -> None:
    use(rules=[Rule("2/minute", name="one")])
    assert statuses(ask, "/one-name/", 3) == [200, 200, 429]


def test_methods_of_a_class_share_the_limit_of_its_dispatch(ask: Asker, use: Use) -> None:
    use()
    answers = [ask("/class/", method=method).status_code for method in ("get", "post", "get")]
    assert answers == [200, 200, 429]


def test_each_url_has_a_share_and_each_spelling_of_it_the_same(ask: Asker, use: Use) -> None:
    use()
    assert [ask(path).status_code for path in ("/also/limited", "/also/limited/", "/also/limited")] == [200, 200, 429]
    assert ask("/limited/").status_code == 200
    assert [ask(f"/users/{pk}/").status_code for pk in (1, 2, 3)] == [200, 200, 429]
    assert ask("/v2/users/1/").status_code == 200


def test_a_url_has_one_share_in_all_languages(ask: Asker, use: Use) -> None:
    use()
    with override_settings(
        MIDDLEWARE=["django.middleware.locale.LocaleMiddleware", "headgate.web.django.RateLimitMiddleware"]
    ):
        answers = [ask(path).status_code for path in ("/en/language/", "/de/language/", "/en/language/")]
    assert answers == [200, 200, 429]


def test_routes_whose_limits_have_one_name_share_it(ask: Asker, use: Use) -> None:
    use()
    assert ask("/login/").status_code == 401
    assert ask("/login/async/").status_code == 401
    assert statuses(ask, "/login/", 1) == [429]


def test_only_failures_count_where_the_limit_says_so(ask: Asker, use: Use) -> None:
    use()
    assert statuses(ask, "/login/?password=right", 5) == [200] * 5
    assert statuses(ask, "/login/async/?password=right", 5) == [200] * 5
    assert statuses(ask, "/login/", 3) == [401, 401, 429]


@pytest.mark.parametrize("path", ["/slots/", "/slots/async/"])
def test_a_slot_is_held_until_the_stream_has_ended(ask: Asker, use: Use, path: str) -> None:
    use()
    assert statuses(ask, path, 3) == [200] * 3


def test_two_limits_of_a_view_are_one_question(ask: Asker, use: Use) -> None:
    use()
    answers = [ask("/twice/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["RateLimit"].startswith('"second"')


def test_the_limit_of_the_app_is_for_views_without_their_own(ask: Asker, use: Use, middleware: str) -> None:
    use("1/minute")
    assert statuses(ask, "/limited/", 3) == [200, 200, 429]
    assert statuses(ask, "/", 2) == ([200, 200] if middleware == "without" else [200, 429])


def test_a_rule_for_all_is_asked_together_with_the_views_own(ask: Asker, use: Use) -> None:
    use(rules=[Rule("10/minute", name="all")])
    answers = [ask("/limited/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    use(rules=[Rule("1/minute", name="all")])
    assert statuses(ask, "/limited/", 2) == [200, 429]


@pytest.mark.parametrize("path", ["/limited/", "/hidden/", "/limited/async/"])
def test_a_request_that_a_view_denies_spends_nothing_of_the_app(ask: Asker, use: Use, path: str) -> None:
    use(rules=[Rule("4/minute", name="all", paths=["/", "/limited/", "/hidden/", "/limited/async/"])])
    assert statuses(ask, path, 6) == [200, 200, 429, 429, 429, 429]
    with override_settings(MIDDLEWARE=MIDDLEWARES["with"]):
        assert left(Asker(is_async=ask.is_async)("/")) == "1"  # of four, two went to those that passed


def test_exempt_wins_over_a_limit(use: Use) -> None:
    use()
    seen = []

    @exempt
    @limit("1/minute")
    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        return HttpResponse()

    def rest_of_django(request: HttpRequest) -> HttpResponse:
        refusal: HttpResponse | None = ours.process_view(request, view, (), {})
        return refusal or view(request)

    ours = RateLimitMiddleware(rest_of_django)
    answers: Any = [ours(RequestFactory().get("/")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [view(RequestFactory().get("/")).status_code for _ in range(3)] == [200] * 3
    assert len(seen) == 6


@pytest.mark.parametrize("middleware", ["without"], indirect=True)
def test_a_view_may_be_called_alone(use: Use, middleware: str) -> None:
    use()

    @limit("1/minute")
    def one(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    @limit("1/minute")
    def other(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    request = RequestFactory().get("/")
    assert [view(request).status_code for view in (one, other, one, other)] == [200, 200, 429, 429]


def test_a_view_that_raises_gives_back_what_does_not_count(use: Use, middleware: str) -> None:
    use()
    counted: list[int] = []

    def is_charged(response: WebResponse) -> bool:
        counted.append(response.status_code)
        return False

    @limit("1/minute", name="kept", charge_when=is_charged)
    def view(request: HttpRequest) -> HttpResponse:
        raise PermissionError

    for _ in range(2):
        with pytest.raises(PermissionError):
            view(RequestFactory().get("/"))
    assert counted == [500, 500]


def test_a_limit_that_is_not_understood_is_refused_where_it_stands() -> None:
    with pytest.raises(LimitSyntaxError):
        limit("5 per fortnight")
    with pytest.raises(TypeError):
        limit("5/minute", nmae="login")
    with pytest.raises(InvalidUse, match="give that to the Rule itself"):
        limit(Rule("5/minute"), name="login")
    with pytest.raises(InvalidUse, match="decorates a view"):
        limit("5/minute")(None)  # type: ignore[type-var]


def test_a_view_without_a_request_is_no_view(use: Use) -> None:
    use()

    @limit("5/minute")
    def view() -> HttpResponse:
        return HttpResponse()

    with pytest.raises(InvalidUse, match="view is limited as a view, and was called without a request"):
        view()


def test_an_async_limiter_is_refused_by_a_view_that_blocks(use: Use) -> None:
    use()

    @limit(AsyncLimiter("1/minute"), name="async")
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    with pytest.raises(InvalidUse, match="AsyncLimiter would have to be awaited"):
        view(RequestFactory().get("/"))


async def test_64_parallel_requests_pass_exactly_what_the_limit_has(use: Use) -> None:
    use()
    client = AsyncClient()
    answers = await asyncio.gather(*[client.get("/limited/async/") for _ in range(64)])
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 62


def test_a_client_of_tests_is_enough(use: Use) -> None:
    use()
    assert Client().get("/limited/").headers["RateLimit-Policy"].count("limited") == 1
