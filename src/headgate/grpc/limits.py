"""The limits of a gRPC server: what is decided about a call, and what its client is told, blocking or not.

This module must not know how handlers are called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, Unpack

import grpc
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status as RichStatus

from headgate.drive import Plan
from headgate.errors import InvalidUse
from headgate.grpc.calls import GrpcCall
from headgate.limits import Limit
from headgate.plans.commands import Call
from headgate.rules import Rule
from headgate.web.admission import Admission, Refusal
from headgate.web.core import L
from headgate.web.limits import AppLimits
from headgate.web.messages import WebResponse
from headgate.web.options import LimitsOptions

Metadata = tuple[tuple[str, str | bytes], ...]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

CODES: Final[dict[Refusal, grpc.StatusCode]] = {
    "limit": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "outage": grpc.StatusCode.UNAVAILABLE,
    "network": grpc.StatusCode.PERMISSION_DENIED,
    "cost": grpc.StatusCode.INVALID_ARGUMENT,
}
"""The status of each refusal. A cost above what its limit ever admits is no matter of time: clients that try again on
RESOURCE_EXHAUSTED would do so for ever."""

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""Tells clients with a retry policy how long to wait before the next attempt; -1, to make none."""
DETAILS: Final = "grpc-status-details-bin"
"""Carries a `google.rpc.Status`."""
_SECOND_US: Final = 1_000_000
_MAX_KNOWN: Final = 1024
"""For how many methods the handlers behind limits are kept."""


