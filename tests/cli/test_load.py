"""`headgate load` against real instances: what it counts, what it concludes, and how it is used wrongly."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

import pytest

from headgate import TokenBucket
from headgate.cli import main
from headgate.cli.report import most_allowed
from headgate.cli.sender import Tally, three_digits
from headgate.demo.fleet import Fleet
from tests.demo.running import Done, command

Load = Callable[..., Done]


@pytest.fixture
def load(fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Load:
    """Run `headgate load` for half a second against the first instance."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str, path: str = "/api/data") -> Done:
        url = fleet.instances[0].url + path
        code = main(["load", "--url", url, "--seconds", "0.5", *arguments])
        written = capsys.readouterr()
        return Done(list(arguments), code, written.out, written.err)

    return run


def row(done: Done, label: str) -> str:
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"│ {label} "))
    return line.split("│")[2].strip()


def test_a_limit_that_holds(load: Load, prefix: str) -> None:
    done = load("--user", prefix, "--expect", "10/minute")

    assert done.returncode == 0, done.stdout
    assert row(done, "allowed (2xx)") == "10"
    assert int(row(done, "denied (429)").replace(",", "")) > 10
    assert row(done, "latency p50").endswith(" ms")
    assert "Within the limit: in 0." in done.stdout
    assert "10/minute lets at most 10 through, and 10 passed." in done.stdout


def test_a_limit_that_does_not_hold(load: Load, prefix: str) -> None:
    done = load("--header", f"X-User-ID: {prefix}", "--expect", "3/minute")

    assert done.returncode == 1
    assert "OVER THE LIMIT" in done.stdout
    assert "3/minute lets at most 3 through, and 10 passed." in done.stdout


def test_an_api_key_is_another_caller(load: Load, prefix: str) -> None:
    assert row(load("--api-key", prefix), "allowed (2xx)") == "10"
    assert row(load("--api-key", prefix), "allowed (2xx)") == "0"


def test_a_limit_that_was_not_reached_is_said_to_be_untested(load: Load) -> None:
    done = load("--expect", "1000000/second", "--concurrency", "1", path="/health")

    assert done.returncode == 0
    assert "not put to the test" in done.stdout


def test_other_answers_are_counted_apart_and_prove_nothing(load: Load) -> None:
    done = load("--expect", "10/minute", path="/nowhere")

    assert done.returncode == 3
    assert int(row(done, "other (404)").replace(",", "")) > 10
    assert "no request was allowed or denied: the answer was 404" in done.stderr
    assert "Within" not in done.stdout


def test_nobody_there(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["load", "--url", "http://127.0.0.1:1/", "--seconds", "0.2", "--concurrency", "2"])
    written = capsys.readouterr()

    assert code == 3
    assert "connection refused" in written.err
    assert "Traceback" not in written.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "ftp://127.0.0.1/"], "http://"),
        (["--url", "file:///etc/passwd"], "http://"),
        (["--url", "127.0.0.1:80"], "http://"),
        (["--url", "http://"], "http://"),
        (["--url", "http://h:99999/"], "not a URL"),
        (["--concurrency", "0"], "--concurrency"),
        (["--concurrency", "1001"], "--concurrency"),
        (["--concurrency", "many"], "--concurrency"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "3601"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--header", "no colon"], "--header"),
        (["--header", "X-A: b\r\nX-C: d"], "--header"),
        (["--user", "alice\nX-Admin: yes"], "--user"),
        (["--expect", "10/fortnight"], "10/fortnight\n     ^"),
        (["--expect", "concurrency 5"], "token bucket"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "--url", "http://127.0.0.1:1/", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_ctrl_c_ends_it_with_what_is_known(fleet: Fleet, prefix: str) -> None:
    url = fleet.instances[0].url + "/api/data"
    line = command("load", "--url", url, "--seconds", "10", "--user", prefix)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "req/s" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)

    assert process.returncode == 130
    assert row(Done(line, 130, output, errors), "allowed (2xx)") == "10"
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("limit", "elapsed_us", "most"),
    [
        (TokenBucket(10, per=60), 0, 10),
        (TokenBucket(10, per=60), 5_999_999, 10),
        (TokenBucket(10, per=60), 6_000_000, 11),
        (TokenBucket(100, per=60, burst=20), 10_000_000, 36),
        (TokenBucket(3, per=1), 333_333, 3),
        (TokenBucket(3, per=1), 333_334, 4),
    ],
)
def test_the_bound_is_exact(limit: TokenBucket, elapsed_us: int, most: int) -> None:
    assert most_allowed(limit, elapsed_us) == most


def test_percentiles() -> None:
    tally = Tally(first_sent=1_000_000)
    for milliseconds in range(1, 101):
        tally.answer(200, 0, milliseconds * 1_000_000)
    tally.fail("lost", 150_000_001)

    assert [tally.percentile(percent) for percent in (1, 50, 90, 99, 100)] == [1000, 50_000, 90_000, 99_000, 100_000]
    assert tally.longest_us == 100_000
    assert (tally.answered, tally.finished) == (100, 101)
    assert tally.elapsed_us == 149_001
    assert Tally().percentile(50) == 0


def test_latencies_are_kept_in_little_space() -> None:
    assert [three_digits(number) for number in (0, 7, 999, 1000, 1001, 123_456)] == [0, 7, 999, 1000, 1010, 124_000]
    kept = {three_digits(number) for number in range(1, 10_000_000, 97)}
    assert len(kept) < 4_000
