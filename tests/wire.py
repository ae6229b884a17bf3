"""Both ends of a bridge, for tests: an agent client on its stdin and stdout, a gateway on `agent.sock`.

The gateway here is the other side of the wire and nothing more: it holds the lock, answers the first line and then
does what each test says. Whole stories through the real gateway stand in `tests/stories`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from hitl_mcp.state_dir import HeldLock, RunningGateway, StateDir, bind_private_socket

Message = dict[str, Any]

LINE_LIMIT_BYTES = 32 * 1024 * 1024

RUN_BRIDGE = """
import json, sys
from hitl_mcp.bridge import Bridge
from hitl_mcp.state_dir import StateDir
config, agent, command, wait_seconds = json.loads(sys.argv[1])
sys.exit(Bridge(StateDir.for_config(config), agent, command=command, wait_seconds=wait_seconds).run())
"""


class Connection:
    """One connection as the gateway has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.greeting: Message = {}

    async def read(self) -> Message:
        return dict(json.loads(await self.reader.readuntil(b"\n")))

    async def write(self, message: Message) -> None:
        self.writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        await self.writer.drain()

    async def answer(self, asked: Message, **result: Any) -> None:
        await self.write({"id": asked["id"], "result": result})

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):  # the other side may have gone first
            await self.writer.wait_closed()


class Gateway:
    """The gateway's end of the wire. Leaving it is the gateway's death: lock, socket and connections go at once."""

    def __init__(self, state: StateDir, greeting: Message | None) -> None:
        self._state = state
        self._greeting = {"hitl": 1, "ok": True} if greeting is None else greeting
        self._arrived: asyncio.Queue[Connection] = asyncio.Queue()
        self._connections: list[Connection] = []
        self._lock: HeldLock | None = None
        self._listening: asyncio.Server | None = None

    async def __aenter__(self) -> Gateway:
        self._state.ensure()
        self._lock = self._state.acquire_gateway_lock()
        paths = self._state.prepare_socket_paths()
        self._listening = await asyncio.start_unix_server(
            self._accepted, sock=bind_private_socket(paths[0]), limit=LINE_LIMIT_BYTES
        )
        self._state.write_gateway(RunningGateway(os.getpid(), "http://x", None, *paths, self._state.config))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        """End as a killed process does."""
        if self._lock is not None and self._listening is not None:
            self._lock.release()
            self._listening.close()
            self._lock = None
            for connection in self._connections:
                await connection.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._connections.append(connection)
        connection.greeting = await connection.read()
        if self._greeting:
            writer.write(json.dumps(self._greeting).encode() + b"\n")
        self._arrived.put_nowait(connection)

    async def connection(self) -> Connection:
        """The next agent that came."""
        return await self._arrived.get()


class AgentClient:
    """The agent client's end of a bridge."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.process = process
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr

    async def send_line(self, line: bytes) -> None:
        self.stdin.write(line + b"\n")
        await self.stdin.drain()

    async def send(self, method: str, id: Any = None, **params: Any) -> None:
        numbered = {} if id is None else {"id": id}
        message = {"jsonrpc": "2.0", **numbered, "method": method, **({"params": params} if params else {})}
        await self.send_line(json.dumps(message).encode())

    async def read_line(self) -> bytes:
        return (await self.stdout.readuntil(b"\n")).removesuffix(b"\n")

    async def read(self) -> Message:
        return dict(json.loads(await self.read_line()))

    async def error(self) -> str:
        """The text of the next message, which is an error."""
        return str((await self.read())["error"]["message"])

    async def ended(self) -> tuple[int, str]:
        """Close stdin and return the exit code and all of stderr; nothing more may come on stdout."""
        self.stdin.close()
        assert await self.stdout.read() == b""
        said = (await self.stderr.read()).decode()
        return await self.process.wait(), said


NO_START = [sys.executable, "-c", "print('started against the wish of the test')"]


@asynccontextmanager
async def client(
    state: StateDir, *, command: list[str] | None = None, wait_seconds: float = 30, **environment: str
) -> AsyncIterator[AgentClient]:
    """An agent client with its bridge, which is killed at the end if it still runs.

    Without a `command` no gateway is to be started: the test holds the lock that starting takes, since on a busy
    machine the moment between two gateways of a test is long enough to start a third.
    """
    starts = None
    if command is None and Path(state.config).exists():
        state.ensure()
        starts = state.start_lock(5)
    arguments = json.dumps([state.config, "builder", command or NO_START, wait_seconds])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN_BRIDGE, arguments),
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=LINE_LIMIT_BYTES,
    )
    try:
        with anyio.fail_after(10):
            yield AgentClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        if starts is not None:
            starts.release()
        assert process.stdin
        process.stdin.close()
        await process.communicate()
