"""The doors through which agents reach a gateway, so that a story can be told at each: by a client, or by hand."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import CallToolResult
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from tests.gateways import ERAS, WAIT_SECONDS, Site

EVERY_WAY = pytest.mark.parametrize(
    ("door", "era"), [(door, era) for door in ("bridge", "http") for era in ERAS], ids=lambda part: part
)
"""Both doors, each in both protocol eras."""

AGENT_KEYS = {"remote": "remote-key", "rival": "rival-key"}
"""The bearer tokens of the agents that come over HTTP."""

AGENTS = {name: {"token": key} for name, key in AGENT_KEYS.items()}
"""The same as the config wants it."""


def agent_at(site: Site, door: str, era: str, **options: Any) -> AbstractAsyncContextManager[Client]:
    """An agent's client at one of the doors."""
    if door == "http":
        return site.http_agent(AGENT_KEYS["remote"], era, **options)
    return site.agent("builder", era, **options)


Progress = tuple[float, float | None, str | None]
"""One progress note: how far, of what total, and its words."""


def into(heard: list[Progress]) -> ProgressFnT:
    """A progress callback that keeps what it hears."""

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    return hear


def structured(answer: CallToolResult) -> dict[str, Any]:
    """The structured content of an answer that must have some."""
    assert isinstance(answer.structured_content, dict), answer
    return answer.structured_content


def said(answer: CallToolResult) -> str:
    """The first text of an answer."""
    return str(getattr(answer.content[0], "text", ""))


# By hand.

LINE_BYTES = 4 * 1024 * 1024
"""The longest answer that is read; a message has a mebibyte, and an answer may hold it twice."""


@dataclass
class Raw:
    """An agent that writes its frames by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    envelope: dict[str, Any]

    async def send(self, frame: bytes) -> None:
        self.writer.write(frame + b"\n")
        await self.writer.drain()

    async def ask(self, method: str, id: Any = None, **params: Any) -> None:
        """Send what is well-formed; a notification without an id."""
        message = {"jsonrpc": "2.0", "method": method, "params": {**params, **self.envelope}}
        await self.send(json.dumps({**message, **({} if id is None else {"id": id})}).encode())

    async def read(self) -> dict[str, Any]:
        """The next answer."""
        with anyio.fail_after(WAIT_SECONDS):
            while "method" in (message := json.loads(await self.reader.readuntil(b"\n"))):
                pass
        return dict(message)

    async def succeeds(self, name: str, **arguments: Any) -> bool:
        """Whether the next answer is that of a call that is made now, and a good one."""
        await self.ask("tools/call", "good", name=name, arguments=arguments)
        answer = await self.read()
        return answer["id"] == "good" and answer["result"]["isError"] is False


@asynccontextmanager
async def raw_agent(place: Site, door: str, era: str) -> AsyncIterator[Raw]:
    """A connection on the bridge, or on the gateway's own socket as a bridge makes it, opened in an era."""
    async with _lines(place, door) as (reader, writer):
        agent = Raw(reader, writer, {} if era == "legacy" else {"_meta": modern_meta()})
        if door == "socket":
            greeting = {"hitl": 1, "config": str(place.config), "agent": "raw", "conversation": "0123456789abcdef"}
            await agent.send(json.dumps(greeting).encode())
            assert json.loads(await reader.readuntil(b"\n")) == {"hitl": 1, "ok": True}
        if era == "legacy":
            await agent.ask("initialize", 0, **handshake())
            assert (await agent.read())["id"] == 0
            await agent.ask("notifications/initialized")
        assert await agent.succeeds("hitl_status")
        yield agent


@asynccontextmanager
async def _lines(place: Site, door: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    if door == "socket":
        running = place.state.read_gateway()
        reader, writer = await asyncio.open_unix_connection(running.agent_socket if running else "", limit=LINE_BYTES)
        yield reader, writer
        writer.close()
        await writer.wait_closed()
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hitl_mcp", "stdio", "--config", str(place.config), "--agent", "raw"),
        env=place.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("there is no pipe to the bridge")
    yield process.stdout, process.stdin
    process.stdin.close()
    with anyio.fail_after(WAIT_SECONDS):
        assert await process.wait() == 0


def handshake() -> dict[str, Any]:
    """The parameters of `initialize`."""
    return {
        "protocolVersion": LATEST_HANDSHAKE_VERSION,
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }


def modern_meta() -> dict[str, Any]:
    """What every request of the modern era carries."""
    prefix = "io.modelcontextprotocol/"
    return {f"{prefix}protocolVersion": LATEST_MODERN_VERSION, f"{prefix}clientCapabilities": {}}
