"""`/mcp`: who comes in, as whom, and how much of a body is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import httpx2
import pytest
from mcp_types.version import LATEST_MODERN_VERSION
from starlette.types import Message

from hitl_mcp.limits import MESSAGE_BYTES
from hitl_mcp.surfaces.agents import AgentServer, AgentsOverHttp
from tests.surfaces.agents.small_server import SmallServer

TOKENS = {"builder": "key-of-the-builder", "other": "k"}
PREFIX = "io.modelcontextprotocol/"
META = {f"{PREFIX}protocolVersion": LATEST_MODERN_VERSION, f"{PREFIX}clientCapabilities": {}}
WHO: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "who", "_meta": META}}
HEADERS = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-protocol-version": LATEST_MODERN_VERSION,
    "mcp-method": "tools/call",
    "mcp-name": "who",
}


@pytest.fixture
def server() -> SmallServer:
    """What stands behind the door."""
    return SmallServer()


@pytest.fixture
async def app(server: SmallServer) -> AsyncIterator[AgentsOverHttp]:
    """The door, open."""
    door = AgentsOverHttp(cast(AgentServer, server), TOKENS)
    async with door.running():
        yield door


async def post(app: AgentsOverHttp, *authorization: str, body: Any = WHO, **headers: str) -> httpx2.Response:
    """Post a frame with these Authorization headers."""
    shown = [("authorization", value) for value in authorization]
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as http:
        everything = [*HEADERS.items(), *shown, *headers.items()]
        return await http.post(
            "/mcp", content=body if isinstance(body, bytes) else json.dumps(body), headers=everything
        )


@pytest.mark.parametrize(
    ("authorization", "agent"),
    [("Bearer key-of-the-builder", "builder"), ("bearer k", "other"), ("BEARER  k ", "other")],
)
async def test_the_token_says_which_agent_it_is(app: AgentsOverHttp, authorization: str, agent: str) -> None:
    """Not a header, and nothing in the frame."""
    body = {**WHO, "params": {**WHO["params"], "arguments": {"agent": "root"}}}
    answer = await post(app, authorization, body=body, **{"x-agent": "root", "hitl.agent": "root"})
    assert f'"text":"{agent}"' in answer.text


@pytest.mark.parametrize(
    "authorization",
    [
        (),
        ("Bearer",),
        ("key-of-the-builder",),
        ("Basic key-of-the-builder",),
        ("Bearer key-of-the-builde",),
        ("Bearer key-of-the-builder2",),
        ("Bearer builder",),
        ("Bearer key-of-the-builder, Bearer k",),
        ("Bearer k", "Bearer k"),
        ("Bearer k", "Basic x"),
    ],
)
async def test_anyone_else_is_told_that_a_token_is_needed(
    app: AgentsOverHttp, server: SmallServer, authorization: tuple[str, ...]
) -> None:
    """401 with the scheme, and the server behind the door sees nothing."""
    answer = await post(app, *authorization)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["code"] == "not_signed_in"
    assert server.calls == []


async def test_without_configured_tokens_nobody_comes_in(server: SmallServer) -> None:
    """Also not with an empty one."""
    door = AgentsOverHttp(cast(AgentServer, server), {})
    async with door.running():
        for authorization in ("Bearer k", "Bearer ."):
            assert (await post(door, authorization)).status_code == 401


async def test_a_wrong_frame_is_answered_before_the_server_sees_it(app: AgentsOverHttp, server: SmallServer) -> None:
    """Status 400 with a JSON-RPC error under its id, as MCP clients read it."""
    frame = json.dumps(WHO).replace('"who"', '"who","name":"wait"').encode()
    answer = await post(app, "Bearer k", body=frame)
    assert (answer.status_code, answer.json()["id"]) == (400, 1)
    assert answer.json()["error"]["data"] == {"path": "$.params.name"}
    assert server.calls == []


async def test_a_body_is_read_whole_however_it_is_cut_and_never_beyond_the_cap(app: AgentsOverHttp) -> None:
    """In pieces of one byte it is the same frame; of an endless one no more is taken than shows that it is too long."""
    taken = 0

    async def pieces(size: int, count: int) -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(count):
            taken += 1
            yield b" " * size

    async def asked(content: AsyncIterator[bytes]) -> dict[str, Any]:
        said: list[Message] = []
        was_read = False

        async def receive() -> Message:
            nonlocal was_read
            if was_read:
                await anyio.sleep_forever()
            piece = await anext(content, None)
            was_read = piece is None
            return {"type": "http.request", "body": piece or b"", "more_body": not was_read}

        async def send(message: Message) -> None:
            said.append(message)

        headers = [(b"authorization", b"Bearer k"), *((k.encode(), v.encode()) for k, v in HEADERS.items())]
        scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": headers, "query_string": b""}
        with anyio.fail_after(10):
            await app({**scope, "client": ("127.0.0.1", 1), "scheme": "http"}, receive, send)
        body = b"".join(message.get("body", b"") for message in said)
        return {"status": said[0]["status"], "text": body.decode()}

    async def in_single_bytes() -> AsyncIterator[bytes]:
        for byte in json.dumps(WHO).encode():
            yield bytes([byte])

    assert '"text":"other"' in (await asked(in_single_bytes()))["text"]
    too_long = await asked(pieces(MESSAGE_BYTES // 4, 1000))
    assert (too_long["status"], "more than 1048576 bytes" in too_long["text"]) == (400, True)
    assert taken == 5
