"""Ask every framework, and print the table: `python -m tests.web.behaviours`; with `--write`, also onto its page.

Names of frameworks ask these alone, and print what fails: `python -m tests.web.behaviours Flask`.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import ExitStack

from tests.web.behaviours.serving import FRAMEWORKS, Place, Server, served
from tests.web.behaviours.suite import everything
from tests.web.behaviours.table import PAGE, Outcome, expected, page, table


def outcomes_of(framework: str) -> dict[tuple[str, str], Outcome]:
    """Start the servers of a framework, and ask for each behaviour."""
    outcomes: dict[tuple[str, str], Outcome] = {}
    servers: dict[Place, Server] = {}
    with ExitStack() as stack:
        for one in everything():
            if framework in one.lacks:
                outcomes[framework, one.title] = Outcome.LACKS
                continue
            if one.place not in servers:
                servers[one.place] = stack.enter_context(served(framework, one.place))
            try:
                one.check(servers[one.place])
            except Exception:
                traceback.print_exc()
                print(f"{framework}: fails: {one.title}", file=sys.stderr)
                outcomes[framework, one.title] = Outcome.FAILS
            else:
                outcomes[framework, one.title] = Outcome.HOLDS
            servers[one.place].hang_up()
    return outcomes


def main(arguments: list[str]) -> int:
    asked = [word for word in arguments if word != "--write"]
    if unknown := [word for word in asked if word not in FRAMEWORKS]:
        print(f"no framework: {', '.join(unknown)}; there are {', '.join(FRAMEWORKS)}", file=sys.stderr)
        return 2
    outcomes: dict[tuple[str, str], Outcome] = {}
    for framework in asked or FRAMEWORKS:
        found = outcomes_of(framework)
        held = sum(outcome is Outcome.HOLDS for outcome in found.values())
        print(f"{framework}: {held} of {len(found)}", file=sys.stderr)
        outcomes |= found
    if not asked:
        print(table(outcomes))
    is_as_expected = all(expected()[key] is outcome for key, outcome in outcomes.items())
    if "--write" in arguments and not asked and is_as_expected:
        PAGE.write_text(page(outcomes), encoding="utf-8")
    return 0 if is_as_expected else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
