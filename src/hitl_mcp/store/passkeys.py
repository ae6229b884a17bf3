"""Passkeys in the store: the reviewers' keys, each under a seal and in the chain, and the assertions of verdicts.

What a good signature is stands in `hitl_mcp.passkeys`. What is known here beside the database is kept in memory
(`Life.passkeys`): whoever writes a key of his own into the database of a running gateway signs nothing with it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hitl_mcp.calls import Verdict
from hitl_mcp.canonical import compact_text
from hitl_mcp.errors import NotAllowed
from hitl_mcp.limits import PASSKEYS_PER_REVIEWER
from hitl_mcp.passkeys import (
    Assertion,
    Passkey,
    Statement,
    confirmation_statement,
    counts_up,
    removal_statement,
    verdict_statement,
    verified,
)
from hitl_mcp.store import chain
from hitl_mcp.store.access import Access, Life
from hitl_mcp.store.chain import Row
from hitl_mcp.store.events import SEALS, Step, put_event
from hitl_mcp.store.seals import Part
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

ADDED, REMOVED, RESET, TAMPERED = "passkey-added", "passkey-removed", "passkeys-reset", "passkey-tampered"
"""The kinds of events that tell of passkeys."""

OPERATOR = "operator"
"""Who removed the passkeys of a reviewer who cannot sign with any of them."""

ADDED_COLUMNS = (
    *("id", "reviewer", "public_key", "rp_id", "label", "transports", "created_at"),
    *("confirmed_by", "confirmation_json"),
)
"""What is told of a passkey when it is taken, and when it is removed."""
REMOVED_COLUMNS = ("id", "removed_at", "removed_by", "removal_json")
_COLUMNS = (*ADDED_COLUMNS, *REMOVED_COLUMNS[1:], "sign_count", "last_used_at")

logger = logging.getLogger(__name__)


class Passkeys:
    """Every reviewer's passkeys."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.tampered: tuple[str, ...] = ()
        """What the database has of passkeys that this gateway did not write, as found when it was opened."""

    async def load(self) -> None:
        """Learn which passkeys there are: those that their seals, the chain and their confirmations speak for."""
        self.tampered = await self._access.step(_load)

    async def of(self, reviewer: str | None) -> tuple[Passkey, ...]:
        """The passkeys that a reviewer may sign with, oldest first; or everybody's."""
        rows = await self._access.rows("passkeys_of", {"reviewer": reviewer})
        found = (_intact(self._access, row) for row in rows)
        return tuple(passkey for passkey in found if passkey is not None)

    def known(self) -> tuple[Passkey, ...]:
        """All there are and were, as this gateway knows them, by reviewer and time."""
        return tuple(sorted(self._access.passkeys.values(), key=lambda one: (one.reviewer, one.created_at, one.id)))

    async def add(self, passkey: Passkey, confirmation: Assertion | None) -> Passkey:
        """Keep a passkey. The first of a reviewer needs no confirmation, each further one that of one there is.

        Raises:
            NotAllowed: It is not confirmed, is there already, or is one too many.
        """
        return await self._access.step(lambda txn, life: _add(txn, life, passkey, confirmation))

    async def remove(self, reviewer: str, passkey_id: str, removal: Assertion) -> Passkey:
        """Take a passkey away on the word of one of the same reviewer, which may be itself.

        Raises:
            NotAllowed: There is no such passkey, or none of its reviewer's signed that.
        """
        return await self._access.step(lambda txn, life: _remove(txn, life, reviewer, passkey_id, removal))

    async def reset(self, reviewer: str) -> tuple[Passkey, ...]:
        """Take all passkeys of a reviewer away, on the operator's word; on record, and to be shown loudly."""
        return await self._access.step(lambda txn, life: tuple(_reset(txn, life, reviewer)))

    async def resets(self, since: str) -> list[dict[str, str]]:
        """Whose passkeys the operator took away since a time, by whom and when, newest first."""
        rows = await self._access.rows("passkey_resets", {"since": since})
        return [{"reviewer": row["detail"].partition(": ")[0], "by": row["by"], "at": row["at"]} for row in rows]

    async def used(self, statement: Statement, assertion: Assertion) -> Passkey:
        """Note that a passkey signed something that leaves nothing else in the record: a sign-in.

        Raises:
            NotAllowed: It did not sign that, is none of ours, or its sign count went back.
        """
        return await self._access.step(lambda txn, life: _used(txn, life, statement, assertion))


# The assertions of verdicts.


