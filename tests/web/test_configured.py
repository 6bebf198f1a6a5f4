"""An app whose limits come from a file: together with those of code, and changed while it runs."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from headgate import AsyncLimiter, ConfigError, InvalidUse, Limiter, ManualClock, MemoryStore
from headgate.config.watching import Watch
from headgate.rules import Rule
from headgate.web.asking import admit
from headgate.web.core import run
from headgate.web.limits import AppLimits
from headgate.web.messages import WebResponse
from tests.config import functions
from tests.web.asking import Asked

FILE = """
[stores.main]
engine = "memory"

[web]
exempt = ["/health"]
headers = ["legacy"]
name = "shop"

[web.tiers_of]
"ip:203.0.113.9" = "pro"

[[rules]]
name = "api"
limit = "2/minute"
paths = ["/api/*"]
tiers = { pro = "4/minute" }
"""


class Limits(AppLimits[Limiter]):
    kind = Limiter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "headgate.toml"
    made.write_text(FILE, "utf-8")
    return made


def admitted(limits: AppLimits[Any], path: str, times: int, **options: Any) -> int:
    return sum(run(limits.limiter.admit(Asked(path, **options))).is_admitted for _ in range(times))


def check(limits: AppLimits[Any]) -> bool:
    assert limits.configured is not None
    watch = limits.configured.watch
    assert watch is not None
    return watch.check() or watch.check()


def test_the_rules_of_a_file_hold(file: Path) -> None:
    limits = Limits(config=file, watch=False)
    assert admitted(limits, "/api/x", 5) == 2
    assert admitted(limits, "/other", 5) == 5
    assert admitted(limits, "/health", 5) == 5
    assert limits.headers == ("legacy",)
    assert limits.limiter.name == "shop"


def test_a_file_says_the_tiers_of_callers(file: Path) -> None:
    limits = Limits(config=file, watch=False)
    assert admitted(limits, "/api/x", 9, peer="203.0.113.9") == 4


def test_rules_of_code_and_of_a_file_go_together(file: Path) -> None:
    limits = Limits(
        "3/minute", Rule("1/minute", name="one", paths=["/one"]), config=file, watch=False, exempt=["/free"]
    )
    assert [rule.title for rule in limits.rules.all] == ["default", "one", "api"]
    assert admitted(limits, "/one", 5) == 1
    assert admitted(limits, "/free", 5) == 5
    assert admitted(limits, "/health", 5) == 5


def test_code_goes_before_the_file(file: Path) -> None:
    store = MemoryStore(ManualClock())
    limits = Limits(config=file, watch=False, store=store, name="mine", headers=None, identity="user")
    assert limits.limiter.store is store
    assert limits.limiter.name == "mine"
    assert limits.headers == ()
    assert limits.rules.identity.sources == ("user",)


def test_two_rules_of_one_name_are_an_error(file: Path) -> None:
    with pytest.raises(InvalidUse, match="two rules are called 'api'"):
        Limits(Rule("1/minute", name="api"), config=file, watch=False)


def test_a_configuration_may_be_a_dict() -> None:
    limits = Limits(config={"rules": [{"limit": "1/minute"}]})
    assert admitted(limits, "/", 3) == 1
    assert limits.configured is not None
    assert limits.configured.watch is None


def test_a_change_takes_effect_and_the_state_stays(file: Path) -> None:
    limits = Limits(config=file)
    store = limits.limiter.store
    assert admitted(limits, "/api/x", 5) == 2
    file.write_text(FILE.replace('"/api/*"', '"/api/*", "/more"'), "utf-8")
    assert check(limits)
    assert limits.limiter.store is store
    assert admitted(limits, "/more", 5) == 0  # what was spent on the other path
    assert admitted(limits, "/more", 5, peer="203.0.113.8") == 2


def test_a_file_that_is_wrong_keeps_the_rules_that_there_were(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(config=file)
    file.write_text(FILE.replace("2/minute", "2 apples"), "utf-8")
    assert not check(limits)
    assert "expected '/'" in caplog.text
    assert admitted(limits, "/api/x", 5) == 2
    with pytest.raises(ConfigError, match=r"\[\[rules\]\] 1 \(api\), limit: expected '/'"):
        Limits(config=file)


def test_a_function_that_does_not_fit_the_framework_keeps_the_rules(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(config=file)
    file.write_text(FILE + 'cost = "tests.config.functions:cost_async"\n', "utf-8")
    assert not check(limits)
    assert "async" in caplog.text
    assert admitted(limits, "/api/x", 5) == 2


def test_another_store_takes_a_restart_and_says_so(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(config=file)
    file.write_text(FILE.replace("shop", "stall"), "utf-8")
    with caplog.at_level(logging.WARNING, "headgate"):
        assert check(limits)
    assert "takes a restart" in caplog.text
    assert limits.limiter.name == "shop"


def test_for_an_app_that_is_gone_nothing_is_watched(file: Path) -> None:
    limits = Limits(config=file)
    assert limits.configured is not None
    watch = limits.configured.watch
    assert isinstance(watch, Watch)
    del limits
    gc.collect()
    watch.join(30)
    assert not watch.is_running


async def test_an_async_framework_reads_the_same_file(file: Path) -> None:
    class AsyncLimits(AppLimits[AsyncLimiter]):
        kind = AsyncLimiter

    limits = AsyncLimits(config=file, watch=False)
    assert limits.limiter.store is not None
    assert [rule.title for rule in limits.rules.all] == ["api"]


@pytest.mark.parametrize("way", ["watchfiles", "polling"])
def test_a_change_is_seen_by_itself(file: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "polling":
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    changed = threading.Event()

    class Heard(Limits):
        @property
        def rules(self) -> Any:
            return super().rules

        @rules.setter
        def rules(self, rules: Any) -> None:
            self.limiter.rules = rules
            changed.set()

    limits = Heard(config=file)
    file.write_text(FILE.replace("2/minute", "3/minute"), "utf-8")
    assert changed.wait(30)
    assert admitted(limits, "/api/x", 5) == 3


def test_several_stores_leave_open_where_rules_count() -> None:
    stores = {"a": {"engine": "memory"}, "b": {"engine": "memory"}}
    with pytest.raises(InvalidUse, match=r"say in \[web\]"):
        Limits("5/minute", config={"stores": stores})
    with pytest.raises(ConfigError, match=r"\[web\]: needs store: there are several, a, b"):
        Limits(config={"stores": stores, "rules": [{"limit": "5/minute"}]})


@pytest.mark.parametrize(("told", "left"), [({}, 50), ({"X-Used": "70"}, 30), ({"X-Used": "0"}, 100)])
def test_a_cost_of_the_response_replaces_what_was_reserved_if_it_is_told(told: dict[str, str], left: int) -> None:
    rule = {
        "name": "llm",
        "limits": {"tokens": "100/day"},
        "cost": {"tokens": {"header": "x-cost"}},
        "actual_cost": {"tokens": {"header": "x-used"}},
    }
    limits = Limits(config={"rules": [rule]}, store=MemoryStore(ManualClock()))
    admission = run(limits.limiter.admit(Asked(headers={"x-cost": "50"})))
    run(limits.limiter.finish(admission, WebResponse(200, told, None)))
    binding = run(limits.limiter.admit(Asked(headers={"x-cost": "1"}))).binding
    assert binding is not None
    assert binding.decision.remaining == left - 1


TOLD = """
[web]
headers = ["legacy"]
header_names = { X-RateLimit-Limit = "X-Quota" }
reset = "epoch"
retry_after = "date"
body = "text"
on_denied = "tests.config.functions:answer"

