"""The meaning of OpenSSL's words for a failure: which certificate was refused by whom, and what to check.

This module must not know how to connect.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_OURS: Final = "check ssl_certfile and ssl_keyfile: the server may want a certificate of ours, or refuse the one it got"
_ENDED: Final = ("eof occurred in violation", "connection reset", "connection closed", "broken pipe", "connection lost")


def problem_of(text: str, options: dict[str, Any], *, is_secure: bool) -> str | None:
    """Say what is wrong, where it has to do with TLS; None if it has not.

    :param text: of the error on connecting.
    :param options: of the connection.
    """
    said = text.lower()
    if not is_secure:
        if any(ended in said for ended in _ENDED):
            return f"it hung up: check that it runs, and whether it speaks TLS, as rediss:// in the URL says ({text})"
        return None
    refused = re.search(r"certificate verify failed:? ?(.*?)\.? *(\(_ssl|$)", text)
    if refused:
        return f"{_refused(refused[1])} (certificate verify failed: {refused[1]})"
    missing = [f"{name}={path!r}" for name in _FILES if (path := options.get(name)) and not os.path.exists(path)]  # noqa: PTH110  # a str may be given
    if "no such file" in said and missing:
        return f"there is no such file: {', '.join(missing)}"
    if "key values mismatch" in said:
        return "ssl_keyfile is not the key of ssl_certfile: give the two that belong together"
    if "alert" in said:
        return f"it refuses our certificate: {_OURS} ({text})"
    if "wrong version number" in said or "record layer failure" in said:
        return f"it does not speak TLS: write redis:// in the URL ({text})"
    if any(ended in said for ended in _ENDED):
        return f"it ended the TLS connection: {_OURS}; and that it runs ({text})"
    return None


def _refused(reason: str) -> str:
    said = reason.lower()
    if "mismatch" in said:
        return "its certificate is for another host: check the host in the URL"
    if "expired" in said or "not yet valid" in said:
        return "its certificate is not valid at this time: renew it, or check this machine's clock"
    return "its certificate is not trusted: check that ssl_ca_certs names the authority that signed it"
