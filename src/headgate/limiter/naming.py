"""How the limits of a limiter are called: part of where their state lives.

This module must not know keys, costs or requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from headgate.errors import InvalidUse, LimitSyntaxError
from headgate.keys import check_key
from headgate.limits import Limit, Penalty
from headgate.limits.grammar import parse_limit

LimitLike = str | Limit
Limits = LimitLike | Sequence[LimitLike] | Mapping[str, LimitLike]
"""One limit, several limits on one key, or named limits (tiers) that each have a key of their own."""

OF_PENALTY: Final = ":penalty"
"""The penalty of a tier is called as the tier, with this behind it."""


def named(
    limits: Limits, name: str | None, penalty: Penalty | None
) -> tuple[Limits, tuple[str, ...], tuple[Limit, ...], tuple[str, ...]]:
    """The limits as they are given, but read; the tiers, if there are any; all limits, penalties included; and their
    names.
    """
    if isinstance(limits, Mapping):
        given = {check_key(tier): limit for tier, limit in limits.items()}
        read = {tier: parse_limit(limit) for tier, limit in given.items()}
        tiers: dict[str, Limit] = {}
        for tier, limit in read.items():
            tiers[tier] = limit
            if penalty is not None:
                if f"{tier}{OF_PENALTY}" in read:
                    raise InvalidUse(f"there is a tier {tier + OF_PENALTY!r}, which is what the penalty is called")
                tiers[f"{tier}{OF_PENALTY}"] = penalty
        texts = _texts(tuple(tiers.values()), penalty)
        names = [joined(name, tier) if name else f"{tier}={text}" for tier, text in zip(tiers, texts, strict=True)]
        return read, tuple(tiers), tuple(tiers.values()), tuple(names)
    more = () if penalty is None else (penalty,)
    if isinstance(limits, (str, Limit)):
        limit = parse_limit(limits)
        first, *others = _texts((limit, *more), penalty)
        if name is not None:
            first, others = name, [joined(name, one.label) for one in more]
        return limit, (), (limit, *more), (first, *others)
    if isinstance(limits, Sequence):
        parsed = [parse_limit(limit) for limit in limits]
        found = (*parsed, *more)
        texts = _texts(found, penalty)
        return parsed, (), found, tuple(joined(name, limit.label) for limit in found) if name else tuple(texts)
    raise LimitSyntaxError(repr(limits), 0, f"a limit is a text or a Limit, not {type(limits).__name__}")


def _texts(limits: tuple[Limit, ...], penalty: Penalty | None) -> list[str]:
    """The limits as they are called where they have no names. A penalty is that of the limits that it watches.

    :raises InvalidUse: if there is nothing for a penalty to watch, or one too many.
    """
    texts: list[str] = []
    watched: list[str] = []
    for limit in limits:
        if not isinstance(limit, Penalty):
            watched.append(str(limit))
            texts.append(str(limit))
            continue
        if penalty is not None and limit is not penalty:
            raise InvalidUse(
                "give the penalty among the limits, behind those that it watches, or as penalty=, not both"
            )
        if not watched:
            raise InvalidUse(f"{str(limit)!r} watches the limits before it, back to the penalty before: there is none")
        texts.append(f"{limit} of {', '.join(watched)}")
        watched = []
    return texts


def joined(name: str, part: str) -> str:
    """A limiter's name and a part's, so that no other two come to the same."""
    return f"{_escaped(name)}.{_escaped(part)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace(".", "%2E")


def is_of(limit: str, name: str) -> bool:
    """May a limit that is called so be one of the limiter of a name: that limiter's only one, or a part of it? Of the
    limiter `web` may be `web` and `web.user`; but `web.user` may as well be all of a limiter of that name.
    """
    begin = f"{_escaped(name)}."
    return limit == name or (limit.startswith(begin) and "." not in limit[len(begin) :])


def begin_of(name: str) -> str:
    """The text with which all names of a limiter's limits begin, and others, too: as far as nothing is escaped."""
    return name.partition("%")[0].partition(".")[0]


def twice(names: Sequence[str]) -> str:
    """The first name that comes again."""
    return next(name for index, name in enumerate(names) if name in names[:index])
