"""Grants in the steps of calls: read, held against their seals, counted. How they are given and ended is `grants`'.

A grant's row is under a seal with everything that changes in it, each version of it is attested in the chain, and this
gateway knows itself how far each live grant has come. A row that was edited, or put back to how it stood before, serves
nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from hitl_mcp.calls import CallEvent, CallRecord, Decision, Requirement, ToolCall
from hitl_mcp.canonical import canonical_text
from hitl_mcp.grants import USED_UP, Condition, Grant, misfit, ungrantable
from hitl_mcp.store import chain
from hitl_mcp.store.access import Life
from hitl_mcp.store.events import SEALS, Step, put_event
from hitl_mcp.store.statements import sql
from hitl_mcp.store.stops import stop_of
from hitl_mcp.store.writer import Transaction

Stands = Callable[[Grant, Sequence[Requirement]], str | None]
"""Why a grant does not meet what is asked, as the people are now; asked in the transaction that relies on it."""

GIVEN, USED, ENDED, REVOKED, TAMPERED = "grant-given", "grant-used", "grant-ended", "grant-revoked", "grant-tampered"
"""The kinds of events that tell of a grant; each begins with its id."""

ID_CHARACTERS = 15
"""As those of calls; the index of these events is over as many."""

CHANGED_OUTSIDE = "its record was changed outside the gateway: its seal does not fit"


def of_grant(event: CallEvent) -> str:
    """The grant that an event tells of, or nothing."""
    return event.detail[:ID_CHARACTERS] if event.kind.startswith("grant-") else ""


def note_grant(granted: dict[str, int], event: CallEvent) -> None:
    """Learn from a committed event how far a grant has come. On the event loop."""
    if event.kind in (GIVEN, USED):
        granted[of_grant(event)] = max(event.version, granted.get(of_grant(event), 0))
    else:
        granted.pop(of_grant(event), None)


def nobody_stands(grant: Grant, requirements: Sequence[Requirement]) -> str | None:
    """Where nobody is known, no grant counts."""
    return "nobody is known here who could have given it"


def grant_from_row(row: sqlite3.Row) -> Grant:
    """A row as a grant."""
    return Grant(
        **{name: row[name] for name in _PLAIN},
        conditions=tuple(Condition(*one) for one in json.loads(row["conditions_json"])),
        shape=frozenset(json.loads(row["shape_json"])),
        roles=tuple(json.loads(row["roles_json"])),
    )


_PLAIN = (
    *("id", "agent", "upstream", "tool", "name", "fingerprint", "definition", "uses", "given_by", "surface"),
    *("assurance", "given_at", "expires_at", "call_id", "digest", "reason", "used", "ended_at", "ended_by"),
    "ended_why",
)


def columns_of(grant: Grant, version: int) -> dict[str, Any]:
    """A grant as the columns of its row, all but the seal."""
    return {
        **{name: getattr(grant, name) for name in _PLAIN},
        "version": version,
        "conditions_json": canonical_text([[one.path, one.op, one.value] for one in grant.conditions]),
        "shape_json": canonical_text(sorted(grant.shape)),
        "roles_json": json.dumps(grant.roles),
    }


def seal_of(life: Life, columns: Any) -> str:
    """The seal of a grant's row."""
    return life.seals.seal("grant", *[columns[name] for name in chain.GRANT_COLUMNS[:-1]])


def is_sound(txn: Transaction, life: Life, row: sqlite3.Row) -> bool:
    """Whether a live grant is as the gateway left it last.

    # INVARIANT: looked at in the transaction that relies on it.
    """
    known = life.granted.get(row["id"])
    return known is not None and row["version"] >= known and is_attested(txn, life, row)


def is_attested(txn: Transaction, life: Life, row: sqlite3.Row) -> bool:
    """Whether a row fits its seal, and is what the newest event that tells of it says."""
    fits = life.seals.fits(row["seal"], "grant", *[row[name] for name in chain.GRANT_COLUMNS[:-1]])
    told = txn.connection.execute(sql("last_told_of_grant"), {"id": row["id"]}).fetchone()
    if not fits or told is None or told["version"] != row["version"]:
        return False
    facts = json.loads(told["facts"] or "{}")
    return isinstance(facts, dict) and facts.get("grant") == chain.of_grant(row)


