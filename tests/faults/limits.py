"""Real limits that a machine may set on a process, and the lock of a real other program; each ends with its block."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another(path: Path) -> Iterator[int]:
    """Another program writes to this database and does not end; its pid."""
    command = [sys.executable, "-I", "-S", "-c", _HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            if holder.stdout is None or holder.stdout.readline() != "locked\n":
                raise AssertionError("the other program did not get its lock")
            yield holder.pid
        finally:
            holder.communicate("")


@contextmanager
def limited(kind: int, amount: int, pid: int = 0) -> Iterator[None]:
    """A process may have no more of this (`resource.RLIMIT_…`) while the block lasts; unnamed, it is this one."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (amount, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


def open_files(pid: int | str = "self") -> int:
    """How many file descriptors a process has open: the number no limit may be above to be felt at once."""
    return max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
