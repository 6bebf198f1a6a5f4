"""Flask: views of every kind have limits of their own, asked in one round trip, however they are decorated."""

from __future__ import annotations

import functools
import gc
import logging
import sys
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient
from flask.views import MethodView, View
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client, TestResponse

from headgate import AsyncLimiter, Decision, InvalidUse, Limiter, LimitError, ManualClock, MemoryStore, audit, observer
from headgate.rules import Rule, Rules
from headgate.testing import limits_off
from headgate.web.flask import FlaskLimits, RateLimitExceeded, RateLimits
from headgate.web.messages import WebResponse
from headgate.web.wsgi import RateLimitMiddleware
from tests.web.stacking import OPTIONS, PAIRS, passes


def make(*rules: Any, app: flask.Flask | None = None, **options: Any) -> tuple[flask.Flask, RateLimits]:
    """An app, and its limits on a clock that stands still."""
    app = app or flask.Flask("shop", static_folder=None)
    options.setdefault("store", MemoryStore(clock=ManualClock()))
    return app, RateLimits(*rules, app=app, **options)


def statuses(app: flask.Flask, *requests: str, **options: Any) -> list[int]:
    found = []
    for request in requests:
        method, _, path = request.rpartition(" ")
        with app.test_client().open(path, method=method or "GET", **options) as response:
            found.append(response.status_code)
    return found


def index() -> str:
    return "index"


