"""The plan for Redis and Valkey: one script call for a whole batch.

Asks for `Script` commands. The reply is the script's list of integers, or `ScriptMissing` where the server does not
have the script (any more), or an outage, which goes to those groups that have no answer yet. What travels is packed
here, as RESP, since that takes longer than all else that is done for a call.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from itertools import repeat
from typing import Any, Final, NamedTuple

from headgate.algorithms import token_bucket
from headgate.decision import Answer, Decision, SingleHitDecision, ToldDecision
from headgate.drive import Plan
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group, Hit, SingleHit
from headgate.keys import storage_key, storage_key_frame
from headgate.limits import Limit, TokenBucket

FILES: Final = {
    "tb": ("token_bucket.lua", "token_bucket_each.lua"),
    "fw": ("fixed_window.lua",),
    "sw": ("sliding_window.lua",),
    "sl": ("sliding_log.lua",),
    "cc": ("concurrency.lua",),
}
_TEXTS: Final = {
    file.name: file.read_text("utf-8")
    for file in resources.files("headgate.algorithms").iterdir()
    if file.name.endswith(".lua")
}
"""The scripts by their files' names. They are read here, and not in a call, where a signal might interrupt it."""
NO_ANSWER: Final = "what came is no answer to what we asked: is this a Redis or Valkey server?"
MAX_ATTEMPTS: Final = 4
"""How often a calendar window may move away under a batch before that is an error. Twice takes a midnight at the
wrong moment."""
MAX_FRAMES: Final = 1024
"""For how many costs of one limit a call is kept packed."""
MAX_PLAIN: Final = 256
"""The longest key that goes straight through."""
STRANGE: Final = -9007199254740991
"""In the reply to a run of single hits: the next one was judged the general way, and the reply of a group follows."""
FOREIGN: Final = -9007199254740990
"""In the reply to a run: this key holds what is not ours."""

Refused = Callable[[str], StoreOutage]
"""Makes an outage of the server's words."""


class ScriptMissing:
    """The reply of a server that does not know the script: it was restarted, flushed, or never had it."""


class Script(NamedTuple):
    """Run a script: by its digest, or with its text where `is_whole`."""

    sha: str
    text: str
    packed: bytes
    """The call as it goes over the wire."""
    is_whole: bool = False

    def whole(self) -> Script:
        """The same call, with the script's text."""
        text = self.text.encode()
        packed = self.packed.replace(
            b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % self.sha.encode(), b"$4\r\nEVAL\r\n$%d\r\n%b\r\n" % (len(text), text), 1
        )
        return Script(self.sha, self.text, packed, True)


@functools.cache
def compose(codes: frozenset[str]) -> tuple[str, str]:
    """The script for a set of algorithms, as `(sha, text)`. What a batch does not use is not sent, nor run."""
    shared = ("clock.lua", "prelude.lua")
    names = ["clock.lua", *(["token_bucket_single.lua"] if "tb" in codes else []), "prelude.lua"]
    names += [*(name for code in sorted(codes) for name in FILES[code]), "decide.lua"]
    texts = [_TEXTS[name] for name in names]
    # A block each, so that their local names keep apart; those of clock and prelude are everybody's.
    text = "\n".join(part if name in shared else f"do\n{part}end\n" for name, part in zip(names, texts, strict=True))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text


def _refused(text: str) -> StoreOutage:
    return StoreUnavailable("redis", text)


def decide(
    groups: Sequence[Group],
    *,
    prefix: str,
    near_us: int,
    now_us: int | None = None,
    refused: Refused = _refused,
) -> Plan[Script, list[Answer]]:
    """Judge a batch; each group gets its decision, or an outage of its own where its key holds what is not ours.

    `near_us` is a guess of the server's time, for calendar windows; `now_us` replaces its clock (in tests); `refused`
    makes an outage of the server's words.
    """
    if len(groups) == 1 and now_us is None and _is_single(groups[0]):
        return _decide_single(groups[0], prefix, refused)
    return _decide_all(groups, prefix, near_us, now_us, refused)


