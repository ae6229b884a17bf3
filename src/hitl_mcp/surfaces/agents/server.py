"""The MCP server that agents see: lists the catalog, passes calls to the gate, waits, and answers.

One server serves every connection, both protocol eras and both transports. It keeps no state of a call: whatever it
says is read from the store or from the run it waits for.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ToolsListChanged
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from hitl_mcp import __version__
from hitl_mcp.answers import INSTRUCTIONS, call_answer, refusal_answer
from hitl_mcp.calls import WAITING, CallRecord
from hitl_mcp.catalog import SEPARATOR, Catalog
from hitl_mcp.errors import ArgumentsRefused, StoreError, ToolNotFound
from hitl_mcp.executor import Executor, Run
from hitl_mcp.gate import AgentCall, Gate
from hitl_mcp.store import SqliteStore
from hitl_mcp.surfaces.agents.own_tools import OWN_TOOLS, OwnTools
from hitl_mcp.surfaces.agents.waiting import Ticker, finished_record, wait_for_answer
from hitl_mcp.upstreams import Upstreams

logger = logging.getLogger(__name__)

STARTING_SECONDS = 10
"""How long a first list or call waits for upstreams that start; most clients give a server 30 s or more."""

HTTP_SESSIONS = 1000
"""Legacy HTTP sessions that are told of changed tools; the oldest are forgotten first (they can list again)."""

TELLING_SECONDS = 10
"""How long a client may take to read that tools changed; it can list again whenever it likes."""

PROTOCOL_PREFIX = "io.modelcontextprotocol/"
HOP_KEYS = frozenset({"progressToken", "progress_token"})
"""`_meta` keys that belong to one hop between two neighbours and are never forwarded."""


@dataclass(eq=False)
class Caller:
    """The agent at the other end of one connection, and in which conversation it speaks.

    `when_written` runs a function once the answer with this request id was written to the transport.
    """

    agent: str
    conversation: str
    when_written: Callable[[Any, Callable[[], None]], None] | None = None
    legacy_session: ServerSession | None = None


Spawn = Callable[..., None]
"""Starts a function with its arguments in the gateway's own task group."""


@dataclass(frozen=True)
class AgentParts:
    """What the agents' surface speaks to. `review_url` gives the address where people answer a call."""

    gate: Gate
    executor: Executor
    catalog: Catalog
    upstreams: Upstreams
    store: SqliteStore
    wait_seconds: float
    review_url: Callable[[str], str]
    spawn: Spawn


Context = ServerRequestContext[Any, Any]


