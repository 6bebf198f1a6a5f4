"""A proxy of the suite's own, in front of any server: it swallows, cuts and delays what comes back, at any byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Fault = Literal["none", "swallow", "cut"]


class Proxy:
    """Hands bytes on between its clients and a server on 127.0.0.1. Of what the server says, it may swallow all behind
    the n-th byte, or hang up there; counted from when that was asked for, on all connections together.
    """

    def __init__(self, port_behind: int) -> None:
        self._port_behind = port_behind
        self._fault: Fault = "none"
        self._left = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.replied = 0
        """How many bytes the server has said."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def fail(self, fault: Fault, after: int = 0) -> None:
        """From now on, do this with what the server says, after so many bytes more of it."""
        with self._lock:
            self._fault, self._left = fault, after

    def recover(self) -> None:
        """Hand all on again. What hangs is hung up."""
        self.fail("none")
        self._hang_up()

    def _hang_up(self) -> None:
        while self._sockets:
            with suppress(OSError, IndexError):
                self._sockets.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port_behind)) as server:
            self._sockets += [client, server]
            forth = threading.Thread(target=self._forth, args=(client, server), daemon=True)
            forth.start()
            self._back(server, client)
            for one in (client, server):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            forth.join()

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                with self._lock:
                    fault, passes = self._fault, len(data)
                    self.replied += len(data)
                    if fault != "none":
                        passes = min(passes, self._left)
                        self._left -= passes
                client.sendall(data[:passes])
                if fault == "cut" and passes < len(data):
                    return

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy in front of the server on this port."""
    made = Proxy(port)
    try:
        yield made
    finally:
        made.close()
