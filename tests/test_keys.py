"""Keys: what is accepted as one, and that no two of them ever meet in a store."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from headgate import InvalidKey
from headgate.keys import (
    MAX_KEY_BYTES,
    SLOTS,
    check_key,
    check_prefix,
    read_storage_key,
    slot_finder,
    storage_key,
    tagged_prefix,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30) | st.text(
    "ab:/.%{}25B7D3A", min_size=1, max_size=12
)
prefixes = texts.filter(lambda text: not set(text) & set("{}"))
codes = st.sampled_from(["tb", "fw", "sw", "sl", "cc"])
addresses = st.tuples(prefixes, texts, texts, codes)


@given(addresses, addresses)
@example(("p", "a/b", "c", "tb"), ("p", "a", "b/c", "tb"))
@example(("p", "a:b", "c", "tb"), ("p", "a", "b:c", "tb"))
@example(("p", "a}:b", "c", "tb"), ("p", "a", "b}:c", "tb"))
@example(("p", "a", "b:tb", "tb"), ("p", "a", "b", "tb"))
@example(("p", "%7B", "n", "tb"), ("p", "{", "n", "tb"))
@example(("p", "%", "n", "tb"), ("p", "%25", "n", "tb"))
@example(("p", "k", ":", "tb"), ("p", "k", "%3A", "tb"))
@example(("p", "k", "%", "tb"), ("p", "k", "%25", "tb"))
@example(("p:", "k", "n", "tb"), ("p", "k", "n", "tb"))
@example(("p", "k", "n:fw", "tb"), ("p", "k", "n", "fw"))
def test_no_two_different_addresses_share_a_storage_key(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    assume(one != other)
    assert storage_key(*one) != storage_key(*other)


@given(addresses, st.sampled_from(["", "tag", "a:b"]))
@example(("p", "a}:b", "%3A%253A:{", "tb"), "")
@example(("p", "a}:b", "%3A%253A:{", "tb"), "tag")
def test_what_is_made_of_an_address_is_read_back(address: tuple[str, str, str, str], tag: str) -> None:
    prefix, key, name, code = address
    prefix = tagged_prefix(prefix, tag) if tag else prefix
    assert read_storage_key(prefix, storage_key(prefix, key, name, code)) == (key, name, code)


@given(prefixes, st.text("abp:{}%37B", max_size=12) | st.text(max_size=20))
@example("p", "p:{k}:n:m:tb")
@example("p", "p:{k}")
@example("p", "p:{{}:n:tb")
@example("p", "pp:{k}:n:tb")
@example("p", "p:{tag}:k:n:tb")
def test_what_no_address_makes_is_not_read(prefix: str, stored: str) -> None:
    found = read_storage_key(prefix, stored)
    assert found is None or storage_key(prefix, *found) == stored


@given(st.tuples(prefixes, texts, texts, codes))
def test_all_limits_of_a_key_share_a_slot_of_a_cluster(address: tuple[str, str, str, str]) -> None:
    prefix, key, name, code = address
    stored = storage_key(prefix, key, name, code)
    tag = stored[stored.index("{") + 1 : stored.index("}")]
    assert tag  # an empty one would be no tag
    assert stored == f"{prefix}:{{{tag}}}:{stored.rpartition('}:')[2]}"
    assert storage_key("other", key, "another", "cc").startswith(f"other:{{{tag}}}:")


def test_a_plain_key_is_easy_to_read_in_the_store() -> None:
    assert storage_key("headgate", "user:42", "api", "tb") == "headgate:{user:42}:api:tb"
    assert storage_key("headgate", "a{b}%", "x:{y}%", "tb") == "headgate:{a%7Bb%7D%25}:x%3A%7By%7D%25:tb"


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=MAX_KEY_BYTES // 4)
)
@example("k" * MAX_KEY_BYTES)
@example("é" * (MAX_KEY_BYTES // 2))
@example(" ")
def test_every_text_of_a_fair_length_is_a_key(text: str) -> None:
    assert check_key(text) == text


@given(st.text(max_size=20), st.sampled_from(["\0", "\ud800", "\udfff"]), st.text(max_size=20))
def test_what_a_store_cannot_hold_is_no_key(before: str, bad: str, after: str) -> None:
    with pytest.raises(InvalidKey, match=r"NUL|encodable as UTF-8") as caught:
        check_key(before + bad + after)
    str(caught.value).encode()  # can be printed and logged


@pytest.mark.parametrize(
    "text", ["k" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2 + 1), "k" * 2**20, "\U0001f511" * 257]
)
def test_a_long_text_is_no_key_and_is_not_repeated(text: str) -> None:
    with pytest.raises(InvalidKey, match=rf"at most 1024 bytes; .* has {len(text.encode())}: store a hash") as caught:
        check_key(text)
    assert len(str(caught.value)) < 600


def test_an_empty_text_is_no_key() -> None:
    with pytest.raises(InvalidKey, match="a key must not be empty: for one counter for everybody, use a key such as"):
        check_key("")


@pytest.mark.parametrize("thing", [None, 42, b"k", 4.2, ["k"], ("k",), object(), True])
def test_what_is_no_text_is_no_key(thing: Any) -> None:
    with pytest.raises(InvalidKey, match=rf"a key is a str, not {type(thing).__name__}: write str\(\.\.\.\)"):
        check_key(thing)


class Plan(str, enum.Enum):  # noqa: UP042 - a StrEnum prints as its value, and this one does not
    """A text that does not print as one."""

    FREE = "free"


def test_a_text_of_another_type_is_kept_as_a_plain_one() -> None:
    assert type(check_key(Plan.FREE)) is str
    assert storage_key("p", check_key(Plan.FREE), "n", "tb") == storage_key("p", "free", "n", "tb")


@pytest.mark.parametrize("prefix", ["headgate", "app:rate", "a b", "ü", "%"])
def test_a_prefix_may_be_any_key_without_braces(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["{", "a}b", "{x}", "", "\0", "p" * 1025, None, 5])
def test_a_prefix_that_would_move_the_hash_tag_is_refused(prefix: Any) -> None:
    with pytest.raises(InvalidKey):
        check_prefix(prefix)


# Slots


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 0x31C3),
        ("foo", 12182),
        ("bar", 5061),
        ("hello", 866),
        ("user1000", 3443),
        ("a", 15495),
    ],
)
def test_a_slot_is_that_of_the_specification(key: str, slot: int) -> None:
    assert slot_finder("headgate")(key) == slot == key_slot(key.encode())


@given(prefixes, texts, texts, codes)
@example("p", "{", "n", "tb")
@example("p", "}", "n", "tb")
@example("p", "{}", "{}", "tb")
@example("p", "a{b}c", "{n}", "tb")
@example("p", "%7B", "n", "tb")
@example("p", "ключ \U0001f511", "n", "tb")
@example("{", "k", "n", "tb")
def test_a_slot_is_that_of_the_whole_storage_key(prefix: str, key: str, name: str, code: str) -> None:
    assume("{" not in prefix)
    slot = slot_finder(prefix)(key)
    assert slot == key_slot(storage_key(prefix, key, name, code).encode())
    assert 0 <= slot < SLOTS


tags = prefixes


@given(prefixes, tags, st.lists(st.tuples(texts, texts, codes), min_size=1, max_size=5))
def test_with_a_hash_tag_all_that_a_store_keeps_lies_in_its_slot(
    prefix: str, tag: str, places: list[tuple[str, str, str]]
) -> None:
    tagged = tagged_prefix(prefix, tag)
    slots = {key_slot(storage_key(tagged, *place).encode()) for place in places}
    assert slots == {slot_finder(tagged)(key) for key, _, _ in places} == {key_slot(tag.encode())}


tagged_addresses = st.tuples(st.tuples(prefixes, st.none() | tags), texts, texts, codes)


@given(tagged_addresses, tagged_addresses)
@example((("p", "t"), "k", "n", "tb"), (("p", None), "t", "k:n", "tb"))
@example((("p", "t"), "k", "n", "tb"), (("p", None), "t", "k", "tb"))
@example((("p", "t"), "k:x", "n", "tb"), (("p", "t"), "k", "x:n", "tb"))
@example((("p", "t"), "{k}", "n", "tb"), (("p", "t"), "%7Bk%7D", "n", "tb"))
@example((("p:q", "t"), "k", "n", "tb"), (("p", "q:t"), "k", "n", "tb"))
@example((("p", "%7B"), "k", "n", "tb"), (("p", None), "{", "n", "tb"))
@example((("p", "t"), "t:k", "n", "tb"), (("p", "t:t"), "k", "n", "tb"))
def test_no_two_different_addresses_share_a_storage_key_with_hash_tags_or_without(
    one: tuple[tuple[str, str | None], str, str, str], other: tuple[tuple[str, str | None], str, str, str]
) -> None:
    assume(one != other)

    def stored(address: tuple[tuple[str, str | None], str, str, str]) -> str:
        (prefix, tag), key, name, code = address
        return storage_key(prefix if tag is None else tagged_prefix(prefix, tag), key, name, code)

    assert stored(one) != stored(other)


def test_a_plain_key_with_a_hash_tag_is_easy_to_read_in_the_store() -> None:
    assert storage_key(tagged_prefix("headgate", "shop"), "user:42", "api", "tb") == "headgate:{shop}:user:42:api:tb"


@pytest.mark.parametrize("tag", ["{", "a}b", "{x}", "", "\0", "t" * 1025, None, 5])
def test_a_hash_tag_that_would_not_be_one_is_refused(tag: Any) -> None:
    with pytest.raises(InvalidKey):
        tagged_prefix("headgate", tag)
