"""`hitl-mcp stdio` as a relay: what passes it, and what it does when the gateway goes and comes back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import anyio
import mcp_types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp_types.jsonrpc import jsonrpc_message_adapter

from hitl_mcp.state_dir import StateDir
from tests.wire import NO_START, RUN_BRIDGE, AgentClient, Connection, Gateway, Message, client

pytestmark = pytest.mark.anyio

MODERN = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}


@pytest.fixture
def state(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    monkeypatch.setenv("HITL_MCP_HOME", str(short_dir / "home"))
    (short_dir / "hitl.yaml").write_text("{}\n")
    return StateDir.for_config(short_dir / "hitl.yaml")


async def shake_hands(agent: AgentClient, gateway: Connection) -> Message:
    """The handshake of the legacy era, through the bridge; returns its first frame."""
    await agent.send("initialize", 0, protocolVersion="2025-11-25", capabilities={})
    asked = await gateway.read()
    await gateway.answer(asked, protocolVersion="2025-11-25")
    assert (await agent.read())["id"] == 0
    await agent.send("notifications/initialized")
    assert await gateway.read() == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    return asked


# -- the relay


async def test_lines_pass_both_ways_unchanged(state: StateDir) -> None:
    """Not a byte is rewritten: neither spaces nor escapes nor the order of keys."""
    asked = rb'{ "method":"ping",   "id":"a\u00e9", "jsonrpc":"2.0" }'
    answered = rb'{"result": {"x" :1e3},"id":"a\u00e9","jsonrpc":"2.0"}'
    async with Gateway(state, None) as gateway, client(state) as agent:
        await agent.send_line(asked)
        connection = await gateway.connection()
        assert await connection.reader.readuntil() == asked + b"\n"
        connection.writer.write(answered + b"\n")
        assert await agent.read_line() == answered
        assert await agent.ended() == (0, "")


async def test_the_first_line_says_which_config_agent_and_conversation(state: StateDir) -> None:
    """Each bridge has a conversation secret of its own and keeps it when it connects again."""
    async with client(state) as agent, client(state) as other:
        async with Gateway(state, None) as gateway:
            greetings = [(await gateway.connection()).greeting, (await gateway.connection()).greeting]
        async with Gateway(state, None) as gateway:
            again = [(await gateway.connection()).greeting, (await gateway.connection()).greeting]
        assert await agent.ended() == await other.ended() == (0, "")
    secrets = [greeting.pop("conversation") for greeting in greetings]
    assert greetings == [{"hitl": 1, "config": state.config, "agent": "builder"}] * 2
    assert len(set(secrets)) == 2
    assert all(len(secret) >= 32 for secret in secrets)
    assert {greeting["conversation"] for greeting in again} == set(secrets)


async def test_a_refusal_is_told_to_the_client(state: StateDir) -> None:
    """Each request is answered with the gateway's reason; no frame reaches it; the exit code says misuse."""
    refusal = {"hitl": 1, "ok": False, "error": "this gateway serves another config"}
    async with Gateway(state, refusal) as gateway, client(state) as agent:
        first = await gateway.connection()
        await agent.send("initialize", 1)
        assert "this gateway serves another config" in await agent.error()
        await agent.send("tools/call", 2, name="x")
        error = await agent.error()
        assert "nothing ran" in error
        code, said = await agent.ended()
        assert code == 2
        assert "this gateway serves another config" in said
        assert first.greeting["conversation"] not in said + error
        assert await first.reader.read() == b""


async def test_a_line_of_a_mebibyte_passes_whole_in_both_directions(state: StateDir) -> None:
    """Larger than any pipe: neither side waits for the other for ever."""
    text = "x" * (1024 * 1024)
    async with Gateway(state, None) as gateway, client(state) as agent:
        connection = await gateway.connection()
        await agent.send("tools/call", 1, name="files__write", arguments={"text": text})
        asked = await connection.read()
        assert asked["params"]["arguments"]["text"] == text
        await connection.answer(asked, text=text * 4)
        assert (await agent.read())["result"]["text"] == text * 4
        assert await agent.ended() == (0, "")


async def test_a_client_that_sends_before_it_reads_is_not_deadlocked(state: StateDir) -> None:
    """A megabyte of answers waits for a client that is busy sending a megabyte."""
    text = "x" * 1024
    async with Gateway(state, None) as gateway, client(state) as agent:
        connection = await gateway.connection()

        async def echo() -> None:
            for _ in range(1000):
                asked = await connection.read()
                await connection.answer(asked, text=text)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(echo)
            for number in range(1000):
                await agent.send("ping", number, text=text)
            assert [(await agent.read())["id"] for _ in range(1000)] == list(range(1000))


