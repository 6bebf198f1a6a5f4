"""Rate-limit fields of an HTTP response, from plain numbers. Pure: knows no decision, no framework, no clock.

Generations, by the name that people know them under:

- `legacy`: `X-RateLimit-Limit`, `-Remaining`, `-Reset` (seconds from now, or since the epoch).
- `draft-6`: `RateLimit-Limit`, `-Remaining`, `-Reset`, `RateLimit-Policy: 100;w=60`
  (draft-ietf-httpapi-ratelimit-headers-06).
- `draft-7`: `RateLimit: limit=100, remaining=50, reset=5` (-07).
- `draft-11`: `RateLimit-Policy: "api";q=100;w=60` and `RateLimit: "api";r=50;t=30` (-11, the current one, not yet
  an RFC).

The last one knows several limits. Of the others, the policies name all, and the rest is about the one that binds.
`Retry-After` is added to every one of them on a denial, in whole seconds, rounded up and at least 1, so that a
client that heeds it is never early.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from email.utils import formatdate
from typing import Final, Literal, NamedTuple, get_args

from headgate.errors import InvalidUse

HeaderStyle = Literal["legacy", "draft-6", "draft-7", "draft-11"]
Reset = Literal["delta", "epoch"]
"""How `X-RateLimit-Reset` says a time: in seconds from now, or since the epoch."""
RetryAfter = Literal["delta", "date"]
"""How `Retry-After` says a time: in seconds from now, or as a date of HTTP."""

STYLES: Final[tuple[HeaderStyle, ...]] = get_args(HeaderStyle)

_MAX_INTEGER: Final = 10**15 - 1
"""The largest Integer of RFC 9651."""
_SECOND_US: Final = 1_000_000
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A name of a header, by RFC 9110."""
_NAMES: Final[dict[HeaderStyle, tuple[str, ...]]] = {
    "legacy": ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
    "draft-6": ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy"),
    "draft-7": ("RateLimit-Policy", "RateLimit"),
    "draft-11": ("RateLimit-Policy", "RateLimit"),
}
_ALONE: Final[dict[HeaderStyle, tuple[HeaderStyle, ...]]] = {style: (style,) for style in STYLES}


class Policy:
    """A limit as clients are told of it, and the texts that say it. Immutable; made once for many responses.

    :param name: its name; what is no printable ASCII in it is percent-encoded.
    :param quota: its capacity.
    :param window_us: the time in which the whole capacity comes back, in microseconds; 0 where no time does that.
    :param unit: of what the quota is, where it is not of requests.
    :param is_quota: is it one of which clients spend? One that is none is told of only where it binds.
    """

    __slots__ = (
        "draft_7",
        "draft_11",
        "field_11",
        "has_window",
        "is_quota",
        "item",
        "name",
        "quota",
        "quota_text",
        "raw_field_11",
    )

    def __init__(self, name: str, quota: int, window_us: int, unit: str = "", *, is_quota: bool = True) -> None:
        self.name: Final = _printable(name)
        """The name, as clients see it."""
        self.quota: Final = quota
        self.is_quota: Final = is_quota
        self.has_window: Final = window_us > 0
        self.quota_text: Final = str(min(quota, _MAX_INTEGER))
        window = f";w={_seconds(window_us)}" if window_us > 0 else ""
        self.draft_7: Final = self.quota_text + window
        """In the policies of drafts 6 and 7."""
        self.item: Final = '"' + self.name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        """The name, as a String of RFC 9651."""
        self.draft_11: Final = f"{self.item};q={self.quota_text}" + (f';qu="{unit}"' if unit else "") + window
        self.field_11: Final = ("RateLimit-Policy", self.draft_11)
        """The field of draft 11 that says no more than this policy; and the same as ASGI sends it."""
        self.raw_field_11: Final = (b"ratelimit-policy", self.draft_11.encode("ascii"))

    def left_11(self, remaining: int, reset_after_us: int) -> str:
        """The value of `RateLimit` in draft 11, as `fields` writes it for a request that this policy alone has
        admitted. It has to have a window, and to be a quota.
        """
        if remaining > _MAX_INTEGER:  # noqa: PLR1730  # `min` takes longer
            remaining = _MAX_INTEGER
        return f"{self.item};r={remaining};t={-(-reset_after_us // _SECOND_US)}"


