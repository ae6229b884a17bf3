"""The store on SQLite: opens the database, runs steps through the one writer, reads, and tells who follows it.

No rule of the lifecycle stands here (see `steps`), and no shape of a row (see `rows`).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio

from hitl_mcp.calls import Asked, CallEvent, CallRecord, Outcome, Preview, Status, ToolCall, Verdict
from hitl_mcp.clock import Clock, after, to_text
from hitl_mcp.errors import CallNotFound, StoreError
from hitl_mcp.limits import PAGE_CALLS
from hitl_mcp.policy.history import History
from hitl_mcp.store import steps
from hitl_mcp.store.access import Access
from hitl_mcp.store.around import Around
from hitl_mcp.store.askings import end_asking
from hitl_mcp.store.base import Admission, CallPage, Decide, Erased, Feed, LastLook, Pause
from hitl_mcp.store.erasing import erase_batch
from hitl_mcp.store.events import SEALS
from hitl_mcp.store.grant_rows import Stands, nobody_stands, note_grant, of_grant
from hitl_mcp.store.grants import Grants, end_due
from hitl_mcp.store.intact import TAMPERED_RECORD, LookedBack, SignedHead, flushed_head, look_back
from hitl_mcp.store.listing import Listing, Wanted
from hitl_mcp.store.passkeys import Passkeys
from hitl_mcp.store.reviewers import ReviewersRead
from hitl_mcp.store.rows import event_from_row, preview_from_row, record_from_row, revision_from_row
from hitl_mcp.store.sealing import adopt
from hitl_mcp.store.seals import Seals
from hitl_mcp.store.search import Search
from hitl_mcp.store.sign_ins import SignIns
from hitl_mcp.store.statements import migrations, sql
from hitl_mcp.store.stops import Stops
from hitl_mcp.store.troubles import Trouble, trouble_of
from hitl_mcp.store.verdicts import Verdicts
from hitl_mcp.store.writer import Connect, Transaction, Writer, connect_plainly

CHAINED_SINCE = 3
"""The migration from which on events are linked and open calls sealed."""

RESTORING = ".restoring"
"""What a backup is called, after the database's own name, while it is being put in its place."""

TAMPERING_SHOWN_SECONDS = 7 * 24 * 3600
"""How long tampering that was found is pointed at after a restart: a week, so that a weekend hides nothing."""

RETRY_SECONDS = 5.0
"""How long who could not read or write waits before trying again, unless what was wrong changes first."""

NO_LONGER_WAITING = frozenset({"running", "released", "rejected", "expired", "withdrawn", "invalidated"})
"""The events after which a call waits for people no more, and never again."""

TAMPERED_SHOWN = 100
"""How many tampered calls are pointed at; all are on record."""

T = TypeVar("T")


