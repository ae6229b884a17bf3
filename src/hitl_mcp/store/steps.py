"""The steps of the lifecycle as transactions: each reads, decides whether it may, and writes with its event.

Every function here runs on the writer's thread inside one transaction, and changes a status by `moves.move`. What
people say of a call is in `verdicts`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from hitl_mcp.calls import (
    OPEN,
    STOP_RULE,
    Asked,
    CallRecord,
    Decision,
    Effect,
    Outcome,
    Preview,
    RuleMatch,
    Status,
    Stop,
    ToolCall,
    as_kept,
    digest_for,
    request_key_for,
)
from hitl_mcp.clock import after, for_people, to_text
from hitl_mcp.errors import CallNotFound, TooManyHeld
from hitl_mcp.limits import AGENT_HELD_CALLS, HANDED_OVER_REPEAT_SECONDS, OUTCOME_REPEAT_SECONDS, REPEAT_WINDOW_SECONDS
from hitl_mcp.policy.history import History
from hitl_mcp.store import chain
from hitl_mcp.store.access import Life, Refused
from hitl_mcp.store.base import Admission, Decide, LastLook, Pause
from hitl_mcp.store.events import Step, put_event
from hitl_mcp.store.grant_rows import Stands, count_use, end_all, nobody_stands, serving, why_not
from hitl_mcp.store.history import history_of, marked, move_marks, put_marks
from hitl_mcp.store.moves import Change, already_settled, current, expired, move, read_call, try_move
from hitl_mcp.store.queue import put_in_queue
from hitl_mcp.store.rows import decision_to_json
from hitl_mcp.store.sealing import sealed_parts
from hitl_mcp.store.statements import sql
from hitl_mcp.store.stops import stop_of
from hitl_mcp.store.writer import Transaction

_ID_ALPHABET = "abcdefghijkmnopqrstuvwxyz2345678"
"""32 letters and digits; `l`, `1`, `0` and `9` are left out, which are mistaken for others when read aloud."""

_SYMBOL_OF_BYTE = _ID_ALPHABET.encode() * 8

_ID_CHARACTERS = 13
"""13 symbols of 5 bits are 65 bits: ids cannot be guessed, and they stay short enough to type."""

CLOCK_SET_BACK = "approved, but the machine's clock was set back while the gateway was stopped"
RESTORED = "the record was restored from a backup, and what was decided since is not in it"


def admit(
    txn: Transaction, life: Life, call: ToolCall, asked: Asked, decide: Decide, stands: Stands = nobody_stands
) -> Admission:
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
        if existing is not None and answers and not expired(txn, life, existing):
            return Admission(existing, repeat=True)
        pause = paused(txn)
        if pause is not None:
            why = f"paused by {pause.by} at {for_people(pause.at)}" + (f": {pause.reason}" if pause.reason else "")
            decision = replace(
                decision, effect=Effect.DENY, paused=True, reasons=(why,), requirements=(), history=(), marks=()
            )
    if decision.effect is Effect.HOLD and (stop := stop_of(txn, life, call.agent)) is not None:
        decision = _stopped(decision, stop)
    grant = serving(txn, life, call, decision, stands) if decision.effect is Effect.HOLD else None
    if decision.effect is Effect.HOLD and grant is None:
        _check_held(txn, call.agent)
    repeat_of = _unknown_before(txn, request_key) if asked_before and decision.effect is Effect.ALLOW else None
    record = _insert(txn, life, _Admitted(call, asked, decision, request_key, repeat_of))
    return Admission(record if grant is None else _granted(txn, life, record, grant.id), repeat=False)


def _stopped(decision: Decision, stop: Stop) -> Decision:
    """What is decided of a call that would be held, where its agent was stopped."""
    why = f"{STOP_RULE} at {for_people(stop.at)}" + (f": {stop.reason}" if stop.reason else "")
    rules = (RuleMatch(STOP_RULE, Effect.DENY, why), *decision.rules)
    return replace(
        decision, effect=Effect.DENY, reasons=(why,), rules=rules, requirements=(), previews=(), history=(), marks=()
    )


def _granted(txn: Transaction, life: Life, record: CallRecord, grant: str) -> CallRecord:
    """Approve a held call by a grant, which no person looks at."""
    run_by = to_text(after(life.now, record.decision.run_within_seconds))
    move(txn, life, record, Change(Status.APPROVED, f"grant:{grant}", run_by=run_by, grant=grant))
    return read_call(txn, record.id)


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
    call_id, digest = new_id(), digest_for(call, decision.policy)
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
        put_in_queue(txn, call_id, call, decision)
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


def new_id() -> str:
    """An id that cannot be guessed."""
    return "c_" + secrets.token_bytes(_ID_CHARACTERS).translate(_SYMBOL_OF_BYTE).decode()


def withdraw(txn: Transaction, life: Life, call_id: str, agent: str) -> CallRecord | Refused:
    """Take back a call that has not started. A call of another agent is answered like one that does not exist."""
    record = current(txn, life, call_id)
    if record.call.agent != agent:
        raise CallNotFound(call_id)
    if record.status not in (Status.HELD, Status.APPROVED):
        return Refused(already_settled(record))
    move(txn, life, record, Change(Status.WITHDRAWN, f"agent:{agent}", closed_reason="the agent withdrew it"))
    return read_call(txn, call_id)


def claim(
    txn: Transaction,
    life: Life,
    checked: CallRecord,
    look: Callable[[History], LastLook],
    stands: Stands = nobody_stands,
) -> CallRecord | None:
    """Take an approved call to run it, or to release it: the one step that lets it happen, and at most once.

    `look` decides it again by what happened meanwhile. None where the call must not run (and is `invalidated` then), is
    no longer approved, no longer what was checked, or everything is paused.
    """
    record = current(txn, life, checked.id)
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
    refusal = found.refusal
    if refusal is None and record.grant is not None:
        refusal = why_not(txn, life, record, found.asks, stands)
    if refusal is not None:
        invalidate(txn, life, record.id, refusal)
        return None
    if record.grant is not None:
        count_use(txn, life, record)
    move_marks(txn, life.at, record.id, found.marks)
    move(txn, life, record, _start(life, record.call, found))
    return read_call(txn, checked.id)


def _start(life: Life, call: ToolCall, found: LastLook) -> Change:
    """The step that lets an approved call happen: at an upstream, by this gateway, or at its agent's own client."""
    marks = marked(life.at, found.marks)
    if call.runs_elsewhere:
        facts = {"start": chain.of_start("", 0, marks)}
        return Change(Status.RELEASED, f"agent:{call.agent}", facts=facts)
    return Change(Status.RUNNING, "gateway", facts={"start": chain.of_start(life.runner, life.epoch, marks)})


