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
        """Measure both sides once, each next to the other in time."""
        for is_direct in (direct_first, not direct_first):
            if is_direct:
                self._one.direct.append(await _median_ms(self.direct, "note", calls))
            else:
                with self._processor_time(calls):
                    self._one.gateway.append(await _median_ms(self.gateway, self.gateway_tool, calls))
        for is_direct in (direct_first, not direct_first):
            if is_direct:
                self._many.direct.append(await _calls_per_second(self.direct, "note", calls))
            else:
                self._many.gateway.append(await _calls_per_second(self.gateway, self.gateway_tool, calls))

    def _processor_time(self, calls: int) -> _ProcessorTime:
        return _ProcessorTime(self.pids, self._cpu, calls)


class _ProcessorTime:
    """Notes what the gateway's processes used while it is open. Less noisy than a clock on a busy machine."""

    def __init__(self, pids: dict[str, int], figures: dict[str, Figure], calls: int) -> None:
        self._pids, self._figures, self._calls = pids, figures, calls

    def __enter__(self) -> None:
        self._before = {who: cpu_seconds(pid) for who, pid in self._pids.items()}

    def __exit__(self, *error: object) -> None:
        for who, pid in self._pids.items():
            before, after = self._before[who], cpu_seconds(pid)
            if before is not None and after is not None:
                self._figures[who].gateway.append((after - before) / self._calls * 1000)


async def _call(client: Client, tool: str) -> None:
    result = await client.call_tool(tool, arguments())
    text = getattr(result.content[0], "text", "")
    if result.is_error or not text.startswith("noted: "):
        raise RuntimeError(f"`{tool}` was answered with `{text}`: this would measure something else")


async def _median_ms(client: Client, tool: str, calls: int) -> float:
    taken: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        await _call(client, tool)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


async def _calls_per_second(client: Client, tool: str, calls: int) -> float:
    """As many callers as run at once; each makes its next call as soon as its last is answered."""
    total = max(calls * 2, AT_ONCE)
    left = iter(range(total))

    async def caller(left: Iterator[int]) -> None:
        for _ in left:
            await _call(client, tool)

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(caller, left)
    return total / (time.perf_counter() - began)
