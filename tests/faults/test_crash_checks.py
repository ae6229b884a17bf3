"""What looks for broken promises after a crash finds each of them: a campaign that sees nothing must not be blind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults import crash_checks as checks
from tests.faults.crash_checks import check_effects, check_statuses, check_told
from tests.faults.crash_place import Told

DIGEST = "sha256:1"


def a_call(status: str = "succeeded", approvers: tuple[str, ...] = ("dana", "erin"), **changes: Any) -> checks.Call:
    """A call of `pay` as it is read from the record, which needs two people."""
    kinds = ("asked", "approval", "approved", "running", status)
    return {
        "id": "c_1",
        "tool": "pay",
        "effect": "hold",
        "status": status,
        "version": len(kinds),
        "digest": DIGEST,
        "arguments_json": '{"what":"rent"}',
        "executed": 1,
        "result_digest": DIGEST,
        "verdicts": [{"reviewer": name, "kind": "approve", "digest": DIGEST} for name in approvers],
        "events": [{"kind": kind, "version": number, "status": "held"} for number, kind in enumerate(kinds, start=1)],
        **changes,
    }


def test_a_sound_record_has_no_findings() -> None:
    """An approved call that ran once, of which everyone was told the truth."""
    calls, effects = {"c_1": a_call()}, [("c_1", "rent")]
    told = Told(held={"c_1"}, verdicts={("c_1", "dana", "approve")}, ended={"c_1": "succeeded"})
    assert [*check_told(calls, told), *check_effects(calls, effects)] == []
    assert [*check_statuses(calls, effects, crashed=False)] == []


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (Told(held={"c_2"}), checks.LOST_HELD),
        (Told(verdicts={("c_1", "fred", "approve")}), checks.LOST_VERDICT),
        (Told(verdicts={("c_1", "dana", "reject")}), checks.LOST_VERDICT),
        (Told(withdrawn={"c_1"}), checks.LOST_ANSWER),
        (Told(resolved={"c_2"}), checks.LOST_ANSWER),
        (Told(ended={"c_1": "rejected"}), checks.LOST_ANSWER),
    ],
)
def test_what_somebody_was_told_and_is_not_on_record_is_found(told: Told, found: str) -> None:
    """A held call, a verdict, a withdrawal, a resolution or an outcome that the record does not have."""
    assert [what for what, _ in check_told({"c_1": a_call()}, told)] == [found]


@pytest.mark.parametrize(
    ("call", "effects", "found"),
    [
        (a_call(), [("c_1", "rent"), ("c_1", "rent")], checks.TWICE),
        (a_call(), [("c_2", "rent")], checks.UNRECORDED),
        (a_call(), [("c_1", "else")], checks.UNRECORDED),
        (a_call(approvers=("dana",)), [("c_1", "rent")], checks.UNAPPROVED),
        (a_call(approvers=("dana", "dana")), [("c_1", "rent")], checks.UNAPPROVED),
        (a_call(digest="sha256:2"), [("c_1", "rent")], checks.UNAPPROVED),
        (a_call(effect="allow"), [("c_1", "rent")], checks.UNAPPROVED),
    ],
)
def test_an_effect_that_may_not_be_is_found(call: checks.Call, effects: list[tuple[str, str]], found: str) -> None:
    """Twice, without a record, of something else, or without the approvals it needs."""
    assert found in [what for what, _ in check_effects({"c_1": call}, effects)]


@pytest.mark.parametrize(
    ("call", "effects", "found"),
    [
        (a_call("rejected"), [("c_1", "rent")], checks.UNTRUE),
        (a_call("failed", executed=0), [("c_1", "rent")], checks.UNTRUE),
        (a_call(), [], checks.UNTRUE),
        (a_call("running"), [], checks.UNDECIDED),
        (a_call("unknown", version=9), [], checks.UNTRUE),
    ],
)
def test_a_status_that_is_not_what_happened_is_found(
    call: checks.Call, effects: list[tuple[str, str]], found: str
) -> None:
    """It happened though it was not to, did not though it is said to have, or is left half-way."""
    assert found in [what for what, _ in check_statuses({"c_1": call}, effects, crashed=False)]


def test_a_false_alarm_is_found(tmp_path: Path) -> None:
    """A start that took a crash for tampering, or missed a checkpoint, has written so."""
    database = tmp_path / "hitl.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE events (kind TEXT, by TEXT, detail TEXT)")
        connection.execute("INSERT INTO events VALUES ('asked', 'agent:builder', ''), ('invalidated', 'gateway', '')")
        assert list(checks.check_alarms(database)) == []
        connection.execute(
            "INSERT INTO events VALUES ('invalidated', 'seals', 'x'), ('checkpoints-doubted', 'gateway', 'y')"
        )
    assert list(checks.check_alarms(database)) == [
        (checks.ALARM, "invalidated: x"),
        (checks.ALARM, "checkpoints-doubted: y"),
    ]
