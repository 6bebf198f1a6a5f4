"""Who is asking: the key of a request, from its API key, its user or its address.

    identity = Identity("api_key", "user", "ip", proxies=Proxies(count=1))

The first source that knows the caller names it: `key:` and a hash, `user:` and a name, `ip:` and a network. Nothing
that a caller writes becomes a key that it may choose. This package must not know a limit, a framework or a store.
"""

from __future__ import annotations

from headgate.identity.identity import Identity
from headgate.identity.proxies import Proxies
from headgate.identity.sources import ApiKey, ClientIP, KeyFunction, Source

__all__ = ["ApiKey", "ClientIP", "Identity", "KeyFunction", "Proxies", "Source"]
