"""What people say of a call, as steps: verdicts, edits, and who else is to be asked. Each is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from hitl_mcp.calls import (
    CallRecord,
    Decision,
    Effect,
    Requirement,
    Status,
    Stop,
    ToolCall,
    Verdict,
    VerdictKind,
    counts_for,
    digest_for,
    objection,
    unmet,
)
from hitl_mcp.clock import after, to_text
from hitl_mcp.errors import (
    CallAlreadySettled,
    DigestMismatch,
    EditDenied,
    EditRefused,
    HitlError,
    NotAllowed,
    StoreError,
)
from hitl_mcp.store import chain
from hitl_mcp.store.access import Access, Life, Refused
from hitl_mcp.store.base import Decide
from hitl_mcp.store.events import Step, put_event
from hitl_mcp.store.history import history_of, marked, move_marks
from hitl_mcp.store.moves import Change, already_settled, current, move, read_call
from hitl_mcp.store.queue import put_in_queue
from hitl_mcp.store.reviewers import check_budget
from hitl_mcp.store.rows import decision_to_json
from hitl_mcp.store.sealing import EDITED, put_verdict, revision_parts, sealed_parts
from hitl_mcp.store.statements import sql
from hitl_mcp.store.stops import stop_agent
from hitl_mcp.store.writer import Transaction

EDITOR = "edited"
"""The requirement of an edited call that the policy alone would allow: that its editor approves it."""

REASSIGNED = "reassigned"
"""The requirement that a call has which was passed on to a role."""


@dataclass(frozen=True)
class Edited:
    """An edit as it is handed in: the bytes that are to run instead, as canonical JSON, of the call that was shown.

    `decide` decides a call with these bytes; `roles_for` says which roles its editor brings to what is then asked.
    """

    shown: str
    arguments_json: str
    decide: Decide
    roles_for: Callable[[Iterable[Requirement]], tuple[str, ...]]


@dataclass(frozen=True)
class Planned:
    """What an edit would make of a call: `decided` is the policy's own word, `decision` what is then asked of people.

    Where the policy denies it there is nothing else.
    """

    record: CallRecord
    decided: Decision
    call: ToolCall
    decision: Decision
    digest: str
    expires_at: str

    @property
    def edited(self) -> CallRecord:
        """The call as it would then be, before anybody approved it."""
        return replace(
            self.record, call=self.call, decision=self.decision, digest=self.digest, expires_at=self.expires_at
        )


@dataclass(frozen=True)
class PassedOn:
    """A call passed on to a role: what that asks for, by whom and why, of the bytes that `shown` names."""

    shown: str
    need: Requirement
    by: str
    reason: str


# Verdicts.


def add_verdict(
    txn: Transaction, life: Life, call_id: str, verdict: Verdict, at_most: int | None = None, *, stop: bool = False
) -> CallRecord | Refused:
    """Write a verdict and make the step it brings about: one rejection rejects, all requirements met approve.

    Of approvals, this reviewer may give `at_most` within an hour. With `stop`, a rejection stops the agent, too.
    """
    record = current(txn, life, call_id)
    refusal = _why_no_verdict(record, verdict) or check_budget(txn, life, verdict, at_most)
    if refusal is not None:
        return Refused(refusal)
    _give(txn, life, call_id, verdict)
    if stop and verdict.kind is VerdictKind.REJECT:
        stop_agent(txn, life, Stop(record.call.agent, verdict.reviewer, life.at, verdict.reason, call_id))
    return read_call(txn, call_id)


def _give(txn: Transaction, life: Life, call_id: str, verdict: Verdict) -> None:
    """Write a verdict that may be given, and make the step it brings about."""
    facts = put_verdict(txn, life, call_id, verdict)
    by, record = f"reviewer:{verdict.reviewer}", read_call(txn, call_id)
    if verdict.kind is VerdictKind.REJECT:
        move(txn, life, record, Change(Status.REJECTED, by, verdict.reason, facts=facts))
    elif unmet(record.decision.requirements, record.verdicts, record.digest):
        version = txn.connection.execute(
            sql("touch"), {"id": call_id, "status": record.status, "now": life.at}
        ).fetchone()["version"]
        put_event(txn, call_id, Step(version, "approval", record.status, life.at, by, verdict.reason), facts)
    else:
        run_by = to_text(after(life.now, record.decision.run_within_seconds))
        move(txn, life, record, Change(Status.APPROVED, by, verdict.reason, run_by=run_by, facts=facts))


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


# Edits.


def edit(
    txn: Transaction, life: Life, call_id: str, verdict: Verdict, edited: Edited, at_most: int | None = None
) -> CallRecord | Refused:
    """Give a held call other bytes and approve these, by one reviewer at once; or change nothing.

    Earlier approvals name the earlier digest, so they count no more.
    """
    planned = try_edit(txn, life, call_id, edited)
    if isinstance(planned, Refused):
        return planned
    if planned.decided.effect is Effect.DENY:
        return Refused(EditDenied(call_id, planned.decided.reasons))
    verdict = replace(verdict, digest=planned.digest, roles=edited.roles_for(planned.decision.requirements))
    refusal = _why_no_verdict(planned.edited, verdict) or check_budget(txn, life, verdict, at_most)
    if refusal is not None:
        return Refused(refusal)
    _revise(txn, life, planned, verdict)
    _give(txn, life, call_id, verdict)
    return read_call(txn, call_id)


def try_edit(txn: Transaction, life: Life, call_id: str, edited: Edited) -> Planned | Refused:
    """What an edit would make of a call, as it is decided now, the call itself left out; writes nothing of it."""
    record = current(txn, life, call_id)
    if record.status is not Status.HELD:
        return Refused(already_settled(record))
    if edited.shown != record.digest:
        return Refused(DigestMismatch(record.id, record.status))
    if edited.arguments_json == record.call.arguments_json:
        return Refused(EditRefused(call_id, "these are the arguments that it has: nothing is changed"))
    # INVARIANT: history is read and the edit decided in the transaction that writes it, as when the call was asked.
    decided = edited.decide(history_of(txn, life.now, leave_out=call_id))
    decision = _as_edited(record.decision, decided)
    call = replace(record.call, arguments_json=edited.arguments_json)
    digest = digest_for(call, decision.policy)
    if digest in {earlier.digest for earlier in record.revisions}:
        why = "it had these arguments before, and what was said of them then would count again"
        return Refused(EditRefused(call_id, why))
    expires_at = min(record.expires_at or life.at, to_text(after(life.now, decision.expires_in_seconds)))
    return Planned(record, decided, call, decision, digest, expires_at)


def _as_edited(before: Decision, decided: Decision) -> Decision:
    """What is asked of people for an edited call: what the policy asks, at least its editor's approval, and no longer
    clocks than before. Whoever it was passed on to is asked still."""
    needs = decided.requirements or (Requirement(EDITOR, barred=_barred(before.requirements)),)
    return replace(
        decided,
        effect=Effect.HOLD,
        requirements=(*needs, *(need for need in before.requirements if _is_passed_on(before, need))),
        expires_in_seconds=min(before.expires_in_seconds, decided.expires_in_seconds),
        run_within_seconds=min(before.run_within_seconds, decided.run_within_seconds),
        undo_seconds=max(before.undo_seconds, decided.undo_seconds),
    )


def _barred(needs: Iterable[Requirement]) -> tuple[str, ...]:
    return tuple(sorted({name for need in needs for name in need.barred}))


def _revise(txn: Transaction, life: Life, planned: Planned, verdict: Verdict) -> None:
    """Write what an edit makes of a held call, and keep what it replaces."""
    record = planned.record
    number = len(record.revisions) + 1
    kept: dict[str, Any] = {
        "call_id": record.id,
        "number": number,
        "arguments_json": record.call.arguments_json,
        "digest": record.digest,
        "decision_json": decision_to_json(record.decision),
        "expires_at": record.expires_at,
        "edited_by": verdict.reviewer,
        "edited_at": life.at,
        "reason": verdict.reason,
    }
    kept["seal"] = life.seals.seal(*revision_parts(kept))
    txn.connection.execute(sql("put_revision"), kept)
    version, facts = _rewritten(txn, life, planned, number)
    txn.connection.execute(sql("drop_previews"), {"id": record.id})  # they told of the earlier bytes
    move_marks(txn, life.at, record.id, planned.decision.marks)
    put_in_queue(txn, record.id, planned.call, planned.decision)
    facts |= {
        "revision": chain.of_revision(kept),
        "earlier": chain.of_text(kept["decision_json"]),
        "start": chain.of_start("", 0, marked(life.at, planned.decision.marks)),
    }
    step = Step(version, EDITED, Status.HELD, life.at, f"reviewer:{verdict.reviewer}", verdict.reason)
    put_event(txn, record.id, step, facts)


def _rewritten(txn: Transaction, life: Life, planned: Planned, revision: int) -> tuple[int, dict[str, str]]:
    """Give a held call other bytes or another decision, sealed: its version, and what the chain attests of it."""
    call_id, shown = planned.record.id, planned.record.digest
    row = dict(txn.connection.execute(sql("call"), {"id": call_id}).fetchone())
    row |= {"digest": planned.digest, "expires_at": planned.expires_at}
    row |= {"decision_json": decision_to_json(planned.decision), "arguments_json": planned.call.arguments_json}
    row["seal"] = life.seals.seal(*sealed_parts(row, Status.HELD))
    written = ("id", "digest", "expires_at", "decision_json", "arguments_json", "seal")
    values = {**{name: row[name] for name in written}, "revision": revision, "shown": shown, "now": life.at}
    changed = txn.connection.execute(sql("revise_call"), values).fetchone()
    if changed is None:
        raise StoreError(f"call `{call_id}` was not revised: it changed meanwhile")
    facts = {
        "call": chain.of_call(row),
        "decision": chain.of_text(row["decision_json"]),
        "seal": chain.of_text(row["seal"]),
    }
    return changed["version"], facts


# Passing on.


def passed_on(record: CallRecord, role: str) -> Requirement:
    """What a call asks for that is passed on to a role: one of its people, none of the agent's own."""
    return Requirement(REASSIGNED, roles=(role,), barred=_barred(record.decision.requirements))


