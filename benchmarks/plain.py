"""The plain shape of the design, to hold the gateway against: relay, Unix socket, the SDK's server, the SDK's client.

No policy, no record, no check: whatever the gateway does more than this has to fit in what it does better. Started as
`python -m benchmarks.plain SOCKET`; it prints a line when it is ready. The relay stands in `plain_relay.py`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from types import TracebackType
from typing import Any, Self

import anyio
import mcp_types as types
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server import Server, ServerRequestContext
from mcp.shared.message import SessionMessage
from mcp_types.jsonrpc import jsonrpc_message_adapter

from benchmarks.site import ROOT, UPSTREAM_COMMAND

LINE_BYTES = 1024 * 1024


class _Stream:
    """A socket as one of the SDK's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> SessionMessage:
        line = await self._reader.readline()
        if not line:
            raise anyio.EndOfStream
        return SessionMessage(jsonrpc_message_adapter.validate_json(line))

    async def send(self, item: SessionMessage, /) -> None:
        line = jsonrpc_message_adapter.dump_json(item.message, by_alias=True, exclude_unset=True)
        self._writer.write(line + b"\n")
        await self._writer.drain()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _server(upstream: Client) -> Server[Any]:
    """Passes lists and calls on, and answers with what came back."""

    async def list_tools(
        ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return await upstream.list_tools()

    async def call_tool(ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams) -> Any:
        return await upstream.call_tool(params.name, params.arguments)

    return Server("plain", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def _serve(path: str) -> None:
    command, *arguments = UPSTREAM_COMMAND
    started = StdioServerParameters(command=command, args=arguments, env=dict(os.environ), cwd=ROOT)
    async with Client(stdio_client(started)) as upstream:
        server = _server(upstream)

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stream = _Stream(reader, writer)
            await server.run(stream, stream, server.create_initialization_options())

        async with await asyncio.start_unix_server(accepted, path, limit=LINE_BYTES):
            print("ready", flush=True)
            await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_serve, sys.argv[1])
