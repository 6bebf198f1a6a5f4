"""Behaviours that depend on how a request ends, on others at the same time, and on the store."""

from __future__ import annotations

from collections import Counter

from tests.servers import eventually
from tests.web.behaviours.serving import Server, policies
from tests.web.behaviours.suite import behaviour


@behaviour("Outcomes", "only failed log-ins count: right ones are given back")
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.statuses("/login", 8, "POST") == [200] * 8
    assert caller.statuses("/login", 6, "POST", X_Status="401") == [401] * 5 + [429]
    assert caller.ask("/login", "POST").status == 429


@behaviour("Outcomes", "of 64 wrong passwords at the same time, 5 are looked at")
def _(server: Server) -> None:
    answers = server.at_once(64, "/login", "POST", X_Status="401")
    assert Counter(answer.status for answer in answers) == {401: 5, 429: 59}


@behaviour("Outcomes", "a cost that is known afterwards is settled")
def _(server: Server) -> None:
    caller = server.caller()
    assert [caller.ask("/actual", X_Tokens="1").left for _ in range(3)] == [5, 4, 3]  # 5 each are reserved
    assert caller.ask("/actual", X_Tokens="8").status == 200  # all was there by then, and all is gone
    assert caller.ask("/actual", X_Tokens="1").status == 429


@behaviour("Outcomes", "a route that raises is charged as a 500, and gives its slot back")
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.statuses("/charged-error", 3) == [500, 500, 429]
    assert caller.statuses("/slot-error", 4) == [500] * 4


@behaviour("Outcomes", "a stream is settled, and gives its slot back, when it has ended")
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.statuses("/settled-stream", 6) == [200] * 6
    assert caller.statuses("/slot-stream", 6) == [200] * 6


@behaviour("Outcomes", "a function of the app's that fails is a 500, and takes nothing")
def _(server: Server) -> None:
    caller = server.caller()
    assert caller.statuses("/parts", 6, X_Cost="many") == [500] * 6
    told = policies(caller.ask("/parts", X_Cost="4").headers["ratelimit"])
    assert (told["llm:requests"]["r"], told["llm:tokens"]["r"]) == (4, 6)


@behaviour("Outcomes", "who is denied too often is blocked, and told so")
def _(server: Server) -> None:
    caller = server.caller()
    answers = [caller.ask("/penalty") for _ in range(8)]
    assert [answer.status for answer in answers] == [200] * 2 + [429] * 6
    waits = [int(answer.headers["retry-after"]) for answer in answers[2:]]
    assert waits[0] <= 1800
    assert waits[-1] > 3600  # the penalty, and no more the limit


@behaviour("Many at once", "64 callers on one limit of 20, in the memory of one process: exactly 20 are admitted")
def _(server: Server) -> None:
    answers = server.at_once(64, "/parallel")
    assert Counter(answer.status for answer in answers) == {200: 20, 429: 44}


@behaviour(
    "Many at once", "64 callers on one limit of 20, in two processes that share a server: exactly 20", place="shared"
)
def _(server: Server) -> None:
    answers = server.at_once(64, "/parallel")
    assert Counter(answer.status for answer in answers) == {200: 20, 429: 44}


@behaviour("Many at once", "64 wrong passwords, in two processes that share a server: 5", place="shared")
def _(server: Server) -> None:
    answers = server.at_once(64, "/login", "POST", X_Status="401")
    assert Counter(answer.status for answer in answers) == {401: 5, 429: 59}


@behaviour("Outages", "the store is gone: an open rule lets through, a closed one answers 503", place="outage")
def _(server: Server) -> None:
    assert server.valkey is not None
    assert server.caller().statuses("/open", 4) == [200] * 3 + [429]
    server.valkey.stop()
    try:
        assert server.caller().statuses("/open", 5) == [200] * 5
        answer = server.caller().ask("/closed")
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "no-store" in answer.headers["cache-control"]
    finally:
        server.valkey.start()


@behaviour("Outages", "limits hold again when the store is back", place="outage")
def _(server: Server) -> None:
    eventually(lambda: 429 in server.caller().statuses("/open", 4), "limits hold again")
    assert server.caller().statuses("/closed", 4) == [200] * 3 + [429]
