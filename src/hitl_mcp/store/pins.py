"""Pins in the store: which definition of each tool was accepted, when and by whom, each row under a seal.

Which tool is blocked, and what follows from it, is no matter of this module: see `hitl_mcp.pins`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hitl_mcp.store import chain, steps
from hitl_mcp.store.access import Life
from hitl_mcp.store.events import SEALS, Step, put_event
from hitl_mcp.store.grants import end_of_tool
from hitl_mcp.store.seals import Part
from hitl_mcp.store.sqlite import SqliteStore
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

__all__ = ["FIRST_SIGHT", "Change", "Pin", "Told", "accept_pin", "keep_first_pins", "read_pins", "tell_blocked"]

FIRST_SIGHT = "first sight"
"""Who accepted a definition that nobody was asked about: it was there when the tool was seen first."""


@dataclass(frozen=True)
class Pin:
    """The accepted definition of a tool. `definition` is its digest, `definition_json` the canonical text of it.

    `changed_at` is when another definition was first offered since then. `intact` is False where the row does not fit
    its seal: then nobody knows what was accepted.
    """

    name: str
    upstream: str
    definition: str
    definition_json: str
    accepted_at: str = ""
    accepted_by: str = FIRST_SIGHT
    changed_at: str | None = None
    intact: bool = True


async def read_pins(store: SqliteStore) -> tuple[Pin, ...]:
    """Every pin there is, held against its seal."""
    return await store.access.step(_read, durable=False)


async def keep_first_pins(store: SqliteStore, pins: Sequence[Pin]) -> tuple[Pin, ...]:
    """Pin tools that were never seen before; gives the pins as they now stand."""
    return await store.access.step(
        lambda txn, life: tuple([_put(txn, life, pin, "tool-pinned", "gateway") for pin in pins])
    )


async def accept_pin(store: SqliteStore, pin: Pin, by: str) -> Pin:
    """Put an accepted definition in the place of the one before; gives the pin as it now stands."""
    accepted = replace(pin, accepted_by=by)
    return await store.access.step(lambda txn, life: _put(txn, life, accepted, "tool-accepted", f"reviewer:{by}"))


class Change(NamedTuple):
    """A tool that is blocked from now on: its pin, the digest of what its upstream offers, and why calls of it end."""

    pin: Pin
    offered: str
    reason: str


class Told(NamedTuple):
    """Since when a tool is known to have changed, and how many calls that ended."""

    since: str
    ended: int


async def tell_blocked(store: SqliteStore, changes: Sequence[Change]) -> tuple[Told, ...]:
    """End what is held or approved of tools that are blocked from now on, and record that they are.

    What people approved of just what is offered stands; where a pin is not intact nothing stands. A change is recorded
    once for each acceptance, however often a definition changes.
    """
    return await store.access.step(lambda txn, life: tuple([_tell(txn, life, change) for change in changes]))


def _read(txn: Transaction, life: Life) -> tuple[Pin, ...]:
    return tuple(_from_row(life, row) for row in txn.connection.execute(sql("pins")))


def _from_row(life: Life, row: sqlite3.Row) -> Pin:
    pin = Pin(
        name=row["name"],
        upstream=row["upstream"],
        definition=row["definition"],
        definition_json=row["definition_json"],
        accepted_at=row["accepted_at"],
        accepted_by=row["accepted_by"],
        changed_at=row["changed_at"],
    )
    return replace(pin, intact=life.seals.fits(row["seal"], *_sealed(pin)))


def _tell(txn: Transaction, life: Life, change: Change) -> Told:
    pin, offered = change.pin, change.offered
    noted = {"name": pin.name, "accepted": pin.definition, "now": life.at}
    if txn.connection.execute(sql("note_changed_pin"), noted).rowcount:
        kind, by = ("tool-changed", "gateway") if pin.intact else ("tool-tampered", SEALS)
        detail = f"{pin.name}: accepted was {pin.definition}, offered is {offered}"
        put_event(txn, "", Step(0, kind, None, life.at, by, detail))
    query = {"name": pin.name, "definition": offered if pin.intact else ""}
    waiting = [row["id"] for row in txn.connection.execute(sql("waiting_of_tool"), query)]
    for call_id in waiting:
        steps.invalidate(txn, life, call_id, change.reason)
    end_of_tool(txn, life, pin.name, query["definition"], change.reason)
    return Told(pin.changed_at or life.at, len(waiting))


def _put(txn: Transaction, life: Life, pin: Pin, kind: str, by: str) -> Pin:
    kept = replace(pin, accepted_at=life.at, changed_at=None, intact=True)
    seal = life.seals.seal(*_sealed(kept))
    values = {
        "name": kept.name,
        "upstream": kept.upstream,
        "definition": kept.definition,
        "definition_json": kept.definition_json,
        "accepted_at": kept.accepted_at,
        "accepted_by": kept.accepted_by,
        "seal": seal,
    }
    txn.connection.execute(sql("put_pin"), values)
    detail = f"{kept.name}: {kept.definition}"
    put_event(txn, "", Step(0, kind, None, life.at, by, detail), {"pin": chain.of_pin(values)})
    return kept


def _sealed(pin: Pin) -> tuple[Part, ...]:
    definition = (pin.definition, pin.definition_json)
    return ("pin", pin.name, pin.upstream, *definition, pin.accepted_at, pin.accepted_by)
