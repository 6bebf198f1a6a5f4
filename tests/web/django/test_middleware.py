"""Each request of a Django project meets its rules once, and each response says how things stand."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from django import urls
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from headgate import AsyncLimiter, InvalidUse, Limiter, MemoryStore
from headgate.rules import Rule
from tests.web.django.conftest import Use


class Asker:
    """Asks the project, under WSGI or under ASGI."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.client: Any = (AsyncClient if is_async else Client)(raise_request_exception=False)

    def __call__(self, path: str, method: str = "get", **given: Any) -> Any:
        asked = getattr(self.client, method)(path, **given)
        return asyncio.run(self._whole(asked)) if self.is_async else self._read(asked)

    @staticmethod
    def _read(response: Any) -> Any:
        if response.streaming:
            response.body = asyncio.run(_body(response))
        return response

    @staticmethod
    async def _whole(asked: Any) -> Any:
        response = await asked
        if response.streaming:
            response.body = await _body(response)
        return response


async def _body(response: Any) -> bytes:
    content = response.streaming_content
    body = b"".join([part async for part in content] if response.is_async else [*content])
    for _ in range(100):  # what a stream leaves to the event loop
        await asyncio.sleep(0)
    return body


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest) -> Asker:
    return Asker(is_async=request.param == "asgi")


def statuses(ask: Asker, path: str, times: int, **given: Any) -> list[int]:
    return [ask(path, **given).status_code for _ in range(times)]


def left(response: Any) -> str:
    """How many requests the limit that binds still admits."""
    return str(min(int(found) for found in re.findall(r";r=(\d+)", response.headers["RateLimit"])))


@pytest.mark.parametrize("path", ["/", "/async/", "/file/", "/streams/", "/redirects/"])
def test_a_view_is_called_until_the_limit_of_the_app(ask: Asker, use: Use, path: str) -> None:
    clock = use("3/minute")
    answers = [ask(path) for _ in range(4)]
    assert [answer.status_code for answer in answers[:3]] == [answers[0].status_code] * 3
    assert [left(answer) for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].status_code == 429
    assert answers[3].headers["Retry-After"] == "20"
    assert answers[3].headers["Cache-Control"] == "no-store"
    clock.advance(20)
    assert ask(path).status_code == answers[0].status_code


def test_a_path_that_leads_nowhere_counts(ask: Asker, use: Use) -> None:
    use("2/minute")
    assert statuses(ask, "/nowhere/", 3) == [404, 404, 429]
    assert ask("/").status_code == 429


def test_an_answer_of_another_middleware_counts(ask: Asker, use: Use) -> None:
    use("2/minute")
    assert statuses(ask, "/limited", 3) == [301, 301, 429]


@pytest.mark.parametrize("first", [True, False])
def test_a_request_that_another_middleware_refuses_counts(ask: Asker, use: Use, first: bool) -> None:
    use("2/minute")
    ask.client = type(ask.client)(enforce_csrf_checks=True)
    names = ["django.middleware.csrf.CsrfViewMiddleware", "headgate.web.django.RateLimitMiddleware"]
    with override_settings(MIDDLEWARE=names if first else names[::-1]):
        assert statuses(ask, "/", 3, method="post") == [403, 403, 429]


@pytest.mark.parametrize(("path", "status"), [("/fails/", 500), ("/forbidden/", 403)])
def test_a_view_that_raises_counts_and_its_response_has_the_fields(
    ask: Asker, use: Use, path: str, status: int
) -> None:
    use("2/minute")
    answer = ask(path)
    assert (answer.status_code, left(answer)) == (status, "1")
    assert statuses(ask, path, 2) == [status, 429]


def test_the_middleware_may_be_there_twice(ask: Asker, use: Use) -> None:
    use("2/minute")
    with override_settings(MIDDLEWARE=["headgate.web.django.RateLimitMiddleware"] * 2):
        assert statuses(ask, "/", 3) == [200, 200, 429]