[[rules]]
name = "api"
limit = "1/minute"
"""


def test_a_file_says_how_clients_are_told(file: Path) -> None:
    file.write_text(TOLD, "utf-8")
    limits = Limits(config=file, watch=False, store=MemoryStore(ManualClock(1_700_000_000_000_000)))
    run(limits.limiter.admit(Asked()))
    status, headers, body = limits.limiter.refuse(run(limits.limiter.admit(Asked())))
    found = dict(headers)
    assert status == 429
    assert found["X-Quota"] == "1"
    assert found["X-RateLimit-Reset"] == "1700000060"
    assert found["Retry-After"].endswith("GMT")
    assert body.startswith(b"Too many requests")
    assert limits.on_denied is functions.answer


def test_code_goes_before_the_file_in_how_clients_are_told(file: Path) -> None:
    file.write_text(TOLD, "utf-8")
    names = {"X-RateLimit-Remaining": "X-Left"}
    limits = Limits(config=file, watch=False, reset="delta", header_names=names, on_denied=print)
    found = dict(limits.limiter.fields(run(limits.limiter.admit(Asked()))))
    assert set(found) == {"X-RateLimit-Limit", "X-Left", "X-RateLimit-Reset"}
    assert int(found["X-RateLimit-Reset"]) <= 60
    assert limits.on_denied is print
    assert Limits(config=file, watch=False, headers=None).headers == ()  # and nothing is left to be named


def test_names_of_headers_that_are_not_sent_are_an_error(file: Path) -> None:
    file.write_text(TOLD.replace('["legacy"]', '"draft-11"'), "utf-8")
    with pytest.raises(ConfigError, match=r"\[web\], header_names: 'X-RateLimit-Limit' is not written here"):
        Limits(config=file, watch=False)
    file.write_text(TOLD.replace("reset =", 'partition_secret = "short"\nreset ='), "utf-8")
    with pytest.raises(ConfigError, match=r"\[web\], partition_secret: a secret has at least 16 bytes"):
        Limits(config=file, watch=False)


def off(text: str) -> str:
    return text.replace("[web]", "[web]\nenabled = false")


def test_a_file_switches_the_limits_off_and_on_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(config=file)
    assert admitted(limits, "/api/x", 5) == 2
    file.write_text(off(FILE), "utf-8")
    assert check(limits)
    assert admitted(limits, "/api/x", 5) == 5
    assert "the limits of 'shop' are off" in caplog.text
    assert "restart" not in caplog.text
    file.write_text(FILE, "utf-8")
    assert check(limits)
    assert "are on again" in caplog.text
    assert admitted(limits, "/api/x", 5) == 0  # the state has stayed


def test_limits_that_are_off_ask_nothing_and_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rules = Rule("1/minute", name="closed", on_outage="closed"), Rule("1/minute", name="cost", cost=cost_of_nobody)
    limits = Limits(*rules, store="redis://127.0.0.1:1", deny=["0.0.0.0/0"], enabled=False)
    assert caplog.text.count("the limits of 'web' are off") == 1
    for asked in (Asked(), Asked(method="OPTIONS"), Asked(route="/x")):
        admission = run(limits.limiter.admit(asked, (Rule("1/day"),)))
        assert admission.is_admitted
        assert admission.decision is None
        assert limits.limiter.fields(admission) == []
        run(limits.limiter.admit(asked, (Rule("1/day"),), known=admission))
        assert admission.decision is None
        assert admit(limits.limiter, asked, (Rule("1/day"),)).decision is None
    assert run(limits.limiter.peek(Asked())).decision is None
    run(limits.limiter.reset("ip:203.0.113.7"))


def cost_of_nobody(request: object) -> int:
    raise AssertionError("nobody is to be asked")


def test_the_short_way_is_taken_again_when_limits_are_on_again() -> None:
    limits = Limits("1/minute")
    limits.limiter.is_enabled = False
    assert [admit(limits.limiter, Asked()).is_admitted for _ in range(3)] == [True] * 3
    limits.rules = limits.rules  # new rules leave the switch as it is
    assert not limits.limiter.is_enabled
    limits.limiter.is_enabled = True
    assert [admit(limits.limiter, Asked()).is_admitted for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(("word", "is_on"), [("false", False), (" OFF ", False), ("0", False), ("1", True), ("", True)])
def test_the_environment_switches_limits_off(word: str, is_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_ENABLED", word)
    assert Limits("1/minute").limiter.is_enabled is is_on
    assert Limits("1/minute", enabled=True).limiter.is_enabled  # code goes before it
    assert Limits("1/minute", config={"web": {"enabled": True}}).limiter.is_enabled  # and so does a file
    assert not Limits("1/minute", enabled=False, config={"web": {"enabled": True}}).limiter.is_enabled


def test_a_switch_that_says_neither_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    neither: Any = "false"
    with pytest.raises(InvalidUse, match="enabled is True or False, not 'false'"):
        Limits("1/minute", enabled=neither)
    monkeypatch.setenv("HEADGATE_ENABLED", "perhaps")
    with pytest.raises(InvalidUse, match="HEADGATE_ENABLED is true or false"):
        Limits("1/minute")


def test_a_penalty_of_all_rules_is_that_of_code_or_else_that_of_the_file(file: Path) -> None:
    file.write_text(FILE.replace("[web]", '[web]\npenalty = "1 denial/minute -> 1d"'), "utf-8")
    assert str(Limits(config=file, watch=False).rules.penalty) == "penalty 1 denial/minute -> 1d"
    limits = Limits(config=file, penalty="2 denials/minute -> 2d")
    assert not check(limits)
    file.write_text(FILE, "utf-8")
    assert check(limits)
    assert str(limits.rules.penalty) == "penalty 2 denials/minute -> 2d"
    assert admitted(limits, "/api/x", 5) == 2
    denied = run(limits.limiter.admit(Asked("/api/x"))).decision
    assert denied is not None
    assert denied.retry_after > 86400
