"""What is erased, when, and what stays: the chain still verifies, and what is open is never touched."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from hitl_mcp.audit import Evidence
from hitl_mcp.calls import Status
from hitl_mcp.retention import Retention
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.store.erasing import BATCH_CALLS
from tests.clocks import HandClock
from tests.days import ASKED, a_day
from tests.samples import admit, denied, tool_call

DAY = 24 * 3600


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still until a test moves it."""
    return HandClock()


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    """A real store."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as opened:
        yield opened


async def test_what_a_call_carried_is_erased_past_its_age_and_the_chain_still_verifies(
    store: SqliteStore, clock: HandClock, tmp_path: Path
) -> None:
    """Arguments, claim, preview, result and wording go; who, what, when, points and digests stay, and so does proof."""
    ids = await a_day(store)
    retention = Retention(store, {Status.SUCCEEDED: 30 * DAY})
    clock.forward(29 * DAY)
    assert await retention.sweep() == 0
    before = await store.get(ids["ran"])
    clock.forward(2 * DAY)
    assert await retention.sweep() == 2
    after = await store.get(ids["ran"])
    assert (after.call.arguments_json, after.asked.claim, after.decision.reasons) == ("null", "", ())
    assert after.outcome is not None
    assert (after.outcome.result_json, after.outcome.result_digest) == (
        None,
        before.outcome and before.outcome.result_digest,
    )
    assert (after.digest, after.decision.score, after.verdicts) == (
        before.digest,
        before.decision.score,
        before.verdicts,
    )
    assert after.erased_at is not None
    assert after.previews == ()
    assert Evidence(tmp_path / "hitl.db").verify().findings == []


async def test_only_calls_of_the_named_statuses_are_erased(store: SqliteStore, clock: HandClock) -> None:
    """What is held keeps its bytes however old; so does what came to another end."""
    ids = await a_day(store)
    clock.forward(400 * DAY)
    assert await Retention(store, {Status.REJECTED: DAY}).sweep() == 1
    assert [(await store.get(ids[name])).erased_at is None for name in ("held", "denied", "ran", "rejected")] == [
        True,
        True,
        True,
        False,
    ]


async def test_nothing_is_erased_twice_and_nothing_new_is_missed(store: SqliteStore, clock: HandClock) -> None:
    """The sweep remembers how far it came: more calls than one batch, then others that come due later."""
    for number in range(BATCH_CALLS + 5):
        await admit(store, tool_call(arguments_json=f'{{"n":{number}}}'), ASKED, denied())
    retention = Retention(store, {Status.DENIED: DAY})
    clock.forward(2 * DAY)
    await admit(store, tool_call(arguments_json='{"n":"late"}'), ASKED, denied())
    assert await retention.sweep() == BATCH_CALLS + 5
    assert await retention.sweep() == 0
    clock.forward(2 * DAY)
    assert await retention.sweep() == 1


async def test_what_was_erased_is_gone_from_the_file(store: SqliteStore, clock: HandClock, tmp_path: Path) -> None:
    """Freed pages are overwritten: after a checkpoint of the log no byte of the arguments is left on disk."""
    secret = "correct-horse-battery-staple"
    body = secret * 500
    await admit(store, tool_call(arguments_json=f'{{"body":"{body}"}}'), ASKED, denied())
    clock.forward(2 * DAY)
    assert await Retention(store, {Status.DENIED: DAY}).sweep() == 1
    with closing(sqlite3.connect(tmp_path / "hitl.db")) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret.encode() not in (tmp_path / "hitl.db").read_bytes()


async def test_an_erasure_that_nobody_ordered_is_found(store: SqliteStore, tmp_path: Path) -> None:
    """Emptying a call behind the gateway's back leaves no event of it, so it is no retention."""
    ids = await a_day(store)
    with closing(sqlite3.connect(tmp_path / "hitl.db", isolation_level=None)) as intruder:
        intruder.execute(
            "UPDATE calls SET arguments_json = 'null', erased_at = created_at WHERE id = ?", [ids["denied"]]
        )
    findings = Evidence(tmp_path / "hitl.db").verify().findings
    assert any("`erased_at`" in finding for finding in findings)


async def test_a_clock_that_ran_ahead_keeps_nothing_from_being_erased(store: SqliteStore, clock: HandClock) -> None:
    """What ended while the clock was a year ahead is older than what ended after it was set right."""
    clock.forward(365 * DAY)
    ahead = (await admit(store, tool_call(), ASKED, denied())).record
    clock.forward(-365 * DAY)
    right = (await admit(store, tool_call(arguments_json="[1]"), ASKED, denied())).record
    retention = Retention(store, {Status.DENIED: 30 * DAY})
    clock.forward(29 * DAY)
    assert await retention.sweep() == 0
    clock.forward(2 * DAY)
    assert await retention.sweep() == 2
    assert all([(await store.get(record.id)).erased_at is not None for record in (ahead, right)])
