"""The examination of a file of SQLite: where it lies, who may write it, and whether it is whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headgate.cli.findings import Finding

if TYPE_CHECKING:
    from headgate.stores.sqlite import SqliteStore

OVER_A_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"}
)
LARGE_LOG: Final = 64 * 2**20
LITTLE_ROOM: Final = 100 * 2**20


def examine(store: SqliteStore) -> Iterator[Finding]:
    """Examine a file."""
    try:
        yield from _look(store.path)
    except OSError as error:
        yield Finding("fault", "file", f"it cannot be looked at: {error}", "let the app's user enter its folder")


def _look(path: Path) -> Iterator[Finding]:
    yield Finding("ok", "version", f"SQLite {sqlite3.sqlite_version}")
    folder = path.parent
    if not _may(folder, os.W_OK | os.X_OK):
        yield Finding(
            "fault", "folder", f"{folder} cannot be written", "let the app's user write it, not the file alone"
        )
        return
    kind = _file_system(folder)
    if kind in OVER_A_NETWORK:
        yield Finding("fault", "disk", f"{folder} is on {kind}: locks over a network do not hold", "take a local disk")
    else:
        yield Finding("ok", "disk", f"a disk of this machine{f', {kind}' if kind else ''}")
    room = shutil.disk_usage(folder).free
    if room < LITTLE_ROOM:
        yield Finding(
            "change", "room", f"{room / 2**20:.0f} MiB are left on the disk", "make room: a full disk denies writes"
        )
    if not path.exists():
        yield Finding("note", "file", "it is not there yet: the first decision makes it")
        return
    if not _may(path, os.W_OK):
        yield Finding("fault", "file", "it cannot be written", "let the app's user write it, and its -wal and -shm")
        return
    if (names := path.stat().st_nlink) > 1:
        yield Finding(
            "fault",
            "name",
            f"the file has {names} names (hard links): whoever opens it by another counts apart, and damages it",
            "leave one; a symbolic link does no harm",
        )
    yield from _file(path)


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _file(path: Path) -> Iterator[Finding]:
    try:
        with closing(sqlite3.connect(path, timeout=5)) as database:
            ((mode,),) = database.execute("PRAGMA journal_mode")
            ((state,),) = database.execute("PRAGMA quick_check(1)")
    except sqlite3.Error as error:
        yield Finding(
            "fault", "file", f"it is no database, or it is damaged: {error}", "remove it: what is owed is forgotten"
        )
        return
    if state == "ok":
        yield Finding("ok", "file", f"whole, {path.stat().st_size:,} bytes")
    else:
        yield Finding("fault", "file", f"it is damaged: {state}", "remove it, and its -wal and -shm")
    if mode == "wal":
        yield Finding("ok", "journal", "WAL: who reads and who writes do not wait for each other")
    else:
        yield Finding("note", "journal", f"{mode}: the next decision makes it WAL")
    log = path.with_name(f"{path.name}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > LARGE_LOG:
        words = f"{size / 2**20:.0f} MiB wait in {log.name} to be carried into the file"
        yield Finding("change", "log", words, "close programs that keep the file open for reading")


def _file_system(folder: Path) -> str:
    """The kind of file system, on Linux; empty where the system does not tell."""
    try:
        lines = Path("/proc/mounts").read_text("utf-8").splitlines()
    except OSError:
        return ""
    real = folder.resolve()
    found = [(words[1], words[2]) for words in map(str.split, lines) if len(words) > 2]
    under = [(place, kind) for place, kind in found if real.is_relative_to(place.replace("\\040", " "))]
    return max(under, key=lambda one: len(one[0]), default=("", ""))[1]