class Standing(NamedTuple):
    """How a key stands with one limit."""

    policy: Policy
    key: str
    """Whose share it is."""
    remaining: int | None
    """The tokens that are left; None where the store did not tell."""
    reset_after_us: int
    """Microseconds until the whole capacity is there."""
    retry_after_us: int
    """Microseconds until the limit admits the request that it has denied; 0 if it did not deny."""
    now_us: int
    """When that was found, in microseconds since the epoch."""

    @property
    def retry_date(self) -> str:
        """When the request that was denied fits, as a date of HTTP, rounded up."""
        return formatdate(_seconds(self.now_us + self.retry_after_us), usegmt=True)


def checked_styles(styles: HeaderStyle | Collection[HeaderStyle] | None) -> tuple[HeaderStyle, ...]:
    """Styles that go together, from one, several or None.

    :raises InvalidUse: if one is unknown, or two of them write the same field.
    """
    if isinstance(styles, str) and styles in _ALONE:  # nearly always
        return _ALONE[styles]
    chosen: tuple[HeaderStyle, ...] = (styles,) if isinstance(styles, str) else tuple(styles or ())
    for style in chosen:
        if style not in STYLES:
            raise InvalidUse(f"unknown header style {style!r}; there are {', '.join(STYLES)}")
    written: dict[str, HeaderStyle] = {}
    for style in chosen:
        for name in _NAMES[style]:
            other = written.setdefault(name, style)
            if other != style:
                raise InvalidUse(f"{other} and {style} both write {name}: choose one of them; legacy goes with any")
    return tuple(dict.fromkeys(chosen))


def checked_reset(reset: Reset) -> Reset:
    """The way to say a time.

    :raises InvalidUse: if it is unknown.
    """
    if reset not in get_args(Reset):
        raise InvalidUse(f"reset is 'delta' (seconds from now) or 'epoch' (since 1970), not {reset!r}")
    return reset


def checked_retry_after(retry_after: RetryAfter) -> RetryAfter:
    """The way to say when to come back.

    :raises InvalidUse: if it is unknown.
    """
    if retry_after not in get_args(RetryAfter):
        raise InvalidUse(f"retry_after is 'delta' (seconds from now) or 'date' (of HTTP), not {retry_after!r}")
    return retry_after


def checked_names(names: Mapping[str, str], styles: Sequence[HeaderStyle]) -> dict[str, str]:
    """Other names for some fields, by those that these styles write.

    :raises InvalidUse: if a field is not written, or its new name is none or that of another.
    """
    written = dict.fromkeys([*(name for style in styles for name in _NAMES[style]), "Retry-After"])
    for name, own in names.items():
        if name not in written:
            raise InvalidUse(f"header_names: {name!r} is not written here; there are {', '.join(written)}")
        if not _TOKEN.fullmatch(own):
            raise InvalidUse(f"header_names: {own!r} is no name of a header")
    all_names = [names.get(name, name).lower() for name in written]
    if len(set(all_names)) < len(all_names):
        raise InvalidUse("header_names: two fields would have one name")
    return dict(names)


def expose_headers(styles: HeaderStyle | Collection[HeaderStyle] | None = "draft-11") -> tuple[str, ...]:
    """The names for `Access-Control-Expose-Headers`: without them, scripts of other origins do not see the fields.

    :raises InvalidUse: as `checked_styles`.
    """
    return (*dict.fromkeys(name for style in checked_styles(styles) for name in _NAMES[style]), "Retry-After")


def binding_of(standings: Sequence[Standing]) -> int:
    """The index of the limit that denied (the one to wait for longest) or, if none did, of which the least share is
    left.
    """
    if len(standings) == 1:
        return 0
    indices = range(len(standings))
    longest = max(indices, key=lambda index: standings[index].retry_after_us)
    return longest if standings[longest].retry_after_us else min(indices, key=lambda index: _share(standings[index]))


