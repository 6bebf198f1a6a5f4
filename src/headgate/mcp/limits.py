"""The rate limits of an MCP server, whichever library serves it.

A library's front makes an `McpCall` of what it is handed, and runs it by `limited`. A refusal is an error of JSON-RPC,
which says when to come back. This module must not know FastMCP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar, get_args

import anyio
from mcp.shared.exceptions import MCPError

from headgate.breaker import Breaker
from headgate.config.loading import Config
from headgate.config.loading import Source as ConfigSource
from headgate.decision import Decision
from headgate.errors import InvalidUse
from headgate.identity import Identity, Source
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limits import Limit
from headgate.mcp.calls import Kind, McpCall
from headgate.rules import Rule
from headgate.rules.rule import LimitLike
from headgate.stores.contract import Store
from headgate.web.admission import Admission
from headgate.web.asking import admit_async
from headgate.web.core import run_async
from headgate.web.limits import AppLimits
from headgate.web.messages import WebResponse

R = TypeVar("R")
TOOLS: Final[tuple[Kind, ...]] = ("tools",)
"""The kinds of calls that are counted by default."""
OwnLimits = Mapping[str, LimitLike | Sequence[LimitLike] | Mapping[str, LimitLike] | Rule | AsyncLimiter]
"""Limits of tools, resources or prompts, by their names."""

RATE_LIMITED: Final = -32010
"""The code of a refusal. MCP leaves -32000 to -32019 to servers; the SDK has taken the first two for itself."""


class RateLimitExceeded(MCPError):
    """A call was refused: the server answers it with this error. `data` has `retry_after`, in seconds, or None where it
    would never be admitted; `limit`, the name of the limit that denied; and `reason`: `limit`, `cost` (never),
    `outage` or `network`.
    """

    def __init__(self, admission: Admission) -> None:
        binding = admission.binding
        self.decision: Final[Decision | None] = None if binding is None else binding.decision
        """The decision that denied; None where no limit was asked."""
        name = None if binding is None else binding.label
        reason = admission.refusal or "limit"
        is_over = reason in ("cost", "network")
        retry_after = None if is_over or self.decision is None else self.decision.retry_after
        if reason == "cost":
            message = f"This call costs more than the limit {name} ever admits"
        elif reason == "network":
            message = "Calls from this network are refused"
        else:
            why = "The rate limit cannot be looked up" if reason == "outage" else f"Rate limit exceeded ({name})"
            seconds = 1 if self.decision is None else max(1, -(-self.decision.retry_after_us // 1_000_000))
            message = f"{why}: try again in {seconds} s"
        super().__init__(RATE_LIMITED, message, {"retry_after": retry_after, "limit": name, "reason": reason})

    def __reduce__(self) -> tuple[Any, ...]:
        return MCPError, (self.code, self.message, self.data)


class McpLimits(AppLimits[AsyncLimiter]):
    """The rate limits of an MCP server. Safe to share between tasks and event loops.

        RateLimits("100/minute", tools={"search": "10/minute", "render": "concurrency 2"}, store="redis://localhost")

    :param rules: limits, as text or object, of all calls of a client together; and `Rule`s, whose paths are
        `/tools/search`, `/prompts/*` and the like, and whose methods are `tools/call`, `resources/read` and
        `prompts/get`. Their functions are called with an `McpCall`.
    :param tools: limits of tools, by name, besides: a client has a share of each. A call spends in all limits that it
        meets, or in none.
    :param resources: likewise limits of resources, by URI; all that have no name have one share together.
    :param prompts: likewise limits of prompts, by name.
    :param counts: the kinds of calls that meet limits: `tools`, `resources`, `prompts`. Listings are never counted.
    :param store: where the state lives: a URL or a `Store`.
    :param identity: whose share a call takes: an `Identity`, or its sources. By default, the user of a verified access
        token, or else the address; over other transports than HTTP, all callers together.
    :param exempt: patterns of paths that meet no rule, such as `/tools/ping`.
    :param allow: networks of callers who meet no rule; `deny`, of callers who are refused.
    :param penalty: for how long a client is blocked after so many denials, of whichever tool: as for web apps.
    :param enabled: are they on? If not, each call goes: as for web apps.
    :param name: the server's name in the store: servers of one name share their limits.
    :param timeout: of a store that is given as the URL of a server, as for limiters; likewise `prefix`,
        `remember_denials` and `breaker`.
    :param config: a configuration, as for web apps; `watch` and `on_sighup` likewise.
    :raises LimitError, StoreURLError, InvalidUse, MissingExtra, ConfigError: as limiters do, or if something else does
        not fit.
    """

    kind: ClassVar[type[AsyncLimiter]] = AsyncLimiter

    def __init__(
        self,
        *rules: str | Limit | Rule | AsyncLimiter,
        tools: OwnLimits | None = None,
        resources: OwnLimits | None = None,
        prompts: OwnLimits | None = None,
        counts: Collection[Kind] = TOOLS,
        store: str | Store | None = None,
        identity: Identity | Source | Sequence[Source] | None = None,
        exempt: Sequence[str] = (),
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        penalty: LimitLike | None = None,
        enabled: bool | None = None,
        name: str | None = "mcp",
        timeout: float | None = None,
        prefix: str | None = None,
        remember_denials: float | None = None,
        breaker: Breaker | None = None,
        config: ConfigSource | Config | None = None,
        watch: bool = True,
        on_sighup: bool = False,
    ) -> None:
        unknown = set(counts) - set(get_args(Kind))
        if isinstance(counts, str) or unknown:
            raise InvalidUse(f"counts has kinds of calls, some of {', '.join(get_args(Kind))}, not {counts!r}")
        super().__init__(
            *rules,
            store=store,
            identity=("user", "ip") if identity is None else identity,
            exempt=exempt,
            allow=allow,
            deny=deny,
            penalty=penalty,
            headers=None,
            enabled=enabled,
            name=name,
            timeout=timeout,
            prefix=prefix,
            remember_denials=remember_denials,
            breaker=breaker,
            config=config,
            watch=watch,
            on_sighup=on_sighup,
        )
        self.counts: Final = frozenset(counts)
        self._own: Final[dict[tuple[Kind, str], tuple[Rule, ...]]] = {}
        own: dict[Kind, OwnLimits | None] = {"tools": tools, "resources": resources, "prompts": prompts}
        for kind, limits in own.items():
            if limits and kind not in counts:
                raise InvalidUse(f"{kind} have limits, and calls of them are not counted: give counts=[..., {kind!r}]")
            for called, limit in (limits or {}).items():
                self._own[kind, called] = (self.own_rule(limit, {}),)

    def _rules(self, given: Sequence[Any]) -> list[Rule]:
        """As the base's; but limits go for all calls, those of tools with limits of their own as well."""
        limits = [one for one in given if not isinstance(one, (Rule, Limiter, AsyncLimiter))]
        limiters = [Rule(limiter=one) for one in given if isinstance(one, (Limiter, AsyncLimiter))]
        rules = [*limiters, *[one for one in given if isinstance(one, Rule)]]
        return [Rule(limits, name="calls"), *rules] if limits else rules

    async def limited(self, call: McpCall, run: Callable[[], Awaitable[R]]) -> R:
        """Run a call if its limits let it, and hold the slots that it takes meanwhile.

        :raises RateLimitExceeded: if they do not: it has not run.
        """
        if call.kind not in self.counts:
            return await run()
        own = self._own.get((call.kind, call.name), ())
        admission = await admit_async(self.limiter, call, own)
        if not admission.is_admitted:
            raise RateLimitExceeded(admission)
        if not admission.is_unfinished:
            return await run()
        try:
            result = await run()
        except asyncio.CancelledError:
            await self._finish(admission, None)  # nobody is there to be answered: all that was taken counts
            raise
        except BaseException:
            await self._finish(admission, WebResponse(500, {}, call))
            raise
        await self._finish(admission, WebResponse(500 if _is_error(result) else 200, {}, call))
        return result

    async def _finish(self, admission: Admission, response: WebResponse | None) -> None:
        """Release and settle, whether or not the call was cancelled: anyio would cancel that, too, at each step."""
        with anyio.CancelScope(shield=True):
            await run_async(self.limiter.finish(admission, response))

    async def reset(self, key: str, *names: str) -> None:
        """Let a key, such as `user:42`, start afresh with the rules of these names, or with all rules of the server
        (those of single tools aside); a penalty is lifted.

        :raises InvalidUse: if there is no rule of such a name.
        :raises StoreOutage: if the store does not answer.
        """
        await run_async(self.limiter.reset(key, *names))

    async def aclose(self) -> None:
        """Close the store, if it was given as a URL."""
        await self.limiter.aclose()


def _is_error(result: Any) -> bool:
    """Does a result tell that the tool failed?"""
    if isinstance(result, Mapping):
        return bool(result.get("isError"))
    return bool(getattr(result, "is_error", False))
