"""What is noted of questions that an agent's own client was asked about a held call. No step of the lifecycle."""

from __future__ import annotations

from hitl_mcp.calls import ASKING_ENDED, Status
from hitl_mcp.store.access import Life
from hitl_mcp.store.events import Step, put_event
from hitl_mcp.store.moves import read_call
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction


def end_asking(txn: Transaction, life: Life, call_id: str, by: str, detail: str) -> None:
    """Note that a client was asked and gave no verdict; the call stays held, and what is over stays as it is."""
    if read_call(txn, call_id).status is Status.HELD:
        query = {"id": call_id, "status": Status.HELD, "now": life.at}
        version = txn.connection.execute(sql("touch"), query).fetchone()["version"]
        put_event(txn, call_id, Step(version, ASKING_ENDED, Status.HELD, life.at, by, detail))
