"""What must be true of a record after a crash, held against what happened outside and what people were told.

Read past the gateway's code: from the database as a file, and from the file in which upstreams write their effects.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.faults.crash_place import QUORUMS, Told

Call = dict[str, Any]

LOST_HELD = "a call that the agent was told is held is gone"
LOST_VERDICT = "a verdict that was acknowledged is gone"
LOST_ANSWER = "what somebody was told of a call is not what is on record"
TWICE = "an effect came twice"
UNAPPROVED = "an effect came without approval"
UNRECORDED = "an effect came without a record"
UNTRUE = "a call's status is not what happened"
UNDECIDED = "a call that was running stayed so over a restart"
BROKEN = "the audit chain is broken"
ALARM = "a false alarm of tampering"

BREACHES = (LOST_HELD, LOST_VERDICT, LOST_ANSWER, TWICE, UNAPPROVED, UNRECORDED, UNTRUE, UNDECIDED, BROKEN, ALARM)
"""What a crash must never bring about."""

Breach = tuple[str, str]

_NOTHING_RAN = ("held", "denied", "approved", "rejected", "expired", "withdrawn", "invalidated")


def read_calls(database: Path, ids: Collection[str] | None = None) -> dict[str, Call]:
    """Calls by id, with their verdicts and the kinds of their events; all where no ids are named."""
    wanted = "" if ids is None else " WHERE {} IN (SELECT value FROM json_each(?))"
    values = () if ids is None else (json.dumps(list(ids)),)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        found = connection.execute("SELECT * FROM calls" + wanted.format("id"), values)
        calls: dict[str, Call] = {row["id"]: {**dict(row), "verdicts": [], "events": []} for row in found}
        for row in connection.execute("SELECT * FROM verdicts" + wanted.format("call_id"), values):
            calls[row["call_id"]]["verdicts"].append(dict(row))
        by_number = "SELECT * FROM events" + wanted.format("call_id") + " ORDER BY number"
        for row in connection.execute(by_number, values):
            if row["call_id"]:
                calls[row["call_id"]]["events"].append(dict(row))
    return calls


def check_alarms(database: Path) -> Iterator[Breach]:
    """No start took the crash before it for somebody's doing, or missed a checkpoint."""
    alarms = "SELECT kind, detail FROM events WHERE by = 'seals' OR kind = 'checkpoints-doubted'"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)) as connection:
        for kind, detail in connection.execute(alarms):
            yield ALARM, f"{kind}: {detail}"


def what_of(call: Call) -> str | None:
    """What the call was to do; None where retention erased it."""
    arguments = json.loads(call["arguments_json"])
    return str(arguments["what"]) if arguments else None


def check_told(calls: dict[str, Call], told: Told) -> Iterator[Breach]:
    """Whatever somebody was told is on record, also right after the crash."""
    for call_id in told.held - calls.keys():
        yield LOST_HELD, call_id
    for call_id, reviewer, kind in told.verdicts:
        given = calls.get(call_id, {}).get("verdicts", ())
        # Who approved may still reject: that verdict then stands in place of the first.
        if not any(one["reviewer"] == reviewer and one["kind"] in (kind, "reject") for one in given):
            yield LOST_VERDICT, f"{call_id} by {reviewer}"
    for call_id in told.withdrawn:
        if calls.get(call_id, {}).get("status") != "withdrawn":
            yield LOST_ANSWER, f"{call_id}: withdrawn"
    for call_id in told.resolved:
        if calls.get(call_id, {}).get("status") not in ("succeeded", "failed"):
            yield LOST_ANSWER, f"{call_id}: resolved"
    for call_id, status in told.ended.items():
        found = calls.get(call_id, {}).get("status")
        # Of a call that was still under way, or whose outcome was unknown, more may be known by now.
        if found != status and status not in ("approved", "running", "unknown"):
            yield LOST_ANSWER, f"{call_id}: it was told to be {status}, and is {found}"
    ended = {what_of(call): call["status"] for call in calls.values() if call["effect"] == "allow"}
    for what in told.answered & ended.keys():
        if ended[what] not in ("succeeded", "failed"):
            yield LOST_ANSWER, f"{what}: it was answered, and is {ended[what]}"


def check_effects(calls: dict[str, Call], effects: list[tuple[str, str]]) -> Iterator[Breach]:
    """Each effect came once, under a record, by approval or because the policy allowed it."""
    for (call_id, what), times in Counter(effects).items():
        call = calls.get(call_id)
        if times > 1:
            yield TWICE, f"{call_id} {what}"
        if call is None or what_of(call) not in (what, None):
            yield UNRECORDED, f"{call_id} {what}"
        elif (why := _why_not_allowed(call)) is not None:
            yield UNAPPROVED, f"{call_id} {what}: {why}"
    for what, times in Counter(what for _, what in effects).items():
        if times > 1:
            yield TWICE, what


def _why_not_allowed(call: Call) -> str | None:
    kinds = [event["kind"] for event in call["events"]]
    if call["effect"] == "allow":
        return None if call["events"][0]["status"] == "running" else "it was not allowed"
    approvers = {
        one["reviewer"] for one in call["verdicts"] if (one["kind"], one["digest"]) == ("approve", call["digest"])
    }
    if len(approvers) < QUORUMS.get(call["tool"], 1):
        return f"approved by {sorted(approvers)}"
    if "approved" not in kinds or "running" not in kinds[kinds.index("approved") :]:
        return f"its events are {kinds}"
    return None


def check_statuses(calls: dict[str, Call], effects: list[tuple[str, str]], *, crashed: bool) -> Iterator[Breach]:
    """What the record says of a call is true; where nothing has crashed since, none is left half-way."""
    happened = {call_id for call_id, _ in effects}
    for call in calls.values():
        call_id, status = call["id"], call["status"]
        if {event["version"] for event in call["events"]} != set(range(1, call["version"] + 1)):
            yield UNTRUE, f"{call_id}: its events do not tell its whole story"
        if [event["kind"] for event in call["events"]].count("running") > 1:
            yield TWICE, f"{call_id} was claimed twice"
        if status in _NOTHING_RAN and call_id in happened:
            yield UNTRUE, f"{call_id} is {status}, and it happened"
        if status == "failed" and call_id in happened and not call["executed"]:
            yield UNTRUE, f"{call_id} was not sent, and it happened"
        if status == "succeeded" and call_id not in happened and call["result_digest"] is not None:
            yield UNTRUE, f"{call_id} is said to have succeeded, and it did not happen"
        if status in ("approved", "running") and not crashed:
            yield UNDECIDED, f"{call_id} is {status}"
