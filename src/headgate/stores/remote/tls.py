"""The meaning of OpenSSL's words for a failure: which certificate was refused by whom, and what to check.

This module must not know how to connect.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_ENDED: Final = ("eof occurred in violation", "connection reset", "connection closed", "broken pipe", "connection lost")


class Names(NamedTuple):
    """The names that a store has for what TLS needs."""

    prefix: str
    """Of the options: `ssl_` in `ssl_ca_certs`."""
    plain: str
    """The scheme of URLs without TLS."""
    secure: str
    """That of URLs with TLS."""


def problem_of(text: str, names: Names, options: Mapping[str, Any], *, is_secure: bool) -> str | None:
    """Say what is wrong, where it has to do with TLS; None if it has not.

    :param text: of the error on connecting.
    :param options: of the connection.
    """
    said = text.lower()
    if not is_secure:
        if any(ended in said for ended in _ENDED):
            return (
                "it hung up: check that it runs, and whether it speaks TLS, "
                f"as {names.secure}:// in the URL says ({text})"
            )
        return None
    certfile, keyfile, ca_certs = (f"{names.prefix}{name}" for name in ("certfile", "keyfile", "ca_certs"))
    ours = f"check {certfile} and {keyfile}: the server may want a certificate of ours, or refuse the one it got"
    refused = re.search(r"certificate verify failed:? ?(.*?)\.? *(\(_ssl|$)", text)
    if refused:
        return f"{_refused(refused[1], ca_certs)} (certificate verify failed: {refused[1]})"
    files = (ca_certs, f"{names.prefix}ca_path", certfile, keyfile)
    missing = [f"{name}={path!r}" for name in files if (path := options.get(name)) and not os.path.exists(path)]  # noqa: PTH110  # a str may be given
    if "no such file" in said and missing:
        return f"there is no such file: {', '.join(missing)}"
    if "key values mismatch" in said:
        return f"{keyfile} is not the key of {certfile}: give the two that belong together"
    if "alert" in said:
        return f"it refuses our certificate: {ours} ({text})"
    if "wrong version number" in said or "record layer failure" in said:
        return f"it does not speak TLS: write {names.plain}:// in the URL ({text})"
    if any(ended in said for ended in _ENDED):
        return f"it ended the TLS connection: {ours}; and that it runs ({text})"
    return None


def _refused(reason: str, ca_certs: str) -> str:
    said = reason.lower()
    if "mismatch" in said:
        return "its certificate is for another host: check the host in the URL"
    if "expired" in said or "not yet valid" in said:
        return "its certificate is not valid at this time: renew it, or check this machine's clock"
    return f"its certificate is not trusted: check that {ca_certs} names the authority that signed it"
