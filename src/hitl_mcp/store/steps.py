"""The steps of the lifecycle as transactions: each reads, decides whether it may, and writes with its event.

Every function here runs on the writer's thread inside one transaction. `_move` is the only place in the project that
changes a status, by one guarded update along `calls.LIFECYCLE`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from hitl_mcp.calls import (
    OPEN,
    Asked,
    CallRecord,
    Decision,
    Effect,
    Outcome,
    Preview,
    Status,
    ToolCall,
    Verdict,
    VerdictKind,
    as_kept,
    counts_for,
    digest_for,
    may_become,
    objection,
    request_key_for,
    unmet,
)
from hitl_mcp.clock import after, for_people, to_text
from hitl_mcp.errors import (
    CallAlreadySettled,
    CallNotFound,
    DigestMismatch,
    HitlError,
    NotAllowed,
    StoreError,
    TooManyHeld,
)
from hitl_mcp.limits import AGENT_HELD_CALLS, HANDED_OVER_REPEAT_SECONDS, OUTCOME_REPEAT_SECONDS, REPEAT_WINDOW_SECONDS
from hitl_mcp.policy.history import History
from hitl_mcp.store import chain
from hitl_mcp.store.access import Life, Refused
from hitl_mcp.store.base import Admission, Decide, LastLook, Pause
from hitl_mcp.store.events import SEALS, Step, put_event
from hitl_mcp.store.history import history_of, marked, move_marks, put_marks
from hitl_mcp.store.rows import decision_to_json, outcome_to_columns, record_from_row
from hitl_mcp.store.sealing import is_sound, put_verdict, sealed_parts
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

_ID_ALPHABET = "abcdefghijkmnopqrstuvwxyz2345678"
"""32 letters and digits; `l`, `1`, `0` and `9` are left out, which are mistaken for others when read aloud."""

_SYMBOL_OF_BYTE = _ID_ALPHABET.encode() * 8

_ID_CHARACTERS = 13
"""13 symbols of 5 bits are 65 bits: ids cannot be guessed, and they stay short enough to type."""

NOT_DECIDED_IN_TIME = "no one decided in time"
NOT_RUN_IN_TIME = "approved, but it could not run in time"
NOT_ASKED_IN_TIME = "approved, but the agent did not ask for it again in time"
CLOCK_SET_BACK = "approved, but the machine's clock was set back while the gateway was stopped"
RESTORED = "the record was restored from a backup, and what was decided since is not in it"
TAMPERED = "its record was changed outside the gateway: its seal does not fit"


def admit(txn: Transaction, life: Life, call: ToolCall, asked: Asked, decide: Decide) -> Admission:
    """Decide and record a request: denied, the record that already answers it, running, or held. In this order.

    A deny of the current policy comes first; an open record answers even where the policy now allows, because its
    approval would run the same bytes a second time. What already answers this request does not count against it.
    """
    request_key = request_key_for(call)
    # Most calls were never asked before by anyone who had to wait: one look finds that out.
    asked_before = txn.connection.execute(sql("asked_before"), (request_key,)).fetchone() is not None
    existing = _same_request(txn, life, request_key) if asked_before else None
    # INVARIANT: history is read, the call decided and its record written in this one transaction, and no other runs
    # beside it: two calls at once never both fit into what is left of a budget.
    decision = decide(history_of(txn, life.now, leave_out=existing.id if existing else ""))
    if decision.effect is not Effect.DENY:
        answers = existing is not None and (existing.status in OPEN or decision.effect is Effect.HOLD)
        # A record past its clock answers nobody, even if the sweep has not come by yet.
        if existing is not None and answers and not _expired(txn, life, existing):
            return Admission(existing, repeat=True)
        pause = paused(txn)
        if pause is not None:
            why = f"paused by {pause.by} at {for_people(pause.at)}" + (f": {pause.reason}" if pause.reason else "")
            decision = replace(
                decision, effect=Effect.DENY, paused=True, reasons=(why,), requirements=(), history=(), marks=()
            )
    if decision.effect is Effect.HOLD:
        _check_held(txn, call.agent)
    repeat_of = _unknown_before(txn, request_key) if asked_before and decision.effect is Effect.ALLOW else None
    return Admission(_insert(txn, life, _Admitted(call, asked, decision, request_key, repeat_of)), repeat=False)


def _same_request(txn: Transaction, life: Life, request_key: str) -> CallRecord | None:
    row = txn.connection.execute(
        sql("same_request"),
        {
            "request_key": request_key,
            "rejected_after": to_text(after(life.now, -REPEAT_WINDOW_SECONDS)),
            "ran_after": to_text(after(life.now, -OUTCOME_REPEAT_SECONDS)),
            "handed_over_after": to_text(after(life.now, -HANDED_OVER_REPEAT_SECONDS)),
        },
    ).fetchone()
    return read_call(txn, row["id"]) if row else None


def _check_held(txn: Transaction, agent: str) -> None:
    """Refuse one more held call of an agent that has as many as it may; its open ones still answer when repeated."""
    if txn.connection.execute(sql("held_of_agent"), {"agent": agent}).fetchone()["count"] >= AGENT_HELD_CALLS:
        raise TooManyHeld(AGENT_HELD_CALLS)


def _unknown_before(txn: Transaction, request_key: str) -> str | None:
    """The allowed call that asked the same and whose outcome nobody knows."""
    unknown = txn.connection.execute(sql("unknown_allowed_request"), {"request_key": request_key}).fetchone()
    return unknown["id"] if unknown else None


class _Admitted(NamedTuple):
    """A request that gets a record of its own."""

    call: ToolCall
    asked: Asked
    decision: Decision
    request_key: str
    repeat_of: str | None


_BEGINS_AS = {Effect.DENY: Status.DENIED, Effect.ALLOW: Status.RUNNING, Effect.HOLD: Status.HELD}


def _begins_as(call: ToolCall, decision: Decision) -> Status:
    status = _BEGINS_AS[decision.effect]
    return Status.RELEASED if status is Status.RUNNING and call.runs_elsewhere else status


def _insert(txn: Transaction, life: Life, admitted: _Admitted) -> CallRecord:
    call, asked, decision, request_key, repeat_of = admitted
    status = _begins_as(call, decision)
    if status is not Status.RUNNING:
        call = as_kept(call)
    call_id, digest = _new_id(), digest_for(call, decision.policy)
    runner, epoch = (life.runner, life.epoch) if status is Status.RUNNING else ("", 0)
    row = {
        "id": call_id,
        "name": call.name,
        "digest": digest,
        "request_key": request_key,
        "conversation": asked.conversation,
        "claim": asked.claim,
        "effect": decision.effect,
        "decision_json": decision_to_json(decision),
        "created_at": life.at,
        "expires_at": to_text(after(life.now, decision.expires_in_seconds)) if status is Status.HELD else None,
        "repeat_of": repeat_of,
    }
    seal = life.seals.seal(*sealed_parts(row, status)) if status is Status.HELD else ""
    txn.connection.execute(
        sql("insert_call"),
        (
            *(call_id, status, status in OPEN),
            *(call.upstream, call.tool, call.name, call.arguments_json, call.meta_json),
            *(call.agent, call.fingerprint, call.definition, asked.conversation, asked.claim),
            *(digest, request_key, decision.effect, row["decision_json"]),
            *(life.at, life.at, row["expires_at"], repeat_of, runner, epoch),
            seal,
        ),
    )
    if status is Status.HELD:
        life.waiting.add(call_id)  # one that is rolled back stays known here, and is nowhere else
    if decision.marks:
        put_marks(txn, life.at, call_id, decision.marks)
    facts = {"call": chain.of_call(row), "decision": chain.of_text(row["decision_json"])}
    if asked.claim:
        facts["claim"] = chain.of_text(asked.claim)
    if seal:
        facts["seal"] = chain.of_text(seal)
    facts["start"] = chain.of_start(runner, epoch, marked(life.at, decision.marks))
    event = put_event(txn, call_id, Step(1, "asked", status, life.at, f"agent:{call.agent}"), facts)
    return CallRecord(
        id=call_id,
        version=1,
        status=status,
        call=call,
        asked=asked,
        digest=digest,
        request_key=request_key,
        decision=decision,
        created_at=life.at,
        changed_at=life.at,
        expires_at=row["expires_at"],
        repeat_of=repeat_of,
        events=(event,),
    )


def _new_id() -> str:
    return "c_" + secrets.token_bytes(_ID_CHARACTERS).translate(_SYMBOL_OF_BYTE).decode()


def add_verdict(txn: Transaction, life: Life, call_id: str, verdict: Verdict) -> CallRecord | Refused:
    """Write a verdict and make the step it brings about: one rejection rejects, all requirements met approve."""
    record = _current(txn, life, call_id)
    refusal = _why_no_verdict(record, verdict)
    if refusal is not None:
        return Refused(refusal)
    facts = {"verdict": put_verdict(txn, life.seals, call_id, verdict)}
    by, record = f"reviewer:{verdict.reviewer}", read_call(txn, call_id)
    if verdict.kind is VerdictKind.REJECT:
        _move(txn, life, record, _Change(Status.REJECTED, by, verdict.reason, facts=facts))
    elif unmet(record.decision.requirements, record.verdicts, record.digest):
        version = txn.connection.execute(
            sql("touch"), {"id": call_id, "status": record.status, "now": life.at}
        ).fetchone()["version"]
        put_event(txn, call_id, Step(version, "approval", record.status, life.at, by, verdict.reason), facts)
    else:
        run_by = to_text(after(life.now, record.decision.run_within_seconds))
        _move(txn, life, record, _Change(Status.APPROVED, by, verdict.reason, run_by=run_by, facts=facts))
    return read_call(txn, call_id)


def _why_no_verdict(record: CallRecord, verdict: Verdict) -> HitlError | None:
    rejecting = verdict.kind is VerdictKind.REJECT
    if record.status is not Status.HELD and not (rejecting and record.status is Status.APPROVED):
        return already_settled(record)
    if verdict.digest != record.digest:
        return DigestMismatch(record.id, record.status)
    if rejecting:
        return None
    needs = record.decision.requirements
    if needs and not any(counts_for(verdict, need) for need in needs):
        objections = list(dict.fromkeys(why for need in needs if (why := objection(verdict, need))))
        wanted = " or ".join(sorted({f"`{role}`" for need in needs for role in need.roles}))
        return NotAllowed(
            f"cannot approve call `{record.id}`: {'; '.join(objections)}",
            help=f"ask a reviewer with the role {wanted}" if wanted else "ask another reviewer, on the review page",
        )
    if any(given.reviewer == verdict.reviewer and given.digest == verdict.digest for given in record.verdicts):
        return CallAlreadySettled(
            record.id, record.status, f"`{verdict.reviewer}` approved it already, and it needs more people"
        )
    return None


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


def withdraw(txn: Transaction, life: Life, call_id: str, agent: str) -> CallRecord | Refused:
    """Take back a call that has not started. A call of another agent is answered like one that does not exist."""
    record = _current(txn, life, call_id)
    if record.call.agent != agent:
        raise CallNotFound(call_id)
    if record.status not in (Status.HELD, Status.APPROVED):
        return Refused(already_settled(record))
    _move(txn, life, record, _Change(Status.WITHDRAWN, f"agent:{agent}", closed_reason="the agent withdrew it"))
    return read_call(txn, call_id)


def claim(txn: Transaction, life: Life, checked: CallRecord, look: Callable[[History], LastLook]) -> CallRecord | None:
    """Take an approved call to run it, or to release it: the one step that lets it happen, and at most once.

    `look` decides it again by what happened meanwhile. None where the call must not run (and is `invalidated` then), is
    no longer approved, no longer what was checked, or everything is paused.
    """
    record = _current(txn, life, checked.id)
    # INVARIANT: what is claimed is, to the byte, what was checked: whoever claims it read it before this transaction.
    if (
        record != replace(checked, events=(), previews=())
        or record.status is not Status.APPROVED
        or paused(txn) is not None
    ):
        return None
    if life.at < record.starts_at:  # its approval can still be undone
        return None
    found = look(history_of(txn, life.now, leave_out=record.id))
    if found.refusal is not None:
        invalidate(txn, life, record.id, found.refusal)
        return None
    move_marks(txn, life.at, record.id, found.marks)
    _move(txn, life, record, _start(life, record.call, found))
    return read_call(txn, checked.id)


def _start(life: Life, call: ToolCall, found: LastLook) -> _Change:
    """The step that lets an approved call happen: at an upstream, by this gateway, or at its agent's own client."""
    marks = marked(life.at, found.marks)
    if call.runs_elsewhere:
        facts = {"start": chain.of_start("", 0, marks)}
        return _Change(Status.RELEASED, f"agent:{call.agent}", facts=facts)
    return _Change(Status.RUNNING, "gateway", facts={"start": chain.of_start(life.runner, life.epoch, marks)})