class Settled:
    """Notes the responses by which a rule settles."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def __call__(self, response: WebResponse) -> bool:
        self.statuses.append(response.status_code)
        return True


def test_a_view_with_a_limit_of_its_own_does_not_meet_the_default() -> None:
    app, limits = make("1/minute", Rule("9/minute", name="app"))
    app.get("/own")(limits.limit("2/minute")(index))
    app.get("/other", endpoint="other")(index)
    assert statuses(app, "/own", "/own", "/own", "/other", "/other") == [200, 200, 429, 200, 429]


def test_the_limits_of_app_blueprint_and_view_are_asked_in_one_round_trip_and_stand_or_fall_together() -> None:
    decisions: list[Decision] = []

    class Listening(observer.Observer):
        def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
            decisions.append(decision)

    app, limits = make(Rule("9/minute", name="app"))
    api = flask.Blueprint("api", __name__, url_prefix="/api")
    limits.limit_blueprint(api, "8/minute", name="api")
    api.get("/")(limits.limit("2/minute", name="view")(index))
    app.register_blueprint(api)
    detach = observer.attach(Listening())
    try:
        assert statuses(app, "/api/", "/api/", "/api/") == [200, 200, 429]
    finally:
        detach()
    assert [len(decision.group.hits) for decision in decisions] == [3, 3, 3]
    with app.test_request_context("/other", environ_base={"REMOTE_ADDR": "127.0.0.1"}):
        app.preprocess_request()
        assert flask.g.headgate.remaining == 6  # the third request took nothing


def test_each_route_has_a_share_of_its_own_unless_the_limit_has_a_name() -> None:
    app, limits = make()
    app.get("/a", endpoint="a")(limits.limit("1/minute")(index))
    app.get("/b", endpoint="b")(limits.limit("1/minute")(index))
    together = limits.limit("1/minute", name="together")
    app.get("/c", endpoint="c")(together(index))
    app.get("/d", endpoint="d")(together(index))
    assert statuses(app, "/a", "/b", "/a", "/b") == [200, 200, 429, 429]
    assert statuses(app, "/c", "/d") == [200, 429]


def test_all_urls_and_values_of_a_view_have_one_share() -> None:
    app, limits = make()

    @app.get("/users/<int:number>")
    @app.get("/people/<int:number>")
    @app.get("/user", defaults={"number": 7})
    @limits.limit("3/minute")
    def user(number: int) -> str:
        return str(number)

    assert statuses(app, "/users/1", "/people/2", "/user", "/users/3") == [200, 200, 200, 429]


def test_handlers_of_the_same_name_in_different_blueprints_have_their_own_shares() -> None:
    app, limits = make()
    for name in ("one", "two"):
        blueprint = flask.Blueprint(name, __name__, url_prefix=f"/{name}")

        @blueprint.get("/")
        @limits.limit("1/minute")
        def handler() -> str:
            return "handled"

        app.register_blueprint(blueprint)
    assert statuses(app, "/one/", "/two/", "/one/", "/two/") == [200, 200, 429, 429]


def test_a_blueprint_that_is_registered_twice_is_two() -> None:
    app, limits = make()
    blueprint = flask.Blueprint("one", __name__)
    blueprint.get("/")(limits.limit("1/minute")(index))
    app.register_blueprint(blueprint, url_prefix="/one")
    app.register_blueprint(blueprint, url_prefix="/two", name="two")
    assert statuses(app, "/one/", "/two/", "/one/") == [200, 200, 429]


def test_one_path_of_two_hosts_is_two_routes() -> None:
    app = flask.Flask("shop", static_folder=None, subdomain_matching=True)
    app.config["SERVER_NAME"] = "shop.example"
    _, limits = make(app=app)
    for name in ("one", "two"):
        app.get("/", endpoint=name, subdomain=name)(limits.limit("1/minute")(index))
    asked = [f"http://{name}.shop.example/" for name in ("one", "two", "one", "two")]
    assert statuses(app, *asked) == [200, 200, 429, 429]


def test_one_path_for_two_methods_is_two_routes() -> None:
    app, limits = make()
    app.get("/items", endpoint="list")(limits.limit("1/minute")(index))
    app.post("/items", endpoint="create")(limits.limit("1/minute")(index))
    assert statuses(app, "GET /items", "POST /items", "HEAD /items", "POST /items") == [200, 200, 429, 429]


def test_blueprints_have_limits_for_their_views_and_those_of_nested_ones() -> None:
    app, limits = make("9/minute")
    parent = limits.limit("3/minute", name="parent")(flask.Blueprint("parent", __name__, url_prefix="/parent"))
    child = flask.Blueprint("child", __name__, url_prefix="/child")
    parent.get("/")(index)
    child.get("/")(index)
    child.get("/own", endpoint="own")(limits.limit("1/minute")(index))
    parent.register_blueprint(child)
    app.register_blueprint(parent)
    app.get("/")(index)
    asked = ["/parent/child/own", "/parent/child/own", "/parent/child/", "/parent/", "/parent/", "/"]
    assert statuses(app, *asked) == [200, 429, 200, 200, 429, 200]


def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that forgets `functools.wraps`."""

    def hidden(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return hidden


def showing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def shown(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return shown


@pytest.mark.parametrize("outer", [showing, hiding])
@pytest.mark.parametrize("inner", [showing, hiding])
def test_other_decorators_may_stand_above_and_below(outer: Any, inner: Any) -> None:
    app, limits = make(Rule("9/minute", name="app"))
    app.get("/", endpoint="index")(outer(limits.limit("2/minute")(inner(index))))
    assert statuses(app, "/", "/", "/") == [200, 200, 429]


@pytest.mark.parametrize("outer", [showing, hiding])
def test_a_view_may_have_several_limits(outer: Any) -> None:
    app, limits = make()
    two = limits.limit("3/minute", name="a")(limits.limit("2/minute", name="b")(index))
    app.get("/", endpoint="index")(outer(two))
    answers = [app.test_client().get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "r=1" in answers[0].headers["RateLimit"]


def test_a_hidden_limit_that_denies_gives_back_what_the_app_has_taken() -> None:
    app, limits = make(Rule("3/minute", name="app"))
    app.get("/", endpoint="index")(hiding(limits.limit("1/minute")(index)))
    app.get("/other", endpoint="other")(index)
    assert statuses(app, "/", "/", "/", "/other", "/other", "/other") == [200, 429, 429, 200, 200, 429]


def test_a_function_that_a_view_calls_may_be_limited() -> None:
    app, limits = make("9/minute")
    send = limits.limit("1/minute", name="mails")(index)

    @app.get("/once")
    def once() -> str:
        return send()

    @app.get("/twice")
    def twice() -> str:
        return send() + send()

    assert statuses(app, "/once", "/twice") == [200, 429]
    assert send() == "index"  # outside of requests there is nobody to be limited


class Whole(View):
    methods = ("GET", "POST")

    def dispatch_request(self) -> str:
        return "whole"


def test_a_class_has_a_limit_by_its_decorators_from_outside_or_as_a_class() -> None:
    app, limits = make("9/minute")

    class Listed(Whole):
        decorators = [limits.limit("1/minute")]  # noqa: RUF012 - as Flask has it

    @limits.limit("1/minute")
    class Decorated(Whole):
        pass

    class Below(Decorated):
        decorators = [showing]  # noqa: RUF012 - as Flask has it

    class Dispatching(View):
        @limits.limit("1/minute")
        def dispatch_request(self) -> str:
            return "dispatched"

    app.add_url_rule("/listed", view_func=Listed.as_view("listed"))
    app.add_url_rule("/outside", view_func=limits.limit("1/minute")(Whole.as_view("outside")))
    app.add_url_rule("/decorated", view_func=Decorated.as_view("decorated"))
    app.add_url_rule("/below", view_func=Below.as_view("below"))
    app.add_url_rule("/dispatching", view_func=Dispatching.as_view("dispatching"))
    app.add_url_rule("/hidden", endpoint="hidden", view_func=hiding(Decorated.as_view("hidden")))
    for path in ("/listed", "/outside", "/decorated", "/below", "/dispatching", "/hidden"):
        first = app.test_client().get(path)
        assert ("default" in first.headers["RateLimit-Policy"]) == (path == "/hidden")
        assert statuses(app, path) == [429], path


@pytest.mark.parametrize("outer", [showing, hiding])
def test_methods_of_a_class_have_limits_and_shares_of_their_own(
    outer: Callable[[Callable[..., str]], Callable[..., str]],
) -> None:
    app, limits = make("4/minute")

    class Parts(MethodView):
        @outer
        @limits.limit("1/minute")
        def get(self) -> str:
            return "got"

        @outer
        @limits.limit("1/minute")
        def post(self) -> str:
            return "made"

        def put(self) -> str:
            return "put"

    app.add_url_rule("/", view_func=Parts.as_view("parts"))
    if outer is showing:
        assert "default" not in app.test_client().head("/").headers["RateLimit-Policy"]
        assert statuses(app, "GET /") == [429]
    else:
        assert statuses(app, "GET /") == [200]
    assert statuses(app, "POST /", "HEAD /", "POST /", "PUT /") == [200, 429, 429, 200]


def test_async_views_are_limited() -> None:
    app, limits = make()

    @app.get("/function")
    @limits.limit("1/minute")
    async def function() -> str:
        return "function"

    class Parts(MethodView):
        @limits.limit("1/minute")
        async def get(self) -> str:
            return "got"

    async def hidden() -> str:
        return "hidden"

    app.add_url_rule("/class", view_func=Parts.as_view("parts"))
    limited = limits.limit("1/minute")(hidden)

    @app.get("/hidden", endpoint="hidden")
    async def hiding_async() -> str:
        return await limited()

    for path in ("/function", "/class", "/hidden"):
        assert statuses(app, path, path) == [200, 429], path


def test_views_classes_methods_and_blueprints_may_be_exempt() -> None:
    app, limits = make("1/minute", Rule("1/minute", name="app"))
    open_ = limits.exempt(flask.Blueprint("open", __name__, url_prefix="/open"))
    open_.get("/")(index)
    open_.get("/own", endpoint="own")(limits.limit("1/minute")(index))
    app.register_blueprint(open_)
    app.get("/view")(limits.exempt(index))

    @limits.exempt
    class Exempt(Whole):
        pass

    class Parts(MethodView):
        @limits.exempt
        def get(self) -> str:
            return "got"

        def post(self) -> str:
            return "made"

    app.add_url_rule("/class", view_func=Exempt.as_view("class"))
    app.add_url_rule("/parts", view_func=Parts.as_view("parts"))
    for path in ("/open/", "/view", "/class", "GET /parts"):
        assert statuses(app, path, path) == [200, 200], path
    assert statuses(app, "POST /parts", "POST /parts", "/open/own") == [200, 429, 429]


def test_static_files_meet_the_rules_of_all_routes() -> None:
    app, _ = make("1/minute", app=flask.Flask(__name__, static_folder=".", static_url_path="/static"))
    assert statuses(app, "/static/test_flask.py", "/static/test_flask.py") == [200, 429]
    app, _ = make(
        "1/minute", app=flask.Flask(__name__, static_folder=".", static_url_path="/static"), exempt=["/static/*"]
    )
    assert statuses(app, "/static/test_flask.py", "/static/test_flask.py") == [200, 200]


def aborting() -> str:
    flask.abort(418)


def failing() -> str:
    raise ZeroDivisionError


def responding() -> flask.Response:
    return flask.Response("mine", 201)


def streaming() -> flask.Response:
    return flask.Response(iter(["a", "b"]))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("/aborting", 418),
        ("/failing", 500),
        ("/responding", 201),
        ("/streaming", 200),
        ("/handled", 409),
        ("/missing", 404),
        ("POST /aborting", 405),
        ("/slash", 308),
        ("OPTIONS /aborting", 200),
    ],
)
def test_each_response_has_the_headers_and_counts(request_: str, expected: int) -> None:
    settled = Settled()
    app, _ = make(Rule("1/minute", charge_when=settled, name="app"))
    app.logger.disabled = True
    for view in (aborting, failing, responding, streaming):
        app.get(f"/{view.__name__}")(view)
    app.get("/slash/")(index)

    @app.get("/handled")
    def handled() -> str:
        raise LookupError

    @app.errorhandler(LookupError)
    def conflict(error: LookupError) -> tuple[str, int]:
        return "conflict", 409

    method, _, path = request_.rpartition(" ")
    first, second = (app.test_client().open(path, method=method or "GET", buffered=True) for _ in range(2))
    assert first.status_code == expected
    assert "r=0" in first.headers["RateLimit"]
    assert second.status_code == 429
    assert settled.statuses == [expected]


def test_an_exception_that_flask_hands_on_is_settled_as_a_500() -> None:
    settled = Settled()
    app, _ = make(Rule("9/minute", charge_when=settled))
    app.get("/")(failing)
    app.testing = True
    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/")
    assert settled.statuses == [500]


def test_a_function_after_the_request_that_fails_loses_no_headers_and_settles_once() -> None:
    settled = Settled()
    app, _ = make(Rule("9/minute", charge_when=settled))
    app.logger.disabled = True
    app.get("/")(index)

    @app.after_request
    def fail(response: flask.Response) -> flask.Response:
        raise ZeroDivisionError

    answer = app.test_client().get("/")
    assert answer.status_code == 500
    assert "RateLimit" in answer.headers
    assert settled.statuses == [500]


def test_a_stream_is_settled_when_it_has_ended_or_the_client_has_gone() -> None:
    for parts in (1, 2):
        settled = Settled()
        app, _ = make(Rule("9/minute", charge_when=settled), Rule("concurrency 1", name="slots"))
        app.get("/")(streaming)
        response = app.test_client().get("/")
        assert statuses(app, "/") == [429]
        for _, part in zip(range(parts), response.response, strict=False):
            assert part
        assert settled.statuses == []
        response.close()
        assert settled.statuses == [200]
        assert statuses(app, "/") == [200]


def test_failed_log_ins_alone_may_count() -> None:
    app, limits = make()

    @app.post("/login")
    @limits.limit("2/minute", charge_when=lambda response: response.status_code == 401)
    def login() -> tuple[str, int]:
        return ("in", 200) if flask.request.form.get("password") == "right" else ("out", 401)

    client = app.test_client()
    tried = ["right"] * 5 + ["wrong"] * 3 + ["right"]
    answers = [client.post("/login", data={"password": password}).status_code for password in tried]
    assert answers == [200] * 5 + [401, 401, 429, 429]


def test_functions_of_rules_are_called_with_the_request_of_flask() -> None:
    seen: list[Any] = []

    def cost(request: flask.Request) -> int:
        seen.append(request)
        return int(request.args["cost"])

    def told(response: WebResponse) -> bool:
        seen.append(response.request)
        return True

    app, limits = make()
    app.get("/")(limits.limit("9/minute", cost=cost, charge_when=told, key=lambda request: request.args["who"])(index))
    assert statuses(app, "/?cost=5&who=a", "/?cost=5&who=a", "/?cost=5&who=b") == [200, 429, 200]
    assert {type(one) for one in seen} == {flask.Request}


def test_a_user_whom_a_function_before_the_request_has_found_is_known() -> None:
    app = flask.Flask("shop", static_folder=None)
    app, _ = make(Rule("1/minute", key=lambda _: flask.g.user), app=app)
    app.get("/")(index)

    @app.before_request
    def load() -> None:
        flask.g.user = flask.request.headers["x-user"]

    answers = [statuses(app, "/", headers={"x-user": user}) for user in ("ann", "bob", "ann")]
    assert answers == [[200], [200], [429]]


def test_what_answers_before_the_view_is_counted_and_closed() -> None:
    app, _ = make("1/minute")
    app.get("/")(index)
    closed: list[str] = []

    @app.before_request
    def answer() -> Any:
        if flask.request.args.get("raises"):
            flask.abort(401)
        response = flask.Response("who are you?", 401)
        response.call_on_close(lambda: closed.append("closed"))
        return response

    assert statuses(app, "/", "/") == [401, 429]
    assert closed == ["closed"] * 2
    on_denied, _ = make("1/minute", on_denied=lambda *_: ("no", 429))
    on_denied.get("/")(index)
    on_denied.before_request(answer)
    assert statuses(on_denied, "/", "/") == [401, 429]
    assert closed == ["closed"] * 4
    app.extensions["headgate"].rules = Rules([Rule("1/minute", name="other")])
    assert statuses(app, "/?raises=1", "/?raises=1") == [401, 429]


def test_a_handler_of_the_status_is_heard_and_the_headers_stay() -> None:
    app, _ = make("1/minute")
    app.get("/")(index)

    @app.errorhandler(429)
    def slow_down(error: RateLimitExceeded) -> tuple[dict[str, float], int]:
        assert error.decision is not None
        return {"again in": error.decision.retry_after}, 429

    app.test_client().get("/")
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.json) == (429, {"again in": 60.0})
    assert answer.headers["Retry-After"] == "60"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "RateLimit" in answer.headers


