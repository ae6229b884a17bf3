"""The record as lines of JSON, in the order of the chain: for archives and other tools, and to verify elsewhere."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from hitl_mcp.store import chain
from hitl_mcp.store.statements import sql

_CALL = (
    *("id", "upstream", "tool", "name", "agent", "conversation", "digest", "request_key", "fingerprint", "definition"),
    *("effect", "created_at", "expires_at", "repeat_of", "result_digest", "result_bytes", "erased_at"),
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
            yield json.dumps(line, ensure_ascii=False)
    finally:
        connection.execute("ROLLBACK")


def _call(connection: sqlite3.Connection, call_id: str, payloads: bool) -> dict[str, Any] | None:
    row = connection.execute(sql("call"), {"id": call_id}).fetchone()
    if row is None:
        return None
    told = {name: row[name] for name in _CALL}
    if not payloads:
        return told
    carried = {name: row[name] for name in ("arguments_json", "meta_json", "claim", "result_json")}
    return {**told, **carried, "decision": json.loads(row["decision_json"])}
