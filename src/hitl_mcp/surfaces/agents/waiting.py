"""Waiting for an answer, with signs of life: what a client sees while people decide. It changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio

from hitl_mcp.calls import WAITING, CallRecord, Outcome, Status
from hitl_mcp.store import SqliteStore

TICK_SECONDS = 5.0
"""Between two signs of life: some clients give up on a silent server after 30 s or less."""


Report = Callable[[float, float | None, str | None], Awaitable[None]]
"""Tells the client how far its request is; nothing is sent to a client that asked for no progress."""


class Ticker:
    """Sends a request's progress. Ticks of a wait only ever grow, as the protocol asks."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._ticks = 0

    async def tick(self, message: str) -> None:
        """Say that we are still waiting, and for what. Nothing is sent to a client that asked for no progress."""
        self._ticks += 1
        await self._report(self._ticks, None, message)

    async def upstream_progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Pass the upstream's own progress on as it is."""
        await self._report(progress, total, message)

    async def upstream_said(self, progress: float, total: float | None, message: str | None) -> None:
        """Pass the upstream's progress on after ticks of a wait: its numbers could fall back, its words still help."""
        share = f"{progress:g}" + (f" of {total:g}" if total else "")
        await self.tick(f"{message} ({share})" if message else share)


async def wait_for_answer(store: SqliteStore, record: CallRecord, seconds: float, ticker: Ticker) -> CallRecord:
    """The call once it is settled, or as it stands when the time is over. Being cancelled changes no record."""
    deadline = anyio.current_time() + seconds
    while record.status in WAITING and not record.awaits_its_agent and (left := deadline - anyio.current_time()) > 0:
        await ticker.tick(_waits_for(record))
        record = await store.wait_for_change(record.id, record.version, min(TICK_SECONDS, left))
    return record


def finished_record(record: CallRecord, outcome: Outcome | None) -> CallRecord:
    """An allowed call's record with its outcome, without reading the store again."""
    if outcome is None:
        return record
    return replace(record, status=outcome.status, outcome=outcome)


def _waits_for(record: CallRecord) -> str:
    doing = {Status.HELD: "held, waiting for people", Status.APPROVED: "approved, starting", Status.RUNNING: "running"}
    return f"{record.id}: {doing[record.status]}"