def _decide_all(
    groups: Sequence[Group], prefix: str, near_us: int, now_us: int | None, refused: Refused
) -> Plan[Script, list[Answer]]:
    answers: list[Answer | None] = [None] * len(groups)
    pending: Sequence[int] = range(len(groups))
    for _ in range(MAX_ATTEMPTS):
        parts = _split(groups, pending, near_us)
        command = _pack(parts, groups, prefix, now_us)
        reply = yield command
        if isinstance(reply, ScriptMissing):
            reply = yield command.whole()
        if isinstance(reply, StoreOutage):
            return [reply if answer is None else answer for answer in answers]
        try:
            near_us = _read(reply, parts, groups, answers, refused)
        except (TypeError, IndexError, StopIteration):
            raise refused(NO_ANSWER) from None
        pending = [index for index in pending if answers[index] is None]
        if not pending:
            return [answer for answer in answers if answer is not None]
    raise refused("its clock jumps: no calendar window could be found for it")


def decide_alike(
    fare: BucketSingleHit, keys: Sequence[str], *, prefix: str, refused: Refused = _refused
) -> Plan[Script, list[Answer]]:
    """As `decide`, by the server's clock, for single hits of one fare: straight through, if there is nothing in the
    keys to escape and nothing strange in the reply.
    """
    command = fare.pack(keys)
    if command is None:
        return (yield from _decide_all([fare.group(key) for key in keys], prefix, 0, None, refused))
    reply = yield command
    if isinstance(reply, ScriptMissing):
        reply = yield command.whole()
    if isinstance(reply, StoreOutage):
        return [reply] * len(keys)
    answers = fare.read(reply, keys)
    return answers if answers is not None else _read_run(reply, [fare.group(key) for key in keys], refused)


def singly(plan: Plan[Script, list[Answer]]) -> Plan[list[Script], list[Answer]]:
    """The same plan, for whoever sends lists of scripts and receives lists of replies: its lists have one each."""
    try:
        script = next(plan)
        while True:
            try:
                (reply,) = yield [script]
            except StoreOutage as outage:
                reply = outage
            script = plan.send(reply)
    except StopIteration as done:
        answers: list[Answer] = done.value
        return answers


def _is_single(group: Group) -> bool:
    """Is it the commonest call: one hit to spend now, whose arguments depend on its cost alone?"""
    return len(group.hits) == 1 and group.max_wait_us == 0 and group.action == "spend" and group.hits[0].limit.is_plain


def _decide_single(group: Group, prefix: str, refused: Refused) -> Plan[Script, list[Answer]]:
    """As `decide`, straight through."""
    limit, key, name, cost = group.hits[0][:4]
    sha, text, arguments, before, after = _frame(limit, cost)
    stored_at = storage_key(prefix, key, name, limit.code).encode()
    script = Script(sha, text, b"%b$%d\r\n%b\r\n%b" % (before, len(stored_at), stored_at, after))
    reply = yield script
    if isinstance(reply, ScriptMissing):
        reply = yield script.whole()
    if isinstance(reply, StoreOutage):
        return [reply]
    return [_read_single(reply, group, limit, arguments, refused)]


