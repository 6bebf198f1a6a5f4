"""Waiting across processes: in order of arrival, spaced by the rate, with one round trip each."""

from __future__ import annotations

from tests.faults.processes import run_in_processes
from tests.faults.workers import Turn, wait_in_tasks, wait_in_threads
from tests.servers import own_valkey


def test_fifty_waiters_of_four_processes_are_served_in_order_and_spaced_by_the_rate() -> None:
    limit = "20/second; burst=1"
    with own_valkey() as server:
        work = [
            (wait_in_threads, (server.url, limit, 12)),
            (wait_in_tasks, (server.url, limit, 13)),
            (wait_in_threads, (server.url, limit, 12)),
            (wait_in_tasks, (server.url, limit, 13)),
        ]
        turns: list[Turn] = sorted(turn for turns in run_in_processes(work) for turn in turns)
        calls = server.calls()
    assert len(turns) == 50
    # Sorted by arrival; those who arrived in one microsecond are told apart by their turns.
    expected: list[int] = []
    for turn in turns:
        expected.append(max(turn.arrived, expected[-1] + 50_000) if expected else turn.arrived)
    assert [turn.turn for turn in turns] == expected
    # Nobody goes before its turn; one clock may be slewed against the other, so leave them some milliseconds.
    assert all(turn.woken > turn.turn - 5_000 for turn in turns)
    # A round trip each at most (those who ask at once share one), beside the peeks that warmed the processes up.
    assert calls["evalsha"] - calls["eval"] <= 50 + 4
    assert calls["eval"] <= 4
