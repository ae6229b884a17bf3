"""Calls that the policy allows: one at a time and many at once, direct and through the gateway, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

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


@dataclass
class Front:
    """One way in, with a client of each kind, and the processes that bear its calls."""

    name: str
    direct: Client
    gateway: Client
    gateway_tool: str
    pids: dict[str, int]
    figures: list[Figure] = field(init=False)

    def __post_init__(self) -> None:
        self._one = Figure(self.name, "a call, one at a time", "ms")
        self._many = Figure(self.name, f"{AT_ONCE} at once", "calls/s")
        self._cpu = {who: Figure(self.name, f"processor time of the {who} a call", "ms") for who in self.pids}
        self.figures = [self._one, self._many, *self._cpu.values()]

    async def warm_up(self) -> None:
        """Make the first calls, and see that they are answered as they should be."""
        for _ in range(WARM_UP_CALLS):
            await _call(self.direct, "note")
            await _call(self.gateway, self.gateway_tool)

    async def round(self, calls: int, *, direct_first: bool) -> None:
        """Measure both sides once, in turns of a few calls, so that what slows the machine for a while slows both."""
        order = (True, False) if direct_first else (False, True)
        taken: dict[bool, list[float]] = {True: [], False: []}
        used = _ProcessorTime(self.pids)
        for left in range(calls, 0, -TURN_CALLS):
            for is_direct in order:
                used.start()
                taken[is_direct] += await self._seconds(is_direct, min(left, TURN_CALLS))
                used.stop(count=not is_direct)
        self._one.direct.append(statistics.median(taken[True]) * 1000)
        self._one.gateway.append(statistics.median(taken[False]) * 1000)
        for who, seconds in used.seconds.items():
            self._cpu[who].gateway.append(seconds / calls * 1000)
        for is_direct in order:
            side = self._many.direct if is_direct else self._many.gateway
            side.append(await _calls_per_second(*self._side(is_direct), calls * 2))

    async def _seconds(self, is_direct: bool, calls: int) -> list[float]:
        client, tool = self._side(is_direct)
        taken: list[float] = []
        for _ in range(calls):
            began = time.perf_counter()
            await _call(client, tool)
            taken.append(time.perf_counter() - began)
        return taken

    def _side(self, is_direct: bool) -> tuple[Client, str]:
        return (self.direct, "note") if is_direct else (self.gateway, self.gateway_tool)


class _ProcessorTime:
    """What the gateway's processes used in the turns that count. Less noisy than a clock on a busy machine."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def start(self) -> None:
        self._before = self._now()

    def stop(self, *, count: bool) -> None:
        if count:
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
