"""A disk under SQLite that remembers every write and flush, fails when told, and shows what a power cut would leave.

The files are real and hold what a running program sees. What the platter would hold is worked out from the record: of
each file what was there at its last flush, and of what came after any part, whole or torn into sectors, in any
combination; names likewise, by the last flush of their folder. Nothing of the store is known here.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""

_numbers = itertools.count()

_RECORDED = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
_FLUSHES_ITS_FOLDER = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
"""SQLite flushes the folder with the first flush of a log or journal it may have made, and of no other file."""


@dataclass(frozen=True)
class Step:
    """One thing the disk was asked to do; `file` numbers what a name led to at that time."""

    kind: str
    file: int = 0
    name: str = ""
    offset: int = 0
    data: bytes = b""
    with_folder: bool = False


Fault = Callable[[str, str], int | None]
"""Asked before each step (`read`, `write`, `flush`, `open`) of a file by name: SQLite's code to fail with, or None."""


def _no_fault(kind: str, name: str) -> int | None:
    return None


@dataclass(eq=False)
class RecordedDisk:
    """A disk by its name in SQLite, as long as it is open. Files are known by their names within one folder."""

    steps: list[Step] = field(default_factory=list)
    fault: Fault = _no_fault
    names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.vfs = _Vfs(self, f"recorded-{next(_numbers)}")

    @property
    def name(self) -> str:
        """What SQLite calls it."""
        return str(self.vfs.vfs_name)

    def record(self, kind: str, **what: Any) -> None:
        """Take down a step."""
        self.steps.append(Step(kind, **what))

    def committed(self) -> None:
        """Note that a commit returned."""
        self.record("committed")

    def file(self, path: Path) -> int:
        """The number of the file of this name; one that was there before has a number, its content, and no flush."""
        if path.name not in self.names:
            self.names[path.name] = number = len(self.steps) + 1
            self.record("made", file=number, name=path.name)
            if path.exists() and (content := path.read_bytes()):
                self.record("write", file=number, data=content)
                self.record("flush", file=number, with_folder=True)
        return self.names[path.name]

    def fail(self, kind: str, name: str) -> None:
        """Fail this step if the fault says so."""
        code = self.fault(kind, name)
        if code is not None:
            raise apsw.exception_for(code)

    def close(self) -> None:
        """Take the disk from SQLite."""
        self.vfs.unregister()


class _Vfs(apsw.VFS):
    def __init__(self, disk: RecordedDisk, name: str) -> None:
        self.vfs_name = name
        self._disk = disk
        super().__init__(name, "unix")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        """Open a file, recorded where it is the database, its log or its journal."""
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name) if name else None
        if path is not None:
            self._disk.fail("open", path.name)
        if path is None or not flags[0] & _RECORDED:
            return apsw.VFSFile("unix", name, flags)
        wanted = flags[0]
        number = self._disk.file(path)
        return _File(self._disk, name, flags, (path.name, number, bool(wanted & _FLUSHES_ITS_FOLDER)))

    def xDelete(self, name: str, flush: bool) -> None:
        """Delete a file; its folder is flushed where asked."""
        super().xDelete(name, False)
        gone = Path(name).name
        if gone in self._disk.names:
            del self._disk.names[gone]
            self._disk.record("deleted", name=gone, with_folder=bool(flush))

    def excepthook(self, etype: Any, evalue: Any, etraceback: Any) -> bool:
        """An error of the disk is SQLite's to report, and ours to cause."""
        return True


class _File(apsw.VFSFile):
    def __init__(self, disk: RecordedDisk, name: Any, flags: list[int], known_as: tuple[str, int, bool]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._name, self._number, self._flushes_folder = known_as

    def xRead(self, amount: int, offset: int) -> bytes:
        """Read."""
        self._disk.fail("read", self._name)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        """Write: seen by everyone at once, on the platter when it is flushed."""
        self._disk.fail("write", self._name)
        super().xWrite(data, offset)
        self._disk.record("write", file=self._number, offset=offset, data=bytes(data))

    def xTruncate(self, size: int) -> None:
        """Cut the file off."""
        self._disk.fail("write", self._name)
        super().xTruncate(size)
        self._disk.record("cut-off", file=self._number, offset=size)

    def xSync(self, flags: int) -> None:
        """Flush; the real disk under the test need not, which saves most of the time."""
        try:
            self._disk.fail("flush", self._name)
        except apsw.Error:
            self._disk.record("flush-failed", file=self._number)
            raise
        self._disk.record("flush", file=self._number, with_folder=self._flushes_folder)
        self._flushes_folder = False


@dataclass
class Platter:
    """What a disk holds after some steps: what is certain, and what was asked for since."""

    lies: bool = False
    _flushed: dict[int, bytearray] = field(default_factory=dict)
    _since: dict[int, list[Step]] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)
    _names_since: list[Step] = field(default_factory=list)

    def play(self, step: Step, chance: random.Random) -> None:
        """Go on by one step. `chance` decides what a flush that failed leaves: the rest counts as flushed after it."""
        match step.kind:
            case "made":
                self._flushed[step.file] = bytearray()
                self._since[step.file] = []
                self._names_since.append(step)
            case "deleted":
                self._names_since.append(step)
            case "write" | "cut-off":
                self._since[step.file].append(step)
            case "flush-failed":
                self._flushed[step.file] = self._content(step.file, chance)
                self._since[step.file] = []
            case "flush" if not self.lies:
                for one in self._since[step.file]:
                    _apply(self._flushed[step.file], one)
                self._since[step.file] = []
        if step.with_folder and not self.lies:
            self._names = self._names_after(self._names_since)
            self._names_since = []

    def after_a_cut(self, chance: random.Random) -> dict[str, bytes]:
        """The files as they may be found after the power was cut here."""
        kept = [one for one in self._names_since if chance.random() < 0.5]
        return {name: bytes(self._content(file, chance)) for name, file in self._names_after(kept).items()}

    def _names_after(self, steps: list[Step]) -> dict[str, int]:
        names = dict(self._names)
        for one in steps:
            if one.kind == "made":
                names[one.name] = one.file
            else:
                names.pop(one.name, None)
        return names

    def _content(self, file: int, chance: random.Random) -> bytearray:
        content = bytearray(self._flushed[file])
        share = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))  # nothing, little, half, most or all of it arrived
        torn = chance.choice((0.0, 0.2, 1.0))
        for one in self._since[file]:
            if one.kind == "write" and chance.random() < torn:
                for part in _sectors(one):
                    if chance.random() < share:
                        _apply(content, part)
            elif chance.random() < share:
                _apply(content, one)
        return content


def _sectors(write: Step) -> list[Step]:
    """A write in the pieces that the disk takes whole."""
    parts = []
    at, end = write.offset, write.offset + len(write.data)
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        data = write.data[at - write.offset : until - write.offset]
        parts.append(Step("write", write.file, offset=at, data=data))
        at = until
    return parts


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == "cut-off":
        del content[step.offset :]
        return
    if len(content) < step.offset:
        content.extend(bytes(step.offset - len(content)))  # a hole reads as zeros
    content[step.offset : step.offset + len(step.data)] = step.data
