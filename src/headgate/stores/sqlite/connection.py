"""One connection to a file of SQLite: its table, and a batch of groups in one transaction.

This module must not know who waits for whom: it is asked when it is its turn.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from random import randrange
from typing import Any, Final, TypeVar

from headgate.clock import Clock
from headgate.decision import Answer
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group
from headgate.plans.merging import to_keep
from headgate.stores.contract import Entry
from headgate.stores.holding import judge_group

T = TypeVar("T")

PAGE_BYTES: Final = 1024
"""Of a file that is made here: a write takes a fifth less time than with pages of 4096."""
SWEEP_EVERY: Final = 32
"""After so many entries were written, some others are looked at, whether they still say anything."""
SWEEP_ROWS: Final = 64
"""How many are looked at then: twice as many as may have been new."""
LOOK_EVERY_NS: Final = 10_000_000
"""After so long, it is looked whether the file is still there: what is written to one that was deleted goes nowhere."""
MAX_KNOWN: Final = 4096
"""Of so many entries, a connection knows what it wrote last."""
_PER_BITE: Final = 500
"""How many entries an operator's question reads or writes at a time."""

# The table's name has the number of its layout: another layout would be another table.
_CREATE: Final = """CREATE TABLE IF NOT EXISTS headgate_state_1 (
    prefix TEXT NOT NULL, name TEXT NOT NULL, code TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL,
    until_us INTEGER NOT NULL, PRIMARY KEY (prefix, name, code, key)
) WITHOUT ROWID"""
_READ: Final = "SELECT text, until_us FROM headgate_state_1 WHERE prefix = ? AND name = ? AND code = ? AND key = ?"
_WRITE: Final = """INSERT INTO headgate_state_1 VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET text = excluded.text, until_us = excluded.until_us"""
_REPLACE: Final = """UPDATE headgate_state_1 SET text = ?, until_us = ?
    WHERE prefix = ? AND name = ? AND code = ? AND key = ? AND text = ? AND until_us = ?"""
_DELETE: Final = "DELETE FROM headgate_state_1 WHERE prefix = ? AND name = ? AND code = ? AND key = ?"
_LOOK: Final = """SELECT prefix, name, code, key, until_us FROM headgate_state_1
    WHERE (prefix, name, code, key) > (?, ?, ?, ?) ORDER BY prefix, name, code, key LIMIT ?"""
_LIST: Final = """SELECT name, code, key, text, until_us FROM headgate_state_1
    WHERE prefix = ? AND (name, code, key) > (?, ?, ?) AND name < coalesce(?, x'') AND substr(name, 1, ?) = ?
    AND substr(key, 1, ?) = ?
    ORDER BY name, code, key LIMIT ?"""
_START: Final = ("", "", "", "")
"""Before all entries, for no prefix is empty. An entry there says how far the table has been swept, by whomever."""

_REMEDIES: Final = {
    "SQLITE_BUSY": "another program has it locked: no other should keep a transaction open in it",
    "SQLITE_LOCKED": "another program has it locked: no other should keep a transaction open in it",
    "SQLITE_FULL": "the disk is full: make room",
    "SQLITE_READONLY": "it cannot be written: check its rights, and those of its folder",
    "SQLITE_CANTOPEN": "it cannot be opened: check that its folder exists, and the rights",
    "SQLITE_PERM": "it cannot be opened: check its rights",
    "SQLITE_NOTADB": "it is no file of SQLite: name another one",
    "SQLITE_CORRUPT": "it is damaged: remove it, and its -wal and -shm beside it; what is owed is forgotten then",
    "SQLITE_IOERR": "reading or writing it failed: check the disk",
}


def _behind(begin: str) -> str | None:
    """The first text behind all that begin so, in the order of UTF-8; None if there is none."""
    begin = begin.rstrip("\U0010ffff")
    if not begin:
        return None
    following = ord(begin[-1]) + 1
    return begin[:-1] + chr(0xE000 if following == 0xD800 else following)  # no text holds a surrogate


class Busy(StoreUnavailable):
    """Another program has the file locked."""


class Judging:
    """Groups that are to be judged, as a transaction."""

    __slots__ = ("clock", "groups")

    def __init__(self, groups: Sequence[Group], clock: Clock) -> None:
        self.groups = groups
        self.clock = clock

    def __call__(self, connection: Connection) -> list[Answer]:
        """Judge them, as part of `work`."""
        return connection.decide(self.groups, self.clock)


