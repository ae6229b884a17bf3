"""How much of the event loop one upstream may take: a moment at a time, and little of it where it never stops.

Whatever an upstream writes is read on the loop that all others share. A flood of small messages would keep it busy as
long as the flood lasts, and every other call would wait.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore2
import httpx2

from hitl_mcp.limits import UPSTREAM_REST_SECONDS, UPSTREAM_TURN_SECONDS

__all__ = ["Pace", "PacedNetwork", "PacedStream", "rest_seconds", "resting"]

_RESTS = 4
"""How many times as long as it took an upstream rests: it gets at most a fifth of the loop."""

_PIECE_BYTES = 8 * 1024
"""What is handed on at a time: reading so much of the smallest events takes a few milliseconds."""


def rest_seconds(taken_seconds: float) -> float:
    """How long an upstream that took so much of one turn of the loop is left unread; 0 where that was little."""
    if taken_seconds < UPSTREAM_TURN_SECONDS:
        return 0
    return min(_RESTS * taken_seconds, UPSTREAM_REST_SECONDS)


@asynccontextmanager
async def resting() -> AsyncIterator[None]:
    """Work on one upstream's answer, then leave the loop to others for as long as is due to them.

    No cancel comes in between: an answer that is there counts.
    """
    began = time.perf_counter()
    yield
    rest = rest_seconds(time.perf_counter() - began)
    if rest > 0:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(rest)


class Pace:
    """Counts what reading one upstream takes between two turns of the loop, over all its connections.

    For code that may never leave the loop by itself: it asks before it reads and after.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._rests_until = 0.0

    async def breathe(self) -> None:
        """Go on at once, unless this turn of the loop took long already, or the upstream rests."""
        now = time.perf_counter()
        if self._began is None:
            self._began = now
            asyncio.get_running_loop().call_soon(self._turned)
        elif (rest := rest_seconds(now - self._began)) > 0:
            self._began, self._rests_until = None, now + rest
        # Whoever wakes first reads, and may bring about a rest for those that wake after it.
        while (left := self._rests_until - time.perf_counter()) > 0:  # noqa: ASYNC110 - it is time that is waited for
            await asyncio.sleep(left)

    def _turned(self) -> None:
        self._began = None


class PacedStream(httpx2.AsyncByteStream):
    """An answer's body in small pieces, none of them before there is time for it."""

    def __init__(self, body: httpx2.AsyncByteStream, pace: Pace) -> None:
        self._body = body
        self._pace = pace

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            for start in range(0, len(piece), _PIECE_BYTES):
                await self._pace.breathe()
                yield piece[start : start + _PIECE_BYTES]
                await self._pace.breathe()

    async def aclose(self) -> None:
        await self._body.aclose()


class PacedNetwork(httpcore2.AnyIOBackend):
    """Connections that are read at our pace from their first byte: an endless head of an answer floods as well."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        connection = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _PacedConnection(connection, self._pace)


class _PacedConnection(httpcore2.AsyncNetworkStream):
    def __init__(self, connection: httpcore2.AsyncNetworkStream, pace: Pace) -> None:
        self._connection = connection
        self._pace = pace

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await self._pace.breathe()  # what came before may have taken long
        data = await self._connection.read(min(max_bytes, _PIECE_BYTES), timeout)
        await self._pace.breathe()  # what is done with it counts from here
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._connection.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        connection = await self._connection.start_tls(ssl_context, server_hostname, timeout)
        return _PacedConnection(connection, self._pace)

    def get_extra_info(self, info: str) -> Any:
        return self._connection.get_extra_info(info)
