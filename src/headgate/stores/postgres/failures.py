"""The meaning of an error: an outage whose text says what to check. In one place, by its SQLSTATE, or by its words
where the server refuses a connection, for which libpq tells no more.
"""

from __future__ import annotations

import re
from typing import Final

SCHEMA_HINT: Final = "have it made by a role that may: `headgate schema postgres` prints it"

MISSING: Final = frozenset({"42883", "3F000", "42P01"})
"""There is no function, schema or table of ours."""
OF_KEYS: Final = frozenset({"55P03", "40P01", "57014"})
"""It is about the keys of a call, and others are answered."""
UNREACHABLE: Final = "it cannot be reached: check the address, and that it runs"

_PROBLEMS: Final = {
    "28P01": "it refuses the user name or password: check them",
    "28000": "it refuses the user: check the name, the password and the server's pg_hba.conf",
    "3D000": "it has no database of this name: check the URL's path",
    "42501": (
        "its role may not do this: it needs USAGE on the schema, EXECUTE on its functions, and SELECT, INSERT, UPDATE "
        "and DELETE on its table"
    ),
    "42P01": f"its table is missing: {SCHEMA_HINT}",
    "53300": "it has no connection left: raise max_connections, or put a pooler before it",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "55P03": "somebody else holds the lock of a key for too long: is there a long transaction on headgate's table?",
    "40P01": "it broke a deadlock: does somebody else write to headgate's table?",
    "40001": "a transaction could not be serialized: headgate needs the isolation level READ COMMITTED",
    "25000": "headgate needs the isolation level READ COMMITTED: see default_transaction_isolation",
    "25001": (
        "its pool hands out connections in the middle of a transaction, with which every spend would be rolled back: "
        "what the pool's check does has to commit"
    ),
    "25006": "it is read-only: is it a standby, since a failover, or is default_transaction_read_only on?",
    "57P01": "the connection was terminated by an administrator's command, or the server shuts down",
    "57P02": "the server has crashed, and recovers",
    "57P03": "it does not take connections now: it starts, recovers or shuts down",
    "57P05": "the connection was idle for too long for idle_session_timeout",
    "57014": "the statement was cancelled: by statement_timeout, or by somebody",
    "25P03": "the connection was ended by idle_in_transaction_session_timeout",
    "08P01": "what it speaks is not understood: is it PostgreSQL, or a pooler of it?",
}
_WORDS: Final = (
    ("28P01", r"password authentication failed|no password supplied|SCRAM"),
    ("28000", r"no pg_hba\.conf entry|role \".*\" does not exist|role \".*\" is not permitted|authentication failed"),
    ("3D000", r"database \".*\" does not exist|no such database"),
    ("42501", r"permission denied for database"),
    ("53300", r"too many clients|remaining connection slots|too many connections|no more connections allowed"),
    ("57P03", r"the database system is (starting|shutting|in recovery|not yet|not accepting)"),
    ("57P01", r"terminating connection due to administrator command"),
    ("57P02", r"because of crash of another server process"),
    ("57P05", r"idle-session timeout|idle session timeout"),
    ("25P03", r"idle-in-transaction"),
    ("25006", r"session is read-only|server is in hot standby mode"),
)


def problem_of(sqlstate: str | None, message: str) -> str:
    """Say what is wrong, and what to check.

    :param sqlstate: the error's code; None where there is none.
    :param message: the error's own words.
    """
    words = _first_line(message)
    if sqlstate is None:
        sqlstate = next((code for code, pattern in _WORDS if re.search(pattern, message)), None)
    if sqlstate is None:
        return f"{UNREACHABLE} ({words})"
    problem = _PROBLEMS.get(sqlstate)
    if problem is None:
        return f"it answered with an error: {words} (SQLSTATE {sqlstate})"
    return f"{problem} ({words}; SQLSTATE {sqlstate})"


def _first_line(message: str) -> str:
    lines = [line for line in message.strip().splitlines() if line.strip()]
    return re.sub(r"^(FATAL|ERROR|PANIC):\s*", "", lines[0]) if lines else "it closed the connection"