def test_wsgi_and_asgi_count_together(use: Use) -> None:
    use("2/minute")
    assert Asker(is_async=False)("/").status_code == 200
    assert Asker(is_async=True)("/").status_code == 200
    assert Asker(is_async=False)("/").status_code == 429
    assert Asker(is_async=True)("/async/").status_code == 429


def test_the_user_has_a_share_of_their_own(ask: Asker, use: Use, user: User) -> None:
    use("1/minute", identity=("user", "ip"))
    assert statuses(ask, "/", 2) == [200, 429]
    ask.client.force_login(user)
    assert statuses(ask, "/", 2) == [200, 429]
    assert ask("/", REMOTE_ADDR="203.0.113.9").status_code == 429


@pytest.mark.parametrize("index", [0, 5])
def test_the_user_is_known_wherever_the_middleware_stands(ask: Asker, use: Use, user: User, index: int) -> None:
    from tests.web.django.settings import MIDDLEWARE

    use("1/minute", identity=("user", "ip"))
    names = [name for name in MIDDLEWARE if "headgate" not in name]
    names.insert(index, "headgate.web.django.RateLimitMiddleware")
    with override_settings(MIDDLEWARE=names):
        assert ask("/").status_code == 200
        ask.client.force_login(user)
        assert statuses(ask, "/", 2) == [200, 429]


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/nowhere/", 404), ("/limited", 301), ("/fails/", 500)])
def test_each_response_is_counted_and_says_so_wherever_the_middleware_stands(
    ask: Asker, use: Use, index: int, path: str, status: int
) -> None:
    from tests.web.django.settings import MIDDLEWARE

    use("2/minute")
    names = [name for name in MIDDLEWARE if "headgate" not in name]
    names.insert(index, "headgate.web.django.RateLimitMiddleware")
    with override_settings(MIDDLEWARE=names):
        answers = [ask(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 429]
    if status != 301 or index <= 2:  # or else the response is replaced on its way out
        assert [left(answer) for answer in answers] == ["1", "0", "0"]


@pytest.mark.parametrize("index", range(3))
def test_a_page_from_the_cache_counts_and_has_fields_of_its_own(ask: Asker, use: Use, index: int) -> None:
    use("2/minute")
    names = ["django.middleware.cache.UpdateCacheMiddleware", "django.middleware.cache.FetchFromCacheMiddleware"]
    names.insert(index, "headgate.web.django.RateLimitMiddleware")
    with override_settings(MIDDLEWARE=names, CACHE_MIDDLEWARE_SECONDS=60):
        cache.clear()
        answers = [ask("/") for _ in range(3)]
        cache.clear()
    if index == 2:  # behind the cache, which answers by itself
        assert [answer.status_code for answer in answers] == [200] * 3
    else:
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [left(answer) for answer in answers] == ["1", "0", "0"]


def test_functions_may_look_at_the_user(ask: Asker, use: Use, user: User) -> None:
    rule = Rule("1/minute", name="all", exempt_when=lambda request: request.user.username == "ada")
    use(rules=[rule])
    assert statuses(ask, "/", 2) == [200, 429]
    ask.client.force_login(user)
    assert statuses(ask, "/", 2) == [200, 200]


def test_addresses_have_a_share_each(use: Use) -> None:
    use("1/minute")
    ask = Asker(is_async=False)
    addresses = ["203.0.113.1", "203.0.113.2", "203.0.113.1"]
    assert [ask("/", REMOTE_ADDR=address).status_code for address in addresses] == [200, 200, 429]


def test_paths_and_methods_of_rules(ask: Asker, use: Use) -> None:
    use(rules=[Rule("1/minute", paths=["/users/*"], methods=["GET"])])
    assert statuses(ask, "/users/", 2) == [200, 429]
    assert statuses(ask, "/users/7/", 1) == [429]
    assert statuses(ask, "/users/", 1, method="head") == [429]
    assert statuses(ask, "/users/", 2, method="post") == [200, 200]
    assert statuses(ask, "/", 2) == [200, 200]


def test_exempt_views_and_paths_meet_no_rule(ask: Asker, use: Use) -> None:
    use("1/minute", exempt=["/async/"])
    for path in ("/health/", "/health/class/", "/async/"):
        answers = [ask(path) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert "RateLimit" not in answers[0].headers
    assert statuses(ask, "/", 2) == [200, 429]


def test_a_refused_network_is_refused_by_exempt_views_too(ask: Asker, use: Use) -> None:
    use(deny=["127.0.0.0/8"])
    assert statuses(ask, "/health/", 1) == [403]
    assert statuses(ask, "/", 1) == [403]


def test_a_preflight_is_not_counted(ask: Asker, use: Use) -> None:
    use("1/minute")
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}
    assert statuses(ask, "/", 3, method="options", headers=headers) == [200] * 3
    assert statuses(ask, "/", 2) == [200, 429]


def test_a_denied_request_may_be_answered_in_the_projects_own_way(ask: Asker, use: Use) -> None:
    use("1/minute", on_denied=f"{__name__}.in_json")
    ask("/")
    answer = ask("/")
    assert json.loads(answer.content) == {"wait": 60.0}
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "60"
    assert answer.headers["Cache-Control"] == "no-store"


def in_json(request: HttpRequest, decision: Any) -> HttpResponse:
    return HttpResponse(json.dumps({"wait": decision.retry_after}), status=429, content_type="application/json")


def test_a_denial_may_be_answered_by_an_async_function_under_asgi(use: Use) -> None:
    async def answer(request: HttpRequest, decision: Any) -> HttpResponse:
        return HttpResponse(b"slowly", status=429)

    use("1/minute", on_denied=answer)
    ask = Asker(is_async=True)
    ask("/")
    assert ask("/").content == b"slowly"


def test_the_request_has_what_was_decided(use: Use) -> None:
    use("3/minute")
    request = Asker(is_async=False)("/").wsgi_request
    assert request.headgate.decision.remaining == 2


def test_what_was_taken_may_be_given_back_by_the_response(ask: Asker, use: Use) -> None:
    use(rules=[Rule("1/minute", name="failures", charge_when=lambda response: response.status_code >= 400)])
    assert statuses(ask, "/", 3) == [200] * 3
    assert statuses(ask, "/streams/", 3) == [200] * 3
    assert statuses(ask, "/streams/async/", 3) == [200] * 3
    assert statuses(ask, "/file/", 3) == [200] * 3
    assert statuses(ask, "/streams/?status=500", 2) == [500, 429]


def test_what_failed_costs_counts_although_a_view_raised(ask: Asker, use: Use) -> None:
    use(rules=[Rule("1/minute", name="failures", charge_when=lambda response: response.status_code == 500)])
    assert statuses(ask, "/fails/", 2) == [500, 429]


@pytest.mark.parametrize("path", ["/slots/", "/slots/async/"])
def test_a_slot_is_held_until_the_stream_has_ended(ask: Asker, use: Use, path: str) -> None:
    use()
    assert statuses(ask, path, 3) == [200] * 3


def test_a_slot_is_held_while_a_stream_lasts(use: Use) -> None:
    use()
    client = Client()
    first: Any = client.get("/slots/")
    parts = iter(first.streaming_content)
    assert next(parts) == b"one "
    assert client.get("/slots/").status_code == 429
    assert [*parts] == [b"two"]
    second: Any = client.get("/slots/")
    assert second.status_code == 200
    second.close()
    third: Any = client.get("/slots/")
    assert third.status_code == 200
    third.close()


def test_a_slot_is_free_when_a_stream_has_ended_and_is_not_closed_yet(use: Use) -> None:
    use()
    application = get_wsgi_application()
    for _ in range(3):
        statuses: list[str] = []
        environment = RequestFactory().get("/slots/").environ
        answer = application(environment, lambda status, *_, known=statuses: known.append(status))
        assert list(answer) == [b"one ", b"two"]
        assert statuses == ["200 OK"]


@pytest.mark.parametrize("limit", [None, "5/minute"])
def test_what_a_view_says_itself_stays_as_it_is(ask: Asker, use: Use, limit: str | None) -> None:
    use(*([limit] if limit else []))

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"RateLimit-Policy": "mine"})

    with override_settings(ROOT_URLCONF=(urls.path("", view),)):
        answer = ask("/")
    assert answer.headers["RateLimit-Policy"] == "mine"
    assert ("RateLimit" in answer.headers) is (limit is not None)


