"""Grants as tests of many rooms need them: a held call on which they can be given, and people who give them."""

from __future__ import annotations

import json
from typing import Any

from hitl_mcp.calls import Asked, CallRecord, Decision, Requirement
from hitl_mcp.canonical import canonical_text
from hitl_mcp.grants import Condition, Grant, Wanted, why_not_served
from hitl_mcp.people import People, Reviewer
from hitl_mcp.store import Admission, LastLook, SqliteStore
from hitl_mcp.store.grant_rows import Stands
from tests.samples import held, tool_call

MAIL = {"to": "a@example.com", "body": "hello"}
DANA, ERIN = Reviewer("dana", frozenset({"finance", "admin"})), Reviewer("erin")
PEOPLE = People(reviewers={"dana": DANA, "erin": ERIN})
TO_EXAMPLE = (Condition("/to", "ends_with", "@example.com"),)
ASKED = Asked("conv")


def grantable(**changes: Any) -> Decision:
    """A decision that holds, whose one rule lets grants be given."""
    return held(Requirement("mail-out", ("finance",), grantable=True, **changes))


def stands_with(people: People) -> Stands:
    """Whether a grant's giver still counts, as these people are."""
    return lambda grant, requirements: why_not_served(grant, people.reviewer(grant.given_by), requirements)


STANDS = stands_with(PEOPLE)


def wanted(record: CallRecord, *conditions: Condition, **changes: Any) -> Wanted:
    """A grant for three mails within an hour, to anyone at example.com unless other conditions are given."""
    values: dict[str, Any] = {
        "call_id": record.id,
        "digest": record.digest,
        "conditions": conditions or TO_EXAMPLE,
        "uses": 3,
        "minutes": 60,
        "reason": "",
        "surface": "web",
        "assurance": "link",
    }
    return Wanted(**{**values, **changes})


async def ask(
    store: SqliteStore, decision: Decision | None = None, stands: Stands = STANDS, **arguments: Any
) -> Admission:
    """A mail that an agent asks for: as MAIL, but for some arguments."""
    call = tool_call(arguments_json=canonical_text({**MAIL, **arguments}))
    chosen = decision or grantable()
    return await store.admit(call, ASKED, lambda history: chosen, durable=True, stands=stands)


async def given(store: SqliteStore, *conditions: Condition, giver: Reviewer = DANA, **changes: Any) -> Grant:
    """A grant on a call that is held, and stays so."""
    record = (await ask(store, body=f"given {json.dumps(changes, default=str)}")).record
    return await store.grants.give(wanted(record, *conditions, **changes), giver)


async def claimed(store: SqliteStore, record: CallRecord, stands: Stands = STANDS) -> CallRecord | None:
    """Take a call to run it, where the policy asks what it asked before."""
    asks = record.decision.requirements
    return await store.claim(record, lambda history: LastLook(None, asks=asks), stands)
