"""`manage.py headgate_limits`: the routes of the project, and the limits that each meets."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from headgate.web.django.conf import project_limits
from headgate.web.django.routes import routes
from headgate.web.limits import RouteEntry


class Command(BaseCommand):
    """Lists routes."""

    help = "List the routes of the project, and the limits that each meets."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add what the command takes."""
        parser.add_argument("--urlconf", help="a module of URLs other than ROOT_URLCONF")
        parser.add_argument("--strict", action="store_true", help="fail if a route meets no limit, and is not exempt")

    def handle(self, *args: Any, **options: Any) -> None:
        """List them.

        :raises CommandError: if it is strict, and a route has no limit.
        """
        entries = list(routes(project_limits().either.rules, options["urlconf"]))
        rows = [(entry.path, ",".join(entry.methods) or "any", entry.endpoint, _said(entry)) for entry in entries]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        for path, methods, view, said in rows:
            self.stdout.write(f"{path:{widths[0]}}  {methods:{widths[1]}}  {view:{widths[2]}}  {said}")
        bare = [entry for entry in entries if not entry.rules and not entry.is_exempt]
        if bare and options["strict"]:
            raise CommandError(f"{len(bare)} of {len(entries)} routes meet no limit: limit them, or exempt them")


def _said(entry: RouteEntry) -> str:
    if entry.is_exempt:
        return "exempt"
    return "; ".join(_rule(rule) for rule in entry.rules) or "none"


def _rule(rule: Any) -> str:
    limits = ", ".join(str(limit) for limit in rule.named_limits().values())
    return f"{rule.name}: {limits}" if rule.name else limits
