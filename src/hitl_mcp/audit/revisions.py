"""What edits replaced, and which agents are stopped, held against what the events say of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hitl_mcp.calls import digest_for
from hitl_mcp.store import chain
from hitl_mcp.store.rows import decision_from_json, record_from_row, revision_of
from hitl_mcp.store.statements import sql
from hitl_mcp.store.stops import STOPPED

ERASED = "null"
"""What stands for arguments that were erased."""


def revisions_of(connection: sqlite3.Connection, row: sqlite3.Row) -> list[sqlite3.Row]:
    """What edits replaced of a call; the record of an older version knows of none."""
    if not _has(connection, "revisions"):
        return []
    return connection.execute(sql("revisions_of_call"), {"id": row["id"]}).fetchall()


def differing_revisions(
    told: Sequence[tuple[str, str]], row: sqlite3.Row, rows: Sequence[sqlite3.Row]
) -> Iterator[str]:
    """What is not as the events of a call `told` it, each edit by two digests: the revision's, its decision's."""
    if revision_of(row) != len(told):
        yield f"`revision` is `{revision_of(row)}`, and the events tell of {len(told)} edits"
    if [one["number"] for one in rows] != list(range(1, len(told) + 1)):
        yield "what edits replaced is gone, or is more than was edited"
        return
    for one, (revision, decision) in zip(rows, told, strict=True):
        if chain.of_revision(one) != revision:
            yield f"what edit {one['number']} replaced was changed"
        elif row["erased_at"] is not None:
            if one["arguments_json"] != ERASED:
                yield f"it has arguments from before edit {one['number']}, though they were erased"
        elif not _is_kept(row, one, decision):
            yield f"the arguments or the decision from before edit {one['number']} were changed"


def _is_kept(row: sqlite3.Row, one: sqlite3.Row, decision: str) -> bool:
    try:
        call = replace(record_from_row(row).call, arguments_json=one["arguments_json"])
        digest = digest_for(call, decision_from_json(one["decision_json"]).policy)
    except (ValueError, KeyError, TypeError):
        return False
    return digest == one["digest"] and chain.of_text(one["decision_json"]) == decision


def stray_revisions(connection: sqlite3.Connection) -> Iterator[str]:
    """The calls that edits are told of and that are gone."""
    if _has(connection, "revisions"):
        for row in connection.execute(sql("stray_revisions")):
            yield row["call_id"]


def differing_stops(connection: sqlite3.Connection) -> Iterator[str]:
    """What is not as it was told of agents that are stopped, as sentences."""
    if not _has(connection, "stops"):
        return
    told: dict[str, str | None] = {}
    for event in connection.execute(sql("stops_told")):
        try:
            facts = json.loads(event["facts"] or "{}")
        except ValueError:  # the chain has found it out
            continue
        if isinstance(facts, dict) and isinstance(facts.get("agent"), str):
            told[facts["agent"]] = facts.get("stop") if event["kind"] == STOPPED else None
    for row in connection.execute(sql("stops")):
        if told.pop(row["agent"], None) != chain.of_stop(row):
            yield f"agent `{row['agent']}`: that it is stopped, or why, was changed"
    for agent, stop in told.items():
        if stop is not None:
            yield f"agent `{agent}`: that it is stopped is gone"


def _has(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_schema WHERE name = ?"
    return connection.execute(query, (table,)).fetchone() is not None