class Status(NamedTuple):
    """The end of a call, as `grpc.Status` has it."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Metadata


class ServerLimits(AppLimits[L]):
    """All that the limits of blocking servers and those of asyncio have in common. The options are those of
    `AppLimits`; functions are called with a `GrpcCall`, and `on_denied` returns a `grpc.Status` or None. Safe to share
    between threads, tasks and servers.

    :raises LimitError, StoreURLError, ConfigError, InvalidUse, MissingExtra: as `AppLimits` does; and if a `body` is
        given, which a status of gRPC has not.
    """

    def __init__(self, *rules: str | Limit | Rule | L, **options: Unpack[LimitsOptions]) -> None:
        if options.get("body") is not None:
            raise InvalidUse("body is for HTTP: a status of gRPC has a text and details, and on_denied makes others")
        if options.get("name") is None and options.get("config") is None:
            options["name"] = "grpc"
        super().__init__(*rules, **options)
        self._known: dict[str, tuple[Handler, Handler]] = {}

    def call(self, path: str, request: Any, context: Any) -> GrpcCall:
        """A call as rules see it.

        :param path: the full name of its method.
        :param request: its message; None for a stream of them.
        """
        return GrpcCall(path, request, context, path if self.limiter.plain.asks_by_route else None)

    def limited(self, handler: Handler, path: str) -> Handler:
        """A handler behind the limits, which is made once for all calls of a method."""
        known = self._known.get(path)
        if known is None or known[0] is not handler:
            if len(self._known) >= _MAX_KNOWN:  # a handler of any method, whatever its name
                self._known = {}
            known = self._known[path] = handler, self.limit(handler, path)
        return known[1]

    def limit(self, handler: Handler, path: str) -> Handler:
        """A handler behind the limits."""
        raise NotImplementedError

    def told(self, admission: Admission) -> Metadata:
        """The metadata that tells a client where it stands."""
        return tuple([(name.lower(), value) for name, value in self.limiter.fields(admission)])

    def refusal(self, admission: Admission) -> Plan[Call, Status]:
        """The status of a call that is not admitted: the user's own, if there is one."""
        if self.on_denied is not None:
            own = yield Call(self.on_denied, (admission.request.native, admission.decision))
            if own is not None:
                return Status(own.code, own.details or "", (*self.told(admission), *(own.trailing_metadata or ())))
        refusal = admission.refusal or "limit"
        code, text = CODES[refusal], self.limiter.responses.detail(admission)
        rich = RichStatus(code=code.value[0], message=text)
        decision = admission.decision
        wait_us = decision.retry_after_us if decision is not None and refusal in ("limit", "outage") else 0
        if wait_us:
            retry = RetryInfo()
            retry.retry_delay.seconds, microseconds = divmod(wait_us, _SECOND_US)
            retry.retry_delay.nanos = microseconds * 1000
            rich.details.add().Pack(retry)
        if refusal == "limit":
            failure = QuotaFailure()
            for verdict in admission.verdicts:
                for standing in verdict.decision.standings(verdict.labels):
                    if standing.retry_after_us:
                        failure.violations.add(subject=standing.policy.name, description=text)
            rich.details.add().Pack(failure)
        pushback = str(-(-wait_us // 1000) if wait_us else -1)
        return Status(code, text, (*self.told(admission), (PUSHBACK, pushback), (DETAILS, rich.SerializeToString())))


class Exchange:
    """A call from its admission to its end. Used by one handler at a time."""

    __slots__ = ("_set", "_told", "admission", "call", "limits")

    def __init__(self, limits: ServerLimits[Any], call: GrpcCall, admission: Admission) -> None:
        self.limits: Final = limits
        self.call: Final = call
        self.admission: Final = admission
        self._told: Metadata = ()
        self._set: Metadata | None = None

    def begin(self) -> None:
        """Tell the client where it stands, before the handler runs: it may abort."""
        self._told = self.limits.told(self.admission)
        self._set = tell(self.call.context, self._told)

    def has_ended(self) -> bool:
        """The handler has: tell the client again, if it has set other metadata. Is nothing else left to do?"""
        context = self.call.context
        if self._set and hasattr(context, "trailing_metadata") and context.trailing_metadata() is not self._set:
            tell(context, self._told)
        return not self.admission.is_unfinished

    def end(self, error: BaseException | None) -> Plan[Call, None]:
        """Release and settle what the call took.

        :param error: the exception that the handler raised.
        """
        return self.limits.limiter.finish(self.admission, response_of(self.call, error))


def tell(context: Any, told: Metadata) -> Metadata:
    """Add to the trailing metadata of a call, and return all of it. Names that are there stay as they are."""
    known = trailing_metadata(context)
    if known:
        names = {name for name, _ in known}
        told = (*known, *[pair for pair in told if pair[0] not in names])
    if len(told) > len(known):
        context.set_trailing_metadata(told)
    return told


def trailing_metadata(context: Any) -> Metadata:
    """The trailing metadata of a call so far; none where the context does not say."""
    read: Callable[[], Any] | None = getattr(context, "trailing_metadata", None)
    return () if read is None else tuple(read() or ())


def response_of(call: GrpcCall, error: BaseException | None) -> WebResponse | None:
    """The end of a call, for `charge_when` and `actual_cost`: its status as a number, 0 for OK, and its trailing
    metadata as headers. None if it was cancelled.

    :param error: the exception that its handler raised.
    """
    if error is not None and not isinstance(error, Exception):
        return None
    context = call.context
    read: Callable[[], Any] | None = getattr(context, "code", None)
    code: Any = None if read is None else read()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else int(code or 0)
    if error is not None and not number:
        number = grpc.StatusCode.UNKNOWN.value[0]
    texts = {name: value for name, value in trailing_metadata(context) if isinstance(value, str)}
    return WebResponse(number, texts, call)


def behavior_of(handler: Handler) -> Any:
    """The function that answers the calls of a handler."""
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary


def with_behavior(handler: Handler, behavior: Any, options: Sequence[str] = ("experimental_thread_pool",)) -> Handler:
    """A handler of the same kind, with another function.

    :param options: the attributes of the function that gRPC looks at.
    """
    own = behavior_of(handler)
    for option in options:
        if hasattr(own, option):
            setattr(behavior, option, getattr(own, option))
    make: Any
    if handler.request_streaming:
        is_both = handler.response_streaming
        make = grpc.stream_stream_rpc_method_handler if is_both else grpc.stream_unary_rpc_method_handler
    else:
        is_out = handler.response_streaming
        make = grpc.unary_stream_rpc_method_handler if is_out else grpc.unary_unary_rpc_method_handler
    made: Handler = make(behavior, handler.request_deserializer, handler.response_serializer)
    return made
