"""Where a record and what proves it lie as files: opened for reading only, verified and written out from there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from hitl_mcp.audit.checkpoints import Checkpoint, Signer, read_checkpoints, read_public_key
from hitl_mcp.audit.export import exported
from hitl_mcp.audit.verify import Report, verify_database, verify_export
from hitl_mcp.config import Config
from hitl_mcp.errors import StoreError
from hitl_mcp.state_dir import StateDir

SEALS_FILE, KEY_FILE, CHECKPOINTS_FILE = "hitl.db.key", "audit.key", "checkpoints.jsonl"
"""What of a gateway's state directory belongs to its record, beside the database."""

_SQLITE_MAGIC = b"SQLite format 3\x00"
"""The first bytes of every database (sqlite.org/fileformat.html, section 1.3)."""


@dataclass(frozen=True)
class Evidence:
    """A database or an export, and the checkpoints and public key that go with it, where there are any."""

    record: Path
    checkpoints: Path | None = None
    public_key: Path | None = None

    @classmethod
    def of(cls, config: Config, state: StateDir) -> Evidence:
        """The record of a gateway."""
        at = Path(state.file("hitl.db")) if config.store == "sqlite" else Path(config.store)
        return cls(at, Path(state.file(CHECKPOINTS_FILE)), Path(state.file(KEY_FILE)).with_suffix(".pub"))

    @classmethod
    def beside(cls, record: Path) -> Evidence:
        """A record with what lies beside it: a backup is written so."""
        return cls(record, _beside(record, ".checkpoints"), _beside(record, ".pub"))

    def verify(self) -> Report:
        """Verify the record.

        Raises:
            StoreError: The record, its checkpoints or the key cannot be read.
        """
        signed = self.signed()
        try:
            with self.record.open("rb") as file:
                is_database = file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
            if not is_database:
                with self.record.open(encoding="utf-8") as lines:
                    return verify_export(lines, signed)
            with closing(open_for_reading(self.record)) as connection:
                return verify_database(connection, signed)
        except (OSError, UnicodeDecodeError, sqlite3.Error) as error:
            raise StoreError(f"{self.record}: cannot be read: {error}", help="verify a copy, or a backup") from error

    def export(self, *, after: int = 0, payloads: bool = False) -> Iterator[str]:
        """The record as lines of JSON; raises as `verify`."""
        try:
            with closing(open_for_reading(self.record)) as connection:
                yield from exported(connection, after=after, payloads=payloads)
        except sqlite3.Error as error:
            raise StoreError(f"{self.record}: cannot be read: {error}") from error

    def signed(self) -> list[Checkpoint]:
        """The checkpoints; none without the key to verify them with."""
        if self.checkpoints is None or self.public_key is None:
            return []
        try:
            key = read_public_key(self.public_key.read_text(encoding="ascii"))
            with self.checkpoints.open(encoding="utf-8") as lines:
                return read_checkpoints(lines, key)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise StoreError(f"the checkpoints cannot be read: {error}", help="name them with --checkpoints") from error


def signer_of(state: StateDir) -> Signer:
    """Who signs the heads of this gateway's record; the key is made where there is none."""
    return Signer(Path(state.file(KEY_FILE)), Path(state.file(CHECKPOINTS_FILE)))


def _beside(record: Path, suffix: str) -> Path | None:
    path = record.with_name(record.name + suffix)
    return path if path.exists() else None


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write.

    Raises:
        sqlite3.Error: There is no database, or it cannot be opened.
    """
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection
