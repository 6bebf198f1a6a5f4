"""The rules of an app, and those of them that a request meets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

from headgate.errors import InvalidUse
from headgate.identity import Identity
from headgate.limits.grammar import parse_penalty
from headgate.rules.matching import compiled, readings
from headgate.rules.rule import LimitLike, Rule

PENALTY: Final = "penalty"
"""The name of the penalty that rules have together."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rules:
    """Rules, and what goes for all of them. Immutable; safe to share.

    :param rules: in the order in which they are asked and listed.
    :param identity: whose share a request takes where its rule does not say.
    :param exempt: patterns of paths that meet no rule, such as `/health`.
    :param allow: networks of callers who meet no rule.
    :param deny: networks of callers who are refused, with 403.
    :param penalty: for how long a caller is blocked after so many denials, by whichever of the rules that have no
        penalty of their own: `10 denials/minute -> 1h`. It blocks them from all of these.
    :raises LimitError: if the penalty is not understood.
    :raises InvalidUse: if something does not fit, or two different rules have one name.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        *,
        identity: Identity | None = None,
        exempt: Sequence[str] = (),
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        penalty: LimitLike | None = None,
    ) -> None:
        self.all: Final = tuple(rules)
        self.penalty: Final = None if penalty is None else parse_penalty(penalty)
        self.identity: Final = identity or Identity("ip")
        self.exempt: Final = tuple(exempt)
        self.allow: Final = _networks(allow)
        self.deny: Final = _networks(deny)
        known: dict[str, Rule] = {}
        for rule in self.all:
            if rule.name == PENALTY and self.penalty is not None:
                raise InvalidUse(f"{PENALTY!r} is what the penalty of all rules is called: give the rule another name")
            if known.setdefault(rule.title, rule) is not rule:
                raise InvalidUse(f"two rules are called {rule.title!r}: make one of them, or give each a name")
        self._exempt = [compiled(pattern) for pattern in exempt]
        self._patterns = [(rule, [compiled(pattern) for pattern in rule.paths]) for rule in self.all]
        self.is_same_for_all: Final = not any(rule.paths or rule.methods for rule in self.all)
        """Does each request meet the same rules, whatever its path and method?"""
        self._others = tuple([rule for rule in self.all if not rule.is_default])

    def is_exempt(self, path: str) -> bool:
        """Do requests of this path meet no rule, however it is read?"""
        return bool(self._exempt) and all(_matches(self._exempt, (one,)) for one in readings(path))

    def of(self, path: str, methods: Sequence[str], *, has_own: bool = False) -> tuple[Rule, ...]:
        """The rules that a request meets, in order.

        :param methods: its method, and those by which it says that it is to be taken for another.
        :param has_own: has its route rules of its own? Then those for all others are left out.
        """
        if self.is_same_for_all:
            return self._others if has_own else self.all
        paths = readings(path)
        return tuple(
            [
                rule
                for rule, patterns in self._patterns
                if (not patterns or _matches(patterns, paths))
                and rule.meets(methods)
                and not (has_own and rule.is_default)
            ]
        )


def _matches(patterns: list[re.Pattern[str]], paths: Sequence[str]) -> bool:
    return any(pattern.fullmatch(path) for path in paths for pattern in patterns)


def _networks(networks: Sequence[str]) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError as error:
        raise InvalidUse(f"a network is written as 10.0.0.0/8 or 2001:db8::/32: {error}") from None