@pytest.mark.parametrize("kind", [HTTPException, RateLimitExceeded, Exception])
def test_a_handler_of_its_class_is_heard(kind: type[Exception]) -> None:
    app, _ = make("1/minute")
    app.get("/")(index)

    @app.errorhandler(kind)
    def handle(error: Any) -> Any:
        response = error.get_response()
        response.data = f"{error.code}: {error.name}"
        return response

    app.test_client().get("/")
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (429, "429: Too Many Requests")
    assert answer.headers["Retry-After"] == "60"


def test_a_handler_of_a_blueprint_is_heard() -> None:
    app, _ = make("1/minute")
    blueprint = flask.Blueprint("api", __name__)
    blueprint.get("/")(index)
    blueprint.errorhandler(429)(lambda _: ("of the blueprint", 429))
    app.register_blueprint(blueprint)
    app.test_client().get("/")
    assert app.test_client().get("/").text == "of the blueprint"


@pytest.mark.parametrize("outer", [showing, hiding])
def test_a_refusal_may_be_answered_in_ones_own_way(outer: Any) -> None:
    def own(request: flask.Request, decision: Decision | None) -> Any:
        return None if request.args else ({"path": request.path}, 429)

    app, limits = make(on_denied=own)
    app.get("/", endpoint="index")(outer(limits.limit("1/minute")(index)))
    app.errorhandler(429)(lambda _: ("handled", 429))
    client = app.test_client()
    client.get("/")
    answer = client.get("/")
    assert (answer.status_code, answer.json) == (429, {"path": "/"})
    assert {"Retry-After", "RateLimit", "Cache-Control"} <= set(answer.headers.keys())
    assert client.get("/?usual").text == "handled"