def fields(
    styles: Sequence[HeaderStyle],
    standings: Sequence[Standing],
    binding: int,
    *,
    reset: Reset = "delta",
    partition_secret: bytes | None = None,
) -> list[tuple[str, str]]:
    """The fields of some styles, for all limits that a request met.

    :param styles: as `checked_styles` returns them.
    :param binding: the index of the limit that binds.
    :param reset: how `X-RateLimit-Reset` says a time.
    :param partition_secret: where it is given, draft 11 tells the keys apart, by hashes that are keyed with it.
    """
    bound = standings[binding]
    if not (bound.policy.is_quota or bound.retry_after_us):
        return []  # there is no quota at all
    retry_after = max(1, _seconds(bound.retry_after_us)) if bound.retry_after_us else None
    found: list[tuple[str, str]] = []
    for style in styles:
        if style == "draft-11":
            found += _draft_11(standings, bound, retry_after, partition_secret)
            continue
        policy, remaining = bound.policy, bound.remaining
        left = str(min(remaining or 0, _MAX_INTEGER))
        until = _seconds(bound.reset_after_us)
        if style == "legacy":
            if reset == "epoch":
                until = _seconds(bound.now_us + bound.reset_after_us)
            found.append(("X-RateLimit-Limit", policy.quota_text))
            if remaining is not None:
                found += (("X-RateLimit-Remaining", left), ("X-RateLimit-Reset", str(until)))
            continue
        windows = ", ".join([one.policy.draft_7 for one in _listed(standings, bound) if one.policy.has_window])
        policies = [("RateLimit-Policy", windows)] if windows else []
        if style == "draft-6":
            found.append(("RateLimit-Limit", policy.quota_text))
            if remaining is not None:
                found += (("RateLimit-Remaining", left), ("RateLimit-Reset", str(until)))
            found += policies
        else:
            found += policies
            if remaining is not None:
                found.append(("RateLimit", f"limit={policy.quota_text}, remaining={left}, reset={until}"))
    if retry_after is not None:
        found.append(("Retry-After", str(retry_after)))
    return found


def _draft_11(
    standings: Sequence[Standing], bound: Standing, retry_after: int | None, secret: bytes | None
) -> list[tuple[str, str]]:
    if len(standings) == 1 and secret is None:
        policies = bound.policy.draft_11
        items = "" if bound.remaining is None else _item(bound, retry_after)
    else:
        listed = _listed(standings, bound)
        parts = [""] * len(listed) if secret is None else [_partition(one.key, secret) for one in listed]
        policies = ", ".join([one.policy.draft_11 + part for one, part in zip(listed, parts, strict=True)])
        items = ", ".join(
            [
                _item(one, retry_after) + part
                for one, part in zip(listed, parts, strict=True)
                if one.remaining is not None
            ]
        )
    found = [("RateLimit-Policy", policies)]
    if items:
        found.append(("RateLimit", items))
    return found


def _item(standing: Standing, retry_after: int | None) -> str:
    """A limit of `RateLimit`. Its `t` is no later than `Retry-After`: who reads both is to find no contradiction."""
    policy, _, remaining, reset_after_us, retry_after_us, _ = standing
    if remaining is not None and remaining > _MAX_INTEGER:
        remaining = _MAX_INTEGER
    if retry_after_us:
        until = max(1, -(-retry_after_us // _SECOND_US))
    else:
        until = -(-reset_after_us // _SECOND_US)
        if not policy.has_window:
            return f"{policy.item};r={remaining}"
    if retry_after is not None and until > retry_after:
        return f"{policy.item};r={remaining}"
    return f"{policy.item};r={remaining};t={until}"


def _listed(standings: Sequence[Standing], bound: Standing) -> list[Standing]:
    return [one for one in standings if one.policy.is_quota or (one is bound and one.retry_after_us)]


def _share(standing: Standing) -> float:
    """The share that is left; more than all of it where that is not known, and most where there is no quota."""
    if not standing.policy.is_quota:
        return math.inf
    if standing.remaining is None:
        return 2.0
    return standing.remaining / standing.policy.quota


def _partition(key: str, secret: bytes) -> str:
    """The parameter that tells a key from others: a Byte Sequence of RFC 9651."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=secret, digest_size=12).digest()
    return f";pk=:{base64.b64encode(digest).decode()}:"


def _seconds(microseconds: int) -> int:
    return -(-microseconds // _SECOND_US)


def _printable(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if " " <= character <= "~"
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        for character in text
    )
