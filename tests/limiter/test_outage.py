"""What is decided when the store does not answer, and that a change of state is said once."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from headgate import (
    AcquireTimeout,
    AsyncLimiter,
    Decision,
    Hold,
    InvalidUse,
    Limiter,
    LimitExceeded,
    Store,
    StoreOutage,
    StoreUnavailable,
)
from headgate.limiter.outage import OutageRule
from headgate.limiter.policy import Policy
from tests.limiter.bench import FailingStore
from tests.servers import soon

GROUP = Policy("5/minute", "api").group("k")


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "headgate"]


def test_open_admits_and_closed_denies() -> None:
    outage = StoreUnavailable("s", "p")
    admitted = OutageRule("open", "api").decide(GROUP, outage)
    assert (admitted.allowed, admitted.source, admitted.wait_us) == (True, "fail_open", 0)
    assert (admitted.retry_after_us, admitted.reset_after_us, admitted.remaining) == (0, 0, 0)
    denied = OutageRule("closed", "api").decide(GROUP, outage)
    assert (denied.allowed, denied.source) == (False, "fail_closed")
    assert denied.retry_after == 1.0
    assert (denied.key, denied.binding, denied.limit, denied.cost) == ("k", "api", 5, 1)
    assert denied.headers()["Retry-After"] == "1"


def test_raise_lets_the_outage_through() -> None:
    outage = StoreUnavailable("s", "p")
    with pytest.raises(StoreUnavailable) as caught:
        OutageRule("raise", "api").decide(GROUP, outage)
    assert caught.value is outage


@pytest.mark.parametrize("mode", ["OPEN", "share", "", None, True])
def test_another_mode_is_refused(mode: Any) -> None:
    with pytest.raises(InvalidUse, match="on_outage is one of open, closed, raise, local, not"):
        OutageRule(mode, "api")


def test_an_outage_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    rule = OutageRule("open", "api")
    outage = StoreUnavailable("redis://somewhere:1/0", "it cannot be reached")
    with caplog.at_level(logging.INFO, "headgate"):
        rule.over()
        assert messages(caplog) == []
        for _ in range(5):
            rule.decide(GROUP, outage)
        for _ in range(5):
            rule.over()
        assert not rule.is_out
        rule.decide(GROUP, outage)
    down = "headgate: store redis://somewhere:1/0: it cannot be reached; limiter 'api' answers 'open' until it is back"
    assert messages(caplog) == [down, "headgate: the store of limiter 'api' answers again", down]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_many_threads_log_an_outage_once(caplog: pytest.LogCaptureFixture) -> None:
    rule = OutageRule("closed", "api")
    start = threading.Barrier(8)

    def fail() -> None:
        start.wait()
        for _ in range(100):
            rule.decide(GROUP, StoreUnavailable("s", "p"))

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(messages(caplog)) == 1


class Sides:
    """A limiter of either kind, asked in the same words."""

    def __init__(self, kind: str, store: FailingStore, limit: Any = "5/minute", **options: Any) -> None:
        self.blocking = Limiter(limit, store=store, name="api", **options)
        self.awaiting = AsyncLimiter(limit, store=store, name="api", **options)
        self.kind = kind

    async def __call__(self, call: str, *args: Any, **options: Any) -> Any:
        if self.kind == "blocking":
            return getattr(self.blocking, call)(*args, **options)
        return await getattr(self.awaiting, call)(*args, **options)


@pytest.fixture(params=["blocking", "awaiting"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_limiter_that_is_open_admits_everything_while_the_store_is_down(kind: str, store: FailingStore) -> None:
    limiter = Sides(kind, store, on_outage="open")
    store.is_down = True
    for _ in range(20):
        decision = await limiter("try_acquire", "k")
        assert (decision.allowed, decision.source) == (True, "fail_open")
    assert (await limiter("peek", "k")).source == "fail_open"
    assert (await limiter("acquire", "k", timeout=0)).source == "fail_open"


async def test_open_is_the_default(kind: str, store: FailingStore) -> None:
    store.is_down = True
    assert (await Sides(kind, store)("try_acquire", "k")).source == "fail_open"


async def test_a_limiter_that_is_closed_denies_everything_while_the_store_is_down(
    kind: str, store: FailingStore
) -> None:
    limiter = Sides(kind, store, on_outage="closed")
    store.is_down = True
    for call in ("try_acquire", "peek"):
        decision = await limiter(call, "k")
        assert (decision.allowed, decision.source) == (False, "fail_closed")
    with pytest.raises(AcquireTimeout) as caught:
        await limiter("acquire", "k", timeout=0.5)
    assert caught.value.decision.source == "fail_closed"


async def test_a_limiter_that_raises_says_which_store_failed(kind: str, store: FailingStore) -> None:
    limiter = Sides(kind, store, on_outage="raise")
    decision = await limiter("try_acquire", "k")
    estimate = await limiter("try_acquire", "k")
    store.is_down = True
    for call, args in (
        ("try_acquire", ("k",)),
        ("peek", ("k",)),
        ("acquire", ("k",)),
        ("reset", ("k",)),
        ("refund", (decision,)),
        ("settle", (estimate, 5)),
    ):
        with pytest.raises(StoreOutage, match="store redis://somewhere:1/0: no answer within") as caught:
            await limiter(call, *args)
        assert caught.value.store == "redis://somewhere:1/0"
        assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("mode", ["open", "closed"])
async def test_giving_back_during_an_outage_is_no_error_unless_asked_for(
    kind: str, store: FailingStore, mode: str
) -> None:
    limiter = Sides(kind, store, on_outage=mode)
    decision, estimate = await limiter("try_acquire", "k"), await limiter("try_acquire", "k", 3)
    store.is_down = True
    await limiter("refund", decision)
    settled = await limiter("settle", estimate, 1)
    assert settled.cost == 1
    with pytest.raises(StoreOutage):
        await limiter("reset", "k")  # a reset that did not happen is never taken for one


async def test_a_decision_of_the_outage_rule_has_nothing_to_give_back(kind: str, store: FailingStore) -> None:
    limiter = Sides(kind, store, on_outage="open")
    store.is_down = True
    decision, estimate = await limiter("try_acquire", "k"), await limiter("try_acquire", "k", 2)
    store.is_down = False
    asked = store.asked
    await limiter("refund", decision)
    assert (await limiter("settle", estimate, 4)).cost == 4
    assert store.asked == asked
    assert (await limiter("peek", "k")).remaining == 5


async def test_the_store_decides_again_as_soon_as_it_answers(
    kind: str, store: FailingStore, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = Sides(kind, store, on_outage="closed")
    assert await limiter("try_acquire", "k")
    for _ in range(2):
        store.is_down = True
        for _ in range(3):
            assert not await limiter("try_acquire", "k")
        store.is_down = False
        decision = await limiter("try_acquire", "k")
        assert (decision.allowed, decision.source) == (True, "store")
    assert (await limiter("peek", "k")).remaining == 2  # what was denied meanwhile spent nothing
    assert len(messages(caplog)) == 4


async def test_a_hook_hears_of_decisions_that_the_store_did_not_make(kind: str, store: FailingStore) -> None:
    told: list[str] = []
    limiter = Sides(kind, store, on_outage="open", on_decision=lambda decision: told.append(decision.source))
    await limiter("try_acquire", "k")
    store.is_down = True
    await limiter("try_acquire", "k")
    assert told == ["store", "fail_open"]


async def test_a_hook_that_raises_does_not_open_what_is_closed(kind: str, store: FailingStore) -> None:
    def hook(decision: Decision) -> None:
        raise RuntimeError("in the hook")

    store.is_down = True
    assert not await Sides(kind, store, on_outage="closed", on_decision=hook)("try_acquire", "k")
    with pytest.raises(StoreOutage):
        await Sides(kind, store, on_outage="raise", on_decision=hook)("try_acquire", "k")


async def test_a_decorated_function_follows_the_outage_rule(kind: str, store: FailingStore) -> None:
    store.is_down = True
    opened, closed = Sides(kind, store, on_outage="open"), Sides(kind, store, on_outage="closed")
    if kind == "blocking":
        assert opened.blocking.limit(key="k")(lambda: 5)() == 5
        with pytest.raises(LimitExceeded, match="'api' denies 'k'; retry in 1"):
            closed.blocking.limit(key="k")(lambda: 5)()
    else:

        async def five() -> int:
            return 5

        assert await opened.awaiting.limit(key="k")(five)() == 5
        with pytest.raises(LimitExceeded):
            await closed.awaiting.limit(key="k")(five)()


async def test_a_block_is_entered_without_a_slot_when_open_and_left_in_peace(store: FailingStore) -> None:
    blocking = Limiter("concurrency 1", store=store, on_outage="open")
    awaiting = AsyncLimiter("concurrency 1", store=store, on_outage="open")
    store.is_down = True
    with blocking.hold("k") as hold:
        assert hold.decision.source == "fail_open"
        assert not hold.is_lost
    async with awaiting.hold("k") as hold:
        assert hold.decision.source == "fail_open"
    store.is_down = False
    assert blocking.peek("k").remaining == 1


async def test_a_release_that_fails_is_logged_and_raises_nothing(
    kind: str, store: FailingStore, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = Sides(kind, store, "concurrency 1", on_outage="raise")
    if kind == "blocking":
        with limiter.blocking.hold("k"):
            store.is_down = True
    else:
        async with limiter.awaiting.hold("k"):
            store.is_down = True
    assert messages(caplog) == [
        "headgate: could not release a slot, it will expire: store redis://somewhere:1/0: no answer within 0.25 s"
    ]


async def test_an_outage_of_the_whole_life_of_a_slot_loses_it(
    kind: str, store: FailingStore, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = Sides(kind, store, "concurrency 1; ttl=60ms", on_outage="raise")

    async def seen_lost(hold: Hold) -> None:
        async def is_lost() -> bool:
            return hold.is_lost

        async with asyncio.timeout(5):
            await soon(is_lost, "the holder knows of its loss")

    with caplog.at_level(logging.WARNING, "headgate"):
        if kind == "blocking":
            with limiter.blocking.hold("k") as hold:
                store.is_down = True
                await seen_lost(hold)
        else:
            async with limiter.awaiting.hold("k") as hold:
                store.is_down = True
                await seen_lost(hold)
    assert "was lost while held" in messages(caplog)[0]


def test_the_failing_store_is_a_store(store: FailingStore) -> None:
    assert isinstance(store, Store)