class Connection:
    """A connection, which opens the file when it is first needed. For one thread at a time.

    :param busy_timeout_s: how long to wait for another program that has the file locked.
    """

    def __init__(self, path: Path, name: str, prefix: str, busy_timeout_s: float) -> None:
        self._path = path
        self._name = name
        self._prefix = prefix
        self.written = 0
        """How many entries were written here."""
        self._known: dict[tuple[str, str, str], tuple[str, int]] = {}
        """The entries as single groups wrote them here last. Others may have written since: see `_replace`."""
        self._is_alone = True
        """Was the last that was looked for there as it was known? If not, it takes less time to read first."""
        # One that writes less than that sweeps now and then, too.
        self._sweep_at = 1 + randrange(SWEEP_EVERY)  # noqa: S311 - no secret
        self._busy_timeout_s = busy_timeout_s
        self._database: sqlite3.Connection | None = None
        self._look_at_ns = 0

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            ((mode,),) = database.execute("PRAGMA journal_mode")
            if mode != "wal":  # this waits for nobody, not even for so long as it may
                database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA wal_autocheckpoint = 0")  # see `checkpoint`
            database.execute(_CREATE)
            ((encoding,),) = database.execute("PRAGMA encoding")
            self._files = self._found()
        except BaseException:
            database.close()
            raise
        self._is_ordered = encoding == "UTF-8"
        """Are texts in the order of their characters? In an app's file, they may be in that of their UTF-16."""
        self._database = database
        self._execute, self._executemany = database.execute, database.executemany
        return database

    def _outage(self, error: Exception) -> StoreOutage:
        """Say what an error means."""
        remedy = next(
            (text for name, text in _REMEDIES.items() if getattr(error, "sqlite_errorname", "").startswith(name)),
            "it cannot be used" if isinstance(error, sqlite3.Error) else "check its folder, and the rights",
        )
        kind = Busy if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY") else StoreUnavailable
        return kind(self._name, f"{remedy} ({error})")

    def work(self, transaction: Callable[[Connection], T], now_ns: int) -> T:
        """Do something that is done as a whole, or not at all.

        :param now_ns: the time, by `perf_counter_ns`.

        :raises Busy: if another program has the file locked.
        :raises StoreUnavailable: if the file cannot be used otherwise.
        """
        try:
            database = self._database or self._connect()
            if now_ns > self._look_at_ns:
                self._look()
                self._look_at_ns = now_ns + LOOK_EVERY_NS
            execute = self._execute
            if database.in_transaction:  # one that was interrupted, and could not even be rolled back
                execute("ROLLBACK")
            if self._is_alone and isinstance(transaction, Judging):
                replaced: Any = self._replace(transaction)
                if replaced is not None:
                    return replaced  # type: ignore[no-any-return]  # what `transaction` would return
            execute("BEGIN IMMEDIATE")
            try:
                answer = transaction(self)
                execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    execute("ROLLBACK")
                raise
        except StoreOutage:  # which is an OSError
            raise
        except (sqlite3.Error, OSError) as error:
            outage = self._outage(error)
            if self._database is not None and not isinstance(outage, Busy):  # it may be so since it is another's
                self._look()
            raise outage from error
        return answer

    def _found(self) -> tuple[tuple[int, int], int]:
        """Find the file that is there, and the log beside it (0, if there is none)."""
        found = self._path.stat()
        try:
            log = Path(f"{self._path.resolve()}-wal").stat().st_ino
        except FileNotFoundError:
            log = 0
        return (found.st_ino, found.st_dev), log

    def _look(self) -> None:
        """See that what is open is still what is found there.

        :raises StoreUnavailable: if it is not.
        """
        try:
            file, log = self._found()
        except FileNotFoundError:
            problem = "its file was deleted"
        else:
            if (file, log) == self._files:
                return
            problem = "another file has taken its place" if file != self._files[0] else "its log (-wal) was deleted"
        raise StoreUnavailable(self._name, f"{problem}: what was owed is forgotten, and counting begins anew")

    def decide(self, groups: Sequence[Group], clock: Clock) -> list[Answer]:
        """Judge groups, as part of `work`."""
        if len(groups) == 1:
            return [self._decide_one(groups[0], clock())]
        now_us = clock()
        prefix, execute = self._prefix, self._execute
        fresh: dict[tuple[str, str, str], tuple[str | None, int]] = {}

        def load(name: str, code: str, key: str) -> tuple[str, int] | None:
            found = fresh.get((name, code, key))
            if found is not None:
                return None if found[0] is None else (found[0], found[1])
            row: tuple[str, int] | None = execute(_READ, (prefix, name, code, key)).fetchone()
            return row

        answers: list[Answer] = []
        for group in groups:
            decision, writes = judge_group(group, now_us, load)
            answers.append(decision)
            for name, code, key, text, until_us in writes:
                fresh[name, code, key] = text, until_us
        if fresh:
            self._write(fresh, now_us)
        return answers

    def _decide_one(self, group: Group, now_us: int) -> Answer:
        known = self._known

        def load(*where: str) -> tuple[str, int] | None:
            row: tuple[str, int] | None = self._execute(_READ, (self._prefix, *where)).fetchone()
            if where in known:
                self._is_alone = row == known[where]
            return row

        decision, writes = judge_group(group, now_us, load)
        if writes:
            self._write({write[:3]: write[3:] for write in writes}, now_us)
            if len(known) >= MAX_KNOWN:
                known.clear()
            for name, code, key, text, until_us in writes:
                if text is not None:
                    known[name, code, key] = text, until_us
        return decision

    def _replace(self, judging: Judging) -> list[Answer] | None:
        """Judge a single hit by what is known to have been written here last, and write what comes of it if that is
        still what is there, in one statement, which is a transaction by itself. None: nothing was done.
        """
        group = judging.groups[0]
        if len(judging.groups) != 1 or self.written + 1 >= self._sweep_at:  # others are looked at by the way
            return None
        hit = group.hits[0]
        where = hit.name, hit.limit.code, hit.key
        known = self._known.get(where)
        if known is None or len(group.hits) != 1 or group.once is not None:  # it asks for other entries, too
            return None
        decision, writes = judge_group(group, judging.clock(), lambda *_: known)
        if len(writes) != 1 or writes[0].text is None:  # for what is not to be changed, we have to look
            return None
        after = writes[0].text, writes[0].until_us
        if self._execute(_REPLACE, (*after, self._prefix, *where, *known)).rowcount != 1:
            self._is_alone = False
            return None
        self._known[where] = after
        self.written += 1
        return [decision]

    def _write(self, fresh: dict[tuple[str, str, str], tuple[str | None, int]], now_us: int) -> None:
        prefix = self._prefix
        if len(fresh) == 1:
            ((name, code, key), (text, until_us)) = next(iter(fresh.items()))
            if text is None:
                self._execute(_DELETE, (prefix, name, code, key))
            else:
                self._execute(_WRITE, (prefix, name, code, key, text, until_us))
        else:
            kept = [(prefix, *where, *what) for where, what in fresh.items() if what[0] is not None]
            gone = [(prefix, *where) for where, what in fresh.items() if what[0] is None]
            self._executemany(_WRITE, kept)
            self._executemany(_DELETE, gone)
        self.written += len(fresh)
        while self._sweep_at <= self.written:
            self._sweep_at += SWEEP_EVERY
            self._sweep(now_us)

    def _sweep(self, now_us: int) -> None:
        """Look at the next few entries, and remove what says nothing any more. So the whole table is seen before it has
        grown by half, and no index of times has to be written with each entry.
        """
        swept = self._execute(_READ, _START).fetchone()
        after = _START if swept is None else json.loads(swept[0])
        rows = self._execute(_LOOK, (*after, SWEEP_ROWS)).fetchall()
        after = rows[-1][:4] if len(rows) == SWEEP_ROWS else _START
        self._execute(_WRITE, (*_START, json.dumps(after), 0))
        gone = [row[:4] for row in rows if row[4] <= now_us]
        self._executemany(_DELETE, gone)
        for entry in gone:
            self._known.pop(entry[1:], None)

    def checkpoint(self) -> None:
        """Carry what was written from the log, which every reader has to go through, into the file. Takes a few
        milliseconds, of the disk's.

        :raises StoreUnavailable: if the file cannot be used.
        """
        try:
            (self._database or self._connect()).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            raise self._outage(error) from error

    def finish(self) -> None:
        """Carry what was written into the file, and close it. SQLite does so by itself where nobody else has the file
        open; where somebody has, the log would grow by what each of many short-lived processes wrote.
        """
        if self.written:
            with suppress(StoreUnavailable):
                self.checkpoint()
        self.close()

    def entries(
        self, after: Entry | None, key_prefix: str, name: str | None, name_prefix: str
    ) -> tuple[list[Entry], bool]:
        """List the next entries behind one, those included that say nothing any more; and say whether there may be
        more.
        """
        if name is not None and not name.startswith(name_prefix):
            return [], False
        begin = name_prefix if name is None else name
        end = None if not self._is_ordered else _behind(name_prefix) if name is None else f"{name}\x01"
        start = (begin, "", "") if after is None else after[:3]
        # A name that begins with so many characters and one more is itself.
        begins = (len(begin) + (name is not None), begin, len(key_prefix), key_prefix)
        arguments = (self._prefix, *start, end, *begins, _PER_BITE)
        rows = [Entry(*row) for row in self._execute(_LIST, arguments)]
        return rows, len(rows) == _PER_BITE

    def remove(self, entries: Iterable[Entry]) -> None:
        """Forget entries, as part of `work`."""
        self._executemany(_DELETE, [(self._prefix, *entry[:3]) for entry in entries])

    def restore(self, entries: Iterable[Entry], now_us: int) -> int:
        """Keep entries, each merged with what is in its place, as part of `work`; count those that were written."""
        count = 0
        for entry in entries:
            where = (self._prefix, *entry[:3])
            kept: tuple[str, int] | None = self._execute(_READ, where).fetchone()
            told = to_keep(entry.code, entry.key, entry[3:], kept if kept is not None and kept[1] > now_us else None)
            if told is not None and entry.until_us > now_us:
                self._execute(_WRITE, (*where, *told))
                count += 1
        return count

    def close(self) -> None:
        """Close it."""
        if self._database is not None:
            self.written = 0
            self._database.close()

    __del__ = finish  # when the interpreter ends, of a store that nobody has closed