def put_assertion(txn: Transaction, life: Life, call_id: str, verdict: Verdict) -> dict[str, str]:
    """Check and keep what a verdict by passkey was signed with; returns what the chain attests of it.

    Raises:
        NotAllowed: It is not signed by a passkey of its reviewer, or signs something else.
    """
    if verdict.assurance != "passkey":
        return {}
    assertion = Assertion.from_json(verdict.assertion_json)
    passkey = _usable(txn, life, verdict.reviewer, assertion.credential)
    said = verdict_statement(call_id, verdict.digest, verdict.kind, verdict.reviewer, assertion.nonce)
    _count(txn, life, passkey, verified(assertion, passkey, said))
    row = {"call_id": call_id, "digest": verdict.digest, "reviewer": verdict.reviewer, "kind": verdict.kind}
    txn.connection.execute(sql("put_assertion"), {**row, "assertion_json": verdict.assertion_json})
    return {"assertion": chain.of_text(verdict.assertion_json)}


def is_signed(txn: Transaction, life: Life, verdict: Row) -> bool:
    """Whether a verdict is signed by a passkey of its reviewer, where it says that it is.

    # INVARIANT: looked at in the transaction that relies on it, with keys from memory. No seal stands in for it:
    # whoever can forge every seal still cannot sign.
    """
    if verdict["assurance"] != "passkey":
        return True
    query = {name: verdict[name] for name in ("call_id", "digest", "reviewer", "kind")}
    row = txn.connection.execute(sql("assertion"), query).fetchone()
    try:
        assertion = Assertion.from_json(row["assertion_json"] if row is not None else "")
        passkey = life.passkeys.get(assertion.credential)
        if passkey is None or passkey.reviewer != verdict["reviewer"]:
            return False
        call_id, digest, kind = verdict["call_id"], verdict["digest"], verdict["kind"]
        verified(assertion, passkey, verdict_statement(call_id, digest, kind, passkey.reviewer, assertion.nonce))
    except NotAllowed as refusal:
        logger.warning("call %s: %s", verdict["call_id"], refusal.message)
        return False
    return True


# What the chain attests.


def of_added(row: Row) -> str:
    """A passkey as it was taken."""
    return chain.digest("passkey", *[row[column] for column in ADDED_COLUMNS])


def of_removed(row: Row) -> str:
    """That a passkey was taken away, and why that was done."""
    return chain.digest("passkey-removed", *[row[column] for column in REMOVED_COLUMNS])


def from_row(row: Row) -> Passkey:
    """A passkey's row as a passkey."""
    return Passkey(**{column: row[column] for column in _COLUMNS})


@dataclass
class Keyring:
    """The passkeys that a record tells of, taken one by one as its events come, each for a good reason.

    A reviewer's first one is taken at first sight; each further one, and each end of one, is signed by one of theirs.
    Only the operator ends them without, and then all at once, in an event that everybody is shown.
    """

    keys: dict[str, Passkey] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    resets: dict[str, str] = field(default_factory=dict)

    def add(self, row: Row) -> str | None:
        """Take a passkey; says why not, where there is no good reason."""
        passkey = Passkey(**{column: row[column] for column in ADDED_COLUMNS})
        theirs = self._of(passkey.reviewer)
        if passkey.confirmed_by is None and theirs:
            return f"passkey {passkey.fingerprint} is said to be the first of `{passkey.reviewer}`, and is not"
        if passkey.confirmed_by is not None:
            said = partial(confirmation_statement, passkey.reviewer, passkey.id, passkey.public_key)
            if (why := _unsigned(passkey.confirmation_json, theirs, said)) is not None:
                return f"passkey {passkey.fingerprint} of `{passkey.reviewer}` is not confirmed: {why}"
        self.keys[passkey.id] = passkey
        return None

    def end(self, row: Row) -> str | None:
        """Take note that a passkey was removed; says why that was not right, where it was not."""
        passkey = self.keys.get(row["id"])
        if passkey is None:
            return "the passkey that is said to end was not there"
        if row["removed_by"] == OPERATOR:
            why = None if self.resets.get(passkey.reviewer) == row["removed_at"] else "nobody was told of a reset"
        else:
            said = partial(removal_statement, passkey.reviewer, passkey.id)
            why = _unsigned(row["removal_json"], self._of(passkey.reviewer), said)
        if why is not None:
            return f"passkey {passkey.fingerprint} of `{passkey.reviewer}` was removed by nobody who may: {why}"
        self.ended[passkey.id] = row["removed_at"]
        return None

    def reset(self, reviewer: str, at: str) -> None:
        """Take note that the operator took all passkeys of a reviewer away."""
        self.resets[reviewer] = at

    def read(self, rows: Iterable[Row], told: Iterable[Row]) -> Iterator[str]:
        """Take all passkeys of a database as its events tell of them; says what is not as it should be."""
        rows = list(rows)
        added = {_fact("passkey", of_added(row)): row for row in rows}
        removed = {_fact("removal", of_removed(row)): row for row in rows if row["removed_at"] is not None}
        for event in told:
            kind, reviewer = event["kind"], event["detail"].partition(": ")[0]
            if kind == RESET:
                self.reset(reviewer, event["at"])
            elif (row := (added if kind == ADDED else removed).pop(event["facts"], None)) is None:
                yield f"a passkey of `{reviewer}` was changed or is gone"
            elif (problem := self.add(row) if kind == ADDED else self.end(row)) is not None:
                yield problem
        for row in added.values():
            yield f"a passkey of `{row['reviewer']}` is there that no event tells of"
        for row in removed.values():
            yield f"a passkey of `{row['reviewer']}` is said to be removed, and no event tells of it"

    def _of(self, reviewer: str) -> dict[str, Passkey]:
        return {one.id: one for one in self.keys.values() if one.reviewer == reviewer and one.id not in self.ended}


