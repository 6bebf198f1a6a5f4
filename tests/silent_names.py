"""Name servers that say nothing, until they do: the one part of a network that a test cannot have for itself."""

from __future__ import annotations

import socket
import threading
from typing import Any


class SilentNames:
    """Stands for the system's lookup of names: it takes as long as `speak` is not called. Addresses are found."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """The names that were looked up, in their order."""
        self.addresses = ["127.0.0.1"]
        """Those of any name."""
        self.error: OSError | None = None
        """What comes in place of addresses."""
        self._real = socket.getaddrinfo
        self._may_speak = threading.Event()

    def speak(self) -> None:
        """Answer, what was asked and what will be."""
        self._may_speak.set()

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        """As `socket.getaddrinfo`."""
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or name.replace(".", "").isdigit() or ":" in name:
            return self._real(host, port, *args, **options)
        self.asked.append(name)
        self._may_speak.wait()
        if self.error is not None:
            raise self.error
        return [info for address in self.addresses for info in self._real(address, port, *args, **options)]
