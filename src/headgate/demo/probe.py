"""The container's health check: does this instance answer? Exit code 0 if so, 1 if not.

Run it with `python -m headgate.demo.probe`. It looks at the instance on PORT of its own machine, and
uses nothing but the standard library.
"""

from __future__ import annotations

import http.client
import os
import sys


def answers(port: int, timeout: float = 2.0) -> bool:
    """Whether `/health` on a port of this machine says 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers(int(os.environ.get("PORT", "8080"))) else 1)
