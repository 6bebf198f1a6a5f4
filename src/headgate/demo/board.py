"""The board: a table that fills while the answers come in, and the summary when all are there.

Knows how to draw answers and stories. It must not send or start anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headgate.demo.fleet import Fleet
from headgate.demo.traffic import Answer, Story


class Board:
    """Shows answers as they come: in place on a terminal, as one line each anywhere else.

    Use it as a context manager around the traffic, and pass it each answer with `see`.
    """

    def __init__(self, console: Console, fleet: Fleet, users: Sequence[str]) -> None:
        self.console = console
        self.fleet = fleet
        self.users = users
        self.answers: list[Answer] = []
        utf8 = console.encoding.startswith("utf")
        self.passed, self.refused = ("●", "✗") if utf8 else ("o", "x")
        self.live = Live(self.table(), console=console, refresh_per_second=20) if console.is_terminal else None

    def __enter__(self) -> Board:
        if self.live is not None:
            self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.__exit__(None, None, None)
        elif error[0] is None:
            self.console.print()
            self.console.print(self.table())

    def see(self, answer: Answer) -> None:
        """Take in one answer."""
        self.answers.append(answer)
        if self.live is not None:
            self.live.update(self.table(), refresh=True)
        else:
            self.console.print(
                f"{answer.user:<6} asks {answer.instance}: {self.words(answer)}",
                markup=False,
                highlight=False,
            )

    def words(self, answer: Answer) -> str:
        """Say an answer in words."""
        if answer.allowed:
            return f"200, {answer.remaining} left"
        if answer.denied:
            return f"429, retry after {answer.retry_after} s"
        return str(answer.status)

    def table(self) -> RenderableType:
        """Draw what is known so far."""
        table = Table(box=box.ROUNDED, title=f"One limit, {self.fleet.limit} per user, in three instances")
        for heading in ("instance", "user"):
            table.add_column(heading)
        for heading in ("allowed", "denied", "remaining"):
            table.add_column(heading, justify="right")
        table.add_column("last answer", min_width=20)
        for user in self.users:
            for instance in self.fleet.instances:
                mine = [each for each in self.answers if (each.user, each.instance) == (user, instance.name)]
                row: list[str | Text] = [instance.name, user, *self.counts(mine)]
                table.add_row(*row, Text(self.words(mine[-1]) if mine else ""))
            mine = [each for each in self.answers if each.user == user]
            table.add_section()
            table.add_row("all", user, *self.counts(mine), self.marks(mine), style="bold")
            table.add_section()
        return Group(table)

    def counts(self, answers: Sequence[Answer]) -> list[Text]:
        """Count answers for the table's numeric columns."""
        allowed = sum(answer.allowed for answer in answers)
        denied = sum(answer.denied for answer in answers)
        remaining = "" if not answers or answers[-1].remaining is None else str(answers[-1].remaining)
        return [
            Text(str(allowed), style="green" if allowed else "dim"),
            Text(str(denied), style="red" if denied else "dim"),
            Text(remaining),
        ]

    def marks(self, answers: Sequence[Answer]) -> Text:
        """One mark for each answer, those that passed first."""
        text = Text()
        for answer in sorted(answers, key=lambda answer: not answer.allowed):
            if answer.allowed:
                text.append(self.passed, style="green")
            else:
                text.append(self.refused, style="red")
        return text

    def summary(self, stories: Sequence[Story]) -> int:
        """Say what happened in words that need no table, and whether it is right: 0 if so, 1 if not."""
        print_ = self.console.print
        print_()
        for story in stories:
            print_(Text(tell(story, len(self.fleet.instances))), soft_wrap=True)
        problems = [problem for story in stories for problem in story.problems]
        for problem in problems:
            print_(Text(f"WRONG  {problem}.", style="bold red"))
        if problems:
            return 1
        first = stories[0]
        print_()
        if first.fresh and first.denied and first.bounds[0] == first.bounds[1]:
            verdict = f"Exactly {first.allowed} of {len(first.answers)} passed"
        else:
            verdict = "Every answer was right"
        print_(Text(f"{verdict}: the three instances hold one limit together.", style="bold green"))
        return 0


def tell(story: Story, instances: int) -> str:
    """Tell one user's story in a sentence or two."""
    sent = len(story.answers)
    text = f"{story.user} sent {sent} requests to {instances} instances: {story.allowed} passed"
    if not story.fresh:
        text = (
            f"{story.user} had {story.remaining_before} of {story.limit.capacity} left from before "
            f"and sent {sent} requests to {instances} instances: {story.allowed} passed"
        )
    waits = sorted(answer.retry_after for answer in story.answers if answer.denied and answer.retry_after)
    if story.denied:
        text += f", {story.denied} were denied"
        if waits:
            span = str(waits[0]) if waits[0] == waits[-1] else f"{waits[0]} to {waits[-1]}"
            text += f" (429, Retry-After: {span} s)"
    elif story.allowed == sent:
        text += ", none was denied"
    return text + "."
