"""A database that has been in use for a long time, made quickly: calls in every final status, with events and verdicts.

The schema is the real one, and so are the widths of what stands in it. The digests are of nothing and the events are
not linked: nothing that is measured on it verifies them.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any

from benchmarks.writers import HELD
from hitl_mcp.calls import Decision, Effect, RuleMatch
from hitl_mcp.clock import to_text
from hitl_mcp.likeness import likeness_of
from hitl_mcp.store.rows import decision_to_json

CALLS_AT_ONCE = 20_000
"""Calls whose rows are held in memory: some 60 MB."""

CACHE_KIB = 512 * 1024
"""The page cache while the database is filled: its indexes fit, whose rows come in no order."""

AGENTS = 20

WAITING_AGENTS = 60
"""As many agents as it takes: no agent may have more than 200 held calls."""

WAITING_KINDS = 400
"""Kinds of calls that wait; those of a kind are alike."""

SPAN = timedelta(days=180)
"""How far back the oldest call lies."""

TEXT = (
    "the customer asked for two desks and a lamp; the offer stands until the end of the month, please note that the "
    "delivery moves by one week because the supplier is late, the order number changed and the address is confirmed; "
    "the payment was received, the account closed, the contract renewed and the price agreed with the team "
)

SOUP_WORDS = 20_000
"""Words in a row that bodies are cut from: long enough that pieces differ from call to call."""

BODY_CHARACTERS = 900

_RULE = RuleMatch("notes", Effect.ALLOW, "notes are the agent's work")
_ALLOWED = Decision(effect=Effect.ALLOW, score=10, policy=HELD.policy, reasons=(_RULE.reason,), rules=(_RULE,))

_PATHS: tuple[tuple[int, Effect, tuple[str, ...]], ...] = (
    (800, Effect.ALLOW, ("running", "succeeded")),
    (50, Effect.ALLOW, ("running", "failed")),
    (40, Effect.DENY, ("denied",)),
    (70, Effect.HOLD, ("held", "approved", "running", "succeeded")),
    (10, Effect.HOLD, ("held", "approved", "running", "failed")),
    (15, Effect.HOLD, ("held", "rejected")),
    (8, Effect.HOLD, ("held", "expired")),
    (4, Effect.HOLD, ("held", "withdrawn")),
    (2, Effect.HOLD, ("held", "invalidated")),
    (1, Effect.ALLOW, ("running", "unknown")),
)
"""Of a thousand calls, how many went which way: an agent at work whose policy allows most of what it does."""

_KINDS = {"approved": "verdict", "rejected": "verdict"}

Row = dict[str, Any]


def fill(path: Path, records: int, waiting: int = 0) -> None:
    """Put so many calls, with their events and verdicts, into a database that has the schema and that nobody uses.

    `waiting` more wait for people; they are the newest.
    """
    made = chain(_calls(records), _waiting(waiting))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # A crash now costs nothing but the time to make it again.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        while batch := list(islice(made, CALLS_AT_ONCE)):
            connection.execute("BEGIN")
            _insert(connection, "calls", [call for call, _, _ in batch])
            _insert(connection, "events", [event for _, events, _ in batch for event in events])
            _insert(connection, "verdicts", [verdict for _, _, verdicts in batch for verdict in verdicts])
            connection.execute("COMMIT")
    with path.open("rb") as file:  # or the first flush that is measured would flush all of this
        os.fsync(file.fileno())


def _insert(connection: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    if rows:
        columns = list(rows[0])
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        connection.executemany(statement, [tuple(row.values()) for row in rows])


def _calls(records: int) -> Iterator[tuple[Row, list[Row], list[Row]]]:
    """Each call with its events and verdicts, oldest first; the same ones every time."""
    chance = random.Random(records)  # noqa: S311
    soup = " ".join(chance.choices(TEXT.split(), k=SOUP_WORDS))
    began, apart = datetime.now(UTC) - SPAN, SPAN / records
    paths = [(effect, statuses) for _, effect, statuses in _PATHS]
    taken = chance.choices(paths, weights=[share for share, _, _ in _PATHS], k=records)
    decisions = {
        Effect.ALLOW: decision_to_json(_ALLOWED),
        Effect.HOLD: decision_to_json(HELD),
        Effect.DENY: decision_to_json(replace(HELD, effect=Effect.DENY, requirements=())),
    }
    for number, (effect, statuses) in enumerate(taken):
        start = chance.randrange(len(soup) - BODY_CHARACTERS)
        at = to_text(began + apart * number)
        call = _call(number, effect, statuses, soup[start : start + BODY_CHARACTERS], at)
        call["decision_json"] = decisions[effect]
        yield call, _events(call, statuses), _verdicts(call, statuses)


def _waiting(calls: int) -> Iterator[tuple[Row, list[Row], list[Row]]]:
    """Held calls of many agents, some of them alike, with different times left and different points."""
    chance = random.Random(calls)  # noqa: S311
    soup = " ".join(chance.choices(TEXT.split(), k=SOUP_WORDS))
    now = datetime.now(UTC)
    for number in range(calls):
        agent, kind = f"agent-{number % WAITING_AGENTS}", number % WAITING_KINDS
        start = kind * 17 % (len(soup) - BODY_CHARACTERS)
        at = to_text(now - timedelta(seconds=calls - number))
        call = _call(-1 - number, Effect.HOLD, ("held",), soup[start : start + BODY_CHARACTERS], at)
        decision = replace(HELD, score=chance.randrange(40, 95))
        tool = f"tool{kind % 40}"
        call |= {"tool": tool, "name": f"local__{tool}", "agent": agent, "is_open": True, "handed_over_at": None}
        call |= {"expires_at": to_text(now + timedelta(minutes=chance.randrange(30, 24 * 60)))}
        call |= {"decision_json": decision_to_json(decision), "score": decision.score, "roles_json": '[["finance"]]'}
        call |= {"likeness": likeness_of(call["name"], call["arguments_json"])}
        yield call, _events(call, ("held",)), []


def _hex(*what: object) -> str:
    return blake2b(repr(what).encode(), digest_size=32).hexdigest()


def _call(number: int, effect: Effect, statuses: tuple[str, ...], body: str, at: str) -> Row:
    status, ran = statuses[-1], "running" in statuses
    digest = _hex(number)
    return {
        "id": f"c_{digest[:13]}",
        "version": len(statuses),
        "status": status,
        "is_open": status == "unknown",
        "upstream": "local",
        "tool": "pay" if effect is Effect.HOLD else "note",
        "name": "local__pay" if effect is Effect.HOLD else "local__note",
        "arguments_json": f'{{"amount":{number % 5000},"body":"{body}","tags":["offer"],"title":"note {number}"}}',
        "meta_json": "{}",
        "agent": f"agent-{number % AGENTS}",
        "fingerprint": "sha256:" + "1" * 64,
        "definition": "sha256:" + "2" * 64,
        "conversation": digest[20:52],
        "claim": "",
        "digest": f"sha256:{digest}",
        "request_key": f"sha256:{digest[::-1]}",
        "effect": effect,
        "decision_json": "",
        "created_at": at,
        "changed_at": at,
        "expires_at": at if effect is Effect.HOLD else None,
        "run_by": at if effect is Effect.HOLD and ran else None,
        "handed_over_at": at if effect is Effect.HOLD else None,
        "runner": "local" if ran else "",
        "epoch": 1 if ran else 0,
        "outcome_at": at if ran else None,
        "outcome_detail": "" if ran else None,
        "executed": 1 if ran else None,
        "result_json": '{"content":[{"text":"noted","type":"text"}]}' if ran and effect is Effect.HOLD else None,
        "result_digest": f"sha256:{digest}" if ran else None,
        "result_bytes": 44 if ran else None,
        "seal": digest if effect is Effect.HOLD else "",
    }


def _events(call: Row, statuses: tuple[str, ...]) -> list[Row]:
    return [
        {
            "call_id": call["id"],
            "version": version,
            "kind": _KINDS.get(status, status) if version > 1 else "asked",
            "status": status,
            "at": call["created_at"],
            "by": "gateway" if version > 1 else f"agent:{call['agent']}",
            "detail": "",
            "facts": f'{{"call":"{_hex(version)}","decision":"{call["digest"][7:]}"}}',
            "hash": _hex(call["id"], version),
        }
        for version, status in enumerate(statuses, start=1)
    ]


def _verdicts(call: Row, statuses: tuple[str, ...]) -> list[Row]:
    kind = {"approved": "approve", "rejected": "reject"}.get(statuses[1] if len(statuses) > 1 else "")
    if kind is None:
        return []
    return [
        {
            "call_id": call["id"],
            "digest": call["digest"],
            "reviewer": "dana",
            "kind": kind,
            "roles_json": '["finance"]',
            "surface": "web",
            "assurance": "link",
            "reason": "",
            "at": call["created_at"],
            "seal": call["seal"],
        }
    ]