async def test_an_endless_line_is_refused_and_the_next_one_passes(state: StateDir) -> None:
    """What the gateway never sees is answered here; the memory it takes is bounded."""
    async with Gateway(state, None) as gateway, client(state) as agent:
        connection = await gateway.connection()
        await agent.send_line(b'{"method":"ping","id":1,"x":"' + b"x" * (5 * 1024 * 1024))
        assert await agent.read() == {
            "jsonrpc": "2.0",
            "id": None,
            "error": {"code": -32600, "message": "a message of more than 2097152 bytes was refused, so nothing ran"},
        }
        await agent.send("ping", 2)
        assert (await connection.read())["id"] == 2


@pytest.mark.parametrize("line", [b"{]", b"[1]", b"7", b'{"id":1}', b"\xff\xfe", b'{"method":{},"id":1}'])
async def test_what_the_bridge_cannot_read_is_for_the_gateway_to_answer(state: StateDir, line: bytes) -> None:
    """It passes as it is, and the connection lives on."""
    async with Gateway(state, None) as gateway, client(state) as agent:
        connection = await gateway.connection()
        await agent.send_line(line)
        await agent.send("ping", 2)
        assert await connection.reader.readuntil() == line + b"\n"
        assert (await connection.read())["id"] == 2


# -- the gateway goes and comes back


async def test_a_legacy_connection_goes_on_with_a_new_gateway(state: StateDir) -> None:
    """Handshake, log level and subscriptions are repeated in order, unheard; then comes what the client asked."""
    async with client(state) as agent:
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            handshake = await shake_hands(agent, connection)
            for id, method, params in (
                (1, "logging/setLevel", {"level": "debug"}),
                (2, "logging/setLevel", {"level": "error"}),
                (3, "resources/subscribe", {"uri": "file:///a"}),
                (4, "resources/subscribe", {"uri": "file:///b"}),
                (5, "resources/unsubscribe", {"uri": "file:///a"}),
            ):
                await agent.send(method, id, **params)
                await connection.answer(await connection.read())
                assert (await agent.read())["id"] == id
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            await agent.send("tools/list", 6)
            repeated = await connection.read()
            assert repeated == handshake
            await connection.answer(repeated, protocolVersion="2025-11-25")
            frames = [await connection.read() for _ in range(4)]
            assert [(frame["method"], frame.get("id")) for frame in frames] == [
                ("notifications/initialized", None),
                ("logging/setLevel", 2),
                ("resources/subscribe", 4),
                ("tools/list", 6),
            ]
            for frame in frames[1:]:
                await connection.answer(frame)
            assert await agent.read() == {"jsonrpc": "2.0", "id": 6, "result": {}}
            assert await agent.ended() == (0, "")


async def test_a_gateway_that_does_not_take_the_handshake_again_is_left(state: StateDir) -> None:
    """The client is told to start over; nothing passes before the answer, for the SDK serves requests side by side."""
    async with client(state) as agent:
        async with Gateway(state, None) as gateway:
            await shake_hands(agent, await gateway.connection())
        async with Gateway(state, None) as gateway:
            await agent.send("tools/call", 1, name="x")
            connection = await gateway.connection()
            repeated = await connection.read()
            await connection.write({"id": repeated["id"], "error": {"code": -32602, "message": "no"}})
            assert "restart this server in the client" in await agent.error()
            assert await connection.reader.read() == b""


async def test_a_modern_connection_goes_on_with_its_subscriptions(state: StateDir) -> None:
    """An open `subscriptions/listen` is asked again: no second acknowledgement, then events as before."""
    about = {"_meta": {"io.modelcontextprotocol/subscriptionId": "listen-1"}}
    acknowledged = {"method": "notifications/subscriptions/acknowledged", "params": about}
    changed = {"method": "notifications/tools/list_changed", "params": about}
    async with client(state) as agent:
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            await agent.send("subscriptions/listen", "listen-1", **MODERN)
            asked = await connection.read()
            await connection.write(acknowledged)
            assert (await agent.read())["method"] == acknowledged["method"]
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            assert await connection.read() == asked
            await connection.write(acknowledged)
            await connection.write(changed)
            assert (await agent.read())["method"] == changed["method"]
            await connection.answer(asked)
            assert (await agent.read())["id"] == "listen-1"
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            await agent.send("ping", 2, **MODERN)
            assert (await connection.read())["method"] == "ping"  # the ended subscription is not asked again


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("initialize", {"protocolVersion": "2025-11-25"}),
        ("server/discover", MODERN),
        ("tools/list", {}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("prompts/list", {}),
        ("ping", {}),
        ("tools/call", {"name": "hitl_wait", "arguments": {"call_id": "c_1"}}),
        ("tools/call", {"name": "hitl_status"}),
    ],
)
async def test_a_request_that_only_reads_is_asked_again(state: StateDir, method: str, params: Message) -> None:
    """The client gets one answer, the new gateway's, and does not notice."""
    async with client(state) as agent:
        await agent.send(method, 7, **params)
        async with Gateway(state, None) as gateway:
            first = await (await gateway.connection()).read()
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            again = await connection.read()
            assert again == first
            await connection.answer(again, said="by the second")
            assert await agent.read() == {"jsonrpc": "2.0", "id": 7, "result": {"said": "by the second"}}
            assert await agent.ended() == (0, "")


