"""An upstream that asks its client things, and offers what is no tool: over stdio as a script, over HTTP as an app.

What it was answered, and what it was told to stop, leaves a line in its record: there a test reads what reached it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from tests.upstreams.servers.sdk_server import OlderThanDiscover

Context = ServerRequestContext[Any, Any]
Answer = t.CallToolResult | t.InputRequiredResult

ANYTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}
FORM: dict[str, Any] = {"type": "object", "properties": {"size": {"type": "string", "enum": ["s", "l"]}}}
QUESTIONS: dict[str, Any] = {
    "form": t.ElicitRequest(params=t.ElicitRequestFormParams(message="Which size?", requested_schema=FORM)),
    "link": t.ElicitRequest(
        params=t.ElicitRequestURLParams(message="Sign in", url="https://example.com/in", elicitation_id="e1")
    ),
    "sample": t.CreateMessageRequest(
        params=t.CreateMessageRequestParams(
            messages=[t.SamplingMessage(role="user", content=t.TextContent(text="a poem"))], max_tokens=9
        )
    ),
    "roots": t.ListRootsRequest(),
}
RESULTS: dict[str, type[t.Result]] = {
    "form": t.ElicitResult,
    "link": t.ElicitResult,
    "sample": t.CreateMessageResult,
    "roots": t.ListRootsResult,
}
ICON = t.Icon(src="https://example.com/i.png", mime_type="image/png", sizes=["48x48"])
META: Any = {"example.com/team": {"since": 2024}}
ANNOTATIONS = t.Annotations(audience=["user"], priority=0.5)
COMPOSED: dict[str, Any] = {
    "type": "object",
    "allOf": [{"$ref": "#/$defs/Named"}, {"anyOf": [{"required": ["to"]}, {"required": ["cc"]}]}],
    "oneOf": [
        {"properties": {"kind": {"const": "a"}}},
        {"properties": {"kind": {"const": "b"}, "x": {"type": "null"}}},
    ],
    "not": {"required": ["never"]},
    "$defs": {
        "Named": {"properties": {"kind": {"type": "string"}, "next": {"$ref": "#/$defs/Named"}}, "required": ["kind"]}
    },
}
LONGEST = "compose_" + "x" * 50
"""With the name of an upstream of four letters in front, exactly as long as agents take a name to be."""

PAGE = 2
"""Entries on one page of a list of resources."""


def dumped(model: Any) -> dict[str, Any]:
    """A model as JSON has it."""
    return dict(model.model_dump(by_alias=True, mode="json", exclude_none=True))


def text(words: object, *, is_error: bool = False) -> t.CallToolResult:
    """A result that says something."""
    said = words if isinstance(words, str) else json.dumps(words)
    return t.CallToolResult(content=[t.TextContent(text=said)], is_error=is_error)


class Curious:
    """The tools, resources and prompts, and what they remember."""

    def __init__(self, name: str, record: Path | None = None) -> None:
        self.name = name
        self._record = record
        self._bus = InMemorySubscriptionBus()
        self._go = anyio.Event()
        self._watchers: list[tuple[str, Any]] = []
        self.heard: list[Any] = []
        self.levels: list[str] = []
        self.names = ["ask", "client", "logs", "waits", "goes", "changes", "renews"]
        self.waiting = anyio.Event()
        hint = CacheHint(ttl_ms=60_000, scope="public")
        self.server = Server(
            name,
            version="1",
            on_list_tools=self._tools,
            on_call_tool=self._call,
            on_list_resources=self._resources,
            on_list_resource_templates=self._templates,
            on_read_resource=self._read,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_list_prompts=self._prompts,
            on_get_prompt=self._prompt,
            on_completion=self._complete,
            on_subscriptions_listen=ListenHandler(self._bus),
            cache_hints={"resources/list": hint, "resources/read": hint, "prompts/list": hint},
        )
        # Not by the constructor, which warns that this is deprecated.
        self.server.add_request_handler("logging/setLevel", t.SetLevelRequestParams, self._level)
        self.server.add_notification_handler(
            "notifications/roots/list_changed", t.NotificationParams, self._roots_changed
        )

    def _note(self, *what: Any) -> None:
        self.heard.append(list(what))
        if self._record is not None:
            with self._record.open("a") as file:
                file.write(json.dumps(what) + "\n")

    # Tools.

    async def _tools(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListToolsResult:
        tools = [t.Tool(name=name, description=name, input_schema=ANYTHING) for name in self.names]
        composed = t.Tool(name=LONGEST, description="composed", input_schema=COMPOSED, output_schema=COMPOSED)
        return t.ListToolsResult(tools=[*tools, composed])

    async def _call(self, ctx: Context, params: t.CallToolRequestParams) -> Answer:
        arguments = params.arguments or {}
        match params.name:
            case "ask":
                return await self._ask(ctx, params, str(arguments["kind"]))
            case "client":
                declared = ctx.session.client_capabilities
                known = dumped(declared) if declared is not None else {}
                kept = ctx.request.headers.get("mcp-session-id") if ctx.request is not None else None
                seen = {"version": ctx.protocol_version, "capabilities": known, "connection": kept or os.getpid()}
                return text(seen)
            case "logs":
                return await self._log(ctx)
            case name if name == LONGEST:
                return t.CallToolResult(content=[], structured_content=arguments)
            case "waits":
                return await self._wait()
            case "goes":
                self._go.set()
                return text("gone")
            case "renews":
                await ctx.session.send_tool_list_changed()
                return text("renewed")
            case "changes":
                return await self._change(ctx, str(arguments["what"]))
        raise MCPError(t.INVALID_PARAMS, f"Unknown tool: {params.name}")

    async def _ask(self, ctx: Context, params: t.CallToolRequestParams, kind: str) -> Answer:
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            if params.input_responses is None:
                return t.InputRequiredResult(input_requests={"q": QUESTIONS[kind]}, request_state=f"about {kind}")
            answer = dumped(params.input_responses["q"])
            self._note(kind, answer, params.request_state)
            return text(answer)
        related = None if kind == "roots" else ServerMessageMetadata(related_request_id=ctx.request_id)
        try:
            answer = dumped(await ctx.session.send_request(QUESTIONS[kind], RESULTS[kind], metadata=related))
        except MCPError as error:
            self._note(kind, f"refused: {error.message}")
            return text(f"refused: {error.message}", is_error=True)
        except anyio.get_cancelled_exc_class():
            self._note(kind, "cancelled")
            raise
        self._note(kind, answer)
        return text(answer)

    async def _wait(self) -> t.CallToolResult:
        self.waiting.set()
        self._note("waits")
        await self._go.wait()
        self._go = anyio.Event()
        return text("waited")

    async def _log(self, ctx: Context) -> t.CallToolResult:
        for level in ("debug", "warning", "error"):
            line = t.LoggingMessageNotificationParams(level=level, data={"said": level}, logger="curious")
            if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS or self._is_asked_for(ctx, level):
                await ctx.session.send_notification(t.LoggingMessageNotification(params=line), ctx.request_id)
        return text("logged")

    def _is_asked_for(self, ctx: Context, level: str) -> bool:
        wanted = (ctx.meta or {}).get(t.LOG_LEVEL_META_KEY)
        order = ("debug", "info", "notice", "warning", "error")
        return wanted is not None and order.index(level) >= order.index(str(wanted))

    async def _change(self, ctx: Context, what: str) -> t.CallToolResult:
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            lists = {"resources": ResourcesListChanged(), "prompts": PromptsListChanged()}
            await self._bus.publish(lists[what] if what in lists else ResourceUpdated(uri=what))  # type: ignore[arg-type]
        elif what == "resources":
            await ctx.session.send_resource_list_changed()
        elif what == "prompts":
            await ctx.session.send_prompt_list_changed()
        else:
            await self._bus.publish(ResourceUpdated(uri=what))
            for uri, watcher in self._watchers:
                if uri == what:
                    await watcher.send_resource_updated(uri)
        return text("changed")

    # Resources and prompts.

    async def _resources(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListResourcesResult:
        first = t.Resource(
            uri=f"mem:///{self.name}/1",
            name="one",
            title="The first",
            description="a text",
            mime_type="text/plain",
            size=3,
            icons=[ICON],
            annotations=ANNOTATIONS,
            _meta=META,
        )
        others = [t.Resource(uri=f"mem:///{self.name}/{name}", name=name) for name in ("blob", "3", "4")]
        entries = [first, *others, t.Resource(uri="shared:///same", name=f"same of {self.name}")]
        start = int(params.cursor) if params is not None and params.cursor else 0
        more = str(start + PAGE) if start + PAGE < len(entries) else None
        return t.ListResourcesResult(resources=entries[start : start + PAGE], next_cursor=more)

    async def _templates(self, ctx: Context, params: object) -> t.ListResourceTemplatesResult:
        template = t.ResourceTemplate(uri_template=f"made:///{self.name}/{{what}}", name="made", icons=[ICON])
        return t.ListResourceTemplatesResult(resource_templates=[template])

    async def _read(self, ctx: Context, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
        uri = params.uri
        if uri.endswith("/blob"):
            return t.ReadResourceResult(contents=[t.BlobResourceContents(uri=uri, blob="AAEC", mime_type="x/y")])
        if uri.endswith("/none"):
            raise MCPError(-32002, "no such resource here", {"uri": uri})
        meta = {key: value for key, value in (ctx.meta or {}).items() if key.startswith("example.com/")}
        body = json.dumps([self.name, ctx.protocol_version, meta])
        return t.ReadResourceResult(contents=[t.TextResourceContents(uri=uri, text=body, _meta=META)], _meta=META)

    async def _subscribe(self, ctx: Context, params: t.SubscribeRequestParams) -> t.EmptyResult:
        self._watchers.append((params.uri, ctx.session))
        self._note("subscribed", params.uri)
        return t.EmptyResult()

    async def _unsubscribe(self, ctx: Context, params: t.UnsubscribeRequestParams) -> t.EmptyResult:
        self._watchers = [one for one in self._watchers if one[0] != params.uri]
        self._note("unsubscribed", params.uri)
        return t.EmptyResult()

    async def _prompts(self, ctx: Context, params: object) -> t.ListPromptsResult:
        argument = t.PromptArgument(name="about", description="what of", required=True)
        greet = t.Prompt(name="greet", title="Greet", arguments=[argument], icons=[ICON], _meta=META)
        return t.ListPromptsResult(prompts=[greet])

    async def _prompt(self, ctx: Context, params: t.GetPromptRequestParams) -> t.GetPromptResult:
        words = t.TextContent(text=f"{self.name}: {params.name} {params.arguments}")
        return t.GetPromptResult(description="a greeting", messages=[t.PromptMessage(role="user", content=words)])

    async def _complete(self, ctx: Context, params: t.CompleteRequestParams) -> t.CompleteResult:
        about = params.ref.name if isinstance(params.ref, t.PromptReference) else params.ref.uri
        values = [f"{self.name} {about} {params.argument.name}={params.argument.value}"]
        return t.CompleteResult(completion=t.Completion(values=values, total=1, has_more=False))

    async def _roots_changed(self, ctx: Context, params: t.NotificationParams) -> None:
        self._note("roots changed")

    async def _level(self, ctx: Context, params: t.SetLevelRequestParams) -> t.EmptyResult:
        self.levels.append(params.level)
        self._note("level", params.level)
        return t.EmptyResult()


def over_http(curious: Curious, era: str = "both") -> Any:
    """It as an app, of the `legacy` era only, of the `modern` one only, or of both."""
    unknown = {"legacy": "server/discover", "modern": "initialize"}.get(era)

    async def refuse(ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        if ctx.method == unknown:
            raise MCPError(t.METHOD_NOT_FOUND, "Method not found")
        return await call_next(ctx)

    curious.server.middleware.append(refuse)
    return curious.server.streamable_http_app()


async def over_stdio(name: str, record: Path, is_legacy: bool) -> None:
    server = Curious(name, record).server
    async with stdio_server() as (incoming, outgoing):
        reading: Any = OlderThanDiscover(incoming, outgoing) if is_legacy else incoming
        await server.run(reading, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--legacy", action="store_true")
    given = parser.parse_args()
    anyio.run(over_stdio, given.name, given.record, given.legacy)
