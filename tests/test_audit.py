"""The record as evidence: whatever was changed is found, what was cut off is found or said to be beyond telling."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from hitl_mcp.audit import Checkpoints, Evidence, Signer
from hitl_mcp.audit.verify import Report
from hitl_mcp.calls import VerdictKind
from hitl_mcp.clock import to_text
from hitl_mcp.store import SqliteStore, open_sqlite
from tests.clocks import HandClock
from tests.days import ASKED, a_day
from tests.samples import admit, claim, held, tool_call, verdict


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still until a test moves it."""
    return HandClock()


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    """A real store."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as opened:
        yield opened


def evidence(folder: Path) -> Evidence:
    """The record in a folder, with its checkpoints."""
    return Evidence(folder / "hitl.db", folder / "checkpoints.jsonl", folder / "audit.pub")


def signed(folder: Path, store: SqliteStore) -> Checkpoints:
    """Whoever signs the heads of a store."""
    return Checkpoints(store, Signer(folder / "audit.key", folder / "checkpoints.jsonl"))


def tampered(folder: Path, statement: str, *values: object) -> Report:
    """What verifying says once somebody ran a statement on the database."""
    with closing(sqlite3.connect(folder / "hitl.db", isolation_level=None)) as intruder:
        intruder.execute(statement, values)
    return evidence(folder).verify()


async def test_a_record_that_nobody_touched_is_fine_up_to_its_last_checkpoint(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Everything that can happen to a call happened, the head was signed: fine, and nothing stands after it."""
    await a_day(store)
    await signed(tmp_path, store).sign_head()
    report = evidence(tmp_path).verify()
    assert (report.findings, report.answer) == ([], "fine")
    assert (report.attested, report.unsigned) == (report.events, 0)
    assert report.calls == 6


async def test_without_a_checkpoint_nobody_can_tell_whether_the_end_was_cut_off(
    store: SqliteStore, tmp_path: Path
) -> None:
    """The chain fits together, with its last events as without: the answer is `cannot tell`, not `fine`."""
    await a_day(store)
    assert evidence(tmp_path).verify().answer == "cannot tell"
    report = tampered(tmp_path, "DELETE FROM events WHERE kind = 'paused'")
    assert "whether everything is paused was changed" in report.findings
    report = tampered(tmp_path, "DELETE FROM settings WHERE key = 'pause'")
    assert (report.findings, report.answer) == ([], "cannot tell")


async def test_an_end_that_was_cut_off_after_it_was_signed_is_found(store: SqliteStore, tmp_path: Path) -> None:
    """The newest events and all they left are deleted: the checkpoint tells that they were there."""
    await a_day(store)
    await signed(tmp_path, store).sign_head()
    tampered(tmp_path, "DELETE FROM settings WHERE key = 'pause'")
    report = tampered(tmp_path, "DELETE FROM events WHERE kind = 'paused'")
    assert report.answer == "broken"
    assert report.findings[0].startswith(f"the record ends at event {report.events}, but event {report.events + 1} was")


async def test_a_checkpoint_that_somebody_else_signed_is_found(store: SqliteStore, tmp_path: Path) -> None:
    """A line signed with another key, or changed after it was signed, is no proof, and is named."""
    await a_day(store)
    checkpoints = signed(tmp_path, store)
    await checkpoints.sign_head()
    number, head, at = await store.flushed_head()
    Signer(tmp_path / "other.key", tmp_path / "checkpoints.jsonl").sign(number, head, at)
    report = evidence(tmp_path).verify()
    assert report.findings == ["checkpoint 2 (of event 0) has a signature that does not fit"]


