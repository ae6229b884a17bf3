"""Who is connected, and is told when tools, prompts or resources change. What they can do with it is not known here."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import mcp_types as types
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from hitl_mcp.surfaces.agents.asked import Caller, Context, http_session_id, of_context
from hitl_mcp.surfaces.agents.relay import Relay
from hitl_mcp.upstreams import Upstream

logger = logging.getLogger(__name__)

Spawn = Callable[..., None]
"""Starts a function with its arguments in the gateway's own task group."""

HTTP_SESSIONS = 1000
"""Legacy HTTP sessions that are told of changes; the oldest are forgotten first (they can list again)."""

TELLING_SECONDS = 10
"""How long a client may take to read that something changed; it can list again whenever it likes."""

TELLING_PAUSE_SECONDS = 0.1
"""Between two rounds of news, so that a flood of an upstream's reaches clients at most so often."""

SUBSCRIPTIONS_EACH = 1000
"""Resources one client may subscribe to, in one request or over its handshake's connection; more are refused."""

LISTENS_EACH = 64
"""Requests to listen that one agent may have open, over all its connections; more are refused."""


@dataclass(frozen=True)
class _Subscribed:
    """A resource that a client with a handshake is told of, and the upstream that says when it changes."""

    legacy_session: ServerSession
    upstream: Upstream


class Listeners:
    """Every connection while it lasts. Modern clients listen by a request of theirs, the others are told unasked."""

    def __init__(self, relay: Relay, spawn: Spawn) -> None:
        self._relay = relay
        self._spawn = spawn
        self._bus = InMemorySubscriptionBus()
        self._serve_listen = ListenHandler(self._bus)
        self._callers: set[Caller] = set()
        self._http_sessions: OrderedDict[str, ServerSession] = OrderedDict()
        self._subscribed: dict[str, dict[str, _Subscribed]] = {}
        self._untold: dict[ServerEvent, None] = {}
        self._is_telling = False
        self._on_their_way: set[tuple[ServerSession, ServerEvent]] = set()
        self._listens: Counter[str] = Counter()

    @contextmanager
    def connected(self, caller: Caller) -> Iterator[None]:
        """Know a connection while it lasts."""
        self._callers.add(caller)
        try:
            yield
        finally:
            self._callers.discard(caller)
            self._take_back(caller.conversation)

    async def initialized(self, ctx: Context, params: types.NotificationParams) -> None:
        """A client with a handshake is ready to be told."""
        if isinstance(ctx.lifespan_context, Caller):
            ctx.lifespan_context.legacy_session = ctx.session
        elif (session_id := http_session_id(ctx)) is not None:
            self._http_sessions[session_id] = ctx.session
            while len(self._http_sessions) > HTTP_SESSIONS:
                forgotten, _ = self._http_sessions.popitem(last=False)
                self._take_back(forgotten)

    def _take_back(self, conversation: str) -> None:
        """Its client is gone: what it subscribed to is watched for it no longer."""
        for uri, one in self._subscribed.pop(conversation, {}).items():
            one.upstream.unsubscribe(uri)

    # Asked for.

    async def listen(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """`subscriptions/listen`: until the client goes away."""
        asked = of_context(ctx, ctx.params or {})
        uris = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))
        if len(uris) > SUBSCRIPTIONS_EACH:
            raise _too_many_resources()
        if self._listens[asked.caller.agent] >= LISTENS_EACH:
            raise MCPError(types.INVALID_REQUEST, f"no more than {LISTENS_EACH} requests to listen can be open")
        self._listens[asked.caller.agent] += 1
        try:
            async with self._relay.subscribed(asked, uris):
                return await self._serve_listen(ctx, params)
        finally:
            self._listens[asked.caller.agent] -= 1
            if not self._listens[asked.caller.agent]:
                del self._listens[asked.caller.agent]

    async def subscribe(self, ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        """`resources/subscribe`."""
        asked = of_context(ctx, ctx.params or {})
        mine = self._subscribed.setdefault(asked.caller.conversation, {})
        if params.uri not in mine:
            if len(mine) >= SUBSCRIPTIONS_EACH:
                raise _too_many_resources()
            upstream = await self._relay.subscribe(asked, params.uri)
        else:
            upstream = mine[params.uri].upstream
        mine[params.uri] = _Subscribed(ctx.session, upstream)
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        """`resources/unsubscribe`."""
        asked = of_context(ctx, ctx.params or {})
        mine = self._subscribed.get(asked.caller.conversation, {})
        if (one := mine.pop(params.uri, None)) is not None:
            one.upstream.unsubscribe(params.uri)
        return types.EmptyResult()

    # Told.

    def tell(self, event: ServerEvent) -> None:
        """Tell everybody who wants to know, without waiting. Of a flood of the same news, the last says it all."""
        self._untold[event] = None
        if not self._is_telling:
            self._is_telling = True
            self._spawn(self._tell_all)

    async def _tell_all(self) -> None:
        try:
            while self._untold:
                news, self._untold = self._untold, {}
                for event in news:
                    await self._tell(event)
                await anyio.sleep(TELLING_PAUSE_SECONDS)
        finally:
            self._is_telling = False

    async def _tell(self, event: ServerEvent) -> None:
        await self._bus.publish(event)
        if isinstance(event, ResourceUpdated):
            sessions = [mine[event.uri].legacy_session for mine in self._subscribed.values() if event.uri in mine]
        else:
            everybody = [caller.legacy_session for caller in self._callers] + list(self._http_sessions.values())
            sessions = [one for one in everybody if one is not None]
        for legacy_session in sessions:
            if (legacy_session, event) not in self._on_their_way:  # one that does not read has it before it already
                self._on_their_way.add((legacy_session, event))
                self._spawn(self._tell_one, legacy_session, event)

    async def _tell_one(self, legacy_session: ServerSession, event: ServerEvent) -> None:
        """Each by itself: a client that does not read must keep no other from hearing it."""
        try:
            with anyio.move_on_after(TELLING_SECONDS):
                match event:
                    case ToolsListChanged():
                        await legacy_session.send_tool_list_changed()
                    case ResourcesListChanged():
                        await legacy_session.send_resource_list_changed()
                    case PromptsListChanged():
                        await legacy_session.send_prompt_list_changed()
                    case ResourceUpdated(uri=uri):
                        await legacy_session.send_resource_updated(uri)
        finally:
            self._on_their_way.discard((legacy_session, event))


def _too_many_resources() -> MCPError:
    return MCPError(types.INVALID_REQUEST, f"no more than {SUBSCRIPTIONS_EACH} resources can be subscribed to")
