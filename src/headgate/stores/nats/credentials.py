"""Files of credentials and nkeys, looked at before nats-py reads them: in one that has no JWT, it looks for that for
ever, in the event loop. No text shows what was given: it may be the secret itself in place of its path.

This module must not know how to connect.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from headgate.errors import InvalidUse, MissingExtra

_SEED: Final = re.compile(rb"SU[A-Z2-7]{56}")
_JWT_OF_USER: Final = re.compile(rb"BEGIN NATS USER JWT.*\n\S+\s*\n")
_SEED_OF_USER: Final = re.compile(rb"BEGIN USER NKEY SEED.*\nSU[A-Z2-7]{56}\s")


def check(options: Mapping[str, Any]) -> None:
    """See that what options of nats-py's name can be used: by what is in the files now.

    :raises InvalidUse: if it cannot.
    :raises MissingExtra: if nats-py would lack what it signs with.
    """
    credentials, path, seed = (options.get(name) for name in ("user_credentials", "nkeys_seed", "nkeys_seed_str"))
    if isinstance(credentials, (str, os.PathLike)):
        text = _read("credentials", credentials)
        if not _JWT_OF_USER.search(text) or not _SEED_OF_USER.search(text):
            raise InvalidUse("the file that credentials names does not hold a user's JWT and seed")
    if path is not None and not _SEED.fullmatch(_read("nkeys_seed", path).strip()):
        raise InvalidUse("the file that nkeys_seed names does not hold the seed of a user")
    if seed is not None and not (isinstance(seed, str) and _SEED.fullmatch(seed.strip().encode())):
        raise InvalidUse("nkeys_seed_str is not the seed of a user")
    if credentials is not None or path is not None or seed is not None:
        try:
            importlib.import_module("nkeys")
        except ImportError:
            raise MissingExtra("nkeys", "nats") from None


def _read(option: str, path: Any) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidUse(f"{option} is the path of a file, which cannot be read: {error.strerror}") from None
    except (TypeError, ValueError):
        raise InvalidUse(f"{option} is the path of a file") from None
