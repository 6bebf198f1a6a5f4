"""States as flat text: what is read back is the same state, on which all is decided as on the one that was written."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headgate.algorithms import concurrency, fixed_window, penalty, sliding_log, sliding_window, token_bucket
from headgate.algorithms.token_bucket_notes import Notes
from headgate.hits import Action
from tests.algorithms.playing import play
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import KINDS, Lane, Step, lanes, queues, steps
from tests.profiles import quickly

ALGORITHMS: dict[str, Any] = {
    "tb": token_bucket,
    "fw": fixed_window,
    "sw": sliding_window,
    "sl": sliding_log,
    "cc": concurrency,
    "pn": penalty,
}
ACTIONS: tuple[Action, ...] = ("spend", "spend", "spend", "peek", "give_back", "take", "renew", "forget")
NOW = 1_800_000_000_000_000


def read_back(code: str, state: Any) -> Any:
    """The state from its text."""
    text = ALGORITHMS[code].dump(state)
    assert "\n" not in text
    return ALGORITHMS[code].load(text)


def flat(state: Any) -> Any:
    """All that a state says, in a form that can be compared."""
    if isinstance(state, sliding_log.State):
        return state.hits(), state.total
    if isinstance(state, concurrency.State):
        return state.slots, sorted(state.order)
    return state


def assert_that_texts_do(among: list[Lane], drawn: list[Step]) -> None:
    """Play a schedule; each of its groups is decided, besides, on the texts of the states that there are."""
    reference, of_texts = Reference(), Reference()
    before: dict[Any, Any] = {}
    for played in play(among, drawn, reference):
        of_texts.states = {address: read_back(address[2], state) for address, state in before.items()}
        of_texts.expiries = {}
        decision = of_texts.decide(played.group, played.now_us)
        assert (decision.allowed, decision.facts) == (played.decision.allowed, played.decision.facts), played
        states = {address: flat(state) for address, state in reference.states.items()}
        assert {address: flat(state) for address, state in of_texts.states.items()} == states, played
        assert {address: flat(read_back(address[2], state)) for address, state in reference.states.items()} == states
        before = copy.deepcopy(reference.states)


@st.composite
def schedules(draw: st.DrawFn, kind: str) -> tuple[list[Lane], list[Step]]:
    among = draw(lanes(kinds=[kind], most_limits=2, most_lanes=2))
    return among, draw(steps(among, actions=ACTIONS, may_go_back=True))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=quickly(60))
@given(data=st.data())
def test_all_is_decided_on_the_text_of_a_state_as_on_the_state(kind: str, data: st.DataObject) -> None:
    assert_that_texts_do(*data.draw(schedules(kind)))


@settings(max_examples=quickly(60))
@given(queue=queues())
def test_the_notes_of_a_bucket_for_which_many_wait_survive(queue: tuple[list[Lane], list[Step]]) -> None:
    assert_that_texts_do(*queue)


@given(holders=st.lists(st.text(), min_size=1, unique=True))
@example(holders=["", " ", "%20", "%2520", "a b:1\n\0", "\ud800", "0a.60000000"])
def test_slots_keep_the_names_of_their_holders(holders: list[str]) -> None:
    state = None
    for holder in holders:
        _, judged = concurrency.judge(state, NOW, (2, 1_000, 60_000_000, holder), 0)
        state, _, _ = concurrency.spend(judged) or pytest.fail("nobody came in")
    assert flat(read_back("cc", state)) == flat(state)


@given(st.integers(), st.integers(1), st.integers(), st.lists(st.tuples(st.integers(), st.integers())))
def test_numbers_of_any_length_survive(tat: int, rate: int, other: int, spans: list[tuple[int, int]]) -> None:
    for at in range(len(spans) + 1):
        state = tat, rate, Notes(other, tat, other, tat, tuple(spans[:at]), tuple(spans[at:]))
        assert read_back("tb", state) == state


def test_the_text_of_a_plain_bucket_is_little_more_than_its_number() -> None:
    assert token_bucket.dump((NOW, 1, None)) == f"1 {NOW} 1"


WRITTEN = {
    "tb": "1 5400000000000000 3 7 12 13 14 1 4 5 6 8",
    "fw": "1 1800000000000000 5",
    "sw": "1 1800000000000000 5 2",
    "sl": "1 1799999999999999 2 1800000000000000 5",
    "cc": "1 1799999999999999 b%20c:1 1800000000000000 a.60:1",
    "pn": "1 0 1799999999999999 1800000000000000 1800000000000000",
}


@pytest.mark.parametrize("code", ALGORITHMS)
def test_what_was_written_is_read_by_later_versions(code: str) -> None:
    algorithm = ALGORITHMS[code]
    assert algorithm.dump(algorithm.load(WRITTEN[code])) == WRITTEN[code]


@pytest.mark.parametrize("code", ALGORITHMS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "2" + text[1:],
        lambda text: text[1:],
        lambda text: text + " ",
        lambda text: text + " x",
        lambda text: text + " 1_0",
        lambda text: text.replace(" ", "\n"),
        lambda text: text.replace("1", "\N{ARABIC-INDIC DIGIT ONE}"),
        lambda _: "",
        lambda _: "x" * 1_000_000,
        lambda text: text.replace("0", "5" * 5_000),
    ],
)
def test_what_is_no_state_is_an_error(code: str, spoil: Any) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # its text is looked at below
        ALGORITHMS[code].load(spoil(WRITTEN[code]))
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("tb", "1 5 0"),
        ("tb", "1 5 -3"),
        ("tb", "1 5 3 7 12 13 14 2 4 5"),
        ("tb", "1 5 3 7 12 13 14 -1 4 5"),
        ("tb", "1 5 3 7 12 13 14 1 4 5 6"),
        ("fw", "1 5 -1"),
        ("fw", "1 5"),
        ("sw", "1 5 1 -1"),
        ("sw", "1 5 -1 1"),
        ("sl", "1 5 0"),
        ("sl", "1 6 1 5 1"),
        ("sl", "1 5"),
        ("pn", "1 0"),
        ("pn", "1 -5"),
        ("pn", "1 5 6"),
        ("pn", "1 0 7 6"),
        ("pn", "1 0 -1 6"),
        ("cc", "1 5 a:1 5 a:1"),
        ("cc", "1 5 a:1 6"),
        ("cc", "1 a:1 5"),
    ],
)
def test_numbers_that_make_no_state_are_an_error(code: str, text: str) -> None:
    with pytest.raises(ValueError, match="as this version of headgate writes it"):
        ALGORITHMS[code].load(text)