def invalidate(txn: Transaction, life: Life, call_id: str, reason: str) -> CallRecord:
    """End a held or approved call because a check failed; any other is left as it is."""
    record = _current(txn, life, call_id)
    if record.status in (Status.HELD, Status.APPROVED):
        _move(txn, life, record, _Change(Status.INVALIDATED, "gateway", reason, closed_reason=reason))
    return read_call(txn, call_id)


def settle(txn: Transaction, life: Life, call_id: str, outcome: Outcome) -> bool:
    """Write what running brought. Only a running call can be settled, so only the first outcome counts."""
    change = _Change(outcome.status, "gateway", outcome.detail, outcome=outcome)
    return _moved(txn, life, call_id, Status.RUNNING, change)


def resolve(txn: Transaction, life: Life, call_id: str, outcome: Outcome, by: str) -> bool:
    """Write what became of a call whose outcome was unknown, and who found out; the agent is to be told of it."""
    moved = _moved(txn, life, call_id, Status.UNKNOWN, _Change(outcome.status, by, outcome.detail, outcome=outcome))
    if moved:
        txn.connection.execute(sql("take_back"), {"id": call_id})
    return moved


def expire_due(txn: Transaction, life: Life) -> int:
    """End every call whose clock has run out; returns how many."""
    due = [row["id"] for row in txn.connection.execute(sql("due"), {"now": life.at})]
    return sum(_expired(txn, life, read_call(txn, call_id)) for call_id in due)


