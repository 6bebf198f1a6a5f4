"""How it is learnt where the primary is, whatever the sentinels say."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.drive import drive
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.plans.sentinel import ASK_FOR_ROLE, Succession, is_primary
from headgate.plans.topology import Address, TimeIsUp

ONE, TWO, THREE = (Address(f"s{number}", 26379) for number in (1, 2, 3))
OLD, NEW = Address("10.0.0.1", 6379), Address("10.0.0.2", 6379)
SILENT = StoreUnavailable("sentinel s1:26379", "it cannot be reached")


def says(address: Address, *, flags: str = "master", watched: Address | None = None) -> list[Any]:
    """What a sentinel replies: where the primary is, and how the one that it watches is doing."""
    host, port = watched or address
    told = ["name", "limits", "ip", host, "port", str(port), "flags", flags]
    return [[address.host.encode(), str(address.port).encode()], [part.encode() for part in told]]


def learn(succession: Succession, replies: dict[Address, Any]) -> list[Address]:
    """Learn from these replies, and tell who was asked."""
    asked: list[Address] = []

    def ask(address: Address) -> Any:
        asked.append(address)
        return replies[address]

    drive(succession.learning("redis+sentinel://s"), ask)
    return asked


@pytest.fixture
def succession() -> Succession:
    return Succession([ONE, TWO, THREE], "limits")


def test_the_first_sentinel_that_answers_names_the_primary(succession: Succession) -> None:
    assert succession.primary() is None
    assert learn(succession, {ONE: SILENT, TWO: says(OLD)}) == [ONE, TWO]
    assert succession.primary() == OLD
    assert not succession.is_doubtful


def test_who_did_not_answer_is_asked_last_the_next_time(succession: Succession) -> None:
    learn(succession, {ONE: SILENT, TWO: says(OLD)})
    assert learn(succession, {TWO: SILENT, THREE: SILENT, ONE: says(NEW)}) == [TWO, THREE, ONE]
    assert succession.primary() == NEW


def test_a_doubt_is_raised_by_a_failure_and_settled_by_an_answer(succession: Succession) -> None:
    learn(succession, {ONE: says(OLD)})
    succession.failed()
    assert succession.is_doubtful
    learn(succession, {ONE: says(NEW)})
    assert (succession.primary(), succession.is_doubtful) == (NEW, False)


def test_if_no_sentinel_answers_what_was_not_doubted_is_not_doubted_for_that(succession: Succession) -> None:
    learn(succession, {ONE: says(OLD)})
    with pytest.raises(StoreUnavailable):
        learn(succession, {ONE: SILENT, TWO: SILENT, THREE: SILENT})
    assert (succession.primary(), succession.is_doubtful) == (OLD, False)


def test_if_no_sentinel_answers_what_was_known_holds(succession: Succession) -> None:
    learn(succession, {ONE: says(OLD)})
    succession.failed()
    with pytest.raises(StoreUnavailable, match=r"no sentinel answers: .* The last was sentinel s1:26379: it cannot be"):
        learn(succession, {ONE: SILENT, TWO: SILENT, THREE: SILENT})
    assert (succession.primary(), succession.is_doubtful) == (OLD, True)


@pytest.mark.parametrize("flags", ["s_down,master", "s_down,o_down,master", "master,o_down,failover_in_progress"])
def test_a_primary_that_is_down_is_none_until_another_is_named(succession: Succession, flags: str) -> None:
    learn(succession, {ONE: says(OLD)})
    with pytest.raises(StoreUnavailable, match=r"no primary now: .*10\.0\.0\.1:6379 is down.*\(MasterNotFoundError\)"):
        learn(succession, {ONE: says(OLD, flags=flags), TWO: says(OLD, flags=flags), THREE: SILENT})
    assert (succession.primary(), succession.is_doubtful) == (None, True)
    assert learn(succession, {THREE: SILENT, ONE: says(NEW, flags=flags, watched=OLD)})  # it has been promoted
    assert succession.primary() == NEW


def test_another_sentinel_may_find_up_what_one_finds_down(succession: Succession) -> None:
    assert learn(succession, {ONE: says(OLD, flags="master,s_down"), TWO: says(OLD)}) == [ONE, TWO]
    assert succession.primary() == OLD


def test_a_service_that_nobody_knows_is_named(succession: Succession) -> None:
    unknown = [None, StoreUnavailable("sentinel", "ERR No such master with that name")]
    with pytest.raises(StoreUnavailable, match="do not know the service 'limits': check its name in the URL"):
        learn(succession, {ONE: unknown, TWO: unknown, THREE: SILENT})


@pytest.mark.parametrize(
    "reply",
    [
        [b"+PONG", b"x"],
        [[b"h"], []],
        [[b"h", b"x"], [b"a"]],
        [[b"h", b"1"], None],
        [7, 7],
        [[b"h", b"1"], [b"ip", b"h"]],
    ],
    ids=str,
)
def test_an_answer_that_is_not_understood_is_an_outage(succession: Succession, reply: list[Any]) -> None:
    with pytest.raises(StoreOutage, match="its answer is not understood: is this a sentinel"):
        learn(succession, dict.fromkeys((ONE, TWO, THREE), reply))


def test_who_has_no_time_left_is_told(succession: Succession) -> None:
    with pytest.raises(StoreUnavailable, match="there was no time to ask a sentinel"):
        learn(succession, {ONE: TimeIsUp()})
    assert succession.is_doubtful


def test_what_interrupts_the_learning_leaves_it_doubtful(succession: Succession) -> None:
    plan = succession.learning("redis+sentinel://s")
    next(plan)
    with pytest.raises(KeyboardInterrupt):
        plan.throw(KeyboardInterrupt())
    assert succession.is_doubtful


def test_addresses_may_be_mapped_to_those_by_which_we_reach_the_servers() -> None:
    succession = Succession([ONE], "limits", lambda address: ("localhost", address[1] + 1))
    learn(succession, {ONE: says(OLD)})
    assert succession.primary() == Address("localhost", 6380)


def test_the_question_is_two_commands_in_the_servers_protocol() -> None:
    question, replies = Succession([ONE], "größe").question
    assert replies == 2
    assert question == (
        b"*3\r\n$8\r\nSENTINEL\r\n$23\r\nGET-MASTER-ADDR-BY-NAME\r\n$7\r\n" + "größe".encode() + b"\r\n"
        b"*3\r\n$8\r\nSENTINEL\r\n$6\r\nMASTER\r\n$7\r\n" + "größe".encode() + b"\r\n"
    )
    assert ASK_FOR_ROLE == b"*1\r\n$4\r\nROLE\r\n"


def test_only_a_primary_says_that_it_is_one() -> None:
    assert is_primary([b"master", 0, []])
    assert not any(is_primary(role) for role in ([b"slave", b"h", 1, b"connected", 0], [b"sentinel", []], [], None, 7))
