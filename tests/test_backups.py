"""Copies of the record, past the commands: what a crash half-way leaves, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hitl_mcp.audit import Checkpoints, Evidence, Signer
from hitl_mcp.backups import Place, back_up, restore
from hitl_mcp.calls import Status
from hitl_mcp.errors import StoreError
from hitl_mcp.store import open_sqlite
from hitl_mcp.store.steps import RESTORED
from tests.clocks import HandClock
from tests.days import a_day
from tests.granting import DANA, ask, claimed, wanted

AT = "2026-11-22T12:00:00.000000Z"


def place(folder: Path) -> Place:
    """Where a gateway's record belongs, in a folder."""
    signer = Signer(folder / "audit.key", folder / "checkpoints.jsonl")
    return Place(folder / "hitl.db", folder / "hitl.db.key", signer)


def evidence(folder: Path) -> Evidence:
    """The record of that place."""
    return Evidence(folder / "hitl.db", folder / "checkpoints.jsonl", folder / "audit.pub")


async def a_backup(folder: Path) -> Path:
    """A backup of a day's record."""
    async with open_sqlite(folder / "hitl.db", HandClock()) as store:
        await a_day(store)
        back_up(evidence(folder), place(folder).signer, folder / "monday.db", AT)
    return folder / "monday.db"


async def test_a_restore_that_was_not_finished_starts_no_empty_record(tmp_path: Path) -> None:
    """The machine stopped between putting the old database aside and the new one in its place: nobody starts anew."""
    backup = await a_backup(tmp_path)
    shutil.copyfile(backup, tmp_path / "hitl.db.restoring")
    (tmp_path / "hitl.db").rename(tmp_path / "hitl.db.before")
    with pytest.raises(StoreError, match="a restore was not finished"):
        async with open_sqlite(tmp_path / "hitl.db", HandClock()):
            pass
    assert not (tmp_path / "hitl.db").exists()
    restored = await restore(backup, place(tmp_path), HandClock())
    assert restored.report.answer == "fine"
    assert evidence(tmp_path).verify().answer == "fine"


async def test_what_was_open_in_a_backup_ends_and_the_rest_is_there(tmp_path: Path) -> None:
    """Held becomes invalidated; what had ended stands as it did; no later checkpoint calls it tampering."""
    backup = await a_backup(tmp_path)
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        await store.resume("dana")
        await a_day(store, 1)
        number, head, at = await store.flushed_head()
        place(tmp_path).signer.sign(number, head, at)
    restored = await restore(backup, place(tmp_path), clock)
    assert restored.ended == 1
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        statuses = [record.status for record in (await store.list_calls(None)).calls]
    assert sorted(statuses) == sorted(
        [Status.SUCCEEDED, Status.DENIED, Status.SUCCEEDED, Status.REJECTED, Status.INVALIDATED, Status.WITHDRAWN]
    )
    assert evidence(tmp_path).verify().answer == "fine"


async def test_a_restored_record_is_no_tampering_at_the_next_start(tmp_path: Path) -> None:
    """What was signed since the backup is gone from the record, and the restore says why."""
    backup, clock = await a_backup(tmp_path), HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        await store.resume("dana")
        await a_day(store, 1)
        await Checkpoints(store, place(tmp_path).signer).sign_head()
    await restore(backup, place(tmp_path), clock)
    assert not list(tmp_path.glob("hitl.db.restoring*"))
    for _ in range(2):
        async with open_sqlite(tmp_path / "hitl.db", clock) as store:
            checkpoints = Checkpoints(store, place(tmp_path).signer)
            await checkpoints.look_back()
            await store.recover()
            assert (store.tampering, store.tampered, checkpoints.doubt) == (None, (), None)
            await checkpoints.sign_head()


@pytest.mark.promise("R3")
async def test_a_restore_that_cannot_be_finished_has_nothing_open_in_its_place(tmp_path: Path) -> None:
    """The new database ended what was open before anything could start on it; until it is done, nothing starts."""
    backup = await a_backup(tmp_path)
    where = place(tmp_path)
    (tmp_path / "checkpoints.jsonl").unlink(missing_ok=True)
    (tmp_path / "checkpoints.jsonl").mkdir()  # it cannot be signed
    with pytest.raises(StoreError, match="cannot be put in its place"):
        await restore(backup, where, HandClock())
    with pytest.raises(StoreError, match="a restore was not finished"):
        async with open_sqlite(tmp_path / "hitl.db", HandClock()):
            pass
    async with open_sqlite(tmp_path / "hitl.db.restoring", HandClock(), tmp_path / "hitl.db.key") as store:
        assert await store.count_open() == {}
    (tmp_path / "checkpoints.jsonl").rmdir()
    assert (await restore(backup, where, HandClock())).ended == 1
    assert evidence(tmp_path).verify().answer == "fine"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no database at all, and long enough to look like a page of one" * 10, "no database"),
        (b"", "no database of hitl-mcp"),
    ],
)
async def test_what_is_no_backup_is_refused_and_nothing_is_changed(tmp_path: Path, content: bytes, says: str) -> None:
    """Another file under the name of a backup: said, and the database stays where it is."""
    await a_backup(tmp_path)
    wrong = tmp_path / "wrong.db"
    wrong.write_bytes(content)
    with pytest.raises(StoreError, match=says):
        await restore(wrong, place(tmp_path), HandClock())
    assert evidence(tmp_path).verify().calls == 6
    assert not list(tmp_path.glob("hitl.db.before-*"))


async def test_a_damaged_backup_is_refused(tmp_path: Path) -> None:
    """Pages were overwritten on their way: it is not put in the place of anything."""
    backup = await a_backup(tmp_path)
    content = bytearray(backup.read_bytes())
    content[8192 : 8192 + 4096] = b"\xff" * 4096
    backup.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|cannot be read|was changed"):
        await restore(backup, place(tmp_path), HandClock())


async def test_a_backup_to_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """No folder of that name: refused, and no half of a file lies about."""
    await a_backup(tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        back_up(evidence(tmp_path), place(tmp_path).signer, tmp_path / "no" / "where.db", AT)
    assert not list(tmp_path.rglob("*.part"))


async def test_a_restore_brings_back_no_grant(tmp_path: Path) -> None:
    """Live in the backup, and used up or revoked since: all end, and the calls that they had approved with them."""
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        record = (await ask(store)).record
        used_up = await store.grants.give(wanted(record, uses=1), DANA)
        revoked = await store.grants.give(wanted(record, minutes=90), DANA)
        waiting = (await ask(store, to="b@example.com")).record
        back_up(evidence(tmp_path), place(tmp_path).signer, tmp_path / "monday.db", AT)
        assert await claimed(store, waiting) is not None
        await store.grants.revoke(revoked.id, "dana", "")
    await restore(tmp_path / "monday.db", place(tmp_path), clock)
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        await store.recover()
        assert await store.grants.list(live=True) == ()
        assert {(grant.id, grant.ended_why) for grant in await store.grants.list(live=False)} == {
            (used_up.id, RESTORED),
            (revoked.id, RESTORED),
        }
        assert (await store.get(waiting.id)).status is Status.INVALIDATED
        assert (await ask(store, to="c@example.com")).record.status is Status.HELD
    assert evidence(tmp_path).verify().answer == "fine"
