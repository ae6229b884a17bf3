"""Walks the chain, holds the record against what its events attest, and says what that proves. Opens nothing itself.

Three answers: fine, broken (and where), cannot tell. A chain alone proves that nothing in it was changed, left out or
moved; it cannot prove that its end was not cut off. A signed checkpoint proves that for all up to its event.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from hitl_mcp.audit.checkpoints import Checkpoint
from hitl_mcp.audit.grants import differing_grants
from hitl_mcp.audit.revisions import differing_revisions, differing_stops, revisions_of, stray_revisions
from hitl_mcp.audit.signatures import Signatures, exported_problems
from hitl_mcp.calls import Status, digest_for
from hitl_mcp.canonical import digest_of
from hitl_mcp.store import chain
from hitl_mcp.store.chain import Row
from hitl_mcp.store.rows import decision_from_json, grant_of, record_from_row
from hitl_mcp.store.statements import sql

FINDINGS_SHOWN = 100
"""Findings named one by one; of more only the number is told."""

Answer = Literal["fine", "broken", "cannot tell"]


@dataclass
class Report:
    """What verifying found. `attested` is the last event that a valid checkpoint signs, `unsigned` those after it."""

    events: int = 0
    calls: int = 0
    head: str = chain.GENESIS
    attested: int | None = None
    attested_at: str | None = None
    unlinked: int = 0
    findings: list[str] = field(default_factory=list)
    more_findings: int = 0
    signatures: Signatures = field(default_factory=Signatures)

    @property
    def answer(self) -> Answer:
        """Fine only where a checkpoint says up to where the record was complete."""
        if self.findings:
            return "broken"
        return "fine" if self.attested is not None else "cannot tell"

    @property
    def unsigned(self) -> int:
        """Events after the last signed one: whether more of them were cut off, nobody can tell."""
        return self.events - (self.attested or 0)

    def find(self, what: str) -> None:
        """Note what is broken, and where."""
        if len(self.findings) < FINDINGS_SHOWN:
            self.findings.append(what)
        else:
            self.more_findings += 1

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "answer": self.answer,
            "events": self.events,
            "calls": self.calls,
            "head": self.head,
            "attested": self.attested,
            "attested_at": self.attested_at,
            "unsigned": self.unsigned,
            "findings": self.findings,
            "more_findings": self.more_findings,
            "signed_verdicts": self.signatures.good,
            "passkeys": self.signatures.as_dict(),
        }


def verify_database(connection: sqlite3.Connection, checkpoints: Sequence[Checkpoint] = ()) -> Report:
    """Verify a whole database, of which only a reading connection is needed.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    connection.row_factory = sqlite3.Row
    report = Report()
    # One snapshot: a gateway that writes meanwhile would otherwise look like someone who tampers.
    connection.execute("BEGIN")
    try:
        _walk(report, connection.execute(sql("all_events")), checkpoints)
        _hold_against(report, connection)
    finally:
        connection.execute("ROLLBACK")
    return report


def verify_export(lines: Iterable[str], checkpoints: Sequence[Checkpoint] = ()) -> Report:
    """Verify an export: the chain, and what each event says of its call where the export tells it."""
    report = Report()
    _walk(report, _exported_events(report, lines), checkpoints)
    return report


