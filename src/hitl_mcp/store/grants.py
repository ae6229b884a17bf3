"""Grants as reviewers know them: given, listed, revoked, and ended when their time is over.

How a grant approves a call and how its uses are counted stands in `grant_rows`, where the steps of calls find it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from hitl_mcp.calls import CallRecord, Status
from hitl_mcp.clock import after, to_text
from hitl_mcp.errors import DigestMismatch, GrantEnded, GrantNotFound, GrantRefused, NotAllowed
from hitl_mcp.grants import (
    TIME_OVER,
    Grant,
    Wanted,
    check_terms,
    counted_roles,
    giving_refused,
    misfit,
    shape_of,
    why_not_grantable,
)
from hitl_mcp.limits import GRANTS_OF_TOOL, PAGE_CALLS, VERDICT_REASON_CHARACTERS
from hitl_mcp.people import Reviewer
from hitl_mcp.store import chain, moves, steps
from hitl_mcp.store.access import Access, Life, Refused
from hitl_mcp.store.events import SEALS, Step, put_event
from hitl_mcp.store.grant_rows import (
    CHANGED_OUTSIDE,
    ENDED,
    GIVEN,
    REVOKED,
    TAMPERED,
    columns_of,
    end_row,
    grant_from_row,
    is_attested,
    is_sound,
    seal_of,
)
from hitl_mcp.store.sealing import is_sound as is_sound_call
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction


class Grants:
    """The grants of one gateway."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def give(self, wanted: Wanted, giver: Reviewer) -> Grant:
        """Give a grant on a held call; it serves later calls only.

        Raises:
            CallNotFound: No call has this id.
            CallAlreadySettled: The call is no longer held.
            DigestMismatch: The reviewer was shown something else.
            NotAllowed: A rule does not let grants be given for it, or this person cannot meet what it asks.
            GrantRefused: The terms are out of bounds, or do not fit the call itself.
        """
        check_terms(wanted)
        return await self._access.step(lambda txn, life: _give(txn, life, wanted, giver))

    async def revoke(self, grant_id: str, by: str, reason: str) -> Grant:
        """End a live grant, and the calls that it approved and that have not started.

        Raises:
            GrantNotFound: No grant has this id.
            GrantEnded: It is over already.
        """
        return await self._access.step(lambda txn, life: _revoke(txn, life, grant_id, by, reason))

    async def end_where(self, over: Callable[[Grant], str | None]) -> int:
        """End the live grants that `over` gives a reason for. Returns how many."""
        return await self._access.step(lambda txn, life: _end_where(txn, life, over))

    async def recover(self) -> int:
        """At boot: end the live grants that somebody changed meanwhile. Returns how many."""
        return await self._access.step(_recover)

    async def list(self, *, live: bool, limit: int = PAGE_CALLS * 4) -> tuple[Grant, ...]:
        """The grants that serve calls, or those that do not any more, newest first."""
        now = to_text(self._access.clock.now())
        rows = await self._access.rows("live_grants", {})
        grants = [grant_from_row(row) for row in rows]
        if live:
            return tuple(reversed([grant for grant in grants if grant.over(now) is None]))
        due = [grant for grant in grants if grant.over(now) is not None]
        ended = [grant_from_row(row) for row in await self._access.rows("ended_grants", {"limit": limit})]
        return (*reversed(due), *ended)

    async def get(self, grant_id: str) -> Grant:
        """A grant as it stands.

        Raises:
            GrantNotFound: No grant has this id.
        """
        rows = await self._access.rows("grant", {"id": grant_id})
        if not rows:
            raise GrantNotFound(grant_id)
        return grant_from_row(rows[0])

    async def load(self) -> None:
        """When the database is opened: learn how far each live grant has come."""
        self._access.granted.update({row["id"]: row["version"] for row in await self._access.rows("live_grants", {})})


def end_due(txn: Transaction, life: Life) -> int:
    """End the grants whose time is over, and what they approved and has not started. Returns how many."""
    rows = txn.connection.execute(sql("due_grants"), {"now": life.at}).fetchall()
    for row in rows:
        _end(txn, life, row, ENDED, "clock", TIME_OVER)
    return len(rows)


def end_of_tool(txn: Transaction, life: Life, name: str, stays: str, why: str) -> int:
    """End the grants for a tool that is another one now; those for the definition `stays` do. Returns how many."""
    rows = [row for row in _live(txn) if row["name"] == name and row["definition"] != stays]
    for row in rows:
        _end(txn, life, row, ENDED, "gateway", why)
    return len(rows)


def _live(txn: Transaction) -> list[sqlite3.Row]:
    return txn.connection.execute(sql("live_grants")).fetchall()


