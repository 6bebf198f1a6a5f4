"""Identity: it asks its sources in order, and makes keys of their answers."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from headgate.drive import Plan
from headgate.errors import InvalidKey, InvalidUse
from headgate.identity.addresses import MAX_CHARS, network_of, plain_address
from headgate.identity.proxies import Proxies
from headgate.identity.sources import ApiKey, ClientIP, Source, check_prefix, check_secret, digest
from headgate.plans.commands import Call
from headgate.web.messages import WebRequest

UNKNOWN: Final = "unknown"
"""The key of all those whom no source knows."""
_NAMES: Final = {"api_key": ApiKey(), "user": "user", "ip": ClientIP()}
_MAX_BYTES: Final = 512
"""The longest name, in bytes, that is a key as it is; others are hashed."""
_MAX_VARIANTS: Final = 256


class _Later(NamedTuple):
    """A name that has to be asked for."""

    call: Call
    named: Callable[[Any], str | None]
    """Makes the key of what was answered."""


_Ask = Callable[[WebRequest], "str | _Later | None"]


class Identity:
    """Who is asking: the sources that name a caller, in order. Immutable; safe to share between threads and tasks.

        Identity("api_key", "user", "ip", proxies=Proxies(count=1), secret=settings.SECRET_KEY)

    :param sources: `"api_key"` or an `ApiKey`: `key:` and a hash; `"user"`, whom the framework has authenticated:
        `user:42`; `"ip"` or a `ClientIP`: `ip:203.0.113.7` or `ip:2001:db8::/64`; or a function of the framework's
        request, sync or async, whose text is the key. The first that knows the caller names it; one that does not
        answers None. Whom none of them knows is `unknown`, all of them together. By default the address alone.
    :param proxies: those whose word is taken for the address. None are trusted unless they are named.
    :param ipv4_prefix: how many bits of an address of IPv4 count.
    :param ipv6_prefix: how many bits of an address of IPv6 count: who has one mostly has 2**64.
    :param secret: of at least 16 bytes: hashes are keyed with it (BLAKE2), so that nobody else can make them.
    :param is_private: are users, addresses and what functions answer hashed, too? That takes a secret.
    :raises InvalidUse: if something does not fit.
    """

    def __init__(
        self,
        *sources: Source,
        proxies: Proxies | None = None,
        ipv4_prefix: int = 32,
        ipv6_prefix: int = 64,
        secret: bytes | str | None = None,
        is_private: bool = False,
    ) -> None:
        check_prefix("ipv4_prefix", ipv4_prefix, 32)
        check_prefix("ipv6_prefix", ipv6_prefix, 128)
        if proxies is not None and not isinstance(proxies, Proxies):
            raise InvalidUse(f"proxies is a Proxies(count=...) or Proxies(networks=[...]), not {proxies!r}")
        if is_private and secret is None:
            raise InvalidUse("is_private takes a secret: without one, whoever guesses an address can make its hash")
        self.sources: Final = sources or ("ip",)
        self.proxies: Final = proxies
        self.ipv4_prefix: Final = ipv4_prefix
        self.ipv6_prefix: Final = ipv6_prefix
        self.is_private: Final = is_private
        self._secret = check_secret(secret)
        self._asks = tuple(self._ask(source) for source in self.sources)
        self._asks_nobody = "user" not in self.sources and not self.functions
        self._variants: dict[Source, Identity] = {}

    def __repr__(self) -> str:
        sources = ", ".join(repr(source) for source in self.sources)
        return f"Identity({sources}, proxies={self.proxies!r})"

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The functions of the user's that are called to name a caller."""
        called = [source.is_known if isinstance(source, ApiKey) else source for source in self.sources]
        return tuple(function for function in called if callable(function))

    def of(self, request: WebRequest) -> Plan[Call, str]:
        """The key of whoever sent a request: text that any store takes.

        :raises InvalidKey: if a function answers something other than a text, a whole number or None. Whatever such a
            function raises is raised.
        """
        for ask in self._asks:
            named = ask(request)
            if isinstance(named, _Later):
                named = named.named((yield named.call))
            if named is not None:
                return named
        return UNKNOWN

    def at_once(self, request: WebRequest) -> str | None:
        """The key of whoever sent a request, where no source has to ask anybody; None otherwise."""
        if not self._asks_nobody:
            return None
        for ask in self._asks:
            named = ask(request)
            if named is not None:
                assert isinstance(named, str)
                return named
        return UNKNOWN

    def address(self, request: WebRequest) -> str | None:
        """The caller's whole address in its one spelling, by what the trusted proxies say; None if it has none, as over
        a Unix socket.
        """
        if self.proxies is not None:
            return self.proxies.client(request)
        peer = request.peer
        return plain_address(peer) if peer else None

    def by(self, source: Source) -> Identity:
        """The identity that has one source, and the options of this one.

        :raises InvalidUse: if it is none.
        """
        try:
            known = self._variants.get(source)
        except TypeError:  # a function that cannot be hashed
            return self._variant(source)
        if known is None:
            if len(self._variants) >= _MAX_VARIANTS:
                self._variants.clear()
            known = self._variants[source] = self._variant(source)
        return known

    def _variant(self, source: Source) -> Identity:
        return Identity(
            source,
            proxies=self.proxies,
            ipv4_prefix=self.ipv4_prefix,
            ipv6_prefix=self.ipv6_prefix,
            secret=self._secret,
            is_private=self.is_private,
        )

    def _ask(self, given: Source) -> _Ask:
        source: Any = given
        if isinstance(given, str):
            if given not in _NAMES:
                near = difflib.get_close_matches(given, _NAMES, 1)
                raise InvalidUse(
                    f"unknown source {given!r} of an identity{f': is it {near[0]!r}?' if near else ''}; there are "
                    f"{', '.join(map(repr, _NAMES))}, ApiKey(...), ClientIP(...) and functions of the request"
                )
            source = _NAMES[given]
        if isinstance(source, ClientIP):
            return self._ask_address(source)
        if isinstance(source, ApiKey):
            return self._ask_key(source)
        if source == "user":
            return self._ask_user
        if callable(source):
            return lambda request: _Later(Call(source, (request.native,)), lambda answer: self._key("", answer))
        raise InvalidUse(f"a source of an identity is a name or a function, not {source!r}")

    def _ask_address(self, source: ClientIP) -> _Ask:
        ipv4_prefix, ipv6_prefix = source.ipv4_prefix or self.ipv4_prefix, source.prefix or self.ipv6_prefix
        find = self.address

        def ask(request: WebRequest) -> str | None:
            address = find(request)
            network = network_of(address, ipv4_prefix, ipv6_prefix) if address else None
            return f"ip:{network}" if network else None

        @functools.lru_cache(maxsize=8192)
        def key_of(peer: str) -> str | None:
            network = network_of(peer, ipv4_prefix, ipv6_prefix)
            return f"ip:{network}" if network else None

        def ask_peer(request: WebRequest) -> str | None:
            peer = request.peer
            return key_of(peer) if peer and len(peer) <= MAX_CHARS else None

        if self.is_private:
            return lambda request: (network := ask(request)) and self._key("ip:", network[3:])
        return ask_peer if self.proxies is None else ask

    def _ask_key(self, source: ApiKey) -> _Ask:
        secret, is_known = check_secret(source.secret) or self._secret, source.is_known

        def ask(request: WebRequest) -> str | _Later | None:
            found = source.find(request)
            if found is None:
                return None
            key = f"key:{digest(found, secret)}"
            if is_known is None:
                return key
            return _Later(Call(is_known, (found,)), lambda answer: key if _answered(answer) else None)

        return ask

    def _ask_user(self, request: WebRequest) -> str | _Later | None:
        user = request.user
        if user is None:
            return None
        if isinstance(user, Awaitable):
            return _Later(Call(_itself, (user,)), lambda answer: self._key("user:", answer))
        return self._key("user:", user)

    def _key(self, prefix: str, answer: Any) -> str | None:
        """A key of an answer; None if there is none, or an empty one."""
        if answer is None or answer == "":
            return None
        if isinstance(answer, int) and not isinstance(answer, bool):
            answer = str(int(answer))
        if not isinstance(answer, str):
            _answered(answer)
            raise InvalidKey(
                f"the name of a caller is a str, not {type(answer).__name__}: write str(user.id), say: a text that "
                "differs with each request would be no limit at all"
            )
        if self.is_private:
            return f"{prefix}#{digest(answer, self._secret)}"
        is_plain = answer.isprintable() and answer[0] != "#"
        if is_plain and (len(answer) if answer.isascii() else len(answer.encode())) <= _MAX_BYTES:
            return prefix + answer
        return f"{prefix}#{digest(answer, self._secret)}"


def _itself(coming: Awaitable[Any]) -> Awaitable[Any]:
    return coming


def _answered(answer: Any) -> Any:
    if hasattr(answer, "__await__"):
        raise InvalidUse("a function that names callers is async, and this framework blocks: give a def")
    return answer