def invalidate(txn: Transaction, life: Life, call_id: str, reason: str) -> CallRecord:
    """End a held or approved call because a check failed; any other is left as it is."""
    record = current(txn, life, call_id)
    if record.status in (Status.HELD, Status.APPROVED):
        move(txn, life, record, Change(Status.INVALIDATED, "gateway", reason, closed_reason=reason))
    return read_call(txn, call_id)


def settle(txn: Transaction, life: Life, call_id: str, outcome: Outcome) -> bool:
    """Write what running brought. Only a running call can be settled, so only the first outcome counts."""
    change = Change(outcome.status, "gateway", outcome.detail, outcome=outcome)
    return try_move(txn, life, call_id, Status.RUNNING, change)


def resolve(txn: Transaction, life: Life, call_id: str, outcome: Outcome, by: str) -> bool:
    """Write what became of a call whose outcome was unknown, and who found out; the agent is to be told of it."""
    moved = try_move(txn, life, call_id, Status.UNKNOWN, Change(outcome.status, by, outcome.detail, outcome=outcome))
    if moved:
        txn.connection.execute(sql("take_back"), {"id": call_id})
    return moved


def expire_due(txn: Transaction, life: Life) -> int:
    """End every call whose clock has run out; returns how many."""
    due = [row["id"] for row in txn.connection.execute(sql("due"), {"now": life.at})]
    return sum(expired(txn, life, read_call(txn, call_id)) for call_id in due)


def recover(txn: Transaction, life: Life) -> int:
    """At boot: what an earlier life of this gateway left running has an unknown outcome. Returns how many.

    What is held or approved is looked at, too: whoever changed it meanwhile is found out now.
    """
    for row in txn.connection.execute(sql("waiting_for_people")).fetchall():
        record = current(txn, life, row["id"])
        # Approved at a time that is still to come: how long ago that was, nobody knows.
        if record.status is Status.APPROVED and record.changed_at > life.at:
            move(txn, life, record, Change(Status.EXPIRED, "clock", CLOCK_SET_BACK, closed_reason=CLOCK_SET_BACK))
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
    """End all that is held or approved, and all grants, for a reason that concerns the record as a whole.

    Returns how many calls that ended.
    """
    end_all(txn, life, reason)
    ended = 0
    for row in txn.connection.execute(sql("waiting_for_people")).fetchall():
        record = current(txn, life, row["id"])
        if record.status in (Status.HELD, Status.APPROVED):
            move(txn, life, record, Change(Status.INVALIDATED, "gateway", reason, closed_reason=reason))
            ended += 1
    return ended


def keep_preview(txn: Transaction, life: Life, call_id: str, preview: Preview, digest: str | None = None) -> bool:
    """Put what a preview brought beside a call that is still held, once. Returns whether it was kept.

    What was read for bytes that were edited meanwhile says nothing of the new ones.
    """
    record = current(txn, life, call_id)
    if digest is not None and digest != record.digest:
        return False
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
