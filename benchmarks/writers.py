"""What a write that is flushed takes where many write at once: by the store, and by a commit for each.

Three ways: the store's whole step for a held call, which decides, looks up, seals and links; the rows that such a step
wrote, written bare through the store's writer; and the same bare rows through `aiosqlite`, a commit for each. All of
them here, and on a disk that is slow to flush: on a fast one, what is between two flushes decides.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from benchmarks.calls import arguments
from benchmarks.figures import Figure
from hitl_mcp.calls import Asked, CallRecord, Decision, Effect, Requirement, RuleMatch, ToolCall
from hitl_mcp.canonical import canonical_text
from hitl_mcp.clock import Clock
from hitl_mcp.limits import AGENT_HELD_CALLS
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.store.writer import Transaction, Writer

AT_ONCE = 32

FEWEST_EACH = 4
"""Writes of each of the many in a round, at least: the first and the last meet a shorter queue."""

SLOW_FLUSH_SECONDS = 0.005
"""What a flush takes longer on the slow disk: the upper end of what ordinary solid-state disks take."""

POLICY_VERSION = "sha256:" + "0" * 64

HELD = Decision(
    effect=Effect.HOLD,
    score=40,
    policy=POLICY_VERSION,
    reasons=("money leaves the company",),
    rules=(RuleMatch("payments", Effect.HOLD, "money leaves the company"),),
    requirements=(Requirement("payments", ("finance",)),),
    expires_in_seconds=24 * 3600,
    run_within_seconds=3600,
)

Write = Callable[[], Awaitable[None]]

_NUMBERS = count()


def call_to_hold() -> ToolCall:
    """A call that nobody made before."""
    return ToolCall(
        upstream="local",
        tool="pay",
        name="local__pay",
        arguments_json=canonical_text(arguments()),
        agent=f"bench-{next(_NUMBERS) // AGENT_HELD_CALLS}",  # none has more held calls than it may
        fingerprint="sha256:" + "1" * 64,
        definition="sha256:" + "2" * 64,
    )


async def hold(store: SqliteStore) -> CallRecord:
    """Have a call held: when this returns, it is on disk."""
    admission = await store.admit(call_to_hold(), Asked("bench"), lambda history: HELD, durable=True)
    return admission.record


class SlowDisk(sqlite3.Connection):
    """A connection whose commits take as long as on a disk that is slow to flush."""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        cursor = super().execute(statement, *values)
        if statement == "COMMIT":
            time.sleep(SLOW_FLUSH_SECONDS)
        return cursor

    def commit(self) -> None:
        super().commit()
        time.sleep(SLOW_FLUSH_SECONDS)


class BareRows:
    """The rows of one held call, to be written again and again under other names."""

    def __init__(self, call: sqlite3.Row, event: sqlite3.Row) -> None:
        self._call, self._event = dict(call), dict(event)
        self._numbers = count(1)
        self.into_calls, self.into_events = _insert("calls", self._call), _insert("events", self._event)

    def next(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The rows of another call."""
        number = next(self._numbers)
        id, key = f"{self._call['id']}-{number}", f"{self._call['request_key']}-{number}"
        return (
            {**self._call, "seq": number, "id": id, "request_key": key},
            {**self._event, "number": number, "call_id": id},
        )


def _insert(table: str, row: Mapping[str, object]) -> str:
    columns, values = ", ".join(row), ", ".join(f":{column}" for column in row)
    return f"INSERT INTO {table} ({columns}) VALUES ({values})"  # noqa: S608 (names of our own)


def by_store(store: SqliteStore) -> Write:
    """The store's whole step for a held call."""

    async def write() -> None:
        await hold(store)

    return write


def by_writer(writer: Writer, rows: BareRows) -> Write:
    """Bare rows, by the writer that commits what has gathered."""

    def step(txn: Transaction) -> None:
        call, event = rows.next()
        txn.connection.execute(rows.into_calls, call)
        txn.connection.execute(rows.into_events, event)

    async def write() -> None:
        await writer.write(step, durable=True)

    return write


