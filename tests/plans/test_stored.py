"""Values as Redis keeps them, and the texts of every store: one from the other. That the values are those of the
scripts is for the contract to test, on real servers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis import Redis

from headgate import Limiter
from headgate.algorithms import token_bucket
from headgate.limits import KINDS as LIMIT_KINDS
from headgate.plans.merging import Place
from headgate.plans.redis.stored import from_stored, pattern_of, read_reply, stored_key_of, to_stored
from headgate.stores.redis import RedisStore
from tests.algorithms.playing import play
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import KINDS
from tests.algorithms.test_texts import schedules
from tests.profiles import quickly


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=quickly(40))
@given(data=st.data())
def test_what_is_kept_says_the_same_as_the_text(kind: str, data: st.DataObject) -> None:
    """For all states that random requests lead to."""
    among, drawn = data.draw(schedules(kind))
    reference = Reference()
    for played in play(among, drawn, reference):
        for place, state in reference.states.items():
            code = place[2]
            if reference.expiries[place] <= played.now_us or (code == "cc" and not state.slots):
                continue  # the server has dropped it
            text = LIMIT_KINDS[code].algorithm.dump(state)
            address = Place("n", code, "k")
            stored = to_stored(address, text)
            values = stored.values
            if stored.kind == "set":  # the server tells a member before its score
                values = [word for pair in zip(values[1::2], values[::2], strict=True) for word in pair]
            told, until_us = from_stored(address, values)
            if code == "tb" and " " not in values[0]:  # at a whole microsecond, all rates say the same
                (tat, rate, _), (read_tat, read_rate, _) = state, token_bucket.load(told)
                assert (read_rate, read_tat * rate) == (1, tat), played
            else:
                assert told == text, played
            if code == "tb":
                assert until_us == reference.expiries[place], played


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("tb", ["lock"]),
        ("tb", [""]),
        ("tb", ["1 2"]),
        ("tb", ["1 2 3 4"]),
        ("tb", ["1.5"]),
        ("tb", ["-1"]),
        ("fw", ["a b"]),
        ("pn", [""]),
        ("pn", ["=x"]),
        ("cc", ["holder:1"]),
        ("cc", ["holder:1", "soon"]),
    ],
)
def test_what_is_no_state_is_not_listed(code: str, values: list[str]) -> None:
    reply: list[Any] = [1_800_000_000_000_000, 1_000, [value.encode() for value in values]]
    assert read_reply(Place("n", code, "k"), reply) is None


parts = st.text("ab*?[]\\^-%{}:é", min_size=1, max_size=8)


@given(parts, parts, parts)
@example("*", "[a]", "x")
@example("a", "b", "\\")
def test_a_pattern_is_plain_text(prefix: str, begin: str, other: str) -> None:
    prefix = prefix.replace("{", "").replace("}", "") or "p"
    pattern = pattern_of(prefix, begin)
    rest = iter(pattern.removesuffix("*"))
    plain = "".join([next(rest) if character == "\\" else character for character in rest])
    assert stored_key_of(prefix, Place("n", "tb", begin + other)).startswith(plain)
    assert stored_key_of(prefix, Place("n", "tb", other)).startswith(plain) is other.startswith(begin)


def test_keys_of_others_are_neither_listed_nor_forgotten(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=10)
    Limiter("3/hour", store=store, name="api", on_outage="raise").try_acquire("k")
    others = {
        f"{prefix}:{{k}}": "text",
        f"{prefix}:{{k}}:api": "text",
        f"{prefix}:{{k}}:api:zz": "1 2",
        f"{prefix}:{{other}}:api:tb": "text",
        f"{prefix}:{{k}}:a:pi:tb": "1",
        f"{prefix}x:{{k}}:api:tb": "9999999999999999",
        f"{prefix}:{{tag}}:k:api:tb": "9999999999999999",
    }
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        for key, value in others.items():
            client.set(key, value, ex=600)
        client.rpush(f"{prefix}:{{list}}:api:tb", "9999999999999999")
        client.set(f"{prefix}:".encode() + b"{\xff}:api:tb", "9999999999999999")
        assert [entry.key for entry in store.scan()] == ["k"]
        assert store.clear() == 1
        assert [client.get(key) for key in others] == list(others.values())
        assert client.exists(f"{prefix}:{{list}}:api:tb")
        assert client.exists(f"{prefix}:".encode() + b"{\xff}:api:tb")
    store.close()
