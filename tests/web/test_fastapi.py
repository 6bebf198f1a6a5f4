"""FastAPI: dependencies limit routes wherever they are, and the response says so whatever it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse, StreamingResponse

import headgate
from headgate import AsyncLimiter, Decision, InvalidUse, Limiter, ManualClock, MemoryStore
from headgate.rules import Rule
from headgate.web.fastapi import RateLimitExceeded, RateLimitMiddleware, RateLimits


def client(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def statuses(app: FastAPI, *requests: str, **options: Any) -> list[int]:
    found = []
    async with client(app) as http:
        for request in requests:
            method, _, path = request.rpartition(" ")
            found.append((await http.request(method or "GET", path, **options)).status_code)
    return found


def make(*rules: Any, **options: Any) -> tuple[FastAPI, RateLimits]:
    app = FastAPI()
    return app, RateLimits(*rules, app=app, store=MemoryStore(clock=ManualClock()), **options)


async def test_a_default_limits_all_routes_together() -> None:
    app, _ = make("2/minute")
    app.get("/a")(lambda: "a")
    app.get("/b")(lambda: "b")
    assert await statuses(app, "/a", "/b", "/a", "/b") == [200, 200, 429, 429]


async def test_a_route_with_a_limit_of_its_own_does_not_meet_the_default() -> None:
    app, limits = make("1/minute")
    app.get("/own", dependencies=[Depends(limits.limit("2/minute"))])(lambda: "own")
    app.get("/other")(lambda: "other")
    assert await statuses(app, "/own", "/own", "/own", "/other", "/other") == [200, 200, 429, 200, 429]


async def test_a_request_that_a_route_refuses_by_its_method_meets_the_default() -> None:
    app, limits = make("1/minute")
    app.get("/own", dependencies=[Depends(limits.limit("5/minute"))])(lambda: "own")
    assert await statuses(app, "POST /own", "POST /own", "/own") == [405, 429, 200]


async def test_paths_that_lead_nowhere_meet_the_default() -> None:
    app, limits = make("2/minute")
    app.get("/own", dependencies=[Depends(limits.limit("5/minute"))])(lambda: "own")
    assert await statuses(app, "/none", "/own/", "/none") == [404, 307, 429]


async def test_a_rule_by_path_is_met_however_the_path_is_written() -> None:
    app, _ = make(Rule("2/minute", name="login", paths=["/login"]), Rule("2/minute", name="u", paths=["/users/{id}"]))
    app.get("/login")(lambda: "in")
    app.get("/users/{name:path}")(lambda: "user")
    assert await statuses(app, "/login", "/%6Cogin", "/login%0A", "/login%0a", "/login?") == [200, 200, 429, 429, 429]
    assert await statuses(app, "/users/1", "/users/%0A", "/users/2%0A", "/users/3%00") == [200, 200, 429, 429]


async def test_routes_of_one_path_have_a_share_each() -> None:
    app, limits = make()
    limit = Depends(limits.limit("1/minute"))
    app.get("/items", dependencies=[limit])(lambda: "got")
    app.post("/items", dependencies=[limit])(lambda: "made")
    assert await statuses(app, "/items", "POST /items", "/items", "POST /items") == [200, 200, 429, 429]


async def test_rules_of_one_name_are_shared_by_routes() -> None:
    app, limits = make()
    shared = Depends(limits.limit("1/minute", name="shared"))
    app.get("/a", dependencies=[shared])(lambda: "a")
    app.get("/b", dependencies=[Depends(limits.limit("1/minute", name="shared"))])(lambda: "b")
    assert await statuses(app, "/a", "/b") == [200, 429]


@pytest.mark.parametrize("is_late", [False, True], ids=["included at the end", "included before its routes"])
async def test_included_routers_are_limited_however_deep(*, is_late: bool) -> None:
    app, limits = make("100/minute")
    outer, inner = APIRouter(prefix="/outer"), APIRouter(prefix="/inner")
    if is_late:
        outer.include_router(inner)
        app.include_router(outer, prefix="/v1")

    @inner.get("/items/{number}", dependencies=[Depends(limits.limit("2/minute"))])
    async def item(number: int) -> int:
        return number

    if not is_late:
        outer.include_router(inner)
        app.include_router(outer, prefix="/v1")
    paths = [f"/v1/outer/inner/items/{number}" for number in range(4)]
    assert await statuses(app, *paths) == [200, 200, 429, 429]


async def test_a_router_limits_its_routes_each_with_a_share_of_its_own() -> None:
    app, limits = make("1/minute")
    router = APIRouter(prefix="/r", dependencies=[Depends(limits.limit("2/minute"))])
    router.get("/a")(lambda: "a")
    router.get("/b")(lambda: "b")
    app.include_router(router)
    assert await statuses(app, "/r/a", "/r/a", "/r/b", "/r/a") == [200, 200, 200, 429]


async def test_a_router_that_is_included_twice_has_two_shares() -> None:
    app, limits = make()
    router = APIRouter()
    router.get("/a", dependencies=[Depends(limits.limit("1/minute"))])(lambda: "a")
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    assert await statuses(app, "/v1/a", "/v2/a", "/v1/a", "/v2/a") == [200, 200, 429, 429]


async def test_a_limit_given_where_a_router_is_included_counts() -> None:
    app, limits = make("1/minute")
    router = APIRouter()
    router.get("/a")(lambda: "a")
    app.include_router(router, dependencies=[Depends(limits.limit("2/minute"))])
    assert await statuses(app, "/a", "/a", "/a") == [200, 200, 429]


async def test_an_app_limits_all_its_routes_by_a_dependency() -> None:
    limits = RateLimits("1/minute", store=MemoryStore(clock=ManualClock()))
    app = FastAPI(dependencies=[Depends(limits.limit("2/minute"))])
    limits.init_app(app)
    app.get("/a")(lambda: "a")
    assert await statuses(app, "/a", "/a", "/a", "/none", "/none") == [200, 200, 429, 404, 429]


async def test_apps_that_are_mounted_are_limited_by_the_rules_of_both() -> None:
    app, limits = make("1/minute")
    inner = FastAPI()
    inner.get("/own", dependencies=[Depends(limits.limit("2/minute"))])(lambda: "own")
    inner.get("/plain")(lambda: "plain")
    app.mount("/inner", inner)
    wanted = ["/inner/own", "/inner/own", "/inner/own", "/inner/plain", "/inner/plain"]
    assert await statuses(app, *wanted) == [200, 200, 429, 200, 429]


async def test_the_parameters_of_a_mount_give_nobody_another_share() -> None:
    app, limits = make()
    inner = FastAPI()
    inner.get("/own/{tenant}", dependencies=[Depends(limits.limit("2/minute"))])(lambda: "own")
    app.mount("/of/{tenant}", inner)
    assert await statuses(app, "/of/a/own/1", "/of/b/own/1", "/of/c/own/1") == [200, 200, 429]


async def test_a_mounted_app_with_limits_of_its_own_adds_headers_once() -> None:
    app, _ = make(Rule("100/minute", name="outer"))
    inner, _ = make(Rule("2/minute", name="inner"))
    inner.get("/a")(lambda: "a")
    app.mount("/inner", inner)
    async with client(app) as http:
        answers = [await http.get("/inner/a") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    for answer in answers:
        assert len(answer.headers.get_list("ratelimit")) == 1
        assert "inner" in answer.headers["ratelimit"]
    assert int(answers[2].headers["retry-after"]) == 30


async def test_whatever_a_route_returns_has_the_headers() -> None:
    app, limits = make()
    done: list[int] = []

    @app.get("/own", dependencies=[Depends(limits.limit("9/minute", name="own"))])
    async def own() -> PlainTextResponse:
        return PlainTextResponse("own", headers={"x-mine": "1"})

    @app.get("/background", dependencies=[Depends(limits.limit("9/minute", name="background"))])
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(done.append, 1)
        return "later"

    @app.get("/stream", dependencies=[Depends(limits.limit("9/minute", name="stream"))])
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "a"
            yield "b"

        return StreamingResponse(parts())

    @app.get("/gone", dependencies=[Depends(limits.limit("9/minute", name="gone"))])
    async def gone() -> None:
        raise HTTPException(410)

    @app.get("/broken", dependencies=[Depends(limits.limit("9/minute", name="broken"))])
    async def broken() -> None:
        raise RuntimeError

    @app.get("/typed/{number}", dependencies=[Depends(limits.limit("9/minute", name="typed"))])
    async def typed(number: int) -> int:
        return number

    expected = {"own": 200, "background": 200, "stream": 200, "gone": 410, "broken": 500, "typed/x": 422}
    async with client(app) as http:
        for path, status in expected.items():
            answer = await http.get(f"/{path}")
            assert answer.status_code == status
            (field,) = answer.headers.get_list("ratelimit")
            assert field.endswith(f'{path.removesuffix("/x")}";r=8;t=7')
    assert done == [1]


async def test_a_denial_is_the_same_by_the_middleware_and_by_a_dependency() -> None:
    app, limits = make(Rule("1/minute", name="one", paths=["/of-app"]))
    app.get("/of-app")(lambda: "app")
    app.get("/own", dependencies=[Depends(limits.limit("1/minute", name="one"))])(lambda: "own")
    async with client(app) as http:
        await http.get("/own")
        first, second = await http.get("/own"), await http.get("/of-app")
    assert first.status_code == second.status_code == 429
    assert first.content == second.content
    assert first.headers["cache-control"] == "no-store"
    assert sorted(first.headers.multi_items()) == sorted(second.headers.multi_items())


async def test_the_decision_is_a_dependency() -> None:
    app, limits = make("5/minute")
    asked, limit = Depends(limits.decision), Depends(limits.limit("10/minute", cost=3))

    @app.get("/any")
    async def any_route(decision: Decision | None = asked) -> int | None:
        return None if decision is None else decision.remaining

    @app.get("/own")
    async def own(decision: Decision = limit) -> int:
        return decision.remaining

    async with client(app) as http:
        assert (await http.get("/any")).json() == 4
        assert (await http.get("/own")).json() == 7


async def test_keys_and_costs_are_functions_of_the_request() -> None:
    app, limits = make()

    async def cost(request: Request) -> int:
        return int(request.headers.get("x-cost", "1"))

    limit = limits.limit("10/minute", key=lambda request: request.query_params["who"], cost=cost)
    app.get("/a", dependencies=[Depends(limit)])(lambda: "a")
    assert await statuses(app, "/a?who=ann", "/a?who=ann", "/a?who=bob", headers={"x-cost": "6"}) == [200, 429, 200]


async def test_a_route_may_be_exempt() -> None:
    app, limits = make("1/minute")

    @app.get("/health")
    @limits.exempt
    async def health() -> str:
        return "fine"

    assert await statuses(app, *["/health"] * 3) == [200] * 3


async def test_a_response_settles_what_its_route_took() -> None:
    app, limits = make()
    failed = Depends(limits.limit("1/minute", charge_when=lambda response: response.status_code == 401))

    @app.get("/login", dependencies=[failed])
    async def login(*, is_right: bool) -> str:
        if is_right:
            return "in"
        raise HTTPException(401)

    right, wrong = "/login?is_right=1", "/login?is_right=0"
    assert await statuses(app, right, right, wrong, right) == [200, 200, 401, 429]


async def test_slots_are_released_when_the_request_ends_even_by_an_error() -> None:
    app, limits = make()

    @app.get("/one", dependencies=[Depends(limits.limit("concurrency 1"))])
    async def one() -> None:
        raise RuntimeError

    assert await statuses(app, "/one", "/one") == [500, 500]


async def test_a_dependency_limits_without_the_middleware() -> None:
    limits = RateLimits(Rule("3/minute", name="app"), store=MemoryStore(clock=ManualClock()))
    app = FastAPI()
    app.get("/a", dependencies=[Depends(limits.limit("2/minute")), Depends(limits.limit("9/hour"))])(lambda: "a")
    async with client(app) as http:
        answers = [await http.get("/a") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert all("ratelimit" in answer.headers for answer in answers)


async def test_a_rule_that_has_to_know_the_end_needs_the_middleware() -> None:
    limits = RateLimits()
    app = FastAPI()
    app.get("/a", dependencies=[Depends(limits.limit("concurrency 1"))])(lambda: "a")
    with pytest.raises(InvalidUse, match="install the middleware"):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            await http.get("/a")


async def test_the_app_may_answer_a_denial_itself() -> None:
    app, limits = make()
    app.get("/a", dependencies=[Depends(limits.limit("1/minute"))])(lambda: "a")

    @app.exception_handler(RateLimitExceeded)
    async def slower(request: Request, error: RateLimitExceeded) -> PlainTextResponse:
        assert error.decision is not None
        return PlainTextResponse(f"wait {error.decision.retry_after:.0f} s", 429)

    async with client(app) as http:
        await http.get("/a")
        answer = await http.get("/a")
    assert (answer.status_code, answer.text) == (429, "wait 60 s")
    assert answer.headers["retry-after"] == "60"


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_denied_answers_for_the_middleware_and_for_dependencies(*, is_async: bool) -> None:
    def plain(request: Request, decision: Decision) -> PlainTextResponse:
        return PlainTextResponse(f"{request.url.path}: {decision.retry_after:.0f}", 420)

    async def later(request: Request, decision: Decision) -> PlainTextResponse:
        return plain(request, decision)

    app, limits = make("1/minute", on_denied=later if is_async else plain)
    app.get("/a")(lambda: "a")
    app.get("/b", dependencies=[Depends(limits.limit("1/minute"))])(lambda: "b")
    async with client(app) as http:
        for path in ("/a", "/b"):
            await http.get(path)
            answer = await http.get(path)
            assert (answer.status_code, answer.text) == (420, f"{path}: 60")
            assert answer.headers["retry-after"] == "60"
            assert answer.headers["cache-control"] == "no-store"


async def test_cors_stays_outside_whichever_is_added_first() -> None:
    for is_first in (True, False):
        app = FastAPI()
        if is_first:
            app.add_middleware(CORSMiddleware, allow_origins=["https://a.test"], expose_headers=["RateLimit"])
        RateLimits("1/minute", app=app, store=MemoryStore(clock=ManualClock()))
        if not is_first:
            app.add_middleware(CORSMiddleware, allow_origins=["https://a.test"], expose_headers=["RateLimit"])
        app.get("/a")(lambda: "a")
        async with client(app) as http:
            preflight = {"origin": "https://a.test", "access-control-request-method": "GET"}
            assert (await http.options("/a", headers=preflight)).status_code == 200
            answers = [await http.get("/a", headers={"origin": "https://a.test"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert all(answer.headers["access-control-allow-origin"] == "https://a.test" for answer in answers)


async def test_the_middleware_can_be_added_by_hand() -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, "1/minute", store=MemoryStore(clock=ManualClock()))
    app.get("/a")(lambda: "a")
    assert await statuses(app, "/a", "/a") == [200, 429]


async def test_a_middleware_that_is_there_twice_counts_once() -> None:
    app, limits = make("1/minute")
    app.add_middleware(RateLimitMiddleware, limits)
    app.get("/a")(lambda: "a")
    async with client(app) as http:
        answer = await http.get("/a")
        assert answer.status_code == 200
        assert len(answer.headers.get_list("ratelimit")) == 1
        assert (await http.get("/a")).status_code == 429


def test_openapi_says_which_routes_may_refuse_and_leaves_what_the_app_says() -> None:
    app, limits = make()
    limit = Depends(limits.limit("1/minute"))
    router = APIRouter(prefix="/r")
    app.get("/free")(lambda: "free")
    app.get("/own", dependencies=[limit])(lambda: "own")
    app.get("/said", dependencies=[limit], responses={429: {"description": "mine"}})(lambda: "said")
    router.post("/items/{number}", dependencies=[limit])(lambda number: number)
    app.include_router(router)
    paths = app.openapi()["paths"]
    assert "429" not in paths["/free"]["get"]["responses"]
    assert "Retry-After" in paths["/own"]["get"]["responses"]["429"]["headers"]
    assert paths["/said"]["get"]["responses"]["429"] == {"description": "mine"}
    assert "429" in paths["/r/items/{number}"]["post"]["responses"]
    assert set(paths["/own"]["get"]["responses"]) == {"200", "429"}
    assert "parameters" not in paths["/own"]["get"]


async def test_websockets_are_limited_by_dependencies() -> None:
    app, limits = make()

    @app.websocket("/ws", dependencies=[Depends(limits.limit("1/minute"))])
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    for _ in range(2):
        scope = {"type": "websocket", "path": "/ws", "headers": [], "client": ("203.0.113.7", 1), "query_string": b""}
        await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close", "websocket.close"]
    assert b"ratelimit" in dict(sent[0]["headers"])
    assert sent[2]["code"] == 1008


def test_a_blocking_limiter_is_refused_at_once() -> None:
    limits = RateLimits()
    with pytest.raises(InvalidUse, match="takes AsyncLimiter"):
        limits.limit(Limiter("1/minute"))  # type: ignore[arg-type]
    with pytest.raises(InvalidUse, match="takes AsyncLimiter"):
        RateLimits(Limiter("1/minute"))  # type: ignore[arg-type]


async def test_a_limiter_of_your_own_is_shared() -> None:
    app, limits = make()
    own = AsyncLimiter("1/minute", store=MemoryStore(clock=ManualClock()))
    app.get("/a", dependencies=[Depends(limits.limit(own, key="*"))])(lambda: "a")
    assert await statuses(app, "/a") == [200]
    assert not await own.try_acquire("*")
    assert await statuses(app, "/a") == [429]


def test_an_app_has_one_set_of_limits() -> None:
    app, limits = make()
    with pytest.raises(InvalidUse, match="has rate limits"):
        limits.init_app(app)


async def test_per_route_rules_of_the_app_give_each_route_a_share() -> None:
    app, _ = make(Rule("1/minute", name="each", is_per_route=True))
    router = APIRouter(prefix="/r")
    router.get("/items/{number}")(lambda number: number)
    app.include_router(router)
    app.get("/b")(lambda: "b")
    assert await statuses(app, "/r/items/1", "/r/items/2", "/b", "/b") == [200, 429, 200, 429]


def test_the_audit_sees_the_routes_of_included_routers() -> None:
    app, limits = make(Rule("5/minute", name="posts", methods=["POST"]))
    router = APIRouter(prefix="/r")
    router.get("/a", dependencies=[Depends(limits.limit("1/minute"))])(lambda: "a")
    router.get("/b")(lambda: "b")
    router.post("/c")(lambda: "c")
    app.include_router(router)
    found = headgate.audit(app)
    of_ours = {
        route.path: [rule.title for rule in route.rules] for route in found.routes if route.path.startswith("/r/")
    }
    assert of_ours == {"/r/a": ["1/minute"], "/r/b": [], "/r/c": ["posts"]}
    with pytest.raises(InvalidUse, match="GET /r/b"):
        headgate.audit(app, strict=True)


async def test_a_limited_app_finds_its_routes_wherever_it_is_mounted() -> None:
    outer, (inner, limits) = FastAPI(), make("9/minute")
    limit = Depends(limits.limit("1/minute"))
    inner.get("/{first}/{second}", dependencies=[limit])(lambda: "two")
    inner.get("/one", dependencies=[limit])(lambda: "one")
    outer.mount("/of/{tenant}", inner)
    assert await statuses(outer, "/of/a/one", "/of/a/b/c", "/of/b/one", "/of/b/c/d") == [200, 200, 429, 429]


@pytest.mark.parametrize("first", ["/r/a", "/r/b"])
async def test_the_limit_of_a_router_and_that_of_its_route_share_nothing(first: str) -> None:
    app, limits = make()
    router = APIRouter(prefix="/r", dependencies=[Depends(limits.limit("3/hour"))])
    router.get("/a")(lambda: "a")
    router.get("/b", dependencies=[Depends(limits.limit("2/hour"))])(lambda: "b")
    app.include_router(router)
    assert await statuses(app, first, *["/r/b"] * 2) == [200, 200, 200 if first == "/r/a" else 429]


@pytest.mark.parametrize("limits_of_route", [("3/hour", "3/hour"), ("5/hour", "3/hour"), ("3/hour", "5/hour")])
@pytest.mark.parametrize("option", [{}, {"is_shadow": True}, {"on_outage": "closed"}, {"key": "*"}])
async def test_limits_of_a_route_share_nothing_whatever_else_they_say(
    limits_of_route: tuple[str, str], option: dict[str, Any]
) -> None:
    app, limits = make()
    first, second = limits_of_route
    found = [limits.limit(first), limits.limit(second, **option)]
    app.get("/x", dependencies=[Depends(one) for one in found])(lambda: "x")
    admitted = 5 if option.get("is_shadow") and first == "5/hour" else 3
    assert await statuses(app, *["/x"] * (admitted + 1)) == [200] * admitted + [429]


async def test_limits_that_a_route_asks_by_itself_share_nothing_in_whatever_order() -> None:
    app, limits = make()
    small, large = limits.limit("2/hour"), limits.limit("4/hour")

    @app.get("/x")
    async def x(request: Request, response: Response, first: str) -> str:
        for one in (small, large) if first == "small" else (large, small):
            await one(request, response)
        return "x"

    assert await statuses(app, "/x?first=small", "/x?first=large", "/x?first=small") == [200, 200, 429]


async def test_rules_of_one_name_are_one_rule_on_the_app_its_routers_and_its_routes() -> None:
    app, limits = make(Rule("4/hour", name="one"))
    one = limits.limit("4/hour", name="one")
    router = APIRouter(dependencies=[Depends(one)])
    router.get("/x", dependencies=[Depends(limits.limit("4/hour", name="one"))])(lambda: "x")
    router.get("/costly", dependencies=[Depends(limits.limit("4/hour", name="one", cost=2))])(lambda: "x")
    app.include_router(router)
    async with client(app) as http:
        told = [(await http.get(path)).headers["RateLimit"] for path in ("/x", "/costly")]
    assert [one.partition(";t")[0] for one in told] == ['"one";r=3', '"one";r=1']
    assert await statuses(app, "/costly", "/x", "/x") == [429, 200, 429]


def test_rules_of_one_name_with_other_limits_are_refused() -> None:
    _, limits = make(Rule("4/hour", name="of-app"))
    limits.limit("4/hour", name="one")
    limits.limit("4/hour", name="one", cost=2)
    others: list[tuple[str, str, Any]] = [
        ("one", "5/hour", {}),
        ("one", "4/hour", {"is_shadow": True}),
        ("of-app", "5/hour", {}),
    ]
    for name, limit, options in others:
        with pytest.raises(InvalidUse, match=f"two rules are called '{name}', one of '4/hour'"):
            limits.limit(limit, name=name, **options)


@pytest.mark.parametrize("options", [{"enabled": False}, {"exempt": ["/x"]}, {"allow": ["127.0.0.0/8"]}])
async def test_a_route_that_looks_at_its_decision_works_where_no_limit_is_asked(options: dict[str, Any]) -> None:
    app, limits = make("1/hour", **options)

    limited = Depends(limits.limit(["5/hour", "concurrency 2"]))

    @app.get("/x")
    async def x(decision: Decision = limited) -> str:
        return f"{decision.allowed} {decision.remaining} {decision.retry_after} {bool(decision.headers())}"

    async with client(app) as http:
        assert [(await http.get("/x")).json() for _ in range(2)] == ["True 5 0.0 True"] * 2


def test_who_writes_a_limit_in_another_way_is_told_how_it_is_written() -> None:
    app, limits = make()
    limit: Any = limits.limit("5/minute")
    with pytest.raises(InvalidUse, match=r"Depends\(limits\.limit"):
        app.get("/x", dependencies=[limit])(lambda: "x")
    with pytest.raises(InvalidUse, match=r"no decorator: write dependencies=\[Depends"):
        limit(lambda: "x")