def test_what_is_denied_for_other_reasons_has_its_status() -> None:
    app, _ = make(Rule("5/minute", cost=lambda request: int(request.args.get("cost", 1))), deny=["192.0.2.0/24"])
    app.get("/")(index)
    assert statuses(app, "/", environ_base={"REMOTE_ADDR": "192.0.2.1"}) == [403]
    assert statuses(app, "/?cost=6", "/?cost=5") == [413, 200]
    down, _ = make(Rule("5/minute", on_outage="closed"), store="redis://127.0.0.1:1/0")
    down.get("/")(index)
    assert statuses(down, "/") == [503]


def test_the_decision_is_known_in_the_view() -> None:
    app, limits = make("9/minute")
    app.get("/limited")(lambda: {"left": [limits.decision and limits.decision.remaining, flask.g.headgate.remaining]})
    app.get("/exempt", endpoint="exempt")(limits.exempt(lambda: {"left": limits.decision}))
    assert app.test_client().get("/limited").json == {"left": [8, 8]}
    with app.app_context():  # which the requests share
        assert app.test_client().get("/limited").json == {"left": [7, 7]}
        assert app.test_client().get("/exempt").json == {"left": None}


def test_an_app_that_calls_itself_counts_once() -> None:
    app, _ = make("2/minute")
    app.get("/inner")(index)

    @app.get("/outer")
    def outer() -> Any:
        environ = {**flask.request.environ, "PATH_INFO": "/inner"}
        return flask.Response.from_app(app.wsgi_app, environ)

    assert statuses(app, "/outer", "/outer", "/outer") == [200, 200, 429]