def by_commit_each(connection: aiosqlite.Connection, rows: BareRows) -> Write:
    """Bare rows, each call committed by whoever wrote it."""
    lock = anyio.Lock()  # or one commit would take in what another began

    async def write() -> None:
        async with lock:
            call, event = rows.next()
            await connection.execute(rows.into_calls, call)
            await connection.execute(rows.into_events, event)
            await connection.commit()

    return write


class Writers:
    """Writes alone and at once, round by round."""

    def __init__(self, ways: Mapping[str, Write]) -> None:
        named = f"{AT_ONCE} writers at once against one alone, median"
        self._sides = [(Figure("record", f"{what}, {named}", "ms"), write) for what, write in ways.items()]

    @property
    def figures(self) -> list[Figure]:
        return [figure for figure, _ in self._sides]

    async def round(self, writes: int, *, one_first: bool) -> None:
        """Write so often alone, and as often at once."""
        for figure, write in self._sides:
            for at_once in (1, AT_ONCE) if one_first else (AT_ONCE, 1):
                taken = await _seconds(write, writers=at_once, each=max(writes // at_once, FEWEST_EACH))
                figure.of("direct" if at_once == 1 else "gateway").append(statistics.median(taken) * 1000)


async def _seconds(write: Write, *, writers: int, each: int) -> list[float]:
    """Seconds of every write; each writer begins its next as soon as its last is on disk."""
    taken: list[float] = []

    async def writer() -> None:
        for _ in range(each):
            began = time.perf_counter()
            await write()
            taken.append(time.perf_counter() - began)

    async with anyio.create_task_group() as tasks:
        for _ in range(writers):
            tasks.start_soon(writer)
    return taken


@asynccontextmanager
async def writers(folder: Path) -> AsyncIterator[Writers]:
    """All ways to write, on this machine's disk and on a slow one."""
    async with _ways(folder / "here", sqlite3.Connection) as here, _ways(folder / "slow", SlowDisk) as slow:
        on_slow_disk = f", flushes {SLOW_FLUSH_SECONDS * 1000:g} ms longer"
        yield Writers(here | {what + on_slow_disk: write for what, write in slow.items()})


@asynccontextmanager
async def _ways(folder: Path, disk: type[sqlite3.Connection]) -> AsyncIterator[dict[str, Write]]:
    """The ways to write, each to a database of its own with the same schema."""
    folder.mkdir()
    connect = partial(_connect, disk)
    for name in ("bare.db", "each.db"):
        call, event = await _rows_of_a_held_call(folder / name)
    async with (
        open_sqlite(folder / "held.db", Clock(), connect=connect) as store,
        aiosqlite.connect(folder / "each.db", factory=disk) as each,
    ):
        await each.execute("PRAGMA synchronous=FULL")
        writer = Writer(folder / "bare.db", partial(_wake, asyncio.get_running_loop()), connect=connect)
        writer.start(lambda connection: None)
        try:
            yield {
                "a held call on disk": by_store(store),
                "its rows alone by the store's writer": by_writer(writer, BareRows(call, event)),
                "its rows alone by a commit each": by_commit_each(each, BareRows(call, event)),
            }
        finally:
            writer.stop()


def _wake(loop: asyncio.AbstractEventLoop, answer: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(answer)


def _connect(disk: type[sqlite3.Connection], path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256, factory=disk
    )
    connection.row_factory = sqlite3.Row
    return connection


async def _rows_of_a_held_call(path: Path) -> tuple[sqlite3.Row, sqlite3.Row]:
    """Make a database with the schema and nothing else; returns what a held call would have left in it."""
    async with open_sqlite(path, Clock()) as store:
        await hold(store)
    connection = _connect(sqlite3.Connection, path)
    try:
        call = connection.execute("SELECT * FROM calls").fetchone()
        event = connection.execute("SELECT * FROM events").fetchone()
        connection.executescript("DELETE FROM events; DELETE FROM calls;")
    finally:
        connection.close()
    return call, event
