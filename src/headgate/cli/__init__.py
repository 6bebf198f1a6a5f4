"""The commands of `headgate`, each in a file of its own, which has it as `command` and imports what it needs only when
it runs. `headgate_cli` lists them, and finds them by the names of their files.
"""

from __future__ import annotations

from headgate_cli import main

__all__ = ["main"]
