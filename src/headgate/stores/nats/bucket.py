"""The bucket: a stream that keeps the last message of each subject. How it is made, and what has to be so in one that
is there already.

Plain values; this module must not know how the server is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from headgate.errors import InvalidUse, StoreOutage, StoreUnavailable
from headgate.stores.nats.replies import Refused

Storage = Literal["file", "memory"]

_NOT_FOUND: Final = 10059
_NAME_IN_USE: Final = 10058
_NOT_UNDERSTOOD: Final = 10025
_NOT_ENABLED: Final = (10039, 10076)
_TOO_LARGE: Final = 10054


class Bucket(NamedTuple):
    """A bucket, as it is to be made if there is none."""

    name: str
    replicas: int
    storage: Storage

    @classmethod
    def checked(cls, name: object, replicas: object, storage: object) -> Bucket:
        """One that can be.

        :raises InvalidUse: if it cannot.
        """
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise InvalidUse(f"bucket is a name of letters, digits, '-' and '_', not {name!r}")
        if type(replicas) is not int or not 1 <= replicas <= 5:
            raise InvalidUse(f"replicas is an integer from 1 to 5, not {replicas!r}")
        if storage not in ("file", "memory"):
            raise InvalidUse(f"storage is 'file' or 'memory', not {storage!r}")
        return cls(name, replicas, "file" if storage == "file" else "memory")

    @property
    def stream(self) -> str:
        """The name of its stream."""
        return f"KV_{self.name}"

    @property
    def subjects(self) -> str:
        """The subjects of its entries, with a wildcard."""
        return f"$KV.{self.name}.>"

    def config(self, *, is_atomic: bool) -> bytes:
        """The request that makes it. `is_atomic`: with batches that are written all or none."""
        config: dict[str, Any] = {
            "name": self.stream,
            "description": "the state of rate limits: headgate",
            "subjects": [self.subjects],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "storage": self.storage,
            "num_replicas": self.replicas,
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_msg_ttl": True,
        }
        if is_atomic:
            config["allow_atomic"] = True
        return json.dumps(config).encode()


class Ready(NamedTuple):
    """How a bucket that was found is to be used."""

    is_atomic: bool
    """Can several entries be written all or none?"""
    reads_directly: bool
    """May any server read for us? Not where there are replicas, which may be behind."""


def is_missing(refused: Refused) -> bool:
    """Does an error say that there is no such bucket?"""
    return refused.code == _NOT_FOUND


def is_there(refused: Refused) -> bool:
    """Does an error say that somebody else has just made the bucket?"""
    return refused.code == _NAME_IN_USE


def is_too_old(refused: Refused) -> bool:
    """Does an error say that the server does not know an option of the bucket?"""
    return refused.code == _NOT_UNDERSTOOD


def outage_of(refused: Refused, store: str) -> StoreOutage:
    """The outage that an error is."""
    if refused.code in _NOT_ENABLED:
        return StoreUnavailable(store, f"JetStream is not enabled for this account: {refused.text}")
    if refused.code == _TOO_LARGE:
        outage = StoreUnavailable(
            store, f"a state is more than the bucket takes in a message (max_msg_size): {refused.text}"
        )
        outage.is_of_server = False
        return outage
    return StoreUnavailable(store, f"the server refuses: {refused.text} ({refused.code})")


def check(config: Mapping[str, Any], bucket: Bucket, store: str) -> Ready:
    """See how a bucket that is there can be used.

    :raises StoreUnavailable: if it cannot.
    """
    remedy = f"change the stream {bucket.stream}, or name another bucket"
    wrong = [
        (
            not config.get("allow_msg_ttl"),
            "its entries can have no life of their own (allow_msg_ttl is off; it takes nats-server 2.11)",
        ),
        (not config.get("allow_direct"), "its entries cannot be read directly (allow_direct is off)"),
        (config.get("max_msgs_per_subject", -1) != 1, "it keeps more than the last entry of a key (history)"),
        (config.get("max_age", 0) > 0, "it forgets entries after a time of its own (max_age), which admits too much"),
        (
            config.get("discard") != "new" and max(config.get("max_msgs", -1), config.get("max_bytes", -1)) > 0,
            "it drops old entries when it is full (discard), which admits too much",
        ),
        (
            bool(config.get("discard_new_per_subject")),
            "it refuses to replace an entry (discard_new_per_subject)",
        ),
        (
            config.get("retention", "limits") != "limits",
            "it forgets entries as others read them, or at once (retention is not limits), which admits too much",
        ),
        (bool(config.get("no_ack")), "it does not say whether an entry was written (no_ack)"),
        (bool(config.get("subject_transform")), "it keeps entries under other subjects (subject_transform)"),
        (not _is_reached(config.get("subjects") or (), bucket), f"it does not keep {bucket.subjects} (subjects)"),
        (bool(config.get("sealed")), "it is sealed"),
    ]
    for is_wrong, problem in wrong:
        if is_wrong:
            raise StoreUnavailable(store, f"the bucket {bucket.name!r} is not usable: {problem}: {remedy}")
    return Ready(bool(config.get("allow_atomic")), config.get("num_replicas", 1) == 1)


def _is_reached(subjects: Iterable[str], bucket: Bucket) -> bool:
    """Does a stream keep what is published to a bucket, or a part of that? Which part is for its owner to know."""
    ours = bucket.subjects.split(".")
    return any(
        all(theirs in (own, "*", ">") or own == ">" for theirs, own in zip(subject.split("."), ours, strict=False))
        for subject in subjects
    )
