"""Metrics for Prometheus: what is counted, under which labels, and by several processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from headgate import Breaker, InvalidUse, Lease, Limiter, StoreTimeout, observer
from headgate.observe import prometheus
from headgate.observe.prometheus import PrometheusObserver, expose
from headgate.rules import Rule
from headgate.testing import deterministic
from headgate.web.core import run
from headgate.web.wsgi import RateLimits
from tests.limiter.bench import FailingStore
from tests.servers import eventually, free_port, own_valkey
from tests.striking import Struck, code_of, each_point, strike
from tests.web.asking import Asked

ROOT = Path(__file__).parents[2]


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    made = CollectorRegistry()
    end = expose(made)
    yield made
    end()


def exposed(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs if "_created" not in name}


def test_decisions_are_counted_by_policy_and_result(registry: CollectorRegistry) -> None:
    limiter = Limiter("2/hour", name="signup")
    for _ in range(5):
        limiter.try_acquire("someone@example.org")
    told = exposed(registry)
    assert told['headgate_decisions_total{policy="signup",result="allowed"}'] == 2
    assert told['headgate_decisions_total{policy="signup",result="denied"}'] == 3
    assert told['headgate_decision_duration_seconds_count{policy="signup"}'] == 5
    assert not [name for name in told if "someone" in name]


def test_of_several_limits_the_one_that_binds_is_the_policy(registry: CollectorRegistry) -> None:
    limiter = Limiter({"user": "2/hour", "ip": "9/hour"}, name="api")
    for _ in range(3):
        limiter.try_acquire({"user": "a", "ip": "b"})
    told = exposed(registry)
    assert told['headgate_decisions_total{policy="api.user",result="denied"}'] == 1


def test_a_rule_has_one_name_whichever_way_it_is_asked(registry: CollectorRegistry) -> None:
    limits = RateLimits(
        Rule("2/hour", name="login", paths=["/login"]),
        Rule("9/hour", name="all", near=0.9),
        Rule("1/hour", name="trial", is_shadow=True, paths=["/trial"]),
    )
    for path in ("/", "/", "/login", "/login", "/login", "/trial", "/trial"):
        run(limits.limiter.admit(Asked(path)))
    told = exposed(registry)
    assert told['headgate_decisions_total{policy="web.all",result="allowed"}'] == 4
    assert told['headgate_decisions_total{policy="web.login",result="denied"}'] == 1
    assert told['headgate_decisions_total{policy="web.trial",result="shadow_denied"}'] == 1
    assert 'headgate_decisions_total{policy="web.trial",result="denied"}' not in told
    assert told['headgate_near_limit_total{policy="web.all"}'] == 4


def test_waits_and_turns_that_come_too_late_are_counted(registry: CollectorRegistry) -> None:
    limiter = Limiter("100/second; burst=1", name="vendor")
    for _ in range(3):
        limiter.acquire("k", timeout=1)
    with pytest.raises(Exception, match="later than the timeout"):
        limiter.acquire("k", timeout=0.000001)
    told = exposed(registry)
    assert told['headgate_waits_total{policy="vendor",result="turn"}'] == 2
    assert told['headgate_waits_total{policy="vendor",result="too_late"}'] == 1
    assert told['headgate_waits_total{policy="vendor",result="at_once"}'] == 1
    assert told['headgate_wait_seconds_count{policy="vendor"}'] == 2


def test_a_request_that_waits_for_a_window_is_one_request(registry: CollectorRegistry) -> None:
    with deterministic() as clock:
        clock.set(1_800_000_000_000_000)
        limiter = Limiter(["fixed-window 1/minute", "9/hour"], name="vendor")
        for _ in range(2):
            limiter.acquire("k")
    told = exposed(registry)
    assert sum(value for name, value in told.items() if name.startswith("headgate_decisions_total")) == 2
    assert not [name for name in told if 'result="denied"' in name]
    assert [value for name, value in told.items() if 'result="turn"' in name] == [1]
    (waited,) = [value for name, value in told.items() if name.startswith("headgate_wait_seconds_sum")]
    assert 59 < waited < 61


def test_slots_are_in_use_while_their_block_lasts(registry: CollectorRegistry) -> None:
    limiter = Limiter({"user": "concurrency 3", "all": "concurrency 9"}, name="jobs")
    with limiter.hold({"user": "a", "all": "*"}), limiter.hold({"user": "b", "all": "*"}):
        assert exposed(registry)['headgate_slots_in_use{policy="jobs.user"}'] == 2
    told = exposed(registry)
    assert told['headgate_slots_in_use{policy="jobs.user"}'] == told['headgate_slots_in_use{policy="jobs.all"}'] == 0


def test_a_request_that_fails_is_an_error(registry: CollectorRegistry) -> None:
    store = FailingStore()
    store.is_down = True
    with pytest.raises(StoreTimeout):
        Limiter("9/hour", store=store, name="strict", on_outage="raise").try_acquire("k")
    Limiter({"a": "9/hour", "b": "9/hour"}, store=store, name="lax").try_acquire({"a": "k", "b": "k"})
    told = exposed(registry)
    assert told['headgate_decisions_total{policy="strict",result="error"}'] == 1
    assert told['headgate_decisions_total{policy="lax",result="degraded_allowed"}'] == 1  # no limit of it binds


def test_who_only_asks_is_not_counted(registry: CollectorRegistry) -> None:
    limiter = Limiter("1/hour", name="api")
    limiter.peek("k")
    assert not [name for name in exposed(registry) if name.startswith("headgate_decisions_total")]


@pytest.mark.parametrize("name", ["api", "my.api", "50%"])
def test_a_limit_has_one_name_whichever_way_it_is_asked(registry: CollectorRegistry, name: str) -> None:
    limiter = Limiter("9/hour", name=name)
    limiter.try_acquire("k")
    limiter.try_acquire("k", limit="8/hour")
    limiter.acquire("k")
    Limiter(["9/hour", "1/day"], name=name).try_acquire("k")
    assert {line: value for line, value in exposed(registry).items() if line.startswith("headgate_decisions_")} == {
        f'headgate_decisions_total{{policy="{name}",result="allowed"}}': 3,
        f'headgate_decisions_total{{policy="{name}.per-day",result="allowed"}}': 1,
    }


def test_a_handler_that_asks_in_the_middle_of_counting_is_counted_and_nothing_hangs() -> None:
    """The library's locks would wait for ever."""
    for point in each_point():
        registry = CollectorRegistry()
        end = expose(registry)
        limiter, other = Limiter("90/hour", name="api"), Limiter("concurrency 50", name="slots")
        for one in (limiter, other):
            one.try_acquire("k")

        def ask(holding: Limiter = other, asking: Limiter = limiter) -> None:
            with holding.hold("k"):
                asking.try_acquire("k")

        try:
            point.striking(ask, code_of(prometheus, prometheus_client), ask)
        finally:
            end()
        told = exposed(registry)
        times = 1 + bool(point.place)
        assert told['headgate_decisions_total{policy="api",result="allowed"}'] == 1 + times, point
        assert told['headgate_decisions_total{policy="slots",result="allowed"}'] == 1 + times, point
        assert told['headgate_slots_in_use{policy="slots"}'] == 0, point