def _give(txn: Transaction, life: Life, wanted: Wanted, giver: Reviewer) -> Grant | Refused:
    record = moves.read_call(txn, wanted.call_id)
    if record.status is not Status.HELD or (record.expires_at or "") <= life.at:
        return Refused(moves.already_settled(record))
    if record.id not in life.waiting or not is_sound_call(txn, life, record):
        return Refused(NotAllowed(f"no grant can be given on call `{record.id}`: {moves.TAMPERED}"))
    if wanted.digest != record.digest:
        return Refused(DigestMismatch(record.id, record.status))
    _check_giver(record, wanted, giver)
    grant = _made(record, wanted, giver, life)
    if (why := misfit(grant, record.call)) is not None:
        raise GrantRefused(f"it would not serve the very call that it is given on: {why}", "change the condition")
    if not grant.conditions and grant.shape:
        raise GrantRefused("it has no condition", "say at least of one argument what it must be")
    same = {"agent": grant.agent, "name": grant.name}
    if len(txn.connection.execute(sql("live_grants_for"), same).fetchall()) >= GRANTS_OF_TOOL:
        raise GrantRefused(f"there are {GRANTS_OF_TOOL} grants for this tool already", "revoke one of them first")
    _put(txn, life, grant)
    return grant


def _check_giver(record: CallRecord, wanted: Wanted, giver: Reviewer) -> None:
    """Refuse whoever could not approve this very call alone, or where no grant is to be given."""
    why = why_not_grantable(record) or giving_refused(record, giver, wanted.surface, wanted.assurance)
    if why is not None:
        raise NotAllowed(
            f"cannot give a grant on call `{record.id}`: {why}", help="approve the call, if you may, and no more"
        )


def _made(record: CallRecord, wanted: Wanted, giver: Reviewer, life: Life) -> Grant:
    call, needs = record.call, record.decision.requirements
    return Grant(
        id="g" + steps.new_id()[1:],
        agent=call.agent,
        upstream=call.upstream,
        tool=call.tool,
        name=call.name,
        fingerprint=call.fingerprint,
        definition=call.definition,
        conditions=wanted.conditions,
        shape=shape_of(call.arguments_json),
        uses=wanted.uses,
        given_by=giver.name,
        roles=counted_roles(giver, needs),
        surface=wanted.surface,
        assurance=wanted.assurance,
        given_at=life.at,
        expires_at=to_text(after(life.now, wanted.minutes * 60)),
        call_id=record.id,
        digest=record.digest,
        reason=wanted.reason[:VERDICT_REASON_CHARACTERS],
    )


def _put(txn: Transaction, life: Life, grant: Grant) -> None:
    row: dict[str, Any] = {**columns_of(grant, version=1), "seal": ""}
    row["seal"] = seal_of(life, row)
    txn.connection.execute(sql("put_grant"), row)
    life.granted[grant.id] = 1  # one that is rolled back stays known here, and is nowhere else
    detail = f"{grant.id}: on call {grant.call_id}, {grant.uses} uses until {grant.expires_at}"
    step = Step(1, GIVEN, None, life.at, f"reviewer:{grant.given_by}", detail)
    put_event(txn, "", step, {"grant": chain.of_grant(row)})


def _revoke(txn: Transaction, life: Life, grant_id: str, by: str, reason: str) -> Grant | Refused:
    row = txn.connection.execute(sql("grant"), {"id": grant_id}).fetchone()
    if row is None:
        raise GrantNotFound(grant_id)
    if row["ended_at"] is None and not is_sound(txn, life, row):
        _end(txn, life, row, TAMPERED, SEALS, CHANGED_OUTSIDE)
        return Refused(GrantEnded(grant_id, CHANGED_OUTSIDE))
    if (why := grant_from_row(row).over(life.at)) is not None:
        return Refused(GrantEnded(grant_id, why))
    said = f": {reason[:VERDICT_REASON_CHARACTERS]}" if reason else ""
    _end(txn, life, row, REVOKED, f"reviewer:{by}", f"`{by}` revoked it{said}")
    return grant_from_row(txn.connection.execute(sql("grant"), {"id": grant_id}).fetchone())


def _end(txn: Transaction, life: Life, row: sqlite3.Row, kind: str, by: str, why: str) -> None:
    """End a grant, and what it approved and has not started."""
    end_row(txn, life, row, kind, by, why)
    for call in txn.connection.execute(sql("calls_approved_on_grant"), {"id": row["id"]}).fetchall():
        steps.invalidate(txn, life, call["id"], f"grant `{row['id']}`, which approved it, ended before it ran: {why}")


def _end_where(txn: Transaction, life: Life, over: Callable[[Grant], str | None]) -> int:
    ending = [(row, why) for row in _live(txn) if (why := over(grant_from_row(row))) is not None]
    for row, why in ending:
        _end(txn, life, row, ENDED, "gateway", why)
    return len(ending)


def _recover(txn: Transaction, life: Life) -> int:
    changed = [row for row in _live(txn) if not is_attested(txn, life, row)]
    for row in changed:
        _end(txn, life, row, TAMPERED, SEALS, CHANGED_OUTSIDE)
    return len(changed)