def recover(txn: Transaction, life: Life) -> int:
    """At boot: what an earlier life of this gateway left running has an unknown outcome. Returns how many.

    What is held or approved is looked at, too: whoever changed it meanwhile is found out now.
    """
    for row in txn.connection.execute(sql("waiting_for_people")).fetchall():
        record = _current(txn, life, row["id"])
        # Approved at a time that is still to come: how long ago that was, nobody knows.
        if record.status is Status.APPROVED and record.changed_at > life.at:
            _move(txn, life, record, _Change(Status.EXPIRED, "clock", CLOCK_SET_BACK, closed_reason=CLOCK_SET_BACK))
    query = {"runner": life.runner, "epoch": life.epoch}
    left = [row["id"] for row in txn.connection.execute(sql("left_running"), query)]
    for call_id in left:
        outcome = Outcome(
            status=Status.UNKNOWN,
            executed=True,
            at=life.at,
            detail="the gateway stopped while it ran, so nobody knows whether it happened",
        )
        settle(txn, life, call_id, outcome)
    return len(left)


def end_restored(txn: Transaction, life: Life, detail: str) -> int:
    """End what was open in a backup: what became of it since is not known here, so nothing of it may run."""
    note(txn, life, "restored", detail)
    return end_open(txn, life, RESTORED)


