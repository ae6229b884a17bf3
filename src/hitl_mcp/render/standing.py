"""Who may still do what about a call, and how much care it asks for. Pure; the store has the last word.

What a call *is* stands in `shown`; this is about the people before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hitl_mcp.calls import (
    Assurance,
    CallRecord,
    Requirement,
    Status,
    Stop,
    Verdict,
    VerdictKind,
    approvals_for,
    objection,
)
from hitl_mcp.people import People, Reviewer
from hitl_mcp.render.marks import marked

Shown = dict[str, Any]

CRITICAL_SCORE = 75
"""From here on a call is critical by its points alone: where the policy of the documentation wants a second person."""

IRREVERSIBLE = "irreversible"
"""A rule or signal with this in its id says that the call cannot be undone."""

TYPED_CHARACTERS = 24
"""More than this to type and people paste; then nothing is gained."""


@dataclass(frozen=True)
class Beside:
    """What the page needs to know of a call that is not in its record.

    `surface` and `assurance` are of whoever looks, `passkeys` is how many they have enrolled. `schema_json` is the
    tool's input schema, where the tool is known; `looking` names the others who have the call open; `budget_left` is
    how many approvals this reviewer has left this hour. `grantable` says why no grant can be given, where it cannot.
    """

    surface: str = "web"
    assurance: Assurance = "link"
    passkeys: int = 0
    schema_json: str | None = None
    looking: tuple[str, ...] = ()
    budget_left: int | None = None
    may_grant: bool = False
    stopped: Stop | None = None
    grantable: str | None = None


def requirement_shown(record: CallRecord, people: People, need: Requirement) -> Shown:
    """A requirement in words, who met it, and who else could."""
    names = approvals_for(need, record.verdicts, record.digest)
    able = [reviewer.name for reviewer in people.everyone() if _has_role(reviewer, need) and reviewer.name not in names]
    by = " or ".join(need.roles) if need.roles else "any reviewer"
    noun = "approval" if need.quorum == 1 else "approvals"
    granted = record.grant is not None  # which met it as a whole: no person did
    return {
        "id": need.id,
        "text": f"{need.quorum} {noun} by {by}{_narrowed(need)}",
        "assurance": need.assurance,
        "quorum": need.quorum,
        "met": len(names),
        "missing": 0 if granted else max(0, need.quorum - len(names)),
        "approved_by": list(names),
        "grant": record.grant,
        "could": [] if granted else able,
        "done": granted or len(names) >= need.quorum,
    }


def place_in(record: CallRecord, reviewer: Reviewer, need: Requirement, beside: Beside) -> Shown:
    """What this reviewer's approval would be to one requirement: `gave`, `met`, `can`, `passkey`, or `cannot` and why.

    `passkey` is: it would count if it were signed with one.
    """
    names = approvals_for(need, record.verdicts, record.digest)
    if reviewer.name in names:
        return {"state": "gave", "why": None}
    if len(names) >= need.quorum:
        return {"state": "met", "why": None}
    why = objection(_approval(record, reviewer, beside), need)
    if why is None:
        return {"state": "can", "why": None}
    signed = replace(beside, assurance="passkey")
    if need.assurance == "passkey" and objection(_approval(record, reviewer, signed), need) is None:
        return {"state": "passkey", "why": None}
    return {"state": "cannot", "why": why.replace("`", "")}


def standing(record: CallRecord, reviewer: Reviewer, beside: Beside) -> Shown:
    """What this reviewer may still do, and why not approve."""
    needs = record.decision.requirements
    approved = any(
        verdict.reviewer == reviewer.name and verdict.digest == record.digest and verdict.kind is VerdictKind.APPROVE
        for verdict in record.verdicts
    )
    why = _why_not(record, reviewer, approved)
    if not why and beside.budget_left == 0:
        why = "you approved as many calls within the hour as you may; it waits for later, or for somebody else"
    places = [place_in(record, reviewer, need, beside)["state"] for need in needs]
    # Nobody approves twice: whoever has a passkey signs at once where that makes their approval count for more.
    signs = "passkey" in places and ("can" not in places or beside.passkeys > 0)
    return {
        "reviewer": reviewer.name,
        "may_approve": not why,
        "may_reject": record.status in (Status.HELD, Status.APPROVED),
        "may_resolve": record.status is Status.UNKNOWN,
        "may_undo": record.status is Status.APPROVED and bool(record.decision.undo_seconds),
        "may_grant": beside.may_grant,
        "approved": approved,
        "why_not": why,
        "passkey": "needed" if signs else None,
        "budget_left": beside.budget_left,
    }


def critical(record: CallRecord, facts: Iterable[tuple[str, str]]) -> Shown | None:
    """Why a call asks for more care than others, and what to type before it can be approved; None for the others.

    `facts` are telling arguments of the call, each a name and a text; an amount is the best thing to type.
    """
    decision = record.decision
    named = [*(match.id for match in decision.rules), *(match.id for match in decision.signals)]
    people = max((need.quorum for need in decision.requirements), default=1)
    why = [
        *([f"it needs {people} people"] if people > 1 else []),
        *([f"it has {decision.score} of 100 points"] if decision.score >= CRITICAL_SCORE else []),
        *(["it cannot be undone"] if any(IRREVERSIBLE in name for name in named) else []),
    ]
    return {"why": why, "type": _to_type(record, facts)} if why else None


def _to_type(record: CallRecord, facts: Iterable[tuple[str, str]]) -> Shown:
    for name, text in (*facts, ("tool", record.call.tool)):
        if 0 < len(text) <= TYPED_CHARACTERS and text.isascii() and text.isprintable() and text == text.strip():
            return {"name": name, "text": text}
    return {"name": "id", "text": record.id[-4:]}


def _why_not(record: CallRecord, reviewer: Reviewer, approved: bool) -> str:
    needs = record.decision.requirements
    if record.status is not Status.HELD:
        return "it is no longer held"
    if approved:
        return "you approved it; it needs more people"
    if needs and not any(_has_role(reviewer, need) for need in needs):
        roles = sorted({role for need in needs for role in need.roles})
        barred = any(reviewer.name in need.barred for need in needs)
        why = f"it needs a reviewer with the role {' or '.join(roles)}" if roles else "it needs another reviewer"
        return why + (", and not one of the agent's own people" if barred else "")
    return ""


def _approval(record: CallRecord, reviewer: Reviewer, beside: Beside) -> Verdict:
    return Verdict(
        VerdictKind.APPROVE,
        reviewer.name,
        reviewer.roles_for(record.decision.requirements),
        record.digest,
        beside.surface,
        beside.assurance,
        record.created_at,
    )


def _has_role(reviewer: Reviewer, need: Requirement) -> bool:
    if reviewer.name in need.barred:
        return False
    return reviewer.every_role or not need.roles or not reviewer.roles.isdisjoint(need.roles)


def _narrowed(need: Requirement) -> str:
    """What else a requirement asks of whoever approves."""
    parts = [f"other than {''.join(segment.text for segment in marked(name, 'plain'))}" for name in need.barred]
    if need.assurance == "passkey":
        parts.append("signed with a passkey")
    elif need.assurance != "client":
        parts.append(f"signed in by {need.assurance} or better")
    parts += [f"through {' or '.join(need.surfaces)}"] if need.surfaces else []
    return "".join(f", {part}" for part in parts)
