"""Ways around a limit that were tried: none is one. Each uses up a share first, and then looks whether it gets more."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from tests.identity.forged import TEXTS
from tests.servers import eventually
from tests.web.behaviours.serving import Caller, Server
from tests.web.behaviours.suite import behaviour

PATHS = ("/plain", "/api/by-path")
"""One that has a limit of its own, and one that a rule of the app is about; five each."""


def used_up(server: Server, path: str = "/plain", count: int = 5) -> Caller:
    """Somebody who has nothing left of a limit."""
    caller = server.caller()
    assert caller.statuses(path, count) == [200] * count
    assert caller.ask(path).status == 429
    return caller


def ways_through(caller: Caller, ways: Iterable[str]) -> list[str]:
    """The paths by which somebody gets more."""
    return [way for way in ways if caller.send("GET", way, {}).status == 200]


@behaviour(
    "No way around", "routers within routers, prefixes, mounts: each route has its limit, whatever its handler's name"
)
def _(server: Server) -> None:
    caller = server.caller()
    for path in ("/leaf", "/outer/inner/leaf", "/mount/leaf"):  # three functions of one name
        assert caller.statuses(path, 4) == [200] * 3 + [429], path
        assert ways_through(caller, [path + "/", "/" + path, path.replace("/", "//"), path + "?a=1"]) == []


@behaviour("No way around", "other parameters of a route")
def _(server: Server) -> None:
    for path in ("/outer/inner/items", "/mount/items"):
        caller = server.caller()
        assert [caller.ask(f"{path}/{number}").status for number in range(5)] == [200] * 3 + [429] * 2
        assert ways_through(caller, [f"{path}/a%2Fb", f"{path}/a%2fb", f"{path}/%2F", f"{path}/..%2F..%2Fhealth"]) == []


@behaviour("No way around", "slashes and dots in the path")
def _(server: Server) -> None:
    for path in PATHS:
        caller = used_up(server, path)
        ways = [f"{path}/", f"{path}//", f"/{path}", f"//{path}", f"/.{path}", f"{path}/.", f"/x/..{path}"]
        ways += [f"/health/..{path}", f"/health/../.{path}", f"/exempt/..{path}/", path.replace("/", "\\")]
        ways += [path.replace("/", "//"), path.replace("/", "/./"), f"{path}/../{path.rpartition('/')[2]}"]
        assert ways_through(caller, [way if way.startswith("/") else f"/{way}" for way in ways]) == []


@behaviour("No way around", "encoded paths: `%2F`, `%61`, encoded twice, in other scripts")
def _(server: Server) -> None:
    for path in PATHS:
        caller = used_up(server, path)
        last = path[-1]
        ways = [path[:-1] + f"%{ord(last):02x}", path[:-1] + f"%{ord(last):02X}", "/" + quote(path, safe="")]
        ways += ["/" + "".join(f"%{ord(one):02x}" for one in path[1:]), path[:-1] + f"%25{ord(last):02x}"]
        ways += [f"{path}%2F", f"{path}%2f", f"/%2F{path[1:]}", f"/health%2f..{path}", f"/health/%2e%2e{path}"]
        ways += [f"{path}%00", f"{path}%20", f"{path}%09", f"{path}%0d%0a", f"{path}%3F", f"{path}%23", f"{path}%3b"]
        ways += [path.upper(), path.title(), path[:-1] + quote(chr(ord(last) + 0xFEE0)), f"{path}%c0%af", f"{path}%ff"]
        assert ways_through(caller, ways) == []


@behaviour("No way around", "what follows the path: queries, fragments, parameters")
def _(server: Server) -> None:
    for path in PATHS:
        caller = used_up(server, path)
        ways = [
            f"{path}{rest}" for rest in ("?", "?/health", "?x=1&x=2", ";", ";x=1", "#", "#/health", ";/health", "?%00")
        ]
        assert ways_through(caller, ways) == []


@behaviour("No way around", "HEAD in place of GET, and methods in other spellings")
def _(server: Server) -> None:
    for path in PATHS:
        caller = used_up(server, path)
        methods = ("HEAD", "head", "get", "Get", "OPTIONS", "POST", "PROPFIND", "GETX")
        rest = (
            f" {path} HTTP/1.1\r\nHost: x\r\nX-Caller: {caller.name}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        assert [method for method in methods if 200 in server.replies((method + rest).encode())] == []
    for path, count in {"/plain": 5, "/api/by-path": 5, "/api/by-get": 3}.items():
        mixed = server.caller()
        statuses = [mixed.ask(path, method).status for method in ("GET", "HEAD") * 5]
        assert statuses.count(200) == count


@behaviour("No way around", "headers that ask for another method")
def _(server: Server) -> None:
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method-override"):
        caller = server.caller()
        assert caller.statuses("/api/by-method", 3, "DELETE") == [200] * 3
        for value in ("DELETE", "delete", "GET, DELETE"):
            assert caller.send("POST", "/api/by-method", {name: value}).status == 429, (name, value)
        assert caller.send("DELETE", "/api/by-method", {name: "GET"}).status == 429
        head = f"POST /api/by-method HTTP/1.1\r\nHost: x\r\nX-Caller: {caller.name}\r\nContent-Length: 0\r\n"
        twice = f"{name}: PATCH\r\n{name}: DELETE\r\nConnection: close\r\n\r\n"
        assert server.replies((head + twice).encode()) == [429]
    caller = used_up(server)
    assert caller.send("GET", "/plain", {"X-HTTP-Method-Override": "OPTIONS"}).status == 429
    assert caller.send("GET", "/plain", PREFLIGHT).status == 429
    assert caller.send("POST", "/plain", {**PREFLIGHT, "X-HTTP-Method-Override": "GET"}).status != 200


PREFLIGHT = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}


@behaviour("No way around", "headers that name another path or host")
def _(server: Server) -> None:
    for path in PATHS:
        caller = used_up(server, path)
        for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Path", "X-Script-Name"):
            assert caller.send("GET", path, {name: "/health"}).status == 429, name
        for name in ("Host", "X-Forwarded-Host", "Forwarded"):
            assert caller.send("GET", path, {name: "other.example"}).status == 429, name
        for name in ("Upgrade", "Connection"):
            assert caller.send("GET", path, {name: "websocket", "Connection": "Upgrade"}).status != 200, name


@behaviour("No way around", "forged `X-Forwarded-For`, in one line or in several, in front of what the proxy says")
def _(server: Server) -> None:
    caller = server.caller(None)
    real = {"ASGI": 1, "WSGI": 2}.get(server.framework, 3)
    address = f"203.0.113.{real}"
    assert caller.statuses("/address", 4, X_Forwarded_For=address) == [200] * 3 + [429]
    through = []
    for text in [*TEXTS, "10.77.1.1", "10.77.1.1, 10.77.1.2", "203.0.113.250"]:
        forged = text.encode("utf-8", "surrogateescape")
        if caller.send("GET", "/address", {"X-Forwarded-For": forged + b", " + address.encode()}).status == 200:
            through.append(text)
        head = b"GET /address HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        lines = b"X-Forwarded-For: %s\r\nX-Forwarded-For: %s\r\n\r\n" % (forged, address.encode())
        if 200 in server.replies(head + lines):
            through.append(text)
    assert through == []


@behaviour("No way around", "other headers with an address, and other spellings of one's own")
def _(server: Server) -> None:
    caller = server.caller(None)
    address = "203.0.113.77"
    assert caller.statuses("/address", 4, X_Forwarded_For=address) == [200] * 3 + [429]
    names = (
        "Forwarded",
        "X-Real-IP",
        "CF-Connecting-IP",
        "True-Client-IP",
        "X-Client-IP",
        "X_Forwarded_For",
        "Client-IP",
    )
    for name in names:
        for value in ("6.6.6.6", "for=6.6.6.6", "10.77.1.1"):
            assert caller.send("GET", "/address", {"X-Forwarded-For": address, name: value}).status != 200, name
    for spelling in (
        "::ffff:203.0.113.77",
        "::FFFF:cb00:714d",
        "203.0.113.77:4711",
        "[::ffff:203.0.113.77]:1",
        "64:ff9b::cb00:714d",
    ):
        assert caller.send("GET", "/address", {"X-Forwarded-For": spelling}).status == 429, spelling


@behaviour("No way around", "the many addresses that a caller of IPv6 has")
def _(server: Server) -> None:
    caller = server.caller(None)
    addresses = [f"2001:db8:0:7::{number:x}" for number in range(1, 7)]
    statuses = [caller.send("GET", "/address", {"X-Forwarded-For": address}).status for address in addresses]
    assert statuses == [200] * 3 + [429] * 3


@behaviour("No way around", "requests that are pipelined on one connection")
def _(server: Server) -> None:
    for path in PATHS:
        one = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Caller: {server.caller().name}\r\n".encode()
        statuses = server.replies((one + b"\r\n") * 19 + one + b"Connection: close\r\n\r\n")
        assert statuses.count(200) == 5
        assert set(statuses) == {200, 429}


@behaviour("No way around", "absolute targets, HTTP/1.0, folded and oversized requests")
def _(server: Server) -> None:
    for path in PATHS:
        caller = used_up(server, path)
        for target, version in (
            (f"http://other.example{path}", "1.1"),
            (f"http://other.example/{path}", "1.1"),
            (path, "1.0"),
            (f"//other.example{path}", "1.1"),
            (f"{path}?{'x' * 4_000}", "1.1"),
        ):
            head = f"GET {target} HTTP/{version}\r\nHost: x\r\nX-Caller: {caller.name}\r\nConnection: close\r\n"
            for rest in ("\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Content-Length: 2\r\n\r\nab"):
                assert 200 not in server.replies((head + rest).encode()), (target, rest)


@behaviour("No way around", "hanging up before the answer")
def _(server: Server) -> None:
    caller = server.caller()

    def is_refused_after_another_guess() -> bool:
        with server.connect() as connection:
            head = f"POST /login HTTP/1.1\r\nHost: x\r\nX-Caller: {caller.name}\r\nX-Status: 401\r\n"
            connection.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
        return caller.ask("/login", "POST", X_Status="200").status == 429

    # A server that is busy may find that nobody is there before it has read what was asked: that was no guess.
    eventually(is_refused_after_another_guess, "guesses count")