def single(
    limit: Limit, name: str, prefix: str, refused: Refused
) -> tuple[Callable[[str, int], bytes | None], Callable[[Any, str, int], Answer]]:
    """The plan for single hits of one plain limit, without the generator, which takes a tenth of the time of a call:
    what packs a call by digest for a key and a cost (None: ask the general way), and what reads the reply.
    """
    begin, end, size = storage_key_frame(prefix, name, limit.code)
    begin_bytes, end_bytes = b"\r\n" + begin.encode(), end.encode() + b"\r\n"
    frames: dict[int, tuple[bytes, bytes, tuple[Any, ...]]] = {}
    asked, is_bucket = (limit, name), type(limit) is TokenBucket
    rate = limit.arguments(1, 0, "")[2] if is_bucket else 1

    def frame(cost: int) -> tuple[bytes, bytes, tuple[Any, ...]]:
        if len(frames) >= MAX_FRAMES:
            frames.clear()
        _, _, arguments, before, after = _frame(limit, cost)
        made = frames[cost] = before + b"$", end_bytes + after, arguments
        return made

    def pack(key: str, cost: int) -> bytes | None:
        if not key.isascii() or not 0 < len(key) <= MAX_PLAIN or "{" in key or "}" in key or "%" in key or "\0" in key:
            return None
        before, after, _ = frames.get(cost) or frame(cost)
        return b"%b%d%b%b%b" % (before, size + len(key), begin_bytes, key.encode(), after)

    def read(reply: Any, key: str, cost: int) -> Answer:
        is_plain = is_bucket and type(reply) is list and len(reply) == 3
        if is_plain and type(reply[2]) is type(reply[1]) is int and reply[1] >= 0:  # nearly always
            now_us, q, r = reply
            decision: ToldDecision = ToldDecision()
            decision.now_us = now_us
            decision.allowed = True
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = (now_us + q) * rate + r
            return decision
        arguments = (frames.get(cost) or frame(cost))[2]
        return _read_single(reply, Group((Hit(limit, key, name, cost),)), limit, arguments, refused)

    return pack, read


def _read_single(reply: Any, group: Group, limit: Limit, arguments: tuple[Any, ...], refused: Refused) -> Answer:
    if type(reply) is list and len(reply) > 2:
        now_us, q, r = reply[:3]
        if len(reply) == 3 and type(limit) is TokenBucket and type(now_us) is type(q) is type(r) is int:
            return _plain(group, arguments, now_us, q, r)
        if q == -2:
            return refused(_text(r))
        if set(map(type, reply)) == {int}:
            try:
                facts = limit.algorithm.read(iter(reply[2:]).__next__, now_us, arguments)
            except StopIteration:
                return refused(NO_ANSWER)
            return Decision(group, now_us, q == 1, (facts,))
    return refused(NO_ANSWER)


def _plain(group: Group, arguments: tuple[Any, ...], now_us: int, q: int, r: int) -> Decision:
    """The decision on a single hit, as token_bucket_single.lua answers it: the debt is (q, r) and the hit was allowed,
    or it is (-q - 1, r) and the hit was denied.
    """
    is_allowed = q >= 0
    tat = (now_us + (q if is_allowed else -q - 1)) * arguments[2] + r
    facts = token_bucket.plain_facts(tat, now_us, arguments, is_allowed=is_allowed)
    return Decision(group, now_us, is_allowed, (facts,))


class _Run(NamedTuple):
    """A part of a batch: single hits on token buckets, one after the other, that share their arguments."""

    indices: list[int]
    """Which groups of the batch."""
    hits: list[Hit]
    arguments: tuple[int, int, int]


