"""The common part of all stores over a network, whatever the server is: calls that go in one batch, deadlines, a
breaker, the memory of denials, and what observers hear of round trips.

The author of a store says how a batch is answered, in a subclass of `Endpoint`: blocking (`answer`), and in an event
loop (`answer_async`, or `begin`, which is quicker). `RemoteStore` makes a `Store` of one, or of several that share the
work.

This package must not know any server.
"""

from __future__ import annotations

from headgate.stores.remote.cluster import Cluster
from headgate.stores.remote.endpoint import Endpoint, LoopConnection
from headgate.stores.remote.primary import Primary
from headgate.stores.remote.store import FastPath, RemoteStore, Servers
from headgate.stores.remote.terms import Learnt, Terms

__all__ = [
    "Cluster",
    "Endpoint",
    "FastPath",
    "Learnt",
    "LoopConnection",
    "Primary",
    "RemoteStore",
    "Servers",
    "Terms",
]
