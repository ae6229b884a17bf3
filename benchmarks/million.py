"""A store with a million calls: whether a search over all of them delays a hold, and what a page of the queue takes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from benchmarks.figures import Figure
from benchmarks.filled import fill
from benchmarks.parts import settled_memory
from benchmarks.writers import hold
from hitl_mcp.calls import CallRecord, Status
from hitl_mcp.clock import Clock
from hitl_mcp.store import SqliteStore, open_sqlite

RECORDS = 1_000_000

NEEDLE = "a text that no call holds"

QUEUE_CALLS = 20
"""Held calls that wait all the time, older than all others: fewer than a page, so that a listing looks for more."""

QUEUE_PAGES = 10
"""Pages of the queue that are read in a round."""

HOLDS_FOR_ONE = 10
"""Holds in a round for each call that is asked for: one in a hundred is wanted, several times."""

LIMIT_SECONDS = 240
"""No round begins after this; a search over a million calls takes seconds, and a round waits for its end."""


class Million:
    """Holds alone and beside searches, in turns."""

    def __init__(self, store: SqliteStore, path: Path, records: int, queue: Sequence[str]) -> None:
        self._store, self._path, self._queued = store, path, set(queue)
        group = f"{records:,} records"
        self._median = Figure(group, "a hold beside a search against alone, median", "ms")
        self._slowest = Figure(group, "a hold beside a search against alone, p99", "ms")
        self._search = Figure(group, "a search that finds nothing", "s")
        self._queue = Figure(group, "the queue beside a search against alone", "ms")
        self._size = Figure(group, "size on disk", "MiB")

    @property
    def figures(self) -> list[Figure]:
        return [self._median, self._slowest, self._search, self._queue, self._size]

    async def warm_up(self) -> None:
        """See that a search finds what is there, and not what is not."""
        record = await hold(self._store)
        found = await self._store.list_calls(None, text=record.id)
        if [one.id for one in found.calls] != [record.id]:
            raise RuntimeError("a search does not find a call by its id: this would measure something else")
        await self._store.withdraw(record.id, record.call.agent)
        await self._searched()
        self._size.gateway.append(sum(file.stat().st_size for file in self._path.parent.glob("calls.db*")) / 2**20)

    async def round(self, holds: int, *, alone_first: bool) -> None:
        """Hold so many calls alone and as many beside searches."""
        for beside in (False, True) if alone_first else (True, False):
            side = "gateway" if beside else "direct"
            if beside:
                async with self._searches():
                    taken, pages = await self._turn(holds)
            else:
                taken, pages = await self._turn(holds)
            self._median.of(side).append(statistics.median(taken) * 1000)
            self._slowest.of(side).append(_p99(taken) * 1000)
            self._queue.of(side).append(statistics.median(pages) * 1000)

    async def _turn(self, holds: int) -> tuple[list[float], list[float]]:
        """Seconds of each hold, and of each page of the queue; the calls are taken back, so that the queue stays."""
        taken: list[float] = []
        held: list[CallRecord] = []
        for _ in range(holds):
            began = time.perf_counter()
            held.append(await hold(self._store))
            taken.append(time.perf_counter() - began)
        async with anyio.create_task_group() as tasks:
            for record in held:
                tasks.start_soon(self._store.withdraw, record.id, record.call.agent)
        return taken, [await self._page() for _ in range(QUEUE_PAGES)]

    async def _page(self) -> float:
        began = time.perf_counter()
        page = await self._store.list_calls({Status.HELD})
        seconds = time.perf_counter() - began
        if self._queued != {record.id for record in page.calls}:
            raise RuntimeError("the queue is not what was held: this would measure something else")
        return seconds

    @asynccontextmanager
    async def _searches(self) -> AsyncIterator[None]:
        """One search after the other while this is open. The last one ends, or it would go on beside the next turn."""
        wanted, began = True, anyio.Event()

        async def search() -> None:
            while wanted:
                began.set()
                self._search.gateway.append(await self._searched())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(search)
            await began.wait()
            try:
                yield
            finally:
                wanted = False

    async def _searched(self) -> float:
        began = time.perf_counter()
        page = await self._store.list_calls(None, text=NEEDLE)
        if page.calls:
            raise RuntimeError(f"a call holds `{NEEDLE}`: this would measure something else")
        return time.perf_counter() - began


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[-1] if len(values) > 1 else values[0]


async def measure(rounds: int, calls: int, records: int) -> list[Figure]:
    """Make the database, measure, and remove it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calls.db")
        async with open_sqlite(path, Clock()) as store:
            queue = [(await hold(store)).id for _ in range(QUEUE_CALLS)]
        await anyio.to_thread.run_sync(fill, path, records)
        async with open_sqlite(path, Clock()) as store:
            million = Million(store, path, records, queue)
            await million.warm_up()
            with settled_memory():
                ends_at = time.monotonic() + LIMIT_SECONDS
                for number in range(rounds):
                    if time.monotonic() > ends_at:
                        break
                    await million.round(calls * HOLDS_FOR_ONE, alone_first=number % 2 == 0)
        return million.figures
