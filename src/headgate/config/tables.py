"""The tables of a configuration: the one description that the reader, the JSON schema and the errors go by.

This module must not know what becomes of the values.
"""

from __future__ import annotations

from typing import Final

from headgate.config.kinds import (
    Duration,
    Either,
    Flag,
    Function,
    LimitText,
    Named,
    Number,
    Several,
    Text,
    Word,
)
from headgate.config.table import Key, Table
from headgate.web.headers import STYLES

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_/-]{0,63}$"
ALGORITHMS: Final = ("token_bucket", "sliding_window", "fixed_window", "sliding_log")

_NO_POOL: Final = (
    "leave it out: a store has one connection for threads and one for each event loop, and so no pool to bound"
)
_DEADLINE: Final = "write timeout instead: the deadline of a call, connecting included, such as '250ms'"
_LIMIT: Final = LimitText()
_DURATION: Final = Duration()
_FUNCTION: Final = Function()
_LIMITS: Final = Either((Several(_LIMIT, least=1), Named(_LIMIT, "limits by their names", NAME)))
_OUTAGE: Final = Either((_LIMIT, Named(_LIMIT, "limits by their names", NAME)))
_TIERS: Final = Named(
    Either((_LIMIT, Named(_LIMIT, "limits by their names", NAME))), "limits by the names of tiers", least=0
)