def test_several_apps_have_limits_of_their_own_by_the_same_rules() -> None:
    limits = RateLimits("1/minute")
    apps = []
    for _ in range(2):
        app = flask.Flask("shop", static_folder=None)
        app.get("/")(limits.limit("1/minute")(index))
        limits.init_app(app)
        apps.append(app)
    assert [statuses(app, "/", "/") for app in apps] == [[200, 429]] * 2
    assert isinstance(apps[0].extensions["headgate"], FlaskLimits)


def test_a_mounted_app_has_limits_of_its_own_beside_those_around_it() -> None:
    inner, _ = make("1/minute", name="inner")
    outer, _ = make("9/minute", name="outer")
    inner.get("/")(index)
    outer.get("/")(index)
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/inner": inner})  # type: ignore[method-assign]
    assert statuses(outer, "/inner/", "/inner/", "/") == [200, 429, 200]
    around = RateLimitMiddleware(inner, "9/minute", store=MemoryStore(clock=ManualClock()))
    inner.extensions["headgate"].rules = Rules([Rule("5/minute", name="inside")])
    answer: TestResponse = Client(around).get("/")
    assert "inside" in answer.headers["RateLimit"]


def test_an_app_that_is_dropped_is_gone() -> None:
    app, limits = make("1/minute")
    app.get("/")(limits.limit("1/minute")(index))
    statuses(app, "/")
    dropped = weakref.ref(app)
    del app
    gc.collect()
    assert dropped() is None


