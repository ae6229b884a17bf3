"""The one writer: a thread with the one connection that writes, committing what has gathered. No SQL of calls here.

Members of a batch run in order, each in a savepoint unless it is alone, so that one that fails takes no other with it.
A batch takes its strictest member's durability, and nobody is answered before its commit returned. What is wrong when
one fails, and whether it passes, is told by `troubles`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from hitl_mcp.calls import CallEvent
from hitl_mcp.clock import Clock, to_text
from hitl_mcp.errors import HitlError, NotNow, StoreError
from hitl_mcp.store.troubles import Trouble, is_fault_of_statement, trouble_of

logger = logging.getLogger(__name__)

BATCH_MEMBERS = 256
"""Members of one commit at most, so that the first of a flood does not wait for its end."""

CANNOT_WRITE = "the record cannot be written"

LOCKED_SECONDS = 2.0
"""How long a write waits for another program's lock: longer than a backup's, shorter than agents wait for an answer."""

PROBE_SECONDS = 1.0
"""How often a trouble that may pass is looked at while nobody writes, so that health says soon that it is over."""

CHECKPOINT_ROWS = 400
"""After this many changed rows the log is copied into the database: some 1,000 pages, SQLite's own measure."""


LOG_BYTES = 8 * 1024 * 1024
"""What the log keeps of its size once it is copied. At twice that it is copied whatever the number of rows: calls may
be large."""


