"""The power is cut: what was not flushed is gone, half there, or torn. What was acknowledged is not.

Our real store works on a disk that records; then, at many moments of that record, a disk is made as a cut would leave
it, opened as after a start, and held against what had been acknowledged by then. Controls show that the campaign would
see a loss: flushing less than we do, and a disk that lies about flushing, must lose.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import cast

from hitl_mcp.audit.verify import verify_database
from hitl_mcp.calls import Asked, CallRecord, Outcome, Status, VerdictKind
from hitl_mcp.errors import StoreError
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.store.intact import SignedHead, not_as_left
from hitl_mcp.store.statements import migrations
from tests.clocks import HandClock
from tests.commits import Work, in_one_commit
from tests.faults.apsw_connection import Connection
from tests.faults.campaign import Campaign, Tally
from tests.faults.recorded_disk import Platter, RecordedDisk, Step
from tests.samples import admit, allowed, claim, denied, held, tool_call, verdict

CUTS_OF_A_RECORD = 50
"""How many cuts are made of one recorded run: recording costs as much as some thirty cuts."""

WRITES_OF_A_RECORD = 50
"""How many writes, many of them of several calls at once, one run makes in each of its two lives."""

LOST = "an acknowledged record was lost"
CORRUPT = "the database was corrupt"
CLAIMED = "the database claimed what never was"
ALARM = "a false alarm of tampering"

RESULT = '{"content":[]}'
DONE = Outcome(
    status=Status.SUCCEEDED,
    executed=True,
    at="2026-11-22T12:00:00.000000Z",
    result_json=RESULT,
    result_digest="sha256:" + sha256(RESULT.encode()).hexdigest(),
    result_bytes=len(RESULT),
)


@dataclass
class Recording:
    """A run as the disk saw it: its steps, how many events were certain from which step on, and the events it made."""

    steps: list[Step]
    certain: list[tuple[int, int]]
    events: list[tuple[object, ...]]
    key: bytes

    def certain_at(self, moment: int) -> int:
        """How many events had been acknowledged as flushed by then."""
        return max((number for step, number in self.certain if step <= moment), default=0)

    def signed_at_most(self, certain: int) -> SignedHead | None:
        """The newest event that a checkpoint can attest when so many are certain."""
        if certain == 0:
            return None
        number, *_, head = self.events[certain - 1]
        return SignedHead(int(str(number)), str(head), "")

    def claims_too_much(self, events: list[tuple[object, ...]], certain: int) -> bool:
        """Whether something is on record that the run did not write.

        Of a commit whose flush failed nobody knows: it was refused, and may be found all the same, after all that was
        acknowledged.
        """
        alike = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(events, self.events, strict=False))))
        refused_is_there = certain <= alike and any(step.kind == "flush-failed" for step in self.steps)
        return alike < len(events) and not refused_is_there


@dataclass(frozen=True)
class Setting:
    """How a run flushes: as we do, or less (the controls)."""

    synchronous: str | None = None
    failing_flush: bool = False

    def rewrite(self, statement: str) -> str:
        """A statement of ours as this setting runs it."""
        if self.synchronous is not None and statement.startswith("PRAGMA synchronous="):
            return f"PRAGMA synchronous={self.synchronous}"
        return statement


OURS = Setting()
FAILING = Setting(failing_flush=True)
CONTROLS = {"NORMAL": Setting("NORMAL"), "OFF": Setting("OFF")}
LYING = "a disk that lies"

RECORDS_PER_CONTROL = 20
"""The first of so many records is also played with each control."""

CUTS_OF_A_CONTROL = 20
"""About half of them lose something where everything is flushed as SQLite's NORMAL does; the others nearly always."""


