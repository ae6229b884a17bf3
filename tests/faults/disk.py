"""The disk fills up, fails or is locked under a working gateway, and memory or descriptors run out. Then it ends.

Everything is real but the disk's own word: agents ask, reviewers approve, and effects are counted in the upstream's
own file. Nothing may have an effect that is not on record as running; nothing acknowledged may be missing; work goes on
by itself when what passes has passed, and after a restart where a failed disk makes that needful.
"""

from __future__ import annotations

import random
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio

from hitl_mcp.audit.verify import verify_database
from hitl_mcp.calls import CallRecord, Status
from hitl_mcp.errors import NotNow, StoreError
from tests.faults.apsw_connection import Connection
from tests.faults.campaign import Campaign, Tally
from tests.faults.limits import limited, locked_by_another, open_files
from tests.faults.recorded_disk import RecordedDisk
from tests.houses import WAIT_SECONDS, House, house
from tests.upstream_programs import effects, let_go

UNRECORDED = "an effect without its running record"
TWICE = "an effect twice"
LOST = "an acknowledged record was lost"
STUCK = "work did not resume"
SENT = "a call that was refused took effect"
ALARM = "the record does not verify"

BURSTS = 5
"""How often several agents ask at once while the fault may strike."""


@dataclass(frozen=True)
class Fault:
    """One way in which a disk, a file or a machine fails; `step` and `code` where the disk itself is told to."""

    name: str
    passes: bool
    step: str = ""
    code: int = 0

    @contextmanager
    def strikes(self, path: Path) -> Iterator[None]:
        """Make it so while the block lasts, where a machine can."""
        with self._really(path):
            yield

    def _really(self, path: Path) -> AbstractContextManager[object]:
        if self.name == "locked by another program":
            return locked_by_another(path)
        if self.name == "file-size limit":
            log = path.with_name(path.name + "-wal")
            return limited(resource.RLIMIT_FSIZE, log.stat().st_size)
        if self.name == "too many open files":
            return limited(resource.RLIMIT_NOFILE, open_files())
        return nullcontext()


FAULTS = (
    Fault("disk full", True, "write", sqlite3.SQLITE_FULL),
    Fault("write error", False, "write", sqlite3.SQLITE_IOERR_WRITE),
    Fault("flush error", False, "flush", sqlite3.SQLITE_IOERR_FSYNC),
    Fault("read error", False, "read", sqlite3.SQLITE_IOERR_READ),
    Fault("out of memory", True, "write", sqlite3.SQLITE_NOMEM),
    Fault("locked by another program", True),
    Fault("file-size limit", True),
    Fault("too many open files", True),
)


def run(rounds: int, seed: int, folder: Path) -> Tally:
    """Play so many rounds, each with a fresh gateway and one fault; the seed alone decides which and when."""
    tally = Tally()
    tally.never(UNRECORDED, TWICE, LOST, STUCK, SENT, ALARM)
    for number in range(seed, seed + rounds):
        home = folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        fault = FAULTS[number % len(FAULTS)]
        anyio.run(_Round(number, home, fault, tally).play)
    return tally


