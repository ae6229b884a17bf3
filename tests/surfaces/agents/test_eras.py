"""The era of a connection: its first request decides it, and what is not of it is refused."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest

from tests.surfaces.agents.test_socket import HELLO, Door, Line, served

MODERN: dict[str, Any] = {t.PROTOCOL_VERSION_META_KEY: "2026-07-28", t.CLIENT_CAPABILITIES_META_KEY: {}}


@pytest.fixture
async def door(short_dir: Path) -> AsyncIterator[Door]:
    """The socket of a gateway of our own user."""
    async with served(short_dir, os.getuid()) as opened:
        yield opened


async def asked(line: Line, method: str, params: dict[str, Any], id: Any = 1) -> dict[str, Any]:
    """The answer to a request."""
    await line.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    answer = await line.read()
    assert answer["id"] == id
    return answer


async def greeted(line: Line) -> None:
    """Past our own first line."""
    assert await line.read() == {"hitl": 1, "ok": True}


async def test_a_first_request_with_an_envelope_opens_a_modern_connection(door: Door) -> None:
    """No handshake is needed, and the server knows who calls."""
    async with door.line(HELLO) as line:
        await greeted(line)
        answer = await asked(line, "tools/call", {"name": "who", "_meta": MODERN})
    assert answer["result"]["content"] == [{"type": "text", "text": "builder"}]
    assert answer["result"]["resultType"] == "complete"


async def test_a_handshake_on_a_modern_connection_is_refused_with_what_is_served(door: Door) -> None:
    """The client learns which revisions it may use, and its connection goes on."""
    async with door.line(HELLO) as line:
        await greeted(line)
        await asked(line, "tools/call", {"name": "who", "_meta": MODERN})
        refused = await asked(line, "initialize", {"protocolVersion": "2025-06-18"}, id=2)
        assert refused["error"]["code"] == t.UNSUPPORTED_PROTOCOL_VERSION
        assert refused["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2025-06-18"}
        assert "result" in await asked(line, "tools/call", {"name": "who", "_meta": MODERN}, id=3)


async def test_an_envelope_after_a_handshake_is_refused(door: Door) -> None:
    """A connection is of one era; the call is not made, and one without the envelope is."""
    async with door.line() as line:
        refused = await asked(line, "tools/call", {"name": "who", "_meta": MODERN})
        assert refused["error"]["code"] == t.INVALID_REQUEST
        assert door.server.calls == []
        assert "result" in await asked(line, "tools/call", {"name": "who"}, id=2)


async def test_what_comes_before_the_first_request_is_read_in_its_order(door: Door) -> None:
    """Notifications ahead of the handshake neither decide the era nor get in its way, however many there are."""
    async with door.line(HELLO) as line:
        await greeted(line)
        for _ in range(20):
            await line.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        assert "result" in await asked(line, "initialize", client)
        assert "result" in await asked(line, "tools/call", {"name": "who"}, id=2)


async def test_a_request_sent_right_behind_the_handshake_is_served(door: Door) -> None:
    """A client need not wait for the answer to `initialize`."""
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    async with door.line(HELLO) as line:
        await greeted(line)
        await line.send({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client})
        await line.call(2, "who")
        answers = [await line.read(), await line.read()]
    assert [(answer["id"], "result" in answer) for answer in answers] == [(1, True), (2, True)]


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        ({"name": 5, "_meta": MODERN}, t.INVALID_PARAMS, "$.params.name"),
        ({"name": "who", "arguments": [1], "_meta": MODERN}, t.INVALID_PARAMS, "$.params.arguments"),
        ({"name": "who", "_meta": {**MODERN, "progressToken": []}}, t.INVALID_PARAMS, ""),
        ({"name": "who", "_meta": {**MODERN, t.CLIENT_INFO_META_KEY: 5}}, t.INVALID_PARAMS, ""),
        ({"name": "who", "_meta": {t.PROTOCOL_VERSION_META_KEY: "2026-07-28"}}, t.INVALID_PARAMS, "clientCapabilities"),
        (
            {"name": "who", "_meta": {**MODERN, t.PROTOCOL_VERSION_META_KEY: "2031-01-01"}},
            t.UNSUPPORTED_PROTOCOL_VERSION,
            "",
        ),
    ],
)
async def test_a_modern_call_of_the_wrong_shape_is_refused(
    door: Door, params: dict[str, Any], code: int, says: str
) -> None:
    """As the SDK refuses it where it is asked, and saying where; the call is not made."""
    async with door.line(HELLO) as line:
        await greeted(line)
        refused = await asked(line, "tools/call", params)
    assert refused["error"]["code"] == code
    assert says in refused["error"]["message"]
    assert door.server.calls == []


async def test_a_method_that_modern_clients_may_not_use_is_not_found(door: Door) -> None:
    """What is no call takes the SDK's own way, with the SDK's own answers."""
    async with door.line(HELLO) as line:
        await greeted(line)
        refused = await asked(line, "ping", {"_meta": MODERN})
    assert refused["error"]["code"] == t.METHOD_NOT_FOUND


async def test_a_modern_call_is_cancelled_and_never_answered(door: Door) -> None:
    """A cancel ends the wait; the next request on the same connection is answered."""
    async with door.line(HELLO) as line:
        await greeted(line)
        await line.send(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "wait", "_meta": MODERN}}
        )
        await door.server.open.wait()
        await line.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        assert "result" in await asked(line, "tools/call", {"name": "who", "_meta": MODERN}, id=2)
