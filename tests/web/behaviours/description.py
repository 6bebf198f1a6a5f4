"""The routes of the app that every framework builds, and what they meet; framework aside.

Each caller is who the header `X-Caller` says, so that a test has shares of its own by a new name. A caller without one
goes by the address.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from headgate.identity import Identity, Proxies
from headgate.rules import Rule
from headgate.web.headers import HeaderStyle
from headgate.web.messages import WebResponse

STORE = "HEADGATE_BEHAVIOURS_STORE"
"""The variable of the environment that says where the state lives."""
HEADERS = "HEADGATE_BEHAVIOURS_HEADERS"
"""The one that says the styles of headers, with commas between them."""

ReadHeader = Callable[[Any, str], str | None]
"""The header of a name, of the request of a framework."""
Answers = Literal["value", "response", "stream", "error", "status", "echo"]


class Asked(NamedTuple):
    """What a route looks at."""

    method: str
    header: Callable[[str], str | None]


class Reply(NamedTuple):
    """A response, framework aside."""

    status: int
    headers: dict[str, str]
    chunks: Sequence[bytes]
    """The body: one part, or as it streams."""


class Route(NamedTuple):
    """A route: where it is, what it meets, and what it does."""

    path: str
    rules: tuple[Rule, ...] = ()
    answers: Answers = "response"
    """What it returns: a plain `value`; a `response` of its own; a `stream`; nothing, as it raises an `error`; the
    `status` for which the header `X-Status` asks; or its headers as an `echo`."""
    methods: tuple[str, ...] = ("GET", "HEAD")
    takes_s: float = 0.0
    """How long it is at work, so that requests meet in it."""
    is_exempt: bool = False
    under: Literal["app", "router", "mount"] = "app"
    """Is it a route of the app, of routers within each other below `/outer/inner`, or of an app that is mounted at
    `/mount`?"""

    @property
    def url(self) -> str:
        """Its path, prefixes included."""
        return {"app": "", "router": "/outer/inner", "mount": "/mount"}[self.under] + self.path

    @property
    def slug(self) -> str:
        """A name for its rule, where one is needed."""
        return re.sub(r"\W+", "-", self.url).strip("-")

    def named_rules(self) -> dict[str, Rule]:
        """Its rules, each with a name, where a framework has no rules of routes: of those of one name, the last."""
        return {
            rule.name or (f"{self.slug}-{number}" if number else self.slug): rule
            for number, rule in enumerate(self.rules)
        }

    def reply(self, asked: Asked) -> Reply:
        """Answer a request.

        :raises RuntimeError: if that is what it does.
        """
        if self.answers == "error":
            raise RuntimeError("this route fails")
        status, headers = 200, {"X-Route": self.url}
        if self.answers == "status":
            status = int(asked.header("x-status") or 200)
            headers["X-Tokens-Used"] = asked.header("x-tokens") or "0"
        if self.answers == "echo":
            headers["RateLimit-Policy"] = '"mine";q=1'
        chunks = [b"chunk-%d;" % number for number in range(5)] if self.answers == "stream" else [self.url.encode()]
        return Reply(status, headers, chunks)


def is_failure(response: WebResponse) -> bool:
    """Was a log-in refused?"""
    return response.status_code == 401


def is_error(response: WebResponse) -> bool:
    """Did the app fail?"""
    return response.status_code >= 500


def tokens_used(response: WebResponse) -> int:
    """The tokens that a request took after all."""
    return int({name.lower(): value for name, value in response.headers.items()}["x-tokens-used"])


def caller_of(header: ReadHeader) -> Callable[[Any], str | None]:
    """The function that names a caller."""

    def caller(request: Any) -> str | None:
        name = header(request, "x-caller")
        return f"caller:{name}" if name else None

    return caller


def routes(header: ReadHeader) -> list[Route]:
    """The routes of the app.

    :param header: reads a header of the framework's request.
    """

    def cost(request: Any) -> int:
        return int(header(request, "x-cost") or 1)

    def plan(request: Any) -> str | None:
        return header(request, "x-plan")

    def is_internal(request: Any) -> bool:
        return header(request, "x-internal") == "yes"

    address = Identity("ip", proxies=Proxies(count=1))
    shared = Rule("3/hour", name="shared")
    return [
        Route("/plain", (Rule("5/hour", name="plain"),)),
        Route("/value", (Rule("5/hour", name="value"),), "value"),
        Route("/stream", (Rule("3/hour", name="stream"),), "stream"),
        Route("/error", (Rule("3/hour", name="error"),), "error"),
        Route("/own-header", (Rule("5/hour", name="own-header"),), "echo"),
        Route("/two", (Rule("10/hour", name="wide"), Rule("3/hour", name="narrow"))),
        Route("/wide", (Rule("10/hour", name="wide"),)),
        Route("/parts", (Rule({"requests": "5/hour", "tokens": "10/hour"}, name="llm", cost={"tokens": cost}),)),
        Route("/cost", (Rule("10/hour", name="cost", cost=cost),)),
        Route("/tiers", (Rule("2/hour", name="tiers", tiers={"free": "1/hour", "pro": "6/hour"}, tier=plan),)),
        Route("/shadow", (Rule("2/hour", name="shadow", is_shadow=True),)),
        Route("/exempt-when", (Rule("2/hour", name="exempt-when", exempt_when=is_internal),)),
        Route("/exempt", is_exempt=True),
        Route("/health"),
        Route("/shared-one", (shared,)),
        Route("/shared-two", (shared,)),
        Route(
            "/unnamed",
            (
                Rule("9/hour"),
                Rule("2/hour", is_shadow=True),
                Rule("4/hour"),
                Rule("8/hour", on_outage="closed"),
                Rule("7/hour", wait="1ms"),
            ),
        ),
        Route(
            "/alike",
            (Rule("6/hour", name="alike"), Rule("6/hour", name="alike", cost=2), Rule("6/hour", name="alike", cost=2)),
        ),
        Route("/default-one"),
        Route("/default-two"),
        Route("/post", (Rule("3/hour", name="post"),), methods=("POST",)),
        Route(
            "/default-unless-post",
            (Rule("2/hour", name="only-post", methods=["POST"]),),
            methods=("GET", "HEAD", "POST"),
        ),
        Route("/per-method", (Rule("2/hour", name="per-method", is_per_method=True),), methods=("GET", "HEAD", "POST")),
        Route("/options", (Rule("3/hour", name="options"),), methods=("GET", "HEAD", "OPTIONS")),
        Route(
            "/login", (Rule("5/hour", name="login", charge_when=is_failure),), "status", methods=("POST",), takes_s=0.02
        ),
        Route("/actual", (Rule("10/hour", name="actual", cost=5, actual_cost=tokens_used),), "status"),
        Route("/charged-error", (Rule("2/hour", name="charged-error", charge_when=is_error),), "error"),
        Route("/settled-stream", (Rule("2/hour", name="settled-stream", charge_when=is_error),), "stream"),
        Route("/slot-error", (Rule("concurrency 1", name="slot-error"),), "error"),
        Route("/slot-stream", (Rule("concurrency 1", name="slot-stream"),), "stream"),
        Route("/penalty", (Rule("2/hour", name="penalty", penalty="3 denials/hour -> 2h"),)),
        Route("/wait", (Rule("10/second; burst=1", name="wait", wait="20s"),)),
        Route("/slots", (Rule("concurrency 2", name="slots"),), takes_s=0.1),
        Route("/open", (Rule("3/hour", name="open"),)),
        Route("/closed", (Rule("3/hour", name="closed", on_outage="closed"),)),
        Route("/parallel", (Rule("20/hour", name="parallel"),)),
        Route("/own-denial", (Rule("1/hour", name="own-denial"),)),
        Route("/address", (Rule("3/hour", name="address", key=address),)),
        Route("/leaf", (Rule("3/hour"),)),
        Route("/leaf", (Rule("3/hour"),), under="router"),
        Route("/leaf", (Rule("3/hour"),), under="mount"),
        Route("/items/{number}", (Rule("3/hour"),), under="router"),
        Route("/items/{number}", (Rule("3/hour"),), under="mount"),
        Route("/api/by-path"),
        Route("/api/by-path/{number}"),
        Route("/api/by-get"),
        Route("/api/by-method", methods=("GET", "HEAD", "POST", "DELETE")),
    ]


APP_RULES = [
    Rule("5/hour", name="by-path", paths=["/api/by-path", "/api/by-path/{number}"]),
    Rule("3/hour", name="by-get", paths=["/api/by-get"], methods=["GET"]),
    Rule("3/hour", name="by-method", paths=["/api/by-method"], methods=["DELETE"]),
]
"""Rules of the app, by path and method."""
DEFAULT = "6/hour"
"""The limit of routes that have none of their own."""


DEFAULT_BY_PATH = Rule(DEFAULT, name="default", paths=["/default-*", "/nowhere", "/api/*"])
"""The same, where the limits do not know which routes have their own."""


def options(header: ReadHeader) -> dict[str, Any]:
    """The options of the app's limits."""
    url = os.environ.get(STORE, "memory://")
    styles: list[HeaderStyle] = os.environ.get(HEADERS, "draft-11,legacy").split(",")  # type: ignore[assignment]
    return {
        "store": url,
        "identity": Identity(caller_of(header), "ip", proxies=Proxies(count=1)),
        "exempt": ["/health"],
        "deny": ["10.66.0.0/16"],
        "allow": ["10.77.0.0/16"],
        "headers": styles,
        "name": "behaviours",
        **({} if url == "memory://" else {"timeout": 20.0}),  # a machine may be busy; a refused connection is none
    }


def rules_by_path(routes: Sequence[Route]) -> list[Rule]:
    """The rules of all routes as rules of the app, for frameworks without routes: a rule of several routes once."""
    paths: dict[str, list[str]] = {}
    rules: dict[str, Rule] = {}
    for route in routes:
        for name, rule in route.named_rules().items():
            rules[name] = rule
            paths.setdefault(name, []).append(route.url)
    return [dataclasses.replace(rule, name=name, paths=paths[name]) for name, rule in rules.items()]


class Table:
    """Routes by their paths, for apps of no framework: slashes more or less are no matter."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route.url))), route) for route in routes]

    def find(self, path: str) -> Route | None:
        path = re.sub("//+", "/", path).rstrip("/")
        for pattern, route in self._routes:
            if pattern.fullmatch(path):
                return route
        return None
