"""Troubles told apart: each has its own sentence, says what to do, and is known to pass or to last."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hitl_mcp.errors import StoreError
from hitl_mcp.store import open_sqlite
from hitl_mcp.store.troubles import is_fault_of_statement, lock_holders, trouble_of
from tests.clocks import HandClock
from tests.faults.limits import locked_by_another

PASSING = [
    (sqlite3.SQLITE_FULL, "full", "free space"),
    (sqlite3.SQLITE_BUSY, "locked", "resumes by itself"),
    (sqlite3.SQLITE_BUSY_SNAPSHOT, "locked", "resumes by itself"),
    (sqlite3.SQLITE_LOCKED, "locked", "resumes by itself"),
    (sqlite3.SQLITE_NOMEM, "memory", "more memory"),
    (sqlite3.SQLITE_IOERR_NOMEM, "memory", "more memory"),
]
LASTING = [
    (sqlite3.SQLITE_IOERR_WRITE, "io", "check the disk"),
    (sqlite3.SQLITE_IOERR_FSYNC, "io", "may or may not be on record"),
    (sqlite3.SQLITE_IOERR_READ, "io", "check the disk"),
    (sqlite3.SQLITE_CORRUPT, "damaged", "`hitl-mcp restore BACKUP`"),
    (sqlite3.SQLITE_NOTADB, "damaged", "`hitl-mcp audit verify"),
    (sqlite3.SQLITE_READONLY, "read-only", "writable"),
    (sqlite3.SQLITE_READONLY_DBMOVED, "moved", "put `"),
    (sqlite3.SQLITE_CANTOPEN, "cannot-open", "see that `"),
    (sqlite3.SQLITE_INTERNAL, "other", "the gateway's log"),
]
BY_SYSTEM = [
    (errno.ENOSPC, "full", True),
    (errno.EDQUOT, "quota", True),
    (errno.EFBIG, "file-size", True),
    (errno.EMFILE, "files", True),
    (errno.ENFILE, "files", True),
    (errno.ENOMEM, "memory", True),
    (errno.EROFS, "read-only", False),
    (errno.EIO, "io", False),
]


def sqlite_error(code: int) -> sqlite3.OperationalError:
    """An error as SQLite reports it."""
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(("number", "kind", "help"), PASSING + LASTING)
def test_what_sqlite_reports_is_told_apart(tmp_path: Path, number: int, kind: str, help: str) -> None:
    """Each has a sentence and a help of its own; what passes is tried again, what lasts needs a restart."""
    trouble = trouble_of(sqlite_error(number), tmp_path / "hitl.db")
    assert trouble.kind == kind
    assert help in trouble.help
    assert trouble.passes is ((number, kind, help) in PASSING)
    assert trouble.says[0].islower()
    assert not trouble.says.endswith(".")
    assert "SQLITE_" not in trouble.says


@pytest.mark.parametrize(("number", "kind", "passes"), BY_SYSTEM)
def test_what_the_system_reports_is_told_apart(tmp_path: Path, number: int, kind: str, passes: bool) -> None:
    """The same, where the operating system refused before SQLite was asked."""
    trouble = trouble_of(OSError(number, os.strerror(number)), tmp_path / "hitl.db")
    assert (trouble.kind, trouble.passes) == (kind, passes)


def test_every_trouble_is_plain_json(tmp_path: Path) -> None:
    """Status and health pass it on as it is."""
    trouble = trouble_of(MemoryError(), tmp_path / "hitl.db")
    assert trouble.as_dict() == {
        "kind": "memory",
        "says": "the gateway is out of memory",
        "help": trouble.help,
        "passes": True,
        "since": "",
    }


@pytest.mark.parametrize(
    ("code", "at_fault"),
    [
        (sqlite3.SQLITE_ERROR, True),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, True),
        (sqlite3.SQLITE_TOOBIG, True),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_IOERR_WRITE, False),
        (sqlite3.SQLITE_NOMEM, False),
    ],
)
def test_a_statement_at_fault_is_no_trouble_of_the_disk(code: int, at_fault: bool) -> None:
    """It costs its own caller, and nobody else."""
    assert is_fault_of_statement(sqlite_error(code)) is at_fault
    assert is_fault_of_statement(sqlite3.ProgrammingError("a wrong number of values"))


LIMITED = """
import resource, sqlite3, sys
from pathlib import Path
from hitl_mcp.store.troubles import trouble_of
path = Path(sys.argv[1])
connection = sqlite3.connect(path, isolation_level=None)
connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE kept (word TEXT)")
size = Path(str(path) + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    connection.execute("INSERT INTO kept VALUES (?)", ("long " * 1000,))
except sqlite3.Error as error:
    print(error.sqlite_errorname, trouble_of(error, path).kind)
"""


def test_a_limit_on_file_sizes_is_not_taken_for_a_failing_disk(tmp_path: Path) -> None:
    """SQLite calls both a failed write; the limit is looked up, and it passes."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "w.db")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == [
        "SQLITE_IOERR_WRITE",
        "file-size",
    ]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
async def test_who_locks_the_database_is_named(tmp_path: Path) -> None:
    """A store that cannot be opened for a lock says which program holds it."""
    path = tmp_path / "hitl.db"
    async with open_sqlite(path, HandClock()):
        pass
    with locked_by_another(path) as pid:
        assert [f"(pid {pid})" in one for one in lock_holders(path)] == [True]
        with pytest.raises(StoreError, match=f"locked the database\n.*pid {pid}"):
            async with open_sqlite(path, HandClock()):
                pass
    assert lock_holders(path) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"this is a letter, and no database at all" * 200, "the file is not a database"),
        (b"SQLite format 3\0" + b"\x10\x00\x01\x01\x00@  " + b"\xff" * 8000, "the database is damaged|not a database"),
    ],
)
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes, says: str) -> None:
    """The gateway does not start, says what to do, and changes nothing in it."""
    path = tmp_path / "hitl.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=says) as found:
        async with open_sqlite(path, HandClock()):
            pass
    assert "hitl-mcp restore" in str(found.value)
    assert path.read_bytes() == content


async def test_a_folder_in_the_databases_place_cannot_be_opened(tmp_path: Path) -> None:
    """The gateway says so instead of failing somewhere inside."""
    (tmp_path / "hitl.db").mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        async with open_sqlite(tmp_path / "hitl.db", HandClock()):
            pass


async def test_damage_that_reading_meets_ends_the_writing_too(tmp_path: Path) -> None:
    """A damaged record is written no further: what is there is evidence."""
    path = tmp_path / "hitl.db"
    async with open_sqlite(path, HandClock()) as store:
        await store.note("policy-loaded", "x" * 100)
    with closing(sqlite3.connect(path)) as database:
        root = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'policies'").fetchone()[0]
        size = database.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(content)
    async with open_sqlite(path, HandClock()) as store:
        with pytest.raises(StoreError, match="the record cannot be read: the database is damaged"):
            await store.policy("sha256:none")
        assert store.trouble is not None
        assert (store.trouble.kind, store.broken) == ("damaged", "the database is damaged")
        with pytest.raises(StoreError, match="the record cannot be written: the database is damaged"):
            await store.note("policy-loaded", "y")
