"""Calls as they stand in the store, for tests that only look at them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hitl_mcp.calls import Asked, CallRecord, Decision, Requirement, SignalMatch, Status, digest_for, request_key_for
from hitl_mcp.canonical import canonical_text
from hitl_mcp.people import Agent, People, Reviewer
from tests.samples import held, tool_call

PEOPLE = People(
    agents={"builder": Agent("builder", owner="dana")},
    reviewers={
        "dana": Reviewer("dana", frozenset({"finance", "admin"})),
        "lee": Reviewer("lee", frozenset({"finance"})),
        "sam": Reviewer("sam", frozenset({"support"})),
    },
)

PAYMENT = held(
    Requirement("payments", ("finance",), 2),
    score=70,
    signals=(
        SignalMatch("amount", 25, "5000 EUR is paid out"),
        SignalMatch("irreversible", 45, "a payment cannot be undone"),
    ),
    band="band-40",
)


def record_with(arguments: Any, *, decision: Decision = PAYMENT, claim: str = "", **changes: Any) -> CallRecord:
    """A held payment with these arguments, as the store would give it."""
    call = tool_call(upstream="payments", tool="pay", name="payments__pay", arguments_json=canonical_text(arguments))
    record = CallRecord(
        id="c_7f3k2m9x4q",
        version=1,
        status=Status.HELD,
        call=call,
        asked=Asked("conversation-1", claim),
        digest=digest_for(call, decision.policy),
        request_key=request_key_for(call),
        decision=decision,
        created_at="2026-11-22T14:02:11.000000Z",
        changed_at="2026-11-22T14:02:11.000000Z",
        expires_at="2026-11-22T18:02:11.000000Z",
    )
    return replace(record, **changes)
