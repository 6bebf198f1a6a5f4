"""Settings of stores, limiters and apps: what a configuration says, once it is understood. Values, which do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headgate.limiter.policy import CallLimit
from headgate.limits import Limit
from headgate.stores.contract import Store


@dataclass(frozen=True)
class StoreSettings:
    """A store: where it is, and its options. The address and the options may be secret, and are in no `repr`."""

    name: str
    url: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    shown: str = ""
    """The address without what is secret."""
    given: Store | None = field(default=None, repr=False)
    """The store itself, where code gave one."""


@dataclass(frozen=True)
class LimiterSettings:
    """A limiter: its limits, where they are counted, and for how long to wait."""

    name: str
    store: StoreSettings
    limits: Limit | Sequence[Limit] | Mapping[str, Limit]
    """One limit, or several, perhaps with names, which all have one key."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The other options of `Limiter`."""
    timeout: float | None = None
    """For how many seconds `acquire` waits; None for as long as it takes."""
    tiers: Mapping[str, CallLimit] = field(default_factory=dict)
    """The limits of some callers in place of `limits`, by the names of their tiers."""


@dataclass(frozen=True)
class WebSettings:
    """All that goes for the rules of a web app, beside those rules."""

    store: StoreSettings
    name: str = "web"
    told: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How clients are told, as far as it is said, in the words of `Responses`. One of them may be secret."""
    on_denied: Callable[[Any, Any], Any] | None = None
    """Answers a refused request in the user's own way."""
    is_enabled: bool | None = None
    """Are the limits on? None where the file does not say."""