def end_open(txn: Transaction, life: Life, reason: str) -> int:
    """End all that is held or approved, for a reason that concerns the record as a whole. Returns how many."""
    ended = 0
    for row in txn.connection.execute(sql("waiting_for_people")).fetchall():
        record = _current(txn, life, row["id"])
        if record.status in (Status.HELD, Status.APPROVED):
            _move(txn, life, record, _Change(Status.INVALIDATED, "gateway", reason, closed_reason=reason))
            ended += 1
    return ended


def keep_preview(txn: Transaction, life: Life, call_id: str, preview: Preview) -> bool:
    """Put what a preview brought beside a call that is still held, once. Returns whether it was kept."""
    record = _current(txn, life, call_id)
    values = {
        "call_id": call_id,
        "rule": preview.rule,
        "name": preview.name,
        "at": preview.at,
        "preview_id": preview.call_id,
        "result_json": preview.result_json,
        "problem": preview.problem,
    }
    if record.status is not Status.HELD or txn.connection.execute(sql("put_preview"), values).rowcount != 1:
        return False
    query = {"id": call_id, "status": record.status, "now": life.at}
    version = txn.connection.execute(sql("touch"), query).fetchone()["version"]
    facts = {"preview": chain.of_preview(values), "result": chain.of_text(preview.result_json)}
    put_event(txn, call_id, Step(version, "preview", record.status, life.at, "gateway", preview.problem or ""), facts)
    return True


def hand_over(txn: Transaction, life: Life, call_id: str) -> None:
    """Note that the agent was given the final answer; only the first time counts."""
    told = txn.connection.execute(sql("hand_over"), {"id": call_id, "now": life.at}).fetchone()
    if told is not None:
        put_event(txn, call_id, Step(told["version"], "told", Status(told["status"]), life.at, "gateway"))


def paused(txn: Transaction) -> Pause | None:
    """Who paused everything, or None."""
    row = txn.connection.execute(sql("setting"), {"key": "pause"}).fetchone()
    stored = json.loads(row["value_json"]) if row else None
    return Pause(**stored) if stored else None


def pause(txn: Transaction, life: Life, by: str, reason: str) -> Pause:
    """Pause everything; on record as an event of no call."""
    value = {"by": by, "at": life.at, "reason": reason}
    txn.connection.execute(sql("put_setting"), {"key": "pause", "value_json": json.dumps(value)})
    note(txn, life, "paused", reason, by)
    return Pause(**value)


def resume(txn: Transaction, life: Life, by: str) -> None:
    """End the pause; on record as `pause`."""
    txn.connection.execute(sql("put_setting"), {"key": "pause", "value_json": json.dumps(None)})
    note(txn, life, "resumed", "", by)


