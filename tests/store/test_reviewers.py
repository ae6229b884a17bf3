"""What verdicts tell of those who gave them: the hourly budget, how long they looked, and a week of it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from hitl_mcp.calls import Asked, CallRecord, Requirement, Status, VerdictKind
from hitl_mcp.clock import to_text
from hitl_mcp.errors import BudgetSpent
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.store.reviewers import Answered
from tests.clocks import HandClock
from tests.samples import admit, held, tool_call, verdict


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    async with open_sqlite(tmp_path / "hitl.db", clock) as opened:
        yield opened


@pytest.fixture
def clock() -> HandClock:
    """Time as this test wants it."""
    return HandClock()


async def hold(store: SqliteStore, number: int, *needs: Requirement) -> CallRecord:
    """A held call."""
    call = tool_call(arguments_json=f'{{"n":{number}}}')
    return (await admit(store, call, Asked("conv"), held(*needs))).record


async def approve(store: SqliteStore, record: CallRecord, clock: HandClock, at_most: int | None) -> CallRecord:
    """Dana's approval, now."""
    said = replace(verdict(record.digest, reviewer="dana"), at=to_text(clock.now()))
    return await store.add_verdict(record.id, said, at_most)


async def test_beyond_the_budget_calls_wait_and_nothing_of_them_moves(store: SqliteStore, clock: HandClock) -> None:
    """The approval is refused, says from when on there is one again, and the call stays exactly as it was."""
    first, second, third = [await hold(store, number) for number in range(3)]
    assert (await approve(store, first, clock, 2)).status is Status.APPROVED
    clock.forward(60)
    assert (await approve(store, second, clock, 2)).status is Status.APPROVED
    clock.forward(60)
    assert await store.reviewers.approvals_left("dana", 2) == 0
    with pytest.raises(BudgetSpent, match="`dana` approved 2 calls within the hour") as refusal:
        await approve(store, third, clock, 2)
    assert refusal.value.again_at == "2026-11-22T13:00:00Z"
    now = await store.get(third.id)
    assert (now.status, now.version, now.verdicts, now.events) == (Status.HELD, 1, (), third.events)
    clock.forward(3600 - 120)
    assert await store.reviewers.approvals_left("dana", 2) == 1
    clock.forward(1)
    assert (await store.get(third.id)).status is Status.HELD


async def test_an_hour_later_there_is_an_approval_again(store: SqliteStore, clock: HandClock) -> None:
    """The hour is the last sixty minutes, not one of the clock."""
    decision_lasts = 3600 * 4
    first, second = [
        (
            await admit(
                store,
                tool_call(arguments_json=f'{{"n":{number}}}'),
                Asked("conv"),
                replace(held(), expires_in_seconds=decision_lasts),
            )
        ).record
        for number in range(2)
    ]
    await approve(store, first, clock, 1)
    clock.forward(3599)
    with pytest.raises(BudgetSpent):
        await approve(store, second, clock, 1)
    clock.forward(1)
    assert (await approve(store, second, clock, 1)).status is Status.APPROVED


async def test_rejections_and_other_reviewers_are_not_bound_by_it(store: SqliteStore, clock: HandClock) -> None:
    """A spent budget never keeps anyone from saying no, and is each reviewer's own."""
    first, second, third = [await hold(store, number) for number in range(3)]
    await approve(store, first, clock, 1)
    rejection = replace(verdict(second.digest, VerdictKind.REJECT), reviewer="dana")
    assert (await store.add_verdict(second.id, rejection, 1)).status is Status.REJECTED
    assert (await store.add_verdict(third.id, verdict(third.digest, reviewer="lee"), 1)).status is Status.APPROVED


async def test_two_approvals_at_once_never_share_the_last_one(store: SqliteStore, clock: HandClock) -> None:
    """It is counted in the transaction that writes the verdict."""
    records = [await hold(store, number) for number in range(8)]
    refused: list[BudgetSpent] = []

    async def try_one(record: CallRecord) -> None:
        try:
            await approve(store, record, clock, 3)
        except BudgetSpent as error:
            refused.append(error)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for record in records:
                tasks.start_soon(try_one, record)
    now = [(await store.get(record.id)).status for record in records]
    assert (now.count(Status.APPROVED), now.count(Status.HELD), len(refused)) == (3, 5, 5)


async def test_one_of_two_needed_approvals_counts_as_one(store: SqliteStore, clock: HandClock) -> None:
    """A call that still waits for others has cost its approval all the same."""
    record = await hold(store, 1, Requirement("pay", quorum=2))
    assert (await approve(store, record, clock, 1)).status is Status.HELD
    with pytest.raises(BudgetSpent):
        await approve(store, await hold(store, 2), clock, 1)


async def test_how_long_a_reviewer_looked_is_sealed_and_attested(
    tmp_path: Path, store: SqliteStore, clock: HandClock
) -> None:
    """Whoever changes it in the database is found out before the call could run."""
    record = await hold(store, 1, Requirement("pay", quorum=2))
    said = replace(verdict(record.digest, reviewer="dana"), considered_seconds=1.5)
    assert (await store.add_verdict(record.id, said)).verdicts[0].considered_seconds == 1.5
    with closing(sqlite3.connect(tmp_path / "hitl.db")) as intruder, intruder:
        intruder.execute("UPDATE verdicts SET considered_seconds = 900")
    await store.recover()
    ended = await store.get(record.id)
    assert ended.status is Status.INVALIDATED
    assert "changed outside the gateway" in ended.closed_reason


async def test_the_verdicts_of_a_week_are_read_by_reviewer(store: SqliteStore, clock: HandClock) -> None:
    """In the order they were given; what is older than seven days is left out."""
    old = await hold(store, 0)
    await approve(store, old, clock, None)
    clock.forward(8 * 24 * 3600)
    for number, (reviewer, kind) in enumerate(
        [("lee", VerdictKind.APPROVE), ("dana", VerdictKind.REJECT), ("dana", VerdictKind.APPROVE)], 1
    ):
        record = await hold(store, number)
        said = replace(
            verdict(record.digest, kind, reviewer), at=to_text(clock.now()), considered_seconds=float(number)
        )
        await store.add_verdict(record.id, said)
        clock.forward(1)
    assert await store.reviewers.week() == [
        Answered("dana", False, 2.0),
        Answered("dana", True, 3.0),
        Answered("lee", True, 1.0),
    ]
