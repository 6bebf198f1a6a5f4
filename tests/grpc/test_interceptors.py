"""Calls of gRPC behind their limits: who is admitted, and what clients are told."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from headgate import InvalidUse, ManualClock, MemoryStore
from headgate.grpc import HEALTH, GrpcCall, RateLimitInterceptor
from headgate.grpc import aio as grpc_aio
from headgate.identity import ApiKey, ClientIP, Identity
from headgate.rules import Rule
from tests.grpc.serving import GRPC_LEAVES_A_COROUTINE, Answer, Serve
from tests.servers import free_port

pytestmark = GRPC_LEAVES_A_COROUTINE

METHODS = ("One", "Out", "In", "Both")


def rich(answer: Answer) -> tuple[Status, RetryInfo | None, QuotaFailure | None]:
    status = Status.FromString(answer.metadata["grpc-status-details-bin"])
    retry, quota = RetryInfo(), QuotaFailure()
    has_retry = any(detail.Unpack(retry) for detail in status.details)
    has_quota = any(detail.Unpack(quota) for detail in status.details)
    return status, retry if has_retry else None, quota if has_quota else None


@pytest.mark.parametrize("method", METHODS)
def test_each_kind_of_call_is_limited(serve: Serve, clock: ManualClock, method: str) -> None:
    served = serve("2/minute", store=MemoryStore(clock=clock))
    assert served.codes(3, method) == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    clock.advance(seconds=30)
    assert served.codes(2, method) == ["OK", "RESOURCE_EXHAUSTED"]


def test_messages_are_handed_on_as_they_are(serve: Serve) -> None:
    served = serve("100/minute")
    assert served.call("One", b"a").messages == (b"a",)
    assert served.call("Out", b"a").messages == (b"first", b"last")
    assert served.call("In", b"a", b"b").messages == (b"a+b",)
    assert served.call("Both", b"a", b"b").messages == (b"a", b"b")


@pytest.mark.parametrize("method", METHODS)
def test_a_denied_call_reaches_no_handler(serve: Serve, clock: ManualClock, method: str) -> None:
    served = serve("1/minute", store=MemoryStore(clock=clock))
    served.codes(5, method)
    assert served.service.started == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_denial_says_when_to_come_back(serve: Serve, clock: ManualClock, method: str) -> None:
    served = serve("7/minute; burst=1", store=MemoryStore(clock=clock), name="told")
    served.call(method, b"hello")
    denied = served.call(method, b"hello")
    assert denied.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert denied.details == "Too many requests (default): try again in 9 seconds."
    assert denied.metadata["grpc-retry-pushback-ms"] == "8572"  # rounded up: 60/7 s
    status, retry, quota = rich(denied)
    assert (status.code, status.message) == (8, denied.details)
    assert retry is not None
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (8, 571_429_000)
    assert quota is not None
    assert [violation.subject for violation in quota.violations] == ["default"]


def test_whoever_waits_as_long_as_the_details_say_is_admitted(serve: Serve, clock: ManualClock) -> None:
    served = serve("7/minute; burst=1", store=MemoryStore(clock=clock))
    served.call("One", b"hello")
    _, retry, _ = rich(served.call("One", b"hello"))
    assert retry is not None
    wait_us = retry.retry_delay.seconds * 1_000_000 + retry.retry_delay.nanos // 1000
    clock.advance(seconds=(wait_us - 1) / 1_000_000)
    assert served.codes(1) == ["RESOURCE_EXHAUSTED"]
    clock.advance(seconds=1 / 1_000_000)
    assert served.codes(1) == ["OK"]


def test_each_answer_tells_how_much_is_left(serve: Serve, clock: ManualClock) -> None:
    served = serve("3/minute", store=MemoryStore(clock=clock))
    for left in (2, 1, 0):
        metadata = served.call("One", b"hello").metadata
        assert metadata["ratelimit-policy"] == '"default";q=3;w=60'
        assert metadata["ratelimit"].startswith(f'"default";r={left};')
    assert served.call("Out", b"hello").metadata["retry-after"] == "20"


@pytest.mark.parametrize("method", METHODS)
def test_metadata_tells_it_for_each_kind_of_call(serve: Serve, clock: ManualClock, method: str) -> None:
    served = serve("3/minute", store=MemoryStore(clock=clock))
    assert served.call(method, b"hello").metadata["ratelimit"] == '"default";r=2;t=20'


@pytest.mark.parametrize("method", METHODS)
def test_limits_that_are_switched_off_ask_nothing(serve: Serve, method: str) -> None:
    served = serve("1/minute", store="redis://127.0.0.1:1", enabled=False)
    assert served.codes(3, method) == ["OK"] * 3
    assert "ratelimit" not in served.call(method, b"hello").metadata


def test_older_fields_and_none(serve: Serve) -> None:
    assert serve("3/minute", headers="legacy").call("One", b"").metadata["x-ratelimit-remaining"] == "2"
    assert "ratelimit" not in serve("3/minute", headers=None).call("One", b"").metadata


def test_a_call_that_ends_in_an_error_tells_it_too(serve: Serve, kind: str, clock: ManualClock) -> None:
    served = serve("9/minute", store=MemoryStore(clock=clock))
    for request, code in ((b"fail", "UNKNOWN"), (b"abort", "NOT_FOUND")):
        # A blocking stream on a server of asyncio cannot abort while a message is being sent: gRPC loses the status.
        methods = ("One", "In") if kind == "threads" and request == b"abort" else METHODS
        for method in methods:
            answer = served.call(method, request)
            assert answer.code.name == code
            assert "ratelimit" in answer.metadata


def test_the_metadata_of_a_handler_stays(serve: Serve, kind: str) -> None:
    metadata = serve("9/minute").call("One", b"mark").metadata
    assert metadata["mark"] == "12"
    assert metadata["ratelimit-policy"] == "mine"
    if kind != "threads":  # there, nobody can read what a handler has set
        assert "ratelimit" in metadata


def test_rules_are_about_methods_by_their_full_names_and_services(serve: Serve, clock: ManualClock) -> None:
    served = serve(
        Rule("3/minute", name="one", paths=["/test.Echo/One"]),
        Rule("5/minute", name="service", paths=["/test.Echo/*"]),
        Rule("1/minute", name="other", paths=["/other.Service/*"]),
        store=MemoryStore(clock=clock),
    )
    assert served.codes(4) == ["OK", "OK", "OK", "RESOURCE_EXHAUSTED"]
    assert served.codes(3, "Out") == ["OK", "OK", "RESOURCE_EXHAUSTED"]


def test_several_limits_take_all_or_nothing(serve: Serve, clock: ManualClock) -> None:
    served = serve("1/second", "3/minute", store=MemoryStore(clock=clock))
    assert served.codes(3) == ["OK", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"]
    for code in ("OK", "OK", "RESOURCE_EXHAUSTED"):
        clock.advance(seconds=1)
        assert served.codes(1) == [code]


def test_a_share_for_each_method(serve: Serve, clock: ManualClock) -> None:
    served = serve(Rule("1/minute", name="each", is_per_route=True), store=MemoryStore(clock=clock))
    assert [served.codes(2, method) for method in METHODS] == [["OK", "RESOURCE_EXHAUSTED"]] * 4


def test_keys_by_metadata(serve: Serve, clock: ManualClock) -> None:
    served = serve(
        "1/minute",
        identity=Identity(ApiKey(), ApiKey(scheme="Bearer"), "ip"),
        store=MemoryStore(clock=clock),
    )
    for metadata in ([("x-api-key", "a")], [("x-api-key", "b")], [("authorization", "Bearer c")], []):
        assert served.codes(2, metadata=metadata) == ["OK", "RESOURCE_EXHAUSTED"]


def test_keys_by_a_function_of_the_call(serve: Serve, clock: ManualClock) -> None:
    def tenant(call: GrpcCall) -> str:
        assert call.context.auth_context() is not None
        return f"{call.values('tenant')[0]}{call.path}"

    served = serve(Rule("1/minute", name="tenants", key=tenant), store=MemoryStore(clock=clock))
    for name in ("a", "b"):
        assert served.codes(2, metadata=[("tenant", name)]) == ["OK", "RESOURCE_EXHAUSTED"]
        assert served.codes(2, "Out", metadata=[("tenant", name)]) == ["OK", "RESOURCE_EXHAUSTED"]


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("ipv4:203.0.113.7:50051", "203.0.113.7"),
        ("ipv6:%5B2001:db8::1%5D:50051", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:50051", "2001:db8::1"),
        ("unix:/run/socket", None),
        ("unix:", None),
        ("unix-abstract:name", None),
        ("vsock:1:2", None),
        ("ipv4:", None),
        ("", None),
    ],
)
def test_the_peer_is_an_address_without_its_port(peer: str, found: str | None) -> None:
    class Context:
        def peer(self) -> str:
            return peer

    assert GrpcCall("/a/b", None, Context()).peer == found


def test_the_key_of_a_peer_is_its_network(serve: Serve, clock: ManualClock) -> None:
    keys = []

    def seen(call: GrpcCall) -> bool:
        keys.append(Identity(ClientIP()).at_once(call))
        return False

    rule = Rule("9/minute", name="seen", exempt_when=seen)
    serve(rule, store=MemoryStore(clock=clock)).call("One", b"")
    served = serve(rule, store=MemoryStore(clock=clock), address="[::1]:0")
    assert served.codes(1) == ["OK"]
    assert keys == ["ip:127.0.0.1", "ip:::/64"]


def test_all_over_a_unix_socket_are_one_caller(serve: Serve, tmp_path: Path) -> None:
    served = serve("1/hour", address=f"unix:{tmp_path}/s")
    assert served.codes(2) == ["OK", "RESOURCE_EXHAUSTED"]


def test_the_cost_of_a_method_and_of_a_request(serve: Serve, clock: ManualClock) -> None:
    def size(call: GrpcCall) -> int:
        return len(call.request)

    served = serve(
        Rule("10/minute", name="sized", paths=["/test.Echo/One"], cost=size),
        Rule("10/minute", name="fixed", paths=["/test.Echo/Both"], cost=5),
        store=MemoryStore(clock=clock),
    )
    assert served.codes(3, "One", b"four") == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert served.codes(1, "One", b"ab") == ["OK"]
    assert served.codes(3, "Both", b"a") == ["OK", "OK", "RESOURCE_EXHAUSTED"]


def test_a_stream_has_no_request_to_look_at(serve: Serve) -> None:
    seen = []

    def cost(call: GrpcCall) -> int:
        seen.append(call.request)
        return 1

    served = serve(Rule("10/minute", name="seen", cost=cost))
    served.codes(1, "In")
    served.codes(1, "Both")
    served.codes(1, "Out", b"x")
    assert seen == [None, None, b"x"]


@pytest.mark.parametrize("method", METHODS)
def test_a_cost_that_never_fits_is_no_matter_of_time(serve: Serve, method: str) -> None:
    answer = serve(Rule("10/minute", name="big", cost=lambda _: 11)).call(method, b"hello")
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.details == "This request costs more than the limit big ever admits."
    status, retry, quota = rich(answer)
    assert (status.code, retry, quota) == (3, None, None)
    assert answer.metadata["grpc-retry-pushback-ms"] == "-1"


def test_a_caller_of_a_tier_has_its_own_numbers(serve: Serve, clock: ManualClock) -> None:
    served = serve(
        Rule("1/minute", name="t", tiers={"gold": "2/minute"}, tier=lambda call: dict(call.metadata).get("tier")),
        identity=Identity("api_key", "ip"),
        store=MemoryStore(clock=clock),
    )
    assert served.codes(2) == ["OK", "RESOURCE_EXHAUSTED"]
    gold = [("tier", "gold"), ("x-api-key", "a")]
    assert served.codes(3, metadata=gold) == ["OK", "OK", "RESOURCE_EXHAUSTED"]


def test_a_shadow_counts_and_never_denies(serve: Serve) -> None:
    served = serve(Rule("1/hour", name="shadow", is_shadow=True))
    assert served.codes(3) == ["OK"] * 3


def test_methods_that_are_exempt(serve: Serve) -> None:
    served = serve("1/hour", exempt=["/test.Echo/Out", *HEALTH])
    assert served.codes(2) == ["OK", "RESOURCE_EXHAUSTED"]
    assert served.codes(3, "Out") == ["OK"] * 3


def test_networks_that_are_allowed_and_denied(serve: Serve) -> None:
    assert serve("1/hour", allow=["127.0.0.0/8"]).codes(3) == ["OK"] * 3
    answer = serve("1/hour", deny=["127.0.0.0/8"]).call("One", b"")
    assert answer.code is grpc.StatusCode.PERMISSION_DENIED
    assert answer.metadata["grpc-retry-pushback-ms"] == "-1"


def test_a_method_that_is_not_there_meets_no_rule(serve: Serve) -> None:
    served = serve("1/hour")
    assert served.codes(3, "/test.Echo/None") == ["UNIMPLEMENTED"] * 3
    assert served.codes(1) == ["OK"]


@pytest.mark.parametrize(("on_outage", "code"), [("open", "OK"), ("closed", "UNAVAILABLE"), ("local", "OK")])
def test_the_answer_in_an_outage(serve: Serve, on_outage: Any, code: str) -> None:
    instances = 1 if on_outage == "local" else None
    rule = Rule("9/minute", name="out", on_outage=on_outage, instances=instances)
    served = serve(rule, store=f"redis://127.0.0.1:{free_port()}/0", timeout=1)
    answer = served.call("One", b"hello")
    assert answer.code.name == code
    if on_outage == "closed":
        _, retry, quota = rich(answer)
        assert retry is not None
        assert retry.retry_delay.seconds == 1
        assert quota is None


def test_a_place_is_given_back_where_the_answer_does_not_count(serve: Serve, kind: str, clock: ManualClock) -> None:
    rule = Rule("3/minute", name="failures", charge_when=lambda response: response.status_code != 0)
    served = serve(rule, store=MemoryStore(clock=clock))
    assert served.codes(5) == ["OK"] * 5
    assert served.codes(5, "Out") == ["OK"] * 5
    assert served.codes(4, "One", b"fail") == ["UNKNOWN"] * 3 + ["RESOURCE_EXHAUSTED"]


def test_the_actual_cost_by_the_status_and_trailing_metadata(serve: Serve, kind: str, clock: ManualClock) -> None:
    seen = []

    def actual(response: Any) -> int:
        seen.append((response.status_code, response.headers.get("mark"), response.request.path))
        return 12

    served = serve(Rule("24/minute", name="a", actual_cost=actual), store=MemoryStore(clock=clock))
    assert served.codes(3, "One", b"mark") == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert seen == [(0, None if kind == "threads" else "12", "/test.Echo/One")] * 2


def test_an_answer_of_the_users_own(serve: Serve, clock: ManualClock) -> None:
    class Own:
        code, details, trailing_metadata = grpc.StatusCode.FAILED_PRECONDITION, "enough", (("why", "because"),)

    seen = []

    def on_denied(call: GrpcCall, decision: Any) -> Any:
        seen.append((call.path, bool(decision)))
        return Own if call.request == b"own" else None

    served = serve("1/hour", on_denied=on_denied, store=MemoryStore(clock=clock))
    assert served.codes(2) == ["OK", "RESOURCE_EXHAUSTED"]
    answer = served.call("One", b"own")
    assert (answer.code.name, answer.details) == ("FAILED_PRECONDITION", "enough")
    assert answer.metadata["why"] == "because"
    assert "ratelimit" in answer.metadata
    assert seen == [("/test.Echo/One", False)] * 2


def test_of_64_calls_at_once_a_limit_of_20_admits_20(serve: Serve, clock: ManualClock) -> None:
    served = serve("20/minute", store=MemoryStore(clock=clock))
    with ThreadPoolExecutor(64) as pool:
        codes = list(pool.map(lambda n: served.call(METHODS[n % 4], b"hello").code.name, range(64)))
    assert (codes.count("OK"), codes.count("RESOURCE_EXHAUSTED")) == (20, 44)


def test_two_servers_share_their_limits(serve: Serve, valkey_url: str, prefix: str) -> None:
    # With another timeout each has a store, and so connections, of its own, as in a process of its own.
    one, other = (serve("20/hour", store=valkey_url, prefix=prefix, timeout=timeout) for timeout in (10, 11))
    with ThreadPoolExecutor(64) as pool:
        codes = list(pool.map(lambda n: (one, other)[n % 2].call(METHODS[n % 4], b"hello").code.name, range(64)))
    assert (codes.count("OK"), codes.count("RESOURCE_EXHAUSTED")) == (20, 44)


def retrying(target: str, attempts: int) -> grpc.Channel:
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
    return grpc.insecure_channel(target, options=[("grpc.service_config", json.dumps(config))])


def counted(limit: str, cost: int = 1) -> tuple[Rule, list[str]]:
    """A rule, and the attempts that have met it."""
    attempts: list[str] = []

    def cost_of(call: GrpcCall) -> int:
        attempts.append(call.path)
        return cost

    return Rule(limit, name="counted", cost=cost_of), attempts


@pytest.mark.parametrize("method", METHODS)
def test_a_client_that_tries_again_by_itself_waits_as_it_is_told(serve: Serve, method: str) -> None:
    rule, attempts = counted("2/second; burst=1")
    served = serve(rule)
    with retrying(served.target, 2) as channel:
        assert served.codes(3, method, channel=channel) == ["OK"] * 3  # after 10 ms, it would be denied again
    assert len(attempts) > 3


def test_a_client_that_tries_again_by_itself_does_not_where_it_would_be_for_ever(serve: Serve) -> None:
    rule, attempts = counted("2/second", cost=3)
    served = serve(rule)
    with retrying(served.target, 5) as channel:
        assert served.codes(1, channel=channel) == ["INVALID_ARGUMENT"]
    assert len(attempts) == 1


def test_new_rules_take_effect_with_the_next_call(serve: Serve, clock: ManualClock) -> None:
    served = serve("1/hour", store=MemoryStore(clock=clock))
    assert served.codes(2) == ["OK", "RESOURCE_EXHAUSTED"]
    served.limits.rules = type(served.limits.rules)([Rule("2/hour", name="new")])
    assert served.codes(3) == ["OK", "OK", "RESOURCE_EXHAUSTED"]


def test_rules_from_a_file(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[web]\n[[rules]]\nname = "one"\nlimit = "1/hour"\npaths = ["/test.Echo/One"]\n', "utf-8")
    served = serve(config=file, watch=False)
    assert served.codes(2) == ["OK", "RESOURCE_EXHAUSTED"]
    assert served.codes(2, "Out") == ["OK", "OK"]


@pytest.mark.parametrize("make", [RateLimitInterceptor, grpc_aio.RateLimitInterceptor])
def test_a_body_is_for_http(make: Any) -> None:
    with pytest.raises(InvalidUse, match="a status of gRPC has a text"):
        make("1/minute", body="text")


def test_a_blocking_server_takes_no_async_functions() -> None:
    async def later(*_: Any) -> Any:
        return None

    with pytest.raises(InvalidUse, match="on_denied is async"):
        RateLimitInterceptor("1/minute", on_denied=later)
    with pytest.raises(InvalidUse, match="key of rule '1/minute' is async"):
        RateLimitInterceptor(Rule("1/minute", key=later))


def test_a_key_starts_afresh() -> None:
    limits = RateLimitInterceptor("1/hour")
    limits.reset("ip:203.0.113.7")
    limits.close()


async def test_a_key_starts_afresh_in_an_event_loop() -> None:
    limits = grpc_aio.RateLimitInterceptor("1/hour")
    await limits.reset("ip:203.0.113.7")
    await limits.aclose()


class Outer(grpc.ServerInterceptor):
    """Sets trailing metadata of its own, before the limits are asked."""

    def intercept_service(self, continuation: Any, details: Any, /) -> Any:
        handler = continuation(details)

        def marked(request: Any, context: Any) -> Any:
            context.set_trailing_metadata((("outer", "1"),))
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(marked)


def test_metadata_of_other_interceptors_stays_and_limits_of_two_are_both_told() -> None:
    first = RateLimitInterceptor(Rule("9/minute", name="first"))
    second = RateLimitInterceptor(Rule("2/minute", name="second"), headers="legacy")
    echo: Any = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, interceptors=[Outer(), first, second])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"One": echo}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary("/test.Echo/One")
            _, done = call.with_call(b"hello")
            told = {pair.key: pair.value for pair in done.trailing_metadata()}
            assert (told["outer"], told["ratelimit"][:11], told["x-ratelimit-remaining"]) == ("1", '"first";r=8', "1")
            call(b"hello")
            with pytest.raises(grpc.RpcError) as denied:
                call(b"hello")
            assert denied.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "outer" in {pair.key for pair in denied.value.trailing_metadata()}
        server.stop(0).wait()


def test_a_handler_that_answers_by_callbacks_is_refused() -> None:
    def answer(request: bytes, context: Any) -> bytes:
        return request

    answer.experimental_non_blocking = True  # type: ignore[attr-defined]  # gRPC looks at it
    with pytest.raises(InvalidUse, match="experimental_non_blocking"):
        RateLimitInterceptor("1/minute").limit(grpc.unary_unary_rpc_method_handler(answer), "/test.Echo/One")


def test_a_handler_keeps_its_pool() -> None:
    def answer(request: bytes, context: Any) -> bytes:
        return request

    with ThreadPoolExecutor(1) as pool:
        answer.experimental_thread_pool = pool  # type: ignore[attr-defined]  # gRPC looks at it
        limits = RateLimitInterceptor("1/minute")
        limited: Any = limits.limit(grpc.unary_unary_rpc_method_handler(answer), "/test.Echo/One")
        assert limited.unary_unary.experimental_thread_pool is pool


def test_a_handler_is_wrapped_once_and_names_of_methods_do_not_pile_up() -> None:
    limits = RateLimitInterceptor("1/minute")
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    assert limits.limited(handler, "/a/b") is limits.limited(handler, "/a/b")
    for number in range(3000):
        limits.limited(handler, f"/a/{number}")
    assert len(limits._known) <= 1024


def test_the_user_is_the_name_in_the_certificate_of_the_client(clock: ManualClock) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    root = authority.cert_pem.bytes()
    credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())], root, require_client_auth=True
    )
    limits = RateLimitInterceptor("1/hour", identity="user", store=MemoryStore(clock=clock))
    users = []

    def note(request: bytes, context: Any) -> bytes:
        users.append(GrpcCall("/a/b", request, context).user)
        return request

    echo: Any = grpc.unary_unary_rpc_method_handler(note)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, interceptors=[limits])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"One": echo}),))
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        for name in ("alice.example", "bob.example"):
            own = authority.issue_cert(name)
            mine = grpc.ssl_channel_credentials(root, own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
            with grpc.secure_channel(f"localhost:{port}", mine) as channel:
                call: Any = channel.unary_unary("/test.Echo/One")
                call(b"")
                with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
                    call(b"")
        server.stop(0).wait()
    assert users == ["alice.example", "bob.example"]


@pytest.mark.parametrize("module", ["grpc", "google.rpc.status_pb2"])
def test_a_missing_library_says_what_to_install(module: str) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "import headgate\n"
        "try:\n    import headgate.grpc\n"
        "except headgate.MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("pip install 'headgate[grpc]'\n")


def test_nothing_else_loads_the_library() -> None:
    program = "import sys, headgate, headgate.rules, headgate.web.wsgi; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
