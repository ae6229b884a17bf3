"""Several writes that become one commit, each time: the writer is held up until all of them wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from hitl_mcp.store.writer import Transaction, Writer

Work = Callable[[], Coroutine[Any, Any, None]]


async def in_one_commit(writer: Writer, works: Sequence[Work]) -> None:
    """Do all of these, each of which writes once before it waits for anything, in one commit."""
    loop, begun, gate = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold_up(txn: Transaction) -> None:
        loop.call_soon_threadsafe(begun.set)
        gate.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(writer.write, hold_up, durable=False))
        await begun.wait()
        for work in works:
            tasks.start_soon(work)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        gate.set()