def _unsigned(assertion_json: str, by: Mapping[str, Passkey], said: Callable[[str], Statement]) -> str | None:
    """Why none of these passkeys signed a statement, or None where one did."""
    try:
        assertion = Assertion.from_json(assertion_json)
        passkey = by.get(assertion.credential)
        if passkey is None:
            return "what signed it is not one of theirs"
        verified(assertion, passkey, said(assertion.nonce))
    except NotAllowed as refusal:
        return refusal.message
    return None


# Steps.


def _load(txn: Transaction, life: Life) -> tuple[str, ...]:
    rows = txn.connection.execute(sql("passkeys")).fetchall()
    ring = Keyring()
    tampered = list(ring.read(rows, txn.connection.execute(sql("passkeys_told"))))
    for row in rows:
        passkey = from_row(row)
        as_told = row["id"] in ring.keys and passkey.removed_at == ring.ended.get(row["id"])
        if as_told and life.seals.fits(row["seal"], *_sealed(passkey)):
            life.passkeys[passkey.id] = passkey
        elif as_told:
            tampered.append(f"a passkey of `{passkey.reviewer}` was changed")
    if tampered:
        put_event(txn, "", Step(0, TAMPERED, None, life.at, SEALS, "; ".join(tampered)))
    return tuple(tampered)


def _fact(name: str, digest: str) -> str:
    return compact_text({name: digest})


def _of(txn: Transaction, life: Life, reviewer: str) -> list[Passkey]:
    rows = txn.connection.execute(sql("passkeys_of"), {"reviewer": reviewer}).fetchall()
    return [passkey for row in rows if (passkey := _intact(life, row)) is not None]


def _intact(knows: Life | Access, row: sqlite3.Row) -> Passkey | None:
    """A passkey that may sign: as this gateway knows it, and as it wrote it."""
    passkey, known = from_row(row), knows.passkeys.get(row["id"])
    if known is None or known.removed_at or not knows.seals.fits(row["seal"], *_sealed(passkey)):
        return None
    return passkey if replace(passkey, sign_count=0, last_used_at=None) == _as_made(known) else None


def _as_made(passkey: Passkey) -> Passkey:
    return replace(passkey, sign_count=0, last_used_at=None)


def _usable(txn: Transaction, life: Life, reviewer: str | None, passkey_id: str) -> Passkey:
    row = txn.connection.execute(sql("passkey"), {"id": passkey_id}).fetchone()
    passkey = _intact(life, row) if row is not None else None
    if passkey is None or (reviewer is not None and passkey.reviewer != reviewer):
        who = f"no passkey of `{reviewer}`" if reviewer is not None else "no passkey that is known here"
        raise NotAllowed(f"this is {who}, or it was removed", help="the page lists yours under your name")
    return passkey


def _count(txn: Transaction, life: Life, passkey: Passkey, sign_count: int) -> Passkey:
    """Note a use; refused where the count says that somebody else has the same key."""
    if not counts_up(passkey, sign_count):
        logger.warning("passkey %s of %s: its sign count went back", passkey.fingerprint, passkey.reviewer)
        raise NotAllowed(
            "the passkey's sign count went back: there may be a copy of it, so it signs nothing here",
            help="remove it with another passkey of yours, or ask the operator to reset yours",
        )
    seen = replace(passkey, sign_count=sign_count, last_used_at=life.at)
    _put(txn, life, seen)
    return seen


