"""What signals and budgets ask of earlier calls, answered inside the transaction that decides. No decisions here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from hitl_mcp.calls import Answer, Mark
from hitl_mcp.clock import after, to_text
from hitl_mcp.policy.history import About, History, Question
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction


def history_of(txn: Transaction, now: datetime, leave_out: str = "") -> History:
    """What happened before, as this transaction sees it; the call `leave_out` does not count for itself."""

    def answer(question: Question) -> Answer:
        query = {
            "item": question.item,
            "scope": question.scope,
            "since": to_text(after(now, -question.window_seconds)),
            "except": leave_out,
        }
        if question.about is About.KNOWN:
            values = json.dumps(question.values)
            rows = txn.connection.execute(sql("history_known"), {**query, "values": values})
            return tuple(sorted(row["value"] for row in rows))
        if question.about in (About.SPENT, About.TAKEN):
            query["value"] = question.values[0]
        return int(txn.connection.execute(sql(_QUERIES[question.about]), query).fetchone()["answer"])

    return answer


_QUERIES = {
    About.ASKED: "history_asked",
    About.REJECTED: "history_rejected",
    About.SPENT: "history_spent",
    About.TAKEN: "history_spent",
    About.READ: "history_read",
}


def put_marks(txn: Transaction, at: str, call_id: str, marks: Iterable[Mark]) -> None:
    """Leave what a call counts for."""
    rows = [(mark.item, mark.scope, mark.value, at, call_id, mark.amount) for mark in marks]
    txn.connection.executemany(sql("put_mark"), rows)


def marked(at: str, marks: Iterable[Mark]) -> list[tuple[str, str, str, str, int]]:
    """What a call counts for, as the chain attests it."""
    return [(mark.item, mark.scope, mark.value, at, mark.amount) for mark in marks]


def move_marks(txn: Transaction, at: str, call_id: str, marks: Iterable[Mark]) -> None:
    """Let a call count from now on, for what it counts for now."""
    txn.connection.execute(sql("drop_marks"), {"id": call_id})
    put_marks(txn, at, call_id, marks)
