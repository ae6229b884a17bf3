"""Erasing what calls carried, as a step: in small batches, each call with its event, by following the events.

No index says what is due: the event that ended a call does, and events are walked once per status, up to a mark.
"""

from __future__ import annotations

import json
from dataclasses import replace

from hitl_mcp.calls import Decision, Status
from hitl_mcp.clock import after, to_text
from hitl_mcp.store import chain
from hitl_mcp.store.access import Life
from hitl_mcp.store.base import Erased
from hitl_mcp.store.events import Step, put_event
from hitl_mcp.store.rows import decision_from_json, decision_to_json
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

BATCH_CALLS = 50
"""Calls in one batch: more, and a call that is asked beside it waits noticeably."""

FREED_PAGES = 500
"""Pages given back to the file system after a batch: what fifty calls of the largest size hold."""


def erase_batch(txn: Transaction, life: Life, status: Status, age_seconds: int) -> Erased:
    """Erase what up to `BATCH_CALLS` calls carried that came to this final status so long ago."""
    key = f"erased-{status}"
    row = txn.connection.execute(sql("setting"), {"key": key}).fetchone()
    done = int(json.loads(row["value_json"])) if row else 0
    scanned = txn.connection.execute(sql("scan_for_erasing"), {"after": done, "status": status}).fetchall()
    before = to_text(after(life.now, -age_seconds))
    # What stands before an event happened before it, also where the clock ran ahead then and was set back.
    count = max((place for place, event in enumerate(scanned, start=1) if event["at"] <= before), default=0)
    erased: set[str] = set()
    for event in scanned[:count]:
        if event["due"] is not None and event["due"] not in erased:  # several events tell of one ending
            if len(erased) == BATCH_CALLS:
                break
            _erase(txn, life, event["due"])
            erased.add(event["due"])
        done = event["number"]
    if count:
        txn.connection.execute(sql("put_setting"), {"key": key, "value_json": json.dumps(done)})
    if erased:
        txn.connection.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()
    return Erased(len(erased), more=count > 0)


def _erase(txn: Transaction, life: Life, call_id: str) -> None:
    row = txn.connection.execute(sql("call"), {"id": call_id}).fetchone()
    decision_json = decision_to_json(_without_words(decision_from_json(row["decision_json"])))
    values = {"id": call_id, "now": life.at, "decision_json": decision_json}
    kept = txn.connection.execute(sql("erase_call"), values).fetchone()
    txn.connection.execute(sql("erase_previews"), {"id": call_id})
    for earlier in txn.connection.execute(sql("revisions_of_call"), {"id": call_id}).fetchall():
        without_words = decision_to_json(_without_words(decision_from_json(earlier["decision_json"])))
        values = {"id": call_id, "number": earlier["number"], "decision_json": without_words}
        txn.connection.execute(sql("erase_revisions"), values)
    facts = {"decision": chain.of_text(decision_json), "kept": chain.of_kept(kept)}
    put_event(txn, call_id, Step(kept["version"], "erased", Status(kept["status"]), life.at, "gateway"), facts)


def _without_words(decision: Decision) -> Decision:
    """A decision without its wording, which may quote arguments: what matched, the points and the clocks stay."""
    return replace(
        decision,
        reasons=(),
        rules=tuple(replace(rule, reason="", error=None) for rule in decision.rules),
        signals=tuple(replace(signal, reason="", error=None) for signal in decision.signals),
        shadows=tuple(replace(rule, reason="", error=None) for rule in decision.shadows),
        history=(),
        previews=(),
        probes=(),
    )
