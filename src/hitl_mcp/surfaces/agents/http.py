"""`/mcp`: agents over streamable HTTP, each with a bearer token of its own, or with one of an OAuth issuer.

In front of the SDK stand the checks it does not make: who it is, how large a body may be, and that its JSON means one
thing only. Host and Origin are checked for the whole port (see `surfaces.api`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp_types import INVALID_REQUEST, JSONRPCMessage, JSONRPCRequest
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from hitl_mcp.config import OAuthConfig
from hitl_mcp.limits import MESSAGE_BYTES
from hitl_mcp.people import People
from hitl_mcp.surfaces.agents.access_tokens import AccessTokens, NotThisToken, ScopeMissing, UnknownSubject
from hitl_mcp.surfaces.agents.frames import FrameRefused, packed, read_frame, too_long
from hitl_mcp.surfaces.agents.issuer import AGAIN_SECONDS, IssuerKeys, IssuerUnreachable
from hitl_mcp.surfaces.agents.resource import ProtectedResource
from hitl_mcp.surfaces.agents.server import AgentServer
from hitl_mcp.surfaces.agents.streams import ResumableSessions


@dataclass(frozen=True)
class OAuthDoor:
    """What makes `/mcp` an OAuth resource server."""

    access: AccessTokens
    resource: ProtectedResource

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know: nobody's token can be checked, or soon none."""
        return (self.access.problem,) if self.access.problem else ()


def oauth_door(config: OAuthConfig, people: People, public_url: str | None) -> OAuthDoor:
    """The door of an issuer, for the agents that have a subject there."""
    subjects = {name: agent.subject for name, agent in people.agents.items() if agent.subject is not None}
    return OAuthDoor(AccessTokens(config, IssuerKeys(config), subjects), ProtectedResource(config, public_url))


@dataclass(frozen=True)
class _Refusal:
    """Why somebody does not come in, as it is answered."""

    status: int
    code: str
    message: str
    challenge: str | None = None
    help: str | None = None

    def answer(self) -> JSONResponse:
        error = {"code": self.code, "message": self.message, **({"help": self.help} if self.help else {})}
        headers = {"WWW-Authenticate": self.challenge} if self.challenge else {}
        if self.status == 503:
            headers["Retry-After"] = str(AGAIN_SECONDS)
        return JSONResponse({"error": error}, self.status, headers)


class AgentsOverHttp:
    """The ASGI app of `/mcp`. `tokens` maps an agent's name to its bearer token."""

    def __init__(self, server: AgentServer, tokens: Mapping[str, str], oauth: OAuthDoor | None = None) -> None:
        self._manager = ResumableSessions(server, MESSAGE_BYTES)
        self._app = StreamableHTTPASGIApp(self._manager)
        # Digests of equal length are compared, so that neither the time nor the length says anything of a token.
        self._agents = {agent: sha256(key.encode()).digest() for agent, key in tokens.items()}
        self._oauth = oauth
        self._in_flight: dict[tuple[str, bytes, str | int], object] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while this is open."""
        async with self._manager.run():
            yield

    async def agent_of(self, scope: Scope) -> str | JSONResponse:
        """Which agent a request is of, by its bearer token alone; or how it is refused."""
        agent = await self._agent_of(scope)
        return agent.answer() if isinstance(agent, _Refusal) else agent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        agent = await self._agent_of(scope)
        if isinstance(agent, _Refusal):
            await agent.answer()(scope, receive, send)
            return
        scope = {**scope, "hitl.agent": agent}
        # The SDK binds a legacy session to the credential that opened it, so that no other agent can use it.
        scope["user"] = AuthenticatedUser(AccessToken(token="-", client_id=agent, scopes=[], subject=agent))  # noqa: S106
        if scope["method"] == "POST":
            await self._take(agent, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _take(self, agent: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a posted message to the SDK, once it is sure to mean one thing only."""
        try:
            body = await _body(scope, receive)
            with self._alone(agent, scope, read_frame(body)) as answered:
                await self._app(scope, _replayed(body, receive), _noted(send, answered))
        except FrameRefused as refused:
            await JSONResponse(refused.answer, status_code=refused.http_status)(scope, receive, send)

    @contextmanager
    def _alone(self, agent: str, scope: Scope, frame: JSONRPCMessage) -> Iterator[Callable[[], None]]:
        """See that no other request of a session is in flight under this id: only one of them would be answered.

        Gives what is to be called as soon as it is answered: its client may know before the rest here has ended.
        """
        sessions = [value for name, value in scope["headers"] if name == b"mcp-session-id"]
        if not sessions or not isinstance(frame, JSONRPCRequest):
            yield lambda: None
            return
        key = (agent, sessions[0], frame.id)
        if key in self._in_flight:
            why = "$.id: another request of this session is in flight under it"
            raise FrameRefused(INVALID_REQUEST, why, frame_id=frame.id, path="$.id")
        mine = self._in_flight[key] = object()

        def answered() -> None:
            if self._in_flight.get(key) is mine:  # the id may be in use again already
                del self._in_flight[key]

        try:
            yield answered
        finally:
            answered()

    async def _agent_of(self, scope: Scope) -> str | _Refusal:
        """Which agent this is. Every way to fail ends in a refusal."""
        shown = _bearer(scope)
        agent = self._agent_with(shown) if shown is not None else None
        if agent is not None:
            return agent
        if shown is None or self._oauth is None:
            challenge = self._oauth.resource.challenge(scope) if self._oauth else "Bearer"
            return _Refusal(401, "not_signed_in", "a bearer token of a configured agent is needed", challenge)
        return await _known_to_issuer(self._oauth, shown, scope)

    def _agent_with(self, shown: bytes) -> str | None:
        digest, found = sha256(shown).digest(), None
        for agent, expected in self._agents.items():
            if compare_digest(digest, expected):
                found = agent
        return found


async def _known_to_issuer(oauth: OAuthDoor, shown: bytes, scope: Scope) -> str | _Refusal:
    try:
        return await oauth.access.agent_of(shown)
    except NotThisToken as error:
        challenge = oauth.resource.challenge(scope, "invalid_token", error.message)
        return _Refusal(401, "invalid_token", error.message, challenge)
    except ScopeMissing as error:
        challenge = oauth.resource.challenge(scope, "insufficient_scope", error.message)
        return _Refusal(403, "insufficient_scope", error.message, challenge)
    except UnknownSubject as error:
        # No challenge: another token of the same subject would fare no better.
        return _Refusal(403, "unknown_agent", error.message, help=error.help)
    except IssuerUnreachable as error:
        return _Refusal(503, "issuer_unreachable", error.message)


def _bearer(scope: Scope) -> bytes | None:
    """What the one Authorization header shows; None where there is none, or more than one."""
    values: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1 or not values[0].lower().startswith(b"bearer "):
        return None
    return values[0][7:].strip()


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        FrameRefused: It is larger than a message may be, or packed, which not every reader would notice.
    """
    encodings = [value.strip().lower() for name, value in scope["headers"] if name == b"content-encoding"]
    if any(encoding != b"identity" for encoding in encodings):
        raise packed()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MESSAGE_BYTES:
            raise too_long()
        if not message.get("more_body"):
            return bytes(body)


def _noted(send: Send, answered: Callable[[], None]) -> Send:
    """Call `answered` before the last part of the answer leaves."""

    async def noting(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            answered()
        await send(message)

    return noting


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
