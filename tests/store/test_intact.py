"""A record that somebody put back: found when the gateway starts, and in the running one before anything runs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hitl_mcp.calls import CallRecord, Outcome, Status, VerdictKind
from hitl_mcp.clock import to_text
from hitl_mcp.store import SqliteStore, chain, open_sqlite
from hitl_mcp.store.intact import NOT_AS_LEFT, SignedHead
from hitl_mcp.store.moves import TAMPERED
from hitl_mcp.store.statements import sql
from tests.clocks import HandClock
from tests.days import ASKED, a_day
from tests.samples import admit, claim, held, tool_call, verdict

PUT_BACK = """UPDATE calls SET
    status = :status, is_open = :is_open, version = :version, changed_at = :changed_at, runner = :runner,
    epoch = :epoch, outcome_at = NULL, outcome_detail = NULL, executed = NULL, result_digest = NULL,
    result_bytes = NULL, closed_reason = :closed_reason
WHERE id = :id"""

Hide = Callable[[sqlite3.Connection, dict[str, Any]], None]


def edit(folder: Path) -> sqlite3.Connection:
    """A second connection to the database, as an intruder has it."""
    connection = sqlite3.connect(folder / "hitl.db", isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def row_of(folder: Path, call_id: str) -> dict[str, Any]:
    """A call's row as it stands, to be put back later."""
    with closing(edit(folder)) as intruder:
        return dict(intruder.execute(sql("call"), {"id": call_id}).fetchone())


def put_back(folder: Path, row: dict[str, Any], hide: Hide) -> None:
    """Write an old row with its old seal, and hide the events that came after it."""
    with closing(edit(folder)) as intruder:
        intruder.execute(PUT_BACK, row)
        hide(intruder, row)


def leave_them(intruder: sqlite3.Connection, row: dict[str, Any]) -> None:
    """The events stay."""


def delete_them(intruder: sqlite3.Connection, row: dict[str, Any]) -> None:
    """The events are gone."""
    intruder.execute("DELETE FROM events WHERE call_id = :id AND version > :version", row)


def cover_up(intruder: sqlite3.Connection, row: dict[str, Any]) -> None:
    """The events are gone, and so is the trace of their numbers."""
    delete_them(intruder, row)
    intruder.execute("UPDATE sqlite_sequence SET seq = (SELECT max(number) FROM events)")


def give_them_away(intruder: sqlite3.Connection, row: dict[str, Any]) -> None:
    """The events are said to be another call's: no number is missing."""
    intruder.execute("UPDATE events SET call_id = 'c_other' WHERE call_id = :id AND version > :version", row)


def write_anew(intruder: sqlite3.Connection, row: dict[str, Any]) -> None:
    """The events are gone, and the chain is made again without them: nothing in it tells."""
    delete_them(intruder, row)
    events = intruder.execute(sql("all_events")).fetchall()
    intruder.execute("DELETE FROM events")
    previous = chain.GENESIS
    for number, event in enumerate(events, start=1):
        columns = (number, *[event[column] for column in chain.EVENT_COLUMNS[1:]])
        previous = chain.link(previous, columns)
        intruder.execute(sql("insert_event"), (*columns, previous))
    intruder.execute("UPDATE sqlite_sequence SET seq = (SELECT max(number) FROM events)")


HIDING = [leave_them, delete_them, cover_up, give_them_away, write_anew]


async def approved(store: SqliteStore) -> CallRecord:
    """A call that people approved."""
    record = (await admit(store, tool_call(), ASKED, held())).record
    return await store.add_verdict(record.id, verdict(record.digest))


async def ran(store: SqliteStore, record: CallRecord) -> None:
    """The approved call runs and ends."""
    assert await claim(store, record) is not None
    done = Outcome(Status.SUCCEEDED, True, to_text(HandClock().now()), "", None, "sha256:" + "5" * 64, 3)
    assert await store.settle(record.id, done, durable=True)


async def rejected(store: SqliteStore, record: CallRecord) -> None:
    """Somebody takes the approval back."""
    await store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT, reviewer="erin"))


async def head_of(store: SqliteStore) -> SignedHead:
    """The newest event, as a checkpoint attests it."""
    return SignedHead(*await store.flushed_head())


@pytest.mark.promise("R3")
@pytest.mark.parametrize("end", [ran, rejected])
@pytest.mark.parametrize("hide", HIDING)
async def test_a_call_that_was_put_back_beside_a_running_gateway_does_not_run(
    tmp_path: Path, hide: Hide, end: Callable[[SqliteStore, CallRecord], Any]
) -> None:
    """Whatever is done to its events: the gateway knows itself that it ended; it is invalidated and reported."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        record = await approved(store)
        before = row_of(tmp_path, record.id)
        await end(store, record)
        put_back(tmp_path, before, hide)
        with closing(edit(tmp_path)) as intruder:
            intruder.execute("DELETE FROM verdicts WHERE kind = 'reject'")
        assert await claim(store, record) is None
        after = await store.get(record.id)
        assert (after.status, after.closed_reason) == (Status.INVALIDATED, TAMPERED)
        assert store.tampered == (record.id,)


@pytest.mark.promise("R3")
@pytest.mark.parametrize("hide", [delete_them, cover_up, give_them_away])
async def test_one_that_ended_in_an_earlier_life_and_was_put_back_later_does_not_run(
    tmp_path: Path, hide: Hide
) -> None:
    """It ran before this gateway started, which therefore never knew it as open."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        record = await approved(store)
        before = row_of(tmp_path, record.id)
        await ran(store, record)
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        assert (await store.look_back(None)).findings == ()
        put_back(tmp_path, before, hide)
        assert await claim(store, record) is None
        assert (await store.get(record.id)).closed_reason == TAMPERED