def connect_plainly(path: Path) -> sqlite3.Connection:
    """Open a connection without transactions of its own, whose rows are read by name."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=LOCKED_SECONDS
    )
    connection.row_factory = sqlite3.Row
    return connection


Connect = Callable[[Path], sqlite3.Connection]

ENDED = Trouble("gateway", "the gateway failed while it wrote", "see the gateway's log, then start it again")


@dataclass
class Transaction:
    """What one member sees: the connection, and where it leaves the events that are published after the commit."""

    connection: sqlite3.Connection
    events: list[CallEvent] = field(default_factory=list)


Step = Callable[[Transaction], Any]


@dataclass(eq=False)
class _Member:
    step: Step
    durable: bool
    done: asyncio.Future[None]
    result: Any = None
    error: BaseException | None = None
    events: Sequence[CallEvent] = ()


class Writer:
    """Owns the writing connection. `write` is called on the event loop; steps run on the writer's thread."""

    def __init__(
        self,
        path: Path,
        wake: Callable[[Callable[[], None]], None],
        *,
        clock: Clock | None = None,
        connect: Connect = connect_plainly,
        probe_seconds: float = PROBE_SECONDS,
        checkpoint_rows: int = CHECKPOINT_ROWS,
    ) -> None:
        self.path = path
        self._wake = wake
        self._clock = clock or Clock()
        self._connect = connect
        self._probe_seconds = probe_seconds
        self._checkpoint_rows = checkpoint_rows
        self._queue: SimpleQueue[_Member | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._trouble: Trouble | None = None
        self._changed: list[asyncio.Future[None]] = []
        self._synchronous = ""
        self._patient = True
        self._copied_rows = 0
        self._left_bytes = 0
        self.published: Callable[[Sequence[CallEvent]], None] = lambda events: None

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong with the record, or None. One that passes is over after the next write that succeeds."""
        return self._trouble

    @property
    def broken(self) -> str | None:
        """Why nothing can be written any more, or None. It stays so until the gateway is started again."""
        trouble = self._trouble
        return trouble.says if trouble is not None and not trouble.passes else None

    async def trouble_changed(self) -> None:
        """Wait until something begins or ceases to be wrong."""
        changed = asyncio.get_running_loop().create_future()
        self._changed.append(changed)
        try:
            await changed
        finally:
            if changed in self._changed:
                self._changed.remove(changed)

    def note(self, trouble: Trouble | None) -> None:
        """Take in what is wrong, found by writing or reading, or that nothing is any more. What lasts stays."""
        known = self._trouble
        if known is not None and (not known.passes or (trouble is not None and trouble.kind == known.kind)):
            return
        if trouble is not None:
            trouble = replace(trouble, since=to_text(self._clock.now()))
            logger.error("%s: %s (%s)", CANNOT_WRITE, trouble.says, trouble.help)
        elif known is not None:
            logger.warning("the record can be written again; since %s: %s", known.since, known.says)
        if trouble is not known:
            self._trouble = trouble
            self._wake(self._tell)

    def _tell(self) -> None:
        for changed in self._changed:
            if not changed.done():
                changed.set_result(None)
        self._changed.clear()

    def start(self, prepare: Callable[[sqlite3.Connection], None]) -> None:
        """Open the connection, prepare it (migrations), and start the thread."""
        connection = self._connect(self.path)
        try:
            prepare(connection)
            # SQLite's own checkpoints hide their errors: a flush of the log that failed once succeeds the next time,
            # without what it should have flushed. So we make them, and look.
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
            # What an earlier life wrote may stand in memory only, though its flush failed: it is written once more.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except BaseException:
            connection.close()
            raise
        self._thread = threading.Thread(target=self._run, args=(connection,), name="store-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Commit what was queued and close. Blocks until that is done."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    async def write(self, step: Step, *, durable: bool) -> Any:
        """Run a step in a transaction and return its result once the commit returned.

        A caller that is cancelled stops waiting; the step still runs.

        Raises:
            NotNow: The record cannot be written now; nothing of this step is in the store, and the next tries again.
            StoreError: The record cannot be written until the gateway is started again. After an I/O error nobody can
                say whether the step is in the store; nobody may act on it.
            HitlError: The step refused; nothing of it is in the store.
        """
        trouble = self._trouble
        if trouble is not None and not trouble.passes:
            raise _refusal(trouble)
        member = _Member(step, durable, asyncio.get_running_loop().create_future())
        self._queue.put(member)
        await member.done
        if member.error is not None:
            raise member.error
        return member.result

    def _run(self, connection: sqlite3.Connection) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._gather()
            if batch:
                self._commit_and_answer(connection, batch)
                self._checkpoint(connection)
            elif not stopping:
                self._probe(connection)
        connection.close()

    def _commit_and_answer(self, connection: sqlite3.Connection, batch: list[_Member]) -> None:
        done = False
        try:
            self._commit(connection, batch)
            done = True
        finally:
            if not done:  # a fault of ours ends this thread: nobody may wait for it, or take what it did as written
                self.note(ENDED)
                self._fail(batch, ENDED)
            self._wake(lambda: self._answer(batch))

    def _gather(self) -> tuple[list[_Member], bool]:
        """What waits to be written, and whether it is the last; nothing, when it is time to look at a trouble again."""
        batch: list[_Member] = []
        try:
            member = self._queue.get(timeout=self._probe_seconds if self._passing else None)
        except Empty:
            return [], False
        while member is not None:
            batch.append(member)
            if len(batch) == BATCH_MEMBERS:
                return batch, False
            try:
                member = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    @property
    def _passing(self) -> bool:
        return self._trouble is not None and self._trouble.passes

    def _commit(self, connection: sqlite3.Connection, batch: list[_Member]) -> None:
        if self._trouble is not None and not self._trouble.passes:
            self._fail(batch, self._trouble)
            return
        try:
            rows = connection.total_changes
            self._set_patience(connection)
            self._set_synchronous(connection, "FULL" if any(member.durable for member in batch) else "NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            if len(batch) > 1:
                for member in batch:
                    self._in_savepoint(connection, member)
            elif not self._step(connection, batch[0]):
                connection.execute("ROLLBACK")
                return
            connection.execute("COMMIT")
            wrote = connection.total_changes != rows
        except (sqlite3.Error, MemoryError) as error:
            # INVARIANT: no member is answered as if it were written, whichever of them met the error.
            self._fail(batch, self._failed(connection, error))
        else:
            if wrote:
                self.note(None)

    def _failed(self, connection: sqlite3.Connection, error: sqlite3.Error | MemoryError) -> Trouble:
        """Take the transaction back, and say what is wrong.

        INVARIANT: after an I/O error, and whenever the transaction cannot be taken back, nothing more is written by
        this process. SQLite cannot say then what reached the disk, and a second attempt could contradict what is there.
        """
        logger.error("the record cannot be written", exc_info=error)
        trouble = trouble_of(error, self.path)
        try:
            if connection.in_transaction:  # some errors have taken it back already
                connection.execute("ROLLBACK")
            taken_back = not connection.in_transaction
        except (sqlite3.Error, MemoryError) as second:
            logger.error("the transaction cannot be taken back", exc_info=second)
            taken_back = False
        if trouble.passes and not taken_back:
            trouble = replace(trouble, passes=False, help=f"{trouble.help}; start the gateway again")
        self.note(trouble)
        return self._trouble or trouble

    def _probe(self, connection: sqlite3.Connection) -> None:
        """Write what is there already, to see whether writing works again."""
        try:
            self._set_patience(connection)
            self._set_synchronous(connection, "FULL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute(f"PRAGMA user_version={version}")
        except (sqlite3.Error, MemoryError) as error:
            self.note(trouble_of(error, self.path))
        else:
            self.note(None)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy the log into the database once enough has changed. What fails in this and lasts is as any such write."""
        if self._trouble is not None:
            return
        try:
            changed = connection.total_changes
            size = self._log_bytes()
            # A reader keeps the log from shrinking: its size alone is no reason to try again at every commit.
            self._left_bytes = min(self._left_bytes, size)
            if changed - self._copied_rows < self._checkpoint_rows and size - self._left_bytes < 2 * LOG_BYTES:
                return
            self._copied_rows, self._left_bytes = changed, size
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (sqlite3.Error, MemoryError) as error:
            trouble = trouble_of(error, self.path)
            logger.warning("the log cannot be copied into the database: %s", trouble.says, exc_info=error)
            if not trouble.passes:
                self.note(trouble)

    def _log_bytes(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size
        except OSError:
            return 0

    def _set_synchronous(self, connection: sqlite3.Connection, level: str) -> None:
        if level != self._synchronous:
            connection.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _set_patience(self, connection: sqlite3.Connection) -> None:
        """Wait for a lock that comes; for one that is known to stay, nobody who asks is kept waiting."""
        patient = self._trouble is None
        if patient != self._patient:
            connection.execute(f"PRAGMA busy_timeout={int(LOCKED_SECONDS * 1000) if patient else 0}").fetchall()
            self._patient = patient

    def _in_savepoint(self, connection: sqlite3.Connection, member: _Member) -> None:
        connection.execute("SAVEPOINT member")
        if not self._step(connection, member):
            connection.execute("ROLLBACK TO member")
        connection.execute("RELEASE member")

    def _step(self, connection: sqlite3.Connection, member: _Member) -> bool:
        """Run one member; False where it was refused, and whatever it wrote has to be rolled back."""
        transaction = Transaction(connection)
        try:
            member.result = member.step(transaction)
            member.events = transaction.events
        except MemoryError:
            raise
        except sqlite3.Error as error:
            # An error that took the whole transaction back would leave the next member without one.
            if not (is_fault_of_statement(error) and connection.in_transaction):
                raise
            logger.exception("the store refused a step")
            member.error = StoreError(f"{CANNOT_WRITE}: {error}")
        except HitlError as refusal:
            member.error = refusal
        except Exception:
            # One member's fault must neither end the thread nor take the batch with it; its caller is refused.
            logger.exception("a step failed")
            member.error = StoreError(f"{CANNOT_WRITE}: the gateway failed", help="see the gateway's log")
        return member.error is None

    def _fail(self, batch: list[_Member], trouble: Trouble) -> None:
        for member in batch:
            member.events = ()
            member.error = _refusal(trouble)

    def _answer(self, batch: list[_Member]) -> None:
        for member in batch:
            if member.events:
                self.published(member.events)
            if not member.done.done():  # a caller that was cancelled no longer waits
                member.done.set_result(None)


def _refusal(trouble: Trouble) -> StoreError:
    kind = NotNow if trouble.passes else StoreError
    return kind(f"{CANNOT_WRITE}: {trouble.says}", help=trouble.help)
