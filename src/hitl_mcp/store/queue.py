"""What puts a held call in its place in the queue, as a step. Nothing is decided on it; `listing` reads it."""

from __future__ import annotations

from hitl_mcp.calls import Decision, ToolCall
from hitl_mcp.canonical import compact_text
from hitl_mcp.likeness import likeness_of
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction


def put_in_queue(txn: Transaction, call_id: str, call: ToolCall, decision: Decision) -> None:
    """Note what a held call is sought by: points, likeness, and who can answer. Again with every revision."""
    values = {
        "id": call_id,
        "score": decision.score,
        "likeness": likeness_of(call.name, call.arguments_json),
        "roles_json": compact_text([need.roles for need in decision.requirements]),
    }
    txn.connection.execute(sql("put_in_queue"), values)
