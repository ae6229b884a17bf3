"""A small MCP server behind the real doors: it says who called, asks back, and fails as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import mcp_types as t
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError

from hitl_mcp.surfaces.agents.asked import Caller, ClientRequest

FORM: dict[str, Any] = {"type": "object", "properties": {"sure": {"type": "boolean"}}}


class SmallServer(Server[Any]):
    """What the doors need of a server, without a gate behind it."""

    def __init__(self) -> None:
        super().__init__("small", version="1", on_call_tool=self._call)
        self.connections: list[Caller] = []
        self.calls: list[str] = []
        self.open = anyio.Event()

    @contextmanager
    def connected(self, caller: Caller) -> Iterator[None]:
        self.connections.append(caller)
        yield

    async def answer(self, asked: ClientRequest) -> dict[str, Any]:
        """What a modern client's call is answered with, where the connection hands it over past the SDK."""
        ctx = SimpleNamespace(request=None, lifespan_context=asked.caller)
        result = await self._call(ctx, t.CallToolRequestParams(name=asked.name))  # type: ignore[arg-type]
        return {"resultType": "complete", **result.model_dump(by_alias=True, mode="json", exclude_none=True)}

    async def _call(self, ctx: ServerRequestContext[Any, Any], params: t.CallToolRequestParams) -> t.CallToolResult:
        self.calls.append(params.name)
        match params.name:
            case "who":
                return _text(ctx.request.scope["hitl.agent"] if ctx.request else ctx.lifespan_context.agent)
            case "ask":
                answer = await ctx.session.elicit_form("Sure?", FORM, related_request_id=ctx.request_id)
                return _text(f"{answer.action} {answer.content}")
            case "wait":
                self.open.set()
                await anyio.sleep_forever()
            case "crash":
                raise RuntimeError("a fault of ours")
            case "closed":
                raise MCPError(t.CONNECTION_CLOSED, "Connection closed")
        return _text("done")


def _text(words: str) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(text=words)])