def serving(txn: Transaction, life: Life, call: ToolCall, decision: Decision, stands: Stands) -> Grant | None:
    """The grant that serves this held call: of those that fit, the one whose time is over first.

    Uses that approved calls have not taken yet are kept for them, so that there are never more uses than were given.
    """
    if call.runs_elsewhere or ungrantable(decision.requirements) is not None:
        return None
    rows = txn.connection.execute(sql("live_grants_for"), {"agent": call.agent, "name": call.name}).fetchall()
    for row in rows:
        if not is_sound(txn, life, row):
            end_row(txn, life, row, TAMPERED, SEALS, CHANGED_OUTSIDE)
            continue
        grant = grant_from_row(row)
        if grant.over(life.at) is not None or misfit(grant, call) is not None:
            continue
        if stands(grant, decision.requirements) is None and grant.used + _kept(txn, grant.id) < grant.uses:
            return grant
    return None


def _kept(txn: Transaction, grant_id: str) -> int:
    """How many calls were approved on a grant and have not started yet."""
    return int(txn.connection.execute(sql("approved_on_grant"), {"id": grant_id}).fetchone()["calls"])


def why_not(
    txn: Transaction, life: Life, record: CallRecord, asks: Sequence[Requirement], stands: Stands
) -> str | None:
    """Why the grant that approved a call does not carry it any more, as the call is claimed; None where it does."""
    row = txn.connection.execute(sql("grant"), {"id": record.grant}).fetchone()
    if row is None:
        return f"grant `{record.grant}`, which approved it, is gone"
    if row["ended_at"] is None and not is_sound(txn, life, row):
        end_row(txn, life, row, TAMPERED, SEALS, CHANGED_OUTSIDE)
        return f"grant `{record.grant}`, which approved it: {CHANGED_OUTSIDE}"
    if stop_of(txn, life, record.call.agent) is not None:
        return "its agent was stopped since a grant approved it"
    grant = grant_from_row(row)
    why = grant.over(life.at) or misfit(grant, record.call) or stands(grant, asks)
    return f"grant `{grant.id}`, which approved it, does not serve it any more: {why}" if why is not None else None


def count_use(txn: Transaction, life: Life, record: CallRecord) -> None:
    """Take a use of the grant that approved a call, in the transaction that claims the call."""
    row = txn.connection.execute(sql("grant"), {"id": record.grant}).fetchone()
    used = row["used"] + 1
    kept = put_version(txn, life, row, used=used)
    tell(txn, life, kept, USED, "gateway", f"{record.id}, {used} of {row['uses']}")
    if used >= row["uses"]:
        end_row(
            txn, life, txn.connection.execute(sql("grant"), {"id": record.grant}).fetchone(), ENDED, "gateway", USED_UP
        )


def end_row(txn: Transaction, life: Life, row: sqlite3.Row, kind: str, by: str, why: str) -> None:
    """End a grant. Calls that it approved and that have not started end when they are claimed, or with `grants.end`."""
    kept = put_version(txn, life, row, ended_at=life.at, ended_by=by, ended_why=why)
    tell(txn, life, kept, kind, by, why)


def end_all(txn: Transaction, life: Life, why: str) -> int:
    """End every live grant, for a reason that concerns the record as a whole. Returns how many."""
    rows = txn.connection.execute(sql("live_grants")).fetchall()
    for row in rows:
        end_row(txn, life, row, ENDED, "gateway", why)
    return len(rows)


def put_version(txn: Transaction, life: Life, row: sqlite3.Row, **changes: Any) -> dict[str, Any]:
    """Write the next version of a grant's row, sealed; gives its columns.

    An edited row may say that it is older than what was told of it; its next version is newer than both.
    """
    told = txn.connection.execute(sql("last_told_of_grant"), {"id": row["id"]}).fetchone()
    version = max(row["version"], told["version"] if told else 0, life.granted.get(row["id"], 0)) + 1
    kept = {**dict(row), **changes, "version": version}
    kept["seal"] = seal_of(life, kept)
    changed = ("id", "version", "used", "ended_at", "ended_by", "ended_why", "seal")
    txn.connection.execute(sql("change_grant"), {name: kept[name] for name in changed})
    return kept


def tell(txn: Transaction, life: Life, kept: dict[str, Any], kind: str, by: str, what: str) -> None:
    """Put on record how a grant stands from here on."""
    step = Step(kept["version"], kind, None, life.at, by, f"{kept['id']}: {what}")
    put_event(txn, "", step, {"grant": chain.of_grant(kept)})
