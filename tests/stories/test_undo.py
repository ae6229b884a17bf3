"""An approval that can be taken back for a while: nothing starts before, and a rejection ends it."""

from __future__ import annotations

from pathlib import Path

from hitl_mcp.calls import Status
from hitl_mcp.store import LastLook
from tests.clocks import HandClock
from tests.houses import house
from tests.upstream_programs import effects

POLICY = """
version: 1
rules: [{id: pays, tool: slow__pay, effect: hold, undo: 1m, reason: money leaves}]
"""


async def test_an_approved_call_waits_until_its_approval_cannot_be_undone_any_more(tmp_path: Path) -> None:
    """A minute after the approval, and not before, it starts; the executor needs no further news for that."""
    seconds = POLICY.replace("1m", "1s")
    async with house(tmp_path, policy=seconds) as here:
        record = await here.approve(await here.hold("pay", amount=1, currency="EUR"))
        assert record.status is Status.APPROVED
        ended = await here.settled(record.id)
    assert ended.status is Status.SUCCEEDED
    started = next(event for event in ended.events if event.status is Status.RUNNING)
    assert record.changed_at < record.starts_at <= started.at


async def test_a_rejection_takes_the_approval_back(tmp_path: Path) -> None:
    """Within the minute one rejection is enough; the call never starts, however long one waits."""
    clock = HandClock()
    async with house(tmp_path, policy=POLICY, clock=clock) as here:
        record = await here.approve(await here.hold("pay", amount=1, currency="EUR"))
        clock.forward(59)
        assert await here.store.claim(record, lambda history: LastLook(None)) is None
        after = await here.reject(record)
        assert after.status is Status.REJECTED
        clock.forward(3600)
        assert (await here.store.get(record.id)).status is Status.REJECTED
    assert effects(tmp_path) == []


async def test_a_restart_does_not_cut_the_time_short(tmp_path: Path) -> None:
    """The approval was given just before the gateway stopped; in its next life the minute still counts."""
    clock = HandClock()
    async with house(tmp_path, policy=POLICY, clock=clock) as here:
        record = await here.approve(await here.hold("pay", amount=1, currency="EUR"))
    clock.forward(30)
    async with house(tmp_path, policy=POLICY, clock=clock) as here:
        assert (await here.store.get(record.id)).status is Status.APPROVED
    clock.forward(31)
    async with house(tmp_path, policy=POLICY, clock=clock) as here:
        assert (await here.settled(record.id)).status is Status.SUCCEEDED
    assert effects(tmp_path) == ["1 EUR"]
