"""The demo's web app, as its callers see it: three real instances in front of a real server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from headgate.demo.address import store_url
from headgate.demo.app import main
from headgate.demo.fleet import Fleet, instance_environ, land, start_instance, wait_until_ready
from headgate.demo.processes import last_lines, stop
from headgate.demo.valkey import start_server

Answer = tuple[int, dict[str, Any], dict[str, str]]


class Caller:
    """Asks the instances, one after the other in turn."""

    def __init__(self, session: aiohttp.ClientSession, fleet: Fleet) -> None:
        self.session = session
        self.fleet = fleet
        self.asked = 0

    async def get(self, path: str, *headers: tuple[str, str]) -> Answer:
        instance = self.fleet.instances[self.asked % len(self.fleet.instances)]
        self.asked += 1
        async with self.session.get(instance.url + path, headers=list(headers)) as response:
            return response.status, await response.json(), {k.lower(): v for k, v in response.headers.items()}


@pytest.fixture
async def caller(fleet: Fleet) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(session, fleet)


async def test_the_limit_is_one_over_all_instances_and_both_routes(caller: Caller, prefix: str) -> None:
    user = ("X-User-ID", prefix)
    answers = [await caller.get(("/api/data", "/v1/hello")[turn % 2], user) for turn in range(15)]

    assert [status for status, _, _ in answers] == [200] * 10 + [429] * 5
    assert [headers["x-ratelimit-remaining"] for _, _, headers in answers] == [*"9876543210", *"00000"]
    assert {headers["x-ratelimit-limit"] for _, _, headers in answers} == {"10"}
    assert all("x-ratelimit-reset" in headers for _, _, headers in answers)
    assert {body["instance"] for _, body, _ in answers} == {"instance-1", "instance-2", "instance-3"}


async def test_many_at_the_same_instant_get_exactly_the_limit(caller: Caller, prefix: str) -> None:
    answers = await asyncio.gather(*(caller.get("/api/data", ("X-User-ID", prefix)) for _ in range(60)))

    assert sorted(status for status, _, _ in answers) == [200] * 10 + [429] * 50


async def test_a_denial_says_when_to_come_back(caller: Caller, prefix: str) -> None:
    user = ("X-User-ID", prefix)
    for _ in range(10):
        await caller.get("/api/data", user)
    status, body, headers = await caller.get("/api/data", user)

    assert status == 429
    assert body["error"] == "rate_limited"
    assert body["user"] == f"user:{prefix}"
    assert 0 < body["retry_after"] <= 6
    assert int(headers["retry-after"]) in range(1, 7)
    assert "10/minute" in body["detail"]


async def test_the_status_spends_nothing(caller: Caller, prefix: str) -> None:
    user = ("X-User-ID", prefix)
    await caller.get("/api/data", user)
    for _ in range(20):
        status, body, headers = await caller.get("/api/status", user)
        assert status == 200
        assert (body["policy"], body["limit"], body["remaining"]) == ("10/minute", 10, 9)
        assert headers["x-ratelimit-remaining"] == "9"
        assert 0 < body["reset_after"] <= 6


async def test_health_is_never_limited(caller: Caller) -> None:
    for turn in range(30):
        status, body, headers = await caller.get("/health")
        assert status == 200
        assert body == {"status": "ok", "instance": f"instance-{turn % 3 + 1}", "store": "up"}
        assert "x-ratelimit-limit" not in headers


async def test_users_do_not_share(caller: Caller, prefix: str) -> None:
    for _ in range(11):
        await caller.get("/api/data", ("X-User-ID", prefix))

    assert (await caller.get("/api/data", ("X-User-ID", prefix)))[0] == 429
    assert (await caller.get("/api/data", ("X-User-ID", prefix + "-other")))[0] == 200


async def test_an_api_key_stays_a_secret(caller: Caller, fleet: Fleet, prefix: str, valkey_url: str) -> None:
    key = f"secret-{prefix}"
    _, body, _ = await caller.get("/v1/hello", ("x-api-key", key), ("X-User-ID", "alice"))
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]

    assert body["message"].startswith(f"Hello, key:{digest}")
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        stored = [*client.scan_iter(match="headgate:*")]
    assert any(digest in name for name in stored)
    assert not any(key in name for name in stored)
    assert key not in "".join(fleet.log_of(instance.name).read_text() for instance in fleet.instances)


@pytest.mark.parametrize(
    "headers",
    [
        [("X-User-ID", "")],
        [("X-User-ID", "two words")],
        [("X-User-ID", "../../etc")],
        [("X-User-ID", "a" * 65)],
        [("X-User-ID", "a"), ("X-User-ID", "b")],
        [("x-api-key", "")],
    ],
)
async def test_an_identity_that_is_none_is_not_believed(caller: Caller, headers: list[tuple[str, str]]) -> None:
    status, body, _ = await caller.get("/api/status", *headers)
    assert (status, body["user"]) == (200, "ip:127.0.0.1")


async def test_metrics_count_what_was_decided(caller: Caller, prefix: str) -> None:
    caller.fleet = replace(caller.fleet, instances=caller.fleet.instances[:1])
    for _ in range(12):
        await caller.get("/api/data", ("X-User-ID", prefix))
    async with caller.session.get(caller.fleet.instances[0].url + "/metrics/") as response:
        told = await response.text()
    counted = dict(re.findall(r'headgate_decisions_total{policy="web.api",result="(\w+)"} ([0-9.]+)', told))
    assert float(counted["allowed"]) >= 10
    assert float(counted["denied"]) >= 2
    assert prefix not in told


async def test_without_a_name_the_address_counts_whatever_a_proxy_header_says(caller: Caller) -> None:
    _, body, _ = await caller.get("/api/status", ("X-Forwarded-For", "203.0.113.7"))

    assert body["user"] == "ip:127.0.0.1"


async def test_each_request_is_a_line_of_json(caller: Caller, fleet: Fleet, prefix: str) -> None:
    user = ("X-User-ID", prefix)
    for _ in range(11):
        await caller.get("/api/data?token=in-the-query", user)
    await caller.get("/nowhere", user)
    logs = [line for each in fleet.instances for line in last_lines(fleet.log_of(each.name), 1000)]
    lines = [json.loads(line) for line in logs if line.startswith("{")]
    mine = [line for line in lines if line["user"] == f"user:{prefix}"]

    assert sorted(mine[0]) == sorted(
        ["ts", "instance", "method", "path", "user", "allowed", "remaining", "status", "duration_ms"]
    )
    assert len(mine) == 11
    assert sorted((line["status"], line["allowed"]) for line in mine) == [(200, True)] * 10 + [(429, False)]
    assert sorted(line["remaining"] for line in mine) == [0, *range(10)]
    assert {(line["method"], line["path"]) for line in mine} == {("GET", "/api/data")}
    assert all(line["duration_ms"] > 0 for line in mine)
    assert any(line["path"] == "/nowhere" and line["status"] == 404 for line in lines)
    assert "in-the-query" not in "".join(logs)


@asynccontextmanager
async def one_instance(folder: Path, port: int, *, embedded: bool) -> AsyncIterator[Fleet]:
    fleet = Fleet(folder, store=f"redis://127.0.0.1:{port}/0")
    instance = start_instance(fleet, "instance-1", 0, embedded=embedded)
    fleet = replace(fleet, instances=(instance,))
    try:
        await wait_until_ready(fleet)
        yield fleet
    finally:
        await land(fleet)


async def test_nobody_is_let_in_while_the_store_is_gone(tmp_path: Path, prefix: str) -> None:
    server, port = await start_server(tmp_path / "valkey", tmp_path / "store.log")
    async with one_instance(tmp_path, port, embedded=True) as fleet, aiohttp.ClientSession() as session:
        await stop([server])
        caller = Caller(session, fleet)
        for path in ("/api/data", "/v1/hello", "/api/status"):
            status, body, headers = await caller.get(path, ("X-User-ID", prefix))
            assert (status, body["error"], headers["retry-after"]) == (503, "store_unavailable", "1")
        status, body, _ = await caller.get("/health")
        assert (status, body["store"]) == (200, "down")


async def test_a_password_reaches_the_store(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    password = "p@ss/w:o rd#1%"
    monkeypatch.setenv("REDIS_PASSWORD", password)
    server, port = await start_server(tmp_path / "valkey", tmp_path / "store.log")
    try:
        with redis.Redis(port=port) as client:
            client.config_set("requirepass", password)
        async with one_instance(tmp_path, port, embedded=False) as fleet, aiohttp.ClientSession() as session:
            assert (await Caller(session, fleet).get("/api/data", ("X-User-ID", prefix)))[0] == 200
    finally:
        await stop([server])


def test_what_the_user_has_set_for_other_programs_does_not_reach_an_instance() -> None:
    environ = {
        "PORT": "1",
        "HOST": "0.0.0.0",
        "LIMIT": "1/day",
        "REDIS_URL": "redis://h",
        "REDIS_PASSWORD": "s",
        "A": "b",
    }

    assert instance_environ(environ, embedded=True) == {"A": "b"}
    assert instance_environ(environ, embedded=False) == {"A": "b", "REDIS_PASSWORD": "s"}


@pytest.mark.parametrize(
    ("url", "password", "complete"),
    [
        ("localhost:6379", None, "redis://localhost:6379"),
        ("localhost:6379/1", "s", "redis://:s@localhost:6379/1"),
        ("redis://h/0", "a b@/", "redis://:a%20b%40%2F@h/0"),
        ("redis://joe@h/0", "s", "redis://joe:s@h/0"),
        ("redis://:mine@h/0", "s", "redis://:mine@h/0"),
        ("rediss://[::1]:7/0", "s", "rediss://:s@[::1]:7/0"),
        ("memory://", "s", "memory://"),
    ],
)
def test_a_store_url_is_completed(url: str, password: str | None, complete: str) -> None:
    assert store_url(url, password) == complete


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PORT": "http"}, "PORT"),
        ({"PORT": "70000"}, "PORT"),
        ({"PORT": "0", "LIMIT": "10/minute"}, "PORT"),
        ({"LIMIT": "10 per fortnight"}, "is no limit"),
        ({"REDIS_URL": "gopher://x"}, "gopher"),
    ],
)
def test_a_wrong_environment_is_told_in_words(
    environ: dict[str, str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(environ) == 2
    assert words in capsys.readouterr().err