async def test_a_checkpoint_that_was_being_written_when_the_power_went_is_no_tampering(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Half a line at the end of the file is left out."""
    await a_day(store)
    await signed(tmp_path, store).sign_head()
    with (tmp_path / "checkpoints.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"at":"2026')
    assert evidence(tmp_path).verify().answer == "fine"


async def test_an_export_verifies_without_the_database(store: SqliteStore, tmp_path: Path) -> None:
    """The lines alone carry the chain: whole they fit, with one word changed they do not."""
    await a_day(store)
    await signed(tmp_path, store).sign_head()
    here = evidence(tmp_path)
    lines = [line + "\n" for line in here.export(payloads=True)]
    assert any('"c@example.com' in line for line in lines)
    assert not any("c@example.com" in line for line in here.export())
    written = tmp_path / "export.jsonl"
    written.write_text("".join(lines), encoding="utf-8")
    whole = Evidence(written, here.checkpoints, here.public_key)
    assert whole.verify().answer == "fine"
    written.write_text("".join(lines).replace("lunch", "launch"), encoding="utf-8")
    assert whole.verify().findings == [
        f"event {len(lines)} (paused, 2026-11-22T12:00:00.000000Z) was changed, or one before it"
    ]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE calls SET arguments_json = '{}' WHERE status = 'held'", "its arguments, or what they are bound to"),
        ("UPDATE calls SET status = 'failed' WHERE status = 'succeeded'", "`status` is `failed`"),
        ("UPDATE calls SET result_json = '{}' WHERE result_json IS NOT NULL", "its result was changed"),
        ("UPDATE calls SET result_json = NULL", "its result was removed"),
        ("UPDATE calls SET claim = 'because' WHERE status = 'held'", "its agent's claim was changed"),
        ("UPDATE calls SET outcome_detail = 'x' WHERE status = 'succeeded'", "its outcome was changed"),
        ("UPDATE calls SET runner = 'other' WHERE status = 'succeeded'", "its runner"),
        ("UPDATE verdicts SET reviewer = 'eve' WHERE kind = 'reject'", "its verdicts are not those that were given"),
        ("DELETE FROM verdicts", "its verdicts are not those that were given"),
        ("UPDATE previews SET result_json = '[]'", "the result of its preview"),
        ("UPDATE marks SET amount = 0", "what it counts for"),
        ("UPDATE policies SET written = '[]'", "policy"),
        ("UPDATE events SET detail = 'x' WHERE kind = 'rejected'", "was changed, or one before it"),
        ("DELETE FROM events WHERE kind = 'preview'", "is missing"),
        ("UPDATE calls SET seq = 99 WHERE status = 'denied'", "it stands in another order"),
    ],
)
async def test_what_was_changed_is_named(store: SqliteStore, tmp_path: Path, statement: str, says: str) -> None:
    """One statement behind the gateway's back: the report is `broken`, and says where."""
    await a_day(store)
    await signed(tmp_path, store).sign_head()
    report = tampered(tmp_path, statement)
    assert report.answer == "broken"
    assert any(says in finding for finding in report.findings), report.findings


async def test_a_writer_beside_it_does_not_look_like_tampering(store: SqliteStore, tmp_path: Path) -> None:
    """Verifying reads one snapshot: what is written meanwhile is in the next report."""
    await a_day(store)
    before = evidence(tmp_path).verify()
    await store.resume("dana")
    after = evidence(tmp_path).verify()
    assert (before.findings, after.findings, after.events - before.events) == ([], [], 1)


async def test_only_flushed_heads_are_signed_and_each_once(
    store: SqliteStore, tmp_path: Path, clock: HandClock
) -> None:
    """Signing writes durably first, so that what was committed before is on disk; without news nothing is signed."""
    await a_day(store)
    checkpoints = signed(tmp_path, store)
    await checkpoints.sign_head()
    await checkpoints.sign_head()
    lines = (tmp_path / "checkpoints.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1
    assert to_text(clock.now()) in lines[0]
    assert (tmp_path / "checkpoints.jsonl").stat().st_mode & 0o777 == 0o600


async def test_a_checkpoint_after_one_that_was_torn_stands_on_its_own_line(store: SqliteStore, tmp_path: Path) -> None:
    """A crash or a full disk left half a line: the next one does not make a broken line of both."""
    await a_day(store)
    checkpoints = signed(tmp_path, store)
    await checkpoints.sign_head()
    with (tmp_path / "checkpoints.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"at":"2026')
    await store.resume("dana")
    await checkpoints.sign_head()
    report = evidence(tmp_path).verify()
    assert (report.findings, report.answer, report.unsigned) == ([], "fine", 0)


async def at_the_next_start(folder: Path, clock: HandClock) -> tuple[str | None, str | None]:
    """What is reported as tampering, and what cannot be told, once the record is opened again."""
    async with open_sqlite(folder / "hitl.db", clock) as store:
        checkpoints = signed(folder, store)
        await checkpoints.look_back()
        found = store.tampering, checkpoints.doubt
        await checkpoints.sign_head()
    return found


async def recorded(folder: Path, clock: HandClock, day: int = 0) -> None:
    """A day's record, signed twice: at its end, and after one event more."""
    async with open_sqlite(folder / "hitl.db", clock) as store:
        checkpoints = signed(folder, store)
        await a_day(store, day)
        await checkpoints.sign_head()
        await store.resume("dana")
        await checkpoints.sign_head()
        await checkpoints.sign_head()


async def test_a_start_finds_the_record_as_it_was_signed(tmp_path: Path, clock: HandClock) -> None:
    """The first start of all, one after an orderly end, and one after events that nobody came to sign: no alarm."""
    assert await at_the_next_start(tmp_path, clock) == (None, None)
    await recorded(tmp_path, clock)
    assert await at_the_next_start(tmp_path, clock) == (None, None)
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        await store.pause("dana", "lunch")
    assert await at_the_next_start(tmp_path, clock) == (None, None)


async def test_a_start_without_the_checkpoints_cannot_tell_and_says_so_once(tmp_path: Path, clock: HandClock) -> None:
    """The record says that it was signed, and the file is gone: no tampering, and once it is signed again no doubt."""
    await recorded(tmp_path, clock)
    (tmp_path / "checkpoints.jsonl").unlink()
    tampering, doubt = await at_the_next_start(tmp_path, clock)
    assert tampering is None
    assert doubt is not None
    assert doubt.endswith("its checkpoint is gone: nobody can tell whether the record was rolled back")
    assert await at_the_next_start(tmp_path, clock) == (None, None)


async def test_a_start_whose_newest_checkpoint_was_edited_holds_the_record_against_the_one_before(
    tmp_path: Path, clock: HandClock
) -> None:
    """The edited line proves nothing, which is said; a record that was cut before the other one is found."""
    await recorded(tmp_path, clock)
    file = tmp_path / "checkpoints.jsonl"
    first, second = file.read_text(encoding="utf-8").splitlines()
    file.write_text(f"{first}\n{second.replace('2026', '2025')}\n", encoding="utf-8")
    backup = (tmp_path / "hitl.db").read_bytes()
    tampering, doubt = await at_the_next_start(tmp_path, clock)
    assert tampering is None
    assert doubt is not None
    assert doubt.startswith("the last 1 checkpoints have signatures that do not fit")
    file.write_text(f"{first}\n{second.replace('2026', '2025')}\n", encoding="utf-8")
    (tmp_path / "hitl.db").write_bytes(backup)
    with closing(sqlite3.connect(tmp_path / "hitl.db", isolation_level=None)) as intruder:
        intruder.execute("DELETE FROM events WHERE number > 3")
        intruder.execute("DELETE FROM settings")
        intruder.execute("UPDATE sqlite_sequence SET seq = 3")
    tampering, _ = await at_the_next_start(tmp_path, clock)
    assert tampering is not None
    assert tampering.startswith("the record ends at event 3, but event ")


async def test_a_key_that_was_lost_is_no_tampering(tmp_path: Path, clock: HandClock) -> None:
    """None of the checkpoints fits the new key: nobody can tell."""
    await recorded(tmp_path, clock)
    (tmp_path / "audit.key").unlink()
    tampering, doubt = await at_the_next_start(tmp_path, clock)
    assert (tampering, doubt is not None) == (None, True)
    assert await at_the_next_start(tmp_path, clock) == (None, None)


async def test_what_uses_an_approval_up_is_signed_at_once(store: SqliteStore, tmp_path: Path) -> None:
    """Without waiting for the next minute: a claim and a rejection stand in the file as soon as they are on record."""
    checkpoints, file = signed(tmp_path, store), tmp_path / "checkpoints.jsonl"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(checkpoints.run)
        for end in (VerdictKind.APPROVE, VerdictKind.REJECT):
            record = (await admit(store, tool_call(arguments_json=f'{{"n":"{end}"}}'), ASKED, held())).record
            moved = await store.add_verdict(record.id, verdict(record.digest, end))
            if end is VerdictKind.APPROVE:
                assert await claim(store, moved) is not None
            number = await store.last_event_number()
            with anyio.fail_after(5):
                while not (file.exists() and f'"number":{number},' in file.read_text(encoding="utf-8")):
                    await anyio.sleep(0)
        tasks.cancel_scope.cancel()
