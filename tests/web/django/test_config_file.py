"""A project may take its limits from the configuration file."""

from __future__ import annotations

from pathlib import Path

from django.core.checks import run_checks
from django.test import override_settings

from tests.web.django.test_middleware import Asker, statuses

FILE = """
[stores.main]
url = "memory://"

[[rules]]
limit = "2/minute"
name = "all"
"""


def test_rules_of_the_file_are_asked_and_both_sides_count_together(tmp_path: Path) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(FILE, encoding="utf-8")
    with override_settings(HEADGATE={"config": str(file), "watch": False}):
        assert statuses(Asker(is_async=False), "/", 1) == [200]
        assert statuses(Asker(is_async=True), "/", 2) == [200, 429]
        assert statuses(Asker(is_async=False), "/", 1) == [429]


def test_a_file_that_is_not_understood_is_an_error_of_the_check(tmp_path: Path) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(FILE.replace("2/minute", "2/fortnight"), encoding="utf-8")
    with override_settings(HEADGATE={"config": str(file)}):
        (message,) = [one for one in run_checks() if (one.id or "").startswith("headgate")]
        assert message.id == "headgate.E001"
        assert "fortnight" in message.msg
