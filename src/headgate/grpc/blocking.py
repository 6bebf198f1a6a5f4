"""The interceptor of blocking servers, `grpc.server(...)`. This module must not know asyncio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Unpack

import grpc

from headgate.errors import InvalidUse
from headgate.grpc.calls import GrpcCall
from headgate.grpc.limits import Exchange, Handler, ServerLimits, behavior_of, tell, with_behavior
from headgate.limiter.decorator import is_async
from headgate.limiter.limiters import Limiter
from headgate.limits import Limit
from headgate.rules import Rule
from headgate.web.asking import admit
from headgate.web.core import run
from headgate.web.options import LimitsOptions


class RateLimitInterceptor(ServerLimits[Limiter], grpc.ServerInterceptor):
    """Puts a server of gRPC behind its limits.

        limits = RateLimitInterceptor("100/minute", store="redis://localhost:6379/0")
        server = grpc.server(ThreadPoolExecutor(), interceptors=[limits])

    The parameters are those of `ServerLimits`. Calls of methods that the server does not have meet no rule.
    """

    kind = Limiter

    def __init__(self, *rules: str | Limit | Rule | Limiter, **options: Unpack[LimitsOptions]) -> None:
        super().__init__(*rules, **options)
        if self.on_denied is not None and is_async(self.on_denied):
            raise InvalidUse("on_denied is async, and this server blocks: give a def, or use headgate.grpc.aio")

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Handler | None], details: grpc.HandlerCallDetails, /
    ) -> Handler | None:
        """The handler of a call behind the limits: gRPC calls this."""
        handler = continuation(details)
        return None if handler is None else self.limited(handler, details.method)

    def limit(self, handler: Handler, path: str) -> Handler:
        """A handler behind the limits.

        :raises InvalidUse: if it answers by callbacks.
        """
        behavior, is_stream = behavior_of(handler), handler.request_streaming
        if getattr(behavior, "experimental_non_blocking", False):
            raise InvalidUse(f"{path} answers by callbacks (experimental_non_blocking): it cannot be limited")

        def answer(request: Any, context: Any) -> Any:
            exchange = self._admit(self.call(path, None if is_stream else request, context))
            try:
                exchange.begin()
                response = behavior(request, context)
            except BaseException as error:
                _end(exchange, error)
                raise
            _end(exchange, None)
            return response

        def answers(request: Any, context: Any) -> Iterator[Any]:
            exchange = self._admit(self.call(path, None if is_stream else request, context))
            try:
                exchange.begin()
                yield from behavior(request, context)
            except BaseException as error:  # a GeneratorExit, where the client has gone
                _end(exchange, error)
                raise
            _end(exchange, None)

        return with_behavior(handler, answers if handler.response_streaming else answer)

    def reset(self, key: str, *names: str) -> None:
        """Let a key, such as `ip:203.0.113.7`, start afresh with the rules of these names, or with all rules (those
        that count by method aside); a penalty is lifted.

        :raises InvalidUse: if there is no rule of such a name.
        :raises StoreOutage: if the store does not answer.
        """
        run(self.limiter.reset(key, *names))

    def close(self) -> None:
        """Close the store, if it was given as a URL: after the server has stopped."""
        self.limiter.close()

    def _admit(self, call: GrpcCall) -> Exchange:
        """Decide about a call; one that is refused ends here."""
        admission = admit(self.limiter, call)
        if admission.refusal is not None:
            status = run(self.refusal(admission))
            tell(call.context, status.trailing_metadata)
            call.context.abort(status.code, status.details)
        return Exchange(self, call, admission)


def _end(exchange: Exchange, error: BaseException | None) -> None:
    if not exchange.has_ended():
        run(exchange.end(error))
