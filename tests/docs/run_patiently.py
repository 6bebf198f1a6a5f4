"""Runs an example as a machine does that has nothing else to do: no deadline of the store's passes on a busy one.

python tests/docs/run_patiently.py examples/first_steps.py
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from headgate.stores.postgres import PostgresStore
from headgate.stores.redis import RedisStore

for kind in (RedisStore, PostgresStore):
    defaults = kind.__init__.__kwdefaults__
    assert defaults is not None
    defaults["timeout"] = 20.0
sys.argv = sys.argv[1:]
sys.path[0] = str(Path(sys.argv[0]).parent)  # where Python would have begun
runpy.run_path(sys.argv[0], run_name="__main__")
