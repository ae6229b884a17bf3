"""What people are shown of a call, as data: lines of segments and a few plain values. Pure; decides nothing.

Page and terminal both show this and nothing else. Whatever an agent, an upstream or a reviewer wrote comes as
segments that went through `marks`; plain strings in here are our own words, ids, digests and times.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from hitl_mcp.calls import (
    CallRecord,
    Decision,
    ReadingCall,
    Requirement,
    Status,
    Stop,
    Verdict,
    approvals_for,
)
from hitl_mcp.clock import for_people
from hitl_mcp.people import People, Reviewer
from hitl_mcp.policy.explanation import explained
from hitl_mcp.render.difference import Compared, difference
from hitl_mcp.render.marks import Kind, Segment, joined, marked
from hitl_mcp.render.secret import covered, public_part, secret_arguments
from hitl_mcp.render.standing import Beside, critical, place_in, requirement_shown, standing
from hitl_mcp.render.telling import amounts, telling, told
from hitl_mcp.render.tree import Line, hidden_in_decoded, lines_of_json, lines_of_text, raw_segments, shows_all

Shown = dict[str, Any]
"""What `shown` gives; JSON-able."""

RESULT_CHARACTERS = 256 * 1024
"""Results longer than this are named by size and digest: nothing is decided on them, and some are videos."""

SUMMARY_CHARACTERS = 160
"""How much of the arguments one row of the queue can hold on a desktop."""


@covered
def shown(record: CallRecord, people: People, reviewer: str | None = None, beside: Beside | None = None) -> Shown:
    """Everything a person needs to decide this call, complete; with `reviewer`, also what that person may do."""
    beside = beside or Beside()
    viewer = people.reviewer(reviewer) if reviewer is not None else None
    agent = people.agents.get(record.call.agent)
    return {
        "id": record.id,
        "version": record.version,
        "status": record.status,
        "headline": headline(record),
        "sentence": _segments(_sentence(record)),
        "about": _about_shown(public_part(record.call)),
        "critical": critical(record, amounts(public_part(record.call))),
        "agent": _segments(marked(record.call.agent, "name")),
        "agent_name": record.call.agent,
        "runs_elsewhere": record.call.runs_elsewhere,
        "owner": agent.owner if agent else None,
        "arguments": _json_shown(record.call.arguments_json, record.call.name),
        "meta": None if record.call.meta_json == "{}" else _json_shown(record.call.meta_json),
        "claim": _text_shown(record.asked.claim) if record.asked.claim else None,
        **decision_shown(record.decision),
        "requirements": _requirements_shown(record, people, viewer, beside),
        "verdicts": [_verdict_shown(verdict, record.digest) for verdict in record.verdicts],
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "run_by": record.run_by,
        "starts_at": record.starts_at if record.status is Status.APPROVED and record.decision.undo_seconds else None,
        "roles": sorted(people.roles()),
        "schema": beside.schema_json,
        "looking": list(beside.looking),
        "grantable": beside.grantable,
        "grant": record.grant,
        "stopped": _stop_shown(beside.stopped) if beside.stopped else None,
        "binding": _binding_shown(record),
        "digest": record.digest,
        "closed_reason": _text_shown(record.closed_reason) if record.closed_reason else None,
        "erased": f"What it carried was erased at {for_people(record.erased_at)}" if record.erased_at else None,
        "previews": [_preview_shown(record, asked) for asked in record.decision.previews],
        "outcome": _outcome_shown(record),
        "history": _history_shown(record),
        "revisions": _revisions_shown(record),
        "repeat_of": record.repeat_of,
        "you": standing(record, viewer, beside) if viewer else None,
    }


@covered
def summary(record: CallRecord) -> Shown:
    """One row of a list: enough to choose what to look at, never enough to decide."""
    text = record.call.arguments_json
    preview = list(raw_segments(text, secret_arguments(record.call.name, text), SUMMARY_CHARACTERS))
    if len(text) > SUMMARY_CHARACTERS:
        preview.append(Segment("note", f" ⟦{len(text) - SUMMARY_CHARACTERS:,} more⟧", ""))
    needs = record.decision.requirements
    return {
        "sentence": _segments(_sentence(record)),
        "what": _segments(_what(record)),
        "agent": _segments(marked(record.call.agent, "name")),
        "preview": _segments(preview),
        "headline": headline(record),
        "missing": sum(max(0, need.quorum - _count(record, need)) for need in needs),
        "progress": [{"met": _count(record, need), "quorum": need.quorum} for need in needs],
        "critical": critical(record, ()) is not None,
    }


def headline(record: CallRecord) -> str:
    """Where a call stands, in one sentence of ours."""
    if record.status is Status.APPROVED and record.decision.undo_seconds:
        return f"Approved; it starts at {for_people(record.starts_at)} unless someone rejects it before"
    if record.awaits_its_agent:
        return "Approved; it is released when the agent asks for it again, and the agent's own program runs it"
    if record.status is Status.REJECTED and record.rejection is not None:
        return f"Rejected by {plain_text(record.rejection.reviewer)}; it was not run"
    return _HEADLINES[record.status]


def plain_text(text: str) -> str:
    """Untrusted text on one line, marked, for places that can only hold a string."""
    return "".join(segment.text for segment in marked(text, "plain"))


_HEADLINES = {
    Status.HELD: "Held; nothing has run",
    Status.APPROVED: "Approved; about to run",
    Status.RUNNING: "Running now",
    Status.UNKNOWN: "Outcome unknown: it may have happened. Check at the upstream; it is never sent again",
    Status.SUCCEEDED: "It ran and succeeded",
    Status.FAILED: "It failed",
    Status.DENIED: "Denied by the policy; it was not run",
    Status.REJECTED: "Rejected; it was not run",
    Status.EXPIRED: "Expired; it was not run",
    Status.WITHDRAWN: "Withdrawn by the agent; it was not run",
    Status.INVALIDATED: "No longer valid; it was not run",
    Status.RELEASED: "Released: the agent's own program runs it itself, and what came of it is not known here",
}


def _sentence(record: CallRecord) -> list[Segment]:
    asks = Segment("plain", " asks to run ", "")
    return [*marked(record.call.agent, "name"), asks, *_what(record)]


def _what(record: CallRecord) -> list[Segment]:
    apart = Segment("plain", " / ", "")
    return [*marked(record.call.upstream, "name"), apart, *marked(record.call.tool, "name")]


def difference_shown(before: str | None, after: str, name: str = "") -> Shown:
    """What is different between two definitions of a tool, or two versions of the arguments for the tool `name`.

    Without `before`, all of it is new.
    """
    found = difference(before, after, name)
    return {
        "lines": [_compared_shown(one) for one in found.lines],
        "gone": sum(one.sign == "gone" for one in found.lines),
        "new": sum(one.sign == "new" for one in found.lines),
        "whole": found.whole,
        "bytes": len(after.encode("utf-8")),
    }


@covered
def edit_shown(record: CallRecord, edited: CallRecord, people: People, reviewer: str, beside: Beside) -> Shown:
    """What an edit would change of a call, how much care it then asks for, and what its editor's approval would be."""
    editor = people.reviewer(reviewer)
    return {
        "changes": difference_shown(record.call.arguments_json, edited.call.arguments_json, edited.call.name),
        "critical": critical(edited, amounts(public_part(edited.call))),
        "requirements": _requirements_shown(edited, people, editor, beside),
        "you": standing(edited, editor, beside) if editor else None,
    }


