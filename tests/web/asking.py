"""A request of no framework, for tests of all that the frameworks share; and both ways to run a plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from headgate import AsyncLimiter, Limiter
from headgate.drive import Plan
from headgate.plans.commands import Call
from headgate.rules import Rule, Rules
from headgate.web.admission import Admission
from headgate.web.asking import admit, admit_async
from headgate.web.core import WebLimiter, run, run_async
from headgate.web.messages import WebResponse


class Asked:
    """A request as it comes."""

    def __init__(
        self,
        path: str = "/",
        method: str = "GET",
        *,
        peer: str | None = "203.0.113.7",
        user: str | Awaitable[str | None] | None = None,
        route: str | None = None,
        headers: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        self.path, self.method, self.peer, self.user, self.route = path, method, peer, user, route
        self.headers = headers or {}
        self.native: Any = self

    def values(self, name: str) -> Sequence[str]:
        found = self.headers.get(name, ())
        return (found,) if isinstance(found, str) else found

    def query(self, name: str) -> str | None:
        return None


class App:
    """An app's rules, asked blocking or in an event loop."""

    def __init__(
        self,
        kind: type[Limiter] | type[AsyncLimiter],
        rules: Sequence[Rule] | Rules,
        *,
        is_short: bool = False,
        **options: Any,
    ) -> None:
        """:param is_short: is the short way taken, where there is one?"""
        self.is_short = is_short
        found = rules if isinstance(rules, Rules) else Rules(rules)
        self.limiter: WebLimiter[Any] = WebLimiter(kind, found, **options)

    async def run(self, plan: Plan[Call, Any]) -> Any:
        return run(plan) if self.limiter.kind is Limiter else await run_async(plan)

    async def admit(self, request: Asked | None = None, *own: Rule, **options: Any) -> Admission:
        request = request or Asked()
        if not self.is_short:
            admission: Admission = await self.run(self.limiter.admit(request, own, **options))
            return admission
        if self.limiter.kind is Limiter:
            return admit(self.limiter, request, own, **options)
        return await admit_async(self.limiter, request, own, **options)

    async def finish(self, admission: Admission, status: int | None = 200, **headers: str) -> None:
        response = None if status is None else WebResponse(status, headers, admission.request.native)
        await self.run(self.limiter.finish(admission, response))

    async def left(self, request: Asked | None = None, *own: Rule) -> int:
        """How many more requests are let through."""
        count = 0
        while (await self.admit(request, *own)).is_admitted:
            count += 1
            assert count < 1000
        return count


MakeApp = Callable[..., App]