def test_an_exception_out_of_a_signal_stops_no_counting() -> None:
    for point in each_point(with_collector=False):
        registry = CollectorRegistry()
        end = expose(registry)
        limiter = Limiter("90/hour", name="api")
        limiter.try_acquire("k")
        with suppress(Struck):
            point.striking(lambda: limiter.try_acquire("k"), code_of(prometheus), strike)  # noqa: B023  # called here
        before = exposed(registry)['headgate_decisions_total{policy="api",result="allowed"}']
        for _ in range(3):
            limiter.try_acquire("k")
        end()
        assert exposed(registry)['headgate_decisions_total{policy="api",result="allowed"}'] == before + 3, point


FORKS = """
import os, sys
from headgate import Limiter
from headgate.observe.prometheus import expose
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
expose()
limiter = Limiter("9/hour", name="api")
slots = Limiter("concurrency 9", name="slots")
limiter.try_acquire("k")
with slots.hold("k"):
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            break
        children.append(child)
    for _ in range(10):
        limiter.try_acquire("k")
if child == 0:
    os._exit(0)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def test_forked_processes_add_up(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", FORKS], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert 'headgate_decisions_total{policy="api",result="allowed"} 33.0' in done.stdout
    assert 'headgate_decisions_total{policy="api",result="denied"} 8.0' in done.stdout
    (in_use,) = re.findall(r"headgate_slots_in_use{.*policy=.slots.*} (.*)", done.stdout)
    assert float(in_use) == 0


def test_outages_and_breakers_are_shown(registry: CollectorRegistry) -> None:
    with own_valkey() as server:
        url = server.url
        limiter = Limiter("9/hour", store=url, name="far", breaker=Breaker(failures=1, open_for=60))
        limiter.try_acquire("k")
    assert limiter.try_acquire("k").source == "fail_open"
    told = exposed(registry)
    assert told['headgate_decisions_total{policy="far",result="degraded_allowed"}'] == 1
    assert told['headgate_outage{policy="far"}'] == 1
    assert told['headgate_outages_total{policy="far"}'] == 1
    (breaker,) = [value for name, value in told.items() if name.startswith("headgate_breaker_open")]
    assert breaker == 1
    found = {name: value for name, value in told.items() if name.startswith("headgate_round_trips_total")}
    assert sorted(re.search('result="([^"]*)"', name)[1] for name in found) == ["answered", "failed"]  # type: ignore[index]
    assert ":" in next(iter(found))


def test_leased_tokens_are_counted(registry: CollectorRegistry, valkey_url: str, prefix: str) -> None:
    with Limiter("1000/hour", store=valkey_url, prefix=prefix, name="hot", lease=Lease(10)) as limiter:
        for _ in range(50):
            limiter.try_acquire("k")
    told = exposed(registry)
    assert told['headgate_leased_tokens_total{event="drawn",policy="hot"}'] > 0


def test_names_without_end_are_one_label(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "MAX_NAMES", 3)
    for number in range(10):
        Limiter("9/hour", name=f"limiter-{number}").try_acquire("k")
    told = exposed(registry)
    assert told['headgate_decisions_total{policy="other",result="allowed"}'] == 7


def test_one_registry_has_them_once(registry: CollectorRegistry) -> None:
    with pytest.raises(InvalidUse, match="expose them once"):
        PrometheusObserver(registry)


def test_whatever_fails_the_decision_stands(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(PrometheusObserver):
        def decided(self, *told: object) -> None:
            raise ZeroDivisionError

    detach = observer.attach(Failing(CollectorRegistry()))
    try:
        limiter = Limiter("1/hour")
        assert [bool(limiter.try_acquire("k")) for _ in range(2)] == [True, False]
    finally:
        detach()
    assert "what it was told stands" in caplog.text


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""
    except OSError:
        return 0, ""


def test_the_processes_of_gunicorn_add_up(tmp_path: Path) -> None:
    port = free_port()
    with own_valkey() as valkey:
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "REDIS_URL": valkey.url}
        command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
        server = subprocess.Popen(
            [*command, "tests.observe.gunicorn_app:app"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: get(port, "/metrics")[0] == 200, "gunicorn answers")
            with ThreadPoolExecutor(16) as senders:
                answers = list(senders.map(lambda _: get(port, "/"), range(60)))
            assert sorted(status for status, _ in answers).count(200) == 20
            assert len({pid for status, pid in answers if status == 200}) == 2
            told = get(port, "/metrics")[1]
        finally:
            server.terminate()
            server.wait(20)
    pattern = r'headgate_decisions_total{policy="metered.default",result="(\w+)"} ([0-9.]+)'
    assert dict(re.findall(pattern, told)) == {"allowed": "20.0", "denied": "40.0"}


def test_the_page_lists_what_is_exposed() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    exposed_names = {}
    for metric in registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        exposed_names[name] = metric.type
    listed = dict(re.findall(r"^\| `(headgate_\w+)`[^|]*\| (counter|gauge|histogram) \|", page, re.MULTILINE))
    assert listed == exposed_names
