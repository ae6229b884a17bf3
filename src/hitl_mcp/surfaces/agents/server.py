"""The MCP server that agents see: lists the catalog, passes calls to the gate, waits, and answers.

One server serves every connection, both protocol eras and both transports. It keeps no state of a call: whatever it
says is read from the store or from the run it waits for.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import mcp_types as types
from mcp.server.caching import CACHEABLE_METHODS, CacheHint
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged
from mcp_types.methods import validate_client_request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from hitl_mcp import __version__
from hitl_mcp.answers import INSTRUCTIONS, call_answer, refusal_answer, too_late, too_many_at_once, too_many_held_answer
from hitl_mcp.calls import WAITING, CallRecord
from hitl_mcp.catalog import SEPARATOR, Catalog
from hitl_mcp.errors import ArgumentsRefused, StoreError, ToolNotFound, TooManyHeld
from hitl_mcp.executor import Executor, Run
from hitl_mcp.gate import AgentCall, Gate
from hitl_mcp.limits import AGENT_REQUESTS
from hitl_mcp.releasing import Releasing
from hitl_mcp.store import SqliteStore
from hitl_mcp.surfaces.agents.asked import Caller, ClientRequest, Context, agent_of, caller_of, of_context
from hitl_mcp.surfaces.agents.asking import AfterAsking, Asking
from hitl_mcp.surfaces.agents.in_flight import InFlight
from hitl_mcp.surfaces.agents.listeners import Listeners, Spawn
from hitl_mcp.surfaces.agents.own_tools import OwnTools
from hitl_mcp.surfaces.agents.questions import Dialogue, Parked
from hitl_mcp.surfaces.agents.relay import Relay
from hitl_mcp.surfaces.agents.states import Opened, States
from hitl_mcp.surfaces.agents.tasks import Tasks
from hitl_mcp.surfaces.agents.waiting import Ticker, finished_record
from hitl_mcp.upstreams import Upstream, Upstreams

logger = logging.getLogger(__name__)

STARTING_SECONDS = 10
"""How long a first list or call waits for upstreams that start; most clients give a server 30 s or more."""


UNCOUNTED = frozenset({"initialize", "server/discover", "ping", "subscriptions/listen"})
"""Requests beside those an agent may have in flight: the first three wait for nothing, and the last has its own cap."""


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
    states: States
    is_named: Callable[[str], bool]
    asking: Asking
    releasing: Releasing


class AgentServer(Server[Any]):
    """The MCP server in front of the gate."""

    def __init__(self, parts: AgentParts) -> None:
        self._relay = relay = Relay(parts.upstreams, parts.is_named, self._read_offer)
        self._listeners = listeners = Listeners(relay, parts.spawn)
        super().__init__(
            "hitl-mcp",
            version=__version__,
            title="hitl-mcp approval gate",
            instructions=INSTRUCTIONS,
            # Plain dicts, so that nothing an upstream wrote is lost on its way through models of ours; the SDK checks
            # and sieves them per protocol version all the same.
            on_list_tools=self._list_tools,  # type: ignore[arg-type]
            on_call_tool=self._call_tool,  # type: ignore[arg-type]
            on_list_resources=self._listed("resources/list"),
            on_list_resource_templates=self._listed("resources/templates/list"),
            on_read_resource=self._relayed(relay.read),
            on_subscribe_resource=listeners.subscribe,
            on_unsubscribe_resource=listeners.unsubscribe,
            on_list_prompts=self._listed("prompts/list"),
            on_get_prompt=self._relayed(relay.prompt),
            on_completion=self._relayed(relay.complete),
            on_subscriptions_listen=listeners.listen,
            # The list may change at any time and differs by gateway: clients are told to ask again.
            cache_hints={"tools/list": CacheHint(ttl_ms=0, scope="private")},
            get_tool_input_schema=self._input_schema,
        )
        # Not by the constructor, which warns that this is deprecated.
        self.add_request_handler("logging/setLevel", types.SetLevelRequestParams, self._set_level)
        self.add_notification_handler("notifications/initialized", types.NotificationParams, listeners.initialized)
        self.add_notification_handler("notifications/roots/list_changed", types.NotificationParams, self._roots_changed)
        # Instead of the SDK's own middleware, which makes a span of every request for a tracer that is not there.
        self.middleware[:] = [self._bounded, self._answer_calls]
        self._who = self.server_info_stamp  # made anew, deeply, each time it is asked for
        self._parts = parts
        self._in_flight = InFlight()
        self._tasks = Tasks(parts.asking, self._handed_over)
        self._tasks.offer(self)
        self._own = OwnTools(parts.asking, parts.releasing, parts.wait_seconds, parts.review_url)
        self._parked = Parked(parts.states, parts.executor)
        parts.catalog.on_tools_change(partial(listeners.tell, ToolsListChanged()))
        parts.upstreams.on_announcement(self._announced)

    def get_capabilities(self, *args: Any, **kwargs: Any) -> types.ServerCapabilities:
        """As the SDK derives them, except that the list of tools may change on every transport."""
        if args or kwargs.get("notification_options"):
            return super().get_capabilities(*args, **kwargs)
        changes = NotificationOptions(tools_changed=True, resources_changed=True, prompts_changed=True)
        return super().get_capabilities(changes, **kwargs)

    @contextmanager
    def connected(self, caller: Caller) -> Iterator[None]:
        """Know a connection while it lasts, so that it hears of changes; what its client was asked ends with it."""
        with self._listeners.connected(caller):
            try:
                yield
            finally:
                self._parked.drop(caller)

    # Tools.

    async def _list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> dict[str, Any]:
        await self._upstreams_settled()
        kind = {"resultType": "complete"} if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else {}
        return {**kind, "tools": [*self._own.tools, *self._parts.catalog.tools()]}

    async def _upstreams_settled(self) -> None:
        """Wait a moment for upstreams that are still starting: a client may list once and never again."""
        if all(upstream.settled.is_set() for upstream in self._parts.upstreams.all()):
            return
        with anyio.move_on_after(STARTING_SECONDS):
            await self._parts.upstreams.settled()

    def _input_schema(self, name: str) -> Any:
        entry = self._parts.catalog.find(name)
        return entry.input_schema if entry else None

    # What is no call of a tool.

    async def _read_offer(self, asked: ClientRequest, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Read a resource or a prompt that the policy names: decided, recorded, and waited for like a call."""
        caller = asked.caller
        try:
            run = await self._parts.gate.ask(
                AgentCall(caller.agent, caller.conversation, name, params, asked.meta, is_offer=True)
            )
            answer = await self._answer_to(asked, run)
        except (ToolNotFound, ArgumentsRefused, StoreError, TooManyHeld) as error:
            raise MCPError(types.INVALID_REQUEST, f"NOT EXECUTED: {error.message}") from None
        said = answer.get("structuredContent") or {}
        ran = said.get("result", answer)  # of a repeat the result stands in the answer
        read = ran.get("structuredContent") if isinstance(ran, dict) else None
        if answer.get("isError") or not isinstance(read, dict) or not read.keys() & {"contents", "messages"}:
            words = answer["content"][0].get("text", "") if answer.get("content") else ""
            raise MCPError(types.INVALID_REQUEST, words, said)
        return read

    async def _answer_to(self, asked: ClientRequest, run: Run) -> dict[str, Any]:
        if run.record is None:
            raise StoreError("the gate left no record")
        if run.starts_now:
            dialogue = Dialogue(asked, None, parks=False)
            dialogue.run = run
            return await self._finish(dialogue)
        return await self._waited(asked, AfterAsking(run.record, run.repeat, late=False))

    def _relayed(self, relay: Callable[[ClientRequest], Awaitable[dict[str, Any]]]) -> Any:
        async def handler(ctx: Context, params: object) -> dict[str, Any]:
            return await self._passed_on(ctx, relay)

        return handler

    def _listed(self, method: str) -> Any:
        return self._relayed(partial(self._relay.page, method))

    async def _passed_on(
        self, ctx: Context, relay: Callable[[ClientRequest], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        asked = of_context(ctx, ctx.params or {})
        return await self._relayed_answer(asked, ctx.method, relay)

    async def _relayed_answer(
        self, asked: ClientRequest, method: str, relay: Callable[[ClientRequest], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        await self._upstreams_settled()
        try:
            return _of_revision(asked, method, await relay(asked))
        except MCPError:
            raise
        except Exception:
            logger.exception("`%s` failed in the gateway", method)
            raise MCPError(types.INTERNAL_ERROR, "the gateway failed") from None

    async def _roots_changed(self, ctx: Context, params: types.NotificationParams) -> None:
        await self._relay.roots_changed(caller_of(ctx).conversation)

    async def _set_level(self, ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
        await self._relay.set_level(of_context(ctx, ctx.params or {}))
        return types.EmptyResult()

    def _announced(self, upstream: Upstream, method: str, params: dict[str, Any]) -> None:
        """An upstream said that something changed."""
        if method == "notifications/resources/updated":
            if isinstance(params.get("uri"), str):
                self._listeners.tell(ResourceUpdated(uri=params["uri"]))
        elif method == "notifications/prompts/list_changed":
            self._listeners.tell(PromptsListChanged())
        elif method == "notifications/tools/list_changed":
            self._listeners.tell(ToolsListChanged())
        else:
            self._relay.forget(upstream)
            self._listeners.tell(ResourcesListChanged())

    # Calls.

    async def _bounded(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Every request passes here, so that none can be forgotten; calls are counted by `answer`, from both loops."""
        if ctx.request_id is None or ctx.method == "tools/call" or ctx.method in UNCOUNTED:
            return await call_next(ctx)
        with self._in_flight.one_more(agent_of(ctx)) as has_room:
            if not has_room:
                raise MCPError(types.INVALID_REQUEST, too_many_at_once(AGENT_REQUESTS))
            return await call_next(ctx)

    async def _answer_calls(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Answer modern calls here: the SDK would take apart and put together what is relayed as it came."""
        if ctx.method != "tools/call" or not isinstance(ctx.params, Mapping):
            return await call_next(ctx)
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            _say_where(ctx.params)
            return await call_next(ctx)
        check_call(ctx.protocol_version, ctx.params)
        return await self.answer(of_context(ctx, ctx.params))

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> dict[str, Any]:
        return await self.answer(of_context(ctx, ctx.params or {}))

    async def answer(self, asked: ClientRequest) -> dict[str, Any]:
        """Answer a call, as its era writes a result.

        Raises:
            MCPError: The client is told so instead of being given a result.
        """
        with self._in_flight.one_more(asked.caller.agent) as has_room:
            if has_room:
                return self._in_era(asked, await self._result(asked))
        return self._in_era(asked, refusal_answer(too_many_at_once(AGENT_REQUESTS), retry="repeat_same"))

    async def _result(self, asked: ClientRequest) -> dict[str, Any]:
        try:
            if asked.name in self._own.names:
                return await self._own.call(asked)
            await self._upstreams_settled()
            return await self._ask(asked)
        except ToolNotFound as error:
            why = self._why_missing(error.name)
            raise MCPError(types.INVALID_PARAMS, f"{error.message}{why}\n  help: {error.help}") from None
        except ArgumentsRefused as error:
            raise MCPError(types.INVALID_PARAMS, str(error), {"path": error.path}) from None
        except TooManyHeld as error:
            logger.warning("a call of agent `%s` was refused: %s", asked.caller.agent, error.message)
            return too_many_held_answer(error.at_most)
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

    async def _ask(self, asked: ClientRequest) -> dict[str, Any]:
        caller = asked.caller
        if asked.state is not None:
            opened = self._parts.states.open(asked, asked.state)
            if self._parts.asking.is_ours(opened):
                return await self._waited(asked, await self._parts.asking.answered(asked, opened))
            return await self._go_on(asked, opened)
        if asked.answers and (resumed := self._parked.resumed_without_state(asked)) is not None:
            return await self._finish(resumed)
        dialogue = Dialogue(asked, self._relay.log_level_of(asked))
        run = await self._parts.gate.ask(
            AgentCall(
                agent=caller.agent,
                conversation=caller.conversation,
                name=asked.name,
                arguments=asked.arguments,
                meta=asked.meta,
                asker=dialogue.asker,
            )
        )
        if run.record is None:
            raise StoreError("the gate left no record")
        if run.starts_now:
            dialogue.run = run
            return await self._finish(dialogue)
        handle = self._tasks.handle(asked, run.record)
        if handle is not None:
            return handle
        question = await self._parts.asking.input_required(asked, run.record, repeat=run.repeat)
        return question or await self._waited(asked, AfterAsking(run.record, run.repeat, late=False))

    async def _waited(self, asked: ClientRequest, answered: AfterAsking) -> dict[str, Any]:
        """Wait a while for a call that people decide on, and say how it stands."""
        record, ticker = answered.record, Ticker(asked.report)
        if record.status in WAITING:
            with self._parts.executor.progress_of(record.id, ticker.upstream_said):
                record = await self._parts.asking.wait(asked, record, self._parts.wait_seconds, ticker)
        plain = not (answered.repeat or answered.late)
        review_url = self._parts.review_url(record.id)
        answer = call_answer(record, repeat=answered.repeat, review_url=review_url, plain_result=plain)
        await self._handed_over(asked, record)
        return too_late(answer) if answered.late else answer

    async def _finish(self, dialogue: Dialogue) -> dict[str, Any]:
        """Wait for an allowed call; a cancel from here on is passed to the upstream."""
        run = dialogue.run
        if run is None or run.record is None:
            raise StoreError("the gate left no record")
        try:
            with self._parts.executor.progress_of(run.record.id, dialogue.report):
                while not (run.finished.is_set() or dialogue.is_open):
                    run.news.clear()
                    await run.news.wait()
        except anyio.get_cancelled_exc_class():
            self._parts.executor.cancel(run)
            raise
        if not run.finished.is_set():
            return self._parked.park(dialogue, run.record.id)
        if run.refusal is not None:
            raise MCPError(run.refusal.code, run.refusal.message, run.refusal.data)
        if run.result is not None:
            return run.result
        return call_answer(finished_record(run.record, run.outcome), repeat=False, review_url=None)

    async def _go_on(self, asked: ClientRequest, opened: Opened) -> dict[str, Any]:
        """Go on with a call whose client was asked something, and comes back."""
        dialogue = self._parked.resumed(asked, opened)
        if dialogue is None:
            # The gateway was started again in between, or it took too long: the record knows what became of the call.
            return await self._own.status(opened.call_id, asked.caller.agent)
        return await self._finish(dialogue)

    async def _handed_over(self, asked: ClientRequest, record: CallRecord) -> None:
        """Note that the outcome reaches the agent with this answer: once it is written, where we can tell."""
        if record.status in WAITING or not record.may_be_news:
            return
        if asked.caller.when_written is None:
            await self._parts.store.hand_over(record.id)
        else:
            asked.caller.when_written(asked.id, lambda: self._parts.spawn(self._parts.store.hand_over, record.id))

    def _in_era(self, asked: ClientRequest, result: dict[str, Any]) -> dict[str, Any]:
        """A result as the caller's protocol era writes it; the upstream's may be of the other one."""
        if asked.is_modern:
            meta = {**(result.get("_meta") or {}), types.SERVER_INFO_META_KEY: dict(self._who)}
            return {"resultType": "complete", **result, "_meta": meta}
        return _before_2026(result)


def _of_revision(asked: ClientRequest, method: str, result: dict[str, Any]) -> dict[str, Any]:
    """What was relayed with what its client's revision requires of it; an older upstream wrote nothing of that."""
    if not asked.is_modern:
        return result
    kept = {"ttlMs": 0, "cacheScope": "private"} if method in CACHEABLE_METHODS else {}
    return {**kept, "resultType": "complete", **result}


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


def _before_2026(result: dict[str, Any]) -> dict[str, Any]:
    if isinstance(result.get("structuredContent", {}), dict):
        return result
    # Before 2026-07-28 structured content had to be an object; what it says stands in the text as well.
    return {key: value for key, value in result.items() if key != "structuredContent"}
