"""The small MCP server that is measured: the same program directly and behind the gateway, over stdio or HTTP.

It does next to nothing, so that what is measured is the way to it. Started as `python -m benchmarks.upstream stdio`,
or with `http`: then it prints one JSON line with its `url`.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server

_ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "body": {"type": "string"},
        "amount": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["title", "body"],
}

TOOLS = [
    types.Tool(name="note", description="Takes a note, and keeps none.", input_schema=_ARGUMENTS),
    types.Tool(name="pay", description="Pays nothing to nobody.", input_schema=_ARGUMENTS),
]


async def _list_tools(
    ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(tools=TOOLS)


async def _call_tool(ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=f"noted: {(params.arguments or {}).get('title')}")])


def server() -> Server[Any]:
    """The server, with its input schemas at hand: else the SDK would list its tools again for every HTTP call."""
    schemas = {tool.name: tool.input_schema for tool in TOOLS}
    return Server(
        "bench", version="1", on_list_tools=_list_tools, on_call_tool=_call_tool, get_tool_input_schema=schemas.get
    )


async def _serve_stdio() -> None:
    served = server()
    async with stdio_server() as (incoming, outgoing):
        await served.run(incoming, outgoing, served.create_initialization_options())


async def _serve_http() -> None:
    # The protocol is named so that asyncio sends small answers at once: it leaves sockets of protocol 0 as they are,
    # and each answer then waits 40 ms for the client's acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"}), flush=True)
    settings = uvicorn.Config(server().streamable_http_app(), log_level="error", access_log=False)
    await uvicorn.Server(settings).serve([listener])


if __name__ == "__main__":
    anyio.run(_serve_http if sys.argv[1:] == ["http"] else _serve_stdio)