@dataclass
class _Round:
    """One gateway, one fault, and what everyone was told."""

    number: int
    folder: Path
    fault: Fault
    tally: Tally
    chance: random.Random = field(init=False)
    disk: RecordedDisk = field(default_factory=RecordedDisk)
    met: int = 0
    held: list[CallRecord] = field(default_factory=list)
    approved: list[CallRecord] = field(default_factory=list)
    ran: list[CallRecord] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.number)

    def breach(self, what: str, more: str = "") -> None:
        """Note a breach, with the seed that shows it again."""
        self.tally.breach(what, f"seed {self.number} ({self.fault.name}) {more}".rstrip())

    async def play(self) -> None:
        """The fault strikes at work; then it ends, and work has to go on."""
        let_go(self.folder)
        self.tally.count(f"rounds: {self.fault.name}")
        try:
            again = await self._with_the_fault()
            if again:
                await self._after_a_restart()
        finally:
            self.disk.close()
        self._check_record()

    def _connect(self, path: Path) -> sqlite3.Connection:
        return cast(sqlite3.Connection, Connection(path, self.disk.name, _impatient, self.disk.committed))

    async def _with_the_fault(self) -> bool:
        """Work before, during and after the fault; True where only a restart can follow."""
        async with house(self.folder, connect=self._connect) as place:
            await self._burst(place, "before")
            with ExitStack() as faults:
                strikes_in = self.chance.randrange(BURSTS)
                self._tell_disk(self.chance.randrange(12 if self.fault.step == "flush" else 30))
                for number in range(BURSTS):
                    if number == strikes_in:
                        faults.enter_context(self.fault.strikes(self.folder / "hitl.db"))
                    await self._burst(place, f"burst{number}")
                self.disk.fault = lambda kind, name: None
            if self.met or place.store.trouble is not None:
                self.tally.count(f"faults met: {self.fault.name}")
            if place.store.broken is not None:
                await self._refuses(place)
                return True
            await self._goes_on(place, "resumed by itself")
        return False

    def _tell_disk(self, first: int) -> None:
        """From some step on, every such step fails."""
        if not self.fault.step:
            return
        left = first

        def fails(kind: str, name: str) -> int | None:
            nonlocal left
            if kind != self.fault.step:
                return None
            left -= 1
            self.met += left < 0
            return self.fault.code if left < 0 else None

        self.disk.fault = fails

    async def _burst(self, place: House, name: str) -> None:
        """Agents ask for calls that run and calls that are held, all at once; reviewers approve what was held."""
        async with anyio.create_task_group() as tasks:
            for number in range(2):
                tasks.start_soon(self._ask_allowed, place, f"{name}-allowed{number}")
                tasks.start_soon(self._ask_held, place, f"{name}-held{number}")
            for record in self.held[:]:
                if self.chance.random() < 0.7:
                    self.held.remove(record)
                    tasks.start_soon(self._approve, place, record)

    async def _ask_allowed(self, place: House, what: str) -> bool:
        try:
            run = await place.ask("steps", what=what)
        except StoreError:
            self.refused.append(what)
            return False
        with anyio.fail_after(WAIT_SECONDS):
            await run.finished.wait()
        if run.record is not None:
            self.ran.append(run.record)
        return True

    async def _ask_held(self, place: House, what: str) -> CallRecord | None:
        try:
            record = await place.hold("slow", what=what)
        except StoreError:
            self.refused.append(what)
            return None
        self.held.append(record)
        return record

    async def _approve(self, place: House, record: CallRecord) -> None:
        try:
            self.approved.append(await place.approve(record))
        except NotNow:
            self.held.append(record)
        except StoreError:
            self.tally.count("verdicts refused for good")  # nobody knows whether it was written

    async def _refuses(self, place: House) -> None:
        """A gateway whose disk failed refuses everything, though the disk works again."""
        if await self._ask_allowed(place, "refused-later"):
            self.breach("a gateway went on after an I/O error")

    async def _after_a_restart(self) -> None:
        async with house(self.folder, connect=self._connect) as place:
            await place.store.recover()
            await self._goes_on(place, "resumed after a restart")

    async def _goes_on(self, place: House, how: str) -> None:
        """A new call runs, a held one is held, approved and runs, and what was approved before comes to its end."""
        try:
            if not await self._ask_allowed(place, "after-allowed"):
                self.breach(STUCK, "an allowed call was refused")
                return
            record = await self._ask_held(place, "after-held")
            if record is None:
                self.breach(STUCK, "nothing could be held")
                return
            await self._approve(place, record)
            for one in (*self.approved, *self.ran):
                await place.settled(one.id)
        except TimeoutError:
            self.breach(STUCK, "a call did not end")
            return
        if place.store.trouble is not None:
            self.breach(STUCK, "the trouble is still shown")
        self.tally.count(how)

    def _check_record(self) -> None:
        """Hold the record, read as any program would, against what happened outside and what everyone was told."""
        happened = effects(self.folder)
        self.tally.count("effects", len(happened))
        self.tally.count("calls refused", len(self.refused))
        with closing(sqlite3.connect(self.folder / "hitl.db")) as database:
            database.row_factory = sqlite3.Row
            ran = [what for (what,) in database.execute(_RAN)]
            status = dict(database.execute("SELECT id, status FROM calls"))
            given = {call_id for (call_id,) in database.execute("SELECT call_id FROM verdicts")}
            if verify_database(database).answer == "broken":
                self.breach(ALARM)
        for what in set(happened):
            if what not in ran:
                self.breach(UNRECORDED, what)
            if happened.count(what) > 1:
                self.breach(TWICE, what)
            if what in self.refused:
                self.breach(SENT, what)
        for record in (*self.held, *self.approved, *self.ran):
            if record.id not in status:
                self.breach(LOST, record.id)
        for record in self.approved:
            if record.id not in given or status.get(record.id) == Status.HELD:
                self.breach(LOST, f"the verdict on {record.id}")


def _impatient(statement: str) -> str:
    return "PRAGMA busy_timeout=20" if statement.startswith("PRAGMA busy_timeout=") else statement


_RAN = """
SELECT json_extract(arguments_json, '$.what') FROM calls
WHERE EXISTS (SELECT 1 FROM events WHERE events.call_id = calls.id AND events.status = 'running')
"""

CAMPAIGN = Campaign(
    name="disk",
    says="the disk fails, fills up or is locked, memory or descriptors run out: nothing runs unrecorded, work resumes",
    short=16,
    long=1_000,
    run=run,
)
