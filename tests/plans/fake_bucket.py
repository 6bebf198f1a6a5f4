"""A bucket that needs no server: entries with revisions, written only where nobody has written since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.clock import ManualClock
from headgate.decision import Answer
from headgate.drive import Plan
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group, Hit
from headgate.plans.nats import Command, Commit, Kept, Known, Moved, Now, Pause, Place, Read, Terms, decide
from headgate.plans.nats.kept import NOTHING
from headgate.stores.holding import judge_group


class FakeBucket:
    """What is kept, and what was asked."""

    def __init__(self, *, is_atomic: bool = True) -> None:
        self.clock = ManualClock()
        self.is_atomic = is_atomic
        self.entries: dict[Place, Kept] = {}
        self.lives_s: dict[Place, int] = {}
        self.rounds: list[list[Any]] = []
        self._revision = 0
        self.is_time_left = True
        self.is_stalled = False
        """Does an earlier write still wait for the other servers? Then all others are refused."""

    def plan(self, known: Known, *groups: Group) -> Plan[list[Command], list[Answer]]:
        """The plan of a process, which remembers this."""
        terms = Terms(judge_group, known, self.is_atomic, self.contention)
        return decide(groups, self.clock(), terms)

    def contention(self, is_stalled: bool) -> StoreOutage:
        return StoreUnavailable("fake", "stalled" if is_stalled else "contention")

    def send(self, commands: Sequence[Any]) -> list[Any]:
        """Carry out some commands."""
        self.rounds.append(list(commands))
        return [self.answer(command) for command in commands]

    def answer(self, command: Any) -> Any:
        """Carry out one."""
        if isinstance(command, Read):
            return self.entries.get(command.place, NOTHING)
        if isinstance(command, Commit):
            assert self.is_atomic or len(command.puts) == 1, "entries are written one by one here"
            assert len({put.place for put in command.puts}) == len(command.puts), "entries that repeat are folded"
            if self.is_stalled or any(
                self.entries.get(put.place, NOTHING).revision != put.revision for put in command.puts
            ):
                return Moved()
            for put in command.puts:
                self._revision += 1
                self.entries[put.place] = Kept(self._revision, put.text, put.until_us)
                self.lives_s[put.place] = put.life_s
            return [self.entries[put.place].revision for put in command.puts]
        if isinstance(command, Pause):
            return self.is_time_left
        assert isinstance(command, Now)
        return self.clock()

    def touch(self, hit: Hit) -> None:
        """Write an entry as it is, as another process would."""
        place = Place(hit.name, hit.limit.code, hit.key)
        self._revision += 1
        kept = self.entries.get(place, NOTHING)
        self.entries[place] = kept._replace(revision=self._revision)

    def asked(self) -> list[str]:
        """What was asked, round by round: `C2R` is a commit of two entries and a read."""
        return ["".join(map(_letter, commands)) for commands in self.rounds]


def _letter(command: Any) -> str:
    if isinstance(command, Commit):
        return f"C{len(command.puts)}" if len(command.puts) > 1 else "C"
    return type(command).__name__[0]
