"""Holders that are killed: their slots come back after their ttl, and not earlier."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from headgate import Limiter
from headgate.stores.redis import RedisStore
from tests.faults.workers import PATIENT, hold_until_killed


@pytest.mark.parametrize("awaits", [False, True], ids=["blocking", "asyncio"])
def test_the_slot_of_a_killed_process_comes_back_after_its_ttl_and_not_earlier(
    valkey_url: str, prefix: str, awaits: bool
) -> None:
    limit, ttl_us = "concurrency 1; ttl=1500ms", 1_500_000
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    limiter = Limiter(limit, store=store, on_outage="raise")
    spawn = multiprocessing.get_context("spawn")
    is_inside = spawn.Event()
    holder = spawn.Process(
        target=hold_until_killed,
        args=(valkey_url, prefix, limit, is_inside),
        kwargs={"awaits": awaits},
        daemon=True,
    )
    holder.start()
    try:
        assert is_inside.wait(60)
        # It outlives its ttl as long as the holder lives.
        first = limiter.peek("k")
        while limiter.peek("k").now_us < first.now_us + 2 * ttl_us:
            assert not limiter.peek("k")
            time.sleep(0.02)
        before = limiter.peek("k")
    finally:
        holder.kill()
        holder.join()
    after = limiter.peek("k")
    assert not after
    expires_at = after.now_us + after.retry_after_us
    assert before.now_us - ttl_us < expires_at - ttl_us <= after.now_us  # from its last renewal
    while not (decision := limiter.try_acquire("k")):
        assert decision.now_us < expires_at
        assert decision.now_us + decision.retry_after_us == expires_at
        time.sleep(min(0.02, decision.retry_after))
    assert decision.now_us >= expires_at
    store.close()
