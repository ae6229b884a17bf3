"""An upstream written with the MCP SDK, as a script over stdio or as an app over HTTP, in either era.

Every call leaves a line in the file that `--record` names: what really reached a tool is read there.
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
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp.shared.subscriptions import ToolsListChanged
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

Context = ServerRequestContext[Any, Any]

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
ECHO = t.Tool(
    name="echo",
    title="Echo",
    description="says what it is told",
    input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    output_schema={"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]},
    annotations=t.ToolAnnotations(read_only_hint=True),
    icons=[t.Icon(src="https://example.com/echo.png", mime_type="image/png", sizes=["48x48"])],
    _meta={"example.com/owner": "tests"},
)


def text(words: str, *, is_error: bool = False) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(text=words)], is_error=is_error)


class ToolsServer:
    """The tools, and what they remember."""

    def __init__(self, record: Path | None = None) -> None:
        self._record = record
        self._bus = InMemorySubscriptionBus()
        self._names = ["echo", "steps", "waits", "fails", "refuses", "asks", "dies", "environment", "grows"]
        self.calls: list[str] = []
        self.metas: list[dict[str, Any]] = []
        self.waiting = anyio.Event()
        self.server = Server(
            "tools",
            version="1",
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=ListenHandler(self._bus),
        )
        self.server.middleware.append(self._see_meta)

    async def _see_meta(self, ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        if ctx.method == "tools/call":
            self.metas.append(dict((ctx.params or {}).get("_meta", {})))
        return await call_next(ctx)

    async def _list(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListToolsResult:
        others = [t.Tool(name=name, input_schema=NO_ARGUMENTS) for name in self._names if name != "echo"]
        return t.ListToolsResult(tools=[ECHO, *others])

    async def _call(self, ctx: Context, params: t.CallToolRequestParams) -> t.CallToolResult | t.InputRequiredResult:
        self._note(params.name)
        arguments = params.arguments or {}
        match params.name:
            case "echo":
                said = str(arguments["text"])
                return t.CallToolResult(content=[t.TextContent(text=said)], structured_content={"said": said})
            case "steps":
                for step in range(1, 4):
                    await ctx.session.report_progress(step, 3, f"step {step}")
                return text("done")
            case "waits":
                return await self._wait()
            case "fails":
                return text("it failed", is_error=True)
            case "refuses":
                raise MCPError(-32001, "not today", {"why": "closed"})
            case "asks":
                return await self._ask(ctx)
            case "dies":
                os._exit(3)
            case "environment":
                return text(json.dumps(dict(os.environ)))
            case "grows":
                return await self._grow(ctx)
        raise MCPError(t.INVALID_PARAMS, f"Unknown tool: {params.name}")

    def _note(self, line: str) -> None:
        self.calls.append(line)
        if self._record is not None:
            with self._record.open("a") as file:
                file.write(line + "\n")

    async def _wait(self) -> t.CallToolResult:
        self.waiting.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self._note("waits: cancelled")
            raise
        return text("never")

    async def _ask(self, ctx: Context) -> t.CallToolResult | t.InputRequiredResult:
        form: dict[str, Any] = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            question = t.ElicitRequest(params=t.ElicitRequestFormParams(message="Sure?", requested_schema=form))
            return t.InputRequiredResult(input_requests={"sure": question}, request_state="state")
        try:
            answer = await ctx.session.elicit_form("Sure?", form, related_request_id=ctx.request_id)
        except MCPError as error:
            return text(f"nobody answered: {error.message}", is_error=True)
        return text(f"answered: {answer.action}")

    async def _grow(self, ctx: Context) -> t.CallToolResult:
        self._names.append(f"grown-{len(self._names)}")
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            await self._bus.publish(ToolsListChanged())
        else:
            await ctx.session.send_tool_list_changed()
        return text("grown")


class OlderThanDiscover:
    """A read stream of a server that has never heard of `server/discover`, and says so."""

    def __init__(self, inner: Any, answers: Any) -> None:
        self._inner = inner
        self._answers = answers

    def __aiter__(self) -> OlderThanDiscover:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        while True:
            item = await self._inner.receive() if hasattr(self._inner, "receive") else await anext(self._inner)
            message = getattr(item, "message", None)
            if not isinstance(message, t.JSONRPCRequest) or message.method != "server/discover":
                return item  # type: ignore[no-any-return]
            error = t.ErrorData(code=t.METHOD_NOT_FOUND, message="Method not found")
            await self._answers.send(SessionMessage(t.JSONRPCError(jsonrpc="2.0", id=message.id, error=error)))

    async def receive(self) -> SessionMessage | Exception:
        return await anext(self)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> OlderThanDiscover:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)


async def over_stdio(record: Path | None, legacy: bool) -> None:
    server = ToolsServer(record).server
    async with stdio_server() as (incoming, outgoing):
        reading: Any = OlderThanDiscover(incoming, outgoing) if legacy else incoming
        await server.run(reading, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path)
    parser.add_argument("--legacy", action="store_true")
    asked = parser.parse_args()
    anyio.run(over_stdio, asked.record, asked.legacy)
