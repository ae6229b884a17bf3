"""`/mcp`: agents over streamable HTTP, each with a bearer token of its own.

In front of the SDK stand the checks it does not make: who it is, how large a body may be, and that its JSON means one
thing only. Host and Origin are checked for the whole port (see `surfaces.api`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from hmac import compare_digest

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from hitl_mcp.limits import MESSAGE_BYTES
from hitl_mcp.surfaces.agents.frames import FrameRefused, read_frame, too_long
from hitl_mcp.surfaces.agents.server import AgentServer


class AgentsOverHttp:
    """The ASGI app of `/mcp`. `tokens` maps an agent's name to its bearer token."""

    def __init__(self, server: AgentServer, tokens: Mapping[str, str]) -> None:
        self._manager = StreamableHTTPSessionManager(app=server, max_request_body_size=MESSAGE_BYTES)
        self._app = StreamableHTTPASGIApp(self._manager)
        # Digests of equal length are compared, so that neither the time nor the length says anything of a token.
        self._agents = {agent: sha256(key.encode()).digest() for agent, key in tokens.items()}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while this is open."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        agent = self._agent_of(scope)
        if agent is None:
            refusal = {"error": {"code": "not_signed_in", "message": "a bearer token of a configured agent is needed"}}
            headers = {"WWW-Authenticate": "Bearer"}
            await JSONResponse(refusal, status_code=401, headers=headers)(scope, receive, send)
            return
        body = await _body(receive) if scope["method"] == "POST" else b""
        refused = _refused(body) if scope["method"] == "POST" else None
        if refused is not None:
            await JSONResponse(refused.answer, status_code=400)(scope, receive, send)
            return
        scope = dict(scope)
        scope["hitl.agent"] = agent
        # The SDK binds a legacy session to the credential that opened it, so that no other agent can use it.
        scope["user"] = AuthenticatedUser(AccessToken(token="-", client_id=agent, scopes=[], subject=agent))  # noqa: S106
        await self._app(scope, _replayed(body, receive) if scope["method"] == "POST" else receive, send)

    def _agent_of(self, scope: Scope) -> str | None:
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(values) != 1 or not values[0].lower().startswith(b"bearer "):
            return None
        shown = sha256(values[0][7:].strip()).digest()
        found = None
        for agent, expected in self._agents.items():
            if compare_digest(shown, expected):
                found = agent
        return found


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None when it is larger than a message may be."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MESSAGE_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _refused(body: bytes | None) -> FrameRefused | None:
    if body is None:
        return too_long()
    try:
        read_frame(body)
    except FrameRefused as refused:
        return refused
    return None


def _replayed(body: bytes | None, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body or b"", "more_body": False}
        return await receive()

    return replay
