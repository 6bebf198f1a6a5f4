"""The permissions that docs/stores.md lists are enough, and none of them too many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headgate import FixedWindow, Limiter, ManualClock, SlidingLog, SlidingWindow, StoreUnavailable, TokenBucket
from headgate.stores.redis import RedisStore
from headgate.testing import use_clock
from tests.docs.markdown import ROOT, blocks
from tests.servers import OwnValkey, own_valkey

(LISTED,) = (block.code.split() for block in blocks(ROOT / "docs/stores.md") if block.words == ("acl",))


@pytest.fixture(scope="module")
def server() -> Iterator[OwnValkey]:
    with own_valkey() as started:
        yield started


def use_everything(server: OwnValkey, commands: list[str]) -> None:
    """Ask all that can be asked, as a user who may run these commands."""
    admin: Any
    with server.admin() as admin:
        admin.script_flush()
        admin.flushall()
        admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", "~headgate:*", "-@all", *commands)
    with_user = RedisStore(server.url, username="app", password="secret", timeout=5)
    for limit in (TokenBucket(2), FixedWindow(2), SlidingWindow(2), SlidingLog(4)):
        limiter = Limiter(limit, store=with_user, on_outage="raise")
        first = limiter.try_acquire("a")
        second = limiter.try_acquire("a")
        limiter.peek("a")
        limiter.try_acquire("a")
        limiter.refund(first)
        limiter.settle(second, 3)
        limiter.refund(limiter.try_acquire("b"))
        limiter.reset("a")
    together = Limiter(TokenBucket(2), store=with_user)._policy
    with_user.decide([together.group("c"), together.group("d")])
    clock = ManualClock()
    with_clock = use_clock(RedisStore(server.url, username="app", password="secret", timeout=5), clock)
    log = Limiter("sliding-log 4/hour", store=with_clock, on_outage="raise")
    for _ in range(3):  # the third finds the first out of view, and the second not
        spent = log.try_acquire("a", cost=2)
        clock.advance(seconds=1_800)
    log.settle(spent, 1)
    with_clock.close()
    slots = Limiter("concurrency 1", store=with_user, on_outage="raise")
    held = slots.try_acquire("a")
    slots.try_acquire("a")
    with slots.holding(held):
        slots._store.decide([held.group._replace(action="renew")])
    slots.refund(slots.try_acquire("b"))
    with_user.close()


def test_the_listed_permissions_are_enough(server: OwnValkey) -> None:
    use_everything(server, LISTED)


@pytest.mark.parametrize("command", LISTED)
def test_each_listed_permission_is_needed(server: OwnValkey, command: str) -> None:
    with pytest.raises(StoreUnavailable):
        use_everything(server, [other for other in LISTED if other != command])