class SqliteStore:
    """Every record of one gateway. Made by `open_sqlite`; all methods run on the event loop."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._writer = access.writer
        self._clock = access.clock
        self._step, self._rows = access.step, access.rows
        self.passkeys, self.sign_ins = Passkeys(access), SignIns(access)
        self.stops, self.verdicts = Stops(access), Verdicts(access)
        self._feeds: set[Feed] = set()
        self._paused: Pause | None = None
        self._tampered: tuple[str, ...] = ()
        self._tampering: str | None = None
        self.grants, self.reviewers = Grants(access), ReviewersRead(access)
        self.listing = Listing(access)
        self.search = Search(access, self.listing)
        self.around = Around(access, self.listing)
        access.writer.published = self._publish

    @property
    def broken(self) -> str | None:
        """Why nothing can be written until the gateway is started again, or None."""
        return self._writer.broken

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong with the record, or None; one that passes is over by itself."""
        return self._writer.trouble

    async def after_failure(self) -> None:
        """Wait before what failed is tried again: until something begins or ceases to be wrong, or a few seconds."""
        with anyio.move_on_after(RETRY_SECONDS):
            await self._writer.trouble_changed()

    @property
    def paused(self) -> Pause | None:
        """Who paused everything, or None."""
        return self._paused

    @property
    def tampered(self) -> tuple[str, ...]:
        """The calls whose records somebody changed outside the gateway, as found of late, newest first."""
        return self._tampered

    @property
    def tampering(self) -> str | None:
        """What of late was found not to be as the gateway left it in the record as a whole, or None."""
        return self._tampering

    # Steps: each is one transaction, on disk before it returns where `durable`.

    async def admit(
        self, call: ToolCall, asked: Asked, decide: Decide, *, durable: bool, stands: Stands = nobody_stands
    ) -> Admission:
        """Decide and record a request, or find the record that already answers it; see `steps.admit`."""
        return await self._step(lambda txn, life: steps.admit(txn, life, call, asked, decide, stands), durable=durable)

    async def add_verdict(self, call_id: str, verdict: Verdict, at_most: int | None = None) -> CallRecord:
        """Write a reviewer's verdict and return the call as it now stands; `at_most` is the reviewer's hourly budget.

        Raises:
            CallNotFound: No call has this id.
            CallAlreadySettled: The call can no longer be decided, or this reviewer approved it before.
            DigestMismatch: The reviewer was shown something else.
            NotAllowed: The approval counts towards no requirement of this call.
            BudgetSpent: This reviewer approved that many calls within the hour.
        """
        return await self.verdicts.add(call_id, verdict, at_most)

    async def withdraw(self, call_id: str, agent: str) -> CallRecord:
        """Take back a call that has not started.

        Raises:
            CallNotFound: This agent has no call of this id.
            CallAlreadySettled: It started, or is over.
        """
        return await self._step(lambda txn, life: steps.withdraw(txn, life, call_id, agent))

    async def claim(
        self, checked: CallRecord, look: Callable[[History], LastLook], stands: Stands = nobody_stands
    ) -> CallRecord | None:
        """Take an approved call to run or release it, once; `checked` is the call as it was read; see `steps.claim`.

        None where it cannot be run now, must not run any more, or is no longer what was checked.
        """
        return await self._step(lambda txn, life: steps.claim(txn, life, checked, look, stands))

    async def invalidate(self, call_id: str, reason: str) -> CallRecord:
        """End a held or approved call because a check failed."""
        return await self._step(lambda txn, life: steps.invalidate(txn, life, call_id, reason))

    async def settle(self, call_id: str, outcome: Outcome, *, durable: bool) -> bool:
        """Write what running a call brought; the first outcome counts. Returns whether this was it."""
        return await self._step(lambda txn, life: steps.settle(txn, life, call_id, outcome), durable=durable)

    async def resolve(self, call_id: str, outcome: Outcome, by: str) -> bool:
        """Write what became of a call whose outcome was unknown. Returns whether it still was."""
        return await self._step(lambda txn, life: steps.resolve(txn, life, call_id, outcome, by))

    async def expire_due(self) -> int:
        """End every call whose clock has run out, and every grant."""
        return await self._step(lambda txn, life: steps.expire_due(txn, life) + end_due(txn, life))

    async def recover(self) -> int:
        """At boot: end as `unknown` what an earlier life left running, and find what was changed meanwhile."""
        left = await self._step(steps.recover)
        await self.grants.recover()
        since = to_text(after(self._clock.now(), -TAMPERING_SHOWN_SECONDS))
        self._tampered, self._tampering = (), None
        for row in reversed(await self._rows("tampered", {"since": since})):
            self._note_tampering(event_from_row(row))
        return left

    async def look_back(self, signed: SignedHead | None) -> LookedBack:
        """At boot, first of all: is this the record that was left, and signed last? If not, all that is open ends."""
        return await self._step(lambda txn, life: look_back(txn, life, signed))

    async def erase_batch(self, status: Status, age_seconds: int) -> Erased:
        """Erase what a few calls carried that have stood in this final status for so long."""
        return await self._step(lambda txn, life: erase_batch(txn, life, status, age_seconds), durable=False)

    async def end_restored(self, detail: str) -> int:
        """After a restore: end what was open in the backup, and put the restore on record. Returns how many."""
        return await self._step(lambda txn, life: steps.end_restored(txn, life, detail))

    async def flushed_head(self, signed: int = 0) -> tuple[int, str, str]:
        """The newest event (number, hash) and now, once everything up to it is on disk; see `intact.flushed_head`."""
        return await self._step(lambda txn, life: flushed_head(txn, life, signed))

    async def keep_preview(self, call_id: str, preview: Preview, digest: str | None = None) -> bool:
        """Put what a preview brought beside a call that is still held, and still has the bytes that `digest` names.

        Returns whether it was kept.
        """
        keep = partial(steps.keep_preview, call_id=call_id, preview=preview, digest=digest)
        return await self._step(keep, durable=False)

    async def end_asking(self, call_id: str, by: str, detail: str) -> None:
        """Note that the agent's client was asked about a held call and gave no verdict."""
        await self._step(lambda txn, life: end_asking(txn, life, call_id, by, detail))

    async def hand_over(self, call_id: str) -> None:
        """Note that the agent was given the final answer."""
        await self._step(lambda txn, life: steps.hand_over(txn, life, call_id), durable=False)

    async def pause(self, by: str, reason: str) -> Pause:
        """Stop all running until `resume`; running calls end by themselves."""
        return await self._step(lambda txn, life: steps.pause(txn, life, by, reason))

    def remember_pause(self, pause: Pause | None) -> None:
        """What the database says of a pause, read once when it is opened."""
        self._paused = pause

    async def resume(self, by: str) -> None:
        """Let calls run again."""
        await self._step(lambda txn, life: steps.resume(txn, life, by))

    async def keep_policy(self, version: str, written: str) -> None:
        """Keep what a policy says, by its hash; once is enough."""
        await self._step(lambda txn, life: steps.keep_policy(txn, life, version, written))

    async def note(self, kind: str, detail: str, by: str = "gateway") -> None:
        """Put something on record that concerns no call."""
        await self._step(lambda txn, life: steps.note(txn, life, kind, detail, by))

    # Reading: short, on a connection that cannot write.

    async def get(self, call_id: str) -> CallRecord:
        """A call with its verdicts and events.

        Raises:
            CallNotFound: No call has this id.
        """
        query = {"id": call_id}
        rows = await self._rows("call", query)
        if not rows:
            raise CallNotFound(call_id)
        record = record_from_row(
            rows[0], await self._rows("verdicts_of_call", query), await self._rows("events_of_call", query)
        )
        if rows[0]["revision"]:
            record = await self._with_revisions(record)
        if not record.decision.previews:
            return record
        previews = await self._rows("previews_of_call", query)
        return replace(record, previews=tuple(preview_from_row(row) for row in previews))

    async def list_calls(
        self,
        statuses: Collection[Status] | None,
        *,
        agent: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_CALLS,
        text: str | None = None,
    ) -> CallPage:
        """Calls in these statuses (None: all), newest first, with their verdicts but without their events.

        With `text`, only those whose id, name, arguments, claim or outcome hold it, in whatever case.
        """
        wanted = Wanted(None if statuses is None else frozenset(statuses), agent=agent)
        if text is not None:
            return await self.search.find(wanted, text, cursor, limit)
        return await self.listing.newest(wanted, cursor, limit)

    async def of_interest_to(self, agent: str, limit: int = PAGE_CALLS) -> tuple[CallRecord, ...]:
        """What an agent has open, and outcomes it was not told yet, newest first."""
        rows = await self._rows("of_interest_to_agent", {"agent": agent, "limit": limit})
        edited = {row["id"] for row in rows if row["revision"]}
        records = await self.listing.with_verdicts(rows)
        return tuple([await self._with_revisions(one) if one.id in edited else one for one in records])

    async def _with_revisions(self, record: CallRecord) -> CallRecord:
        rows = await self._rows("revisions_of_call", {"id": record.id})
        return replace(record, revisions=tuple(revision_from_row(row) for row in rows))

    async def count_open(self) -> dict[Status, int]:
        """How many calls stand in each open status that has any."""
        return {Status(row["status"]): row["calls"] for row in await self._rows("count_open", {})}

    async def next_deadline(self) -> str | None:
        """When the next held or approved call runs out of time."""
        rows = await self._rows("next_deadline", {})
        return rows[0]["at"] if rows else None

    async def policy(self, version: str) -> str | None:
        """What the policy of this hash says, as canonical JSON, if it was ever in force here."""
        rows = await self._rows("policy", {"version": version})
        return rows[0]["written"] if rows else None

    async def events_after(self, number: int, limit: int = 100) -> tuple[CallEvent, ...]:
        """Events with a higher number, oldest first."""
        rows = await self._rows("events_after", {"number": number, "limit": limit})
        return tuple(event_from_row(row) for row in rows)

    async def last_event_number(self) -> int:
        """The number of the newest event, 0 before the first."""
        rows = await self._rows("last_event", {})
        return int(rows[0]["number"])

    # Following.

    @contextmanager
    def follow(self, wants: Callable[[CallEvent], bool] | None = None) -> Iterator[Feed]:
        """Every event from here on that is wanted: subscribe first, then read what is there."""
        feed = Feed(wants) if wants is not None else Feed()
        self._feeds.add(feed)
        try:
            yield feed
        finally:
            self._feeds.discard(feed)

    async def wait_for_change(self, call_id: str, since_version: int, timeout_seconds: float) -> CallRecord:
        """The call once its version is above `since_version`, or as it stands when the time is over."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        with self.follow(lambda event: event.call_id == call_id) as feed:
            record = await self.get(call_id)
            while record.version <= since_version:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or await feed.next(timeout_seconds=left) is None:
                    return record
                record = await self.get(call_id)
        return record

    def _publish(self, events: Sequence[CallEvent]) -> None:
        for event in events:
            # Before anyone hears of it: who is woken by a resume must not find us paused still.
            if event.kind == "paused":
                self._paused = Pause(event.by, event.at, event.detail)
            elif event.kind == "resumed":
                self._paused = None
            elif event.by == SEALS:
                self._note_tampering(event)
            if event.kind.startswith("grant-"):
                note_grant(self.access.granted, event)
            if event.kind in NO_LONGER_WAITING:
                self.access.waiting.discard(event.call_id)
        for feed in self._feeds:
            for event in events:
                feed.publish(event)

    def _note_tampering(self, event: CallEvent) -> None:
        if event.kind == TAMPERED_RECORD:
            self._tampering = event.detail
        elif whose := event.call_id or of_grant(event):  # a tool is told of by its pin
            self._tampered = (whose, *self._tampered)[:TAMPERED_SHOWN]


@asynccontextmanager
async def open_sqlite(
    path: Path, clock: Clock, key_file: Path | None = None, connect: Connect = connect_plainly
) -> AsyncIterator[SqliteStore]:
    """Open the store, migrating it first; the database is ours alone until this ends.

    `key_file` holds the key of the seals; unnamed, it lies beside the database. `connect` opens every connection.

    Raises:
        StoreError: Another gateway has it, it is damaged, or a newer version of us wrote it.
    """
    loop = asyncio.get_running_loop()
    if (unfinished := path.with_name(path.name + RESTORING)).exists():
        raise StoreError(
            f"{path}: a restore was not finished",
            help=f"run `hitl-mcp restore` again, or delete `{unfinished}` and look which files are there",
        )
    with _locked(path):
        seals = Seals.from_file(key_file or path.with_name(path.name + ".key"))
        writer = Writer(path, partial(_wake, loop), clock=clock, connect=connect)
        try:
            writer.start(partial(prepare, seals=seals))
        except (sqlite3.Error, MemoryError) as error:
            raise _unopened(path, error) from error
        try:
            async with _reading(path, connect) as reader, _reading(path, connect) as long_reader:
                epoch = await writer.write(_next_epoch, durable=True)
                store = SqliteStore(Access(writer, reader, long_reader, clock, epoch, seals))
                store._paused = await writer.write(steps.paused, durable=False)
                store.access.waiting.update(row["id"] for row in await store._rows("waiting_for_people", {}))
                await store.grants.load()
                await store.passkeys.load()
                await store.stops.load()
                yield store
        finally:
            writer.stop()


@asynccontextmanager
async def _reading(path: Path, connect: Connect) -> AsyncIterator[aiosqlite.Connection]:
    """A connection that only reads."""
    reader = aiosqlite.Connection(partial(connect, path), iter_chunk_size=PAGE_CALLS)
    try:
        await reader
        # A reader that checkpoints would write; a reader that may write is a second writer.
        await reader.executescript("PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0;")
    except (sqlite3.Error, MemoryError) as error:
        raise _unopened(path, error) from error
    try:
        yield reader
    finally:
        await reader.close()


def _unopened(path: Path, error: sqlite3.Error | MemoryError | OSError) -> StoreError:
    trouble = trouble_of(error, path)
    return StoreError(f"{path}: cannot be opened: {trouble.says}", help=trouble.help)


def _wake(loop: asyncio.AbstractEventLoop, answer: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(answer)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the database for life. A sibling file is locked: closing any descriptor of the database itself would
    drop SQLite's own POSIX locks."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (path, path.with_name(path.name + ".lock")):
            os.close(os.open(name, os.O_CREAT | os.O_RDWR, 0o600))
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR)
    except OSError as error:
        raise _unopened(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(f"{path}: another gateway has this database open", help="`hitl-mcp stop` ends it") from None
    try:
        yield
    finally:
        os.close(descriptor)


def prepare(connection: sqlite3.Connection, seals: Seals) -> None:
    """Make a connection the writing one of a database with the newest schema.

    Raises:
        StoreError: A newer version of us wrote the database.
        sqlite3.Error: It cannot be used.
    """
    # auto_vacuum must come before WAL, or it is silently ignored; it cannot be turned on later without a VACUUM.
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")
    scripts = migrations()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(scripts):
        raise StoreError("the database was written by a newer hitl-mcp", help="upgrade hitl-mcp")
    for number, script in enumerate(scripts[version:], start=version + 1):
        _migrate(connection, script, number, seals)


def _migrate(connection: sqlite3.Connection, script: str, number: int, seals: Seals) -> None:
    """Run one migration whole, or not at all."""
    connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number};")
    try:
        if number == CHAINED_SINCE:
            adopt(Transaction(connection), seals)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _next_epoch(txn: Transaction) -> int:
    row = txn.connection.execute(sql("setting"), {"key": "epoch"}).fetchone()
    epoch = int(json.loads(row["value_json"])) + 1 if row else 1
    txn.connection.execute(sql("put_setting"), {"key": "epoch", "value_json": json.dumps(epoch)})
    return epoch