class BucketSingleHit(SingleHit):
    """A fare of a token bucket, with all packed of a call but its keys."""

    __slots__ = ("_before", "_heads", "_rate", "_sha", "_tail", "_text", "_words")

    def __init__(self, limit: Limit, name: str, cost: int, prefix: str) -> None:
        super().__init__(limit, name, cost)
        self._rate: int = limit.arguments(cost, 0, "")[2]
        self._sha, self._text = compose(frozenset(("tb",)))
        self._before = f"{_word('EVALSHA')}{_word(self._sha)}"
        self._words = _word("") + _run_words(limit, cost)
        self._heads, self._tail = _key_frames(prefix, name)

    def pack(self, keys: Sequence[str]) -> Script | None:
        """The call for some usable keys; None if there is something in them to escape, or one is long."""
        joined = "".join(keys)
        if not joined.isascii() or "{" in joined or "}" in joined or "%" in joined:
            return None
        if max(map(len, keys)) > MAX_PLAIN:
            return None
        heads, tail, size = self._heads, self._tail, len(keys)
        digits = len(str(size))
        packed = tail.join([heads[len(key)] + key for key in keys])
        words = self._words % (digits, size)
        packed = f"*{size + 14}\r\n{self._before}${digits}\r\n{size}\r\n{packed}{tail}{words}"
        return Script(self._sha, self._text, packed.encode())

    def read(self, reply: Any, keys: Sequence[str]) -> list[Answer] | None:
        """The decisions; None unless all are plain."""
        if type(reply) is not list or {*map(type, reply)} != {int}:
            return None
        now_us, *debts = reply
        rate = self._rate
        if len(debts) != len(keys) * (1 if rate == 1 else 2):
            return None
        if rate > 1:
            debts, parts = debts[::2], debts[1::2]
        least = min(debts)
        if least <= FOREIGN:
            return None
        verdicts: Iterable[bool] = repeat(True)
        if least < 0:
            verdicts = [q >= 0 for q in debts]
            debts = [q if q >= 0 else -q - 1 for q in debts]
        if rate > 1:
            debts = [q * rate + r for q, r in zip(debts, parts, strict=True)]
        answers: list[Answer] = []
        for key, allowed, debt in zip(keys, verdicts, debts, strict=False):
            decision = SingleHitDecision()
            decision.asked = self
            decision.key = key
            decision.now_us = now_us
            decision.allowed = allowed
            decision.debt = debt
            answers.append(decision)
        return answers


class _One(NamedTuple):
    """A part of a batch: one group, whatever it is."""

    number: int
    """Which group of the batch."""
    arguments: list[tuple[Any, ...]]


def _split(groups: Sequence[Group], pending: Sequence[int], near_us: int) -> list[_Run | _One]:
    parts: list[_Run | _One] = []
    run: _Run | None = None
    run_limit: Limit | None = None
    run_cost = 0
    for index in pending:
        hits, max_wait_us, action, _ = groups[index]
        first = hits[0]
        if len(hits) == 1 and action == "spend" and max_wait_us == 0 and type(first.limit) is TokenBucket:
            if run is None or first.limit is not run_limit or first.cost != run_cost:
                run_limit, run_cost = first.limit, first.cost
                run = _Run([], [], first.limit.arguments(run_cost, near_us, ""))
                parts.append(run)
            run.indices.append(index)
            run.hits.append(first)
        else:
            run = None
            parts.append(_One(index, [hit.limit.arguments(hit.cost, near_us, hit.holder) for hit in hits]))
    return parts


def _pack(parts: list[_Run | _One], groups: Sequence[Group], prefix: str, now_us: int | None) -> Script:
    keys: list[str] = []
    words: list[str] = [_word("" if now_us is None else now_us)]
    count = 1
    codes: set[str] = set()
    for part in parts:
        if isinstance(part, _Run):
            codes.add("tb")
            limit, _, name, cost, *_ = part.hits[0]
            begin, end, size = storage_key_frame(prefix, name, "tb")
            for hit in part.hits:
                key = hit.key
                if hit.name is name and key.isascii() and "{" not in key and "}" not in key and "%" not in key:
                    keys.append(f"${size + len(key)}\r\n{begin}{key}{end}\r\n")
                else:
                    keys.append(_word(storage_key(prefix, key, hit.name, "tb")))
            words.append(_run_words(limit, cost) % (len(str(len(part.hits))), len(part.hits)))
            count += 10
        else:
            hits, max_wait_us, action, once = groups[part.number]
            own: list[str | int] = [] if once is None else [action]
            for (limit, key, name, _, _, receipt, *_), arguments in zip(hits, part.arguments, strict=True):
                codes.add(limit.code)
                stored_at = storage_key(prefix, key, name, limit.code)
                keys.append(_word(stored_at))
                if once is not None:
                    keys.append(_word(f"{stored_at}:once:{once.mark}"))
                own.append(limit.code)
                own += limit.algorithm.wire(arguments)
                if action == "give_back":
                    own += limit.algorithm.wire_receipt(arguments, receipt)
            head = (action, max_wait_us, len(hits)) if once is None else ("once", once.until_us, 2)
            words += map(_word, (*head, len(own), *own))
            count += 4 + len(own)
    sha, text = compose(frozenset(codes))
    begin = f"*{3 + len(keys) + count}\r\n{_word('EVALSHA')}{_word(sha)}{_word(len(keys))}"
    return Script(sha, text, "".join((begin, *keys, *words)).encode())


