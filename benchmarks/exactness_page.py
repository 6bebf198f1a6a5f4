"""The page that `make exactness` writes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Final

from benchmarks.crowd import CROWD_S, PROCESSES
from benchmarks.ideals import Bounds
from benchmarks.peers import LEFT_OUT, OURS, PEER_ENTRIES, Quota
from benchmarks.schedules import (
    CROWD,
    DRIP,
    DRIP_KEYS,
    DRIP_S,
    DRIP_SHARE,
    FLOOD,
    FLOOD_LEAD_S,
    FLOOD_S,
    FLUSH,
    FLUSH_EVERY_S,
    FLUSH_S,
    IDLE,
    IDLE_CALLS,
    IDLE_S,
    TIERS_ASKED,
    TIERS_NARROW,
    TIERS_WIDE,
    Outcome,
    Quotas,
)
from benchmarks.told import A_MOMENT_US, QUOTA, ROUNDS, Promises


def quota_text(quota: Quota) -> str:
    return f"{quota.tokens:,} per {f'{quota.per_s} s' if quota.per_s > 1 else 'second'}"


def limits_text(quotas: Quotas) -> str:
    bucket = f"{quota_text(quotas.bucket)} with a burst of {quotas.bucket.capacity:,}"
    return f"Buckets: {bucket}. Windows and logs: {quota_text(quotas.window)}."


TITLES: Final = {
    "flood": "As fast as possible",
    "idle": "After idling",
    "drip": "Just under the limit",
    "flush": "Scripts forgotten",
    "tiers": "Three tiers, one of them full",
    "crowd": f"{PROCESSES} processes at once",
    "told": "Is it true when to come back?",
}

STORIES: Final = {
    "flood": (
        f"{limits_text(FLOOD)} One caller asks without a pause for {FLOOD_S} s, from {FLOOD_LEAD_S} s before a whole "
        "second on, so that windows show an edge. A token takes 666⅔ µs, which is no whole number of anything. "
        "(We are asked more often, since we repeat a denial from memory for as long as it holds.) "
        "*Largest burst*: the least burst that what was admitted is consistent with, in any interval. Around the edge "
        "of a fixed window it is more than the limit: that is what a fixed window is, and no fault of a library."
    ),
    "idle": (
        f"{limits_text(IDLE)} {IDLE_CALLS:,} requests at once, {IDLE_S} s of silence, and {IDLE_CALLS:,} more. "
        "*After idling*: what was admitted of the second lot. A bucket has earned little meanwhile, a window nothing."
    ),
    "drip": (
        f"{limits_text(DRIP)} {DRIP_KEYS} keys take turns, each at {DRIP_SHARE:.0%} of its rate, for {DRIP_S:.0f} s, "
        "all libraries side by side. A bucket, a fixed window and a log deny nothing here. A sliding window of two "
        "counters may, since it takes the last window to have been spent evenly; ours rounds that against the caller, "
        "so that it never lets more through than it promises, and others in the caller's favour."
    ),
    "flush": (
        f"{limits_text(FLUSH)} One caller asks without a pause for {FLUSH_S} s, and every {FLUSH_EVERY_S} s the server "
        "is told to forget all scripts, as it does when it restarts or fails over. An exception that reaches the "
        "caller is an error, and a request that was not admitted."
    ),
    "tiers": (
        f"A user's, an address's and everybody's limit: two of them {TIERS_WIDE} per day, one {TIERS_NARROW}. "
        f"{TIERS_ASKED} requests ask for all three; {TIERS_NARROW} go through. Then what is left in the two "
        "wide ones is counted: a request that is denied should have spent nothing in them. Each tier is the narrow one "
        "once, and *left* is the sum. A library without groups is asked for one tier after the other, as far as each "
        "admits: the usual way, and what the earlier ones admitted is spent when a later one denies."
    ),
    "crowd": (
        f"{limits_text(CROWD)} {PROCESSES} processes ask for one key without a pause, for {CROWD_S} s. "
        "*Largest burst* as above."
    ),
}

TOLD: Final = (
    f"A limit of {quota_text(QUOTA)}. On a denial that tells when to come back, the same is asked again "
    f"{A_MOMENT_US // 1_000} ms before that instant, when it should still be denied, and at the instant, when it "
    f"should be admitted; {ROUNDS} times over. The instant counts from the end of the call that was denied, the one "
    "before it from its start. Where the earlier request was admitted, too long a time was told, and there is no later "
    "one. There is no earlier one where the time is too short, and it does not count where we came too late for it. "
    "`limits` tells the time in a second round trip, the others in the answer."
)

CAUSES: Final = {
    ("throttled-py", "token bucket"): (
        "its clock is one of whole seconds, and each request throws away the fraction of a token that was earned. Its "
        "key expires after `floor(2 * burst / rate)` seconds; where that is 0, each request finds a full bucket"
    ),
    ("throttled-py", "leaking bucket"): (
        "its clock is one of whole seconds: tokens come back a second's worth at a time, and a small burst has no room "
        "for them. Fractions are thrown away"
    ),
    ("throttled-py", "sliding window"): "its clock is one of milliseconds, rounded down, and the caller's",
    ("pyrate-limiter", "GCRA"): (
        "its token is a whole number of microseconds, rounded up, and its clock one of milliseconds: a little slower"
    ),
    ("pyrate-limiter", "fixed window"): (
        "its bucket does not load its script again: after a flush, every call raises `NoScriptError`, for good"
    ),
    ("pyrate-limiter", "sliding log"): "the same",
    ("distributed-rate-limiter", "token bucket"): (
        "its key expires after twice the period, however long the bucket takes to fill: then there is a free burst"
    ),
    ("steindamm", "token bucket"): "each refill throws away the fraction of a token that was earned",
    ("redis-rate-limiters", "token bucket"): (
        "it is made for callers that wait. One that will not has its place in the queue taken all the same: what is "
        "denied is spent, and under load nothing is left"
    ),
}
"""What their sources show, where something is not exact."""

HEAD: Final = """# Exactness

