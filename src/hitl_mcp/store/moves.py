"""How a call moves: read as it stands by the clock and by its seals, and changed along the lifecycle with its event.

`move` is the only place in the project that changes a status, by one guarded update along `calls.LIFECYCLE`. Which step
when, is for `steps` and `verdicts` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hitl_mcp.calls import OPEN, CallRecord, Outcome, Status, may_become
from hitl_mcp.clock import for_people
from hitl_mcp.errors import CallAlreadySettled, CallNotFound, StoreError
from hitl_mcp.store import chain
from hitl_mcp.store.access import Life
from hitl_mcp.store.events import SEALS, Step, put_event
from hitl_mcp.store.rows import outcome_to_columns, record_from_row, revision_from_row
from hitl_mcp.store.sealing import is_sound, sealed_parts
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

NOT_DECIDED_IN_TIME = "no one decided in time"
NOT_RUN_IN_TIME = "approved, but it could not run in time"
NOT_ASKED_IN_TIME = "approved, but the agent did not ask for it again in time"
TAMPERED = "its record was changed outside the gateway: its seal does not fit"


def read_call(txn: Transaction, call_id: str) -> CallRecord:
    """A call with its verdicts, as this transaction sees it.

    Raises:
        CallNotFound: No call has this id.
    """
    row = txn.connection.execute(sql("call"), {"id": call_id}).fetchone()
    if row is None:
        raise CallNotFound(call_id)
    verdicts = txn.connection.execute(sql("verdicts_of_call"), {"id": call_id}).fetchall()
    record = record_from_row(row, verdicts)
    if not row["revision"]:
        return record
    revisions = txn.connection.execute(sql("revisions_of_call"), {"id": call_id})
    return replace(record, revisions=tuple(revision_from_row(one) for one in revisions))


def current(txn: Transaction, life: Life, call_id: str) -> CallRecord:
    """A call as it stands by the clock and by its seals: one past its time is `expired` from here on, and one that
    somebody changed in the database is `invalidated`."""
    record = read_call(txn, call_id)
    if expired(txn, life, record) or _tampered_with(txn, life, record):
        return read_call(txn, call_id)
    return record


def _tampered_with(txn: Transaction, life: Life, record: CallRecord) -> bool:
    """Whether somebody else wrote what people still rely on; if so the call is `invalidated` now."""
    if record.status not in (Status.HELD, Status.APPROVED):
        return False
    sound = record.id in life.waiting and is_sound(txn, life, record)
    if not sound:
        move(txn, life, record, Change(Status.INVALIDATED, SEALS, TAMPERED, closed_reason=TAMPERED))
    return not sound


def expired(txn: Transaction, life: Life, record: CallRecord) -> bool:
    """Whether the call is past its clock; if so it is `expired` now."""
    deadline = {Status.HELD: record.expires_at, Status.APPROVED: record.run_by}.get(record.status)
    if deadline is None or deadline > life.at:
        return False
    not_in_time = NOT_ASKED_IN_TIME if record.call.runs_elsewhere else NOT_RUN_IN_TIME
    reason = NOT_DECIDED_IN_TIME if record.status is Status.HELD else not_in_time
    move(txn, life, record, Change(Status.EXPIRED, "clock", reason, closed_reason=reason))
    return True


@dataclass(frozen=True)
class Change:
    """A step along the lifecycle: to which status, by whom, and what else is written with it."""

    to: Status
    by: str
    detail: str = ""
    closed_reason: str | None = None
    run_by: str | None = None
    grant: str | None = None
    outcome: Outcome | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def move(txn: Transaction, life: Life, record: CallRecord, change: Change) -> None:
    """Change the status of a call that this transaction has just read."""
    if not try_move(txn, life, record.id, record.status, change):
        raise StoreError(f"call `{record.id}` did not become {change.to}: it changed meanwhile")


def try_move(txn: Transaction, life: Life, call_id: str, status: Status, change: Change) -> bool:
    """Change a status, by one guarded update, with its event; False where the call does not stand there (any more)."""
    if not may_become(status, change.to):
        raise StoreError(f"call `{call_id}` cannot become {change.to}: it is {status}")
    facts = dict(change.facts)
    if change.outcome is not None:
        changed = _outcome_written(txn, life, call_id, status, change.outcome)
        facts["outcome"] = chain.of_outcome(outcome_to_columns(change.outcome))
    else:
        seal = _seal_of_approved(txn, life, call_id, change) if change.to is Status.APPROVED else None
        changed = _status_changed(txn, life, call_id, status, change, seal)
        if seal is not None:
            facts["seal"] = chain.of_text(seal)
        if change.run_by is not None:
            facts["run_by"] = chain.of_text(change.run_by)
        if change.grant is not None:
            facts["grant"] = chain.of_text(change.grant)
        if change.closed_reason is not None:
            facts["closed_reason"] = chain.of_text(change.closed_reason)
    if changed is None:
        return False
    put_event(txn, call_id, Step(changed["version"], change.to, change.to, life.at, change.by, change.detail), facts)
    return True


def _seal_of_approved(txn: Transaction, life: Life, call_id: str, change: Change) -> str:
    row = txn.connection.execute(sql("call"), {"id": call_id}).fetchone()
    return life.seals.seal(*sealed_parts(row, change.to, change.run_by, life.at, change.grant))


def _status_changed(
    txn: Transaction, life: Life, call_id: str, status: Status, change: Change, seal: str | None
) -> Any:
    """The guarded update of a call that has not ended, as its clock allows."""
    claiming = change.to is Status.RUNNING
    return txn.connection.execute(
        sql("change_status"),
        {
            "id": call_id,
            "from_status": status,
            "to_status": change.to,
            "now": life.at,
            "run_by": change.run_by,
            "closed_reason": change.closed_reason,
            "runner": life.runner if claiming else None,
            "epoch": life.epoch if claiming else None,
            "seal": seal,
            "grant_id": change.grant,
        },
    ).fetchone()


def _outcome_written(txn: Transaction, life: Life, call_id: str, status: Status, outcome: Outcome) -> Any:
    """The guarded update of a call that ended, which no clock ends; half the price of the other."""
    values = (outcome.status, outcome.status in OPEN, life.at, outcome.at, outcome.detail, outcome.executed)
    result = (outcome.result_json, outcome.result_digest, outcome.result_bytes)
    return txn.connection.execute(sql("write_outcome"), (*values, *result, call_id, status)).fetchone()


def already_settled(record: CallRecord) -> CallAlreadySettled:
    """The refusal of whoever comes too late, saying what the call is now and since when."""
    what = {
        Status.HELD: "it is still held",
        Status.APPROVED: "it is approved",
        Status.RUNNING: "it is running",
        Status.SUCCEEDED: "it ran and succeeded",
        Status.FAILED: "it ran and failed",
        Status.UNKNOWN: "it was sent, and its outcome is unknown",
        Status.DENIED: "the policy denied it",
        Status.WITHDRAWN: "the agent withdrew it",
        Status.INVALIDATED: "it is no longer valid",
        Status.EXPIRED: "it expired",
        Status.REJECTED: "it was rejected",
        Status.RELEASED: "it was released to the agent, which runs it itself",
    }[record.status]
    if record.rejection is not None and record.status is Status.REJECTED:
        what = f"{what} by `{record.rejection.reviewer}`"
    return CallAlreadySettled(record.id, record.status, f"{what}, since {for_people(record.changed_at)}")
