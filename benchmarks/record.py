"""What recording costs: a call through gate, store and executor against the same call sent to the same upstream.

Unrecorded is what the executor does in the middle of a recorded call, and nothing around it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import anyio

from benchmarks.calls import TURN_CALLS, WARM_UP_CALLS, arguments
from benchmarks.figures import Figure
from benchmarks.parts import Parts, parts, settled_memory
from benchmarks.site import AGENT
from benchmarks.writers import Writers, writers
from hitl_mcp.calls import Status
from hitl_mcp.canonical import canonical_text
from hitl_mcp.gate import AgentCall
from hitl_mcp.upstreams import Send

AT_ONCE = (32, 256)

MOST_EACH = 3
"""Calls of each caller in a round of many at once, so that beginning and end weigh little; fewer in a small run."""

LIMIT_SECONDS = 120
"""No round begins after this, so that a slow machine measures less and does not take longer."""

UNRECORDED = "unrecorded"

LEVELS = {"recorded": "local__note", "recorded on disk": "local__pay"}
"""The tool whose rule records at this level (see `parts.POLICY`)."""

Ask = Callable[[], Awaitable[None]]


class Recorded:
    """Calls at both levels and unrecorded, one at a time and many at once, in turns."""

    def __init__(self, running: Parts) -> None:
        self._running = running
        self._numbers = count()
        self._ways: dict[str, Ask] = {UNRECORDED: self._unrecorded}
        self._ways |= {level: self._recorder(tool) for level, tool in LEVELS.items()}
        self._one = {
            level: Figure("record", f"a call {level} against unrecorded, one at a time", "ms") for level in LEVELS
        }
        self._many = {
            (level, callers): Figure("record", f"{level} against unrecorded, {callers} at once", "calls/s")
            for callers in AT_ONCE
            for level in LEVELS
        }

    @property
    def figures(self) -> list[Figure]:
        return [*self._one.values(), *self._many.values()]

    async def warm_up(self) -> None:
        """Make the first calls each way."""
        for _ in range(WARM_UP_CALLS):
            for ask in self._ways.values():
                await ask()

    async def round(self, calls: int, turn: int) -> None:
        """Measure each way once; which goes first moves on with each round."""
        names = list(self._ways)
        order = names[turn % len(names) :] + names[: turn % len(names)]
        taken: dict[str, list[float]] = {name: [] for name in order}
        for left in range(calls, 0, -TURN_CALLS):
            for name in order:
                taken[name] += await _seconds(self._ways[name], min(left, TURN_CALLS))
        for level, figure in self._one.items():
            figure.direct.append(statistics.median(taken[UNRECORDED]) * 1000)
            figure.gateway.append(statistics.median(taken[level]) * 1000)
        each = max(1, min(MOST_EACH, calls // TURN_CALLS))
        for callers in AT_ONCE:
            rates = {name: await _calls_per_second(self._ways[name], callers, each) for name in order}
            for level in LEVELS:
                figure = self._many[level, callers]
                figure.direct.append(rates[UNRECORDED])
                figure.gateway.append(rates[level])

    async def _unrecorded(self) -> None:
        send = Send(f"bench-{next(self._numbers)}", "note", canonical_text(arguments()))
        result = await self._running.upstream.send(send)
        if result.get("isError"):
            raise RuntimeError(f"`note` was answered with `{result}`: this would measure something else")

    def _recorder(self, tool: str) -> Ask:
        async def ask() -> None:
            run = await self._running.gate.ask(AgentCall(AGENT, "bench", tool, arguments(), {}))
            await run.finished.wait()
            if run.outcome is None or run.outcome.status is not Status.SUCCEEDED:
                raise RuntimeError(f"`{tool}` came to `{run.outcome}`: this would measure something else")

        return ask


async def _seconds(ask: Ask, calls: int) -> list[float]:
    taken: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        await ask()
        taken.append(time.perf_counter() - began)
    return taken


async def _calls_per_second(ask: Ask, callers: int, each: int) -> float:
    """Each caller makes its next call as soon as its last is answered."""
    left = iter(range(callers * each))

    async def caller(left: Iterator[int]) -> None:
        for _ in left:
            await ask()

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(caller, left)
    return callers * each / (time.perf_counter() - began)


async def measure(rounds: int, calls: int) -> list[Figure]:
    """Recorded calls against unrecorded ones, and flushed writes at once against one alone."""
    with tempfile.TemporaryDirectory() as folder:
        async with parts(Path(folder)) as running, writers(Path(folder)) as writing:
            recorded = Recorded(running)
            await recorded.warm_up()
            with settled_memory():
                await _rounds(recorded, writing, rounds, calls)
        return [*recorded.figures, *writing.figures]


async def _rounds(recorded: Recorded, writing: Writers, rounds: int, calls: int) -> None:
    ends_at = time.monotonic() + LIMIT_SECONDS
    for number in range(rounds):
        if time.monotonic() > ends_at:
            break
        await recorded.round(calls, number)
        await writing.round(calls, one_first=number % 2 == 0)
