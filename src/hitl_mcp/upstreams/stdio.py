"""A wire over the pipes of a child process: newline-delimited JSON-RPC, straight on asyncio's pipes.

Nothing that a child writes reaches our stdout: what it says on stderr, and garbage on its stdout, goes to our log.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import anyio
from mcp.shared.dispatcher import CallOptions

from hitl_mcp.errors import NotSent, OutcomeUnknown, UpstreamError
from hitl_mcp.limits import (
    UNASKED_BYTES,
    UPSTREAM_LOG_CHARACTERS,
    UPSTREAM_MESSAGE_BYTES,
    UPSTREAM_STOP_SECONDS,
)
from hitl_mcp.upstreams import frames
from hitl_mcp.upstreams.launch import Launch
from hitl_mcp.upstreams.ledger import Ledger
from hitl_mcp.upstreams.pace import rest_seconds
from hitl_mcp.upstreams.wire import Exchange, Wire, WireEvents

__all__ = ["Lines", "StdioWire", "open_stdio"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2

_LAST_WORDS_SECONDS = 1.0
"""How long a child's death may take after it closed a pipe, or its output after its death: then it counts as lost."""

_REPLY_BACKLOG_BYTES = 1024 * 1024
"""Answers waiting for a child that asks but does not read; beyond this they are dropped."""

_KEPT_BYTES = 4096
"""What is kept of each end of a line that is too long, to tell whose answer it was."""

_LAUNCHER_SECONDS = 6
"""What a launcher gets beside the program's own time: it gives up killing after 5 s, and killing it frees the rest."""

_GROUP_POLL_SECONDS = 0.02
"""How often we look whether a process group is gone; nothing tells us."""


@asynccontextmanager
async def open_stdio(launch: Launch, name: str, ledger: Ledger, events: WireEvents) -> AsyncIterator[StdioWire]:
    """Start the child in a session of its own; leaving the context stops it and whatever it started.

    Raises:
        UpstreamError: The child cannot be started.
    """
    loop = asyncio.get_running_loop()
    wire = StdioWire(name, ledger, events)
    try:
        transport, _ = await loop.subprocess_exec(
            lambda: _Pipes(wire),
            *launch.argv,
            env=dict(launch.environment),
            cwd=launch.directory,
            start_new_session=True,
        )
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise UpstreamError(f"the command `{launch.command}` cannot be started: {why}") from None
    except ValueError:
        why = "its arguments or environment hold a NUL character"
        raise UpstreamError(f"the command `{launch.command}` cannot be started: {why}") from None
    try:
        yield wire
    finally:
        with anyio.CancelScope(shield=True):
            await wire.stop(_LAUNCHER_SECONDS if launch.ends_itself else 0)
        transport.close()


