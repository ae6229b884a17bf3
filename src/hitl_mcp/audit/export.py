"""The record as lines of JSON, in the order of the chain: for archives and other tools, and to verify elsewhere."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from hitl_mcp.audit.signatures import exported_passkey, exported_removal
from hitl_mcp.store import chain
from hitl_mcp.store.passkeys import ADDED, REMOVED, of_added, of_removed
from hitl_mcp.store.sealing import EDITED
from hitl_mcp.store.statements import sql

_CALL = (
    *("id", "upstream", "tool", "name", "agent", "conversation", "digest", "request_key", "fingerprint", "definition"),
    *("effect", "created_at", "expires_at", "repeat_of", "result_digest", "result_bytes", "erased_at", "grant_id"),
)
"""What is told of a call without what it carried; what retention would erase is told only when asked for."""


def exported(connection: sqlite3.Connection, *, after: int = 0, payloads: bool = False) -> Iterator[str]:
    """Every event after this number as a line; the first of a call tells the call, too.

    With `payloads` also its arguments, the agent's claim, the decision in full and its result.
    """
    connection.row_factory = sqlite3.Row
    connection.execute("BEGIN")
    try:
        for row in connection.execute(sql("all_events_after"), {"number": after}):
            line: dict[str, Any] = {"event": {name: row[name] for name in (*chain.EVENT_COLUMNS, "hash")}}
            if row["kind"] == "asked":
                line["call"] = _call(connection, row["call_id"], payloads)
            if row["kind"] == EDITED:
                line["revision"] = _revision(connection, row, payloads)
            line.update(_of_people(connection, row))
            yield json.dumps(line, ensure_ascii=False)
    finally:
        connection.execute("ROLLBACK")


def _of_people(connection: sqlite3.Connection, event: sqlite3.Row) -> dict[str, Any]:
    """The verdict or the passkey that an event attests, with what it is signed with: to be checked by anybody."""
    facts = json.loads(event["facts"] or "{}")
    if "verdict" in facts:
        query = {"id": event["call_id"]}
        rows = connection.execute(sql("verdicts_of_call"), query)
        verdict = next((row for row in rows if chain.of_verdict(row) == facts["verdict"]), None)
        rows = connection.execute(sql("assertions_of_call"), query)
        signed = next((row for row in rows if chain.of_text(row["assertion_json"]) == facts.get("assertion")), None)
        told = {} if verdict is None else {"verdict": dict(verdict)}
        return told if signed is None else {**told, "assertion_json": signed["assertion_json"]}
    if event["kind"] in (ADDED, REMOVED):
        for row in connection.execute(sql("passkeys")):
            if of_added(row) == facts.get("passkey"):
                return {"passkey": exported_passkey(row)}
            if of_removed(row) == facts.get("removal"):
                return {"removal": exported_removal(row)}
    return {}


def _revision(connection: sqlite3.Connection, event: sqlite3.Row, payloads: bool) -> dict[str, Any] | None:
    """The call as it was before this edit."""
    wanted = json.loads(event["facts"]).get("revision")
    rows = connection.execute(sql("revisions_of_call"), {"id": event["call_id"]}).fetchall()
    row = next((one for one in rows if chain.of_revision(one) == wanted), None)
    if row is None:
        return None
    told = {name: row[name] for name in chain.REVISION_COLUMNS}
    if not payloads:
        return told
    return {**told, "arguments_json": row["arguments_json"], "decision": json.loads(row["decision_json"])}


def _call(connection: sqlite3.Connection, call_id: str, payloads: bool) -> dict[str, Any] | None:
    row = connection.execute(sql("call"), {"id": call_id}).fetchone()
    if row is None:
        return None
    told = {name: row[name] for name in _CALL}
    if not payloads:
        return told
    carried = {name: row[name] for name in ("arguments_json", "meta_json", "claim", "result_json")}
    return {**told, **carried, "decision": json.loads(row["decision_json"])}
