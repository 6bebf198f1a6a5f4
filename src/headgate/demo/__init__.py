"""The demonstration: three instances of one small web app that share one limit.

This package starts processes, sends them traffic and draws what happens. It uses headgate the way any
user would, through the public face, and knows nothing of a command line: `headgate.cli.demo` calls it.
"""

import os

LIMIT = "10/minute"
"""The limit the instances share unless another one is asked for."""

PORTS = (8081, 8082, 8083)
"""Where the instances would like to listen; another free port serves where one of these is taken."""


class DemoError(Exception):
    """The demo cannot go on, for a reason that its user can read and act on."""


def to_run(action: str) -> str:
    """Say how to run another action, in the words of whoever runs this one: `make`'s, or the command's."""
    if "MAKELEVEL" in os.environ:
        return "make test-traffic" if action == "traffic" else f"make {action}"
    return f"headgate demo {action}"