Does a limiter admit what it should? Headgate and its peers, asked the same, on a real server. This page and its picture
are written by `make exactness`, which takes about two minutes; the numbers below are of one run.

![How many times the ideal each library admits, in six schedules](exactness.svg)
"""

IDEAL: Final = """## The ideal

Each number is held against what a **correct limiter of the same algorithm** would have admitted, at the very instants
of these requests. A caller knows no instant exactly, only that the decision fell between the start and the end of its
call, by a clock that the server shares. So the ideal is a pair of bounds, and what lies within them is exact: a ratio
of 1.00. Outside, the ratio is the one to the nearer bound. How the bounds are computed, and why they are rigorous, is
in [`benchmarks/ideals.py`](../../benchmarks/ideals.py); the test suite holds headgate against the same bounds by the
server's own clock, where they leave no room.

- **Token bucket, GCRA, leaking bucket**: in every interval of length *t* at most `burst + rate × t`, and no request is
  denied that this leaves room for.
- **Fixed window**: at most the limit in each window, and nothing is denied before. Windows lie on the epoch's grid, or
  begin with the first request, whichever the library has. Twice the limit around an edge is exact.
- **Sliding window**: at most the limit in this window and the share of the last one still in view, rounded up
  (headgate) or down (the others).
- **Sliding log**: at most the limit in every interval of the period, and nothing is denied before.
"""


def page(facts: dict[str, str], found: dict[str, list[Outcome]], promises: list[Promises]) -> str:
    """The whole page."""
    parts = [HEAD, _summary(found), _causes(found), IDEAL]
    parts += [_section(name, outcomes) for name, outcomes in found.items()]
    titles, rows = promises_table(promises)
    for row, each in zip(rows, promises, strict=True):
        row[0] = f"**{row[0]}**" if each.entry.library == OURS else row[0]
    parts += [f"## {TITLES['told']}\n\n{_filled(TOLD)}\n\n{_table(titles, rows, 2)}", _setting(facts)]
    return "\n".join(parts)


def ratio_text(outcome: Outcome) -> str:
    """A ratio in as many digits as it takes to see that it is not 1."""
    ratio = outcome.ratio
    if outcome.is_exact:
        return "1.00"
    for digits in (2, 3, 4):
        text = f"{ratio:.{digits}f}"
        if float(text) not in (0.0, 1.0):
            return text
    return f"{ratio:.5f}"


def shown(bounds: Bounds) -> str:
    if bounds.least == bounds.most:
        return f"{bounds.least:,}"
    return f"{bounds.least:,} to {bounds.most:,}"


def _summary(found: dict[str, list[Outcome]]) -> str:
    rows = [[_bold(row[0], row[0].entry.library), row[0].entry.algorithm, *map(_cell, row)] for row in _rows(found)]
    titles = [f"[{TITLES[name].lower()}](#{TITLES[name].lower().replace(',', '').replace(' ', '-')})" for name in found]
    legend = (
        "Admitted, as a multiple of the ideal. **Bold** is not exact: above 1 lets too much through, below 1 denies "
        "what should be admitted. ⚠ some calls raised an exception."
    )
    return f"{_table(['library', 'algorithm', *titles], rows, 2)}\n{_filled(legend)}\n"


def _rows(found: dict[str, list[Outcome]]) -> Iterable[tuple[Outcome, ...]]:
    return zip(*found.values(), strict=True)


def _bold(outcome: Outcome, text: str) -> str:
    return f"**{text}**" if outcome.entry.library == OURS else text


def _cell(outcome: Outcome) -> str:
    text = ratio_text(outcome)
    return (text if outcome.is_exact else f"**{text}**") + (" ⚠" if outcome.errors else "")


def _causes(found: dict[str, list[Outcome]]) -> str:
    lines = []
    for row in _rows(found):
        entry = row[0].entry
        off = [name for name, each in zip(found, row, strict=True) if name != "tiers" and not each.is_exact]
        if off and (cause := CAUSES.get((entry.library, entry.algorithm))):
            lines.append(_filled(f"- {entry.library}, {entry.algorithm}: {cause}.", "  "))
    tiers = "- Three tiers: a library without groups spends in the first ones what a later one denies."
    return "\n".join(["What is behind it, as their sources show:\n", *lines, tiers, ""])


def promises_table(promises: list[Promises]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of what was told."""
    titles = ["library", "algorithm", "told last", "a moment before: denied", "then: admitted"]
    rows = [
        [
            each.entry.library,
            each.entry.algorithm,
            f"{each.told_s:.6f} s",
            f"{each.exact} of {each.before}" if each.before else "",
            f"{each.kept} of {each.then}" if each.then else "",
        ]
        for each in promises
    ]
    return titles, rows