def _requirements_shown(record: CallRecord, people: People, viewer: Reviewer | None, beside: Beside) -> list[Shown]:
    return [
        {
            **requirement_shown(record, people, need),
            "you": place_in(record, viewer, need, beside) if viewer else None,
        }
        for need in record.decision.requirements
    ]


def _stop_shown(stop: Stop) -> Shown:
    return {"by": _short(stop.by), "at": stop.at or None, "reason": _text_shown(stop.reason) if stop.reason else None}


def _compared_shown(one: Compared) -> Shown:
    segments = _segments(one.line.segments)
    for place in one.changed:
        segments[place]["changed"] = True
    return {"sign": one.sign, "depth": one.line.depth, "skipped": one.skipped, "segments": segments}


def _about_shown(arguments_json: str) -> list[Shown]:
    facts = telling(arguments_json)
    return _segments(told(facts, len(json.loads(arguments_json)) if facts else 0))


def _json_shown(text: str, name: str = "") -> Shown:
    """JSON as a tree and as it is written; the arguments of a tool of this name without those that are secret."""
    secrets = secret_arguments(name, text)
    lines, raw = lines_of_json(text, secrets), raw_segments(text, secrets)
    return {
        "lines": _lines(lines),
        "raw": _segments(raw),
        "characters": len(text),
        "bytes": len(text.encode("utf-8")),
        "marks": sum(segment.kind == "mark" and bool(segment.source) for line in lines for segment in line.segments),
        "decoded_marks": hidden_in_decoded(lines),
        # INVARIANT: a call is approved only where this is true; see `fits_terminal` and the page's Approve.
        "whole": shows_all(lines, text) and shows_all([Line(0, raw)], text),
    }


def _text_shown(text: str, kind: Kind = "plain") -> list[Shown]:
    return _lines(lines_of_text(text, kind))


def _short(text: str) -> list[Shown]:
    return _segments(joined(marked(text, "plain")))


