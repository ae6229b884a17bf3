"""The writer: what a step that is refused leaves behind, alone and among others, and what a fault of the disk does."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from hitl_mcp.errors import HitlError, NotNow, StoreError
from hitl_mcp.store.troubles import Trouble
from hitl_mcp.store.writer import LOG_BYTES, Transaction, Writer
from tests.clocks import NOON, HandClock
from tests.commits import in_one_commit
from tests.faults.apsw_connection import Connection
from tests.faults.recorded_disk import RecordedDisk

Step = Callable[[Transaction], Any]


class Refusal(HitlError):
    """A step's own no."""


def prepare(connection: sqlite3.Connection) -> None:
    """An empty table, and a log that only the writer copies."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS kept (word TEXT UNIQUE)")


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Writer]:
    """A writer; unless a test asks for it, it does not look by itself whether a trouble is over."""
    loop = asyncio.get_running_loop()

    def wake(answer: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(answer)

    writer = Writer(path, wake, **{"clock": HandClock(), "probe_seconds": 3600, **options})
    writer.start(prepare)
    try:
        yield writer
    finally:
        await asyncio.to_thread(writer.stop)


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    """A writer on an empty table."""
    async with opened(tmp_path / "w.db") as made:
        yield made


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
    (sqlite3.OperationalError("no such table: nowhere"), StoreError),
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


# Faults of the disk, the file and the machine.


def limit_pages(pages: int) -> Step:
    """A step after which the database may hold no more pages than this: SQLite's own full disk."""
    return lambda txn: txn.connection.execute(f"PRAGMA max_page_count={pages}").fetchall()


def trouble_of(writer: Writer) -> Trouble | None:
    """What is wrong now."""
    return writer.trouble


LONG = "long " * 10_000
NO_LIMIT = 2**30


async def gathered(writer: Writer, *steps: Step) -> list[StoreError | None]:
    """What each of these steps, in one commit, was answered with."""
    answers: list[StoreError | None] = [None] * len(steps)

    async def one(number: int, step: Step) -> None:
        try:
            await writer.write(step, durable=True)
        except StoreError as error:
            answers[number] = error

    await in_one_commit(writer, [partial(one, number, step) for number, step in enumerate(steps)])
    return answers


async def test_a_full_disk_refuses_until_there_is_room_again(writer: Writer) -> None:
    """Nothing of the refused write is there; what is wrong is said with its time, and is over with the next write."""
    await writer.write(limit_pages(5), durable=True)
    with pytest.raises(NotNow, match="the disk is full"):
        await writer.write(keeps(LONG), durable=True)
    assert writer.trouble is not None
    assert (writer.trouble.kind, writer.trouble.since[:10]) == ("full", NOON.isoformat()[:10])
    assert writer.broken is None
    assert await kept(writer) == []
    assert writer.trouble is not None
    await writer.write(limit_pages(NO_LIMIT), durable=True)
    assert await writer.write(keeps(LONG), durable=True) == 1
    assert await kept(writer) == [LONG]
    assert trouble_of(writer) is None


async def test_of_a_commit_that_met_a_full_disk_nobody_is_told_that_it_was_written(writer: Writer) -> None:
    """The members before and after the one that met it are refused with it, and none is there."""
    await writer.write(limit_pages(5), durable=True)
    answers = await gathered(writer, keeps("first"), keeps(LONG), keeps("last"))
    assert [type(answer) for answer in answers] == [NotNow] * 3
    assert await kept(writer) == []


