"""What can be wrong with the disk, the file or the machine under the record: told apart, with what to do.

A trouble that passes refuses what was asked and the next write tries again; any other lasts until the gateway is
started again, because nobody can say what of the last write reached the disk. Nothing is written or read here.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, getrlimit

ONE_MORE_WRITE_BYTES = 64 * 1024
"""How much the file system is asked to take when a write failed without saying why: more than one frame of the log."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong: a word for programs, a sentence and what to do for people, and whether it may pass by itself."""

    kind: str
    says: str
    help: str
    passes: bool = False
    since: str = ""

    def as_dict(self) -> dict[str, str | bool]:
        """Plain JSON values."""
        return {"kind": self.kind, "says": self.says, "help": self.help, "passes": self.passes, "since": self.since}


def trouble_of(error: sqlite3.Error | MemoryError | OSError, path: Path) -> Trouble:
    """What an error says of the database at `path`, as it was met while the database was opened, read or written."""
    if isinstance(error, MemoryError):
        return _out_of_memory()
    if isinstance(error, OSError):
        return _of_errno(error.errno, path)
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    found = _moved(path) if code == sqlite3.SQLITE_READONLY_DBMOVED else _of_code(code, path)
    return found or Trouble("other", f"an error of SQLite: {error}", _start_again("see the gateway's log"))


def is_fault_of_statement(error: sqlite3.Error) -> bool:
    """Whether only what was asked is at fault, and neither the file nor the machine.

    An error without a code was raised by Python's module itself, before it asked SQLite for anything.
    """
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in _FAULTS_OF_A_STATEMENT


_FAULTS_OF_A_STATEMENT = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_RANGE,
    }
)


def _of_code(code: int, path: Path) -> Trouble | None:
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return _locked(path)
        case sqlite3.SQLITE_NOMEM:
            return _out_of_memory()
        case sqlite3.SQLITE_IOERR:
            return _of_failed_io(code, path)
        case sqlite3.SQLITE_CORRUPT:
            return damaged(path)
        case sqlite3.SQLITE_NOTADB:
            return Trouble("damaged", "the file is not a database, or its beginning is damaged", _keep_it(path))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return _read_only(path)
        case sqlite3.SQLITE_CANTOPEN:
            return _cannot_open(path)
    return None


def _of_failed_io(code: int, path: Path) -> Trouble:
    """An I/O error. SQLite keeps the cause to itself, so that for a failed write the file system is asked once more."""
    if code in (sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_IOERR_SHMMAP):
        return _out_of_memory()
    if code == sqlite3.SQLITE_IOERR_CORRUPTFS:
        return damaged(path)
    if code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN):
        return _of_errno(_asked_again(path), path)
    what = {
        sqlite3.SQLITE_IOERR_FSYNC: "what was written cannot be flushed",
        sqlite3.SQLITE_IOERR_DIR_FSYNC: "what was written cannot be flushed",
        sqlite3.SQLITE_IOERR_READ: "the file cannot be read",
        sqlite3.SQLITE_IOERR_SHORT_READ: "the file is shorter than it should be",
    }.get(code, "an input or output error")
    return _disk_failed(path, what)


def _asked_again(path: Path) -> int | None:
    """Why the file system takes no more, as an errno; None where it does take more.

    A limit on the size of files is looked up, because a new file would be below it.
    """
    limit = getrlimit(RLIMIT_FSIZE)[0]
    if limit != RLIM_INFINITY and any(_size(file) + ONE_MORE_WRITE_BYTES > limit for file in files_of(path)):
        return errno.EFBIG
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(ONE_MORE_WRITE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    return None


def files_of(path: Path) -> tuple[Path, Path, Path]:
    """The database, its log and the log's index."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _of_errno(number: int | None, path: Path) -> Trouble:
    match number:
        case errno.ENOSPC:
            return _full(path)
        case errno.EDQUOT:
            return Trouble("quota", "the disk quota is used up", _free_space(path), passes=True)
        case errno.EFBIG:
            says = "a limit on the size of files is reached"
            return Trouble("file-size", says, f"raise `ulimit -f` for the gateway, which writes `{path}`", passes=True)
        case errno.EMFILE | errno.ENFILE:
            return _too_many_files()
        case errno.ENOMEM:
            return _out_of_memory()
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return _read_only(path)
    return _disk_failed(path, "a write failed")


def _full(path: Path) -> Trouble:
    return Trouble("full", "the disk is full", _free_space(path), passes=True)


def _free_space(path: Path) -> str:
    return f"free space for `{path}`; work then resumes by itself"


def _locked(path: Path) -> Trouble:
    who = " and ".join(lock_holders(path)) or "what has it locked, such as a shell of `sqlite3` or a backup"
    help = f"end {who}; it has `{path}` open. Work then resumes by itself"
    return Trouble("locked", "another program has locked the database", help, passes=True)


def _out_of_memory() -> Trouble:
    help = "give the gateway more memory, or end what uses it up; work then resumes by itself"
    return Trouble("memory", "the gateway is out of memory", help, passes=True)


def _too_many_files() -> Trouble:
    help = "raise `ulimit -n` for the gateway, or close connections to it; work then resumes by itself"
    return Trouble("files", "the gateway has too many files open", help, passes=True)


def _cannot_open(path: Path) -> Trouble:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return _of_errno(error.errno, path)
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return _read_only(path)
    help = _start_again(f"see that `{path}` is a file, in a folder that the gateway may write")
    return Trouble("cannot-open", "the database cannot be opened", help)


def _read_only(path: Path) -> Trouble:
    says = "the database is read-only: the file, its folder or the file system does not let it be written"
    return Trouble("read-only", says, _start_again(f"make `{path}` and its folder writable"))


def _moved(path: Path) -> Trouble:
    says = "the database was moved or replaced while it was open"
    return Trouble("moved", says, _start_again(f"put `{path}` back"))


def _disk_failed(path: Path, what: str) -> Trouble:
    help = _start_again(f"check the disk of `{path}`")
    return Trouble("io", f"the disk failed: {what}", f"{help}; what was being written may or may not be on record")


def damaged(path: Path) -> Trouble:
    """The file is a database, and parts of it are not what they should be."""
    return Trouble("damaged", "the database is damaged", _keep_it(path))


def _keep_it(path: Path) -> str:
    return (
        f"stop the gateway and keep `{path}` with its `-wal` file as they are; "
        f"`hitl-mcp audit verify {path}` says what still holds, `hitl-mcp restore BACKUP` goes back to a backup"
    )


def _start_again(first: str) -> str:
    return f"{first}, then start the gateway again"


def lock_holders(path: Path) -> list[str]:
    """Other programs that hold a lock on the database, where the machine tells (Linux)."""
    inodes = {str(file.stat().st_ino) for file in files_of(path) if file.exists()}
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
    pids = {words[4] for words in locks if len(words) > 5 and words[5].rpartition(":")[2] in inodes}
    return [f"`{_program(pid)}` (pid {pid})" for pid in sorted(pids - {str(os.getpid()), "-1"})]


def _program(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a program"
