"""A store of your own: it keeps its state in a plain file, for the processes of one machine.

It reads the file, judges, and writes it anew, under a lock that only one of them has at a time (so it does not run on
Windows). docs/writing-a-store.md explains each step; tests/contract/test_file_store.py tests it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from headgate import Limiter
from headgate.stores import Clock, Decision, Group, StoreUnavailable, judge_group, system_clock

Entries = dict[str, tuple[str, int]]
"""`(text, until_us)`, by what `address` makes."""


def address(name: str, code: str, key: str) -> str:
    return json.dumps([name, code, key])  # no two different ones look the same


class FileStore:
    timeout = float("inf")

    def __init__(self, path: str | Path, clock: Clock = system_clock) -> None:
        self.path, self.lock_path = Path(path), Path(f"{path}.lock")
        self.clock = clock
        self.asking: set[int] = set()

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        thread = threading.get_ident()
        if thread in self.asking:  # a signal's handler asks while this thread has the lock
            raise StoreUnavailable(str(self.path), "in use by the call that was interrupted")
        try:
            self.asking.add(thread)
            with self.lock_path.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # let go of when it is closed
                return self.decide_alone(groups)
        except (OSError, ValueError) as error:
            raise StoreUnavailable(str(self.path), str(error)) from error
        finally:
            self.asking.discard(thread)

    def decide_alone(self, groups: Sequence[Group]) -> list[Decision]:
        now_us, decisions = self.clock(), []
        entries: Entries = json.loads(self.path.read_text()) if self.path.exists() else {}
        for group in groups:
            decision, writes = judge_group(group, now_us, lambda *where: entries.get(address(*where)))
            for name, code, key, text, until_us in writes:
                entries[address(name, code, key)] = (text or "", until_us if text else 0)
            decisions.append(decision)
        living = {where: entry for where, entry in entries.items() if entry[1] > now_us}
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(living))
        fresh.replace(self.path)  # in one step, should the machine stop here
        return decisions

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        return await asyncio.to_thread(self.decide, groups)

    def close(self) -> None:
        """Nothing is open between calls."""

    async def aclose(self) -> None:
        """Nothing is open between calls."""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):  # as so many processes would, one after the other
            limiter = Limiter("3/minute", store=FileStore(Path(folder, "limits.json")))
            print(f"process {number}:", "go" if limiter.try_acquire("user:42") else "come back later")
