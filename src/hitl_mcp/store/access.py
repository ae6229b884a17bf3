"""How the parts of the store reach the database: steps on the one writer's thread, rows on connections that only read.

What a step does, and what rows mean, stands with their subject.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import aiosqlite

from hitl_mcp.clock import Clock, to_text
from hitl_mcp.errors import HitlError, NotNow, StoreError
from hitl_mcp.passkeys import Passkey
from hitl_mcp.store.seals import Seals
from hitl_mcp.store.statements import sql
from hitl_mcp.store.troubles import is_fault_of_statement, trouble_of
from hitl_mcp.store.writer import Transaction, Writer

RUNNER = "local"
"""With SQLite there is one gateway; the column is there for the day there are more."""

T = TypeVar("T")


@dataclass(frozen=True)
class Life:
    """Which gateway writes, in which of its lives, and at what time (one reading per step)."""

    runner: str
    epoch: int
    now: datetime
    at: str
    seals: Seals
    waiting: set[str]
    """The calls that wait for people as this gateway knows itself, whatever the database says."""
    granted: dict[str, int]
    """The same of live grants: how far each has come, as a version."""
    passkeys: dict[str, Passkey]
    """The same of passkeys by id, also of those that were removed: their public keys never change."""
    stopped: set[str]
    """The same of agents that are stopped."""


@dataclass(frozen=True)
class Refused:
    """A refusal that still commits what the step found out, such as an expiry; the store raises `error` then."""

    error: HitlError


@dataclass(frozen=True, eq=False)
class Access:
    """The database of one gateway, in one of its lives (`epoch`)."""

    writer: Writer
    reader: aiosqlite.Connection
    long_reader: aiosqlite.Connection
    clock: Clock
    epoch: int
    seals: Seals
    waiting: set[str] = field(default_factory=set)
    granted: dict[str, int] = field(default_factory=dict)
    passkeys: dict[str, Passkey] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)

    async def step(self, step: Callable[[Transaction, Life], T | Refused], *, durable: bool = True) -> T:
        """Run one transaction on the writer's thread; committed when this returns, and on disk where `durable`.

        Raises:
            HitlError: The step refused; what it had found out by then is committed.
            StoreError: Nothing can be written.
        """

        def run(txn: Transaction) -> T | Refused:
            now = self.clock.now()
            known = (self.seals, self.waiting, self.granted, self.passkeys, self.stopped)
            return step(txn, Life(RUNNER, self.epoch, now, to_text(now), *known))

        result: T | Refused = await self.writer.write(run, durable=durable)
        if isinstance(result, Refused):
            raise result.error
        return result

    async def rows(self, name: str, query: dict[str, Any], *, long: bool = False) -> list[sqlite3.Row]:
        """The rows of a statement; a `long` one, that may look at every call, holds up no other reader.

        Raises:
            StoreError: The record cannot be read.
        """
        reader = self.long_reader if long else self.reader
        try:
            return list(await reader.execute_fetchall(sql(name), query))
        except (sqlite3.Error, MemoryError) as error:
            raise self._unread(error) from error

    def _unread(self, error: sqlite3.Error | MemoryError) -> StoreError:
        """A record that is damaged, or on a disk that fails, is not written any further either."""
        if isinstance(error, sqlite3.Error) and is_fault_of_statement(error):
            return StoreError(f"the record cannot be read: {error}")
        trouble = trouble_of(error, self.writer.path)
        if not trouble.passes and trouble.kind != "read-only":
            self.writer.note(trouble)
        kind = NotNow if trouble.passes else StoreError
        return kind(f"the record cannot be read: {trouble.says}", help=trouble.help)
