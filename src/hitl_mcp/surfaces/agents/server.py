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
from mcp_types.methods import validate_client_request
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
from hitl_mcp.surfaces.agents.waiting import Report, Ticker, finished_record, wait_for_answer
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


@dataclass(frozen=True)
class ToolRequest:
    """A `tools/call` as it arrived: from whom, in which revision of the protocol, and how to tell of its progress."""

    caller: Caller
    id: Any
    version: str
    name: str
    arguments: Mapping[str, Any]
    meta: Mapping[str, Any]
    report: Report

    @classmethod
    def of(cls, caller: Caller, id: Any, version: str, params: Mapping[str, Any], report: Report) -> ToolRequest:
        """A request from its params, which were checked."""
        return cls(caller, id, version, params["name"], params.get("arguments") or {}, _forwarded(params), report)


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
        # Instead of the SDK's own middleware, which makes a span of every request for a tracer that is not there.
        self.middleware[:] = [self._answer_calls]
        self._who = self.server_info_stamp  # made anew, deeply, each time it is asked for
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
        kind = {"resultType": "complete"} if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else {}
        return {**kind, "tools": [*OWN_TOOLS, *self._parts.catalog.tools()]}

    async def _upstreams_settled(self) -> None:
        """Wait a moment for upstreams that are still starting: a client may list once and never again."""
        if all(upstream.settled.is_set() for upstream in self._parts.upstreams.all()):
            return
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

    async def _answer_calls(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Answer modern calls here: the SDK would take apart and put together what is relayed as it came."""
        if ctx.method != "tools/call" or not isinstance(ctx.params, Mapping):
            return await call_next(ctx)
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            _say_where(ctx.params)
            return await call_next(ctx)
        check_call(ctx.protocol_version, ctx.params)
        return await self.answer(_request_of(ctx, ctx.params))

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> dict[str, Any]:
        return await self.answer(_request_of(ctx, ctx.params or {}))

    async def answer(self, asked: ToolRequest) -> dict[str, Any]:
        """Answer a call, as its era writes a result.

        Raises:
            MCPError: The client is told so instead of being given a result.
        """
        return self._in_era(asked, await self._result(asked))

    async def _result(self, asked: ToolRequest) -> dict[str, Any]:
        try:
            if asked.name in self._own.names:
                return await self._own.call(asked.name, asked.arguments, asked.caller.agent, Ticker(asked.report))
            await self._upstreams_settled()
            return await self._ask(asked)
        except ToolNotFound as error:
            why = self._why_missing(error.name)
            raise MCPError(types.INVALID_PARAMS, f"{error.message}{why}\n  help: {error.help}") from None
        except ArgumentsRefused as error:
            raise MCPError(types.INVALID_PARAMS, str(error), {"path": error.path}) from None
        except StoreError as error:
            logger.exception("a call was refused because the record cannot be written")
            return refusal_answer(error.message)
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

    async def _ask(self, asked: ToolRequest) -> dict[str, Any]:
        caller = asked.caller
        run = await self._parts.gate.ask(
            AgentCall(
                agent=caller.agent,
                conversation=caller.conversation,
                name=asked.name,
                arguments=asked.arguments,
                meta=asked.meta,
            )
        )
        if run.record is None:
            raise StoreError("the gate left no record")
        ticker = Ticker(asked.report)
        if run.starts_now:
            return await self._finish(run, run.record, ticker)
        record = run.record
        if record.status in WAITING:
            with self._parts.executor.progress_of(record.id, ticker.upstream_said):
                record = await wait_for_answer(self._parts.store, record, self._parts.wait_seconds, ticker)
        answer = call_answer(
            record, repeat=run.repeat, review_url=self._parts.review_url(record.id), plain_result=not run.repeat
        )
        await self._handed_over(asked, record)
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

    async def _handed_over(self, asked: ToolRequest, record: CallRecord) -> None:
        """Note that the outcome reaches the agent with this answer: once it is written, where we can tell."""
        if record.status in WAITING or not record.may_be_news:
            return
        if asked.caller.when_written is None:
            await self._parts.store.hand_over(record.id)
        else:
            asked.caller.when_written(asked.id, lambda: self._parts.spawn(self._parts.store.hand_over, record.id))

    def _in_era(self, asked: ToolRequest, result: dict[str, Any]) -> dict[str, Any]:
        """A result as the caller's protocol era writes it; the upstream's may be of the other one."""
        if asked.version in MODERN_PROTOCOL_VERSIONS:
            meta = {**(result.get("_meta") or {}), types.SERVER_INFO_META_KEY: dict(self._who)}
            return {"resultType": "complete", **result, "_meta": meta}
        return _before_2026(result)


def check_call(version: str, params: Mapping[str, Any]) -> None:
    """Refuse a tools/call that is not shaped like one, as the SDK does where it is not passed by.

    Raises:
        MCPError, ValidationError: They are not those of a call.
    """
    _say_where(params)
    validate_client_request("tools/call", version, params)


def _say_where(params: Mapping[str, Any]) -> None:
    """Refuse what the SDK would refuse too, but without saying where."""
    for path, is_right, wanted in (
        ("$.params.name", isinstance(params.get("name"), str), "a string"),
        ("$.params.arguments", isinstance(params.get("arguments"), dict | None), "an object"),
    ):
        if not is_right:
            raise MCPError(types.INVALID_PARAMS, f"{path}: it must be {wanted}", {"path": path})


def _request_of(ctx: Context, params: Mapping[str, Any]) -> ToolRequest:
    return ToolRequest.of(_caller_of(ctx), ctx.request_id, ctx.protocol_version, params, ctx.session.report_progress)


def _before_2026(result: dict[str, Any]) -> dict[str, Any]:
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