def run(rounds: int, seed: int, folder: Path) -> Tally:
    """Cut the power so many times, at moments spread over as many recorded runs as that takes."""
    tally = Tally()
    tally.never(LOST, CORRUPT, CLAIMED, ALARM)
    numbers = range(seed, seed + rounds)
    for place, record in enumerate(sorted({number // CUTS_OF_A_RECORD for number in numbers})):
        here = [number for number in numbers if number // CUTS_OF_A_RECORD == record]
        recording = _recorded(record, FAILING if record % 5 == 4 else OURS, folder)
        _cut(recording, here, folder, tally)
        if place % RECORDS_PER_CONTROL == 0:
            _controls(recording, here[:CUTS_OF_A_CONTROL], folder, tally)
    for control in (*CONTROLS, LYING):
        cuts, failed = tally.counts[_cuts_of(control)], tally.counts[_failures_of(control)]
        if cuts >= CUTS_OF_A_CONTROL and not failed:
            tally.breach("a control lost nothing", f"{control}, seed {seed}")
    return tally


def _cut(recording: Recording, numbers: list[int], folder: Path, tally: Tally) -> None:
    failed = sum(step.kind == "flush-failed" for step in recording.steps)
    tally.count("flushes that failed", failed)
    for number, found in _cuts(recording, numbers, folder):
        tally.count("cuts in a record with a flush that failed" if failed else "cuts")
        for what in found:
            tally.breach(what, f"seed {number}")


def _controls(recording: Recording, numbers: list[int], folder: Path, tally: Tally) -> None:
    _control(LYING, _cuts(recording, numbers, folder, lies=True), tally)
    for name, setting in CONTROLS.items():
        weaker = _recorded(numbers[0] // CUTS_OF_A_RECORD, setting, folder)
        _control(name, _cuts(weaker, numbers, folder), tally)


def _cuts_of(control: str) -> str:
    return f"control, {control}: cuts"


def _failures_of(control: str) -> str:
    return f"control, {control}: cuts that lost or corrupted"


def _control(name: str, cuts: Iterator[tuple[int, list[str]]], tally: Tally) -> None:
    for _, found in cuts:
        tally.count(_cuts_of(name))
        tally.count(_failures_of(name), bool({LOST, CORRUPT} & set(found)))


# Cutting.


def _cuts(
    recording: Recording, numbers: list[int], folder: Path, *, lies: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """What each of these cuts left to complain of. A cut's number alone decides when it is and what arrives."""
    moments = {number: random.Random(number).randrange(len(recording.steps)) for number in numbers}
    platter, chance, reached = Platter(lies), random.Random(numbers[0] // CUTS_OF_A_RECORD), 0
    for number in sorted(numbers, key=lambda number: moments[number]):
        while reached < moments[number]:
            platter.play(recording.steps[reached], chance)
            reached += 1
        after = folder / "after-the-cut"
        _lay_out(platter.after_a_cut(random.Random(-number - 1)), recording.key, after)
        yield number, list(_complaints(after / "hitl.db", recording, reached))


def _lay_out(files: dict[str, bytes], key: bytes, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "hitl.db.key").write_bytes(key)
    (folder / "hitl.db.key").chmod(0o600)


def _complaints(path: Path, recording: Recording, moment: int) -> Iterator[str]:
    """What is wrong with the database that a cut left, opened as any program would open it."""
    certain = recording.certain_at(moment)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.row_factory = sqlite3.Row
            if database.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                yield CORRUPT
                return
            if database.execute("PRAGMA user_version").fetchone()[0] < len(migrations()):
                if certain:  # the first start was cut off: the next one goes on with it
                    yield LOST
                return
            events = [tuple(row) for row in database.execute("SELECT * FROM events ORDER BY number")]
            if len(events) < certain:
                yield LOST
            if recording.claims_too_much(events, certain):
                yield CLAIMED
            # The rows beside the chain are held against it too: a verdict or outcome that is missing is found here.
            if verify_database(database).answer == "broken":
                yield ALARM
            # Whatever was certain may have been signed, to the last event: the next start must not miss any of it.
            if not_as_left(database, recording.signed_at_most(certain)):
                yield ALARM
    except sqlite3.DatabaseError:
        yield CORRUPT


# Recording.


def _recorded(record: int, setting: Setting, folder: Path) -> Recording:
    """Two lives of our real store on a disk that records, the same for the same number."""
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    chance = random.Random(record)
    disk = RecordedDisk()
    day = _Day(chance, disk)
    try:
        with _the_same_ids(chance):
            for life in range(2):
                asyncio.run(day.live(home / "hitl.db", partial(_connect, disk, setting), setting, life))
    finally:
        disk.close()
    with closing(sqlite3.connect(home / "hitl.db")) as database:
        events = [tuple(row) for row in database.execute("SELECT * FROM events ORDER BY number")]
    return Recording(disk.steps, day.certain, events, (home / "hitl.db.key").read_bytes())


def _connect(disk: RecordedDisk, setting: Setting, path: Path) -> sqlite3.Connection:
    return cast(sqlite3.Connection, Connection(path, disk.name, setting.rewrite, disk.committed))


@contextmanager
def _the_same_ids(chance: random.Random) -> Iterator[None]:
    """Ids are drawn from the machine; here the same each time, so that a cut can be seen again."""
    drawn = secrets.token_bytes
    secrets.token_bytes = chance.randbytes  # type: ignore[assignment]
    try:
        yield
    finally:
        secrets.token_bytes = drawn


Kind = Callable[[SqliteStore], tuple[bool, Work]]


@dataclass
class _Day:
    """What agents and reviewers do, at random, and what they were told is certain."""

    chance: random.Random
    disk: RecordedDisk
    certain: list[tuple[int, int]] = field(default_factory=list)
    calls: dict[Status, list[CallRecord]] = field(default_factory=lambda: {status: [] for status in Status})
    asked: int = 0

    async def live(
        self, path: Path, connect: Callable[[Path], sqlite3.Connection], setting: Setting, life: int
    ) -> None:
        """One life of a gateway: start, work, and an orderly end."""
        async with open_sqlite(path, HandClock(), None, connect) as store:
            await store.recover()
            self.calls[Status.RUNNING].clear()
            if setting.failing_flush and life == 0:
                self._fail_a_flush()
            for _ in range(WRITES_OF_A_RECORD):
                if not await self._write(store):
                    break
        self.disk.fault = lambda kind, name: None
        if setting.failing_flush and life == 0:
            self.calls = {status: [] for status in Status}  # what a refused write left, nobody knows

    def _fail_a_flush(self) -> None:
        left = self.chance.randrange(5, 60)

        def fault(kind: str, name: str) -> int | None:
            nonlocal left
            left -= kind == "flush"
            return sqlite3.SQLITE_IOERR_FSYNC if kind == "flush" and left == 0 else None

        self.disk.fault = fault

    async def _write(self, store: SqliteStore) -> bool:
        """Some steps in one commit; False once nothing can be written any more."""
        works = [self._work(store) for _ in range(self.chance.choice((1, 1, 1, 2, 5, 12)))]
        flushed = any(durable for durable, _ in works)
        with store.follow() as feed:
            try:
                await in_one_commit(store.access.writer, [work for _, work in works])
            except ExceptionGroup as refused:
                if refused.split(StoreError)[1] is not None:
                    raise
                return False
            last = 0
            while (event := await feed.next(timeout_seconds=0)) is not None:
                last = event.number
        if flushed and last:
            # Certain since the commit returned: a copy of the log into the database may follow it already.
            moment = max(number for number, step in enumerate(self.disk.steps) if step.kind == "committed")
            self.certain.append((moment, last))
        return True

    def _work(self, store: SqliteStore) -> tuple[bool, Work]:
        """One thing that somebody does, and whether its answer says that it is flushed."""
        kinds: list[Kind] = [self._hold, self._hold, self._allow, self._deny, self._note]
        kinds += [kind for status, kind in self._next_steps() if self.calls[status]]
        return self.chance.choice(kinds)(store)

    def _next_steps(self) -> list[tuple[Status, Kind]]:
        return [
            (Status.HELD, self._approve),
            (Status.HELD, self._approve),
            (Status.HELD, self._reject),
            (Status.HELD, self._withdraw),
            (Status.APPROVED, self._claim),
            (Status.APPROVED, self._claim),
            (Status.RUNNING, self._settle),
            (Status.RUNNING, self._settle),
        ]

    def _take(self, status: Status) -> CallRecord:
        waiting = self.calls[status]
        return waiting.pop(self.chance.randrange(len(waiting)))

    def _ask(self) -> str:
        self.asked += 1
        size = self.chance.choice((10, 200, 2000, 5000, 30000))
        return f'{{"number":{self.asked},"text":"{"x" * size}"}}'

    def _hold(self, store: SqliteStore) -> tuple[bool, Work]:
        call = tool_call(arguments_json=self._ask())

        async def work() -> None:
            self.calls[Status.HELD].append((await admit(store, call, Asked("conv"), held())).record)

        return True, work

    def _allow(self, store: SqliteStore) -> tuple[bool, Work]:
        call, durable = tool_call(arguments_json=self._ask()), self.chance.random() < 0.3

        async def work() -> None:
            admission = await store.admit(call, Asked("conv"), lambda history: allowed(), durable=durable)
            self.calls[Status.RUNNING].append(admission.record)

        return durable, work

    def _deny(self, store: SqliteStore) -> tuple[bool, Work]:
        call = tool_call(arguments_json=self._ask())

        async def work() -> None:
            await admit(store, call, Asked("conv"), denied())

        return True, work

    def _note(self, store: SqliteStore) -> tuple[bool, Work]:
        async def work() -> None:
            await store.note("policy-loaded", f"sha256:{self.asked}")

        return True, work

    def _approve(self, store: SqliteStore) -> tuple[bool, Work]:
        record = self._take(Status.HELD)

        async def work() -> None:
            self.calls[Status.APPROVED].append(await store.add_verdict(record.id, verdict(record.digest)))

        return True, work

    def _reject(self, store: SqliteStore) -> tuple[bool, Work]:
        record = self._take(Status.HELD)

        async def work() -> None:
            await store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT))

        return True, work

    def _withdraw(self, store: SqliteStore) -> tuple[bool, Work]:
        record = self._take(Status.HELD)

        async def work() -> None:
            await store.withdraw(record.id, record.call.agent)

        return True, work

    def _claim(self, store: SqliteStore) -> tuple[bool, Work]:
        record = self._take(Status.APPROVED)

        async def work() -> None:
            running = await claim(store, record)
            if running is not None:
                self.calls[Status.RUNNING].append(running)

        return True, work

    def _settle(self, store: SqliteStore) -> tuple[bool, Work]:
        record = self._take(Status.RUNNING)
        durable = bool(record.verdicts)

        async def work() -> None:
            await store.settle(record.id, DONE if durable else replace(DONE, result_json=None), durable=durable)

        return durable, work


CAMPAIGN = Campaign(
    name="power",
    says="the power is cut at any moment: nothing acknowledged is lost, no database is corrupt",
    short=100,
    long=10_000,
    run=run,
)
