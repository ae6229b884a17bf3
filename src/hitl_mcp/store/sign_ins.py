"""Sign-ins in the store: who is signed in at the page, where from, and until when, each under a seal.

A key is kept as its digest alone. Beginning and ending one is on record, which also wakes every event stream: the one
that belongs to a sign-in that ended, ends.
"""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hitl_mcp.calls import Assurance
from hitl_mcp.clock import after, to_text
from hitl_mcp.errors import StoreError
from hitl_mcp.limits import SEEN_EVERY_SECONDS, SIGN_INS_PER_REVIEWER
from hitl_mcp.store.access import Access, Life
from hitl_mcp.store.events import Step, put_event
from hitl_mcp.store.seals import Part
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

BEGAN, ENDED = "signed-in", "sign-in-ended"
SIGN_IN_EVENTS = frozenset({BEGAN, ENDED})
"""The kinds of events that tell of sign-ins."""

_ID_BYTES = 9
"""72 bits: an id names a sign-in to people who may see it, and opens nothing."""


@dataclass(frozen=True)
class SignIn:
    """A reviewer who is signed in, how, where from, and until when. `label` says which browser, in our words."""

    reviewer: str
    assurance: Assurance
    expires_at: str
    surface: str = "web"
    label: str = ""
    id: str = field(default_factory=lambda: "s_" + secrets.token_hex(_ID_BYTES))
    created_at: str = ""
    last_seen_at: str = ""


class SignIns:
    """Everyone who is signed in."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def add(self, key_digest: str, sign_in: SignIn) -> SignIn:
        """Keep a sign-in by the digest of its key. Of too many of one reviewer, the one seen longest ago ends."""
        return await self._access.step(lambda txn, life: _add(txn, life, key_digest, sign_in))

    async def find(self, key_digest: str) -> SignIn | None:
        """The sign-in of this key, if its time is not over and nobody but us wrote it."""
        now = to_text(self._access.clock.now())
        rows = await self._access.rows("find_sign_in", {"key_digest": key_digest, "now": now})
        return _intact(self._access, rows[0]) if rows else None

    async def seen(self, key_digest: str, sign_in: SignIn) -> None:
        """Note that a sign-in is in use, once a minute at most. Where that cannot be written, people look on."""
        if sign_in.last_seen_at <= to_text(after(self._access.clock.now(), -SEEN_EVERY_SECONDS)):
            with suppress(StoreError):
                await self._access.step(lambda txn, life: _see(txn, life, key_digest), durable=False)

    async def of(self, reviewer: str | None) -> tuple[SignIn, ...]:
        """The sign-ins of a reviewer, or everybody's, the last seen first."""
        now = to_text(self._access.clock.now())
        rows = await self._access.rows("sign_ins", {"reviewer": reviewer, "now": now})
        found = (_intact(self._access, row) for row in rows)
        return tuple(one for one in found if one is not None)

    async def end(self, sign_in_id: str, by: str, only_of: str | None = None) -> SignIn | None:
        """End a sign-in, its event streams with it; None where there is none, or it is not that reviewer's."""
        return await self._access.step(lambda txn, life: _end(txn, life, sign_in_id, by, only_of))


def _add(txn: Transaction, life: Life, key_digest: str, sign_in: SignIn) -> SignIn:
    txn.connection.execute(sql("drop_old_sign_ins"), {"now": life.at})
    rows = txn.connection.execute(sql("sign_ins"), {"reviewer": sign_in.reviewer, "now": life.at}).fetchall()
    for row in rows[SIGN_INS_PER_REVIEWER - 1 :]:
        _drop(txn, life, row, "gateway", f"{sign_in.reviewer} has {SIGN_INS_PER_REVIEWER} newer ones")
    kept = replace(sign_in, created_at=life.at, last_seen_at=life.at)
    row = {
        "key_digest": key_digest,
        "id": kept.id,
        "reviewer": kept.reviewer,
        "assurance": kept.assurance,
        "surface": kept.surface,
        "label": kept.label,
        "created_at": kept.created_at,
        "expires_at": kept.expires_at,
        "last_seen_at": kept.last_seen_at,
    }
    txn.connection.execute(sql("put_sign_in"), {**row, "seal": life.seals.seal(*_sealed(key_digest, kept))})
    detail = f"{kept.id}: by {kept.assurance}, {kept.label or 'from nobody knows where'}"
    put_event(txn, "", Step(0, BEGAN, None, life.at, f"reviewer:{kept.reviewer}", detail))
    return kept


def _see(txn: Transaction, life: Life, key_digest: str) -> None:
    txn.connection.execute(sql("see_sign_in"), {"key_digest": key_digest, "now": life.at})


def _end(txn: Transaction, life: Life, sign_in_id: str, by: str, only_of: str | None) -> SignIn | None:
    row = txn.connection.execute(sql("sign_in_by_id"), {"id": sign_in_id, "now": life.at}).fetchone()
    if row is None or (only_of is not None and row["reviewer"] != only_of):
        return None
    _drop(txn, life, row, by, "")
    return _from_row(row)


def _drop(txn: Transaction, life: Life, row: sqlite3.Row, by: str, why: str) -> None:
    txn.connection.execute(sql("drop_sign_in"), {"id": row["id"]})
    detail = f"{row['id']} of {row['reviewer']}" + (f": {why}" if why else "")
    put_event(txn, "", Step(0, ENDED, None, life.at, by, detail))


def _intact(access: Access, row: sqlite3.Row) -> SignIn | None:
    """A row as a sign-in; one that somebody else wrote signs nobody in."""
    sign_in = _from_row(row)
    return sign_in if access.seals.fits(row["seal"], *_sealed(row["key_digest"], sign_in)) else None


def _from_row(row: sqlite3.Row) -> SignIn:
    return SignIn(
        reviewer=row["reviewer"],
        assurance=row["assurance"],
        expires_at=row["expires_at"],
        surface=row["surface"],
        label=row["label"],
        id=row["id"],
        created_at=row["created_at"],
        last_seen_at=row["last_seen_at"],
    )


def _sealed(key_digest: str, sign_in: SignIn) -> tuple[Part, ...]:
    """Everything but when it was seen: that opens nothing."""
    known = (sign_in.reviewer, sign_in.assurance, sign_in.surface, sign_in.label)
    return ("sign-in", key_digest, sign_in.id, *known, sign_in.created_at, sign_in.expires_at)