@pytest.mark.promise("R3")
@pytest.mark.parametrize(
    ("hide", "says"),
    [
        (leave_them, None),
        (delete_them, "2 events are missing"),
        (cover_up, "2 events are missing"),
        (give_them_away, "is missing, or was changed"),
        (write_anew, "was signed at"),
    ],
)
async def test_a_call_that_was_put_back_while_the_gateway_was_stopped_ends_at_its_start(
    tmp_path: Path, hide: Hide, says: str | None
) -> None:
    """Its events, the numbers, the links or the signed head tell; it never runs again, and nothing else does."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await a_day(store)
        await store.resume("dana")
        record = await approved(store)
        before = row_of(tmp_path, record.id)
        await ran(store, record)
        await store.resume("dana")
        signed = await head_of(store)
    put_back(tmp_path, before, hide)
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        found = await store.look_back(signed)
        await store.recover()
        assert says in "; ".join(found.findings) if says else found.findings == ()
        assert await claim(store, record) is None
        assert (await store.get(record.id)).status is Status.INVALIDATED
        assert bool(store.tampering) is bool(says)
        assert store.tampered or says  # what was done to this call alone is told of the call


@pytest.mark.promise("R3")
async def test_a_database_that_was_rolled_back_runs_nothing_and_says_so(tmp_path: Path) -> None:
    """The whole file as it was before the call ran: all that is open in it ends, once, and the report stays."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        record = await approved(store)
        with closing(edit(tmp_path)) as intruder:
            intruder.execute("VACUUM INTO ?", [str(tmp_path / "older.db")])
        await ran(store, record)
        signed = await head_of(store)
    shutil.copyfile(tmp_path / "older.db", tmp_path / "hitl.db")
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        found = await store.look_back(signed)
        assert found.findings == ("the record ends at event 2, but event 4 was signed at 2026-11-22T12:00:00.000000Z",)
        assert await claim(store, record) is None
        assert (await store.get(record.id)).closed_reason == NOT_AS_LEFT
        assert store.tampering == found.findings[0]
        assert store.tampered == ()
        signed = await head_of(store)
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        assert (await store.look_back(signed)).findings == ()
        await store.recover()
        assert store.tampering == found.findings[0]


async def test_a_record_that_was_made_anew_is_not_the_one_that_was_signed(tmp_path: Path) -> None:
    """Another database with as many events: their hashes differ."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await a_day(store)
        signed = await head_of(store)
    (tmp_path / "hitl.db").unlink()
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await a_day(store, 1)
        found = await store.look_back(signed)
        assert found.findings == (f"event {signed.number} is not the one that was signed at {signed.at}",)
        assert found.ended == 1


async def test_events_that_are_missing_are_told_of_once(tmp_path: Path) -> None:
    """A number that no event has any more ends what is open; at the next start it is known, another one is not."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await a_day(store)
    with closing(edit(tmp_path)) as intruder:
        intruder.execute("DELETE FROM events WHERE kind = 'preview'")
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        found = await store.look_back(None)
        assert (found.findings, found.ended) == (("1 event is missing",), 1)
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        assert (await store.look_back(None)).findings == ()
    with closing(edit(tmp_path)) as intruder:
        intruder.execute("DELETE FROM events WHERE kind = 'told'")
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        assert (await store.look_back(None)).findings == ("2 events are missing",)


async def test_the_newest_events_leave_a_trace_when_they_are_cut_off(tmp_path: Path) -> None:
    """The numbers that were given out are kept beside them; so is up to where the record was signed."""
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        await a_day(store)
        number, *_ = await store.flushed_head()
        await store.flushed_head(number)
    with closing(edit(tmp_path)) as intruder:
        intruder.execute("DELETE FROM events WHERE number > ?", [number - 1])
        intruder.execute("DELETE FROM settings WHERE key = 'pause'")
    async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
        found = await store.look_back(None)
        cut = f"the record ends at event {number - 1}, but event {number} was signed"
        assert found.findings == (cut, "1 event is missing")


async def test_a_call_one_of_whose_events_is_gone_or_changed_does_not_run(tmp_path: Path) -> None:
    """Its versions have a gap, or a link does not fit: found in the claim itself."""
    for statement in (
        "DELETE FROM events WHERE version = 1",
        "UPDATE events SET detail = 'x' WHERE version = 2",
        "UPDATE events SET call_id = 'c_other'",
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        async with open_sqlite(folder / "hitl.db", HandClock()) as store:
            record = await approved(store)
            with closing(edit(folder)) as intruder:
                intruder.execute(statement)
            assert await claim(store, record) is None
            assert (await store.get(record.id)).closed_reason == TAMPERED


async def test_a_record_that_nobody_touched_is_as_it_was_left(tmp_path: Path) -> None:
    """Over several lives, with calls open, signed or not, and after a refused step: never an alarm."""
    signed = None
    for day in range(3):
        async with open_sqlite(tmp_path / "hitl.db", HandClock()) as store:
            found = await store.look_back(signed)
            assert (found.findings, found.ended) == ((), 0)
            await store.recover()
            await store.resume("dana")
            ids = await a_day(store, day)
            with pytest.raises(Exception, match="rejected"):
                await store.withdraw(ids["rejected"], "builder")
            signed = await head_of(store) if day else None
            assert (store.tampered, store.tampering) == ((), None)
