"""Grants, held against what the events say of them: their terms, their uses, and how they ended."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from hitl_mcp.store import chain
from hitl_mcp.store.statements import sql


def differing_grants(connection: sqlite3.Connection) -> Iterator[str]:
    """What is not as it was told of grants, as sentences. A record of an older version has none."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'grants'").fetchone():
        return
    told = {row["id"]: row["number"] for row in connection.execute(sql("grants_told"))}
    for row in connection.execute(sql("all_grants")).fetchall():
        number = told.pop(row["id"], None)
        if number is None or _attested(connection, row["id"]) != chain.of_grant(row):
            yield f"grant `{row['id']}` was changed"
        ran = connection.execute(sql("calls_that_ran_on_grant"), {"id": row["id"]}).fetchone()["calls"]
        if ran != row["used"]:
            yield f"grant `{row['id']}`: {row['used']} uses were counted, and {ran} calls ran on it"
    for grant_id in told:
        yield f"grant `{grant_id}` is gone"


def _attested(connection: sqlite3.Connection, grant_id: str) -> object:
    """The digest that the newest event of a grant has of it."""
    event = connection.execute(sql("last_told_of_grant"), {"id": grant_id}).fetchone()
    try:
        facts = json.loads(event["facts"] or "{}")
    except ValueError:  # the chain has found it out
        return None
    return facts.get("grant") if isinstance(facts, dict) else None