class StdioWire(Wire):
    """JSON-RPC over a child's stdin and stdout."""

    def __init__(self, name: str, ledger: Ledger, events: WireEvents) -> None:
        super().__init__(name, ledger, events)
        self._child: asyncio.SubprocessTransport | None = None
        self._exited = asyncio.Event()
        self._is_lost = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._output = Lines(UPSTREAM_MESSAGE_BYTES)
        self._errors = Lines(UPSTREAM_LOG_CHARACTERS)
        self._lost: str | None = None
        self._ended_how: str | None = None
        self._open_ends = {"stdout", "process"}

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        with suppress(NotSent):
            self._write(frames.notification(method, params))

    async def cancel(self, request_id: str) -> None:
        self._call_off(request_id)
        await self.notify("notifications/cancelled", {"requestId": request_id, "reason": "the agent cancelled it"})

    async def stop(self, more_seconds: float = 0) -> None:
        """Close the child's input, then SIGTERM its group, then SIGKILL, with time to go in between.

        A launcher passes SIGTERM on and kills what is left itself, and gets `more_seconds` for it.
        """
        self._end("it is being stopped")
        if self._child is None:
            return
        self._stdin().close()
        with anyio.move_on_after(UPSTREAM_STOP_SECONDS):
            await self._exited.wait()
        # Also where the child is gone: what it started may not be.
        for last_word in (signal.SIGTERM, signal.SIGKILL):
            if not _signalled(self._child.get_pid(), last_word):
                break
            with anyio.move_on_after(UPSTREAM_STOP_SECONDS + more_seconds):
                await self._group_gone(self._child.get_pid())

    async def _group_gone(self, group: int) -> None:
        while _signalled(group, 0):  # noqa: ASYNC110 - nothing tells when a group is gone
            await asyncio.sleep(_GROUP_POLL_SECONDS)

    async def _transmit(self, exchange: Exchange, frame: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        if not self._writable.is_set():
            await self._writable.wait()
        if self._lost is None and self._child is not None and self._stdin().is_closing():
            await self._last_words()
        self._write(frame)
        if self._stdin().is_closing():
            # The write itself found the pipe broken, and nothing else stood before it: not a byte went in.
            self._ledger.held_back(exchange.id)
            await self._last_words()
            raise self._gone(self._lost or "it closed its input")
        exchange.has_left = True
        return await exchange.answered

    def _abandon(self, exchange: Exchange) -> None:
        if exchange.has_left and not exchange.is_over:
            why = {"requestId": exchange.id, "reason": "nobody waits for the answer any more"}
            with suppress(NotSent):
                self._write(frames.notification("notifications/cancelled", why))

    def _reply(self, frame: bytes, *, is_awaited: bool = False) -> None:
        if self._child is not None and self._stdin().get_write_buffer_size() < _REPLY_BACKLOG_BYTES:
            with suppress(NotSent):
                self._write(frame)

    def _write(self, frame: bytes) -> None:
        """Hand one line to the child's stdin, as the ledger has seen it.

        Raises:
            NotSent: The child is gone, or the ledger refuses.
        """
        if self._lost is not None or self._child is None or self._stdin().is_closing():
            raise self._gone(self._lost or "its input is closed")
        line = frame + b"\n"
        self._ledger.release(line)
        self._stdin().write(line)

    def _pipe(self, fd: int) -> asyncio.ReadTransport:
        return cast(asyncio.ReadTransport, cast(asyncio.SubprocessTransport, self._child).get_pipe_transport(fd))

    def _stdin(self) -> asyncio.WriteTransport:
        return cast(asyncio.WriteTransport, cast(asyncio.SubprocessTransport, self._child).get_pipe_transport(_STDIN))

    # What the pipes tell.

    def started(self, child: asyncio.SubprocessTransport) -> None:
        self._child = child

    def may_write(self, now: bool) -> None:
        if now:
            self._writable.set()
        else:
            self._writable.clear()

    def wrote(self, fd: int, data: bytes) -> None:
        self._read(fd, (self._output if fd == _STDOUT else self._errors).cut(data))

    def _read(self, fd: int, lines: Iterator[tuple[bytes, bool]]) -> bool:
        """Take lines as long as there is time; returns whether all were taken, and else goes on with them later."""
        began = time.perf_counter()
        for line, is_whole in lines:
            self._line(fd, line, is_whole)
            rest = rest_seconds(time.perf_counter() - began)
            if rest > 0:
                self._pipe(fd).pause_reading()
                asyncio.get_running_loop().call_later(rest, self._read_on, fd, lines)
                return False
        return True

    def _read_on(self, fd: int, lines: Iterator[tuple[bytes, bool]]) -> None:
        if self._lost is None and self._read(fd, lines):
            self._pipe(fd).resume_reading()

    def _line(self, fd: int, line: bytes, is_whole: bool) -> None:
        if fd == _STDERR:
            self._noise.said(line, is_whole)
        elif is_whole:
            self._take(line)
        else:
            self._skip(line, f"a line of more than {UPSTREAM_MESSAGE_BYTES} bytes")

    def closed(self, fd: int) -> None:
        if fd == _STDIN:
            self._lose_soon("it closed its input")
        elif fd == _STDOUT:
            self._open_ends.discard("stdout")
            self._lose_soon("it closed its output")

    def exited(self, status: int | None) -> None:
        self._exited.set()
        self._open_ends.discard("process")
        self._ended_how = _how_it_ended(status)
        self._lose_soon(self._ended_how)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        if len(line) > UNASKED_BYTES and self._awaits(frames.ids_in(line)) is None:
            self._skip(line, f"more than {UNASKED_BYTES} bytes that nobody asked for")
            return
        try:
            message = frames.parse(line)
        except frames.Garbage as error:
            self._skip(line, str(error))
        else:
            self._received(message)

    def _skip(self, line: bytes, why: str) -> None:
        """Log what cannot be read; if it was an answer, whoever waits for it learns that it is unusable."""
        self._noise.skipped(line, f"a line was skipped, {why}")
        answered = self._awaits(frames.ids_in(line))
        exchange = self._awaited(answered) if answered is not None else None
        if exchange is not None:
            exchange.fail(self._unusable(why))

    async def _last_words(self) -> None:
        """Wait a moment for the reason: how a child ended says more than that its input is closed."""
        with anyio.move_on_after(2 * _LAST_WORDS_SECONDS):
            await self._is_lost.wait()

    def _lose_soon(self, reason: str) -> None:
        """The child is dying: give its last output, or its exit status, a moment to arrive."""
        if self._open_ends:
            asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self._lose, reason)
        else:
            self._lose(reason)

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._events.lost(self._ended_how or reason)
            self._end(self._ended_how or reason)
            self._is_lost.set()

    def _end(self, reason: str) -> None:
        """Nothing leaves or arrives any more."""
        if self._lost is not None:
            return
        self._lost = reason
        self._is_open = False
        self._late.clear()
        self._writable.set()
        for exchange in tuple(self._exchanges.values()):
            exchange.fail(OutcomeUnknown(f"upstream `{self.name}` was lost before it answered: {reason}"))


class _Pipes(asyncio.SubprocessProtocol):
    """Passes on what asyncio tells about a child."""

    def __init__(self, wire: StdioWire) -> None:
        self._wire = wire
        self._child: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._child = cast(asyncio.SubprocessTransport, transport)
        self._wire.started(self._child)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._wire.wrote(fd, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._wire.closed(fd)

    def pause_writing(self) -> None:
        self._wire.may_write(False)

    def resume_writing(self) -> None:
        self._wire.may_write(True)

    def process_exited(self) -> None:
        self._wire.exited(self._child.get_returncode() if self._child is not None else None)


class Lines:
    """Cuts a stream into lines, and holds no more than `limit_bytes` of any."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def cut(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield each line that `data` completes, and whether it is whole: of one too long only its ends are left."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._keep(data[start:end])
            yield b"".join(self._pieces), self._size_bytes <= self._limit_bytes
            self._pieces, self._size_bytes = [], 0
            start = end + 1
        self._keep(data[start:])

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._size_bytes += len(piece)
        self._pieces.append(piece)
        if self._size_bytes > self._limit_bytes:
            kept = b"".join(self._pieces)
            ends = min(_KEPT_BYTES, self._limit_bytes // 2)
            self._pieces = [kept[:ends], kept[-ends:]] if len(kept) > 2 * ends else [kept]


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(-status).name}"
    return f"it exited with status {status}"


def _signalled(group: int, number: int) -> bool:
    """Send a signal to a process group, and say whether the group still exists."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # only processes that are no longer ours are left in it
        return False
    return True
