"""The least that a round trip to the server costs: one plain script for one key, by ever plainer means.

Every limiter that decides on the server pays at least this: `redis-py` for one that is built on it, the bare socket for
one that talks to the server itself, and the pipeline for one that sends many requests at once."""

from __future__ import annotations

import socket
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio

from benchmarks.measure import FLOOR
from benchmarks.peers import Contender, Entry, Quota

ONE_KEY_SCRIPT: Final = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local due = tonumber(redis.call('GET', KEYS[1]) or now)
if due < now then due = now end
due = due + ARGV[1]
if due - now > tonumber(ARGV[2]) then return {0, due - now} end
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', string.format('%.0f', (due - now) / 1000 + 1))
return {1, due - now}
"""
"""The plainest token bucket: one time, one read, one write, and floats."""
DEPTH: Final = 64
"""How many script calls are sent before the first reply is read, in the pipeline."""


def _numbers(quota: Quota) -> tuple[int, int]:
    return quota.per_s * 1_000_000 // quota.tokens, quota.capacity * quota.per_s * 1_000_000 // quota.tokens


def _is_admitted(reply: Any) -> bool:
    return bool(reply[0] == 1)


class _Connection:
    """A socket and a parser: nothing else stands between a caller and the server."""

    def __init__(self, url: str, quota: Quota) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self._ask(hiredis.pack_command(("SELECT", parts.path.removeprefix("/"))))
        self._sha = self._ask(hiredis.pack_command(("SCRIPT", "LOAD", ONE_KEY_SCRIPT)))
        self._arguments = _numbers(quota)

    def evalsha(self, key: str) -> Any:
        return self._ask(hiredis.pack_command(("EVALSHA", self._sha, 1, key, *self._arguments)))

    def evalsha_many(self, key: str) -> Any:
        packed = hiredis.pack_command(("EVALSHA", self._sha, 1, key, *self._arguments))
        self._socket.sendall(packed * DEPTH)
        reply = None
        for _ in range(DEPTH):
            reply = self._receive()
        return reply

    def close(self) -> None:
        self._socket.close()

    def _ask(self, packed: bytes) -> Any:
        self._socket.sendall(packed)
        return self._receive()

    def _receive(self) -> Any:
        reply = self._reader.gets()
        while reply is False:
            received = self._socket.recv(65_536)
            if not received:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(received)
            reply = self._reader.gets()
        return reply


def _bare_socket(url: str, quota: Quota) -> Contender:
    connection = _Connection(url, quota)
    return Contender(FLOOR, "bare socket, one-key script", connection.evalsha, _is_admitted, connection.close)


def _pipelined(url: str, quota: Quota) -> Contender:
    connection = _Connection(url, quota)
    name = f"bare socket, {DEPTH} scripts at once"
    return Contender(FLOOR, name, connection.evalsha_many, _is_admitted, connection.close, per_call=DEPTH)


def _pipelined_in_loop(url: str, quota: Quota) -> Contender:
    connection = _Connection(url, quota)

    async def call(key: str) -> Any:
        return connection.evalsha_many(key)

    name = f"bare socket, {DEPTH} scripts at once"
    return Contender(FLOOR, name, call, _is_admitted, connection.close, per_call=DEPTH)


def _client(url: str, quota: Quota) -> Contender:
    client: Any = redis.Redis.from_url(url)
    sha, arguments = client.script_load(ONE_KEY_SCRIPT), _numbers(quota)
    return Contender(
        FLOOR,
        "redis-py, one-key script",
        lambda key: client.evalsha(sha, 1, key, *arguments),
        _is_admitted,
        client.close,
    )


def _client_in_loop(url: str, quota: Quota) -> Contender:
    loading: Any = redis.Redis.from_url(url)
    sha, arguments = loading.script_load(ONE_KEY_SCRIPT), _numbers(quota)
    loading.close()
    client: Any = redis.asyncio.Redis.from_url(url)
    return Contender(
        FLOOR,
        "redis-py, one-key script",
        lambda key: client.evalsha(sha, 1, key, *arguments),
        _is_admitted,
        client.aclose,
    )


BARE_SOCKET: Final = Entry(FLOOR, "bare socket, one-key script", _bare_socket)
PIPELINED: Final = Entry(FLOOR, f"bare socket, {DEPTH} scripts at once", _pipelined, _pipelined_in_loop)
CLIENT: Final = Entry(FLOOR, "redis-py, one-key script", _client, _client_in_loop)
