"""`agent.sock`: the first line, the lines after it, and questions that only their own connection may answer."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from hitl_mcp.limits import MESSAGE_BYTES
from hitl_mcp.surfaces.agents import AgentServer, AgentSocket
from tests.surfaces.agents.small_server import SmallServer

CONFIG = Path("/etc/hitl.yaml")
HELLO: dict[str, Any] = {"hitl": 1, "config": str(CONFIG), "agent": "builder", "conversation": "0123456789abcdef"}
READ_BYTES = 4 * MESSAGE_BYTES
NOBODY = 65534
"""The user that Linux has for whoever is nobody."""


class Line:
    """The other end of a connection, line by line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: dict[str, Any] | bytes) -> None:
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._writer.write(raw + b"\n")
        await self._writer.drain()

    async def read(self) -> dict[str, Any]:
        with anyio.fail_after(10):
            return dict(json.loads(await self._reader.readuntil(b"\n")))

    async def call(self, id: Any, name: str, **arguments: Any) -> None:
        params = {"name": name, "arguments": arguments}
        await self.send({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})

    async def answer(self, id: Any, **result: Any) -> None:
        await self.send({"jsonrpc": "2.0", "id": id, "result": result})

    async def ended(self) -> None:
        """Read until the other side closes, which must say nothing more."""
        with anyio.fail_after(10):
            assert await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):  # the other side may have gone first
            await self._writer.wait_closed()


class Door:
    """The socket, served."""

    def __init__(self, path: Path, server: SmallServer, tasks: TaskGroup) -> None:
        self.path, self.server, self.tasks = path, server, tasks

    @asynccontextmanager
    async def line(self, hello: dict[str, Any] | bytes | None = None) -> AsyncIterator[Line]:
        """A connection; with no `hello` of its own it is greeted, and has shaken hands."""
        line = Line(*await asyncio.open_unix_connection(self.path, limit=READ_BYTES))
        try:
            await line.send(HELLO if hello is None else hello)
            if hello is None:
                await self._shake_hands(line)
            yield line
        finally:
            await line.close()

    async def _shake_hands(self, line: Line) -> None:
        assert await line.read() == {"hitl": 1, "ok": True}
        client = {"protocolVersion": "2025-11-25", "clientInfo": {"name": "line", "version": "1"}}
        params: dict[str, Any] = {**client, "capabilities": {"elicitation": {"form": {}}}}
        await line.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        assert (await line.read())["id"] == 0
        await line.send({"jsonrpc": "2.0", "method": "notifications/initialized"})


@asynccontextmanager
async def served(folder: Path, uid: int) -> AsyncIterator[Door]:
    """The real socket of a gateway of this user, with a small server behind it."""
    path = folder / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        async def serve(*, task_status: TaskStatus[Door]) -> None:
            server = SmallServer()
            async with anyio.create_task_group() as tasks:
                task_status.started(Door(path, server, tasks))
                await AgentSocket(cast(AgentServer, server), CONFIG, uid).serve(listener, tasks)

        async with anyio.create_task_group() as gateway:
            yield await gateway.start(serve)
            gateway.cancel_scope.cancel()


@pytest.fixture
async def door(short_dir: Path) -> AsyncIterator[Door]:
    """The socket of a gateway that runs as the user of these tests."""
    async with served(short_dir, os.getuid()) as door:
        yield door


# The first line.


async def test_the_first_line_says_who_calls(door: Door) -> None:
    """The agent's name is the operator's word from that line; the conversation's secret itself is not kept."""
    async with door.line() as line:
        await line.call(1, "who")
        assert (await line.read())["result"]["content"][0]["text"] == "builder"
    (caller,) = door.server.connections
    assert HELLO["conversation"] not in caller.conversation


@pytest.mark.parametrize(
    ("hello", "says"),
    [
        ({**HELLO, "hitl": 2}, "another version"),
        ({**HELLO, "config": "/etc/other.yaml"}, "another config than `/etc/other.yaml`"),
        ({**HELLO, "agent": ""}, "no usable name"),
        ({**HELLO, "agent": "x" * 41}, "no usable name"),
        ({**HELLO, "agent": "a\u202eb"}, "no usable name"),
        ({**HELLO, "agent": None}, "no usable name"),
        ({**HELLO, "conversation": "short"}, "no conversation secret"),
        (b"[1]", "another version"),
        (b"GET / HTTP/1.1\r", "Expecting value"),
        (b"\xff", "decode"),
    ],
)
async def test_a_wrong_first_line_is_refused_aloud(door: Door, hello: dict[str, Any] | bytes, says: str) -> None:
    """It is told what is wrong, the connection is closed, and nothing is served on it."""
    async with door.line(hello) as line:
        answer = await line.read()
        assert (answer["ok"], says in answer["error"]) == (False, True)
        await line.ended()
    assert door.server.connections == []


async def test_a_first_line_without_an_end_is_dropped(door: Door) -> None:
    """More than any line may have, and no newline: the connection is closed, and others are served."""
    async with door.line(b"[" * (2 * MESSAGE_BYTES + 2)) as line:
        await line.ended()
    async with door.line() as line:
        await line.call(1, "who")
        assert "result" in await line.read()