class AgentServer(Server[Any]):
    """The MCP server in front of the gate."""

    def __init__(self, parts: AgentParts) -> None:
        self._bus = InMemorySubscriptionBus()
        super().__init__(
            "hitl-mcp",
            version=__version__,
            title="hitl-mcp approval gate",
            instructions=INSTRUCTIONS,
            # Plain dicts, so that nothing an upstream wrote is lost on its way through models of ours; the SDK checks
            # and sieves them per protocol version all the same.
            on_list_tools=self._list_tools,  # type: ignore[arg-type]
            on_call_tool=self._call_tool,  # type: ignore[arg-type]
            on_subscriptions_listen=ListenHandler(self._bus),
            # The list may change at any time and differs by gateway: clients are told to ask again.
            cache_hints={"tools/list": CacheHint(ttl_ms=0, scope="private")},
            get_tool_input_schema=self._input_schema,
        )
        self.add_notification_handler("notifications/initialized", types.NotificationParams, self._initialized)
        self.middleware.append(_name_what_is_no_call)
        self._parts = parts
        self._own = OwnTools(parts.store, parts.wait_seconds, parts.review_url)
        self._callers: set[Caller] = set()
        self._http_sessions: OrderedDict[str, ServerSession] = OrderedDict()
        parts.catalog.on_tools_change(self._tools_changed)

    def get_capabilities(self, *args: Any, **kwargs: Any) -> types.ServerCapabilities:
        """As the SDK derives them, except that the list of tools may change on every transport."""
        if args or kwargs.get("notification_options"):
            return super().get_capabilities(*args, **kwargs)
        return super().get_capabilities(NotificationOptions(tools_changed=True), **kwargs)

    @contextmanager
    def connected(self, caller: Caller) -> Iterator[None]:
        """Know a connection while it lasts, so that it hears of changed tools."""
        self._callers.add(caller)
        try:
            yield
        finally:
            self._callers.discard(caller)

    # Tools.

    async def _list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> dict[str, Any]:
        await self._upstreams_settled()
        return _in_era(ctx, {"tools": [*OWN_TOOLS, *self._parts.catalog.tools()]})

    async def _upstreams_settled(self) -> None:
        """Wait a moment for upstreams that are still starting: a client may list once and never again."""
        with anyio.move_on_after(STARTING_SECONDS):
            await self._parts.upstreams.settled()

    def _input_schema(self, name: str) -> Any:
        entry = self._parts.catalog.find(name)
        return entry.input_schema if entry else None

    def _tools_changed(self) -> None:
        self._parts.spawn(self._tell_tools_changed)

    async def _tell_tools_changed(self) -> None:
        await self._bus.publish(ToolsListChanged())
        sessions = [caller.legacy_session for caller in self._callers] + list(self._http_sessions.values())
        for legacy_session in sessions:
            if legacy_session is not None:
                self._parts.spawn(self._tell_one, legacy_session)

    async def _tell_one(self, legacy_session: ServerSession) -> None:
        """Each by itself: a client that does not read must keep no other from hearing it."""
        with anyio.move_on_after(TELLING_SECONDS):
            await legacy_session.send_tool_list_changed()

    async def _initialized(self, ctx: Context, params: types.NotificationParams) -> None:
        if isinstance(ctx.lifespan_context, Caller):
            ctx.lifespan_context.legacy_session = ctx.session
        elif (session_id := _http_session_id(ctx)) is not None:
            self._http_sessions[session_id] = ctx.session
            while len(self._http_sessions) > HTTP_SESSIONS:
                self._http_sessions.popitem(last=False)

    # Calls.

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> dict[str, Any]:
        caller = _caller_of(ctx)
        try:
            if params.name in self._own.names:
                return _in_era(
                    ctx, await self._own.call(params.name, params.arguments or {}, caller.agent, Ticker(ctx))
                )
            await self._upstreams_settled()
            return _in_era(ctx, await self._ask(ctx, caller, params))
        except ToolNotFound as error:
            why = self._why_missing(error.name)
            raise MCPError(types.INVALID_PARAMS, f"{error.message}{why}\n  help: {error.help}") from None
        except ArgumentsRefused as error:
            raise MCPError(types.INVALID_PARAMS, str(error), {"path": error.path}) from None
        except StoreError as error:
            logger.exception("a call was refused because the record cannot be written")
            return _in_era(ctx, refusal_answer(error.message))
        except MCPError:
            raise
        except Exception:
            # The SDK would tell a legacy client the bare text of the exception.
            logger.exception("a call failed in the gateway")
            why = "the gateway failed; `hitl_status` tells what became of the call"
            raise MCPError(types.INTERNAL_ERROR, why) from None

    def _why_missing(self, name: str) -> str:
        """What may be behind a missing tool: an upstream that never came up has none."""
        upstream = self._parts.upstreams.get(name.partition(SEPARATOR)[0])
        if upstream is None or upstream.state == "ready":
            return ""
        return f": upstream `{upstream.name}` is {upstream.state}" + (f": {upstream.detail}" if upstream.detail else "")

    async def _ask(self, ctx: Context, caller: Caller, params: types.CallToolRequestParams) -> dict[str, Any]:
        asked = AgentCall(
            agent=caller.agent,
            conversation=caller.conversation,
            name=params.name,
            arguments=params.arguments or {},
            meta=_forwarded(ctx.params or {}),
        )
        run = await self._parts.gate.ask(asked)
        if run.record is None:
            raise StoreError("the gate left no record")
        ticker = Ticker(ctx)
        if run.starts_now:
            return await self._finish(run, run.record, ticker)
        record = run.record
        if record.status in WAITING:
            with self._parts.executor.progress_of(record.id, ticker.upstream_said):
                record = await wait_for_answer(self._parts.store, record, self._parts.wait_seconds, ticker)
        answer = call_answer(
            record, repeat=run.repeat, review_url=self._parts.review_url(record.id), plain_result=not run.repeat
        )
        await self._handed_over(ctx, caller, record)
        return answer

    async def _finish(self, run: Run, record: CallRecord, ticker: Ticker) -> dict[str, Any]:
        """Wait for an allowed call; a cancel from here on is passed to the upstream."""
        try:
            with self._parts.executor.progress_of(record.id, ticker.upstream_progress):
                await run.finished.wait()
        except anyio.get_cancelled_exc_class():
            self._parts.executor.cancel(run)
            raise
        if run.refusal is not None:
            raise MCPError(run.refusal.code, run.refusal.message, run.refusal.data)
        if run.result is not None:
            return run.result
        return call_answer(finished_record(record, run.outcome), repeat=False, review_url=None)

    async def _handed_over(self, ctx: Context, caller: Caller, record: CallRecord) -> None:
        """Note that the outcome reaches the agent with this answer: once it is written, where we can tell."""
        if record.status in WAITING or not record.was_held:
            return
        if caller.when_written is None:
            await self._parts.store.hand_over(record.id)
        else:
            caller.when_written(ctx.request_id, lambda: self._parts.spawn(self._parts.store.hand_over, record.id))


async def _name_what_is_no_call(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Refuse a tools/call that is not shaped like one: the SDK would do so too, but without saying where."""
    params = ctx.params or {}
    if ctx.method == "tools/call":
        for path, is_right, wanted in (
            ("$.params.name", isinstance(params.get("name"), str), "a string"),
            ("$.params.arguments", isinstance(params.get("arguments"), dict | None), "an object"),
        ):
            if not is_right:
                raise MCPError(types.INVALID_PARAMS, f"{path}: it must be {wanted}", {"path": path})
    return await call_next(ctx)


def _in_era(ctx: Context, result: dict[str, Any]) -> dict[str, Any]:
    """A result as the caller's protocol era writes it; the upstream's may be of the other one."""
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return {"resultType": "complete", **result}
    if isinstance(result.get("structuredContent", {}), dict):
        return result
    # Before 2026-07-28 structured content had to be an object; what it says stands in the text as well.
    return {key: value for key, value in result.items() if key != "structuredContent"}


def _caller_of(ctx: Context) -> Caller:
    if isinstance(ctx.lifespan_context, Caller):
        return ctx.lifespan_context
    agent = ctx.request.scope["hitl.agent"] if ctx.request is not None else None
    if not isinstance(agent, str):
        raise MCPError(types.INVALID_REQUEST, "nobody is known at the other end of this connection")
    return Caller(agent=agent, conversation=_http_session_id(ctx) or f"http:{agent}")


def _http_session_id(ctx: Context) -> str | None:
    return ctx.request.headers.get("mcp-session-id") if ctx.request is not None else None


def _forwarded(params: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's `_meta` without what belongs to this hop or to the protocol's own envelope."""
    meta = params.get("_meta") or {}
    return {key: value for key, value in meta.items() if key not in HOP_KEYS and not key.startswith(PROTOCOL_PREFIX)}
