"""Calls and decisions as tests of many rooms need them: plain, complete, and different only where a test says so."""

from __future__ import annotations

from typing import Any

from hitl_mcp.calls import (
    Asked,
    Assurance,
    CallRecord,
    Decision,
    Effect,
    Requirement,
    RuleMatch,
    ToolCall,
    Verdict,
    VerdictKind,
)
from hitl_mcp.store import Admission, LastLook, SqliteStore

POLICY = "sha256:" + "0" * 64


def tool_call(**changes: Any) -> ToolCall:
    """A mail that an agent wants to send."""
    values: dict[str, Any] = {
        "upstream": "mail",
        "tool": "send",
        "name": "mail__send",
        "arguments_json": '{"body":"hello","to":"a@example.com"}',
        "agent": "builder",
        "fingerprint": "sha256:" + "1" * 64,
        "definition": "sha256:" + "2" * 64,
    }
    return ToolCall(**{**values, **changes})


def held(*requirements: Requirement, **changes: Any) -> Decision:
    """A decision that holds, with one requirement that anyone meets unless others are given."""
    values: dict[str, Any] = {
        "effect": Effect.HOLD,
        "score": 40,
        "policy": POLICY,
        "reasons": ("leaves the company",),
        "rules": (RuleMatch("mail-out", Effect.HOLD, "leaves the company"),),
        "requirements": requirements or (Requirement("mail-out"),),
        "expires_in_seconds": 600,
        "run_within_seconds": 300,
    }
    return Decision(**{**values, **changes})


def allowed() -> Decision:
    """A decision that lets the call run."""
    return Decision(effect=Effect.ALLOW, score=0, policy=POLICY)


def denied() -> Decision:
    """A decision that refuses."""
    return Decision(
        effect=Effect.DENY,
        score=0,
        policy=POLICY,
        reasons=("nothing is ever deleted",),
        rules=(RuleMatch("no-delete", Effect.DENY, "nothing is ever deleted"),),
    )


def verdict(digest: str, kind: VerdictKind = VerdictKind.APPROVE, reviewer: str = "dana", **changes: Any) -> Verdict:
    """What a reviewer says of the bytes that `digest` names."""
    assurance: Assurance = "link"
    values: dict[str, Any] = {
        "kind": kind,
        "reviewer": reviewer,
        "roles": (),
        "digest": digest,
        "surface": "web",
        "assurance": assurance,
        "at": "2026-11-22T12:00:00.000000Z",
    }
    return Verdict(**{**values, **changes})


async def admit(store: SqliteStore, call: ToolCall, asked: Asked, decision: Decision) -> Admission:
    """Record a request that was decided before."""
    return await store.admit(call, asked, lambda history: decision, durable=decision.effect is not Effect.ALLOW)


async def claim(store: SqliteStore, record: CallRecord) -> CallRecord | None:
    """Take an approved call to run it, whatever the policy would say now."""
    return await store.claim(record, lambda history: LastLook(None))
