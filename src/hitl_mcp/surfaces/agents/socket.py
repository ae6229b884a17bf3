"""`agent.sock`: each connection is one agent, speaking newline-delimited JSON-RPC after a first line of ours.

The SDK's loop serves it (see `eras.py`) on streams of our own: the reader caps, parses strictly and answers what it
refuses; the writer marks every question we ask, so that a late answer never meets another question.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup
from mcp.shared.message import SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

from hitl_mcp.limits import CLIENT_LINE_BYTES
from hitl_mcp.surfaces.agents.asked import Caller
from hitl_mcp.surfaces.agents.eras import serve_agent
from hitl_mcp.surfaces.agents.frames import FrameRefused, read_frame, too_long
from hitl_mcp.surfaces.agents.server import AgentServer

logger = logging.getLogger(__name__)

HELLO_SECONDS = 5
"""How long a connection may take for its first line: a bridge writes it at once."""

AGENT_NAME_CHARACTERS = 40
"""As in the config (`agents:`)."""


class _Reader:
    """The SDK's read stream over a socket: whole frames, parsed strictly; what is refused is answered here."""

    def __init__(self, stream: asyncio.StreamReader, writer: _Writer) -> None:
        self._stream = stream
        self._writer = writer
        self._read_before: deque[SessionMessage | Exception] = deque()

    def put_back(self, messages: Sequence[SessionMessage | Exception]) -> None:
        """Have these read again, in their order, before anything else."""
        self._read_before.extendleft(reversed(messages))

    async def receive(self) -> SessionMessage | Exception:
        if self._read_before:
            return self._read_before.popleft()
        while True:
            try:
                raw = await self._line()
            except (asyncio.IncompleteReadError, ConnectionError):
                raise anyio.EndOfStream from None
            if raw is None:
                await self._writer.send_raw(too_long().answer)
                continue
            if not raw.strip():
                continue
            message = await self._message(raw)
            if message is not None:
                return message

    async def _message(self, raw: bytes) -> SessionMessage | None:
        try:
            message = read_frame(raw)
        except FrameRefused as refused:
            await self._writer.send_raw(refused.answer)
            return None
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            asked = self._writer.question_of(message.id)
            if asked is None:
                logger.warning("dropped an answer to a question this connection never asked")
                return None
            message = message.model_copy(update={"id": asked})
        return SessionMessage(message)

    async def _line(self) -> bytes | None:
        """The next line without its end, or None for one that was too long; it is skipped to its end."""
        try:
            return (await self._stream.readuntil(b"\n")).removesuffix(b"\n")
        except asyncio.LimitOverrunError as overrun:
            await self._stream.readexactly(overrun.consumed)
        while True:
            try:
                await self._stream.readuntil(b"\n")
                return None
            except asyncio.LimitOverrunError as overrun:
                await self._stream.readexactly(overrun.consumed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self._stream.feed_eof()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class _Writer:
    """The SDK's write stream over a socket. Ids of our own questions carry a nonce of this connection.

    The SDK numbers its questions from 1 in every connection: without the nonce, an answer that a client sends late,
    after the gateway was started again, would answer whatever has that number now.
    """

    def __init__(self, stream: asyncio.StreamWriter, is_stopping: Callable[[], bool]) -> None:
        self._stream = stream
        self._is_stopping = is_stopping
        self._nonce = secrets.token_urlsafe(8)
        self.written: dict[Any, Callable[[], None]] = {}

    def question_of(self, marked: object) -> int | None:
        """Our own id of a question, from the marked one that the client sent back; None if it is not ours."""
        nonce, _, number = marked.rpartition(".") if isinstance(marked, str) else ("", "", "")
        return int(number) if nonce == self._nonce and number.isdecimal() else None

    async def send(self, item: SessionMessage) -> None:
        message = item.message
        if isinstance(message, JSONRPCError) and message.error.code == CONNECTION_CLOSED and self._is_stopping():
            # The SDK says this of every request that is open when we stop. Without it the bridge, which knows more,
            # tells the agent that the call may have run, and sends on what only reads. While we run it is the
            # relayed word of an upstream: many use the same number.
            return
        if isinstance(message, JSONRPCRequest):
            message = message.model_copy(update={"id": self._marked(message.id)})
        if isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            params = message.params or {}
            message = message.model_copy(update={"params": {**params, "requestId": self._marked(params["requestId"])}})
        await self._write(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        if isinstance(message, JSONRPCResponse):
            written = self.written.pop(message.id, None)
            if written is not None:
                written()

    def _marked(self, question: object) -> str:
        return f"{self._nonce}.{question}"

    async def send_raw(self, message: dict[str, Any]) -> None:
        await self._write(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))

    async def _write(self, frame: bytes) -> None:
        try:
            self._stream.write(frame + b"\n")  # whole, at once: no other frame can come in between
            await self._stream.drain()
        except (ConnectionError, RuntimeError) as error:
            raise anyio.BrokenResourceError from error

    async def aclose(self) -> None:
        self._stream.close()
        with suppress(ConnectionError, TimeoutError):
            await self._stream.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class AgentSocket:
    """Accepts agents on an already bound Unix socket."""

    def __init__(self, server: AgentServer, config: Path, uid: int) -> None:
        self._server = server
        self._config = str(config)
        self._uid = uid
        self._is_stopping: Callable[[], bool] = lambda: False

    async def serve(self, listener: socket.socket, tasks: TaskGroup) -> None:
        """Accept connections for ever; each is served in `tasks` until it ends."""

        self._is_stopping = lambda: tasks.cancel_scope.cancel_called

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.start_soon(self._connection, reader, writer)

        # As much as the bridge takes from a client: what is over our cap is refused under its id, if it can be read.
        listening = await asyncio.start_unix_server(accepted, sock=listener, limit=CLIENT_LINE_BYTES + 1)
        try:
            await anyio.sleep_forever()
        finally:
            listening.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            caller = await self._hello(reader, writer)
            if caller is not None:
                await self._serve(caller, reader, writer)
        except Exception:
            # One connection's fault must not end the gateway.
            logger.exception("an agent's connection failed")
        finally:
            writer.close()

    async def _serve(self, caller: Caller, reader: asyncio.StreamReader, stream: asyncio.StreamWriter) -> None:
        writer = _Writer(stream, self._is_stopping)
        caller.when_written = writer.written.__setitem__
        with self._server.connected(caller):
            await serve_agent(self._server, caller, _Reader(reader, writer), writer)

    async def _hello(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Caller | None:
        """Read the first line and answer it; None where the connection is refused."""
        refusal: str | None = None
        caller: Caller | None = None
        try:
            with anyio.fail_after(HELLO_SECONDS):
                hello = json.loads(await reader.readuntil(b"\n"))
            caller = self._caller(hello, writer)
        except (ValueError, TypeError, KeyError) as error:
            refusal = str(error)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            return None
        answer = {"hitl": 1, "ok": refusal is None, **({"error": refusal} if refusal else {})}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        return caller

    def _caller(self, hello: dict[str, Any], writer: asyncio.StreamWriter) -> Caller:
        if not isinstance(hello, dict) or hello.get("hitl") != 1:
            raise ValueError("the first line is not one of hitl-mcp's: is the bridge another version than the gateway")
        if hello.get("config") != self._config:
            raise ValueError(f"this gateway serves another config than `{hello.get('config')}`")
        name, conversation = hello.get("agent"), hello.get("conversation")
        if not isinstance(name, str) or not 0 < len(name) <= AGENT_NAME_CHARACTERS or not name.isprintable():
            raise ValueError("the agent has no usable name")
        if not isinstance(conversation, str) or len(conversation) < 16:
            raise ValueError("the bridge sent no conversation secret")
        self._check_peer(writer)
        # The secret itself is never stored: whoever reads the record must not be able to continue a conversation.
        return Caller(agent=name, conversation=sha256(conversation.encode()).hexdigest()[:16])

    def _check_peer(self, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket")
        if not hasattr(socket, "SO_PEERCRED"):
            return  # the directory (0700) and the socket (0600) already keep other users out
        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        if uid not in (self._uid, 0):
            raise ValueError(f"the agent runs as user {uid}, not as the gateway's user {self._uid}")
