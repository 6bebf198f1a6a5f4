"""Slots are held until a call has ended, however it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from headgate import MemoryStore
from headgate.grpc import GrpcCall
from headgate.rules import Rule
from tests.grpc.serving import GRPC_LEAVES_A_COROUTINE, PATIENCE, Serve, Served
from tests.servers import eventually

pytestmark = GRPC_LEAVES_A_COROUTINE

METHODS = ("One", "Out", "In", "Both")


def slots(serve: Serve, number: int = 1, **options: Any) -> Served:
    return serve(Rule(f"concurrency {number}", name="slots", key="*"), store=MemoryStore(), **options)


def wait_for(served: Served, started: int) -> None:
    eventually(lambda: served.service.started == started, "the handler is at work")


def come_back(served: Served) -> None:
    eventually(lambda: served.codes(1) == ["OK"], "the slot is free")


def is_aborted(served: Served, method: str) -> bool:
    return served.call(method, b"abort").code.name == "NOT_FOUND"


def has_stopped(served: Served, number: int) -> bool:
    return served.service.stopped == number


@pytest.mark.parametrize("method", METHODS)
def test_a_slot_is_held_while_a_call_lasts(serve: Serve, method: str) -> None:
    served = slots(serve, 2)
    calls = [served.start(method, b"wait") for _ in range(2)]
    wait_for(served, 2)
    for other in METHODS:
        denied = served.call(other, b"hello")
        assert denied.code.name == "RESOURCE_EXHAUSTED"
        assert "at the same time (slots)" in denied.details
    served.service.gate.set()
    is_unary = method in ("One", "In")
    assert [served.end(call, is_unary=is_unary).code.name for call in calls] == ["OK", "OK"]
    assert served.codes(1) == ["OK"]


@pytest.mark.parametrize("method", METHODS)
def test_who_has_the_last_answer_finds_the_slot_free(serve: Serve, method: str) -> None:
    assert slots(serve).codes(30, method) == ["OK"] * 30


@pytest.mark.parametrize("method", METHODS)
def test_a_slot_comes_back_after_an_error(serve: Serve, method: str) -> None:
    assert slots(serve).codes(5, method, b"fail") == ["UNKNOWN"] * 5


def test_a_slot_comes_back_after_an_abort(serve: Serve, kind: str) -> None:
    served = slots(serve)
    for method in ("One", "In") if kind == "threads" else METHODS:
        for _ in range(3):
            # On asyncio an abort answers at once, and the handler ends a moment later.
            eventually(partial(is_aborted, served, method), "it is free")


@pytest.mark.parametrize("method", METHODS)
def test_a_cancelled_call_holds_its_slot_for_as_long_as_its_handler_works(serve: Serve, kind: str, method: str) -> None:
    served = slots(serve)
    call = served.start(method, b"wait")
    wait_for(served, 1)
    call.cancel()
    if kind == "asyncio":  # the handler is cancelled, too
        come_back(served)
        return
    assert served.codes(3) == ["RESOURCE_EXHAUSTED"] * 3  # a thread cannot be interrupted
    served.service.gate.set()
    come_back(served)


@pytest.mark.parametrize("method", METHODS)
def test_a_call_past_its_deadline_holds_its_slot_likewise(serve: Serve, kind: str, method: str) -> None:
    served = slots(serve)
    call = served.start(method, b"wait", timeout=0.3)
    wait_for(served, 1)
    assert served.end(call, is_unary=method in ("One", "In")).code.name == "DEADLINE_EXCEEDED"
    served.service.gate.set()
    come_back(served)


def test_a_stream_that_is_cancelled_as_it_flows_gives_its_slot_back(serve: Serve, kind: str) -> None:
    served = slots(serve)
    for number in range(1, 6):
        call = served.start("Out", b"flow")
        for _ in range(5):
            next(call)
        assert served.codes(1, "Both") == ["RESOURCE_EXHAUSTED"]
        call.cancel()
        come_back(served)
        if kind != "threads":  # there, gRPC leaves the thread of a stream that nobody takes waiting for ever
            eventually(partial(has_stopped, served, 2 * number), "the handler has ended")


def test_a_client_that_sends_no_more_and_goes_gives_its_slot_back(serve: Serve) -> None:
    served = slots(serve)
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"hello"
        over.wait(PATIENCE)

    call = served.start("Both", requests())
    assert next(call) == b"hello"
    assert served.codes(1) == ["RESOURCE_EXHAUSTED"]
    call.cancel()
    over.set()
    come_back(served)


def test_a_call_that_is_denied_gives_back_what_its_other_limits_took(serve: Serve) -> None:
    served = serve(
        Rule("3/hour", name="some", key="*"),
        Rule("concurrency 1", name="slots", key="*", on_outage="closed"),
        store=MemoryStore(),
    )
    call = served.start("One", b"wait")
    wait_for(served, 1)
    assert served.codes(5) == ["RESOURCE_EXHAUSTED"] * 5
    served.service.gate.set()
    assert served.end(call, is_unary=True).code.name == "OK"
    assert served.codes(3) == ["OK", "OK", "RESOURCE_EXHAUSTED"]


def test_a_call_may_wait_for_its_turn(serve: Serve) -> None:
    served = serve(Rule("20/second; burst=1", name="queue", wait=5, key="*"))
    assert served.codes(3) == ["OK"] * 3


def test_a_function_that_fails_takes_nothing(serve: Serve) -> None:
    def cost(call: GrpcCall) -> int:
        if call.request == b"bad":
            raise ValueError("no cost")
        return 1

    served = serve(Rule("2/hour", name="c", key="*"), Rule("2/hour", name="d", key="*", cost=cost))
    assert served.codes(5, "One", b"bad") == ["UNKNOWN"] * 5
    assert served.codes(3) == ["OK", "OK", "RESOURCE_EXHAUSTED"]
