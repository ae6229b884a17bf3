"""Copies of the whole record: a backup of a gateway that runs, and a restore while none does.

A backup is a database file; beside it lie the checkpoints up to its last event and the public key, so that it can be
verified anywhere. Keys that sign or seal are not in it. What was open in a backup may have been decided and run since,
so a restore ends it: nothing runs twice because its record went back in time.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from hitl_mcp.audit import Checkpoints, Evidence, Report, Signer, open_for_reading
from hitl_mcp.audit.checkpoints import number_of
from hitl_mcp.clock import Clock, for_people
from hitl_mcp.errors import StoreError
from hitl_mcp.store import open_sqlite
from hitl_mcp.store.sqlite import RESTORING
from hitl_mcp.store.statements import migrations, sql

SIDE_FILES = ("", "-wal", "-shm")
"""What a database in WAL mode consists of (sqlite.org/wal.html)."""


@dataclass(frozen=True)
class Kept:
    """A backup that was made."""

    file: Path
    events: int
    size_bytes: int


def back_up(record: Evidence, signer: Signer, to: Path, at: str) -> Kept:
    """Copy the record as it stands to a new file, whole and on disk when this returns.

    Raises:
        StoreError: The file is there already, or cannot be written.
    """
    if to.exists():
        raise StoreError(f"{to}: there is a file of this name", help="name another one; backups are not overwritten")
    part = to.with_name(to.name + ".part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(open_for_reading(record.record)) as connection:
            # A snapshot: what is written meanwhile is not in it, and waits for nothing.
            connection.execute("VACUUM INTO ?", (str(part),))
        number, head = _head(part)
        signed = [line for line in _lines(record.checkpoints) if number_of(line) <= number]
        signed.append(signer.line(number, head, at))
        _write(to.with_name(to.name + ".checkpoints"), signed)
        _write(to.with_name(to.name + ".pub"), [signer.public_key.hex() + "\n"])
        _flush(part)
        part.rename(to)
        _flush(to.parent)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreError(f"{to}: the backup cannot be written: {error}", help="name a place with room") from error
    return Kept(to, number, to.stat().st_size)


@dataclass(frozen=True)
class Keeping:
    """What a running gateway keeps of its record, for whoever wants to verify it or copy it."""

    evidence: Evidence
    signer: Signer
    checkpoints: Checkpoints


@dataclass(frozen=True)
class Restored:
    """What a restore did: what verifying the backup said, where the database that was there is now, what was ended."""

    report: Report
    set_aside: Path | None
    ended: int


@dataclass(frozen=True)
class Place:
    """Where a gateway's record belongs: its database, the key of its seals, and who signs its heads."""

    database: Path
    seals_file: Path
    signer: Signer


async def restore(backup: Path, place: Place, clock: Clock) -> Restored:
    """Put a backup in the place of the database. No gateway may run meanwhile: the caller holds its lock.

    Raises:
        StoreError: The backup is no database of ours, was tampered with or is damaged, or cannot be copied.
    """
    report, database, signer = _fit_to_restore(backup), place.database, place.signer
    fresh = database.with_name(database.name + RESTORING)
    try:
        for suffix in SIDE_FILES:  # of a restore that was not finished
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(backup, fresh)
        os.chmod(fresh, 0o600)
        _flush(fresh)
        # INVARIANT: what was open has ended, and that is signed, before the backup is in its place: a gateway starts on
        # it with nothing that may run, and finds the record that was signed last. Until then none starts at all.
        async with open_sqlite(fresh, clock, place.seals_file) as store:
            ended = await store.end_restored(f"restored from `{backup.name}`, which ends at event {report.events}")
            number, head, at = await store.flushed_head()
        fresh.with_name(fresh.name + ".lock").unlink(missing_ok=True)
        _flush(fresh)
        signer.sign(report.events, report.head, at, restored=True)
        signer.sign(number, head, at)
        set_aside = _set_aside(database, at)
        fresh.rename(database)
        _flush(database.parent)
    except OSError as error:
        raise StoreError(f"{database}: the backup cannot be put in its place: {error}", help="see what is there") from (
            error
        )
    return Restored(report, set_aside, ended)


def _fit_to_restore(backup: Path) -> Report:
    """What verifying a backup says, where it can be restored."""
    try:
        with closing(open_for_reading(backup)) as connection:
            damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreError(f"{backup}: is no database that can be read: {error}", help="name another backup") from error
    if damage != "ok":
        raise StoreError(f"{backup}: is damaged: {damage}", help="name another backup")
    if not 0 < version <= len(migrations()):
        what = "is no database of hitl-mcp" if version == 0 else "was written by a newer hitl-mcp"
        raise StoreError(f"{backup}: {what}", help="name another backup" if version == 0 else "upgrade hitl-mcp")
    report = Evidence.beside(backup).verify()
    if report.answer == "broken":
        raise StoreError(
            f"{backup}: was changed since it was made: {report.findings[0]}",
            help=f"`hitl-mcp audit verify {backup}` says all that is wrong",
        )
    return report


def _set_aside(database: Path, at: str) -> Path | None:
    """Give the database that is there another name; None where there is none."""
    if not database.exists():
        return None
    aside = f"{database.name}.before-{for_people(at).replace(':', '')}"
    for suffix in SIDE_FILES:
        with suppress(FileNotFoundError):
            database.with_name(database.name + suffix).rename(database.with_name(aside + suffix))
    return database.with_name(aside)


def _head(database: Path) -> tuple[int, str]:
    with closing(open_for_reading(database)) as connection:
        head = connection.execute(sql("head")).fetchone()
    return (head["number"], head["hash"]) if head else (0, "")


def _lines(path: Path | None) -> list[str]:
    if path is None or not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


def _write(path: Path, lines: Iterable[str]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
