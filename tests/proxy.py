"""A proxy of the suite's own, in front of any server: it loses, cuts, changes and delays what comes back, at any byte;
it accepts and says nothing, refuses or resets; and it records what it hears."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Fault = Literal["none", "swallow", "cut", "reset"]
_RESET = struct.pack("ii", 1, 0)
"""To linger for no time at all: what is closed is reset."""


class Proxy:
    """Hands bytes on between its clients and a server on 127.0.0.1, until it is told to fail."""

    def __init__(self, port_behind: int, port: int = 0) -> None:
        self._port_behind = port_behind
        self._fault: Fault = "none"
        self._left = 0
        self._delay_s = 0.0
        self._drip_s = 0.0
        self._is_silent = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.replied = 0
        """How many bytes the server has said."""
        self.heard = bytearray()
        """What the clients have said, all together."""
        self.change: Callable[[bytes], bytes] = bytes
        """Makes what is handed on of each thing that the server says."""
        self.port = port
        self.listen()

    def fail(self, fault: Fault, after: int = 0) -> None:
        """Of what the server says from now on, on all connections together, hand on so many bytes. Swallow the rest of
        it, or hang up there, or reset the connection.
        """
        with self._lock:
            self._fault, self._left = fault, after

    def delay(self, each_s: float) -> None:
        """Hand on each thing that the server says after so many seconds."""
        self._delay_s = each_s

    def drip(self, each_s: float) -> None:
        """Hand on each byte that the server says after so many seconds."""
        self._drip_s = each_s

    def be_silent(self) -> None:
        """Accept, from now on, and say nothing."""
        self._is_silent = True

    def recover(self) -> None:
        """Hand all on again. What was swallowed is lost, and its connections stay open."""
        self._delay_s = self._drip_s = 0.0
        self._is_silent = False
        self.fail("none")

    def listen(self) -> None:
        """Accept connections: at first, and after `refuse`."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Hang up, and have nobody listen there."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections."""
        while self._sockets:
            with suppress(OSError, IndexError):
                self._sockets.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                client, _ = listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self._is_silent:
                self._sockets.append(client)
                with suppress(OSError):
                    while client.recv(65_536):
                        pass
                return
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port_behind)) as server:
                self._sockets += [client, server]
                forth = threading.Thread(target=self._forth, args=(client, server), daemon=True)
                forth.start()
                if self._back(server, client) == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    server.shutdown(socket.SHUT_RDWR)
                    client.shutdown(socket.SHUT_RD)  # which wakes the other thread, and tells the client nothing
                else:
                    for one in (client, server):
                        with suppress(OSError):
                            one.shutdown(socket.SHUT_RDWR)
                forth.join()

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                self.heard += data
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _back(self, server: socket.socket, client: socket.socket) -> Fault:
        """Hand on what the server says, and return how that ended."""
        with suppress(OSError):
            while data := server.recv(65_536):
                data = self.change(data)
                with self._lock:
                    fault, passes = self._fault, len(data)
                    self.replied += len(data)
                    if fault != "none":
                        passes = min(passes, self._left)
                        self._left -= passes
                time.sleep(self._delay_s)
                if self._drip_s:
                    for at in range(passes):
                        time.sleep(self._drip_s)
                        client.sendall(data[at : at + 1])
                else:
                    client.sendall(data[:passes])
                if passes < len(data) and fault != "swallow":
                    return fault
        return "none"

    def close(self) -> None:
        self._drip_s = 0.0
        self.refuse()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def proxy_to(port_behind: int, port: int = 0) -> Iterator[Proxy]:
    """A proxy in front of the server on this port."""
    made = Proxy(port_behind, port)
    try:
        yield made
    finally:
        made.close()
