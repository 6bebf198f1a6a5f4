"""What limiters in code do not need is not loaded with them."""

from __future__ import annotations

import subprocess
import sys


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_face_loads_no_reader_of_files() -> None:
    loaded = loaded_by("import headgate, headgate.config")
    assert "headgate.config.process" in loaded
    assert not loaded & {
        "tomllib",
        "difflib",
        "watchfiles",
        "headgate.rules",
        "headgate.identity",
        "headgate.config.tables",
        "headgate.config.watching",
    }


def test_a_file_is_read_without_a_library_of_somebodys() -> None:
    loaded = loaded_by("import headgate; headgate.configure({'limiters': {'api': {'limit': '5/s'}}})")
    assert "headgate.config.tables" in loaded
    assert not loaded & {"redis", "watchfiles", "argparse", "jsonschema"}
