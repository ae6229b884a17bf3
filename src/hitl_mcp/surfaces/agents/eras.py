"""One connection's protocol era, decided by its first request, and the SDK's loop that serves it.

As the SDK's `serve_dual_era_loop`, of the SDK's own public parts, with two differences that a call pays for otherwise:
no relay stands between our reader and the loop, and a modern `tools/call` goes straight to `AgentServer.answer`. What
a call means stands in `server.py`; how bytes travel in `socket.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from mcp.server.connection import Connection
from mcp.server.lowlevel import NotificationOptions
from mcp.server.runner import ServerRunner, aclose_shielded, modern_on_request
from mcp.shared.dispatcher import DispatchContext, OnRequest
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.message import SessionMessage
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PROTOCOL_VERSION_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
    JSONRPCRequest,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from hitl_mcp.surfaces.agents.asked import Caller, of_modern
from hitl_mcp.surfaces.agents.server import AgentServer, check_call

logger = logging.getLogger(__name__)

KEPT_FRAMES = 8
"""Frames before the first request that are kept for it: one `notifications/initialized` is what may matter."""

Context = DispatchContext[TransportContext]
Params = Mapping[str, Any] | None


class Incoming(Protocol):
    """A connection's frames as messages; what was read can be put back, to be read again."""

    def put_back(self, messages: Sequence[SessionMessage | Exception]) -> None: ...
    async def receive(self) -> SessionMessage | Exception: ...
    async def aclose(self) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> SessionMessage | Exception: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Outgoing(Protocol):
    """Takes messages for the agent."""

    async def send(self, item: SessionMessage, /) -> None: ...
    async def aclose(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


async def serve_agent(server: AgentServer, caller: Caller, incoming: Incoming, outgoing: Outgoing) -> None:
    """Serve one agent until its connection ends, in the era that its first request is of."""
    try:
        opening = await _opening_request(incoming)
        if opening is not None and opening.method != "initialize" and _is_enveloped(opening.params):
            await _serve_modern(server, caller, JSONRPCDispatcher(incoming, outgoing))
        else:
            await _serve_legacy(server, caller, incoming, outgoing)
    finally:
        await incoming.aclose()
        await outgoing.aclose()


async def _opening_request(incoming: Incoming) -> JSONRPCRequest | None:
    """Look at the first request, which stays to be read; None where the connection ends before one."""
    read: list[SessionMessage | Exception] = []
    opening = None
    async for item in incoming:
        if isinstance(item, SessionMessage) and isinstance(item.message, JSONRPCRequest):
            opening = item.message
        elif len(read) >= KEPT_FRAMES:
            continue
        read.append(item)
        if opening is not None:
            break
    incoming.put_back(read)
    return opening


def _is_enveloped(params: Params) -> bool:
    """Whether a request says of which modern revision it is; only modern clients do."""
    meta = params.get("_meta") if params else None
    return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in meta


# Clients with a handshake.


async def _serve_legacy(server: AgentServer, caller: Caller, incoming: Incoming, outgoing: Outgoing) -> None:
    # `initialize` holds up what a client sends right behind it, which would else be refused as not yet initialized.
    dispatcher: JSONRPCDispatcher[TransportContext] = JSONRPCDispatcher(
        incoming, outgoing, inline_methods=frozenset({"initialize"})
    )
    connection = Connection.for_loop(dispatcher)
    options = server.create_initialization_options(NotificationOptions(tools_changed=True))
    runner = ServerRunner(server, connection, caller, init_options=options)

    async def on_request(context: Context, method: str, params: Params) -> dict[str, Any]:
        if method != "initialize" and _is_enveloped(params):
            why = "this connection began with a handshake; requests of the 2026-07-28 revision are not accepted on it"
            raise MCPError(INVALID_REQUEST, why)
        return await runner.on_request(context, method, params)

    try:
        await dispatcher.run(on_request, runner.on_notify)
    finally:
        await aclose_shielded(connection)


# Clients without one.


async def _serve_modern(server: AgentServer, caller: Caller, dispatcher: JSONRPCDispatcher[TransportContext]) -> None:
    handler = modern_on_request(server, caller)

    async def on_request(context: Context, method: str, params: Params) -> dict[str, Any]:
        if method == "initialize":
            raise _no_handshake(params)
        route = classify_inbound_request({"method": method, "params": params})
        if isinstance(route, InboundLadderRejection):
            raise MCPError(route.code, route.message, route.data)
        if method == "tools/call" and params is not None:
            check_call(route.protocol_version, params)
            return await server.answer(of_modern(caller, context, route.protocol_version, params))
        return await _by_the_sdk(handler, context, method, params)

    await dispatcher.run(on_request, _drop)


async def _by_the_sdk(handler: OnRequest, context: Context, method: str, params: Params) -> dict[str, Any]:
    try:
        return await handler(context, method, params)
    except (MCPError, ValidationError):
        raise  # the dispatcher turns them into what the client is told
    except Exception:
        # The dispatcher would tell the client the bare text of the exception.
        logger.exception("`%s` failed", method)
        raise MCPError(INTERNAL_ERROR, "the gateway failed") from None


async def _drop(context: Context, method: str, params: Params) -> None:
    """Of a modern client's notifications only those matter that the dispatcher takes itself: cancels."""
    logger.debug("dropped `%s`", method)


def _no_handshake(params: Params) -> MCPError:
    asked = (params or {}).get("protocolVersion")
    supported: dict[str, Any] = {"supported": list(MODERN_PROTOCOL_VERSIONS)}
    if isinstance(asked, str):
        supported["requested"] = asked
    why = "this connection began with the 2026-07-28 revision; no handshake is accepted on it"
    return MCPError(UNSUPPORTED_PROTOCOL_VERSION, why, supported)
