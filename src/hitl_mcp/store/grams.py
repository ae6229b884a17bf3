"""Which calls may hold a text: for every few calls, which runs of four bytes stand in them. Files beside the database.

They hold no text and no answer, only where looking is worth it: whoever asks looks at the calls themselves. So they may
say too much, and never too little. All of it can be made again, and is, when the files are not of this very record.

A volume is about `VOLUME_CALLS` calls in the order of their numbers. It has one row of bits for every class of runs,
and in each row one bit for every block of `BLOCK_CALLS` calls. No SQL stands here.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

BLOCK_CALLS = 16
"""Calls that are looked at together: reading sixteen rows takes as long as finding the first."""

VOLUME_CALLS = 8192
"""Calls of one file: 512 blocks, so that a row of bits is one cache line."""

CLASSES = 32_749
"""Into how many classes runs fall: a prime. Sixteen calls of a kilobyte have some four thousand different runs."""

RUN_BYTES = 4

WHOLE_BYTES = 256 * 1024
"""A text longer than this may hold anything, as far as we say: it is looked at every time."""

ROW_BYTES = VOLUME_CALLS // BLOCK_CALLS // 8

VOLUMES_HELD = 2
"""Volumes kept in memory, 2 MB each: the newest, and one that retention is at."""

_MARK = "mark.json"
_ALL = (1 << (ROW_BYTES * 8)) - 1


@dataclass(frozen=True)
class Mark:
    """How far the files have come: all calls up to the number `seq`, and all that was told of them up to an event.

    The event's hash says of which record: where the record has another event there, the files are not of it.
    """

    event: int = 0
    hash: str = ""
    seq: int = 0


class Grams:
    """The files of one database. Every method may block on a disk, and may be called on any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._volumes: OrderedDict[int, bytearray] = OrderedDict()
        self._changed: set[int] = set()
        self.mark = Mark()

    def open(self) -> Mark:
        """Read how far the files came; what cannot be read is as if it were not there."""
        with suppress(OSError, ValueError, TypeError):
            self.mark = Mark(**json.loads((self._folder / _MARK).read_text(encoding="utf-8")))
        return self.mark

    def begin_anew(self, mark: Mark) -> None:
        """Forget everything; go on from a mark that no call stands before.

        Raises:
            OSError: The files cannot be removed.
        """
        with self._lock:
            with suppress(FileNotFoundError):
                (self._folder / _MARK).unlink()
            with suppress(FileNotFoundError):
                shutil.rmtree(self._folder)
            self._volumes.clear()
            self._changed.clear()
            self.mark = mark

    def take_in(self, texts: Iterable[tuple[int, str]], mark: Mark, erased: Iterable[int] = ()) -> None:
        """Note what stands in these calls, each with its number; of the blocks that begin at `erased`, nothing else.

        Raises:
            OSError: A volume cannot be read.
        """
        with self._lock:
            for first in erased:
                self._erase(first)
            for first, of_block in groupby(texts, key=lambda one: one[0] // BLOCK_CALLS * BLOCK_CALLS):
                self._add(first, [_bytes_of(text) for _, text in of_block])
            # INVARIANT: the mark moves after what it stands for: whoever reads it in between looks at more than needed.
            self.mark = mark

    def flush(self) -> None:
        """Write what changed to disk, then how far it goes: a crash in between costs only time.

        Raises:
            OSError: It cannot be written.
        """
        with self._lock:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for number in tuple(self._changed):
                self._write(number, self._volumes[number])
            self._changed.clear()
            beside = self._folder / f"{_MARK}.new"
            descriptor = os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self.mark), file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._folder / _MARK)

    def blocks(self, texts: Iterable[str], since: int, upto: int) -> list[int]:
        """The blocks between two numbers, newest first, that may hold one of these texts; each by its first number."""
        asked = [classes for text in texts if (classes := _classes(_bytes_of(text)))]
        found: list[int] = []
        for number in range(upto // VOLUME_CALLS, since // VOLUME_CALLS - 1, -1):
            bits = self._bits(number, asked)
            first = number * VOLUME_CALLS
            while bits:
                block = bits.bit_length() - 1
                found.append(first + block * BLOCK_CALLS)
                bits &= ~(1 << block)
        return [first for first in found if first <= upto and first + BLOCK_CALLS > since]

    def _bits(self, number: int, asked: list[frozenset[int]]) -> int:
        """Which blocks of a volume may hold one of what is asked for; all where it cannot be read."""
        with self._lock:
            held = self._volumes.get(number)
            if held is not None:
                return _any_of(asked, lambda at: bytes(held[at : at + ROW_BYTES]))
        try:
            descriptor = os.open(self._path(number), os.O_RDONLY)
        except OSError:
            return _ALL
        try:
            return _any_of(asked, lambda at: os.pread(descriptor, ROW_BYTES, at))
        except OSError:
            return _ALL
        finally:
            os.close(descriptor)

    def _add(self, first: int, texts: list[bytes]) -> None:
        volume, byte, bit = self._place(first)
        if any(len(text) > WHOLE_BYTES for text in texts):
            volume[byte::ROW_BYTES] = volume[byte::ROW_BYTES].translate(bytes(value | bit for value in range(256)))
            return
        for one in _classes(*texts):
            volume[one * ROW_BYTES + byte] |= bit

    def _erase(self, first: int) -> None:
        """Take the bits of a block away."""
        volume, byte, bit = self._place(first)
        volume[byte::ROW_BYTES] = volume[byte::ROW_BYTES].translate(bytes(value & ~bit for value in range(256)))

    def _place(self, seq: int) -> tuple[bytearray, int, int]:
        """The volume of a call, to be changed, and the byte of each row and the bit in it that is its block's."""
        number, within = divmod(seq, VOLUME_CALLS)
        block = within // BLOCK_CALLS
        return self._volume(number), block // 8, 1 << (block % 8)

    def _volume(self, number: int) -> bytearray:
        volume = self._volumes.get(number)
        if volume is None:
            volume = self._read(number)
            while len(self._volumes) >= VOLUMES_HELD:
                gone, content = self._volumes.popitem(last=False)
                if gone in self._changed:
                    self._write(gone, content)
                    self._changed.discard(gone)
            self._volumes[number] = volume
        self._volumes.move_to_end(number)
        self._changed.add(number)
        return volume

    def _read(self, number: int) -> bytearray:
        size = CLASSES * ROW_BYTES
        begun = self.mark.seq > 0 and self.mark.seq >= number * VOLUME_CALLS
        try:
            content = bytearray(self._path(number).read_bytes())
        except FileNotFoundError:
            # A volume that was there and is gone says nothing any more: all of it is looked at.
            return bytearray(b"\xff" * size if begun else size)
        return content if len(content) == size else bytearray(b"\xff" * size)

    def _write(self, number: int, content: bytearray) -> None:
        """In place: an unfinished write leaves bits of before and after, and both say enough for what the mark says."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._path(number), os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(descriptor, memoryview(content)[written:], written)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}.grams"


def _bytes_of(text: str) -> bytes:
    """A text as it is looked for: only letters of ASCII are the same in both cases, as in SQLite's LIKE."""
    return text.encode("utf-8", "surrogatepass").lower()


def _classes(*texts: bytes) -> frozenset[int]:
    """The classes of all runs in some texts; none where they are shorter than a run."""
    found: set[int] = set()
    for text in texts:
        for offset in range(RUN_BYTES):
            length = (len(text) - offset) // RUN_BYTES * RUN_BYTES
            if length > 0:
                found.update(memoryview(text)[offset : offset + length].cast("I"))
    return frozenset([run % CLASSES for run in found])


def _any_of(asked: list[frozenset[int]], row: Callable[[int], bytes]) -> int:
    found = 0
    for classes in asked or [frozenset()]:
        bits = _ALL
        for one in classes:
            read = row(one * ROW_BYTES)
            bits &= int.from_bytes(read, "little") if len(read) == ROW_BYTES else _ALL
            if not bits:
                break
        found |= bits
    return found
