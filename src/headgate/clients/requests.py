"""requests: an adapter that waits for its turn.

session = requests.Session()
session.mount("https://api.example.com/", RateLimitAdapter("50/second", store="redis://localhost:6379/0"))

It wraps another adapter, which sends. Redirects are requests of their own; what urllib3 repeats by itself is not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Unpack
from urllib.parse import urlsplit

try:
    import requests
    from requests.adapters import BaseAdapter, HTTPAdapter
    from urllib3.exceptions import MaxRetryError, NewConnectionError
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("requests", "requests") from error

from headgate.clients.answers import Answer
from headgate.clients.limits import ClientLimits, ClientOptions, Library
from headgate.limiter.limiters import Limiter
from headgate.limiter.naming import Limits
from headgate.web.core import run


class RateLimitAdapter(BaseAdapter):
    """An adapter of `requests.Session` behind limits, to be mounted. Safe to share between threads and sessions.

    The other parameters are those of `ClientLimits`. The functions are called with a `requests.PreparedRequest`.

    :param adapter: the one that sends: `HTTPAdapter()` by default. It closes with this one.
    """

    def __init__(
        self, limit: Limits | Limiter, adapter: BaseAdapter | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        super().__init__()
        self._adapter: Final = HTTPAdapter() if adapter is None else adapter
        library = Library(
            host=lambda request: urlsplit(request.url).hostname,
            is_unsent=self._is_unsent,
            can_resend=lambda request: request.body is None or isinstance(request.body, (str, bytes)),
            answer=lambda response: Answer(response.status_code, response.headers, response),
            discard=requests.Response.close,
            when_closed=_when_closed,
        )
        self._limits: Final = ClientLimits(Limiter, library, limit, **options)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request when it is its turn: requests calls this. Its `timeout` is of the sending alone.

        :raises AcquireTimeout: if it would wait for longer than it may.
        """
        send = partial(self._adapter.send, request, *arguments, **options)
        response: requests.Response = run(self._limits.exchange(request, send))
        return response

    def close(self) -> None:
        """Close the adapter, and what was opened for the limits."""
        try:
            self._adapter.close()
        finally:
            self._limits.close()

    def _is_unsent(self, error: Exception) -> bool:
        """Is it certain that no connection was made? Not if urllib3 may have tried before, with another outcome."""
        tries: Any = getattr(self._adapter, "max_retries", None)
        if tries is None or tries.total:
            return False
        if isinstance(error, requests.ConnectTimeout):
            return True
        cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
        return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _when_closed(response: requests.Response, closed: Callable[[], object]) -> bool:
    """The connection goes back to its pool when the response is closed, and when it has been read to its end."""
    body: Any = response.raw
    release: Callable[[], object] | None = getattr(body, "release_conn", None)
    if release is None or getattr(response, "_content_consumed", False):
        return False

    def release_and_tell() -> None:
        try:
            release()
        finally:
            closed()

    body.release_conn = release_and_tell
    return True


__all__ = ["RateLimitAdapter"]