def test_the_config_of_an_app_goes_before_what_code_says() -> None:
    app = flask.Flask("shop", static_folder=None)
    app.config.from_mapping(
        HEADGATE_STORE=MemoryStore(clock=ManualClock()),
        HEADGATE_LIMITS="1/minute",
        HEADGATE_EXEMPT=["/health"],
        HEADGATE_HEADERS=None,
        HEADGATE_NAME="of-config",
    )
    limits = RateLimits("7/minute", Rule("9/minute", name="stays"), store="redis://127.0.0.1:1/0", name="of-code")
    limits.init_app(app)
    for path in ("/", "/health"):
        app.get(path, endpoint=path.strip("/") or "index")(index)
    assert statuses(app, "/", "/", "/health", "/health") == [200, 429, 200, 200]
    of_app = app.extensions["headgate"]
    assert (of_app.limiter.name, of_app.headers) == ("of-config", ())
    assert [rule.title for rule in of_app.rules.all] == ["default", "stays"]


def test_the_config_may_name_a_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[[rules]]\nlimit = "1/minute"\nname = "login"\npaths = ["/login"]\n', "utf-8")
    app = flask.Flask("shop", static_folder=None)
    app.config.from_mapping(HEADGATE_CONFIG=str(file), HEADGATE_WATCH=False)
    RateLimits("2/minute", app=app)
    app.get("/login")(index)
    app.get("/", endpoint="other")(index)
    assert statuses(app, "/login", "/login", "/", "/") == [200, 429, 200, 429]


def test_the_refusal_of_a_head_request_says_the_length_that_a_get_has() -> None:
    app, _ = make("1/minute")
    app.get("/")(index)
    client = app.test_client()
    client.head("/")
    refused = client.head("/")
    assert (refused.status_code, refused.data) == (429, b"")
    assert refused.headers["Content-Length"] == client.get("/").headers["Content-Length"]


def test_limits_can_be_switched_off_by_the_config() -> None:
    app = flask.Flask("shop", static_folder=None)
    app.config["HEADGATE_ENABLED"] = False
    app, limits = make("1/minute", app=app)
    app.get("/")(hiding(limits.limit("1/minute")(lambda: {"left": flask.g.headgate})))
    assert statuses(app, "/", "/") == [200, 200]
    assert "RateLimit" not in app.test_client().get("/").headers


