"""Trying all orders in which things can happen."""

from __future__ import annotations

from collections.abc import Callable

Choose = Callable[[int], int]
"""Which of so many possibilities happens next, by its index."""


def explore(run: Callable[[Choose], None]) -> int:
    """Run something once for each sequence of choices that it can make, and return how many there are."""
    script: list[int] = []
    runs = 0
    while True:
        trail: list[tuple[int, int]] = []

        def choose(possibilities: int, script: list[int] = script, trail: list[tuple[int, int]] = trail) -> int:
            choice = script[len(trail)] if len(trail) < len(script) else 0
            trail.append((choice, possibilities))
            return choice

        run(choose)
        runs += 1
        while trail and trail[-1][0] == trail[-1][1] - 1:
            trail.pop()
        if not trail:
            return runs
        script = [*[choice for choice, _ in trail[:-1]], trail[-1][0] + 1]
