"""Each fault once, in mid-traffic, on each store: what callers saw, for how long, and what was forgotten.

    python -m tests.faults.table [--only TEXT] [--write]    (make faults)

Threads and tasks ask all the time while a fault begins, lasts for a moment and ends. `--write` writes docs/faults.md.
"""

from __future__ import annotations

import argparse
import logging
import re
import time
from pathlib import Path
from typing import Final, NamedTuple

from _pytest.outcomes import OutcomeException

from headgate.stores.registry import open_store
from tests.faults.catalogue import FAULTS, LASTS_S, Fault
from tests.faults.traffic import Traffic, traffic

TIMEOUT_S: Final = 0.25
PAGE: Final = Path(__file__).parents[2] / "docs" / "faults.md"


class Seen(NamedTuple):
    """What became of it."""

    problems: str
    """What callers were told, in a few words."""
    beyond_ms: float
    """How long the longest call took beyond its deadline."""
    normal_after_s: float
    """From its end until all are answered again."""
    answered: int
    forgotten: int
    """Of the spends that were answered, how many the store does not know of in the end."""


def befall(fault: Fault) -> Seen:
    """Let it happen."""
    with fault.serve() as (url, victim):
        store = open_store(url, timeout=TIMEOUT_S, remember_denials=0)
        with traffic(store) as flowing:
            flowing.flows()
            end = fault.begin(victim)
            time.sleep(fault.lasts_s)
            end()
            ended_s = time.monotonic()
            flowing.flows()
        known = flowing.count()
        store.close()
    return seen(flowing, ended_s, known)


def seen(flowing: Traffic, ended_s: float, known: int) -> Seen:
    """Sum up what callers saw."""
    late = [call.ended_s for call in flowing.outages if call.ended_s > ended_s]
    told: dict[str, int] = {}
    for call in flowing.outages:
        words = _in_short(call.problem)
        told[words] = told.get(words, 0) + 1
    problems = "; ".join(sorted(told, key=told.__getitem__, reverse=True)[:3])
    return Seen(
        problems or "nothing",
        max(0.0, flowing.longest_s - TIMEOUT_S) * 1_000,
        max(0.0, max(late, default=ended_s) - ended_s),
        len(flowing.answered),
        max(0, len(flowing.answered) - known),
    )


def _in_short(problem: str) -> str:
    problem = re.sub(r"^store \S+: ", "", problem)
    problem = re.sub(r"for another [\d.]+ s", "for a while", problem)
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", problem)[:140]


def _cells(fault: Fault) -> str:
    """What became of it, or why it could not be let happen."""
    try:
        found = befall(fault)
    except OutcomeException as lacking:  # a program of the system's packages
        return f"not run: {lacking} | | | |"
    return (
        f"{found.problems.replace('|', '/')} | {found.beyond_ms:.0f} | {found.normal_after_s:.2f} | "
        f"{found.answered:,} | {found.forgotten:,}"
    )


HEAD: Final = f"""# Faults

Each fault once, in the middle of traffic: two threads and eight tasks ask all the time with a deadline of
{TIMEOUT_S:g} s, while it begins, lasts for {LASTS_S:g} s and ends. `make faults ARGS=--write` lets them happen again,
and writes this page. Times are of one run on a shared machine. How to choose what callers get meanwhile:
[outages](outages.md).

- **Told**: the outages that callers met, most frequent first; "nothing" where none did.
- **Beyond**: how long the longest call took beyond its deadline.
- **Normal after**: from the fault's end until the last outage. A breaker that is open asks once in half a second.
- **Forgotten**: of the spends that were answered, those that the store does not know of in the end.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Each fault once, in mid-traffic.")
    parser.add_argument("--only", default="", help="those with this text in their store or name")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    arguments = parser.parse_args()
    for logger in ("headgate", "nats"):
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    lines = ["| store | fault | told | beyond, ms | normal after, s | answered | forgotten |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    print("\n".join(lines))
    for fault in FAULTS:
        if arguments.only.lower() in f"{fault.store} {fault.name}".lower():
            lines.append(f"| {fault.store} | {fault.name} | {_cells(fault)} |")
            print(lines[-1], flush=True)
    if arguments.write:
        PAGE.write_text(HEAD + "\n".join(lines) + "\n")
        print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
