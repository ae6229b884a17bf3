"""An upstream that never stops gets a fifth of the event loop at most, and one that seldom writes never waits."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
import httpx2

from hitl_mcp.limits import UPSTREAM_REST_SECONDS, UPSTREAM_TURN_SECONDS
from hitl_mcp.upstreams.pace import Pace, PacedStream, rest_seconds


def test_who_took_little_rests_not_at_all_and_nobody_for_ever() -> None:
    """Four times as long as it took, up to a second."""
    assert rest_seconds(UPSTREAM_TURN_SECONDS / 2) == 0
    assert rest_seconds(0.01) == 0.04
    assert rest_seconds(60) == UPSTREAM_REST_SECONDS


def _work(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def test_others_run_while_somebody_never_stops() -> None:
    """Code that reads on and on without waiting for anything lets the loop turn."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        pace = Pace()
        for _ in range(20):
            await pace.breathe()
            _work(UPSTREAM_TURN_SECONDS)
        tasks.cancel_scope.cancel()
    assert turns >= 5


async def test_a_turn_of_the_loop_begins_anew() -> None:
    """What was done before the loop turned counts no more: then there is no rest."""
    pace, rested = Pace(), 0.0
    for _ in range(5):
        began = time.perf_counter()
        await pace.breathe()
        rested = max(rested, time.perf_counter() - began)
        _work(UPSTREAM_TURN_SECONDS)
        await anyio.sleep(0)
        await anyio.sleep(0)
    assert rested < UPSTREAM_REST_SECONDS / 2


async def test_a_body_comes_in_small_pieces_and_whole() -> None:
    """Nothing is lost, and no piece takes long."""

    class Body(httpx2.AsyncByteStream):
        closed = False

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a" * 100_000
            yield b"b"

        async def aclose(self) -> None:
            self.closed = True

    body = Body()
    stream = PacedStream(body, Pace())
    pieces = [piece async for piece in stream]
    await stream.aclose()
    assert b"".join(pieces) == b"a" * 100_000 + b"b"
    assert max(map(len, pieces)) <= 8192
    assert body.closed
