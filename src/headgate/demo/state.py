"""The background demo's record in `.demo/`: what runs, so that a later command can find it and end it.

Knows the folder and the file's form. It must not start or stop anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headgate.demo import DemoError
from headgate.demo.fleet import Fleet, Instance
from headgate.demo.processes import Process

FOLDER = Path(".demo")
MARK = "This folder belongs to the headgate demo. `headgate demo clean` removes it.\n"
VERSION = 1


def prepare(folder: Path) -> None:
    """Make the folder, and refuse one that somebody made for something else."""
    mark = folder / "README"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DemoError(f"{folder} is in the way: it is not a folder of the demo's.")
    if folder.is_dir() and any(folder.iterdir()) and not is_ours(folder):
        raise DemoError(f"{folder} is in the way: it holds files that are not the demo's.")
    folder.mkdir(mode=0o700, exist_ok=True)
    mark.write_text(MARK)


def exists(folder: Path) -> bool:
    """Whether there is anything at the folder's place."""
    return folder.is_symlink() or folder.exists()


def is_ours(folder: Path) -> bool:
    """Whether a folder was made by `prepare`."""
    try:
        return not folder.is_symlink() and (folder / "README").read_text() == MARK
    except (OSError, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep two commands from starting or stopping the same demo at once."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError("Another command is starting or stopping this demo right now.") from None
        yield


def save(fleet: Fleet) -> None:
    """Write the record, at once or not at all."""
    record = {
        "version": VERSION,
        "limit": fleet.limit,
        "store": fleet.store,
        "server": None if fleet.server is None else process_record(fleet.server),
        "instances": [
            {"name": instance.name, "port": instance.port, "process": process_record(instance.process)}
            for instance in fleet.instances
        ],
    }
    draft = fleet.folder / "state.json.new"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(record, indent=2) + "\n")
    draft.replace(fleet.folder / "state.json")


def process_record(process: Process) -> dict[str, Any]:
    """Write a process as what it can be recognised by."""
    return {"name": process.name, "pid": process.pid, "birth": process.birth}


def load(folder: Path) -> Fleet | None:
    """Read the record; None if there is none."""
    path = folder / "state.json"
    try:
        record = json.loads(path.read_text())
        if record["version"] != VERSION:
            raise ValueError(f"version {record['version']!r}")
        server = record["server"]
        return Fleet(
            folder,
            str(record["limit"]),
            record["store"],
            None if server is None else read_process(server),
            tuple(
                Instance(str(each["name"]), int(each["port"]), read_process(each["process"]))
                for each in record["instances"]
            ),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DemoError(f"{path} is damaged ({error!r}): end the processes by hand, then remove it.") from None


def read_process(record: dict[str, Any]) -> Process:
    """Read a process."""
    return Process(str(record["name"]), int(record["pid"]), str(record["birth"]))


def forget(folder: Path) -> None:
    """Remove the record, and leave the logs."""
    (folder / "state.json").unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove the folder with all that is in it, if it is ours."""
    if not is_ours(folder):
        raise DemoError(f"{folder} holds files that are not the demo's: it stays.")
    shutil.rmtree(folder)
