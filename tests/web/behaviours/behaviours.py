"""What each framework does with a limit: the plain behaviours."""

from __future__ import annotations

from tests.web.behaviours.serving import Server, policies
from tests.web.behaviours.suite import behaviour

SERVER_ANSWERS = "the server makes that response, out of sight"


@behaviour("Limits", "a request within the limit goes through, and is told what is left")
def _(server: Server) -> None:
    caller = server.caller()
    answers = [caller.ask("/plain") for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 5
    assert all(b"/plain" in answer.body for answer in answers)
    assert [answer.left for answer in answers] == [4, 3, 2, 1, 0]
    assert [policies(answer.headers["ratelimit"])["plain"]["r"] for answer in answers] == [4, 3, 2, 1, 0]


@behaviour("Limits", "one above it is denied: 429, `Retry-After`, `no-store`, and a body that says why")
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.statuses("/plain", 5) == [200] * 5
    answer = caller.ask("/plain")
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 720
    assert int(answer.headers["retry-after"]) >= policies(answer.headers["ratelimit"])["plain"]["t"]
    assert "no-store" in answer.headers["cache-control"]
    assert answer.left == 0
    if server.framework == "DRF":  # which renders errors in its own way
        assert answer.json["detail"].startswith("Request was throttled.")
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["violated-policies"] == ["plain"]


@behaviour("Limits", "each caller has a share of their own")
def _(server: Server) -> None:
    ada, bob = server.caller(), server.caller()
    assert ada.statuses("/plain", 6) == [200] * 5 + [429]
    assert bob.statuses("/plain", 6) == [200] * 5 + [429]


@behaviour("Limits", "several limits are all or nothing, and the one that binds is told")
def _(server: Server) -> None:
    caller = server.caller()
    answers = [caller.ask("/two") for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 2
    assert [answer.left for answer in answers] == [2, 1, 0, 0, 0]
    told = policies(answers[2].headers["ratelimit"])
    assert (told["wide"]["r"], told["narrow"]["r"]) == (7, 0)
    assert caller.ask("/wide").left == 6  # the two that were denied took nothing


@behaviour("Limits", "a cost is what the request says, and one that can never fit is answered with 413")
def _(server: Server) -> None:
    caller = server.caller()
    assert [caller.ask("/cost", X_Cost="4").left for _ in range(2)] == [6, 2]
    assert caller.ask("/cost", X_Cost="4").status == 429
    assert caller.ask("/cost", X_Cost="2").status == 200
    never = caller.ask("/cost", X_Cost="11")
    assert never.status == 413
    assert "retry-after" not in never.headers


@behaviour("Limits", "requests and tokens are one rule")
def _(server: Server) -> None:
    caller = server.caller()
    answers = [caller.ask("/parts", X_Cost="4") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    told = policies(answers[1].headers["ratelimit"])
    assert (told["llm:requests"]["r"], told["llm:tokens"]["r"]) == (3, 2)


@behaviour("Limits", "tiers have their own numbers")
def _(server: Server) -> None:
    assert server.caller().statuses("/tiers", 3) == [200, 200, 429]
    assert server.caller().statuses("/tiers", 2, X_Plan="free") == [200, 429]
    assert server.caller().statuses("/tiers", 7, X_Plan="pro") == [200] * 6 + [429]


@behaviour("Limits", "rules of one name are shared by routes")
def _(server: Server) -> None:
    caller = server.caller()
    assert [*caller.statuses("/shared-one", 2), *caller.statuses("/shared-two", 2)] == [200, 200, 200, 429]


@behaviour("Limits", "limits of a route that have no name share nothing, however they are asked")
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.statuses("/unnamed", 6) == [200] * 4 + [429] * 2


@behaviour("Limits", "rules of one name are one rule, which charges a request once: the highest of their costs")
def _(server: Server) -> None:
    caller = server.caller()
    assert [caller.ask("/alike").left for _ in range(3)] == [4, 2, 0]
    assert caller.ask("/alike").status == 429


@behaviour("Limits", "the default holds for all routes without a limit of their own, together")
def _(server: Server) -> None:
    caller = server.caller()
    assert [*caller.statuses("/default-one", 3), *caller.statuses("/default-two", 4)] == [200] * 6 + [429]
    assert caller.ask("/plain").status == 200


@behaviour("Limits", "a path that there is not counts, too")
def _(server: Server) -> None:
    assert server.caller().statuses("/nowhere", 7) == [404] * 6 + [429]


@behaviour("Limits", "rules by path and by method hold for all that they say, and for no more")
def _(server: Server) -> None:
    caller = server.caller()
    asked = [caller.ask(path).status for path in ("/api/by-path", "/api/by-path/1", "/api/by-path/2")]
    assert [*asked, *caller.statuses("/api/by-path/3", 3)] == [200] * 5 + [429]
    other = server.caller()
    assert other.statuses("/api/by-method", 4, "DELETE") == [200] * 3 + [429]
    assert other.ask("/api/by-method", "POST").status == 200


@behaviour("Limits", "a limit of a route is for the methods that it names, and the default for all others")
def _(server: Server) -> None:
    assert server.caller().statuses("/default-unless-post", 4, "POST") == [200] * 2 + [429] * 2
    caller = server.caller()
    assert caller.statuses("/default-unless-post", 7) == [200] * 6 + [429]
    assert caller.ask("/default-unless-post", "HEAD").status == 429


@behaviour("Limits", "each method may have a share of its own, of which HEAD has that of GET")
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.statuses("/per-method", 3, "POST") == [200] * 2 + [429]
    assert caller.statuses("/per-method", 1) == [200]
    assert caller.statuses("/per-method", 2, "HEAD") == [200, 429]
    assert caller.ask("/per-method").status == 429


@behaviour("Limits", "a shadow decides, and never denies")
def _(server: Server) -> None:
    assert server.caller().statuses("/shadow", 5) == [200] * 5


@behaviour("Limits", "exempt routes, paths and requests meet no limit, and say nothing of one")
def _(server: Server) -> None:
    caller = server.caller()
    for path in ("/exempt", "/health"):
        answers = [caller.ask(path) for _ in range(8)]
        assert [answer.status for answer in answers] == [200] * 8
        assert not any("ratelimit" in answer.headers for answer in answers)
    assert caller.statuses("/exempt-when", 4, X_Internal="yes") == [200] * 4
    assert caller.statuses("/exempt-when", 3) == [200, 200, 429]


@behaviour(
    "Limits", "all limits are switched off by the environment: nothing denies, and no header is sent", place="off"
)
def _(server: Server) -> None:
    caller = server.caller()
    asked = [("/plain", {}), ("/two", {}), ("/cost", {"X_Cost": "11"}), ("/penalty", {}), ("/parallel", {})]
    for path, headers in asked:
        answers = [caller.ask(path, **headers) for _ in range(24)]
        assert {answer.status for answer in answers} == {200}
        assert not [name for answer in answers for name in answer.headers if "ratelimit" in name]
    assert caller.statuses("/login", 8, "POST", X_Status="401") == [401] * 8


@behaviour("Limits", "networks are refused with 403, or let through")
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.ask("/plain", X_Forwarded_For="10.66.1.2").status == 403
    assert caller.ask("/exempt", X_Forwarded_For="10.66.1.2").status == 403
    assert caller.statuses("/plain", 8, X_Forwarded_For="10.77.1.2") == [200] * 8
    assert caller.statuses("/plain", 6, X_Forwarded_For="10.88.1.2") == [200] * 5 + [429]


@behaviour("Limits", "a request is held back until its turn, rather than denied")
def _(server: Server) -> None:
    assert [answer.status for answer in server.at_once(4, "/wait")] == [200] * 4


@behaviour("Limits", "slots hold for as long as requests take, and no longer")
def _(server: Server) -> None:
    answers = server.at_once(8, "/slots")
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2
    assert server.caller().statuses("/slots", 4) == [200] * 4


@behaviour("Headers", "draft 11 and the `X-RateLimit` fields beside each other")
def _(server: Server) -> None:
    answer = server.caller().ask("/plain")
    assert answer.headers["ratelimit-policy"] == '"plain";q=5;w=3600'
    assert answer.headers["ratelimit"] == '"plain";r=4;t=720'
    old = [answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")]
    assert old == ["5", "4", "720"]


@behaviour("Headers", "draft 7", place="draft-7")
def _(server: Server) -> None:
    caller = server.caller()
    answer = caller.ask("/plain")
    assert answer.headers["ratelimit"] == "limit=5, remaining=4, reset=720"
    assert answer.headers["ratelimit-policy"] == "5;w=3600"
    assert caller.statuses("/plain", 5) == [200] * 4 + [429]
    assert caller.ask("/plain").headers["ratelimit"].startswith("limit=5, remaining=0, reset=")


@behaviour("Headers", "draft 6", place="shared")
def _(server: Server) -> None:
    answer = server.caller().ask("/plain")
    told = [answer.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset", "policy")]
    assert told == ["5", "4", "720", "5;w=3600"]


@behaviour("Headers", "plain values and responses of one's own have them alike, and a denial as well")
def _(server: Server) -> None:
    for path in ("/value", "/plain"):
        caller = server.caller()
        answers = [caller.ask(path) for _ in range(6)]
        assert [answer.status for answer in answers] == [200] * 5 + [429]
        assert [answer.left for answer in answers] == [4, 3, 2, 1, 0, 0]


@behaviour("Headers", "what a route says itself stays as it is")
def _(server: Server) -> None:
    answer = server.caller().ask("/own-header")
    assert answer.headers["ratelimit-policy"] == '"mine";q=1'
    assert policies(answer.headers["ratelimit"])["own-header"]["r"] == 4


@behaviour("Requests", "HEAD counts as GET does, and has its headers and no body")
def _(server: Server) -> None:
    caller = server.caller()
    answers = [caller.ask("/plain", "HEAD") for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert [answer.left for answer in answers] == [4, 3, 2, 1, 0, 0]
    assert all(answer.body == b"" for answer in answers)
    assert caller.ask("/plain").status == 429


@behaviour("Requests", "OPTIONS of a route counts, and a preflight of CORS does not")
def _(server: Server) -> None:
    caller = server.caller()
    for _ in range(8):
        preflight = caller.ask(
            "/options", "OPTIONS", Origin="https://shop.example", Access_Control_Request_Method="GET"
        )
        assert preflight.status != 429
        assert "ratelimit" not in preflight.headers
    assert [caller.ask("/options", "OPTIONS").status for _ in range(2)] == [200, 200]
    assert caller.statuses("/options", 2) == [200, 429]
    assert caller.ask("/options", "OPTIONS").status == 429


@behaviour("Requests", "a body that is sent is no trouble to a denial, nor to the next request on the connection")
def _(server: Server) -> None:
    caller = server.caller()
    answers = [caller.ask("/post", "POST", Content_Length="0") for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert caller.ask("/post", "POST", Content_Length="0").status == 429
    assert caller.ask("/plain").status == 200


@behaviour("Responses", "a stream comes whole, with headers, and is denied like all others")
def _(server: Server) -> None:
    caller = server.caller()
    answers = [caller.ask("/stream") for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 3 + [429]
    assert all(answer.body == b"chunk-0;chunk-1;chunk-2;chunk-3;chunk-4;" for answer in answers[:3])
    assert [answer.left for answer in answers] == [2, 1, 0, 0]


@behaviour("Responses", "a route that raises has counted")
def _(server: Server) -> None:
    assert server.caller().statuses("/error", 4) == [500] * 3 + [429]


@behaviour(
    "Responses",
    "the 500 of a route that raises has the headers",
    lacks={"ASGI": SERVER_ANSWERS, "WSGI": SERVER_ANSWERS},
)
def _(server: Server) -> None:
    caller = server.caller()
    assert [caller.ask("/error").left for _ in range(3)] == [2, 1, 0]


@behaviour(
    "Responses",
    "a denial is answered in the app's own way, if it has one",
    lacks={"DRF": "its `EXCEPTION_HANDLER` answers in place of `on_denied`"},
)
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.statuses("/own-denial", 2) == [200, 429]
    answer = caller.ask("/own-denial", X_Own="yes")
    assert (answer.status, answer.body) == (402, b"own")
    assert "ratelimit" in answer.headers
