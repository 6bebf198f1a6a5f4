"""Which limits a request of a web app meets: rules, by path and method, from code or from the configuration file.

This package must not know a framework or a store.
"""

from __future__ import annotations

from headgate.rules.rule import Rule
from headgate.rules.rules import Rules

__all__ = ["Rule", "Rules"]