async def test_a_slot_is_held_while_an_async_stream_lasts(use: Use) -> None:
    use()
    client = AsyncClient()
    first: Any = await client.get("/slots/async/")
    parts = aiter(first.streaming_content)
    assert await anext(parts) == b"one "
    assert (await client.get("/slots/async/")).status_code == 429
    assert [part async for part in parts] == [b"two"]
    second: Any = await client.get("/slots/async/")
    assert second.status_code == 200
    assert [part async for part in second.streaming_content] == [b"one ", b"two"]


async def test_a_client_that_goes_away_leaves_no_slot_behind(use: Use) -> None:
    entered = asyncio.Event()

    async def waits(request: HttpRequest) -> HttpResponse:
        entered.set()
        await asyncio.Event().wait()
        return HttpResponse()

    from headgate.web.django.middleware import RateLimitMiddleware

    use(rules=[Rule("concurrency 1", name="slots")])
    middleware: Any = RateLimitMiddleware(_resolving(waits))
    request: Any = AsyncClient().request  # a request as ASGI makes it
    made = await _request_of(request)
    task = asyncio.create_task(middleware(made))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await AsyncClient().get("/")).status_code == 200


def _resolving(view: Any) -> Any:
    """The rest of Django behind a middleware: it calls `process_view`, and the view."""
    from headgate.web.django.asking import ask_async
    from headgate.web.django.exchange import exchange_of

    async def get_response(request: HttpRequest) -> Any:
        exchange = exchange_of(request)
        assert exchange is not None
        refusal = await ask_async(exchange, request, ())
        return refusal if refusal is not None else await view(request)

    return get_response


