"""Ways around a limit that were tried: none is one. Each asks for more than is admitted, and counts what came through."""

from __future__ import annotations

from tests.web.behaviours.serving import Server
from tests.web.behaviours.suite import behaviour


@behaviour("No way around", "routers within routers, prefixes and mounts")
def _(server: Server) -> None:
    caller = server.caller()
    for path in ("/outer/inner/leaf", "/mount/leaf"):
        assert caller.statuses(path, 4) == [200] * 3 + [429]
