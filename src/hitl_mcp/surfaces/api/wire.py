"""A call as the API writes it. Field names are fixed; arguments and results travel as strings, never as numbers."""

from __future__ import annotations

from typing import Any

from hitl_mcp.calls import (
    CallEvent,
    CallRecord,
    Decision,
    Outcome,
    Preview,
    Revision,
    RuleMatch,
    Verdict,
    approvals_for,
)
from hitl_mcp.render import summary

Wire = dict[str, Any]


def call_wire(record: CallRecord, *, brief: bool = False) -> Wire:
    """A call; `brief` leaves out arguments, events and the result, for lists that only show `summary`."""
    decision = record.decision
    wire: Wire = {
        "id": record.id,
        "version": record.version,
        "status": record.status,
        "upstream": record.call.upstream,
        "tool": record.call.tool,
        "name": record.call.name,
        "arguments_json": record.call.arguments_json,
        "digest": record.digest,
        "agent": record.call.agent,
        "runs_elsewhere": record.call.runs_elsewhere,
        "score": decision.score,
        "decision": decision.effect,
        "band": decision.band,
        "policy": decision.policy,
        "signals": _signals(decision),
        "rules": [_rule(rule) for rule in decision.rules],
        "reasons": list(decision.reasons),
        "shadows": [_rule(rule) for rule in decision.shadows],
        "told": [{"item": used.item, "about": used.about, "answer": used.answer} for used in decision.history],
        "requirements": _requirements(record),
        "created_at": record.created_at,
        "changed_at": record.changed_at,
        "expires_at": record.expires_at,
        "run_by": record.run_by,
        "claim": record.asked.claim,
        "conversation": record.asked.conversation,
        "closed_reason": record.closed_reason,
        "erased_at": record.erased_at,
        "repeat_of": record.repeat_of,
        "grant": record.grant,
        "revisions": [_revision(revision) for revision in record.revisions],
        "verdicts": [_verdict(verdict) for verdict in record.verdicts],
        "previews": [_preview(preview) for preview in record.previews],
        "outcome": _outcome(record.outcome) if record.outcome else None,
        "events": [event_wire(event) for event in record.events],
        "summary": summary(record),
    }
    if brief:
        wire["same"] = record.likeness
        del wire["arguments_json"], wire["events"], wire["previews"], wire["told"], wire["revisions"]
        if wire["outcome"]:
            del wire["outcome"]["result_json"]
    return wire


def event_wire(event: CallEvent) -> Wire:
    """One step on record, as lists and the stream carry it."""
    return {
        "number": event.number,
        "call_id": event.call_id,
        "version": event.version,
        "kind": event.kind,
        "status": event.status,
        "at": event.at,
        "by": event.by,
        "detail": event.detail,
    }


def decision_wire(decision: Decision) -> Wire:
    """What was decided of a call that has no record of its own, such as one that a reviewer thinks of changing."""
    return {
        "effect": decision.effect,
        "score": decision.score,
        "band": decision.band,
        "signals": _signals(decision),
        "rules": [_rule(rule) for rule in decision.rules],
        "reasons": list(decision.reasons),
        "requirements": [
            {
                "id": need.id,
                "roles": list(need.roles),
                "quorum": need.quorum,
                "assurance": need.assurance,
                "not_by": list(need.barred),
                "surfaces": list(need.surfaces),
            }
            for need in decision.requirements
        ],
    }


def _signals(decision: Decision) -> list[Wire]:
    return [
        {"id": signal.id, "points": signal.points, "reason": signal.reason, "error": signal.error}
        for signal in decision.signals
    ]


def _revision(revision: Revision) -> Wire:
    return {
        "number": revision.number,
        "arguments_json": revision.arguments_json,
        "digest": revision.digest,
        "edited_by": revision.edited_by,
        "edited_at": revision.edited_at,
        "reason": revision.reason,
    }


def _rule(match: RuleMatch) -> Wire:
    return {"id": match.id, "effect": match.effect, "reason": match.reason, "error": match.error}


def _requirements(record: CallRecord) -> list[Wire]:
    rows = []
    for need in record.decision.requirements:
        names = approvals_for(need, record.verdicts, record.digest)
        rows.append(
            {
                "id": need.id,
                "roles": list(need.roles),
                "quorum": need.quorum,
                "met": len(names),
                "approved_by": list(names),
                "assurance": need.assurance,
                "not_by": list(need.barred),
                "surfaces": list(need.surfaces),
                "grantable": need.grantable,
            }
        )
    return rows


def _preview(preview: Preview) -> Wire:
    return {
        "rule": preview.rule,
        "name": preview.name,
        "at": preview.at,
        "call_id": preview.call_id,
        "result_json": preview.result_json,
        "problem": preview.problem,
    }


def _verdict(verdict: Verdict) -> Wire:
    return {
        "verdict": verdict.kind,
        "reviewer": verdict.reviewer,
        "roles": list(verdict.roles),
        "digest": verdict.digest,
        "surface": verdict.surface,
        "assurance": verdict.assurance,
        "at": verdict.at,
        "reason": verdict.reason,
        "considered_seconds": verdict.considered_seconds,
    }


def _outcome(outcome: Outcome) -> Wire:
    return {
        "status": outcome.status,
        "executed": outcome.executed,
        "at": outcome.at,
        "detail": outcome.detail,
        "result_json": outcome.result_json,
        "result_digest": outcome.result_digest,
        "result_bytes": outcome.result_bytes,
    }
