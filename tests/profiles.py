"""How much Hypothesis tries: a little each time, a hundred times as much where HEADGATE_TEST_PROFILE is `thorough`.

A thorough run takes most of an hour, and wants `pytest --timeout=0`. Import this module before using `given`, so that
its settings hold.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, Phase, settings

TIMES: Final = {"quick": 1, "thorough": 100}[os.environ.get("HEADGATE_TEST_PROFILE", "quick")]


def quickly(examples: int) -> int:
    """So many examples in a quick run, and more in a thorough one."""
    return examples * TIMES


settings.register_profile(
    "headgate",
    max_examples=quickly(100),
    deadline=None,
    print_blob=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("headgate")
