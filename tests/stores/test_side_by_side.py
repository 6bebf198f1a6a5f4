"""All stores side by side answer what the reference answers. `make side-by-side` asks a million times."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from headgate import MemoryStore
from headgate.decision import Decision
from headgate.hits import Group
from tests.profiles import TIMES
from tests.stores.side_by_side import Difference, compare, every_store

OPERATIONS = 2_000 * TIMES


def test_all_stores_decide_as_the_reference_does() -> None:
    with every_store() as stores:
        for seed in range(2):
            assert compare(stores, OPERATIONS, seed) >= OPERATIONS


class Forgetful(MemoryStore):
    """Wrong by one, once in a while: a charge is not made."""

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        return super().decide([group._replace(action="peek") if group.action == "take" else group for group in groups])


def test_a_store_that_decides_otherwise_is_found() -> None:
    with pytest.raises(Difference, match=r"wrong answers .* and the reference .* with seed 1"):
        compare({"right": MemoryStore, "wrong": Forgetful}, 2_000, 1)


def test_the_same_seed_is_the_same_traffic() -> None:
    asked: list[list[Group]] = [[], []]
    for kept in asked:

        class Watched(MemoryStore):
            def decide(self, groups: Sequence[Group], /) -> list[Decision]:
                kept.extend(groups)  # noqa: B023  # it is used before the loop goes on
                return super().decide(groups)

        compare({"watched": Watched}, 500, 7)
    assert asked[0] == asked[1]
