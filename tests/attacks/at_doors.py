"""Where messages of the corpus are put: lines on the bridge and on its socket, and bodies posted to `/mcp`."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from tests.attacks.messages import Answered, Message, Unanswered, call
from tests.gateways import WAIT_SECONDS, Site
from tests.stories.doors import AGENT_KEYS, Raw, handshake, raw_agent

GOOD = "good"
"""The id of calls that must work."""

Answer = dict[str, Any]


class Door(Protocol):
    """Where a message is put, and what came back for it; `call` is one that is as it should be, and its answer."""

    async def put(self, message: Message) -> Answer | None: ...
    async def call(self, tool: str, arguments: dict[str, Any], id: str = GOOD) -> Answer: ...


@dataclass
class Line:
    """A connection that survives, or does not."""

    agent: Raw
    door: str
    era: str

    async def put(self, message: Message) -> Answer | None:
        await self.agent.send(message.written(self.era))
        # Where nothing may come back, the answer that comes next must be that of a call that follows.
        return None if isinstance(message.expected(self.door, self.era), Unanswered) else await self.agent.read()

    async def call(self, tool: str, arguments: dict[str, Any], id: str = GOOD) -> Answer:
        await self.agent.ask("tools/call", id, name=tool, arguments=arguments)
        return await self.agent.read()


@dataclass
class Posted:
    """A client that posts, with what it says of its message in the headers of its era."""

    http: httpx2.AsyncClient
    era: str

    async def put(self, message: Message) -> Answer | None:
        return await self._post(message.written(self.era), message.method, message.tool)

    async def call(self, tool: str, arguments: dict[str, Any], id: str = GOOD) -> Answer:
        frame = call(json.dumps(arguments), id=f'"{id}"', name=f'"{tool}"')
        answer = await self._post(Message("good", frame, Answered(id)).written(self.era), "tools/call", tool)
        assert answer is not None
        return answer

    async def _post(self, frame: bytes, method: str, tool: str) -> Answer | None:
        headers = {} if self.era == "legacy" else {"mcp-method": in_header(method), "mcp-name": in_header(tool)}
        response = await self.http.post("/mcp", content=frame, headers={k: v for k, v in headers.items() if v})
        text = response.text
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            said = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
            answers = [message for message in said if "method" not in message]
            assert len(answers) == 1, text
            return dict(answers[0])
        assert text or response.status_code == 202, response
        return dict(json.loads(text)) if text else None


def in_header(text: str) -> str:
    """A text as the revision has it in a header: in base64, where it could not stand as it is."""
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


@asynccontextmanager
async def opened(place: Site, door: str, era: str) -> AsyncIterator[Door]:
    """A door, opened in an era."""
    if door != "http":
        async with raw_agent(place, door, era) as agent:
            yield Line(agent, door, era)
        return
    running = place.state.read_gateway()
    headers = {
        "authorization": f"Bearer {AGENT_KEYS['remote']}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": LATEST_HANDSHAKE_VERSION if era == "legacy" else LATEST_MODERN_VERSION,
    }
    url = running.url if running else ""
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=WAIT_SECONDS) as http:
        if era == "legacy":
            opening = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": handshake()}
            http.headers["mcp-session-id"] = (await http.post("/mcp", json=opening)).headers["mcp-session-id"]
            await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        yield Posted(http, era)