async def _request_of(_: Any) -> HttpRequest:
    from django.test import AsyncRequestFactory

    return AsyncRequestFactory().get("/")


def test_a_shadow_denies_nobody(ask: Asker, use: Use) -> None:
    use(rules=[Rule("1/minute", name="shadow", is_shadow=True)])
    assert statuses(ask, "/", 3) == [200] * 3


def test_an_async_function_is_refused_where_the_project_blocks(use: Use) -> None:
    async def is_exempt(request: HttpRequest) -> bool:
        return True

    use(rules=[Rule("1/minute", name="all", exempt_when=is_exempt)])
    with pytest.raises(InvalidUse, match="exempt_when of rule 'all' is async, and this framework blocks"):
        Client().get("/")
    assert statuses(Asker(is_async=True), "/", 3) == [200] * 3


def test_a_limiter_of_the_other_kind_is_refused(use: Use) -> None:
    use(rules=[Rule(limiter=AsyncLimiter("1/minute"), name="all")])
    with pytest.raises(InvalidUse, match="takes Limiter, and AsyncLimiter would have to be awaited"):
        Client().get("/")
    use(rules=[Rule(limiter=Limiter("1/minute"), name="all")])
    with pytest.raises(InvalidUse, match="would block its event loop"):
        asyncio.run(_get())


async def _get() -> Any:
    return await AsyncClient().get("/")


def test_settings_that_change_are_heard(use: Use) -> None:
    client = Client()
    store = MemoryStore()
    with override_settings(HEADGATE={"limits": ["1/minute"], "store": store}):
        assert [client.get("/").status_code for _ in range(2)] == [200, 429]
        with override_settings(HEADGATE={"limits": ["10/10m"], "store": store}):
            assert client.get("/").status_code == 200
        assert client.get("/").status_code == 429
    assert client.get("/").status_code == 200
