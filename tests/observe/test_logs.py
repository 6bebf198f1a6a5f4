"""Logs as lines of JSON, and a sample of denials."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from headgate import Breaker, InvalidUse, Limiter, ManualClock, observer
from headgate.observe.logs import DenialLog, JSONFormatter, log_denials
from headgate.rules import Rule
from headgate.web.core import run
from headgate.web.wsgi import RateLimits
from tests.servers import own_valkey
from tests.web.asking import Asked


class Lines:
    """A logger that writes JSON, and what it wrote."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.logger = logging.Logger("headgate.denials")
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(JSONFormatter())
        self.logger.addHandler(handler)

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_denial_is_one_line(lines: Lines, clock: ManualClock) -> None:
    end = log_denials(clock=clock, to=lines.logger)
    limiter = Limiter("1/hour", name="signup")
    for _ in range(2):
        limiter.try_acquire("someone@example.org")
    end()
    limiter.try_acquire("someone@example.org")
    (line,) = lines.read()
    assert (line["policy"], line["result"], line["source"], line["limit"]) == ("signup", "denied", "store", 1)
    assert line["key"].startswith("hash:")
    assert line["level"] == "info"
    assert line["message"].startswith("signup denied; again in 3")
    assert "someone" not in lines.stream.getvalue()


def test_many_denials_are_sampled_and_the_others_counted(lines: Lines, clock: ManualClock) -> None:
    end = log_denials(per_second=3, keys=True, clock=clock, to=lines.logger)
    limiter = Limiter("1/hour", name="signup")
    for _ in range(11):
        limiter.try_acquire("k")
    clock.advance(seconds=1)
    limiter.try_acquire("k")
    limiter.peek("k")
    assert [line["left_out"] for line in lines.read()] == [0, 0, 0, 7]
    assert {line["key"] for line in lines.read()} == {"k"}
    for _ in range(6):
        limiter.try_acquire("k")
    end()
    *_, last = lines.read()
    assert (last["policy"], last["left_out"], last["message"]) == ("signup", 4, "signup denied: 4 more")


def test_each_policy_has_a_sample_of_its_own(lines: Lines, clock: ManualClock) -> None:
    end = log_denials(per_second=1, clock=clock, to=lines.logger)
    limits = RateLimits(
        Rule("1/hour", name="a", paths=["/a"]),
        Rule("1/hour", name="b", paths=["/b"], is_shadow=True),
        Rule("9/hour", name="all"),
    )
    for path in ("/a", "/a", "/a", "/b", "/b", "/b"):
        run(limits.limiter.admit(Asked(path)))
    end()
    assert [(line["policy"], line["result"]) for line in lines.read()] == [
        ("web.a", "denied"),
        ("web.b", "shadow_denied"),
        ("web.a", "denied"),
        ("web.b", "shadow_denied"),
    ]
    assert [line["left_out"] for line in lines.read()] == [0, 0, 1, 1]


def test_a_secret_makes_hashes_that_processes_have_in_common(clock: ManualClock) -> None:
    hashes = []
    for secret in ("sixteen bytes and more", "sixteen bytes and more", "another", None):
        lines = Lines()
        end = log_denials(secret=secret, clock=clock, to=lines.logger)
        limiter = Limiter("1/hour")
        limiter.try_acquire("k")
        limiter.try_acquire("k")
        end()
        hashes.append(lines.read()[0]["key"])
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_outages_and_breakers_are_warnings_with_names(lines: Lines) -> None:
    logger = logging.getLogger("headgate")
    (handler,) = lines.logger.handlers
    logger.addHandler(handler)
    try:
        with own_valkey() as server:
            limiter = Limiter("9/hour", store=server.url, name="far", breaker=Breaker(failures=1, open_for=60))
            limiter.try_acquire("k")
        limiter.try_acquire("k")
    finally:
        logger.removeHandler(handler)
    told = {line["event"]: line for line in lines.read()}
    assert told["outage_began"]["limiter"] == "far"
    assert told["breaker_changed"]["state"] == "open"
    assert {line["level"] for line in told.values()} == {"warning"}


def test_an_exception_is_in_its_line(lines: Lines) -> None:
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError:
        lines.logger.exception("it failed", extra={"limiter": "api", "odd": object()})
    (line,) = lines.read()
    assert line["message"] == "it failed"
    assert "by nothing" in line["exception"]
    assert line["limiter"] == "api"


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidUse, match="at least one denial a second"):
        DenialLog(per_second=0)


def test_whatever_fails_the_decision_stands(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(DenialLog):
        def decided(self, *told: object) -> None:
            raise ZeroDivisionError

    detach = observer.attach(Failing())
    try:
        assert Limiter("1/hour").try_acquire("k")
    finally:
        detach()
    assert "what it was told stands" in caplog.text
