"""The options of rules and of apps by their types, for the signatures of the frameworks' `RateLimits`.

This module must not know a framework, nor what is done with an option: see `Rule` and `AppLimits`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypedDict

from headgate.breaker import Breaker
from headgate.config.loading import Config
from headgate.config.loading import Source as ConfigSource
from headgate.identity import Identity, Source
from headgate.rules.rule import ActualCost, CostLike, KeyOfRule, LimitFunction, LimitLike
from headgate.stores.contract import Store
from headgate.web.headers import HeaderStyle, Reset, RetryAfter
from headgate.web.limits import OnDenied
from headgate.web.messages import WebResponse
from headgate.web.responses import Body


class RuleOptions(TypedDict, total=False):
    """The options of a rule that a route has for itself: see `Rule`."""

    name: str
    methods: Sequence[str]
    is_per_method: bool
    key: KeyOfRule | None
    cost: CostLike | Mapping[str, CostLike]
    tiers: Mapping[str, LimitLike | Mapping[str, LimitLike]]
    tier: Callable[[Any], str | Awaitable[str | None] | None] | None
    limit_for: LimitFunction | None
    exempt_when: Callable[[Any], bool | Awaitable[bool]] | None
    charge_when: Callable[[WebResponse], bool | Awaitable[bool]] | None
    actual_cost: ActualCost | Mapping[str, ActualCost] | None
    reserve: CostLike | Mapping[str, CostLike]
    wait: float | str | timedelta
    is_shadow: bool
    on_outage: Literal["open", "closed", "local"]
    instances: int | None
    outage_limit: LimitLike | Mapping[str, LimitLike] | None
    penalty: LimitLike | None
    message: str
    near: float | None


class LimitsOptions(TypedDict, total=False):
    """The options of an app's limits: see `AppLimits`."""

    store: str | Store | None
    identity: Identity | Source | Sequence[Source] | None
    exempt: Sequence[str]
    allow: Sequence[str]
    deny: Sequence[str]
    penalty: LimitLike | None
    headers: HeaderStyle | Sequence[HeaderStyle] | Literal[False] | None
    reset: Reset | None
    retry_after: RetryAfter | None
    header_names: Mapping[str, str] | None
    partition_secret: bytes | str | None
    body: Body | None
    on_denied: OnDenied | None
    enabled: bool | None
    name: str | None
    timeout: float | None
    prefix: str | None
    remember_denials: float | None
    breaker: Breaker | Literal[False] | None
    config: ConfigSource | Config | None
    watch: bool
    on_sighup: bool