def _section(name: str, outcomes: list[Outcome]) -> str:
    notes = list(outcomes[0].notes)
    rows = [
        [
            _bold(each, each.entry.library),
            each.entry.algorithm,
            f"{each.asked:,}",
            f"{each.admitted:,}",
            shown(each.ideal),
            _cell(each),
            *(each.notes[note] for note in notes),
            ", ".join(f"{count:,} {error}" for error, count in each.errors.items()),
        ]
        for each in outcomes
    ]
    titles = [
        "library",
        "algorithm",
        "asked",
        "left" if name == "tiers" else "admitted",
        "ideal",
        "ratio",
        *notes,
        "errors",
    ]
    if not any(each.errors for each in outcomes):
        titles.pop()
        rows = [row[:-1] for row in rows]
    return f"## {TITLES[name]}\n\n{_filled(STORIES[name])}\n\n{_table(titles, rows, 2)}"


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _table(titles: list[str], rows: list[list[str]], left: int) -> str:
    """The first `left` columns are words, the others numbers."""
    rules = ["---"] * left + ["---:"] * (len(titles) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (titles, rules, *rows))


def _setting(facts: dict[str, str]) -> str:
    left_out = {**LEFT_OUT}
    for entry in PEER_ENTRIES:
        if not entry.admits_at_once:
            left_out[entry.library] = entry.remark
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines.append("- again: `make exactness`, or `make exactness ARGS='--only flood'` for one schedule")
    lines.append("- each library is used as its own documentation says; async ones in an event loop, call by call")
    out = [f"- {name}: {why}" for name, why in left_out.items()]
    return "## The setting\n\n" + "\n".join(lines) + "\n\nNot here:\n\n" + "\n".join(out) + "\n"