async def test_another_programs_lock_passes_and_is_found_to_have_passed_by_itself(tmp_path: Path) -> None:
    """Refused while it is locked; once the lock is gone, the writer finds out without anyone writing."""

    def impatient(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)

    async with opened(tmp_path / "w.db", connect=impatient, probe_seconds=0.001) as writer:
        with closing(sqlite3.connect(tmp_path / "w.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(NotNow, match="another program has locked the database"):
                await writer.write(keeps("early"), durable=True)
            assert writer.trouble is not None
            over = asyncio.create_task(writer.trouble_changed())
            await anyio.lowlevel.checkpoint()
            other.execute("ROLLBACK")
            with anyio.fail_after(10):
                await over
        assert writer.trouble is None
        assert await writer.write(keeps("late"), durable=True) == 1


async def test_running_out_of_memory_costs_only_what_was_being_written(writer: Writer) -> None:
    """The commit is taken back, and the next is made."""
    with pytest.raises(NotNow, match="out of memory"):
        await writer.write(refuses("gone", MemoryError()), durable=True)
    assert writer.trouble is not None
    assert await writer.write(keeps("stays"), durable=True) == 1
    assert await kept(writer) == ["stays"]
    assert trouble_of(writer) is None


@pytest.fixture
def disk() -> Iterator[RecordedDisk]:
    """A disk that fails when it is told to."""
    made = RecordedDisk()
    yield made
    made.close()


def on(disk: RecordedDisk) -> Callable[[Path], sqlite3.Connection]:
    """Opens connections on this disk."""
    return lambda path: cast(sqlite3.Connection, Connection(path, disk.name, str, disk.committed))


LASTING = [
    ("write", sqlite3.SQLITE_IOERR_WRITE, "the disk failed: a write failed"),
    ("flush", sqlite3.SQLITE_IOERR_FSYNC, "what was written cannot be flushed"),
    ("write", sqlite3.SQLITE_CORRUPT, "the database is damaged"),
    ("write", sqlite3.SQLITE_READONLY, "the database is read-only"),
]


@pytest.mark.parametrize(("kind", "code", "says"), LASTING)
async def test_after_an_input_or_output_error_nothing_is_written_until_a_restart(
    tmp_path: Path, disk: RecordedDisk, kind: str, code: int, says: str
) -> None:
    """Even though the disk works again: nobody knows what of the failed commit is on it."""
    async with opened(tmp_path / "w.db", connect=on(disk)) as writer:
        await writer.write(keeps("before"), durable=True)
        disk.fault = lambda asked, name: code if asked == kind else None
        with pytest.raises(StoreError, match=says) as found:
            await writer.write(keeps("during"), durable=True)
        assert not isinstance(found.value, NotNow)
        disk.fault = lambda asked, name: None
        with pytest.raises(StoreError, match=says):
            await writer.write(keeps("after"), durable=True)
        assert says in (writer.broken or "")
    async with opened(tmp_path / "w.db") as writer:
        assert (await kept(writer))[-1] == "before"


async def test_a_flush_that_fails_while_the_log_is_copied_is_not_overlooked(tmp_path: Path, disk: RecordedDisk) -> None:
    """The write before it was acknowledged and is there; no further one is, because a second flush proves nothing."""
    async with opened(tmp_path / "w.db", connect=on(disk), checkpoint_rows=1) as writer:
        disk.fault = lambda asked, name: sqlite3.SQLITE_IOERR_FSYNC if (asked, name) == ("flush", "w.db") else None
        broke = asyncio.create_task(writer.trouble_changed())
        assert await writer.write(keeps("acknowledged"), durable=True) == 1
        with anyio.fail_after(10):
            await broke
        disk.fault = lambda asked, name: None
        with pytest.raises(StoreError, match="cannot be flushed"):
            await writer.write(keeps("after"), durable=True)
    async with opened(tmp_path / "w.db") as writer:
        assert await kept(writer) == ["acknowledged"]


async def test_a_log_that_cannot_be_copied_for_lack_of_room_is_copied_later(tmp_path: Path, disk: RecordedDisk) -> None:
    """Until then everything goes on: what is written stands in the log."""
    async with opened(tmp_path / "w.db", connect=on(disk), checkpoint_rows=1) as writer:
        disk.fault = lambda asked, name: sqlite3.SQLITE_FULL if (asked, name) == ("write", "w.db") else None
        for word in ("a", "b", "c"):
            assert await writer.write(keeps(word), durable=True) == 1
        assert writer.trouble is None
        disk.fault = lambda asked, name: None
        assert await writer.write(keeps("d"), durable=True) == 1
        assert await kept(writer) == ["a", "b", "c", "d"]
    assert any(step.kind == "flush" and step.file == disk_file(disk, "w.db") for step in disk.steps)


def disk_file(disk: RecordedDisk, name: str) -> int:
    """The number of a file on a disk."""
    return next(step.file for step in disk.steps if step.kind == "made" and step.name == name)


async def test_large_writes_do_not_let_the_log_grow_without_bound(writer: Writer) -> None:
    """It is copied by its size too, and shrinks again, so that few large calls cost no more than many small ones."""
    for number in range(40):
        await writer.write(keeps(f"{number}" + "x" * 1024 * 1024), durable=False)
    assert Path(f"{writer.path}-wal").stat().st_size < 3 * LOG_BYTES


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what the test makes
async def test_a_writer_that_ends_by_a_fault_of_ours_leaves_nobody_waiting(writer: Writer) -> None:
    """What it was writing is refused, and whoever comes later is refused at once."""

    def ends(txn: Transaction) -> None:
        keeps("gone")(txn)
        raise SystemExit

    for _ in range(2):
        with anyio.fail_after(10), pytest.raises(StoreError, match="the gateway failed while it wrote"):
            await writer.write(ends, durable=True)
    assert writer.broken is not None