BREAKER: Final = Table(
    {
        "failures": Key(Number(1), "So many round trips in a row have to fail."),
        "open_for": Key(_DURATION, "Then the server is not asked for so long."),
    },
    "a breaker",
)
LEASE: Final = Table(
    {
        "max_tokens": Key(Number(1), "The most that is drawn at once; by default a tenth of the capacity."),
        "life": Key(_DURATION, "After so long, what was not used goes back."),
    },
    "a lease",
)
STORE: Final = Table(
    {
        "url": Key(Text("the URL of a store", is_secret=True), "Where it is, such as redis://localhost:6379/0."),
        "engine": Key(Word(("memory", "redis")), "The kind of store, where there is no URL."),
        "strategy": Key(Word(("memory", "redis")), "", "engine"),
        "username": Key(Text(), "The user as whom to log in."),
        "password": Key(Text(is_secret=True), "The password; an empty one is none. Write ${NAME}."),
        "db": Key(Number(0), "The number of the database; the URL may say it, too."),
        "prefix": Key(Text(), "The first part of every key; headgate by default."),
        "key_prefix": Key(Text(), "", "prefix"),
        "hash_tag": Key(Text(), "Puts all keys into one slot of a cluster."),
        "schema": Key(Text(), "The schema of a PostgreSQL database that has the table; headgate by default."),
        "unlogged": Key(Flag(), "Is that table made UNLOGGED: quicker, and emptied by a crash?"),
        "timeout": Key(_DURATION, "The deadline of a call; 250ms by default."),
        "coalesce": Key(Flag(), "Do calls that come during a round trip go together in the next one?"),
        "remember_denials": Key(_DURATION, "For how long at most a denial is repeated without asking; 0 for never."),
        "breaker": Key(Either((Flag(only=False), BREAKER)), "When a failing server is left alone; false for never."),
        "max_entries": Key(Number(1), "The most entries that a store in memory keeps."),
        "ssl_ca_certs": Key(Text(), "The file of the authorities that are trusted."),
        "ssl_certfile": Key(Text(), "The file of our certificate."),
        "ssl_keyfile": Key(Text(), "The file of its key."),
        "ssl_check_hostname": Key(Flag(), "Is the server's name compared with its certificate?"),
    },
    "a store",
    needs_one_of=("url", "engine", "strategy"),
    refused={
        "pool_min_size": _NO_POOL,
        "pool_max_size": _NO_POOL,
        "max_connections": _NO_POOL,
        "timing_margin_ms": "leave it out: the server's clock decides, and nobody else's has to agree with it",
        "socket_timeout": _DEADLINE,
        "socket_connect_timeout": _DEADLINE,
    },
)
LIMITER: Final = Table(
    {
        "store": Key(Text("the name of a store"), "The store; not needed where there is only one."),
        "store_id": Key(Text("the name of a store"), "", "store"),
        "limit": Key(Either((Number(1), _LIMIT)), "The limit in words, or its number beside window_seconds."),
        "limits": Key(_LIMITS, "Several limits, in a list or with names; a request spends in all or in none."),
        "algorithm": Key(Word(ALGORITHMS), "The algorithm of limit and window_seconds."),
        "window_seconds": Key(Number(0, is_whole=False, is_above=True), "The length of the window of limit."),
        "rate_per_second": Key(Number(0, is_whole=False, is_above=True), "So many a second, by a token bucket."),
        "burst": Key(Number(1), "The capacity of that bucket; by default one second's worth."),
        "max_concurrent": Key(Number(1), "So many at the same time."),
        "on_outage": Key(Word(("open", "closed", "raise", "local")), "The answer when the store gives none."),
        "instances": Key(Number(1), "For on_outage = 'local': how many processes have a share of the limit."),
        "outage_limit": Key(_OUTAGE, "For on_outage = 'local': a limit that is shared in place of the limiter's."),
        "timeout": Key(_DURATION, "For how long acquire waits; as long as it takes, by default."),
        "tiers": Key(_TIERS, "Other numbers for some callers, by the names of their tiers."),
        "lease": Key(Either((Flag(), LEASE)), "Are tokens of keys in demand drawn ahead of need?"),
        "penalty": Key(_LIMIT, "For how long a key is blocked after how many denials."),
    },
    "a limiter",
    needs_one_of=("limit", "limits", "rate_per_second", "max_concurrent"),
    apart=(
        ("limit", "limits"),
        ("limit", "rate_per_second"),
        ("limits", "rate_per_second"),
        ("limits", "max_concurrent"),
    ),
    together=(("window_seconds", "limit"), ("burst", "rate_per_second")),
    refused={
        "fail_closed": "write on_outage = 'closed' instead, or 'open'",
        "requests": "write limit = '100/minute' instead",
        "rate": "write rate_per_second, or limit = '100/second; burst=200'",
    },
)
OF_HEADER: Final = Table(
    {
        "header": Key(Text("the name of a header", r"^[A-Za-z0-9-]+$"), "The header that says it."),
        "default": Key(Number(1), "The number where there is none; 1, or of a response what was reserved, by default."),
        "most": Key(Number(1), "The largest that is believed; more is this much."),
    },
    "a number from a header",
    needs_one_of=("header",),
)
RESPONSES: Final = Table(
    {
        "status": Key(
            Either(
                (
                    Number(100, 599),
                    Text("a class of statuses, such as '4xx'", "^[1-5]xx$"),
                    Several(Either((Number(100, 599), Text("a class of statuses", "^[1-5]xx$"))), least=1),
                )
            ),
            "The statuses that count, such as [401, 403] or '2xx'.",
        ),
        "header": Key(Text("the name of a header", r"^[A-Za-z0-9-]+$"), "The header to look at."),
        "value": Key(Text(), "The value of the header that counts."),
    },
    "responses",
    needs_one_of=("status", "header"),
    together=(("header", "value"), ("value", "header")),
)
_COST: Final = Either((Number(0), _FUNCTION))
_COST_BY_NAME: Final = Named(Either((Number(0), _FUNCTION, OF_HEADER)), "costs by the names of limits", NAME)
_RESERVE_BY_NAME: Final = Named(_COST, "tokens by the names of limits", NAME)
_ACTUAL_BY_NAME: Final = Named(Either((_FUNCTION, OF_HEADER)), "costs by the names of limits", NAME)
_KEY: Final = Text(
    "'ip', 'user', 'api_key', '*' (one share for everybody), or a function by its path",
    r"^(ip|user|api_key|\*|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)$",
)
_STRINGS: Final = Either((Text(), Several(Text())))
_PATHS: Final = Either((Text("a path, such as '/api/*'", "^[/*]"), Several(Text("a path, such as '/api/*'", "^[/*]"))))
RULE: Final = Table(
    {
        "name": Key(
            Text("a name of letters, digits, '_', '-' and '/'", NAME),
            "Part of where its state lives; what it is about, by default.",
        ),
        "limit": Key(_LIMIT, "The limit in words."),
        "limits": Key(_LIMITS, "Several limits, in a list or with names; a request spends in all or in none."),
        "paths": Key(_PATHS, "The paths that it is about; all, by default."),
        "methods": Key(_STRINGS, "The methods that it is about; all, by default."),
        "key": Key(Either((_KEY, _FUNCTION)), "Whose share a request takes."),
        "cost": Key(Either((*_COST.kinds, OF_HEADER, _COST_BY_NAME)), "The tokens that a request takes."),
        "reserve": Key(
            Either((*_COST.kinds, _RESERVE_BY_NAME)), "The tokens that it leaves behind it, for critical requests."
        ),
        "tiers": Key(_TIERS, "Other numbers for some callers, by the names of their tiers."),
        "tier": Key(_FUNCTION, "The tier of a caller; without it, [web.tiers_of] says it."),
        "limit_for": Key(_FUNCTION, "The limit of a request, where only the request knows it."),
        "exempt_when": Key(_FUNCTION, "Which requests are not counted."),
        "charge_when": Key(Either((_FUNCTION, RESPONSES)), "Which responses count after all."),
        "actual_cost": Key(Either((_FUNCTION, OF_HEADER, _ACTUAL_BY_NAME)), "The tokens that it took after all."),
        "wait": Key(_DURATION, "For how long a request may be held back rather than be denied."),
        "shadow": Key(Flag(), "Does it decide and count, and never deny?"),
        "on_outage": Key(
            Word(("open", "closed", "local")), "When the store gives no answer: let through, 503, or a share."
        ),
        "instances": Key(Number(1), "For on_outage = 'local': how many processes have a share of the limits."),
        "outage_limit": Key(_OUTAGE, "For on_outage = 'local': a limit that is shared in place of the rule's."),
        "penalty": Key(_LIMIT, "For how long a key is blocked after how many denials."),
        "message": Key(Text(), "What the body of a 429 says, where this rule denies."),
        "near": Key(Number(0, 1, is_whole=False, is_above=True), "Below which share left observers are told."),
        "per_route": Key(Flag(), "Does each route have a share of its own?"),
        "per_method": Key(Flag(), "Does each method have a share of its own?"),
        "default": Key(Flag(), "Is it for those routes only that have no rule of their own?"),
    },
    "a rule",
    needs_one_of=("limit", "limits"),
    apart=(("limit", "limits"),),
    refused={
        "path": "write paths instead",
        "method": "write methods instead",
        "is_shadow": "write shadow instead",
        "is_default": "write default instead",
        "is_per_route": "write per_route instead",
        "is_per_method": "write per_method instead",
    },
)
API_KEY: Final = Table(
    {
        "header": Key(
            Text("the name of a header", r"^[A-Za-z0-9-]+$"), "The header that has it; x-api-key by default."
        ),
        "scheme": Key(Text("the name of a scheme", r"^[A-Za-z0-9-]+$"), "Its scheme in Authorization, such as Bearer."),
        "query": Key(Text("the name of a parameter", "."), "The parameter of the query that has it."),
    },
    "where API keys are",
)
_NETWORKS: Final = Several(Text("a network, such as '10.0.0.0/8'"))
WEB: Final = Table(
    {
        "store": Key(Text("the name of a store"), "The store; not needed where there is only one."),
        "name": Key(Text("a name"), "The app's name in the store; web by default."),
        "identity": Key(
            Either((Word(("api_key", "user", "ip")), Several(Either((_KEY, _FUNCTION)), least=1))),
            "Who is asked whose share a request takes, in order; the address, by default.",
        ),
        "api_key": Key(API_KEY, "Where the API key of a request is."),
        "secret": Key(Text(is_secret=True), "Keys the hashes of API keys. Write ${NAME}."),
        "proxies": Key(Either((Number(0, 64), _NETWORKS)), "How many proxies are trusted, or their networks."),
        "forwarded": Key(Text("the name of a header", r"^[A-Za-z0-9-]+$"), "The header by which they name clients."),
        "ipv6_prefix": Key(Number(1, 128), "So many bits of an IPv6 address are one caller; 64 by default."),
        "ipv4_prefix": Key(Number(1, 32), "So many bits of an IPv4 address are one caller; 32 by default."),
        "exempt": Key(_PATHS, "The paths that meet no rule."),
        "allow": Key(_NETWORKS, "The networks of callers who meet no rule."),
        "deny": Key(_NETWORKS, "The networks of callers who are refused."),
        "penalty": Key(_LIMIT, "For how long a caller is blocked after how many denials, of any rule without its own."),
        "headers": Key(
            Either((Flag(only=False), Word(STYLES), Several(Word(STYLES)))), "The headers that tell clients; or none."
        ),
        "header_names": Key(
            Named(Text("the name of a header", r"^[A-Za-z0-9-]+$"), "names of headers by their usual ones"),
            "Other names for some of the headers.",
        ),
        "reset": Key(Word(("delta", "epoch")), "X-RateLimit-Reset: in seconds from now, or since 1970."),
        "retry_after": Key(Word(("delta", "date")), "Retry-After: in seconds from now, or as a date."),
        "partition_secret": Key(Text(is_secret=True), "Draft 11 tells keys apart, by hashes with it. Write ${NAME}."),
        "body": Key(Word(("problem", "text")), "The body of a refusal."),
        "on_denied": Key(_FUNCTION, "Answers refused requests: a function of the request and the decision."),
        "enabled": Key(Flag(), "Are the limits on? Without them, nothing is asked, and no header is sent."),
        "tiers_of": Key(Named(Text(), "tiers by the keys of callers", least=0), "The tiers of callers, by their keys."),
    },
    "the rules of a web app",
    together=(("forwarded", "proxies"),),
)
DOCUMENT: Final = Table(
    {
        "stores": Key(Named(STORE, "stores by their names", least=0), "Where state lives."),
        "limiters": Key(Named(LIMITER, "limiters by their names", least=0), "What acquire(NAME) asks."),
        "web": Key(WEB, "What goes for all rules."),
        "rules": Key(Several(RULE), "The limits that requests of a web app meet."),
    },
    "a configuration",
)
