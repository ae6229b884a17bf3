"""Between rows and records: how a call, its decision and its verdicts are laid out in columns. No statements."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from hitl_mcp.calls import (
    Asked,
    Assurance,
    CallEvent,
    CallRecord,
    Decision,
    Effect,
    HistoryUsed,
    Outcome,
    Preview,
    Probe,
    ReadingCall,
    Requirement,
    Revision,
    RuleMatch,
    SignalMatch,
    Status,
    ToolCall,
    Verdict,
    VerdictKind,
)
from hitl_mcp.canonical import compact_text

_WITH_OUTCOME = frozenset({Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN})


def decision_to_json(decision: Decision) -> str:
    """A decision as it is stored; nothing of it is left out, so that it can be explained years later."""
    return compact_text(
        {
            "effect": decision.effect,
            "score": decision.score,
            "policy": decision.policy,
            "reasons": decision.reasons,
            "rules": [[rule.id, rule.effect, rule.reason, rule.error] for rule in decision.rules],
            "signals": [[signal.id, signal.points, signal.reason, signal.error] for signal in decision.signals],
            "band": decision.band,
            "requirements": [
                [need.id, need.roles, need.quorum, need.assurance, need.barred, need.surfaces, need.grantable]
                for need in decision.requirements
            ],
            "expires_in_seconds": decision.expires_in_seconds,
            "run_within_seconds": decision.run_within_seconds,
            "undo_seconds": decision.undo_seconds,
            "paused": decision.paused,
            "shadows": [[rule.id, rule.effect, rule.reason, rule.error] for rule in decision.shadows],
            "history": [[used.item, used.about, used.answer] for used in decision.history],
            "durable": decision.durable,
            "previews": [_reading_to_json(one) for one in decision.previews],
            "probes": [[_reading_to_json(one.call), one.happened, one.did_not] for one in decision.probes],
        }
    )


def decision_from_json(text: str) -> Decision:
    """Read what `decision_to_json` wrote."""
    stored = json.loads(text)
    return Decision(
        effect=Effect(stored["effect"]),
        score=stored["score"],
        policy=stored["policy"],
        reasons=tuple(stored["reasons"]),
        rules=_rules(stored["rules"]),
        signals=tuple(SignalMatch(*signal) for signal in stored["signals"]),
        band=stored["band"],
        requirements=tuple(_requirement(*need) for need in stored["requirements"]),
        expires_in_seconds=stored["expires_in_seconds"],
        run_within_seconds=stored["run_within_seconds"],
        undo_seconds=stored.get("undo_seconds", 0),
        paused=stored["paused"],
        # What an older version wrote has none of these.
        shadows=_rules(stored.get("shadows", ())),
        history=tuple(_used(*used) for used in stored.get("history", ())),
        durable=stored.get("durable", False),
        previews=tuple(ReadingCall(*one) for one in stored.get("previews", ())),
        probes=tuple(Probe(ReadingCall(*call), *read) for call, *read in stored.get("probes", ())),
    )


def _reading_to_json(call: ReadingCall) -> list[str | None]:
    return [call.rule, call.name, call.arguments_json, call.error]


def _rules(stored: Iterable[list[Any]]) -> tuple[RuleMatch, ...]:
    return tuple(RuleMatch(id, Effect(effect), reason, error) for id, effect, reason, error in stored)


def _requirement(id: str, roles: list[str], quorum: int, assurance: Assurance = "client", *later: Any) -> Requirement:
    """A requirement as it is stored: later versions added who is barred, surfaces, and whether grants meet it."""
    absent: tuple[Any, ...] = ((), (), False)
    barred, surfaces, grantable = (*later, *absent[len(later) :])
    return Requirement(id, tuple(roles), quorum, assurance, tuple(barred), tuple(surfaces), grantable)


def _used(item: str, about: str, answer: int | list[str]) -> HistoryUsed:
    return HistoryUsed(item, about, tuple(answer) if isinstance(answer, list) else answer)


def preview_from_row(row: sqlite3.Row) -> Preview:
    """A preview's row as what came of it."""
    return Preview(
        rule=row["rule"],
        name=row["name"],
        at=row["at"],
        call_id=row["preview_id"],
        result_json=row["result_json"],
        problem=row["problem"],
    )


