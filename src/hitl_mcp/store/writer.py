"""The one writer: a thread with the one connection that writes, committing what has gathered. No SQL of calls here.

Members of a batch run in order, each in a savepoint unless it is alone, so that one that fails takes no other with it.
A batch takes its strictest member's durability, and nobody is answered before its commit returned.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from hitl_mcp.calls import CallEvent
from hitl_mcp.errors import HitlError, StoreError

logger = logging.getLogger(__name__)

BATCH_MEMBERS = 256
"""Members of one commit at most, so that the first of a flood does not wait for its end."""

CANNOT_WRITE = "the record cannot be written"


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

    def __init__(self, path: Path, wake: Callable[[Callable[[], None]], None]) -> None:
        self._path = path
        self._wake = wake
        self._queue: SimpleQueue[_Member | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._broken: str | None = None
        self._synchronous = ""
        self.published: Callable[[Sequence[CallEvent]], None] = lambda events: None

    @property
    def broken(self) -> str | None:
        """Why nothing can be written any more, or None. It stays so until the gateway is started again."""
        return self._broken

    def start(self, prepare: Callable[[sqlite3.Connection], None]) -> None:
        """Open the connection, prepare it (migrations), and start the thread."""
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.row_factory = sqlite3.Row
        try:
            prepare(connection)
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
            StoreError: The record cannot be written; nothing of this step is in the store.
            HitlError: The step refused; nothing of it is in the store.
        """
        if self._broken is not None:
            raise StoreError(f"{CANNOT_WRITE}: {self._broken}", help="see the gateway's log, then start it again")
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
                self._commit(connection, batch)
                self._wake(lambda batch=batch: self._answer(batch))  # type: ignore[misc]
        connection.close()

    def _gather(self) -> tuple[list[_Member], bool]:
        batch: list[_Member] = []
        member = self._queue.get()
        while member is not None:
            batch.append(member)
            if len(batch) == BATCH_MEMBERS:
                return batch, False
            try:
                member = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _commit(self, connection: sqlite3.Connection, batch: list[_Member]) -> None:
        if self._broken is not None:
            self._fail(batch, self._broken)
            return
        try:
            self._set_synchronous(connection, "FULL" if any(member.durable for member in batch) else "NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            if len(batch) > 1:
                for member in batch:
                    self._in_savepoint(connection, member)
            elif not self._step(connection, batch[0]):
                connection.execute("ROLLBACK")
                return
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # INVARIANT: after an I/O error nothing more is written by this process. SQLite cannot say what of the
            # batch reached the disk, and a second attempt could contradict what is there.
            logger.exception("cannot write the record")
            self._broken = str(error)
            self._fail(batch, self._broken)

    def _set_synchronous(self, connection: sqlite3.Connection, level: str) -> None:
        if level != self._synchronous:
            connection.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

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
        except sqlite3.Error as error:
            if not isinstance(error, sqlite3.IntegrityError):
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

    def _fail(self, batch: list[_Member], reason: str) -> None:
        for member in batch:
            member.events = ()
            member.error = StoreError(f"{CANNOT_WRITE}: {reason}", help="see the gateway's log, then start it again")

    def _answer(self, batch: list[_Member]) -> None:
        for member in batch:
            if member.events:
                self.published(member.events)
            if not member.done.done():  # a caller that was cancelled no longer waits
                member.done.set_result(None)
