"""A file is understood as it is meant, or all that is wrong with it is said, each thing with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headgate import Concurrency, ConfigError, SlidingWindow, TokenBucket, parse_limit
from headgate.config import Config, load
from headgate.web.messages import WebResponse
from tests.config import functions
from tests.web.asking import Asked

WHOLE = Path(__file__).with_name("whole.toml")


def problems(document: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(document)
    return list(caught.value.problems)


def the_problem(document: dict[str, Any]) -> str:
    (problem,) = problems(document)
    return problem


def limits(**said: Any) -> Any:
    return load({"limiters": {"api": said}}).limiters["api"].limits


@pytest.fixture
def whole() -> Config:
    return load(WHOLE)


def test_a_limiter_is_as_it_is_written(whole: Config) -> None:
    api = whole.limiters["api"]
    assert api.limits == {"per-second": parse_limit("100/second; burst=200"), "concurrency": Concurrency(50)}
    assert api.timeout == 30.0
    assert api.options == {"on_outage": "closed"}
    assert api.tiers["free"] == {"per-second": parse_limit("60/minute")}
    assert api.store is whole.stores["main"]


def test_a_store_is_as_it_is_written(whole: Config) -> None:
    main = whole.stores["main"]
    assert main.url == "redis://localhost:6379/0"
    assert main.options["prefix"] == "shop"
    assert main.options["timeout"] == 0.25
    assert main.options["breaker"].failures == 3
    assert "password" not in main.options  # an empty one is none


@pytest.mark.parametrize(
    ("about", "name"),
    [
        ({}, "all"),
        ({"default": True}, "default"),
        ({"paths": ["/login"]}, "login"),
        ({"paths": ["/login", "/sign-in"], "methods": ["POST"]}, "post-login"),
        ({"paths": ["/api/{id}/*"], "methods": ["PUT", "PATCH"]}, "put-patch-api-id"),
        ({"paths": ["/*"]}, "all"),
        ({"paths": ["/penalty"]}, "penalty-2"),  # the app's own may be called so
        ({"paths": [f"/{'x' * 200}"]}, "x" * 56),
    ],
)
def test_a_rule_without_a_name_is_called_by_what_it_is_about(about: dict[str, Any], name: str) -> None:
    for limit in ("3/hour", "10/hour", ["5/minute", "50/day"]):  # and so goes on when its numbers change
        config = load({"rules": [{"limits" if isinstance(limit, list) else "limit": limit, **about}]})
        assert config.rules is not None
        assert [rule.name for rule in config.rules.all] == [name]


def test_rules_about_the_same_are_numbered() -> None:
    config = load({"rules": [{"limit": "3/hour"}, {"limit": "9/day"}, {"limit": "20/day", "name": "all-3"}]})
    assert config.rules is not None
    assert [rule.name for rule in config.rules.all] == ["all", "all-2", "all-3"]


def test_rules_are_as_they_are_written(whole: Config) -> None:
    assert whole.rules is not None
    assert whole.web is not None
    default, login, llm, batches, reports = whole.rules.all
    assert default.is_default
    assert batches.reserve == {"tokens": 20_000}
    assert reports.reserve is functions.spare
    assert default.near == 0.1
    assert login.named_limits() == {"per-minute": parse_limit("5/minute"), "per-hour": parse_limit("20/hour")}
    assert login.paths == ("/login",)
    assert login.methods == ("POST",)
    assert login.on_outage == "local"
    assert login.in_outage() == dict.fromkeys(("per-minute", "per-hour"), parse_limit("1/minute"))
    assert login.key == "ip"
    assert llm.wait == 0.5
    assert llm.tier == {"user:42": "pro"}
    assert reports.exempt_when is functions.is_internal
    assert reports.limit_for is functions.limit_of
    assert reports.message == "No more reports for now."
    assert reports.is_shadow
    assert reports.is_per_route
    assert reports.is_per_method
    assert whole.rules.exempt == ("/health", "/static/*")
    assert list(map(str, whole.rules.deny)) == ["203.0.113.0/24"]
    assert whole.web.store is whole.stores["local"]
    assert whole.web.told == {
        "styles": ("legacy", "draft-11"),
        "names": {"X-RateLimit-Limit": "X-Quota"},
        "reset": "epoch",
        "retry_after": "date",
        "partition_secret": "a secret of sixteen bytes",
        "body": "problem",
    }
    assert whole.web.on_denied is functions.answer
    assert whole.web.is_enabled is True
    assert whole.web.name == "shop"
    assert str(whole.rules.penalty) == "penalty 50 denials/hour -> 1d"


def test_responses_count_by_status_and_by_header(whole: Config) -> None:
    assert whole.rules is not None
    _, login, _, _, reports = whole.rules.all
    assert login.charge_when is not None
    assert reports.charge_when is not None
    assert [status for status in (200, 401, 403, 500, 503) if login.charge_when(WebResponse(status, {}, None))] == [
        401,
        500,
        503,
    ]
    assert reports.charge_when(WebResponse(200, {"X-Cache": "MISS"}, None))
    assert not reports.charge_when(WebResponse(200, {"X-Cache": "HIT"}, None))
    assert not reports.charge_when(WebResponse(200, {}, None))


@pytest.mark.parametrize(
    ("sent", "cost"),
    [
        ([], 10),
        (["50"], 50),
        (["0"], 10),
        (["-5"], 10),
        (["1e3"], 10),
        (["９"], 10),
        (["99999999999999999999"], 10),
        (["100000"], 5000),
        (["1", "70"], 70),
        (["garbage", "70"], 70),
    ],
)
def test_a_cost_of_a_header_lets_nobody_go_free(whole: Config, sent: list[str], cost: int) -> None:
    assert whole.rules is not None
    function: Any = whole.rules.all[2].cost
    request = Asked(headers={"x-cost": sent})
    assert function["tokens"](request) == cost


def test_an_actual_cost_of_a_header_may_be_nothing(whole: Config) -> None:
    assert whole.rules is not None
    function: Any = whole.rules.all[2].actual_cost
    assert function["tokens"](WebResponse(200, {"X-Tokens-Used": "0"}, None)) == 0
    assert function["tokens"](WebResponse(200, {"X-Tokens-Used": "77"}, None)) == 77
    assert function["tokens"](WebResponse(200, {}, None)) is None  # what was reserved stays


def test_limits_may_be_numbers() -> None:
    assert limits(rate_per_second=100.0) == TokenBucket(100, 1)
    assert limits(rate_per_second=0.1) == TokenBucket(1, 10)
    assert limits(rate_per_second=2.5) == TokenBucket(5, 2, 3)
    assert limits(rate_per_second=2.5, burst=10) == TokenBucket(5, 2, 10)
    assert limits(max_concurrent=3) == Concurrency(3)
    assert limits(algorithm="sliding_window", limit=5, window_seconds=300) == SlidingWindow(5, 300)
    assert limits(limit=5, window_seconds=0.5) == TokenBucket(5, 0.5)


def test_values_of_the_environment_take_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE", "7")
    monkeypatch.setenv("EMPTY", "")
    assert limits(limit="${RATE}/minute") == parse_limit("7/minute")
    assert limits(max_concurrent="${RATE}") == Concurrency(7)
    assert limits(limit="${NOT_THERE:-9}/minute") == parse_limit("9/minute")
    assert limits(limit="${EMPTY:-9}/minute") == parse_limit("9/minute")
    web = load({"web": {"name": "$${RATE}"}}).web
    assert web is not None
    assert web.name == "${RATE}"


def test_a_value_that_the_environment_has_not_is_missed_at_its_place() -> None:
    document = {"stores": {"main": {"url": "redis://localhost", "password": "${NOT_THERE}"}}}
    assert the_problem(document) == (
        "[stores.main], password: the environment has no NOT_THERE: set it, or write ${NOT_THERE:-...} with what goes "
        "without it"
    )
    assert "'${' is not understood" in the_problem({"limiters": {"api": {"limit": "${not there}"}}})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"limiter": {}}, "[limiter]: there is no such key: did you mean 'limiters'?"),
        ({"limiters": {"api": {"limt": "5/s", "limit": "5/s"}}}, "[limiters.api], limt: there is no such key: did you"),
        ({"limiters": {"api": {}}}, "[limiters.api]: a limiter needs limit or limits or rate_per_second or max_conc"),
        ({"limiters": {"api": {"limit": "5 apples"}}}, "[limiters.api], limit: expected '/', 'per' or ';' after 5"),
        ({"limiters": {"api": {"limit": "5/s", "timeout": "soon"}}}, "[limiters.api], timeout: is to be a number of"),
        ({"limiters": {"api": {"limit": 5}}}, "[limiters.api], limit: is a number, and so needs window_seconds"),
        ({"limiters": {"api": {"limit": "5/s", "store": "man"}}}, "[limiters.api], store: there is no store 'man'"),
        (
            {"limiters": {"api": {"limit": "5/s", "on_outage": "shut"}}},
            "[limiters.api], on_outage: is to be 'open', 'c",
        ),
        ({"limiters": {"api": {"limit": "5/s", "limits": ["5/m"]}}}, "[limiters.api], limits: there is limit already"),
        ({"limiters": {"api": {"max_concurrent": True}}}, "[limiters.api], max_concurrent: is to be a whole number of"),
        ({"limiters": {"a": {"limits": {"x": "5/s"}, "tiers": {"p": {"y": "5/s"}}}}}, "[limiters.a.tiers.p], y: there"),
        ({"stores": {"a": {"url": "mongodb://x"}}}, "[stores.a]: store URL mongodb://... is not understood"),
        ({"stores": {"a": {"url": "memory://", "timeout": 1}}}, "[stores.a]: a store of memory:// does not take timeo"),
        ({"stores": {"a": {"engine": "nats"}}}, "[stores.a], engine: is to be 'memory' or 'redis', not 'nats'"),
        ({"stores": {"a": {"url": "redis://h/1", "db": 2}}}, "[stores.a], db: is 2, and the URL says 1: give it once"),
        (
            {"stores": {"a": {"url": "redis://h", "pool_max_size": 9}}},
            "[stores.a], pool_max_size: leave it out: a store",
        ),
        (
            {"stores": {"a": {"url": "redis://h", "socket_timeout": 9}}},
            "[stores.a], socket_timeout: write timeout inst",
        ),
        ({"stores": {"a": {"url": "redis://h", "timing_margin_ms": 9}}}, "[stores.a], timing_margin_ms: leave it out"),
        ({"rules": [{"limit": "5/s"}, {"name": "x", "limit": "5//s"}]}, "[[rules]] 2 (x), limit: expected a unit of"),
        (
            {"limiters": {"api": {"limit": "5/s", "on_outage": "local", "outage_limit": "few"}}},
            "[limiters.api], outage_limit: unknown",
        ),
        (
            {"rules": [{"limits": {"a": "5/s"}, "on_outage": "local", "outage_limit": {"a": "few"}}]},
            "[[rules]] 1, outage_limit.a: unknown",
        ),
        (
            {"rules": [{"limit": "5/s", "outage_limit": "1/s"}]},
            "[[rules]] 1: outage_limit of rule 'all' goes with",
        ),
        ({"rules": [{"limit": "5/s", "path": "/"}]}, "[[rules]] 1, path: write paths instead"),
        ({"rules": [{"limit": "5/s", "paths": ["login"]}]}, "[[rules]] 1, paths"),
        ({"rules": [{"limit": "5/s", "cost": 6}]}, "[[rules]] 1: a cost of 6 can never pass"),
        ({"rules": [{"limit": "5/s", "cost": "no.such:cost"}]}, "[[rules]] 1, cost: 'no.such:cost' cannot be imported"),
        ({"rules": [{"limit": "5/s", "cost": "tests.config.functions:NO_FUNCTION"}]}, "[[rules]] 1, cost: 'tests.conf"),
        (
            {"rules": [{"limit": "5/s", "tiers": {"pro": "9/s"}}]},
            "[[rules]] 1, tiers: nothing tells the tier of a call",
        ),
        ({"rules": [{"limit": "5/s", "name": "x"}, {"limit": "6/s", "name": "x"}]}, "[[rules]] 2 (x): there is a rule"),
        ({"rules": [{"limit": "5/s", "charge_when": {"status": "6xx"}}]}, "[[rules]] 1, charge_when.status: is to be"),
        ({"web": {"allow": ["10.0.0.0/99"]}}, "[web], allow: a network is written as"),
        ({"web": {"penalty": "9/minute"}}, "[web], penalty: expected '->'"),
        (
            {"web": {"penalty": "9/m -> 1h"}, "rules": [{"name": "penalty", "limit": "5/s"}]},
            "[web], penalty: 'penalty'",
        ),
        ({"web": {"headers": "draft-99"}}, "[web], headers: is to be"),
        (
            {"stores": {"a": {"url": "memory://"}, "b": {"url": "memory://"}}, "limiters": {"x": {"limit": "5/s"}}},
            "[lim",
        ),
    ],
)
def test_a_problem_is_said_with_its_place(document: dict[str, Any], said: str) -> None:
    assert the_problem(document).startswith(said)


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[limiters.api]\nlimt = "5/s"\n[limiters.login]\nlimit = true\n[stores.a]\n', "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert len(caught.value.problems) == 3
    assert str(caught.value).startswith(f"{file}: 3 problems\n  [limiters.api], limt: there")


def test_a_file_that_is_no_toml_or_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "headgate.toml"
    with pytest.raises(ConfigError, match=r"headgate\.toml: cannot be read: No such file"):
        load(file)
    file.write_text("[limiters\n", "utf-8")
    with pytest.raises(ConfigError, match=r"headgate\.toml: is no TOML: .* line 1"):
        load(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not in UTF-8: byte 0"):
        load(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_the_file_is_the_environments_or_the_one_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "headgate.toml").write_text('[limiters.here]\nlimit = "5/s"\n', "utf-8")
    (tmp_path / "other.toml").write_text('[limiters.other]\nlimit = "5/s"\n', "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADGATE_CONFIG", raising=False)
    assert list(load().limiters) == ["here"]
    monkeypatch.setenv("HEADGATE_CONFIG", str(tmp_path / "other.toml"))
    assert list(load().limiters) == ["other"]


SECRET = "s3cr3t-0f-ours"


@pytest.mark.parametrize(
    "document",
    [
        {"stores": {"a": {"url": "mongodb://u:${SECRET}@h"}}},
        {"stores": {"a": {"url": "redis://:${SECRET}@h:port/0"}}},
        {"stores": {"a": {"url": "redis://:other@h/0", "password": "${SECRET}"}}},
        {"stores": {"a": {"url": "redis://h", "password": "${SECRET}", "timeout": "${SECRET}"}}},
        {"stores": {"a": {"url": "redis://h", "breaker": "${SECRET}"}}},
        {"limiters": {"a": {"limit": "${SECRET}"}}},
        {"limiters": {"a": {"limits": {"x": "${SECRET}"}}}},
        {"limiters": {"a": {"limit": "5/s", "store": "${SECRET}"}}},
        {"limiters": {"a": {"limit": "5/s", "timeout": "${SECRET}"}}},
        {"limiters": {"a": {"limit": "5/s", "on_outage": "${SECRET}"}}},
        {"limiters": {"a": {"max_concurrent": "${SECRET}"}}},
        {"rules": [{"limit": "5/s", "paths": "${SECRET}"}]},
        {"rules": [{"limit": "5/s", "key": "${SECRET}"}]},
        {"rules": [{"limit": "5/s", "cost": "${SECRET}"}]},
        {"web": {"allow": ["${SECRET}"]}},
        {"web": {"headers": "${SECRET}"}},
    ],
)
def test_no_error_holds_what_the_environment_has(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    with pytest.raises(ConfigError) as caught:
        load(document)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_repr_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    config = load(
        {
            "stores": {
                "a": {"url": f"redis://user:{SECRET}@localhost/0"},
                "b": {"url": "redis://localhost/0", "password": "${SECRET}"},
            },
            "limiters": {"api": {"limit": "5/s", "store": "b"}},
        }
    )
    assert SECRET not in repr(config)
    assert config.stores["b"].options["password"] == SECRET


def test_nothing_is_imported_where_a_file_is_only_looked_at() -> None:
    config = load({"rules": [{"limit": "5/s", "cost": "no.such.module:cost"}]}, imports=False)
    assert config.rules is not None
    assert getattr(config.rules.all[0].cost, "__qualname__", "") == "no.such.module:cost"


def test_functions_may_be_inside_of_others() -> None:
    rule = {"limit": "50/s", "cost": "tests.config.functions:Costs.of_upload"}
    config = load({"rules": [rule]})
    assert config.rules is not None
    assert config.rules.all[0].cost is functions.Costs.of_upload
