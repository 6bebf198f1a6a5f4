"""The interceptor of servers of asyncio, `grpc.aio.server(...)`.

limits = RateLimitInterceptor("100/minute", store="redis://localhost:6379/0")
server = grpc.aio.server(interceptors=[limits])

Such servers run blocking handlers in threads: those are limited, too.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
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
        if inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior):
            return self.limited(handler, details.method)
        return with_behavior(handler, self._in_thread(behavior, handler, details.method))  # one for each call's task

    def limit(self, handler: Handler, path: str) -> Handler:
        """A handler behind the limits, where it is async: a coroutine function, which returns its answer or writes a
        stream of them to the context; or an async generator.
        """
        behavior, is_stream = behavior_of(handler), handler.request_streaming

        async def answer(request: Any, context: Any) -> Any:
            exchange = await self._admit(self.call(path, None if is_stream else request, context))
            try:
                exchange.begin()
                response = await behavior(request, context)
            except BaseException as error:
                await _end(exchange, error)
                raise
            await _end(exchange, None)
            return response

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            exchange = await self._admit(self.call(path, None if is_stream else request, context))
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

        return with_behavior(handler, answers if inspect.isasyncgenfunction(behavior) else answer)

    def _in_thread(self, behavior: Any, handler: Handler, path: str) -> Any:
        """A blocking function: its thread asks in the loop."""
        is_stream = handler.request_streaming
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def admit(request: Any, context: Any) -> Exchange:
            call = self.call(path, None if is_stream else request, context)
            found = asyncio.run_coroutine_threadsafe(self._decide(call), loop).result()
            if isinstance(found, Exchange):
                return found
            tell(context, found.trailing_metadata)
            context.abort(found.code, found.details)
            raise AssertionError("abort raises")

        def end(exchange: Exchange, error: BaseException | None) -> None:
            if not exchange.has_ended():
                asyncio.run_coroutine_threadsafe(_end(exchange, error), loop).result()

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
            watch = _Watch(exchange, loop)
            if task is not None and exchange.admission.is_unfinished:
                loop.call_soon_threadsafe(task.add_done_callback, watch.leave)
            try:
                exchange.begin()
                for response in behavior(request, context):
                    if watch.pause():
                        return
                    yield response
                    watch.resume()
            except BaseException as error:
                watch.end(error)
                raise
            watch.end(None)

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
    if exchange.has_ended():
        return
    task = asyncio.create_task(run_async(exchange.end(error)), name="headgate-grpc")
    _ending.add(task)
    task.add_done_callback(_ending.discard)
    await asyncio.shield(task)


class _Watch:
    """Ends a stream that a thread answers. When its client has gone, gRPC stops taking messages of it, and the thread
    is stuck with the next one: so the call is over as soon as its task is, and the handler not at work.
    """

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._exchange = exchange
        self._loop = loop
        self._lock = threading.Lock()
        self._is_at_work = True
        self._is_over = False
        self._is_ended = False

    def pause(self) -> bool:
        """The handler has a message: is there nobody left who takes it?"""
        with self._lock:
            self._is_at_work = False
            is_over = self._is_over
        if is_over:
            self.end(GeneratorExit())
        return is_over

    def resume(self) -> None:
        """The message has been taken."""
        with self._lock:
            self._is_at_work = True

    def leave(self, _: asyncio.Task[Any]) -> None:
        """The task of the call is over."""
        with self._lock:
            self._is_over = True
            is_at_work = self._is_at_work
        if not is_at_work:
            self.end(GeneratorExit())

    def end(self, error: BaseException | None) -> None:
        """End the call, once; in the thread of the loop, a moment later."""
        with self._lock:
            is_ended, self._is_ended = self._is_ended, True
        if not is_ended:
            ending = asyncio.run_coroutine_threadsafe(_end(self._exchange, error), self._loop)
            if not isinstance(error, GeneratorExit):  # that may come in the thread of the loop
                ending.result()
