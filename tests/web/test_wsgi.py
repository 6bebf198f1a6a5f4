"""WSGI: an app behind its limits answers as before, to the byte; and each request comes to its end, once."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from wsgiref.handlers import SimpleHandler
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from headgate import AsyncLimiter, Decision, InvalidUse, Limiter, ManualClock, MemoryStore
from headgate.rules import Rule
from headgate.web.messages import WebResponse
from headgate.web.wsgi import RateLimitMiddleware, RateLimits, WsgiRequest


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def environ(method: str = "GET", path: str = "/", **more: Any) -> WSGIEnvironment:
    found: WSGIEnvironment = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "REMOTE_ADDR": "203.0.113.7",
        "SCRIPT_NAME": "",
        **more,
    }
    setup_testing_defaults(found)
    found["QUERY_STRING"] = more.get("QUERY_STRING", "")
    return found


def ask(app: WSGIApplication, method: str = "GET", path: str = "/", **more: Any) -> Answer:
    """Call an app as a server does, and see that both sides keep to the specification."""
    told: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        told.append((status, headers))
        return written.append

    body = validator(app)(environ(method, path, **more), start_response)
    try:
        written += list(body)
    finally:
        if hasattr(body, "close"):
            body.close()
    status, headers = told[-1]
    names = [name.lower() for name, _ in headers]
    assert len(names) == len(set(names)), headers
    return Answer(int(status[:3]), {name.lower(): value for name, value in headers}, b"".join(written))


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"hello"]


def limited(app: WSGIApplication, *rules: Any, **options: Any) -> RateLimitMiddleware:
    return RateLimitMiddleware(app, *rules, store=MemoryStore(clock=ManualClock()), **options)


class Settled:
    """Notes the responses by which a rule settles."""

    def __init__(self) -> None:
        self.seen: list[WebResponse] = []

    def __call__(self, response: WebResponse) -> bool:
        self.seen.append(response)
        return True

    @property
    def statuses(self) -> list[int]:
        return [response.status_code for response in self.seen]

    def rule(self) -> Rule:
        return Rule("100/minute", charge_when=self)


def test_an_app_is_limited_and_says_so() -> None:
    app = limited(validator(hello), "2/minute")
    first, _, third = (ask(app) for _ in range(3))
    assert (first.status, first.body) == (200, b"hello")
    assert first.headers["content-type"] == "text/plain"
    assert "r=1" in first.headers["ratelimit"]
    assert "retry-after" not in first.headers
    assert third.status == 429
    assert third.headers["retry-after"] == "30"
    assert third.headers["cache-control"] == "no-store"
    assert int(third.headers["content-length"]) == len(third.body) > 0


def test_the_refusal_of_a_head_request_has_no_body() -> None:
    app = limited(hello, "1/minute")
    assert ask(app, "HEAD").status == 200
    refused = ask(app, "HEAD")
    assert (refused.status, refused.body) == (429, b"")


def test_head_meets_the_rules_of_get() -> None:
    app = limited(hello, Rule("1/minute", methods=["GET"]))
    assert [ask(app, method).status for method in ("GET", "HEAD", "POST")] == [200, 429, 200]


@pytest.mark.parametrize("asks_for", ["DELETE", "GET,DELETE", "get, delete "])
def test_a_method_that_is_asked_for_by_a_header_meets_its_rules(asks_for: str) -> None:
    """Servers join headers of one name with commas."""
    app = limited(hello, Rule("1/minute", methods=["DELETE"]))
    statuses = [ask(app, "POST", HTTP_X_HTTP_METHOD_OVERRIDE=asks_for).status for _ in range(2)]
    assert statuses == [200, 429]


def test_preflights_of_cors_are_not_counted() -> None:
    app = limited(hello, "1/minute")
    preflight = {"HTTP_ORIGIN": "https://a.example", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
    assert [ask(app, "OPTIONS", **preflight).status for _ in range(3)] == [200] * 3
    assert [ask(app, "OPTIONS").status for _ in range(2)] == [200, 429]


def test_a_response_is_the_object_that_the_app_returned() -> None:
    returned = FileWrapper(io.BytesIO(b"hello"))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return returned

    assert limited(app, "9/minute")(environ(), lambda *_: lambda _: None) is returned


def test_a_body_that_is_whole_is_settled_before_it_is_sent() -> None:
    """And a server that finds one part in it still knows the length."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    settled, out = Settled(), io.BytesIO()
    limit = limited(app, settled.rule())
    assert limit(environ(), start_into([])) == [b"hello"]
    assert settled.statuses == [200]
    SimpleHandler(io.BytesIO(), out, sys.stderr, environ()).run(limit)
    assert b"Content-Length: 5" in out.getvalue()