def pass_on(txn: Transaction, life: Life, call_id: str, passed: PassedOn) -> CallRecord | Refused:
    """Ask a role, too, beside what the policy asks for; instead of the role it was passed on to before."""
    record = current(txn, life, call_id)
    if record.status is not Status.HELD:
        return Refused(already_settled(record))
    if passed.shown != record.digest:
        return Refused(DigestMismatch(record.id, record.status))
    kept = tuple(need for need in record.decision.requirements if not _is_passed_on(record.decision, need))
    decision = replace(record.decision, requirements=(*kept, passed.need))
    if not unmet(decision.requirements, record.verdicts, record.digest):
        role = passed.need.roles[0]
        return Refused(NotAllowed(f"cannot pass call `{call_id}` on to `{role}`: it was approved with that role"))
    expires_at = record.expires_at or life.at
    planned = Planned(record, decision, record.call, decision, record.digest, expires_at)
    version, facts = _rewritten(txn, life, planned, len(record.revisions))
    put_in_queue(txn, call_id, record.call, decision)
    said = f"to {passed.need.roles[0]}" + (f": {passed.reason}" if passed.reason else "")
    put_event(txn, call_id, Step(version, REASSIGNED, Status.HELD, life.at, f"reviewer:{passed.by}", said), facts)
    return read_call(txn, call_id)