@pytest.mark.parametrize("params", [{}, MODERN], ids=["legacy", "modern"])
@pytest.mark.parametrize(
    ("tool", "words"), [("mail__send", "MAY HAVE RUN"), ("hitl_withdraw", "may have happened or not")]
)
async def test_a_call_in_flight_is_never_sent_twice(state: StateDir, tool: str, words: str, params: Message) -> None:
    """Its answer is a tool result that says so and names `hitl_status`; the new gateway never sees the call."""
    async with client(state) as agent:
        async with Gateway(state, None) as gateway:
            await agent.send("tools/call", 7, name=tool, **params)
            await (await gateway.connection()).read()
        answer = await agent.read()
        assert answer["id"] == 7
        result = mcp_types.CallToolResult.model_validate(answer["result"])
        assert result.is_error
        text = result.content[0].text if isinstance(result.content[0], mcp_types.TextContent) else ""
        assert text.startswith("OUTCOME UNKNOWN")
        assert words in text
        assert "hitl_status" in text
        assert result.structured_content == {"status": "unknown", "retry": "never", "message": text}
        assert answer["result"].get("resultType") == ("complete" if params else None)
        async with Gateway(state, None) as gateway:
            await agent.send("ping", 8)
            assert (await (await gateway.connection()).read())["id"] == 8


async def test_a_request_that_is_neither_read_nor_call_is_answered_with_an_error(state: StateDir) -> None:
    """`resources/read` may have effects upstream, so it is the client's to ask again."""
    async with client(state) as agent:
        async with Gateway(state, None) as gateway:
            await agent.send("resources/read", 7, uri="file:///a")
            await (await gateway.connection()).read()
        assert await agent.error() == "the gateway ended before it answered `resources/read`: ask again"


async def test_a_call_that_waited_for_a_gateway_is_sent_once(state: StateDir) -> None:
    """What no gateway has seen is not in doubt, so it is sent and answered as if nothing had been."""
    state.ensure()
    with state.start_lock() or pytest.fail("the start lock is free"):
        async with client(state, command=NO_START) as agent:
            await agent.send("tools/call", 7, name="mail__send")
            async with Gateway(state, None) as gateway:
                connection = await gateway.connection()
                await connection.answer(await connection.read(), sent=1)
                assert (await agent.read())["result"] == {"sent": 1}


async def test_a_cancelled_request_is_neither_answered_nor_asked_again(state: StateDir) -> None:
    """Neither one in flight nor one that still waits for a gateway."""
    async with client(state, command=NO_START) as agent:
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            await agent.send("ping", 0)
            await connection.answer(await connection.read())
            assert (await agent.read())["id"] == 0
            for id, method in ((1, "tools/call"), (2, "tools/list"), (3, "subscriptions/listen")):
                await agent.send(method, id)
                await agent.send("notifications/cancelled", requestId=id)
                assert (await connection.read())["id"] == id
                assert (await connection.read())["params"] == {"requestId": id}
            state.mark_stopped()
        await agent.send("ping", 4)
        assert "stopped by its operator" in await agent.error()
        state.clear_stopped()
        with state.start_lock() or pytest.fail("the start lock is free"):
            await agent.send("tools/call", 5)
            await agent.send("notifications/cancelled", requestId=5)
            await agent.send("ping", 6)
            async with Gateway(state, None) as gateway:
                connection = await gateway.connection()
                assert (await connection.read())["id"] == 6


