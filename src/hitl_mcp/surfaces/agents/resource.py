"""What `/mcp` says to OAuth clients: whose tokens it takes (RFC 9728), and what was wrong with one (RFC 6750).

No token is checked here (`access_tokens`).
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from hitl_mcp.config import OAuthConfig

__all__ = ["WELL_KNOWN", "ProtectedResource"]

WELL_KNOWN = "/.well-known/oauth-protected-resource"
"""Where the document is; clients put the path of what they want behind it, or nothing."""

_PATH = "/mcp"


class ProtectedResource:
    """The document, as an ASGI app, and the challenges that lead to it."""

    def __init__(self, config: OAuthConfig, public_url: str | None) -> None:
        self._config = config
        self._public_url = public_url

    def _base(self, scope: Scope) -> str:
        # Without a public address the Host header is a loopback name and our own port: `doors.guarded` saw to it.
        return self._public_url or f"http://{Headers(scope=scope).get('host', '')}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = {
            # Clients compare it, letter for letter, with the address that they were given.
            "resource": self._base(scope) + _PATH,
            "authorization_servers": [self._config.issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "hitl-mcp",
            **({"scopes_supported": list(self._config.scopes)} if self._config.scopes else {}),
        }
        await JSONResponse(document)(scope, receive, send)

    def challenge(self, scope: Scope, error: str | None = None, description: str | None = None) -> str:
        """The `WWW-Authenticate` header: where the document is, which scopes are needed, and what was wrong."""
        said = {
            "error": error,
            "error_description": description,
            "scope": " ".join(self._config.scopes) or None,
            "resource_metadata": f"{self._base(scope)}{WELL_KNOWN}{_PATH}",
        }
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items() if value is not None)
