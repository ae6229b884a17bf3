"""Calls that the policy holds: how long until people can see them, and until the agent has its answer."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
from mcp import Client

from benchmarks.calls import arguments
from benchmarks.figures import Figure
from benchmarks.site import WAIT_SECONDS

HELD_CALLS = 8
"""Held calls in one round. They start one after the other, each alone, and all wait in the same second."""

APART_SECONDS = 0.1
"""Between two starts: many times what a call takes, and eight of them end before the first answer is due."""


class Holds:
    """Times held calls from the agent's side, and follows the events as a reviewer's page does."""

    def __init__(self, gateway: Client, tool: str, control_socket: str) -> None:
        self._gateway, self._tool, self._control_socket = gateway, tool, control_socket
        self._seen_at: dict[str, float] = {}
        self._seen = Figure("held", "from the call until a reviewer's page knows of it", "ms")
        self._answered = Figure("held", f"from the call to `held`, without the wait of {WAIT_SECONDS} s", "ms")
        self.figures = [self._seen, self._answered]

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        """Note when each event arrives while this is open: only then, for every call costs a page that is open too."""
        transport = httpx2.AsyncHTTPTransport(uds=self._control_socket)
        async with (
            httpx2.AsyncClient(transport=transport, base_url="http://control", timeout=None) as http,
            http.stream("GET", "/api/events") as events,
            anyio.create_task_group() as tasks,
        ):
            ready = anyio.Event()
            tasks.start_soon(self._follow, events, ready)
            with anyio.fail_after(10):
                await ready.wait()
            yield
            tasks.cancel_scope.cancel()

    async def _follow(self, events: httpx2.Response, ready: anyio.Event) -> None:
        async for line in events.aiter_lines():
            now = time.perf_counter()
            if line == "event: ready":
                ready.set()
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if event.get("status") == "held":
                    self._seen_at.setdefault(event["call_id"], now)

    async def round(self) -> None:
        """Ask for a few held calls; the median of a round is kept."""
        async with self._following():
            await self._round()

    async def _round(self) -> None:
        seen: list[float] = []
        answered: list[float] = []

        async def ask() -> None:
            began = time.perf_counter()
            result = await self._gateway.call_tool(self._tool, arguments())
            ended = time.perf_counter()
            answer = result.structured_content or {}
            if answer.get("status") != "held":
                raise RuntimeError(f"`{self._tool}` was answered with `{answer}`: this would measure something else")
            answered.append(ended - began - WAIT_SECONDS)
            seen.append(self._seen_at[answer["call_id"]] - began)

        async with anyio.create_task_group() as tasks:
            for _ in range(HELD_CALLS):
                tasks.start_soon(ask)
                await anyio.sleep(APART_SECONDS)
        self._seen.gateway.append(statistics.median(seen) * 1000)
        self._answered.gateway.append(statistics.median(answered) * 1000)