def decision_shown(decision: Decision) -> Shown:
    """Why a decision is as it is: the explanation that everyone gets, as segments."""
    explanation = explained(decision)
    return {
        "explanation": {
            "sentence": _short(explanation.sentence),
            "also": [_short(reason) for reason in explanation.why[1:]],
            "shadows": [_short(shadow) for shadow in explanation.shadows],
            "told": [_short(told) for told in explanation.told],
        },
        "score": {
            "score": explanation.score,
            "sum": explanation.total,
            "capped": explanation.total > explanation.score,
            "addition": explanation.addition,
            "band": decision.band,
            "parts": [
                {
                    "id": signal.id,
                    "points": signal.points,
                    "reason": _short(signal.reason),
                    "error": _short(signal.error) if signal.error else None,
                }
                for signal in explanation.points
            ],
        },
    }


def _count(record: CallRecord, need: Requirement) -> int:
    return len(approvals_for(need, record.verdicts, record.digest))


def _verdict_shown(verdict: Verdict, digest: str) -> Shown:
    return {
        "verdict": verdict.kind,
        "reviewer": _short(verdict.reviewer),
        "roles": list(verdict.roles),
        "surface": verdict.surface,
        "assurance": verdict.assurance,
        "at": verdict.at,
        "reason": _text_shown(verdict.reason) if verdict.reason else None,
        "counts": verdict.digest == digest,
    }


def _binding_shown(record: CallRecord) -> list[Shown]:
    """What an approval is bound to, named: change one of these and the approval is worth nothing."""
    elsewhere = (("runs", "in the agent's own program, not here"),)
    of_upstream = (("upstream", record.call.fingerprint), ("tool definition", record.call.definition))
    rows = (
        *(elsewhere if record.call.runs_elsewhere else of_upstream),
        ("policy", record.decision.policy),
        ("this call", record.digest),
    )
    return [{"name": name, "value": _short(value)} for name, value in rows]


def _outcome_shown(record: CallRecord) -> Shown | None:
    outcome = record.outcome
    if outcome is None:
        return None
    result = outcome.result_json
    return {
        "status": outcome.status,
        "executed": outcome.executed,
        "at": outcome.at,
        "detail": _text_shown(outcome.detail) if outcome.detail else None,
        "result": _lines(lines_of_json(result)) if result and len(result) <= RESULT_CHARACTERS else None,
        "result_bytes": outcome.result_bytes,
        "result_digest": outcome.result_digest,
    }


def _preview_shown(record: CallRecord, asked: ReadingCall) -> Shown:
    """What a reading call says that this call would do: the upstream's own words, or why there are none."""
    preview = next((one for one in record.previews if one.rule == asked.rule), None)
    result = preview.result_json if preview else None
    return {
        "name": _short(asked.name),
        "arguments": _segments(raw_segments(asked.arguments_json)) if asked.error is None else None,
        "waiting": preview is None,
        "problem": _text_shown(preview.problem) if preview and preview.problem else None,
        "result": _result_shown(result) if result else None,
    }


def _result_shown(result_json: str) -> list[Shown]:
    """A tool's result: its texts as they read, where it is nothing but texts; else all of it as JSON."""
    result = json.loads(result_json)
    content = result.get("content") if isinstance(result, dict) else None
    parts = content if isinstance(content, list) and set(result) <= {"content", "isError", "_meta"} else []
    texts = [part["text"] for part in parts if set(part) == {"type", "text"} and isinstance(part["text"], str)]
    if not texts or len(texts) < len(parts):
        return _lines(lines_of_json(result_json))
    return [line for text in texts for line in _text_shown(text)]


def _revisions_shown(record: CallRecord) -> list[Shown]:
    """The edits, the earliest first: who made each, what stood there before, and what it changed."""
    texts = [*(revision.arguments_json for revision in record.revisions), record.call.arguments_json]
    return [
        {
            "number": revision.number,
            "by": _short(revision.edited_by),
            "at": revision.edited_at,
            "reason": _text_shown(revision.reason) if revision.reason else None,
            "digest": revision.digest,
            "score": revision.decision.score,
            "changes": None if record.erased_at else difference_shown(before, after, record.call.name),
            "before": None if record.erased_at else _json_shown(before, record.call.name),
        }
        for revision, (before, after) in zip(record.revisions, pairwise(texts), strict=True)
    ]


def _history_shown(record: CallRecord) -> list[Shown]:
    return [
        {
            "number": event.number,
            "kind": event.kind,
            "at": event.at,
            "time": for_people(event.at),
            "by": _short(event.by),
            "detail": _short(event.detail) if event.detail else None,
        }
        for event in record.events
    ]


def _segments(segments: Iterable[Segment]) -> list[Shown]:
    return [
        {"kind": segment.kind, "text": segment.text, **({"rtl": True} if segment.rtl else {})} for segment in segments
    ]


def _lines(lines: Sequence[Line]) -> list[Shown]:
    return [{"depth": line.depth, "continued": line.continued, "segments": _segments(line.segments)} for line in lines]