def _exported_events(report: Report, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        try:
            read = json.loads(line)
            event = read["event"]
            row = {**{column: event[column] for column in chain.EVENT_COLUMNS}, "hash": event["hash"]}
        except (ValueError, KeyError, TypeError):
            report.find(f"line {number}: this is no exported event")
            continue
        for problem in exported_problems(report.signatures, read, _facts(row)):
            report.find(f"event {row['number']}: {problem}")
        yield row


# The chain.


def _walk(report: Report, events: Iterable[Row], checkpoints: Sequence[Checkpoint]) -> None:
    """Every event follows the one before, and every signed head is still there."""
    signed = _by_number(report, checkpoints)
    previous, expected = chain.GENESIS, 1
    for event in events:
        number = event["number"]
        if number != expected:
            missing = f"event {expected} is" if number == expected + 1 else f"events {expected} to {number - 1} are"
            report.find(f"{missing} missing" if number > expected else f"event {number} is out of order")
        columns = tuple(event[column] for column in chain.EVENT_COLUMNS)
        if event["hash"] != chain.link(previous, columns):
            report.find(f"event {number} ({event['kind']}, {event['at']}) was changed, or one before it")
        for checkpoint in signed.pop(number, ()):
            if event["hash"] == checkpoint.hash:
                report.attested, report.attested_at = number, checkpoint.at
            else:
                report.find(f"event {number} is not the one that was signed at {checkpoint.at}")
        previous, expected = event["hash"], number + 1
        report.events += 1
    report.head = previous
    for number, left in sorted(signed.items()):
        report.find(f"the record ends at event {expected - 1}, but event {number} was signed at {left[0].at}")


def _by_number(report: Report, checkpoints: Sequence[Checkpoint]) -> dict[int, list[Checkpoint]]:
    """The checkpoints that hold for this record: a restore takes back those after the event it went back to."""
    signed: dict[int, list[Checkpoint]] = {}
    for position, checkpoint in enumerate(checkpoints, start=1):
        if not checkpoint.valid:
            report.find(f"checkpoint {position} (of event {checkpoint.number}) has a signature that does not fit")
            continue
        if checkpoint.restored:
            signed = {number: these for number, these in signed.items() if number <= checkpoint.number}
        signed.setdefault(checkpoint.number, []).append(checkpoint)
    return signed


# The record, held against the chain.


def _hold_against(report: Report, connection: sqlite3.Connection) -> None:
    told_of = connection.execute(sql("passkeys_told"))
    for problem in report.signatures.ring.read(connection.execute(sql("passkeys")), told_of):
        report.find(problem)
    last_asked = 0
    for row in connection.execute(sql("all_calls")):
        report.calls += 1
        query = {"id": row["id"]}
        events = connection.execute(sql("events_of_call"), query).fetchall()
        told = _Told.by(events)
        if told is None:
            report.find(f"call `{row['id']}`: no event says where it came from")
            continue
        if told.asked_number < last_asked:
            report.find(f"call `{row['id']}`: it stands in another order than it was asked in")
        last_asked = told.asked_number
        if not told.linked:
            report.unlinked += 1
            continue
        verdicts = connection.execute(sql("verdicts_of_call"), query).fetchall()
        previews = connection.execute(sql("previews_of_call"), query).fetchall()
        marks = connection.execute(sql("marks_of_call"), query).fetchall()
        assertions = connection.execute(sql("assertions_of_call"), query).fetchall()
        for problem in _differences(told, row, _Beside(verdicts, previews, marks)):
            report.find(f"call `{row['id']}`: {problem}")
        for problem in differing_revisions(told.revisions, row, revisions_of(connection, row)):
            report.find(f"call `{row['id']}`: {problem}")
        for problem in _differing_signatures(report.signatures, told, verdicts, assertions):
            report.find(f"call `{row['id']}`: {problem}")
    for name, what in (("stray_events", "an event tells of it, and its record is gone"), ("stray_rows", "it is gone")):
        for row in connection.execute(sql(name)):
            report.find(f"call `{row['call_id']}`: {what}")
    for call_id in stray_revisions(connection):
        report.find(f"call `{call_id}`: it is gone")
    for problem in differing_stops(connection):
        report.find(problem)
    _hold_policies(report, connection)
    _hold_pins(report, connection)
    for problem in differing_grants(connection):
        report.find(problem)
    _hold_pause(report, connection)


@dataclass
class _Told:
    """What the events of one call, in order, say that its record must be now."""

    asked_number: int
    linked: bool
    version: int
    status: str
    changed_at: str
    told_at: str | None = None
    resolved: int = 0
    erased_at: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    verdicts: dict[tuple[str, int], str] = field(default_factory=dict)
    revisions: list[tuple[str, str]] = field(default_factory=list)
    previews: dict[str, str] = field(default_factory=dict)
    assertions: list[str] = field(default_factory=list)

    @classmethod
    def by(cls, events: Sequence[Row]) -> _Told | None:
        """Fold the events of a call; None where the first does not say that it was asked for."""
        if not events or events[0]["kind"] != "asked":
            return None
        first = events[0]
        told = cls(first["number"], first["facts"] != "", first["version"], first["status"], first["at"])
        told.facts.update(_facts(first))
        for event in events[1:]:
            told._then(event)
        return told

    def _then(self, event: Row) -> None:
        facts = _facts(event)
        if event["kind"] == "told":
            self.told_at = event["at"]
        elif event["kind"] == "erased":
            self.erased_at = event["at"]
        else:
            if self.status == Status.UNKNOWN and event["status"] != Status.UNKNOWN:
                self.told_at, self.resolved = None, 1  # what was told is no longer so
            self.version, self.status, self.changed_at = event["version"], event["status"], event["at"]
        if "revision" in facts:
            self.revisions.append((facts.pop("revision"), facts.pop("earlier", "")))
            self.previews.clear()  # they told of the earlier bytes
        if "assertion" in facts:
            self.assertions.append(facts.pop("assertion"))
        if "verdict" in facts:
            # Of one reviewer the last verdict on the same bytes counts, and after an edit they are others.
            self.verdicts[event["by"], len(self.revisions)] = facts.pop("verdict")
        if "preview" in facts:
            self.previews[facts.pop("preview")] = facts.pop("result")
        self.facts.update(facts)


def _facts(event: Row) -> dict[str, str]:
    try:
        facts = json.loads(event["facts"] or "{}")
    except ValueError:  # the chain has found it out
        return {}
    return facts if isinstance(facts, dict) else {}


@dataclass(frozen=True)
class _Beside:
    """The rows of other tables that belong to a call."""

    verdicts: Sequence[chain.VerdictRow]
    previews: Sequence[Row]
    marks: Sequence[Row]


def _differences(told: _Told, row: sqlite3.Row, beside: _Beside) -> Iterator[str]:
    for column, expected in (
        ("version", told.version),
        ("status", told.status),
        ("changed_at", told.changed_at),
        ("handed_over_at", told.told_at),
        ("erased_at", told.erased_at),
        ("resolved", told.resolved),
    ):
        if row[column] != expected:
            yield f"`{column}` is `{row[column]}`, and the events say `{expected}`"
    yield from _differing_facts(told, row, beside)
    yield from _differing_payloads(told, row)
    given = sorted((f"reviewer:{one['reviewer']}", chain.of_verdict(one)) for one in beside.verdicts)
    if given != sorted((by, digest) for (by, _), digest in told.verdicts.items()):
        yield "its verdicts are not those that were given"
    if sorted(told.previews) != sorted(chain.of_preview(one) for one in beside.previews):
        yield "its previews are not those that were kept"
    for one in beside.previews:
        kept = told.previews.get(chain.of_preview(one))
        if told.erased_at is None and kept is not None and kept != chain.of_text(one["result_json"]):
            yield f"the result of its preview `{one['rule']}` was changed"


def _differing_signatures(
    signatures: Signatures, told: _Told, verdicts: Sequence[Row], assertions: Sequence[Row]
) -> Iterator[str]:
    if sorted(chain.of_text(one["assertion_json"]) for one in assertions) != sorted(told.assertions):
        yield "what its verdicts were signed with is not what was given"
    signed = {(one["digest"], one["reviewer"], one["kind"]): one["assertion_json"] for one in assertions}
    for verdict in verdicts:
        key = (verdict["digest"], verdict["reviewer"], verdict["kind"])
        if (problem := signatures.check(verdict, signed.get(key))) is not None:
            yield problem


def _differing_facts(told: _Told, row: sqlite3.Row, beside: _Beside) -> Iterator[str]:
    marks = [(one["item"], one["scope"], one["value"], one["at"], one["amount"]) for one in beside.marks]
    found = {
        "call": chain.of_call(row),
        "decision": chain.of_text(row["decision_json"]),
        "claim": chain.of_text(row["claim"]),
        "start": chain.of_start(row["runner"], row["epoch"], marks),
        "run_by": chain.of_text(row["run_by"]),
        "closed_reason": chain.of_text(row["closed_reason"]),
        "outcome": chain.of_outcome(row),
        "seal": chain.of_text(row["seal"]),
        "grant": chain.of_text(grant_of(row)),
        "kept": chain.of_kept(row),
    }
    absent = {
        "claim": chain.of_text(""),
        "run_by": chain.of_text(None),
        "closed_reason": chain.of_text(""),
        "outcome": chain.of_outcome(dict.fromkeys(chain.OUTCOME_COLUMNS)),
        "seal": chain.of_text(""),
        "grant": chain.of_text(None),
        "kept": found["kept"],
    }
    expected = {**absent, **told.facts}
    if told.erased_at is not None:
        expected["claim"] = absent["claim"]
    for name, value in found.items():
        if expected.get(name) != value:
            yield f"its {_MEANING[name]} was changed"


_MEANING = {
    "call": "identity",
    "decision": "decision",
    "claim": "agent's claim",
    "start": "runner, or what it counts for,",
    "run_by": "time to run by",
    "closed_reason": "reason why it ended",
    "outcome": "outcome",
    "seal": "seal",
    "grant": "grant",
    "kept": "upstream, tool or agent",
}


def _differing_payloads(told: _Told, row: sqlite3.Row) -> Iterator[str]:
    """What is attested by digest only: arguments and `_meta` by the call's, the result by the outcome's."""
    if told.erased_at is not None:
        if (row["arguments_json"], row["meta_json"], row["result_json"]) != ("null", "{}", None):
            yield "it has arguments or a result, though they were erased"
        return
    try:
        digest = digest_for(record_from_row(row).call, decision_from_json(row["decision_json"]).policy)
    except (ValueError, KeyError, TypeError):
        digest = ""
    if digest != row["digest"]:
        yield "its arguments, or what they are bound to, were changed"
    kept, result = row["effect"] == "hold" and row["result_digest"] is not None, row["result_json"]
    if kept != (result is not None):
        yield "its result was removed" if kept else "it has a result that was not kept"
    elif result is not None and "sha256:" + sha256(result.encode()).hexdigest() != row["result_digest"]:
        yield "its result was changed"


# What concerns no call.


def _hold_policies(report: Report, connection: sqlite3.Connection) -> None:
    kept = {row["detail"]: row["at"] for row in connection.execute(sql("policies_kept"))}
    for row in connection.execute(sql("all_policies")):
        version, at = row["version"], kept.pop(row["version"], None)
        if not _is_policy(row["written"], version) or (at is not None and at != row["first_at"]):
            report.find(f"policy `{version}` was changed")
        elif at is None and report.unlinked == 0:
            report.find(f"policy `{version}`: no event says that it was in force")
    for version in kept:
        report.find(f"policy `{version}` is gone")


def _is_policy(written: str, version: str) -> bool:
    try:
        return digest_of(json.loads(written)) == version
    except ValueError:
        return False


def _hold_pins(report: Report, connection: sqlite3.Connection) -> None:
    """The events of a tool say which definition was accepted, and since when another one is offered."""
    told: dict[str, tuple[str | None, str | None]] = {}
    for event in connection.execute(sql("pins_told")):
        name = event["detail"].partition(": ")[0]
        accepted = _facts(event).get("pin")
        told[name] = (accepted, None) if accepted is not None else (told.get(name, (None, None))[0], event["at"])
    for row in connection.execute(sql("pins")):
        if told.pop(row["name"], None) != (chain.of_pin(row), row["changed_at"]):
            report.find(f"tool `{row['name']}`: what was accepted of it was changed")
    for name in told:
        report.find(f"tool `{name}`: what was accepted of it is gone")


def _hold_pause(report: Report, connection: sqlite3.Connection) -> None:
    last = connection.execute(sql("last_pause")).fetchone()
    setting = connection.execute(sql("setting"), {"key": "pause"}).fetchone()
    try:
        stored = json.loads(setting["value_json"]) if setting else None
    except ValueError:
        stored = setting
    paused = last is not None and last["kind"] == "paused"
    expected = {"by": last["by"], "at": last["at"], "reason": last["detail"]} if paused else None
    if stored != expected:
        report.find("whether everything is paused was changed")