async def test_another_user_of_this_machine_is_refused(short_dir: Path) -> None:
    """The kernel says who is at the other end; what the line says does not matter."""
    program = (
        "import socket, sys; line = socket.socket(socket.AF_UNIX); line.connect(sys.argv[1]); "
        "line.sendall(sys.argv[2].encode() + b'\\n'); print(line.makefile().readline())"
    )
    # Root is let in to every gateway, so there it is somebody else who knocks.
    as_root = os.getuid() == 0
    options: dict[str, Any] = {"user": NOBODY} if as_root else {}
    async with served(short_dir, os.getuid() + (0 if as_root else 1)) as door:
        short_dir.chmod(0o755)
        door.path.chmod(0o777)
        command = [_python_for_everyone(), "-I", "-S", "-c", program, str(door.path), json.dumps(HELLO)]
        with anyio.fail_after(10):
            answer = json.loads((await anyio.run_process(command, **options)).stdout)
    assert (answer["ok"], "not as the gateway's user" in answer["error"]) == (False, True)
    assert door.server.connections == []


def _python_for_everyone() -> str:
    """A Python that other users may run too: the one of a virtual environment may stand in a private home."""
    if os.getuid():
        return sys.executable
    for python in filter(None, (sys.executable, shutil.which("python3", path=os.defpath))):
        with suppress(OSError):
            if subprocess.run([python, "-c", ""], user=NOBODY, capture_output=True).returncode == 0:
                return python
    raise LookupError("no Python here may be run by another user")


# The lines after it.


async def test_a_line_over_the_cap_is_answered_under_its_id_and_the_next_is_served(door: Door) -> None:
    """Exactly the cap passes; a byte more, twice as much, and far more are each answered once."""
    async with door.line() as line:
        empty = json.dumps({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": ""}}).encode()
        for size, id in ((MESSAGE_BYTES, 5), (MESSAGE_BYTES + 1, 5), (2 * MESSAGE_BYTES, 5), (5 * MESSAGE_BYTES, None)):
            await line.send(empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"'))
            answer = await line.read()
            assert (answer["id"], "error" in answer) == (id, size > MESSAGE_BYTES)
        await line.call(6, "who")
        assert (await line.read())["id"] == 6


async def test_a_refused_frame_never_reaches_the_server(door: Door) -> None:
    """It is answered by the reader, and the server behind it sees the next one first."""
    async with door.line() as line:
        await line.send(b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"wait","name":"who"}}')
        assert (await line.read())["error"]["data"] == {"path": "$.params.name"}
        await line.send(b"")
        await line.call(6, "who")
        assert (await line.read())["id"] == 6
    assert door.server.calls == ["who"]


async def test_a_fault_in_one_call_ends_neither_its_connection_nor_another(door: Door) -> None:
    """The call gets an error; both connections go on."""
    async with door.line() as one, door.line() as other:
        await one.call(1, "crash")
        assert "error" in await one.read()
        for line in (one, other):
            await line.call(2, "who")
            assert "result" in await line.read()


# Questions.


async def test_a_question_is_answered_only_under_the_id_of_its_connection(door: Door) -> None:
    """Its number alone, another connection's mark, and an answer that comes twice are dropped."""
    async with door.line() as one, door.line() as other:
        await one.call(1, "ask")
        await other.call(1, "ask")
        asked, elsewhere = await one.read(), await other.read()
        assert asked["method"] == elsewhere["method"] == "elicitation/create"
        assert asked["id"] != elsewhere["id"]
        mark, _, number = asked["id"].rpartition(".")
        for id in (int(number), number, f".{number}", f"x.{number}", f"{mark}.\u00b2", f"{mark}.99", elsewhere["id"]):
            await one.answer(id, action="accept", content={"sure": True})
        await one.answer(asked["id"], action="decline")
        assert (await one.read())["result"]["content"][0]["text"].startswith("decline")
        await one.answer(asked["id"], action="accept", content={"sure": True})
        await other.answer(elsewhere["id"], action="accept", content={"sure": False})
        assert (await other.read())["result"]["content"][0]["text"] == "accept {'sure': False}"
        await one.call(2, "who")
        assert (await one.read())["id"] == 2


async def test_a_question_that_is_taken_back_is_named_as_it_was_asked(door: Door) -> None:
    """The client knows it only under the marked id."""
    async with door.line() as line:
        await line.call(1, "ask")
        asked = await line.read()
        await line.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        taken_back = await line.read()
        assert taken_back["method"] == "notifications/cancelled"
        assert taken_back["params"]["requestId"] == asked["id"]


# The end.


async def test_an_error_that_sounds_like_a_closed_connection_is_passed_on_while_we_run(door: Door) -> None:
    """Many servers use that number for their own errors; dropped, it would leave the agent waiting."""
    async with door.line() as line:
        await line.call(1, "closed")
        answer = await line.read()
        assert (answer["id"], answer["error"]["code"]) == (1, -32000)


async def test_a_gateway_that_stops_does_not_say_how_its_open_calls_ended(door: Door) -> None:
    """The bridge knows more: which may have run, and which can simply be asked again."""
    async with door.line() as line:
        await line.call(1, "wait")
        with anyio.fail_after(10):
            await door.server.open.wait()
        door.tasks.cancel_scope.cancel()
        await line.ended()