def _is_passed_on(decision: Decision, need: Requirement) -> bool:
    """Whether a requirement came from passing a call on, and not from a rule that is called so."""
    return need.id == REASSIGNED and all(rule.id != REASSIGNED for rule in decision.rules)


@dataclass(frozen=True)
class Verdicts:
    """What people say of calls, written."""

    access: Access

    async def add(
        self, call_id: str, verdict: Verdict, at_most: int | None = None, *, stop: bool = False
    ) -> CallRecord:
        """Write a reviewer's verdict; with `stop`, a rejection stops the agent, too. Raises as `store.add_verdict`."""
        record = await self.access.step(lambda txn, life: add_verdict(txn, life, call_id, verdict, at_most, stop=stop))
        if stop:
            self.access.stopped.add(record.call.agent)
        return record

    async def edit(self, call_id: str, verdict: Verdict, edited: Edited, at_most: int | None = None) -> CallRecord:
        """Give a held call other bytes and approve them.

        Raises:
            EditDenied: The policy denies these.
            EditRefused: They are what the call has, or had before.
            HitlError: As `add`.
        """
        return await self.access.step(lambda txn, life: edit(txn, life, call_id, verdict, edited, at_most))

    async def try_edit(self, call_id: str, edited: Edited) -> Planned:
        """What an edit would make of a call; nothing is changed. Raises as `edit`, but says what is denied."""
        return await self.access.step(lambda txn, life: try_edit(txn, life, call_id, edited), durable=False)

    async def pass_on(self, call_id: str, passed: PassedOn) -> CallRecord:
        """Ask a role, too.

        Raises:
            NotAllowed: Whoever has this role approved it already.
            CallAlreadySettled, DigestMismatch, CallNotFound: As `add`.
        """
        return await self.access.step(lambda txn, life: pass_on(txn, life, call_id, passed))
