"""Who is asking: sources in order, and the keys that they make."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate import AsyncLimiter, InvalidKey, InvalidUse, Limiter
from headgate.identity import ApiKey, ClientIP, Identity, Proxies
from headgate.identity.addresses import plain_address
from headgate.keys import check_key
from headgate.rules import Rule, Rules
from headgate.web.core import WebLimiter, run, run_async
from tests.web.asking import Asked

SECRET = "a secret of some length"
IP = "ip:203.0.113.7"


class WithQuery(Asked):
    """A request with parameters."""

    parameters: dict[str, str]

    def query(self, name: str) -> str | None:
        return self.parameters.get(name)


def key_of(identity: Identity, **request: Any) -> str:
    return run(identity.of(Asked(**request)))


async def answered(value: Any) -> Any:
    return value


def test_the_first_source_that_knows_the_caller_names_it() -> None:
    identity = Identity("api_key", "user", "ip")
    key = key_of(identity, user="42", headers={"x-api-key": "k"})
    assert key == key_of(Identity("api_key"), headers={"x-api-key": "k"})
    assert key_of(identity, user="42") == "user:42"
    assert key_of(identity) == IP
    assert key_of(identity, peer=None) == "unknown"
    assert key_of(Identity("user", "api_key"), user="42", headers={"x-api-key": "k"}) == "user:42"
    assert key_of(Identity()) == IP


def test_an_unknown_source_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidUse, match="unknown source 'users' of an identity: is it 'user'"):
        Identity("users")
    with pytest.raises(InvalidUse, match="a name or a function, not 5"):
        Identity(5)  # type: ignore[arg-type]  # pyrefly: ignore
    with pytest.raises(InvalidUse, match="proxies is a Proxies"):
        Identity("ip", proxies=1)  # type: ignore[arg-type]  # pyrefly: ignore


# Keys of APIs


def test_an_api_key_is_only_ever_seen_as_a_hash() -> None:
    for identity in (Identity("api_key"), Identity("api_key", secret=SECRET), Identity(ApiKey(secret=SECRET))):
        key = key_of(identity, headers={"x-api-key": "sk-live-1234"})
        assert key.startswith("key:")
        assert len(key) == 44
        assert "1234" not in key
        assert SECRET not in repr(identity)
        assert SECRET not in repr(identity.sources)
        assert key != key_of(identity, headers={"x-api-key": "sk-live-1235"})
    plain = key_of(Identity("api_key"), headers={"x-api-key": "sk-live-1234"})
    assert plain == "key:" + hashlib.sha256(b"sk-live-1234").hexdigest()[:40]
    assert plain != key_of(Identity("api_key", secret=SECRET), headers={"x-api-key": "sk-live-1234"})


def test_an_api_key_comes_in_a_header_with_a_scheme_or_in_the_query() -> None:
    wanted = key_of(Identity("api_key"), headers={"x-api-key": "k"})
    assert key_of(Identity(ApiKey(header="X-Token")), headers={"x-token": " k "}) == wanted
    bearer = Identity(ApiKey(scheme="Bearer"), "ip")
    for value in ("Bearer k", "bearer   k", " BEARER k "):
        assert key_of(bearer, headers={"authorization": value}) == wanted
    for value in ("Basic k", "Bearer", "Bearer ", "k", "Bearerk", ""):
        assert key_of(bearer, headers={"authorization": value}) == IP
    assert key_of(bearer, headers={"x-api-key": "k"}) == IP
    request = WithQuery()
    request.parameters = {"api_key": "k"}
    assert run(Identity(ApiKey(query="api_key")).of(request)) == wanted
    request.parameters = {"api_key": ""}
    assert run(Identity(ApiKey(query="api_key"), "ip").of(request)) == IP


def test_of_several_lines_the_first_is_the_key_as_frameworks_have_it() -> None:
    wanted = key_of(Identity("api_key"), headers={"x-api-key": "k"})
    assert key_of(Identity("api_key"), headers={"x-api-key": ["k", "other"]}) == wanted


def test_an_empty_api_key_names_nobody() -> None:
    assert key_of(Identity("api_key", "ip"), headers={"x-api-key": "  "}) == IP


async def test_an_api_key_that_was_not_given_out_names_nobody() -> None:
    known = Identity(ApiKey(is_known={"k"}.__contains__), "ip")
    assert key_of(known, headers={"x-api-key": "k"}).startswith("key:")
    assert key_of(known, headers={"x-api-key": "made up"}) == IP

    async def is_known(key: str) -> bool:
        return key == "k"

    looked_up = Identity(ApiKey(is_known=is_known), "ip")
    assert (await run_async(looked_up.of(Asked(headers={"x-api-key": "k"})))).startswith("key:")
    assert await run_async(looked_up.of(Asked(headers={"x-api-key": "made up"}))) == IP


def test_what_an_api_key_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidUse, match="scheme of an ApiKey is one word"):
        ApiKey(scheme="Bearer token")
    with pytest.raises(InvalidUse, match="header of an ApiKey is one word"):
        ApiKey(header="")
    with pytest.raises(InvalidUse, match="at least 16 bytes") as caught:
        Identity("api_key", secret="letmein")
    assert "letmein" not in str(caught.value)
    with pytest.raises(InvalidUse, match="bytes or a str, not int"):
        Identity("api_key", secret=5)  # type: ignore[arg-type]  # pyrefly: ignore


def test_a_secret_may_be_longer_than_a_hash_takes() -> None:
    keys = {key_of(Identity("api_key", secret="x" * length), headers={"x-api-key": "k"}) for length in (64, 65, 99)}
    assert len(keys) == 3


# Users and functions


async def test_a_user_may_have_to_be_asked_for() -> None:
    assert await run_async(Identity("user").of(Asked(user=answered("42")))) == "user:42"
    assert await run_async(Identity("user", "ip").of(Asked(user=answered(None)))) == IP


async def test_functions_name_callers_too() -> None:
    asked = Asked(headers={"x-team": "blue"})

    def team(request: Asked) -> str | None:
        return next((f"team:{value}" for value in request.values("x-team")), None)

    async def team_later(request: Asked) -> str | None:
        return team(request)

    assert run(Identity(team, "ip").of(asked)) == "team:blue"
    assert run(Identity(team, "ip").of(Asked())) == IP
    assert await run_async(Identity(team_later, "ip").of(asked)) == "team:blue"
    assert await run_async(Identity(team_later, "ip").of(Asked())) == IP
    assert run(Identity(lambda _: 42).of(asked)) == "42"
    assert run(Identity(lambda _: "", "ip").of(asked)) == IP


@pytest.mark.parametrize("answer", [object(), b"42", True, 4.2, uuid.uuid4(), ["a"]])
def test_an_answer_that_may_differ_with_each_request_is_refused(answer: Any) -> None:
    with pytest.raises(InvalidKey, match="write str"):
        run(Identity(lambda _: answer).of(Asked()))


def test_a_coroutine_is_never_taken_for_a_name_or_for_yes() -> None:
    coming: list[Any] = []

    def named(_: Any) -> Awaitable[Any]:
        coming.append(answered("x"))
        return coming[-1]  # type: ignore[no-any-return]

    for identity in (Identity(named), Identity(ApiKey(is_known=named))):
        with pytest.raises(InvalidUse, match="is async, and this framework blocks"):
            run(identity.of(Asked(headers={"x-api-key": "k"})))
    for one in coming:
        one.close()


def test_a_framework_that_blocks_takes_no_async_function() -> None:
    async def name(_: Any) -> str:
        return "x"

    for rules in (
        Rules([Rule("1/s")], identity=Identity(name)),
        Rules([Rule("1/s")], identity=Identity(ApiKey(is_known=name))),  # type: ignore[arg-type]  # pyrefly: ignore
        Rules([Rule("1/s", key=Identity(name))]),
        Rules([Rule("1/s", key=ApiKey(is_known=name))]),  # type: ignore[arg-type]  # pyrefly: ignore
    ):
        with pytest.raises(InvalidUse, match="async"):
            WebLimiter(Limiter, rules)
        WebLimiter(AsyncLimiter, rules)


# Keys are bounded, and nobody chooses another's


@given(st.text(min_size=1, max_size=3_000))
def test_any_name_is_a_key_that_stores_take(name: str) -> None:
    for key in (key_of(Identity("user"), user=name), run(Identity(lambda _: name).of(Asked()))):
        assert check_key(key) == key
        assert key.isprintable()
        assert len(key.encode()) <= 520


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_users_have_different_keys(one: str, other: str) -> None:
    assert (key_of(Identity("user"), user=one) == key_of(Identity("user"), user=other)) is (one == other)


def test_nobody_takes_the_name_that_stands_for_a_long_one() -> None:
    long = key_of(Identity("user"), user="x" * 2_000)
    assert long.startswith("user:#")
    assert key_of(Identity("user"), user=long.removeprefix("user:")) != long


def test_where_keys_are_private_no_name_and_no_address_is_in_them() -> None:
    identity = Identity("user", "ip", lambda _: "team:blue", secret=SECRET, is_private=True)
    keys = [key_of(identity, user="alice"), key_of(identity), key_of(identity, peer=None)]
    assert [key.partition("#")[0] for key in keys] == ["user:", "ip:", ""]
    assert not any(word in "".join(keys) for word in ("alice", "203", "blue"))
    assert key_of(identity, peer="2001:db8::1") == key_of(identity, peer="2001:db8::2")
    with pytest.raises(InvalidUse, match="is_private takes a secret"):
        Identity("ip", is_private=True)


# Addresses


def test_an_address_of_ipv6_is_its_network() -> None:
    assert key_of(Identity(), peer="2001:db8:1:2:3:4:5:6") == "ip:2001:db8:1:2::/64"
    assert key_of(Identity(ipv6_prefix=56), peer="2001:db8:1:2ff::6") == "ip:2001:db8:1:200::/56"
    assert key_of(Identity(ipv6_prefix=128), peer="2001:DB8::0006") == "ip:2001:db8::6"
    assert key_of(Identity(ipv4_prefix=24), peer="203.0.113.7") == "ip:203.0.113.0/24"


@given(st.ip_addresses(network="2000::/3"), st.integers(4, 128))
def test_who_shares_a_network_shares_a_key(address: Any, prefix: int) -> None:
    identity = Identity(ipv6_prefix=prefix)
    host_bits = 128 - prefix
    last = type(address)(int(address) | (1 << host_bits) - 1)
    assert key_of(identity, peer=str(address)) == key_of(identity, peer=last.exploded)
    beside = type(address)(int(address) ^ 1 << host_bits)
    assert key_of(identity, peer=str(address)) != key_of(identity, peer=str(beside))


def test_masks_may_be_stacked_in_rules_and_are_asked_together() -> None:
    rules = [Rule("2/minute", name="host"), Rule("3/minute", name="site", key=ClientIP(prefix=48))]
    limiter = WebLimiter(Limiter, Rules(rules))
    admitted = [run(limiter.admit(Asked(peer=f"2001:db8:1:{n}::1"))).is_admitted for n in range(5)]
    assert admitted == [True, True, True, False, False]
    assert run(limiter.admit(Asked(peer="2001:db8:2::1"))).is_admitted
    assert len(run(limiter.admit(Asked(peer="2001:db8:2::1"))).verdicts) == 1


def test_a_source_of_a_rule_has_the_options_of_the_app() -> None:
    identity = Identity("user", proxies=Proxies(count=1), ipv6_prefix=56, secret=SECRET)
    behind = {"x-forwarded-for": "2001:db8:0:1::1"}
    assert key_of(identity.by("ip"), peer="10.0.0.1", headers=behind) == "ip:2001:db8::/56"
    assert identity.by("ip") is identity.by("ip")
    assert key_of(identity.by("api_key"), headers={"x-api-key": "k"}) == key_of(
        Identity("api_key", secret=SECRET), headers={"x-api-key": "k"}
    )

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, request: Any) -> str:
            return "named"

    assert key_of(identity.by(Unhashable())) == "named"
    for number in range(1_000):
        identity.by(lambda _, number=number: str(number))  # type: ignore[misc]  # pyrefly: ignore
    assert len(identity._variants) <= 256


def test_the_address_is_whole_and_in_one_spelling() -> None:
    identity = Identity("user", ipv6_prefix=48)
    assert identity.address(Asked(peer="2001:DB8:0::1%eth0")) == "2001:db8::1"
    assert identity.address(Asked(peer="::ffff:203.0.113.7")) == "203.0.113.7"
    assert identity.address(Asked(peer="testclient")) is None
    assert identity.address(Asked(peer=None)) is None
    behind = Identity(proxies=Proxies(networks=["unix:"]))
    assert behind.address(Asked(peer=None, headers={"x-forwarded-for": "203.0.113.7"})) == "203.0.113.7"


@given(st.ip_addresses())
def test_each_spelling_of_an_address_is_one(address: Any) -> None:
    plain = plain_address(str(address))
    assert plain is not None
    assert plain_address(plain) == plain
    spellings = [address.exploded, address.exploded.upper(), f" {address}\t"]
    spellings += [f"{address}:80"] if address.version == 4 else [f"[{address}]", f"[{address}]:80", f"{address}%eth0"]
    assert {plain_address(text) for text in spellings} == {plain}


@pytest.mark.parametrize("prefix", [0, 129, -1, True, "64"])
def test_a_prefix_that_is_none_is_refused(prefix: Any) -> None:
    with pytest.raises(InvalidUse, match="from 1 to 128"):
        Identity("ip", ipv6_prefix=prefix)
    with pytest.raises(InvalidUse, match="from 1 to 128"):
        ClientIP(prefix=prefix)


# Proxies


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either by count"),
        ({"count": 1, "networks": ["10.0.0.0/8"]}, "either by count"),
        ({"count": 0}, "from 1 to 64, not 0"),
        ({"count": True}, "not True"),
        ({"networks": ["10.0.0.0/33"]}, "a network is written as 10.0.0.0/8"),
        ({"networks": ["*"]}, "a network is written as"),
        ({"networks": ["0.0.0.0/0"]}, "is everybody"),
        ({"networks": ["::/0"]}, "is everybody"),
        ({"count": 1, "header": "x-forwarded-for, forwarded"}, "the name of one header"),
        ({"count": 2, "header": "x-real-ip"}, "says nothing of 2 proxies"),
    ],
)
def test_proxies_that_cannot_be_are_refused(options: Any, said: str) -> None:
    with pytest.raises(InvalidUse, match=said):
        Proxies(**options)


def test_networks_may_be_written_in_either_way() -> None:
    for network in ("10.0.0.0/8", "10.1.2.3/8", "::ffff:10.0.0.0/104"):
        identity = Identity(proxies=Proxies(networks=[network]))
        assert key_of(identity, peer="10.9.9.9", headers={"x-forwarded-for": "203.0.113.7"}) == IP
    one = Identity(proxies=Proxies(networks="127.0.0.1"))
    assert key_of(one, peer="127.0.0.1", headers={"x-forwarded-for": "203.0.113.7"}) == IP
    assert key_of(one, peer="127.0.0.2", headers={"x-forwarded-for": "203.0.113.7"}) == "ip:127.0.0.2"


def test_proxies_say_what_they_are() -> None:
    assert repr(Proxies(count=2)) == "Proxies(count=2, header='x-forwarded-for')"
    assert repr(Identity("ip", proxies=Proxies(networks=["unix:"], header="Forwarded"))) == (
        "Identity('ip', proxies=Proxies(networks=['unix:'], header='forwarded'))"
    )
