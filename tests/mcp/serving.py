"""A server that has limits, as `python -m tests.mcp.serving LIBRARY PORT STORE PREFIX KIND`: a process of its own."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from headgate.mcp import session_id

TOKENS = {
    "ada": {"client_id": "desk", "scopes": [], "sub": "ada"},
    "ada-again": {"client_id": "phone", "scopes": [], "sub": "ada"},
    "bob": {"client_id": "desk", "scopes": [], "sub": "bob"},
    "robot": {"client_id": "robot", "scopes": []},
}


def app_of(library: str, store: str, prefix: str, kind: str) -> Any:
    """:param kind: `open`; `tokens`, where it asks for them; or `sessions`, where each has a share."""
    limits: dict[str, Any] = {"store": store}
    if store != "memory://":
        limits |= {"prefix": prefix, "timeout": 10}
    if kind == "sessions":
        limits["identity"] = (session_id, "ip")
    if library == "fastmcp":
        from fastmcp import FastMCP
        from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

        from headgate import fastmcp

        server = FastMCP(
            "tools",
            auth=StaticTokenVerifier(TOKENS) if kind == "tokens" else None,
            middleware=[fastmcp.RateLimits("fixed-window 5/hour", **limits)],
        )
        server.tool(echo)
        return server.http_app()
    from mcp.server import MCPServer
    from mcp.server.auth.provider import AccessToken
    from mcp.server.auth.settings import AuthSettings
    from pydantic import AnyHttpUrl

    from headgate import mcp

    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            known: dict[str, Any] | None = TOKENS.get(token)
            if known is None:
                return None
            return AccessToken(
                token=token, client_id=known["client_id"], scopes=[], subject=known.get("sub"), expires_at=None
            )

    url = AnyHttpUrl("http://127.0.0.1")
    auth = AuthSettings(issuer_url=url, resource_server_url=url, required_scopes=[], validate_token_resource=False)
    options: dict[str, Any] = {"auth": auth, "token_verifier": Verifier()} if kind == "tokens" else {}
    plain = MCPServer("tools", middleware=[mcp.RateLimits("fixed-window 5/hour", **limits)], **options)
    plain.tool()(echo)
    return plain.streamable_http_app()


def echo(text: str) -> str:
    """Say the same."""
    return text


if __name__ == "__main__":
    _, library, port, store, prefix, kind = sys.argv
    uvicorn.run(app_of(library, store, prefix, kind), port=int(port), log_level="error", proxy_headers=False)