def _put(txn: Transaction, life: Life, passkey: Passkey) -> dict[str, Any]:
    row: dict[str, Any] = {column: getattr(passkey, column) for column in _COLUMNS}
    txn.connection.execute(sql("put_passkey"), {**row, "seal": life.seals.seal(*_sealed(passkey))})
    return row


def _sealed(passkey: Passkey) -> tuple[Part, ...]:
    return ("passkey", *[getattr(passkey, column) for column in _COLUMNS])


def _add(txn: Transaction, life: Life, passkey: Passkey, confirmation: Assertion | None) -> Passkey:
    others = _of(txn, life, passkey.reviewer)
    if txn.connection.execute(sql("passkey"), {"id": passkey.id}).fetchone() is not None:
        raise NotAllowed("this passkey is enrolled already")
    if len(others) >= PASSKEYS_PER_REVIEWER:
        raise NotAllowed(f"you have {PASSKEYS_PER_REVIEWER} passkeys, which is the most", help="remove one of them")
    kept = replace(passkey, created_at=life.at)
    if _has_one(txn, passkey.reviewer):
        if confirmation is None:
            raise NotAllowed("a further passkey is confirmed by one that you have", help="sign with it when asked")
        by = _usable(txn, life, passkey.reviewer, confirmation.credential)
        said = confirmation_statement(passkey.reviewer, passkey.id, passkey.public_key, confirmation.nonce)
        _count(txn, life, by, verified(confirmation, by, said))
        kept = replace(kept, confirmed_by=by.id, confirmation_json=confirmation.to_json())
    row = _put(txn, life, kept)
    life.passkeys[kept.id] = kept  # one that is rolled back stays known here, and is nowhere else
    how = "at first sight" if kept.confirmed_by is None else "confirmed by another of theirs"
    detail = f"{kept.reviewer}: {kept.fingerprint} ({kept.label}), {how}"
    step = Step(0, ADDED, None, life.at, f"reviewer:{kept.reviewer}", detail)
    put_event(txn, "", step, {"passkey": of_added(row)})
    return kept


def _has_one(txn: Transaction, reviewer: str) -> bool:
    """Whether a reviewer ever got a passkey that was neither removed nor reset since.

    # INVARIANT: asked of the chain, not of the table: only who has none gets one on the word of a sign-in, and who
    deletes or alters a row must not make room for a key of his own.
    """
    balance = 0
    for event in txn.connection.execute(sql("passkeys_told")):
        if event["detail"].partition(": ")[0] == reviewer:
            # A reset is told of before what it removes.
            balance = 0 if event["kind"] == RESET else max(0, balance + (1 if event["kind"] == ADDED else -1))
    return balance > 0


def _remove(txn: Transaction, life: Life, reviewer: str, passkey_id: str, removal: Assertion) -> Passkey:
    going = next((one for one in _of(txn, life, reviewer) if one.id == passkey_id), None)
    if going is None:
        raise NotAllowed("you have no such passkey, or it was removed")
    by = _usable(txn, life, reviewer, removal.credential)
    seen = _count(txn, life, by, verified(removal, by, removal_statement(reviewer, passkey_id, removal.nonce)))
    return _take_away(txn, life, seen if by.id == going.id else going, f"reviewer:{reviewer}", removal.to_json())


def _reset(txn: Transaction, life: Life, reviewer: str) -> list[Passkey]:
    """What was altered goes, too: it stands in the way of a new one."""
    rows = txn.connection.execute(sql("passkeys_of"), {"reviewer": reviewer}).fetchall()
    put_event(txn, "", Step(0, RESET, None, life.at, OPERATOR, f"{reviewer}: {len(rows)} taken away"))
    return [_take_away(txn, life, from_row(row), OPERATOR, "") for row in rows]


def _take_away(txn: Transaction, life: Life, passkey: Passkey, by: str, removal_json: str) -> Passkey:
    gone = replace(passkey, removed_at=life.at, removed_by=by, removal_json=removal_json)
    row = _put(txn, life, gone)
    if (known := life.passkeys.get(gone.id)) is not None:  # of one that was altered, what was known is right
        life.passkeys[gone.id] = replace(known, removed_at=life.at, removed_by=by, removal_json=removal_json)
    step = Step(0, REMOVED, None, life.at, by, f"{gone.reviewer}: {gone.fingerprint} ({gone.label})")
    put_event(txn, "", step, {"removal": of_removed(row)})
    return gone


def _used(txn: Transaction, life: Life, statement: Statement, assertion: Assertion) -> Passkey:
    passkey = _usable(txn, life, None, assertion.credential)
    return _count(txn, life, passkey, verified(assertion, passkey, statement))
