"""An APSW connection that looks like one of Python's `sqlite3`, as far as our store uses it. No disk stands here.

APSW lets files be written in Python, which Python's own module does not; everything above the connection stays ours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import apsw

PATIENCE_MILLISECONDS = 20
"""How long a connection waits for a lock. Ours wait longer, which would make a campaign slow and show no more."""


class Row(tuple[Any, ...]):
    """A row whose values are also found by the names of their columns."""

    columns: tuple[str, ...]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.columns.index(key) if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        """The names of the columns."""
        return list(self.columns)


def _row(cursor: apsw.Cursor, values: tuple[Any, ...]) -> Row:
    row = Row(values)
    row.columns = tuple(column[0] for column in cursor.get_description())
    return row


class Cursor:
    """What a statement brought, read whole."""

    def __init__(self, rows: Sequence[Row], connection: apsw.Connection) -> None:
        self._rows = iter(rows)
        self.rowcount = connection.changes()
        self.lastrowid = connection.last_insert_rowid()

    def fetchone(self) -> Row | None:
        """The next row, if there is one."""
        return next(self._rows, None)

    def fetchall(self) -> list[Row]:
        """Every row that is left."""
        return list(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def close(self) -> None:
        """Nothing is open any more."""


Rewrite = Callable[[str], str]


class Connection:
    """The few methods of `sqlite3.Connection` that the store calls.

    `rewrite` may change a statement before it runs, and `committed` hears of each commit that returned.
    """

    row_factory: Any = None

    def __init__(self, path: Path, vfs: str, rewrite: Rewrite, committed: Callable[[], None]) -> None:
        with _errors():
            self._connection = apsw.Connection(str(path), vfs=vfs)
            self._connection.set_busy_timeout(PATIENCE_MILLISECONDS)
        self._connection.row_trace = _row
        self._rewrite = rewrite
        self._committed = committed

    def execute(self, statement: str, values: Any = ()) -> Cursor:
        """Run a statement to its end."""
        with _errors():
            rows = list(self._connection.execute(self._rewrite(statement), values))
        if statement == "COMMIT":
            self._committed()
        return Cursor(cast("list[Row]", rows), self._connection)

    def executemany(self, statement: str, values: Iterable[Any]) -> Cursor:
        """Run a statement once for each."""
        with _errors():
            for one in values:
                list(self._connection.execute(self._rewrite(statement), one))
        return Cursor((), self._connection)

    def executescript(self, script: str) -> Cursor:
        """Run several statements."""
        return self.execute(script)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    @property
    def total_changes(self) -> int:
        """How many rows were changed so far."""
        return self._connection.total_changes()

    def close(self) -> None:
        """Close it; a fault of the disk in this is nobody's concern any more, as with Python's own."""
        try:
            self._connection.close()
        except apsw.Error:
            self._connection.close(force=True)


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what Python's module would: its classes, with SQLite's code and name."""
    try:
        yield
    except apsw.NoMemError as error:
        raise MemoryError from error
    except apsw.Error as error:
        code = getattr(error, "extendedresult", sqlite3.SQLITE_ERROR)
        kind = _CLASSES.get(code & 0xFF, sqlite3.OperationalError)
        raised = kind(str(error))
        raised.sqlite_errorcode = code
        raised.sqlite_errorname = str(apsw.mapping_extended_result_codes.get(code, type(error).__name__))
        raise raised from error


_CLASSES: dict[int, type[sqlite3.Error]] = {
    sqlite3.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    sqlite3.SQLITE_CORRUPT: sqlite3.DatabaseError,
    sqlite3.SQLITE_NOTADB: sqlite3.DatabaseError,
    sqlite3.SQLITE_TOOBIG: sqlite3.DataError,
}
