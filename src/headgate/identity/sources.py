"""The sources of an identity: what names a caller. Values; they must not know how they are asked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from headgate.errors import InvalidUse
from headgate.web.messages import WebRequest

KeyFunction = Callable[[Any], str | int | Awaitable[str | int | None] | None]
"""Names a caller by the framework's own request, or leaves it to the next source (None)."""

_DIGEST_BYTES: Final = 20
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The caller's API key. Only a hash of it is ever kept or sent: `key:` and 40 hex digits.

        ApiKey()                                 # the header X-API-Key
        ApiKey(scheme="Bearer")                  # Authorization: Bearer ...
        ApiKey(query="api_key", is_known=keys.__contains__)

    Whoever may send any key he likes is another caller with each. So either the app's authentication comes first, or
    `is_known` tells which keys were given out, or another rule limits the address, too.

    :raises InvalidUse: if a name or the secret does not fit.
    """

    header: str | None = None
    """The header that has the key. Where neither this nor the two below is given, `x-api-key`."""
    scheme: str | None = None
    """The scheme of `Authorization` that the key comes with, such as `Bearer`."""
    query: str | None = None
    """The parameter of the query that has the key."""
    secret: bytes | str | None = field(default=None, repr=False)
    """Makes the hash one that nobody else can make (keyed BLAKE2), of at least 16 bytes; that of the identity, or none
    (SHA-256), by default."""
    is_known: Callable[[str], bool | Awaitable[bool]] | None = None
    """Tells whether a key is one that was given out, sync or async. Others name nobody."""

    def __post_init__(self) -> None:
        if self.header is None and self.scheme is None and self.query is None:
            object.__setattr__(self, "header", "x-api-key")
        for what in ("header", "scheme"):
            name = getattr(self, what)
            if name is not None and not (isinstance(name, str) and _TOKEN.fullmatch(name)):
                raise InvalidUse(f"{what} of an ApiKey is one word, such as 'x-api-key' or 'Bearer', not {name!r}")
        if self.header is not None:
            object.__setattr__(self, "header", self.header.lower())
        check_secret(self.secret)

    def find(self, request: WebRequest) -> str | None:
        """The key that came with a request: from the header, else the scheme, else the query. For identities."""
        if self.header is not None:
            for value in request.values(self.header)[:1]:
                if found := value.strip():
                    return found
        if self.scheme is not None:
            for value in request.values("authorization")[:1]:
                scheme, _, found = value.strip().partition(" ")
                if scheme.lower() == self.scheme.lower() and (found := found.strip()):
                    return found
        return (request.query(self.query) or None) if self.query is not None else None


@dataclass(frozen=True, slots=True)
class ClientIP:
    """The caller's address, or its network: of several rules with other prefixes, each stops what slips by another.

        Rule("100/minute", key=ClientIP(prefix=64)), Rule("1000/minute", key=ClientIP(prefix=48))

    :raises InvalidUse: if a prefix does not fit.
    """

    prefix: int | None = None
    """How many bits of an address of IPv6 count: 1 to 128. Those of the identity by default."""
    ipv4_prefix: int | None = None
    """How many bits of an address of IPv4 count: 1 to 32. Those of the identity by default."""

    def __post_init__(self) -> None:
        check_prefix("prefix", self.prefix, 128)
        check_prefix("ipv4_prefix", self.ipv4_prefix, 32)


Source = str | KeyFunction | ApiKey | ClientIP
"""`api_key`, `user`, `ip`; a function of the framework's request; an `ApiKey`, a `ClientIP`."""


def check_prefix(what: str, prefix: int | None, most: int) -> None:
    """See whether a number is the length of a prefix.

    :raises InvalidUse: if it is not.
    """
    if prefix is not None and (type(prefix) is not int or not 1 <= prefix <= most):
        raise InvalidUse(f"{what} is how many bits of an address count, from 1 to {most}, not {prefix!r}")


def check_secret(secret: bytes | str | None) -> bytes | None:
    """A secret as the key of a hash; None for none.

    :raises InvalidUse: if it is too short. What it is, is not said.
    """
    if secret is None:
        return None
    if not isinstance(secret, (bytes, str)):
        raise InvalidUse(f"a secret is bytes or a str, not {type(secret).__name__}")
    key = secret.encode() if isinstance(secret, str) else secret
    if len(key) < 16:
        raise InvalidUse("a secret has at least 16 bytes: make one with secrets.token_hex(32)")
    return key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()


def digest(text: str, key: bytes | None) -> str:
    """The hash that stands for a text: 40 hex digits, of SHA-256, or of BLAKE2 with a key."""
    data = text.encode("utf-8", "surrogatepass")
    if key is None:
        return hashlib.sha256(data).hexdigest()[: 2 * _DIGEST_BYTES]
    return hashlib.blake2b(data, key=key, digest_size=_DIGEST_BYTES).hexdigest()
