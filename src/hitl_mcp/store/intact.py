"""Is this the record that the gateway left? Looked at when it starts, before anything runs; if not, what is open ends.

Seals tell what somebody made up; an old state with its old seals looks right by itself. What gives it away stands here:
the head that was signed outside the database last, the links of all events since what is open moved last, and numbers
that are missing. What happens to one call alone is looked at in `sealing`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from hitl_mcp.store import chain, steps
from hitl_mcp.store.access import Life
from hitl_mcp.store.events import SEALS, Step, put_event
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

NOT_AS_LEFT = "the record was rolled back or rewritten outside the gateway, so nobody knows what became of it since"
TAMPERED_RECORD = "record-tampered"
"""The kind of the event that says so."""

SIGNED = "signed"
"""The setting that says up to which event the record was signed."""


class SignedHead(NamedTuple):
    """An event as it was signed, outside the database: its number, its hash, and when."""

    number: int
    hash: str
    at: str


class LookedBack(NamedTuple):
    """What was found: what is not as it was left, how many open calls that ended, and up to which event the record
    itself says that it was signed."""

    findings: tuple[str, ...]
    ended: int
    signed: int


def flushed_head(txn: Transaction, life: Life, signed: int) -> tuple[int, str, str]:
    """The newest event: number, hash, and now. The commit of this flushes whatever came before it.

    `signed` is the last event of which a signature is on disk: kept, so that a signature that is gone is missed.

    # INVARIANT: written at the durable level, and something is written: only then does the commit reach the disk.
    """
    head = txn.connection.execute(sql("head")).fetchone()
    value = json.dumps({"number": signed, "at": life.at})
    txn.connection.execute(sql("put_setting"), {"key": SIGNED, "value_json": value})
    return (head["number"], head["hash"], life.at) if head else (0, chain.GENESIS, life.at)


def look_back(txn: Transaction, life: Life, signed: SignedHead | None) -> LookedBack:
    """Hold the record against its newest signed head and against itself; end all that is open where it does not fit."""
    findings, ended = not_as_left(txn.connection, signed), 0
    if findings:
        facts = {"missing": str(_missing(txn.connection))}
        put_event(txn, "", Step(0, TAMPERED_RECORD, None, life.at, SEALS, "; ".join(findings)), facts)
        ended = steps.end_open(txn, life, NOT_AS_LEFT)
    return LookedBack(tuple(findings), ended, _said_signed(txn.connection))


def not_as_left(connection: sqlite3.Connection, signed: SignedHead | None) -> list[str]:
    """What shows that somebody else wrote to the record, or put an older one in its place; mostly nothing."""
    findings = [*_unlike_signed(connection, signed), *_unlinked(connection)]
    if (missing := _missing(connection) - _missing_before(connection)) > 0:
        findings.append(f"{missing} {'event is' if missing == 1 else 'events are'} missing")
    return findings


def _unlike_signed(connection: sqlite3.Connection, signed: SignedHead | None) -> Iterator[str]:
    """A record that went back to an older copy lacks what was signed; one that was made anew has another hash there."""
    newest = connection.execute(sql("last_event")).fetchone()["number"]
    number = max(signed.number if signed is not None else 0, _said_signed(connection))
    if number > newest:
        at = f" at {signed.at}" if signed is not None and signed.number == number else ""
        yield f"the record ends at event {newest}, but event {number} was signed{at}"
    elif signed is not None and signed.number > 0:
        row = connection.execute(sql("hash_of_event"), {"number": signed.number}).fetchone()
        if row is None or row["hash"] != signed.hash:
            yield f"event {signed.number} is not the one that was signed at {signed.at}"


def _said_signed(connection: sqlite3.Connection) -> int:
    row = connection.execute(sql("setting"), {"key": SIGNED}).fetchone()
    return int(json.loads(row["value_json"])["number"]) if row else 0


def _unlinked(connection: sqlite3.Connection) -> Iterator[str]:
    """Events since the last of a call that waits for people are walked: among them is none that moved it, unless
    somebody changed one."""
    since = connection.execute(sql("last_of_waiting")).fetchone()["number"]
    if since is None:
        return
    before = connection.execute(sql("hash_of_event"), {"number": since - 1}).fetchone()
    previous, expected = before["hash"] if before is not None else chain.GENESIS, since
    for number, *columns, hash in connection.execute(sql("walk_events"), {"since": since}):
        if number != expected or hash != chain.link(previous, (number, *columns)):
            yield f"event {expected} is missing, or was changed"
            return
        previous, expected = hash, number + 1


def _missing(connection: sqlite3.Connection) -> int:
    """How many numbers were given to events that are not there.

    Numbers have no gaps: what is rolled back gives its number back, and no event is ever erased.
    """
    row = connection.execute(sql("numbers_of_events")).fetchone()
    return int(max(row["newest"], row["given"]) - row["count"])


def _missing_before(connection: sqlite3.Connection) -> int:
    """How many of them were found missing already, and are on record as such."""
    told = connection.execute(sql("missing_before")).fetchone()
    return int(json.loads(told["facts"])["missing"]) if told is not None else 0