def test_limits_can_be_switched_off_in_a_test() -> None:
    app, limits = make("1/minute")
    app.get("/")(limits.limit("1/minute")(index))
    with limits_off():
        assert statuses(app, "/", "/", "/") == [200, 200, 200]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("HEADGATE_STOR", "memory://", "did you mean HEADGATE_STORE?"),
        ("HEADGATE_ZZZZZZZZZ", 1, "there are HEADGATE_ALLOW"),
        ("HEADGATE_ENABLED", "false", "True or False, not 'false'"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(setting: str, value: Any, message: str) -> None:
    app = flask.Flask("shop")
    app.config[setting] = value
    with pytest.raises(InvalidUse, match=message.replace("?", r"\?")):
        RateLimits("1/minute", app=app)
    del app.config[setting]
    RateLimits("1/minute", app=app)  # nothing was left behind


def test_each_mistake_is_refused_where_it_is_made() -> None:
    async def never(*_: Any) -> Any: ...

    with pytest.raises(LimitError):
        RateLimits("1/minut")
    with pytest.raises(InvalidUse, match="did you mean store"):
        RateLimits("1/minute", stor="memory://")  # type: ignore[call-arg]
    with pytest.raises(InvalidUse, match="have to be awaited"):
        RateLimits(AsyncLimiter("1/minute"))  # type: ignore[arg-type]
    with pytest.raises(InvalidUse, match="async"):
        RateLimits(Rule("1/minute", cost=never))
    with pytest.raises(InvalidUse, match="async"):
        RateLimits("1/minute", on_denied=never)
    limits = RateLimits()
    with pytest.raises(InvalidUse, match="have to be awaited"):
        limits.limit(AsyncLimiter("1/minute"))  # type: ignore[arg-type]
    with pytest.raises(InvalidUse, match="async"):
        limits.limit("1/minute", key=never)
    with pytest.raises(InvalidUse, match="is no View"):
        limits.limit("1/minute")(int)
    with pytest.raises(InvalidUse, match="decorates a view or a blueprint"):
        limits.limit("1/minute")(5)
    app = flask.Flask("shop")
    limits.init_app(app)
    with pytest.raises(InvalidUse, match="has rate limits"):
        RateLimits(app=app)


def test_a_view_that_is_called_in_a_context_of_a_test_is_asked_about_once() -> None:
    app, limits = make(Rule("3/minute", name="app"))
    view = limits.limit("2/minute")(index)
    app.get("/")(view)
    for _ in range(2):
        with app.test_request_context("/"):
            assert view() == "index"
    with app.test_request_context("/"), pytest.raises(RateLimitExceeded):
        view()


def test_a_view_may_be_replaced_by_a_limited_one() -> None:
    app, limits = make("9/minute")
    app.get("/")(index)
    assert statuses(app, "/") == [200]
    app.view_functions["index"] = limits.limit("1/minute")(index)
    assert "default" not in app.test_client().get("/").headers["RateLimit-Policy"]
    assert statuses(app, "/") == [429]


def test_limits_of_other_apps_are_not_asked_and_not_passed_over() -> None:
    app, limits = make("9/minute")
    _, others = make(app=flask.Flask("other"))
    shown = limits.limit("2/minute", name="ours")(index)
    others.exempt(shown)
    app.get("/", endpoint="ours")(shown)
    app.get("/others", endpoint="others")(others.limit("1/minute")(index))
    assert statuses(app, "/", "/", "/") == [200, 200, 429]
    assert [rule.title for route in audit(app).routes for rule in route.rules] == ["ours", "default"]
    app.testing = True
    with pytest.raises(InvalidUse, match="are not installed in this app"):
        app.test_client().get("/others")


def test_a_limited_view_of_an_app_without_the_limits_fails_loudly() -> None:
    app = flask.Flask("shop")
    app.get("/")(RateLimits().limit("1/minute")(index))
    app.testing = True
    with pytest.raises(InvalidUse, match=r"index are not installed in this app: limits.init_app\(app\)"):
        app.test_client().get("/")


def test_a_context_of_a_test_is_asked_about_and_ended() -> None:
    app, limits = make(Rule("concurrency 1", name="slots"))
    app.get("/")(limits.limit("9/minute")(index))
    for _ in range(2):
        with app.test_request_context("/"):
            assert app.preprocess_request() is None
            with pytest.raises(RateLimitExceeded), app.test_request_context("/"):
                app.preprocess_request()


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """As Flask-Login is seen from here."""

    class User:
        def __init__(self, name: str | None) -> None:
            self.is_authenticated = name is not None
            self._name = name

        def get_id(self) -> str | None:
            return self._name

    class Module(types.ModuleType):
        @property
        def current_user(self) -> User:
            return User(flask.request.headers.get("x-user"))

    module = Module("flask_login")
    monkeypatch.setitem(sys.modules, "flask_login", module)
    return module


def test_users_of_flask_login_have_shares(login: types.ModuleType) -> None:
    app, _ = make("1/minute", identity=("user", "ip"))
    app.get("/")(index)
    asked: list[dict[str, str]] = [{"x-user": "ann"}, {"x-user": "bob"}, {}, {"x-user": "ann"}]
    assert [statuses(app, "/", headers=headers) for headers in asked] == [[200], [429], [429], [429]]
    app, _ = make("1/minute", identity=("user", "ip"))
    app.login_manager = object()  # type: ignore[attr-defined]
    app.get("/")(index)
    assert [statuses(app, "/", headers=headers) for headers in asked] == [[200], [200], [200], [429]]


def test_behind_a_proxy_callers_are_who_the_proxy_says() -> None:
    app, _ = make("1/minute")
    app.get("/")(index)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1)  # type: ignore[method-assign]
    forwarded = ["198.51.100.1", "198.51.100.2", "6.6.6.6, 198.51.100.1"]
    answers = [statuses(app, "/", headers={"X-Forwarded-For": address}) for address in forwarded]
    assert answers == [[200], [200], [429]]


