"""An upstream over stdio that uses everything the protocol lets a tool say. Effects are lines in a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ToolsListChanged

Context = ServerRequestContext[Any, Any]

TEXT: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
WEIGHT: dict[str, Any] = {
    "type": "object",
    "properties": {"weight": {"$ref": "#/$defs/Quantity"}, "parts": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["weight"],
    "additionalProperties": False,
    "$defs": {
        "Quantity": {
            "type": "object",
            "properties": {"value": {"type": "number"}, "unit": {"$ref": "#/$defs/Unit"}},
            "required": ["value", "unit"],
        },
        "Unit": {"enum": ["kg", "g"]},
    },
}
WEIGHED: dict[str, Any] = {
    "weight": {"value": 1.5, "unit": "kg"},
    "parts": [{"weight": {"value": 2, "unit": "g"}}],
}
LONG_NAME = "reads_the_minutes_of_the_quarterly_meeting_of_the_board_of_directors"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

MEASURE = t.Tool(
    name="measure",
    title="Weigh by looking",
    description="Guesses what a thing weighs.\nChanges nothing.",
    input_schema={
        "type": "object",
        "properties": {"thing": {"$ref": "#/$defs/Thing"}},
        "required": ["thing"],
        "$defs": {"Thing": {"type": "string", "minLength": 1}},
    },
    output_schema=WEIGHT,
    annotations=t.ToolAnnotations(
        title="Measure", read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
    icons=[
        t.Icon(src="https://example.com/scale.png", mime_type="image/png", sizes=["48x48", "any"]),
        t.Icon(src=f"data:image/png;base64,{PIXEL}", theme="dark"),
    ],
    _meta={"example.com/team": {"name": "weights", "since": 2024}},
)

DRAWN: dict[str, Any] = {
    "content": [
        {"type": "text", "text": "żółw ☃", "annotations": {"audience": ["user"], "priority": 0.5}},
        {"type": "image", "data": PIXEL, "mimeType": "image/png", "_meta": {"example.com/by": "rich"}},
        {"type": "audio", "data": "UklGRg==", "mimeType": "audio/wav"},
        {"type": "resource_link", "uri": "file:///plan.txt", "name": "plan", "mimeType": "text/plain"},
        {"type": "resource", "resource": {"uri": "mem:///a", "mimeType": "text/plain", "text": "inside"}},
        {"type": "resource", "resource": {"uri": "mem:///b", "mimeType": "image/png", "blob": PIXEL}},
    ],
    "_meta": {"example.com/trace": ["a", 1]},
    "isError": False,
}


def listed(names: list[str]) -> list[t.Tool]:
    """Every tool, in an order of its own."""
    plain = [t.Tool(name=name, description=f"{name}.", input_schema=NOTHING) for name in names]
    text = [t.Tool(name=name, description=f"{name} a text.", input_schema=TEXT) for name in ("note", LONG_NAME)]
    weigh = t.Tool(name="weigh", description="Puts it on the scale.", input_schema=TEXT, output_schema=WEIGHT)
    return [weigh, *plain, MEASURE, *text]


class Rich:
    """The tools, and what they remember."""

    def __init__(self, effects: Path) -> None:
        self._effects = effects
        self._names = ["steps", "refuses", "draw", "count", "fails", "grow"]
        self._bus = InMemorySubscriptionBus()
        self._meta: dict[str, Any] = {}
        self.server = Server(
            "rich",
            version="1",
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=ListenHandler(self._bus),
        )
        self.server.middleware.append(self._see_meta)

    async def _see_meta(self, ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        if ctx.method == "tools/call":
            self._meta = dict((ctx.params or {}).get("_meta", {}))
        return await call_next(ctx)

    async def _list(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListToolsResult:
        return t.ListToolsResult(tools=listed(self._names))

    async def _call(self, ctx: Context, params: t.CallToolRequestParams) -> t.CallToolResult:
        with self._effects.open("a") as file:
            file.write(json.dumps([params.name, params.arguments]) + "\n")
        match params.name:
            case "measure" | "weigh":
                return t.CallToolResult(content=[t.TextContent(text="1.5 kg")], structured_content=WEIGHED)
            case "draw":
                return t.CallToolResult.model_validate(DRAWN)
            case "count":
                return t.CallToolResult(content=[t.TextContent(text="[1, 2, 3]")], structured_content=[1, 2, 3])
            case "steps":
                for step in (1, 2, 3):
                    await ctx.session.report_progress(step, 3, f"step {step}")
            case "fails":
                return t.CallToolResult(content=[t.TextContent(text="no such thing")], is_error=True)
            case "refuses":
                raise MCPError(-32000, "Connection closed", {"why": ["closed", 1]})
            case "grow":
                self._names.append(f"grown-{len(self._names)}")
                await self._bus.publish(ToolsListChanged())
        seen = {"arguments": params.arguments, "meta": self._meta}
        return t.CallToolResult(content=[t.TextContent(text="done")], structured_content=seen)


async def main() -> None:
    server = Rich(Path(sys.argv[1])).server
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