def note(txn: Transaction, life: Life, kind: str, detail: str, by: str = "gateway") -> None:
    """Put something on record that concerns no call, such as a new policy."""
    put_event(txn, "", Step(0, kind, None, life.at, by, detail))


def keep_policy(txn: Transaction, life: Life, version: str, written: str) -> None:
    """Keep what a policy says, by its hash; once is enough."""
    values = {"version": version, "written": written, "now": life.at}
    if txn.connection.execute(sql("keep_policy"), values).rowcount == 1:
        note(txn, life, "policy-kept", version)


def run_statement(txn: Transaction, name: str, values: dict[str, str]) -> None:
    """Run a named statement that concerns no call."""
    txn.connection.execute(sql(name), values)


def read_call(txn: Transaction, call_id: str) -> CallRecord:
    """A call with its verdicts, as this transaction sees it.

    Raises:
        CallNotFound: No call has this id.
    """
    row = txn.connection.execute(sql("call"), {"id": call_id}).fetchone()
    if row is None:
        raise CallNotFound(call_id)
    verdicts = txn.connection.execute(sql("verdicts_of_call"), {"id": call_id}).fetchall()
    return record_from_row(row, verdicts)


def _current(txn: Transaction, life: Life, call_id: str) -> CallRecord:
    """A call as it stands by the clock and by its seals: one past its time is `expired` from here on, and one that
    somebody changed in the database is `invalidated`."""
    record = read_call(txn, call_id)
    if _expired(txn, life, record) or _tampered_with(txn, life, record):
        return read_call(txn, call_id)
    return record


def _tampered_with(txn: Transaction, life: Life, record: CallRecord) -> bool:
    """Whether somebody else wrote what people still rely on; if so the call is `invalidated` now."""
    if record.status not in (Status.HELD, Status.APPROVED):
        return False
    sound = record.id in life.waiting and is_sound(txn, life.seals, record)
    if not sound:
        _move(txn, life, record, _Change(Status.INVALIDATED, SEALS, TAMPERED, closed_reason=TAMPERED))
    return not sound


def _expired(txn: Transaction, life: Life, record: CallRecord) -> bool:
    """Whether the call is past its clock; if so it is `expired` now."""
    deadline = {Status.HELD: record.expires_at, Status.APPROVED: record.run_by}.get(record.status)
    if deadline is None or deadline > life.at:
        return False
    not_in_time = NOT_ASKED_IN_TIME if record.call.runs_elsewhere else NOT_RUN_IN_TIME
    reason = NOT_DECIDED_IN_TIME if record.status is Status.HELD else not_in_time
    _move(txn, life, record, _Change(Status.EXPIRED, "clock", reason, closed_reason=reason))
    return True


@dataclass(frozen=True)
class _Change:
    """A step along the lifecycle: to which status, by whom, and what else is written with it."""

    to: Status
    by: str
    detail: str = ""
    closed_reason: str | None = None
    run_by: str | None = None
    outcome: Outcome | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def _move(txn: Transaction, life: Life, record: CallRecord, change: _Change) -> None:
    """Change the status of a call that this transaction has just read."""
    if not _moved(txn, life, record.id, record.status, change):
        raise StoreError(f"call `{record.id}` did not become {change.to}: it changed meanwhile")


def _moved(txn: Transaction, life: Life, call_id: str, status: Status, change: _Change) -> bool:
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
        if change.closed_reason is not None:
            facts["closed_reason"] = chain.of_text(change.closed_reason)
    if changed is None:
        return False
    put_event(txn, call_id, Step(changed["version"], change.to, change.to, life.at, change.by, change.detail), facts)
    return True


def _seal_of_approved(txn: Transaction, life: Life, call_id: str, change: _Change) -> str:
    row = txn.connection.execute(sql("call"), {"id": call_id}).fetchone()
    return life.seals.seal(*sealed_parts(row, change.to, change.run_by, life.at))


def _status_changed(
    txn: Transaction, life: Life, call_id: str, status: Status, change: _Change, seal: str | None
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
        },
    ).fetchone()


def _outcome_written(txn: Transaction, life: Life, call_id: str, status: Status, outcome: Outcome) -> Any:
    """The guarded update of a call that ended, which no clock ends; half the price of the other."""
    values = (outcome.status, outcome.status in OPEN, life.at, outcome.at, outcome.detail, outcome.executed)
    result = (outcome.result_json, outcome.result_digest, outcome.result_bytes)
    return txn.connection.execute(sql("write_outcome"), (*values, *result, call_id, status)).fetchone()