def test_the_routes_are_listed_with_what_they_meet() -> None:
    app, limits = make(Rule("5/minute", name="api", paths=["/api/*"]), exempt=["/health"])
    api = limits.limit("3/minute", name="blue")(flask.Blueprint("api", __name__, url_prefix="/api"))

    class Parts(MethodView):
        @limits.limit("1/minute")
        def get(self) -> str:
            return "got"

        def post(self) -> str:
            return "made"

    api.add_url_rule("/parts/<int:number>", view_func=Parts.as_view("parts"))
    app.register_blueprint(api)
    app.get("/health", endpoint="health")(index)
    app.get("/free", endpoint="free")(index)
    found = audit(app)
    assert [(route.path, route.methods, len(route.rules), route.is_exempt) for route in found.routes] == [
        ("/api/parts/<int:number>", ("GET",), 3, False),
        ("/api/parts/<int:number>", ("POST",), 2, False),
        ("/health", ("GET",), 0, True),
        ("/free", ("GET",), 0, False),
    ]
    result = app.test_cli_runner().invoke(args=["limits"])
    assert result.exit_code == 0
    assert result.output == f"{found}\n"
    assert "api.parts" in result.output
    assert "NONE" in result.output
    assert app.test_cli_runner().invoke(args=["limits", "--strict"]).exit_code == 1
    with pytest.raises(InvalidUse, match="GET /free"):
        audit(app, strict=True)


def test_an_audit_tells_what_each_method_meets() -> None:
    app, limits = make("9/minute")
    app.route("/form", methods=["GET", "POST"])(limits.limit("1/minute", methods=["POST"])(index))
    found = {route.methods: [rule.title for rule in route.rules] for route in audit(app).routes}
    assert found == {("GET",): ["default"], ("POST",): ["1/minute"]}


def test_routes_without_a_limit_are_logged_at_the_first_request(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = make()
    app.get("/")(index)
    with caplog.at_level(logging.INFO, "headgate.web"):
        statuses(app, "/", "/")
    assert [record.getMessage() for record in caplog.records] == ["headgate: 1 route, 1 without a limit: GET /"]


def test_a_limiter_of_ones_own_may_be_shared() -> None:
    limiter = Limiter("2/minute", store=MemoryStore(clock=ManualClock()))
    app, limits = make()
    app.get("/")(limits.limit(limiter)(index))
    assert statuses(app, "/", "/", "/") == [200, 200, 429]


@pytest.mark.parametrize("path", ["/login", "//login", "/login?x=1", "/%6cogin", "/./login"])
def test_there_is_no_other_way_to_write_a_path(path: str) -> None:
    app, limits = make(Rule("1/minute", paths=["/login"], name="path"))
    app.get("/login")(limits.limit("1/minute")(index))
    client: FlaskClient = app.test_client()
    assert client.get("/login").status_code == 200
    assert client.get(path, follow_redirects=True).status_code in (429, 404)


@PAIRS
@pytest.mark.parametrize("option", [*OPTIONS, {"wait": "1ms"}])
@pytest.mark.parametrize("place", ["view", "blueprint", "hidden"])
def test_limits_of_a_route_share_nothing_whatever_else_they_say(
    limits_of_route: tuple[str, str], option: dict[str, Any], place: str
) -> None:
    app, limits = make()
    outer, inner = limits_of_route
    blueprint, limited = flask.Blueprint("b", __name__), limits.limit(inner)(index)
    if place == "blueprint":
        limits.limit_blueprint(blueprint, outer, **option)
    else:
        between = limited if place == "view" else hiding(limited)
        limited = limits.limit(outer, **option)(between)
    blueprint.add_url_rule("/x", "x", limited)
    app.register_blueprint(blueprint)
    admitted = passes(limits_of_route, option)
    assert statuses(app, *["/x"] * (admitted + 1)) == [200] * admitted + [429]


def test_rules_of_one_name_are_one_rule_on_the_app_its_blueprints_and_its_views() -> None:
    app, limits = make(Rule("4/hour", name="one"))
    one = limits.limit("4/hour", name="one")
    blueprint = limits.limit_blueprint(flask.Blueprint("b", __name__), "4/hour", name="one")
    blueprint.add_url_rule("/x", "x", one(hiding(one(index))))
    blueprint.add_url_rule("/costly", "costly", limits.limit("4/hour", name="one", cost=2)(index))
    app.register_blueprint(blueprint)
    assert statuses(app, "/x", "/costly", "/costly", "/x", "/x") == [200, 200, 429, 200, 429]