class Stream:
    """An app that streams, and notes what has been asked of it."""

    def __init__(self, *, fails_at: int | None = None, starts_late: bool = False) -> None:
        self.made = 0
        self.is_closed = False
        self._fails_at = fails_at
        self._starts_late = starts_late

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._starts_late:
            start_response("200 OK", [("Content-Type", "text/plain")])
        return self._parts(start_response)

    def _parts(self, start_response: StartResponse) -> Iterator[bytes]:
        try:
            if self._starts_late:
                start_response("206 Partial Content", [("Content-Type", "text/plain")])
            for number in range(3):
                if number == self._fails_at:
                    raise RuntimeError
                self.made += 1
                yield b"part"
        finally:
            self.is_closed = True


def start_into(told: list[Any]) -> StartResponse:
    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        told.append((status, dict(headers)))
        return lambda _: None

    return start_response


@pytest.mark.parametrize("starts_late", [False, True])
def test_a_stream_is_handed_on_as_it_comes_and_settled_at_its_end(starts_late: bool) -> None:
    settled, stream, told = Settled(), Stream(starts_late=starts_late), []  # type: ignore[var-annotated]
    body = limited(stream, settled.rule())(environ(), start_into(told))
    parts = iter(body)
    for made in (1, 2, 3):
        assert next(parts) == b"part"
        assert stream.made == made
        assert "RateLimit" in told[0][1]
    assert not settled.seen
    with pytest.raises(StopIteration):
        next(parts)
    assert settled.statuses == [206 if starts_late else 200]
    body.close()  # type: ignore[attr-defined]
    body.close()  # type: ignore[attr-defined]
    assert settled.statuses == [206 if starts_late else 200]


def test_a_client_that_goes_in_the_midst_of_a_response_closes_the_stream_and_settles_it() -> None:
    settled, stream = Settled(), Stream()
    body = limited(stream, settled.rule())(environ(), start_into([]))
    assert next(iter(body)) == b"part"
    body.close()  # type: ignore[attr-defined]
    assert stream.is_closed
    assert settled.statuses == [200]


def test_a_client_that_goes_before_there_is_a_response_pays_what_was_reserved() -> None:
    app = limited(Stream(starts_late=True), Rule("1/minute", charge_when=lambda _: False))
    body = app(environ(), start_into([]))
    body.close()  # type: ignore[attr-defined]
    assert ask(app).status == 429


@pytest.mark.parametrize(("fails_at", "expected"), [(0, 500), (1, 200)])
def test_a_stream_that_fails_is_a_500_unless_something_has_been_sent(fails_at: int, expected: int) -> None:
    settled = Settled()
    with pytest.raises(RuntimeError):
        ask(limited(Stream(fails_at=fails_at), settled.rule()))
    assert settled.statuses == [expected]


def test_an_app_that_raises_is_settled_as_a_500() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise RuntimeError

    settled = Settled()
    with pytest.raises(RuntimeError):
        ask(limited(app, settled.rule()))
    assert settled.statuses == [500]


def test_an_app_that_is_interrupted_has_no_response() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise KeyboardInterrupt

    limit = limited(app, Rule("1/minute", charge_when=lambda _: False))
    with pytest.raises(KeyboardInterrupt):
        ask(limit)
    told: list[Any] = []
    limit(environ(), start_into(told))
    assert told[0][0].startswith("429")


def test_an_app_may_begin_anew_while_nothing_is_sent() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise RuntimeError
        except RuntimeError:
            start_response("502 Bad Gateway", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"sorry"]

    settled = Settled()
    answer = ask(limited(validator(app), settled.rule()))
    assert answer.status == 502
    assert "ratelimit" in answer.headers
    assert settled.statuses == [502]