def revision_from_row(row: sqlite3.Row) -> Revision:
    """What an edit replaced, from its row."""
    return Revision(
        number=row["number"],
        arguments_json=row["arguments_json"],
        digest=row["digest"],
        decision=decision_from_json(row["decision_json"]),
        expires_at=row["expires_at"],
        edited_by=row["edited_by"],
        edited_at=row["edited_at"],
        reason=row["reason"],
    )


def revision_of(row: sqlite3.Row) -> int:
    """How often a call was edited. The record of an older version, which may be verified as it is, does not say."""
    return row["revision"] if "revision" in row.keys() else 0  # noqa: SIM118 - a row's own test looks at values


def record_from_row(
    row: sqlite3.Row, verdicts: Iterable[sqlite3.Row] = (), events: Iterable[sqlite3.Row] = ()
) -> CallRecord:
    """A call's row, with the rows of its verdicts and events, as a record."""
    status = Status(row["status"])
    return CallRecord(
        id=row["id"],
        version=row["version"],
        status=status,
        call=ToolCall(
            upstream=row["upstream"],
            tool=row["tool"],
            name=row["name"],
            arguments_json=row["arguments_json"],
            agent=row["agent"],
            fingerprint=row["fingerprint"],
            definition=row["definition"],
            meta_json=row["meta_json"],
        ),
        asked=Asked(conversation=row["conversation"], claim=row["claim"]),
        digest=row["digest"],
        request_key=row["request_key"],
        decision=decision_from_json(row["decision_json"]),
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        expires_at=row["expires_at"],
        run_by=row["run_by"],
        handed_over_at=row["handed_over_at"],
        repeat_of=row["repeat_of"],
        closed_reason=row["closed_reason"],
        erased_at=row["erased_at"],
        was_resolved=bool(row["resolved"]),
        grant=grant_of(row),
        likeness=_likeness_of(row, status),
        verdicts=tuple(verdict_from_row(verdict) for verdict in verdicts),
        outcome=_outcome_from_row(row, status) if status in _WITH_OUTCOME else None,
        events=tuple(event_from_row(event) for event in events),
    )


def grant_of(row: sqlite3.Row) -> str | None:
    """The grant that approved a call. The record of an older version, which may be verified as it is, has none."""
    return row["grant_id"] if "grant_id" in row.keys() else None  # noqa: SIM118 - a row's own test looks at values


def _likeness_of(row: sqlite3.Row, status: Status) -> str | None:
    """What a call that waits has in common with those that are alike; an older record says nothing of it."""
    there = status is Status.HELD and "likeness" in row.keys()  # noqa: SIM118 - a row's own test looks at values
    return row["likeness"] if there else None


def _outcome_from_row(row: sqlite3.Row, status: Any) -> Outcome:
    return Outcome(
        status=status,
        executed=bool(row["executed"]),
        at=row["outcome_at"],
        detail=row["outcome_detail"] or "",
        result_json=row["result_json"],
        result_digest=row["result_digest"],
        result_bytes=row["result_bytes"],
    )


def outcome_to_columns(outcome: Outcome) -> dict[str, Any]:
    """What of an outcome is attested, by the names of its columns."""
    return {
        "outcome_at": outcome.at,
        "outcome_detail": outcome.detail,
        "executed": int(outcome.executed),
        "result_digest": outcome.result_digest,
        "result_bytes": outcome.result_bytes,
    }


def verdict_from_row(row: sqlite3.Row) -> Verdict:
    """A verdict's row as a verdict."""
    return Verdict(
        kind=VerdictKind(row["kind"]),
        reviewer=row["reviewer"],
        roles=tuple(json.loads(row["roles_json"])),
        digest=row["digest"],
        surface=row["surface"],
        assurance=row["assurance"],
        at=row["at"],
        reason=row["reason"],
        considered_seconds=row["considered_seconds"],
    )


def event_from_row(row: sqlite3.Row) -> CallEvent:
    """An event's row as an event."""
    return CallEvent(
        number=row["number"],
        call_id=row["call_id"],
        version=row["version"],
        kind=row["kind"],
        status=Status(row["status"]) if row["status"] else None,
        at=row["at"],
        by=row["by"],
        detail=row["detail"],
    )
