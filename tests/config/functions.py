"""Functions that the tests' configurations name."""

from __future__ import annotations

from typing import Any

NO_FUNCTION = 3


def is_internal(request: Any) -> bool:
    return False


def limit_of(request: Any) -> str:
    return "3/minute"


def cost(request: Any) -> int:
    return 7


class Costs:
    @staticmethod
    def of_upload(request: Any) -> int:
        return 11 if request else 12


async def cost_async(request: Any) -> int:
    return 7


def answer(request: Any, decision: Any) -> Any:
    return None


def spare(request: Any) -> int:
    return 1
