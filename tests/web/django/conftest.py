"""The project is set up once; each test has limits of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.web.django.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - Django is set up first
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import override_settings  # noqa: E402

from headgate import MemoryStore  # noqa: E402
from headgate.testing import ManualClock  # noqa: E402
from tests.web.django.settings import DATABASE  # noqa: E402

Use = Callable[..., ManualClock]


@pytest.fixture(scope="session")
def database() -> Iterator[None]:
    """A database with its tables."""
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()
    DATABASE.unlink()


@pytest.fixture
def user(database: None) -> Iterator[User]:
    """A user who may log in."""
    made = User.objects.create_user("ada", password="secret")
    yield made
    made.delete()


@pytest.fixture
def use() -> Iterator[Use]:
    """Has the project use these limits, in memory, by a clock that stands still; says which clock."""
    with ExitStack() as stack:

        def using(*limits: Any, **given: Any) -> ManualClock:
            clock = ManualClock()
            settings = {"store": MemoryStore(clock=clock), "limits": list(limits), **given}
            stack.enter_context(override_settings(HEADGATE=settings))
            return clock

        yield using
