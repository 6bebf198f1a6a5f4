"""A vendor: a real server over HTTP that counts what reaches it, and answers as it is told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Told(NamedTuple):
    """What a vendor answers."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b"here you are"


class Seen(NamedTuple):
    """A request as it reached the vendor."""

    method: str
    path: str
    body: bytes


class Vendor:
    """Answers each request with the next of `answers`, and when there is none left, with 200."""

    def __init__(self) -> None:
        self.answers: list[Told] = []
        self.seen: list[Seen] = []
        self.arrived = threading.Condition()
        self.on_request: Callable[[], object] = lambda: None
        """Called while a request waits for its answer."""
        self.at_once = self.most_at_once = 0
        """How many requests are here, and how many were, of those that have no answer yet."""
        self.hold_until = 0
        """How many requests are to be here before the first is answered."""
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                if "Transfer-Encoding" in self.headers:
                    while (line := self.rfile.readline()) != b"0\r\n":
                        body += line
                    self.rfile.readline()
                with vendor.arrived:
                    vendor.at_once += 1
                    vendor.most_at_once = max(vendor.most_at_once, vendor.at_once)
                    told = vendor.answers.pop(0) if vendor.answers else Told()
                    vendor.seen.append(Seen(self.command, self.path, body))
                    vendor.arrived.notify_all()
                    vendor.arrived.wait_for(lambda: vendor.count >= vendor.hold_until)
                vendor.on_request()
                with vendor.arrived:
                    vendor.at_once -= 1
                self.send_response(told.status)
                for name, value in {"Content-Length": str(len(told.body)), **told.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(ConnectionError):  # the client need not read it all
                    self.wfile.write(told.body)

            do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *given: Any) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # a client need not read to the end
                    super().handle_error(*given)

        self.server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def count(self) -> int:
        """How many requests have reached it."""
        return len(self.seen)


@contextmanager
def own_vendor() -> Iterator[Vendor]:
    """A vendor of one test."""
    vendor = Vendor()
    thread = threading.Thread(target=vendor.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield vendor
    finally:
        vendor.server.shutdown()
        thread.join()
        vendor.server.server_close()
