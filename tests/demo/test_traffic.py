"""The verdict on the demo's traffic: which numbers are right, and that wrong ones are noticed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from headgate import parse_limit
from headgate.demo import DemoError
from headgate.demo.board import Board, tell
from headgate.demo.fleet import Fleet
from headgate.demo.traffic import Answer, Story, number, play, token_bucket

PASSED = Answer("alice", "instance-1", 200, 3, None)
DENIED = Answer("alice", "instance-2", 429, 0, 5)


def story(passed: int, denied: int, *, seconds: float = 2.0, debt_us: int = 0, remaining: int = 10) -> Story:
    answers = [PASSED] * passed + [DENIED] * denied
    return Story("alice", parse_limit("10/minute"), remaining, debt_us, 100.0, 100.0 + seconds, answers)


@pytest.mark.parametrize(
    ("told", "bounds"),
    [
        (story(10, 5), (10, 10)),
        (story(10, 5, seconds=5.9), (10, 10)),
        (story(10, 5, seconds=6.0), (10, 11)),
        (story(10, 5, seconds=13), (10, 12)),
        (story(10, 5, seconds=1000), (10, 15)),
        (story(5, 0), (5, 5)),
        (story(0, 15, debt_us=60_000_000, remaining=0), (0, 0)),
        (story(0, 15, debt_us=58_000_001, remaining=0, seconds=3.9), (0, 0)),
        (story(0, 15, debt_us=58_000_000, remaining=0, seconds=4.1), (0, 1)),
        (story(3, 12, debt_us=40_000_000, remaining=3, seconds=1), (3, 3)),
    ],
)
def test_what_may_pass(told: Story, bounds: tuple[int, int]) -> None:
    assert told.bounds == bounds
    assert told.problems == []


@pytest.mark.parametrize(
    "told",
    [story(11, 4), story(9, 6), story(15, 0), story(12, 3, seconds=7), story(4, 11, debt_us=40_000_000, remaining=3)],
)
def test_too_many_or_too_few_are_noticed(told: Story) -> None:
    assert "should have" in told.problems[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Answer("alice", "instance-3", 503, None, None), "instance-3 answered 503"),
        (Answer("alice", "instance-3", 429, 0, None), "without a Retry-After"),
        (Answer("alice", "instance-3", 429, None, 4), "without X-RateLimit-Remaining"),
    ],
)
def test_wrong_answers_are_noticed(wrong: Answer, words: str) -> None:
    told = story(10, 4)
    told.answers.append(wrong)

    assert words in told.problems[0]


def test_the_summary_says_what_happened_and_its_code_whether_that_is_right() -> None:
    written = io.StringIO()
    board = Board(Console(file=written, width=120), Fleet(Path()), ["alice"])

    assert board.summary([story(10, 5)]) == 0
    assert "Exactly 10 of 15 passed" in written.getvalue()
    assert board.summary([story(11, 4)]) == 1
    assert "WRONG" in written.getvalue()
    assert "11 requests passed, where 10 should have" in written.getvalue()


def test_on_a_terminal_the_table_fills_in_place() -> None:
    written = io.StringIO()
    console = Console(file=written, width=120, force_terminal=True, color_system=None)
    with Board(console, Fleet(Path()), ["alice"]) as board:
        for answer in (PASSED, DENIED, PASSED):
            board.see(answer)
            drawn = written.getvalue()
            assert board.words(answer) in drawn or answer.instance not in drawn

    assert "●●✗" in written.getvalue()
    assert "\x1b[" in written.getvalue()


async def test_who_comes_back_too_soon_is_judged_by_what_was_left(fleet: Fleet, prefix: str) -> None:
    told: list[str] = []
    seen: list[Answer] = []
    for _ in range(2):
        stories = await play(fleet, seen.append, alice=f"{prefix}-a", bob=f"{prefix}-b", pace=0)
        assert [problem for story in stories for problem in story.problems] == []
        told += [tell(story, 3) for story in stories]

    assert "10 passed, 5 were denied" in told[0]
    assert "5 passed, none was denied" in told[1]
    assert "0 of 10 left from before" in told[2]
    assert "left from before" in told[3]


def test_a_story_that_began_before_is_told_so() -> None:
    assert tell(story(0, 15, debt_us=60_000_000, remaining=0), 3) == (
        "alice had 0 of 10 left from before and sent 15 requests to 3 instances: 0 passed, "
        "15 were denied (429, Retry-After: 5 s)."
    )


def test_only_a_token_bucket_will_do() -> None:
    assert str(token_bucket("10/minute")) == "10/minute"
    with pytest.raises(DemoError, match="token bucket"):
        token_bucket("concurrency 5")


def test_a_header_that_is_no_number_is_none() -> None:
    assert [number(text) for text in ("7", "x", "", None)] == [7, None, None, None]