@pytest.mark.parametrize("settles", [False, True])
def test_an_app_may_write(settles: bool) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"hello, ")
        return [b"world"]

    settled = Settled()
    answer = ask(limited(app, settled.rule() if settles else "9/minute"))
    assert answer.body == b"hello, world"
    assert "ratelimit" in answer.headers


def test_what_was_written_was_sent_though_the_app_raises_then() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"hello")
        raise RuntimeError

    settled = Settled()
    with pytest.raises(RuntimeError):
        ask(limited(app, settled.rule()))
    assert settled.statuses == [200]


@pytest.mark.parametrize("ends", [list, lambda body: body.close()])
def test_slots_are_held_until_a_stream_ends(ends: Callable[[Any], object]) -> None:
    app = limited(Stream(), Rule("concurrency 1"))
    body = app(environ(), start_into([]))
    assert ask(app).status == 429
    ends(body)
    assert ask(app).status == 200


def test_the_headers_of_the_app_stay_as_they_are() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("ratelimit", '"mine";r=1')])
        return [b"hello"]

    assert ask(limited(app, "9/minute")).headers["ratelimit"] == '"mine";r=1'


def test_paths_are_decoded_and_those_of_mounts_are_within_them() -> None:
    app = limited(hello, Rule("1/minute", paths=["/café"]))
    encoded = "/café".encode().decode("latin-1")
    assert [ask(app, path=encoded, SCRIPT_NAME="/shop").status for _ in range(2)] == [200, 429]
    assert ask(app, path="/caf").status == 200


@pytest.mark.parametrize("path", ["", "/\xff\xfe", "/\x00", "/a\xc3", "//", "/日本"])
def test_any_path_is_decided_about(path: str) -> None:
    app = limited(hello, "1/minute")
    found = environ(path=path, SCRIPT_NAME="" if path else "/app")
    found["PATH_INFO"] = path
    told: list[Any] = []
    for _ in range(2):
        app(dict(found), start_into(told))
    assert [status[:3] for status, _ in told] == ["200", "429"]


@pytest.mark.parametrize("missing", [{"REMOTE_ADDR": ""}, {}])
def test_callers_over_a_unix_socket_are_one(missing: dict[str, str]) -> None:
    app = limited(hello, "1/minute")
    told: list[Any] = []
    for _ in range(2):
        found = environ()
        del found["REMOTE_ADDR"]
        app({**found, **missing}, start_into(told))
    assert [status[:3] for status, _ in told] == ["200", "429"]


def test_a_request_tells_what_rules_ask_about() -> None:
    found = environ("post", QUERY_STRING="api_key=a&empty=&api_key=b", HTTP_X_API_KEY="secret", REMOTE_USER="ann")
    found["CONTENT_TYPE"] = "text/plain"
    request = WsgiRequest(found)
    assert (request.method, request.user, request.native) == ("POST", "ann", found)
    assert list(request.values("x-api-key")) == ["secret"]
    assert list(request.values("content-type")) == ["text/plain"]
    assert list(request.values("x-other")) == []
    assert (request.query("api_key"), request.query("empty"), request.query("other")) == ("a", "", None)


def test_a_user_whom_the_server_knows_has_a_share() -> None:
    app = limited(hello, "1/minute", identity=("user", "ip"))
    users = ("ann", "bob", "ann", "")
    assert [ask(app, REMOTE_USER=user).status for user in users] == [200, 200, 429, 200]


def test_a_refusal_may_be_answered_in_ones_own_way() -> None:
    seen: list[Any] = []

    def own(environ: WSGIEnvironment, decision: Decision | None) -> WSGIApplication | None:
        seen.append((environ["PATH_INFO"], decision))
        return page if environ["PATH_INFO"] == "/page" else None

    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("302 Found", [("Location", "/slow-down"), ("Content-Type", "text/html")])
        return []

    app = limited(hello, "1/minute", on_denied=own)
    assert ask(app).status == 200
    redirected = ask(app, path="/page")
    assert (redirected.status, redirected.headers["location"]) == (302, "/slow-down")
    assert {"ratelimit", "retry-after", "cache-control"} <= set(redirected.headers)
    assert ask(app, path="/other").status == 429
    assert [path for path, _ in seen] == ["/page", "/other"]
    assert all(decision is not None and not decision.allowed for _, decision in seen)


