"""The words by which metrics, traces and logs tell limits apart."""

from __future__ import annotations

import pytest

from headgate import Limiter, MemoryStore
from headgate.limiter.naming import Limits
from headgate.limiter.outage import OnOutage
from headgate.observe.labels import part_of, policy_of
from headgate.stores.registry import open_store


@pytest.mark.parametrize("mode", ["open", "closed"])
@pytest.mark.parametrize("penalty", [None, "2 denials/hour -> 1h"])
@pytest.mark.parametrize(
    ("limits", "key", "expected", "in_outage"),
    [
        ("2/hour", "k", "app", "app"),
        ({"user": "2/hour"}, {"user": "k"}, "app.user", "app.user"),
        ({"user": "2/hour", "ip": "9/hour"}, {"user": "k", "ip": "x"}, "app.user", "app"),  # nobody knows which binds
    ],
)
def test_a_limit_is_called_in_an_outage_as_otherwise(
    limits: Limits, key: str | dict[str, str], expected: str, in_outage: str, penalty: str | None, mode: OnOutage
) -> None:
    nobody = open_store("redis://127.0.0.1:1")
    for store, called in ((MemoryStore(), expected), (nobody, in_outage)):
        limiter = Limiter(limits, name="app", penalty=penalty, store=store, on_outage=mode)
        assert policy_of("app", part_of(limiter.try_acquire(key))) == called
    nobody.close()
