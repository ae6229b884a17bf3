"""What of a call and of a verdict is under a seal, and whether it still fits. No step of the lifecycle.

What is held or approved is relied on later: what it counts for, how long, what people were told. A verdict is relied on
until its call has run.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hitl_mcp.calls import CallRecord, Status, Verdict, digest_for, unmet
from hitl_mcp.store import chain
from hitl_mcp.store.access import Life
from hitl_mcp.store.chain import Row
from hitl_mcp.store.passkeys import is_signed, put_assertion
from hitl_mcp.store.seals import Part, Seals
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

EDITED = "edited"
"""The kind of the event that gives a call other bytes."""


def sealed_parts(
    row: Row, status: Status, run_by: str | None = None, since: str | None = None, grant: str | None = None
) -> tuple[Part, ...]:
    """What of a held call, or one approved `since`, by a `grant` where not by people, is relied on later.

    Its bytes stand in its digest.
    """
    asked = (row["conversation"], row["claim"], row["created_at"], row["expires_at"])
    on_grant = ("grant", grant) if grant is not None else ()
    return ("call", row["id"], status, row["digest"], row["decision_json"], *asked, run_by, since, *on_grant)


def revision_parts(row: Row) -> tuple[Part, ...]:
    """What an edit replaced, whole, as it is sealed."""
    payloads = (row["arguments_json"], row["decision_json"])
    return ("revision", *[row[column] for column in chain.REVISION_COLUMNS[:-1]], *payloads)


def is_sound(txn: Transaction, life: Life, record: CallRecord) -> bool:
    """Whether a held or approved call and its verdicts are as the gateway wrote them.

    # INVARIANT: looked at in the transaction that relies on it. What a verdict counts for and how long is sealed, too.
    """
    row = txn.connection.execute(sql("call"), {"id": record.id}).fetchone()
    since = record.changed_at if record.status is Status.APPROVED else None
    sound = life.seals.fits(row["seal"], *sealed_parts(row, record.status, record.run_by, since, record.grant))
    sound = sound and record.digest == digest_for(record.call, record.decision.policy)
    for verdict in txn.connection.execute(sql("verdicts_of_call"), {"id": record.id}).fetchall():
        sound = sound and life.seals.fits(verdict["seal"], "verdict", *chain.verdict_parts(verdict))
        sound = sound and is_signed(txn, life, verdict)
    for earlier in txn.connection.execute(sql("revisions_of_call"), {"id": record.id}):
        sound = sound and life.seals.fits(earlier["seal"], *revision_parts(earlier))
    return sound and _is_met(record) and _stands_where_told(txn, record, row)


def _is_met(record: CallRecord) -> bool:
    """Whether what is approved was approved by enough of the right people, or by a grant where one is enough."""
    if record.status is not Status.APPROVED:
        return True
    needs = record.decision.requirements
    if record.grant is not None:
        return all(need.assurance != "passkey" for need in needs)
    return not unmet(needs, record.verdicts, record.digest)


def _stands_where_told(txn: Transaction, record: CallRecord, row: Row) -> bool:
    """Whether each event of a call is linked, none between is gone, and the last one left it where it stands.

    An old seal fits an old state: a call that ran and was put back to how it stood before would run twice.
    """
    versions = [0]
    linked, status, edits, seal = True, None, 0, None
    for number, *columns, hash, previous in txn.connection.execute(sql("links_of_call"), {"id": record.id}):
        before = previous if number > 1 else chain.GENESIS
        if before is None or hash != chain.link(before, (number, *columns)):
            return False
        _, version, kind, status, _, _, _, facts = columns
        edits += kind == EDITED
        seal = json.loads(facts or "{}").get("seal", seal)
        if status not in (Status.HELD, Status.APPROVED):
            return False
        linked = linked and (facts != "" or len(versions) > 1)  # what an older version wrote attests nothing
        versions.append(version)
    # What only notes something (that an agent was told) leaves the version as it is.
    complete = versions[-1] == record.version and all(0 <= new - old <= 1 for old, new in pairwise(versions))
    newest = edits == len(record.revisions) == row["revision"] and seal in (None, chain.of_text(row["seal"]))
    return status == record.status and newest and (complete or not linked)


def put_verdict(txn: Transaction, life: Life, call_id: str, verdict: Verdict) -> dict[str, str]:
    """Write a verdict, sealed, and what it is signed with; returns what the chain attests of them.

    Raises:
        NotAllowed: It is by passkey, and its signature is not good for just this.
    """
    signed = put_assertion(txn, life, call_id, verdict)
    row: dict[str, Any] = {
        "call_id": call_id,
        "digest": verdict.digest,
        "reviewer": verdict.reviewer,
        "kind": verdict.kind,
        "roles_json": json.dumps(verdict.roles),
        "surface": verdict.surface,
        "assurance": verdict.assurance,
        "reason": verdict.reason,
        "at": verdict.at,
        "considered_seconds": verdict.considered_seconds,
    }
    row["seal"] = life.seals.seal("verdict", *chain.verdict_parts(row))
    txn.connection.execute(sql("put_verdict"), row)
    return {"verdict": chain.of_verdict(row), **signed}


def adopt(txn: Transaction, seals: Seals) -> None:
    """Link events and seal open calls that a version without chain and seals wrote, as they are found."""
    previous = chain.GENESIS
    for row in txn.connection.execute(sql("all_events")).fetchall():
        previous = chain.link(previous, tuple(row[column] for column in chain.EVENT_COLUMNS))
        txn.connection.execute(sql("link_event"), {"number": row["number"], "hash": previous})
    for row in txn.connection.execute(sql("waiting_for_people")).fetchall():
        since = row["changed_at"] if row["status"] == Status.APPROVED else None
        seal = seals.seal(*sealed_parts(row, Status(row["status"]), row["run_by"], since))
        txn.connection.execute(sql("seal_call"), {"id": row["id"], "seal": seal})
        for verdict in txn.connection.execute(sql("verdicts_of_call"), {"id": row["id"]}).fetchall():
            seal = seals.seal("verdict", *chain.verdict_parts(verdict))
            txn.connection.execute(sql("seal_verdict"), {**verdict, "seal": seal})
