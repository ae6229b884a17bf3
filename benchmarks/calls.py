"""Calls that the policy allows: one at a time and many at once, direct and through the gateway, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import anyio
from mcp import Client

from benchmarks.figures import Figure
from benchmarks.processes import cpu_seconds

AT_ONCE = 32

TURN_CALLS = 10
"""Calls to one side before the other's turn: a busy machine changes its speed within fractions of a second."""

WARM_UP_CALLS = 20
"""Calls before the first round: imports that happen late, caches, connections."""

BODY = "The customer asked for two desks and a lamp; the offer stands until the end of the month. " * 2

_numbers = count(1)


def arguments() -> dict[str, object]:
    """What a call carries: some 300 bytes, never the same twice."""
    return {"title": f"note {next(_numbers)}", "body": BODY, "amount": 120.5, "tags": ["offer", "desk"]}


SideName = Literal["direct", "plain", "gateway"]


@dataclass(frozen=True)
class Side:
    """One of the ways to the upstream that are compared: its client, and the processes in between."""

    name: SideName
    client: Client
    tool: str = "note"
    pids: Mapping[str, int] = field(default_factory=dict)


class Front:
    """One way in, with a client of each kind."""

    def __init__(self, name: str, *sides: Side) -> None:
        self._sides = sides
        self._one = Figure(name, "a call, one at a time", "ms")
        self._many = Figure(name, f"{AT_ONCE} at once", "calls/s")
        names = dict.fromkeys(who for side in sides for who in side.pids)
        self._cpu = {who: Figure(name, f"processor time of the {who} a call", "ms") for who in names}
        self.figures = [self._one, self._many, *self._cpu.values()]

    async def warm_up(self) -> None:
        """Make the first calls, and see that they are answered as they should be."""
        for _ in range(WARM_UP_CALLS):
            for side in self._sides:
                await _call(side.client, side.tool)

    async def round(self, calls: int, *, direct_first: bool) -> None:
        """Measure each side once, in turns of a few calls, so that what slows the machine for a while slows all."""
        order = self._sides if direct_first else self._sides[::-1]
        taken: dict[str, list[float]] = {side.name: [] for side in order}
        used = {side.name: _ProcessorTime(side.pids) for side in order}
        for left in range(calls, 0, -TURN_CALLS):
            for side in order:
                used[side.name].start()
                taken[side.name] += await _seconds(side, min(left, TURN_CALLS))
                used[side.name].stop()
        for side in order:
            self._one.of(side.name).append(statistics.median(taken[side.name]) * 1000)
            for who, seconds in used[side.name].seconds.items():
                self._cpu[who].of(side.name).append(seconds / calls * 1000)
        for side in order:
            self._many.of(side.name).append(await _calls_per_second(side.client, side.tool, calls * 2))


async def _seconds(side: Side, calls: int) -> list[float]:
    taken: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        await _call(side.client, side.tool)
        taken.append(time.perf_counter() - began)
    return taken


class _ProcessorTime:
    """What the gateway's processes used in the turns that count. Less noisy than a clock on a busy machine."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def start(self) -> None:
        self._before = self._now()

    def stop(self) -> None:
        for who, seconds in self._now().items():
            self.seconds[who] = self.seconds.get(who, 0) + seconds - self._before[who]

    def _now(self) -> dict[str, float]:
        used = {who: cpu_seconds(pid) for who, pid in self._pids.items()}
        return {who: seconds for who, seconds in used.items() if seconds is not None}


async def _call(client: Client, tool: str) -> None:
    result = await client.call_tool(tool, arguments())
    text = getattr(result.content[0], "text", "")
    if result.is_error or not text.startswith("noted: "):
        raise RuntimeError(f"`{tool}` was answered with `{text}`: this would measure something else")


async def _calls_per_second(client: Client, tool: str, calls: int) -> float:
    """As many callers as run at once; each makes its next call as soon as its last is answered."""
    total = max(calls, AT_ONCE)
    left = iter(range(total))

    async def caller(left: Iterator[int]) -> None:
        for _ in left:
            await _call(client, tool)

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(caller, left)
    return total / (time.perf_counter() - began)
