"""A server of scripts that needs no server: it reads a script's arguments, and answers as the Python reference does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import hiredis

from headgate.algorithms import Facts, concurrency, fixed_window, penalty, sliding_log, sliding_window, token_bucket
from headgate.plans.redis import Script, ScriptMissing

ALGORITHMS: Final[dict[str, Any]] = {
    "tb": token_bucket,
    "fw": fixed_window,
    "sw": sliding_window,
    "sl": sliding_log,
    "cc": concurrency,
    "pn": penalty,
}


class Call(NamedTuple):
    """A call as the server gets it."""

    command: str
    script: str
    keys: list[str]
    words: list[str]


def read_call(packed: bytes) -> Call:
    """What was packed."""
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(packed)
    command, script, count, *rest = reader.gets()
    assert reader.gets() is False, "there is something behind the call"
    return Call(command, script, rest[: int(count)], rest[int(count) :])


class FakeServer:
    """Knows no script at first, and forgets them all when it is flushed. Its clock stands where it is put."""

    def __init__(self, now_us: int = 1_800_000_000_000_000) -> None:
        self.now_us = now_us
        self.known: set[str] = set()
        self.states: dict[str, Any] = {}
        self.runs = 0
        """How many scripts were run, whole or by digest."""

    def flush(self) -> None:
        """Forget the scripts, as a server does that is restarted."""
        self.known.clear()

    def send(self, script: Script) -> list[int] | ScriptMissing:
        """Run a script."""
        if script.is_whole:
            self.known.add(script.sha)
        elif script.sha not in self.known:
            return ScriptMissing()
        self.runs += 1
        call = read_call(script.packed)
        assert call[:2] == (("EVAL", script.text) if script.is_whole else ("EVALSHA", script.sha))
        if len(call.words) == 5:
            return [self.now_us, *self._plain(call.keys[0], self.now_us, self._hit("spend", "tb", iter(call.words))[1])]
        words, keys = iter(call.words), iter(call.keys)
        given = next(words)
        now_us = self.now_us if given == "" else int(given)
        reply = [now_us]
        for action in words:
            if action == "each":
                reply += self._each(now_us, words, keys)
            elif action == "once":
                reply += self._once(now_us, words, keys)
            else:
                reply += self._group(action, now_us, words, keys)
        assert next(keys, None) is None, "there are more keys than hits"
        return reply

    def _once(self, now_us: int, words: Iterator[str], keys: Iterator[str]) -> list[int]:
        until_us, size, length = int(next(words)), int(next(words)), int(next(words))
        own = [next(words) for _ in range(length)]
        *hit_keys, mark = [next(keys) for _ in range(size)]
        if own[0] == "spend":
            until_us += now_us
        head = ["0", str(size - 1), ""]
        known_until_us, is_answered = self.states.get(mark, (0, False))
        if own[0] == "undo":
            words = iter(own[1:])
            told = self._group("look", now_us, itertools.chain(head, words), iter(hit_keys))
            if until_us <= now_us or (known_until_us, is_answered) != (until_us, False):
                return [2, *told[1:]]
            del self.states[mark]
            return self._group("give_back", now_us, itertools.chain(head, words), iter(hit_keys))
        is_over = until_us <= now_us or known_until_us > now_us
        reply = self._group("look" if is_over else own[0], now_us, iter([*head, *own[1:]]), iter(hit_keys))
        if is_over:
            reply[0] = 2
            if own[0] == "spend":
                self.states[mark] = known_until_us, True
        elif reply[0] == 1:
            self.states[mark] = until_us, False
        return reply

    def _each(self, now_us: int, words: Iterator[str], keys: Iterator[str]) -> list[int]:
        assert next(words) == "0"
        size, length, code = int(next(words)), next(words), next(words)
        assert (length, code) == ("6", "tb")
        arguments = self._hit("spend", code, words)[1]
        reply = []
        for _ in range(size):
            q, r = self._plain(next(keys), now_us, arguments)
            reply += [q] if arguments[2] == 1 else [q, r]
        return reply

    def _plain(self, key: str, now_us: int, arguments: Any) -> list[int]:
        """A single hit on a bucket to which nothing was given back."""
        fits, found = token_bucket.judge(self.states.get(key), now_us, arguments, 0)
        assert not found.notes.credited
        facts = self._write(key, *token_bucket.spend(found)) if fits else token_bucket.keep(found)
        q, r = divmod(facts[0], arguments[2])
        return [q, r] if fits else [-q - 1, r]

    def _group(self, action: str, now_us: int, words: Iterator[str], keys: Iterator[str]) -> list[int]:
        max_wait_us, size, _ = int(next(words)), int(next(words)), next(words)
        hits, wider = [], []
        for _ in range(size):
            code = next(words)
            wider.append(self._hit(action, next(words), words)[1] if code == "spare" else None)
            hits.append((next(keys), *self._hit(action, next(words) if code == "spare" else code, words)))
        if any(code == "fw" and fixed_window.locate(now_us, arguments) is None for _, code, arguments, _ in hits):
            return [-1]
        allowed, judged, denying = True, [], []
        facts: list[Facts] = []
        for (key, code, arguments, receipt), wide in zip(hits, wider, strict=True):
            algorithm, state = ALGORITHMS[code], self.states.get(key)
            if action == "forget":
                state = self.states.pop(key, None) and None
            if action in ("spend", "peek", "forget", "look"):
                fits, found = algorithm.judge(state, now_us, arguments, max_wait_us)
                if wide is not None:
                    is_left, found_wide = algorithm.judge(state, now_us, wide, max_wait_us)
                    fits, found = (fits, found) if is_left else (False, found_wide)
                allowed = allowed and (fits or action == "look")
                judged.append(found)
                denying.append(not fits)
                facts.append(algorithm.keep(found))
            elif action == "renew":
                allowed, *written = algorithm.renew(state, now_us, arguments)
                facts.append(self._write(key, *written))
            elif action == "take":
                facts.append(self._write(key, *algorithm.take(state, now_us, arguments)))
            else:
                facts.append(self._write(key, *algorithm.give_back(state, now_us, arguments, receipt)))
        if allowed and action == "spend":
            facts = [
                self._write(key, *ALGORITHMS[code].spend(found))
                for (key, code, _, _), found in zip(hits, judged, strict=True)
            ]
        elif action == "spend":
            codes = [code for _, code, _, _ in hits]
            if not any(denies for code, denies in zip(codes, denying, strict=True) if code == "pn"):
                for number in [number for number, code in enumerate(codes) if code == "pn"]:
                    before = max([at for at in range(number) if codes[at] == "pn"], default=-1)
                    if any(denying[before + 1 : number]):
                        judged[number] = penalty.count(judged[number])
                        facts[number] = penalty.keep(judged[number])
            for (key, code, _, _), found in zip(hits, judged, strict=True):
                if repaired := ALGORITHMS[code].repaired(found):
                    self.states[key] = repaired[0]
        reply = [int(allowed)]
        for (_, code, arguments, _), told in zip(hits, facts, strict=True):
            reply += self._report(code, now_us, arguments, told)
        return reply

    def _hit(self, action: str, code: str, words: Iterator[str]) -> tuple[str, Any, Any]:
        def numbers(count: int) -> list[int]:
            return [int(next(words)) for _ in range(count)]

        gives_back = action == "give_back"
        arguments: Any
        receipt: Any = None
        if code == "tb":
            increment_q, increment_r, tolerance_q, tolerance_r, rate = numbers(5)
            arguments = increment_q * rate + increment_r, tolerance_q * rate + tolerance_r, rate
            if gives_back:
                place_q, place_r, credited_q, credited_r, only_as_last = numbers(5)
                receipt = place_q * rate + place_r, credited_q * rate + credited_r, only_as_last == 1
        elif code == "fw":
            arguments = tuple(numbers(3))
            arguments += tuple(numbers(0 if arguments[2] else fixed_window.BOUNDARIES))
            receipt = numbers(1)[0] if gives_back else None
        elif code == "sw":
            arguments = tuple(numbers(5))
            receipt = numbers(1)[0] if gives_back else None
        elif code == "sl":
            arguments = tuple(numbers(3))
            receipt = tuple(numbers(2)) if gives_back else None
        elif code == "pn":
            arguments = tuple(numbers(4))
        else:
            arguments = (*numbers(3), next(words))
        return code, arguments, receipt

    def _report(self, code: str, now_us: int, arguments: Any, facts: Facts) -> list[int]:
        if code != "tb":
            return list(facts)
        debt, wait_us, place, credited = facts
        rate = arguments[2]
        if place == now_us * rate + debt and credited == 0:
            return [*divmod(debt, rate), wait_us]
        return [*divmod(debt, rate), -wait_us - 1, *divmod(place, rate), *divmod(credited, rate)]

    def _write(self, key: str, state: Any, _: int, facts: Facts) -> Facts:
        if state is None:
            self.states.pop(key, None)
        else:
            self.states[key] = state
        return facts
