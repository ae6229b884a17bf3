"""The writer: what a step that is refused leaves behind, alone and among others."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hitl_mcp.errors import HitlError, StoreError
from hitl_mcp.store.writer import Transaction, Writer

Step = Callable[[Transaction], Any]


class Refusal(HitlError):
    """A step's own no."""


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    """A writer on an empty table."""
    loop = asyncio.get_running_loop()

    def wake(answer: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(answer)

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE kept (word TEXT UNIQUE)")

    opened = Writer(tmp_path / "w.db", wake)
    opened.start(prepare)
    yield opened
    await asyncio.to_thread(opened.stop)


def keeps(word: str) -> Step:
    """A step that writes a word."""
    return lambda txn: txn.connection.execute("INSERT INTO kept VALUES (?)", (word,)).rowcount


def refuses(word: str, why: Exception) -> Step:
    """A step that writes a word and is refused then."""

    def step(txn: Transaction) -> None:
        keeps(word)(txn)
        raise why

    return step


async def kept(writer: Writer) -> list[str]:
    """The words that were committed."""

    def step(txn: Transaction) -> list[str]:
        return [row["word"] for row in txn.connection.execute("SELECT word FROM kept ORDER BY word")]

    found: list[str] = await writer.write(step, durable=False)
    return found


FAULTS = [
    (Refusal("no"), Refusal),
    (sqlite3.IntegrityError("twice"), StoreError),
    (ZeroDivisionError("a fault of ours"), StoreError),
]


@pytest.mark.parametrize(("why", "told"), FAULTS)
async def test_a_refused_step_alone_leaves_nothing_and_the_next_is_written(
    writer: Writer, why: Exception, told: type[Exception]
) -> None:
    """Its whole transaction is taken back; the writer goes on."""
    with pytest.raises(told):
        await writer.write(refuses("gone", why), durable=False)
    assert await kept(writer) == []
    assert await writer.write(keeps("stays"), durable=True) == 1
    assert await kept(writer) == ["stays"]
    assert writer.broken is None


@pytest.mark.parametrize(("why", "told"), FAULTS)
async def test_a_refused_step_among_others_takes_none_with_it(
    writer: Writer, why: Exception, told: type[Exception]
) -> None:
    """What gathered while the writer was busy is one commit; of it only the refused step is taken back."""
    busy = threading.Event()
    raised: list[BaseException] = []

    async def refused() -> None:
        with pytest.raises(told) as found:
            await writer.write(refuses("gone", why), durable=False)
        raised.append(found.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: writer.write(lambda txn: busy.wait(10), durable=False))
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(lambda: writer.write(keeps("first"), durable=False))
        tasks.start_soon(refused)
        tasks.start_soon(lambda: writer.write(keeps("last"), durable=False))
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        busy.set()
    assert len(raised) == 1
    assert await kept(writer) == ["first", "last"]