def test_networks_are_refused_and_let_through() -> None:
    app = limited(hello, "1/minute", allow=["10.0.0.0/8"], deny=["192.0.2.0/24"])
    assert [ask(app, REMOTE_ADDR="10.1.2.3").status for _ in range(2)] == [200, 200]
    assert ask(app, REMOTE_ADDR="192.0.2.9").status == 403


def test_a_middleware_that_is_installed_twice_counts_once() -> None:
    limits = RateLimits("2/minute", store=MemoryStore(clock=ManualClock()))
    app = limits.middleware(limits.middleware(hello))
    assert [ask(app).status for _ in range(3)] == [200, 200, 429]


def test_of_nested_apps_the_client_is_told_of_the_limit_that_binds() -> None:
    settled = Settled()
    app = limited(limited(hello, "2/minute", settled.rule(), name="inner"), "9/minute", name="outer")
    answers = [ask(app) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert "r=1" in answers[0].headers["ratelimit"]
    assert answers[2].headers["retry-after"] == "30"
    assert settled.statuses == [200, 200]


def test_an_environment_that_is_used_again_is_another_request() -> None:
    settled = Settled()
    app = limited(hello, settled.rule())
    told: list[Any] = []
    found = environ()
    app(found, start_into(told))
    app(found, start_into(told))
    assert [headers["RateLimit"].split(";")[1] for _, headers in told] == ["r=99", "r=98"]
    assert settled.statuses == [200, 200]


def test_an_app_within_a_generator_is_counted_too() -> None:
    """It is called when the body is asked for, and no sooner."""
    inner = limited(hello, "1/minute", name="inner")

    def lazy(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        yield from inner(environ, start_response)

    app = limited(lazy, Rule("9/minute", name="around"))
    answers = [ask(app) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert {"around", "default"} <= set(answers[0].headers["ratelimit-policy"].split('"'))


def test_a_failure_in_settling_closes_the_body_that_nobody_gets() -> None:
    class Whole(list[bytes]):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    whole = Whole([b"hello"])

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return whole

    with pytest.raises(ZeroDivisionError):
        ask(limited(app, Rule("9/minute", charge_when=lambda _: 1 // 0 > 0)))
    assert whole.is_closed


def test_a_failure_in_settling_is_raised_and_leaves_nothing_held() -> None:
    def fails(response: WebResponse) -> bool:
        raise ZeroDivisionError

    app = limited(
        limited(hello, Rule("9/minute", charge_when=fails), name="inner"), Rule("concurrency 1"), name="outer"
    )
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            ask(app)


def test_the_middleware_takes_limits_or_makes_them() -> None:
    limits = RateLimits("1/minute")
    assert RateLimitMiddleware(hello, limits).limits is limits
    with pytest.raises(InvalidUse, match="not both"):
        RateLimitMiddleware(hello, limits, "1/minute")
    with pytest.raises(InvalidUse, match="not both"):
        RateLimitMiddleware(hello, limits, name="a")


def test_a_limiter_of_ones_own_may_be_shared() -> None:
    limiter = Limiter("2/minute", store=MemoryStore(clock=ManualClock()))
    app = RateLimitMiddleware(hello, limiter)
    assert [ask(app).status for _ in range(3)] == [200, 200, 429]
    assert not limiter.try_acquire("ip:203.0.113.7")


def test_nothing_that_has_to_be_awaited_is_taken() -> None:
    async def never(*_: Any) -> Any: ...

    with pytest.raises(InvalidUse, match="have to be awaited"):
        RateLimitMiddleware(hello, AsyncLimiter("1/minute"))  # type: ignore[arg-type]
    with pytest.raises(InvalidUse, match="async"):
        RateLimitMiddleware(hello, Rule("1/minute", key=never))
    with pytest.raises(InvalidUse, match="async"):
        RateLimitMiddleware(hello, "1/minute", on_denied=never)
    app = limited(hello, "1/minute", on_denied=lambda *_: never())
    assert ask(app).status == 200
    with pytest.raises(InvalidUse, match="on_denied returns"):
        ask(app)
