"""The pytest plugin, as its users meet it: in test runs of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

MODULE = """
    import pytest
    from headgate import AsyncLimiter, Limiter

    limiter = Limiter("1/minute", store="redis://127.0.0.1:1", on_outage="raise")
    awaited = AsyncLimiter("1/minute", store="redis://127.0.0.1:1", on_outage="raise")
"""


def run(pytester: pytest.Pytester, module: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(module)
    options = ["-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function", "-W", "error"]
    options += ["-p", "no:hypothesispytest"]  # which takes two seconds to load
    return pytester.runpytest_inprocess(*options, *arguments)


def test_the_fixtures_are_there_without_further_ado(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        MODULE
        + """
    def test_off(headgate_off):
        assert headgate_off is None
        assert all(limiter.try_acquire("key") for _ in range(3))

    def test_clock(headgate_clock):
        assert limiter.try_acquire("key")
        assert not limiter.try_acquire("key")
        headgate_clock.advance(seconds=60)
        assert limiter.try_acquire("key")

    def test_clock_is_new_each_time(headgate_clock):
        assert limiter.try_acquire("key")

    def test_waiting_takes_no_time(headgate_clock):
        began = headgate_clock()
        for _ in range(3):
            limiter.acquire("key")
        assert headgate_clock() - began == 120_000_000

    def test_without_a_fixture_the_store_is_asked():
        from headgate import StoreOutage
        with pytest.raises(StoreOutage):
            limiter.try_acquire("key")
    """,
    )
    result.assert_outcomes(passed=5)


def test_async_tests_can_use_them(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        MODULE
        + """
    import asyncio

    @pytest.mark.asyncio
    async def test_off(headgate_off):
        assert all(await asyncio.gather(*[awaited.acquire("key") for _ in range(3)]))

    @pytest.mark.asyncio
    async def test_clock(headgate_clock):
        began = headgate_clock()
        await asyncio.gather(*[awaited.acquire("key") for _ in range(3)])
        assert headgate_clock() - began == 120_000_000
    """,
    )
    result.assert_outcomes(passed=2)


def test_a_test_that_fails_leaves_no_trace(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        MODULE
        + """
    def test_fails(headgate_clock):
        with limiter.hold("key"):
            raise ValueError

    def test_next():
        from headgate import StoreOutage
        with pytest.raises(StoreOutage):
            limiter.try_acquire("key")
    """,
    )
    result.assert_outcomes(passed=1, failed=1)


def test_the_fixtures_are_listed_with_what_they_do(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--fixtures", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    result.stdout.fnmatch_lines(
        ["headgate_off*", "*Every limiter in the process admits everything*", "headgate_clock*", "*memory store*"]
    )


def test_a_stores_author_needs_a_few_lines(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    import pytest
    from headgate import MemoryStore
    from headgate.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock):
            return MemoryStore(clock)
    """,
    )
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] > 300
    assert set(outcomes) == {"passed"}


def test_a_store_whose_clock_cannot_be_set_is_tested_as_far_as_possible(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    import pytest
    from headgate import ManualClock, MemoryStore
    from headgate.testing import StoreContract

    class TestMyStore(StoreContract):
        clock_can_be_set = False

        @pytest.fixture
        def store(self):
            return MemoryStore(ManualClock())
    """,
    )
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] > 200
    assert outcomes["skipped"] > 50
    assert set(outcomes) == {"passed", "skipped"}


def test_a_store_that_breaks_its_promises_is_found_out(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    import pytest
    from headgate import MemoryStore
    from headgate.testing import StoreContract

    class Generous(MemoryStore):
        \"\"\"Spends a group hit by hit.\"\"\"

        def decide(self, groups):
            for group in groups:
                if group.action == "spend" and len(group.hits) > 1:
                    for hit in group.hits:
                        super().decide([group._replace(hits=(hit,))])
            return super().decide(groups)

    class TestGenerous(StoreContract):
        @pytest.fixture
        def store(self, clock):
            return Generous(clock)
    """,
        "-k",
        "denied_group or admitted_group",
    )
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] >= 10
    result.stdout.fnmatch_lines(["E  *AssertionError: assert * == *"])  # contracts explain themselves, as tests do


def test_without_a_store_the_contract_says_what_is_missing(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
    from headgate.testing import StoreContract

    class TestNothing(StoreContract):
        pass
    """,
        "-k",
        "empty_batch",
    )
    result.stdout.fnmatch_lines(["*NotImplementedError: a subclass of StoreContract has a fixture named 'store'*"])


def in_another_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_tools_for_limited_code_need_no_pytest() -> None:
    code = (
        "import sys; from headgate.testing import deterministic, limits_off, use_clock; print('pytest' in sys.modules)"
    )
    assert in_another_process(code) == "False\n"


def test_what_is_not_there_is_not_found() -> None:
    code = "import headgate.testing\ntry: headgate.testing.nothing\nexcept AttributeError as error: print(error)"
    assert in_another_process(code) == "module 'headgate.testing' has no attribute 'nothing'\n"


def test_the_plugin_loads_nothing_that_tests_do_not_ask_for() -> None:
    code = """
import sys, headgate
before = set(sys.modules)
import pytest
between = set(sys.modules)
import headgate.testing.plugin
print(sorted(set(sys.modules) - between))
"""
    assert in_another_process(code) == "['headgate.testing', 'headgate.testing.plugin']\n"
