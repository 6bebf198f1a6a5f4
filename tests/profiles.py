"""How much Hypothesis tries: `quick` unless HEADGATE_TEST_PROFILE says `thorough`, which takes half an hour."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=150,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=10_000)
settings.load_profile(os.environ.get("HEADGATE_TEST_PROFILE", "quick"))