@functools.lru_cache(maxsize=256)
def _key_frames(prefix: str, name: str) -> tuple[list[str], str]:
    """What goes before the key of a token bucket that has nothing to escape, by its length, and what goes after it."""
    begin, end, size = storage_key_frame(prefix, name, "tb")
    return [f"${size + length}\r\n{begin}" for length in range(MAX_PLAIN + 1)], f"{end}\r\n"


@functools.lru_cache(maxsize=4096)
def _run_words(limit: Limit, cost: int) -> str:
    """The words of a run, but for how many hits it has, and the length of that."""
    wired = limit.algorithm.wire(limit.arguments(cost, 0, ""))
    rest = "".join(map(_word, (1 + len(wired), limit.code, *wired)))
    return f"{_word('each')}{_word(0)}$%d\r\n%d\r\n{rest}"


@functools.lru_cache(maxsize=4096)
def _frame(limit: Limit, cost: int) -> tuple[str, str, tuple[Any, ...], bytes, bytes]:
    """What `_pack` makes of a single hit: the script, the arguments, and the bytes before and after its key."""
    arguments = limit.arguments(cost, 0, "")
    wired = limit.algorithm.wire(arguments)
    words = wired if type(limit) is TokenBucket else ("", "spend", 0, 1, 1 + len(wired), limit.code, *wired)
    sha, text = compose(frozenset((limit.code,)))
    before = f"*{4 + len(words)}\r\n{_word('EVALSHA')}{_word(sha)}{_word(1)}"
    return sha, text, arguments, before.encode(), "".join(map(_word, words)).encode()


def _word(value: str | int) -> str:
    """One word of a call, as a RESP bulk string."""
    text = str(value)
    return f"${len(text) if text.isascii() else len(text.encode())}\r\n{text}\r\n"


def _read(
    reply: list[Any],
    parts: list[_Run | _One],
    groups: Sequence[Group],
    answers: list[Answer | None],
    refused: Refused,
) -> int:
    """Put what was decided into `answers`, and return the server's time."""
    if {*map(type, reply)} - {int, bytes, str}:
        raise TypeError(reply)
    now_us: int = reply[0]
    at = 1

    def take() -> Any:
        nonlocal at
        at += 1
        return reply[at - 1]

    def one(index: int, arguments: Sequence[tuple[Any, ...]]) -> None:
        allowed = take()
        if allowed == -2:
            answers[index] = refused(_text(take()))
        elif allowed >= 0:
            group = groups[index]
            facts = [
                hit.limit.algorithm.read(take, now_us, own) for hit, own in zip(group.hits, arguments, strict=True)
            ]
            answers[index] = Decision(group, now_us, allowed == 1, tuple(facts))

    for part in parts:
        if isinstance(part, _One):
            one(*part)
            continue
        arguments = part.arguments
        has_parts = arguments[2] > 1
        for index in part.indices:
            q = reply[at]
            at += 1
            if q == STRANGE:
                one(index, (arguments,))
                continue
            r = 0
            if has_parts:
                r = reply[at]
                at += 1
            if q == FOREIGN:
                answers[index] = refused("one of its keys holds something else than a token bucket")
            else:
                answers[index] = _plain(groups[index], arguments, now_us, q, r)
    return now_us


def _read_run(reply: Any, groups: list[Group], refused: Refused) -> list[Answer]:
    """What was decided on a batch of single hits that is one run."""
    answers: list[Answer | None] = [None] * len(groups)
    try:
        _read(reply, _split(groups, range(len(groups)), 0), groups, answers, refused)
    except (TypeError, IndexError, StopIteration):
        raise refused(NO_ANSWER) from None
    return [refused(NO_ANSWER) if answer is None else answer for answer in answers]


def _text(reply: Any) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
