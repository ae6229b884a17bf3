"""What an agent asked for, and the ways back to its client while it waits. How bytes travel is not known here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from hitl_mcp.surfaces.agents.waiting import Report

PROTOCOL_PREFIX = "io.modelcontextprotocol/"
HOP_KEYS = frozenset({"progressToken", "progress_token"})
"""`_meta` keys that belong to one hop between two neighbours and are never forwarded."""

AskClient = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Asks the client something by method and params, and returns its result as it came.

Raises `MCPError` where the client answers with an error, `ValidationError` where its result is none.
"""

TellClient = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Sends the client a notification, by method and params, that belongs to what it asked."""

Context = ServerRequestContext[Any, Any]


@dataclass(eq=False)
class Caller:
    """The agent at the other end of one connection, and in which conversation it speaks.

    `when_written` runs a function once the answer with this request id was written to the transport.
    """

    agent: str
    conversation: str
    when_written: Callable[[Any, Callable[[], None]], None] | None = None
    legacy_session: ServerSession | None = None


@dataclass(frozen=True)
class ClientRequest:
    """A request as it arrived: from whom, in which revision of the protocol, and the ways back to its client.

    `params` are as the client wrote them. `ask` is None where the client cannot be asked anything inside a request: a
    modern one is asked by the answer itself (`input_required`), and brings what it was asked for, and the state it was
    given with the question, when it asks again. `end_stream` ends the stream that the answer would come on; its client
    picks it up again. It is None where no client would.
    """

    caller: Caller
    id: Any
    version: str
    params: Mapping[str, Any]
    report: Report
    tell: TellClient
    ask: AskClient | None = None
    end_stream: Callable[[], Awaitable[None]] | None = None
    capabilities: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the tool or the prompt that is asked for."""
        return str(self.params["name"])

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments for it; empty where none were sent."""
        return self.params.get("arguments") or {}

    @property
    def meta(self) -> dict[str, Any]:
        """The request's `_meta` without what belongs to this hop or to the protocol's own envelope."""
        meta = self.params.get("_meta") or {}
        return {
            key: value for key, value in meta.items() if key not in HOP_KEYS and not key.startswith(PROTOCOL_PREFIX)
        }

    @property
    def log_level(self) -> str | None:
        """From which level on a modern client wants the log of this request; None where it wants none."""
        return (self.params.get("_meta") or {}).get(types.LOG_LEVEL_META_KEY)

    @property
    def state(self) -> str | None:
        """What a modern client was given with a question, as it gives it back; attacker's input."""
        return self.params.get("requestState")

    @property
    def answers(self) -> Mapping[str, Any]:
        """What a modern client answers to the questions it was asked, by their keys; attacker's input."""
        return self.params.get("inputResponses") or {}

    @property
    def is_modern(self) -> bool:
        """Whether the client speaks a revision without handshake, of 2026-07-28 or later."""
        return self.version in MODERN_PROTOCOL_VERSIONS


def of_context(ctx: Context, params: Mapping[str, Any]) -> ClientRequest:
    """A request that the SDK took apart."""
    sdk = ctx.session
    declared = sdk.client_capabilities
    related = ServerMessageMetadata(related_request_id=ctx.request_id)
    return ClientRequest(
        caller=caller_of(ctx),
        id=ctx.request_id,
        version=ctx.protocol_version,
        params=params,
        report=sdk.report_progress,
        tell=partial(_tell, sdk, ctx.request_id),
        ask=partial(_ask, sdk, related) if sdk.can_send_request else None,
        end_stream=ctx.close_sse_stream,
        capabilities=declared.model_dump(by_alias=True, mode="json", exclude_none=True) if declared else {},
    )


def of_modern(
    caller: Caller, context: DispatchContext[TransportContext], version: str, params: Mapping[str, Any]
) -> ClientRequest:
    """A modern request as our own loop has it, which the SDK did not take apart."""
    declared = params["_meta"].get(types.CLIENT_CAPABILITIES_META_KEY)
    return ClientRequest(
        caller=caller,
        id=context.request_id,
        version=version,
        params=params,
        report=context.progress,
        tell=context.notify,
        capabilities=declared if isinstance(declared, Mapping) else {},
    )


class _AsWritten:
    """A message in the place of the SDK's models, which would drop what they do not know."""

    def __init__(self, method: str, params: Mapping[str, Any]) -> None:
        self.method = method
        self._params = params

    def model_dump(self, **_: object) -> dict[str, Any]:
        """As the SDK asks of a model."""
        return {"method": self.method, "params": dict(self._params)}


class _AsRead(BaseModel):
    """The result of a question as the client sent it; the SDK checked it before."""

    result: dict[str, Any]

    @classmethod
    def model_validate(cls, obj: Any, **_: object) -> _AsRead:
        """As the SDK asks of a model."""
        return cls(result=obj)


async def _ask(
    sdk: ServerSession, related: ServerMessageMetadata, method: str, params: Mapping[str, Any]
) -> dict[str, Any]:
    question = cast(types.ServerRequest, _AsWritten(method, params))
    return (await sdk.send_request(question, _AsRead, metadata=related)).result


async def _tell(sdk: ServerSession, request_id: Any, method: str, params: Mapping[str, Any]) -> None:
    await sdk.send_notification(cast(types.ServerNotification, _AsWritten(method, params)), request_id)


def agent_of(ctx: Context) -> str:
    """Who asks.

    Raises:
        MCPError: That is not known.
    """
    if isinstance(ctx.lifespan_context, Caller):
        return ctx.lifespan_context.agent
    agent = ctx.request.scope["hitl.agent"] if ctx.request is not None else None
    if not isinstance(agent, str):
        raise MCPError(types.INVALID_REQUEST, "nobody is known at the other end of this connection")
    return agent


def caller_of(ctx: Context) -> Caller:
    """Who sent what the SDK took apart."""
    if isinstance(ctx.lifespan_context, Caller):
        return ctx.lifespan_context
    agent = agent_of(ctx)
    return Caller(agent=agent, conversation=http_session_id(ctx) or f"http:{agent}")


def http_session_id(ctx: Context) -> str | None:
    """The id of a legacy session over HTTP, or None."""
    return ctx.request.headers.get("mcp-session-id") if ctx.request is not None else None
