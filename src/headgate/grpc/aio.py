"""The interceptor of servers of asyncio, `grpc.aio.server(...)`.

limits = RateLimitInterceptor("100/minute", store="redis://localhost:6379/0")
server = grpc.aio.server(interceptors=[limits])

Such servers run blocking handlers in threads: those are limited, too.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import grpc

from headgate.grpc.calls import GrpcCall
from headgate.grpc.limits import Exchange, Handler, ServerLimits, Status, behavior_of, tell, with_behavior
from headgate.limiter.limiters import AsyncLimiter
from headgate.web.asking import admit_async
from headgate.web.core import run_async

_ending: Final[set[asyncio.Task[None]]] = set()
"""Calls whose tasks were cancelled, and which are brought to their end all the same."""


class RateLimitInterceptor(ServerLimits[AsyncLimiter], grpc.aio.ServerInterceptor):
    """Puts a server of gRPC behind its limits; the functions of its rules may be async.

    The parameters are those of `ServerLimits`. Calls of methods that the server does not have meet no rule.
    """

    kind = AsyncLimiter

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        details: grpc.HandlerCallDetails,
        /,
    ) -> Handler | None:
        """The handler of a call behind the limits: gRPC calls this."""
        handler = await continuation(details)
        if handler is None:
            return None
        behavior = behavior_of(handler)
        if inspect.isasyncgenfunction(behavior):
            return with_behavior(handler, self._answers(behavior, handler, details))
        if inspect.iscoroutinefunction(behavior):
            return with_behavior(handler, self._answer(behavior, handler, details))
        return with_behavior(handler, self._in_thread(behavior, handler, details, asyncio.get_running_loop()))

    def _answer(self, behavior: Any, handler: Handler, details: grpc.HandlerCallDetails) -> Any:
        """A coroutine function: it returns its answer, or writes a stream of them to the context."""

        async def answer(request: Any, context: Any) -> Any:
            exchange = await self._admit(self.call(details, request, context, is_stream=handler.request_streaming))
            try:
                exchange.begin()
                response = await behavior(request, context)
            except BaseException as error:
                await _end(exchange, error)
                raise
            await _end(exchange, None)
            return response

        return answer

    def _answers(self, behavior: Any, handler: Handler, details: grpc.HandlerCallDetails) -> Any:
        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            exchange = await self._admit(self.call(details, request, context, is_stream=handler.request_streaming))
            try:
                exchange.begin()
                responses = behavior(request, context)
                try:
                    async for response in responses:
                        yield response
                finally:
                    await responses.aclose()
            except BaseException as error:  # a GeneratorExit, where the client has gone
                await _end(exchange, error)
                raise
            await _end(exchange, None)

        return answers

    def _in_thread(
        self, behavior: Any, handler: Handler, details: grpc.HandlerCallDetails, loop: asyncio.AbstractEventLoop
    ) -> Any:
        """A blocking function: its thread asks in the loop."""
        is_stream = handler.request_streaming

        def admit(request: Any, context: Any) -> Exchange:
            call = self.call(details, request, context, is_stream=is_stream)
            found = asyncio.run_coroutine_threadsafe(self._decide(call), loop).result()
            if isinstance(found, Exchange):
                return found
            tell(context, found.trailing_metadata)
            context.abort(found.code, found.details)
            raise AssertionError("abort raises")

        def end(exchange: Exchange, error: BaseException | None) -> None:
            ending = asyncio.run_coroutine_threadsafe(_end(exchange, error), loop)
            if not isinstance(error, GeneratorExit):  # that may come in the thread of the loop
                ending.result()

        def answer(request: Any, context: Any) -> Any:
            exchange = admit(request, context)
            try:
                exchange.begin()
                response = behavior(request, context)
            except BaseException as error:
                end(exchange, error)
                raise
            end(exchange, None)
            return response

        def answers(request: Any, context: Any) -> Iterator[Any]:
            exchange = admit(request, context)
            try:
                exchange.begin()
                yield from behavior(request, context)
            except BaseException as error:
                end(exchange, error)
                raise
            end(exchange, None)

        return answers if handler.response_streaming else answer

    async def reset(self, key: str, *names: str) -> None:
        """Let a key, such as `ip:203.0.113.7`, start afresh with the rules of these names, or with all rules (those
        that count by method aside); a penalty is lifted.

        :raises InvalidUse: if there is no rule of such a name.
        :raises StoreOutage: if the store does not answer.
        """
        await run_async(self.limiter.reset(key, *names))

    async def aclose(self) -> None:
        """Close the store, if it was given as a URL: after the server has stopped."""
        await self.limiter.aclose()

    async def _decide(self, call: GrpcCall) -> Exchange | Status:
        admission = await admit_async(self.limiter, call)
        return (
            Exchange(self, call, admission) if admission.refusal is None else await run_async(self.refusal(admission))
        )

    async def _admit(self, call: GrpcCall) -> Exchange:
        """Decide about a call; one that is refused ends here."""
        found = await self._decide(call)
        if isinstance(found, Exchange):
            return found
        tell(call.context, found.trailing_metadata)
        await call.context.abort(found.code, found.details)
        raise AssertionError("abort raises")


async def _end(exchange: Exchange, error: BaseException | None) -> None:
    """End a call. It is done in the end even if this task is cancelled meanwhile."""
    if not exchange.admission.is_unfinished:
        await run_async(exchange.end(error))
        return
    task = asyncio.create_task(run_async(exchange.end(error)), name="headgate-grpc")
    _ending.add(task)
    task.add_done_callback(_ending.discard)
    await asyncio.shield(task)