async def test_a_late_answer_meets_no_other_question(state: StateDir) -> None:
    """The client's answer to the gateway that is gone is dropped, even if the new one asks under the same id."""
    async with client(state) as agent:
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            await connection.write({"id": "q-1", "method": "elicitation/create"})
            assert (await agent.read())["id"] == "q-1"
        told = await agent.read()
        assert (told["method"], told["params"]["requestId"]) == ("notifications/cancelled", "q-1")
        async with Gateway(state, None) as gateway:
            connection = await gateway.connection()
            await agent.send_line(b'{"jsonrpc":"2.0","id":"q-1","result":{"action":"accept"}}')
            await agent.send("ping", 1)
            assert (await connection.read())["method"] == "ping"
            await connection.write({"id": "q-1", "method": "elicitation/create"})
            assert (await agent.read())["id"] == "q-1"
            await agent.send_line(b'{"jsonrpc":"2.0","id":"q-1","result":{"action":"decline"}}')
            assert (await connection.read())["result"] == {"action": "decline"}
            await agent.send_line(b'{"jsonrpc":"2.0","id":"q-1","result":{"action":"accept"}}')
            await agent.send("ping", 2)
            assert (await connection.read())["method"] == "ping"


async def test_a_request_waits_only_so_long_for_a_gateway(state: StateDir) -> None:
    """A gateway that has the lock but does not answer: the request is answered, and was not sent."""
    state.ensure()
    lock = state.acquire_gateway_lock()
    async with client(state, wait_seconds=0.3) as agent:
        await agent.send("tools/call", 1, name="mail__send")
        error = await agent.error()
        assert "answered in time" in error
        assert "nothing ran" in error
        lock.release()
        async with Gateway(state, None) as gateway:
            await agent.send("ping", 2)
            connection = await gateway.connection()
            assert (await connection.read())["id"] == 2


async def test_a_gateway_that_accepts_but_never_greets_is_given_up(state: StateDir) -> None:
    """A hung gateway costs its clients the same bounded wait."""
    async with Gateway(state, greeting={}), client(state, wait_seconds=0.3) as agent:
        await agent.send("ping", 1)
        assert "did not answer in time" in await agent.error()


@pytest.fixture
def stderr_file(tmp_path: Path) -> Iterator[TextIO]:
    with open(tmp_path / "stderr", "w+") as file:
        yield file


async def serve_with_the_sdk(server: Server[Any], connection: Connection) -> None:
    """Serve a connection as the gateway does: with the SDK's loop for both eras."""
    sent, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_write, written = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with sent:
            async for line in connection.reader:
                await sent.send(SessionMessage(jsonrpc_message_adapter.validate_json(line)))

    async def write() -> None:
        async with written:
            async for item in written:
                line = jsonrpc_message_adapter.dump_json(item.message, by_alias=True, exclude_unset=True)
                connection.writer.write(line + b"\n")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        await serve_dual_era_loop(server, received, to_write, lifespan_state={})


def server_with_tool(name: str, calling: anyio.Event) -> Server[Any]:
    """A server whose one tool says that it was called, and then never answers."""

    async def list_tools(context: Any, params: Any) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=[mcp_types.Tool(name=name, input_schema={"type": "object"})])

    async def call_tool(context: Any, params: Any) -> mcp_types.CallToolResult:
        calling.set()
        await anyio.sleep_forever()
        raise AssertionError("nothing wakes it")

    return Server(name, on_list_tools=list_tools, on_call_tool=call_tool)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_sdks_client_outlives_its_gateway(state: StateDir, mode: Any, stderr_file: TextIO) -> None:
    """A real client and the SDK's server loop, in both eras: after a restart the session goes on as it was."""
    calling = anyio.Event()
    answers: list[mcp_types.CallToolResult] = []
    bridge = StdioServerParameters(
        command=sys.executable,
        args=["-c", RUN_BRIDGE, json.dumps([state.config, "builder", NO_START, 30])],
        env={"HITL_MCP_HOME": os.environ["HITL_MCP_HOME"]},
    )

    async def serve(gateway: Gateway, tool: str) -> None:
        await serve_with_the_sdk(server_with_tool(tool, calling), await gateway.connection())

    async def call() -> None:
        answers.append(await agent.call_tool("first"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks, Gateway(state, None) as first:
            tasks.start_soon(serve, first, "first")
            async with Client(stdio_client(bridge, errlog=stderr_file), mode=mode) as agent:
                assert [tool.name for tool in (await agent.list_tools()).tools] == ["first"]
                async with anyio.create_task_group() as calls:
                    calls.start_soon(call)
                    await calling.wait()
                    await first.die()
                assert answers[0].is_error
                assert "MAY HAVE RUN" in str(answers[0].content)
                async with Gateway(state, None) as second:
                    tasks.start_soon(serve, second, "second")
                    assert [tool.name for tool in (await agent.list_tools()).tools] == ["second"]
    stderr_file.seek(0)
    assert stderr_file.read() == ""
