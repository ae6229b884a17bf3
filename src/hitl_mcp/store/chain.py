"""The hash chain of the events: what each event attests, and how it is linked to the one before. No statements, no I/O.

An event carries `facts`, digests of what its step wrote, and `hash`, over itself and the hash of the event before.
Payloads (arguments, claims, results) are attested by digest only, so that retention can erase them and the chain still
verifies. There is no column for the hash before: event N follows event N-1, whose number is the table's primary key,
so no second event can follow it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Protocol

from hitl_mcp.canonical import compact_text

GENESIS = ""
"""What the first event follows."""

VERDICT_COLUMNS = (
    "call_id",
    "digest",
    "reviewer",
    "kind",
    "roles_json",
    "surface",
    "assurance",
    "reason",
    "at",
    "seal",
)
"""What is sealed of every verdict, and its seal."""

VERDICT_LATER = ("considered_seconds",)
"""What verdicts were given since, each by a migration: sealed and attested by name, and only where it is not NULL.

So a verdict that was written before still has the seal and the digest that it had.
"""

EVENT_COLUMNS = ("number", "call_id", "version", "kind", "status", "at", "by", "detail", "facts")

_CALL = ("id", "name", "digest", "request_key", "conversation", "effect", "created_at", "expires_at", "repeat_of")
OUTCOME_COLUMNS = ("outcome_at", "outcome_detail", "executed", "result_digest", "result_bytes")
_KEPT = ("upstream", "tool", "agent", "fingerprint", "definition", "request_key")
_PIN = ("name", "upstream", "definition", "definition_json", "accepted_at", "accepted_by", "seal")
GRANT_COLUMNS = (
    *("id", "version", "agent", "upstream", "tool", "name", "fingerprint", "definition", "conditions_json"),
    *("shape_json", "uses", "given_by", "roles_json", "surface", "assurance", "given_at", "expires_at", "call_id"),
    *("digest", "reason", "used", "ended_at", "ended_by", "ended_why", "seal"),
)
"""A grant, whole, and its seal."""

REVISION_COLUMNS = ("call_id", "number", "digest", "expires_at", "edited_by", "edited_at", "reason", "seal")
STOP_COLUMNS = ("agent", "by", "at", "reason", "call_id", "seal")
_PREVIEW = ("call_id", "rule", "name", "at", "preview_id", "problem")


class Row(Protocol):
    """A row of the database, or its columns by name."""

    def __getitem__(self, column: str, /) -> Any: ...


class VerdictRow(Row, Protocol):
    """A row of `verdicts`, which may have columns that others have not."""

    def keys(self) -> Iterable[str]: ...


def link(previous: str, event: tuple[Any, ...]) -> str:
    """The hash of an event, given in the order of `EVENT_COLUMNS`, after the event with the hash `previous`."""
    return digest(previous, *event)


def digest(*values: object) -> str:
    """The SHA-256 of these values as JSON, as 64 hex digits."""
    return sha256(compact_text(values).encode()).hexdigest()


def of_call(row: Row) -> str:
    """What of a call never changes. Upstream, tool, definition, arguments, agent and policy are in its `digest`."""
    return digest(*[row[column] for column in _CALL])


def of_text(text: str | None) -> str:
    """A text that may be erased later: a decision, a claim, a result."""
    return digest(text)


def of_kept(row: Row) -> str:
    """What of a call outlives the erasing of its arguments, without which its `digest` cannot be made again."""
    return digest(*[row[column] for column in _KEPT])


def of_start(runner: str, epoch: int, marks: Iterable[tuple[Any, ...]]) -> str:
    """Which gateway runs a call, and what the call counts for from now on: (item, scope, value, at, amount) each."""
    return digest(runner, epoch, sorted(marks))


def of_outcome(row: Row) -> str:
    """What running a call brought; its result by digest."""
    return digest(*[row[column] for column in OUTCOME_COLUMNS])


def of_verdict(row: VerdictRow) -> str:
    """A verdict, whole."""
    return digest(*[row[column] for column in VERDICT_COLUMNS], *_later(row))


def verdict_parts(row: VerdictRow) -> list[Any]:
    """What of a verdict is under its seal."""
    return [*(row[column] for column in VERDICT_COLUMNS[:-1]), *_later(row)]


def _later(row: VerdictRow) -> list[Any]:
    there = set(row.keys())  # the record of an older version may be verified as it is
    named = [(column, row[column]) for column in VERDICT_LATER if column in there]
    return [part for pair in named if pair[1] is not None for part in pair]


def of_pin(row: Row) -> str:
    """The accepted definition of a tool, whole, and who accepted it."""
    return digest("pin", *[row[column] for column in _PIN])


def of_grant(row: Row) -> str:
    """A grant as it stands: its terms, its uses, its end."""
    return digest("grant", *[row[column] for column in GRANT_COLUMNS])


def of_revision(row: Row) -> str:
    """A call as it was before an edit, but for what is erased later: its arguments stand in its digest."""
    return digest("revision", *[row[column] for column in REVISION_COLUMNS])


def of_stop(row: Row) -> str:
    """An agent that was stopped, by whom and why."""
    return digest("stop", *[row[column] for column in STOP_COLUMNS])


def of_preview(row: Row) -> str:
    """What came of a preview, but for its result."""
    return digest(*[row[column] for column in _PREVIEW])
