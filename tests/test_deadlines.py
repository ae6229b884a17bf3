"""Calls end when their time is over, without anybody asking."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hitl_mcp.calls import Asked, Status
from hitl_mcp.clock import Clock
from hitl_mcp.deadlines import Deadlines
from hitl_mcp.store import open_sqlite
from tests.clocks import HandClock
from tests.samples import admit, held, tool_call, verdict


@pytest.mark.promise("R6")
async def test_a_call_expires_by_the_clock_alone(tmp_path: Path) -> None:
    """A call held for a moment is expired when that moment is over, with the event that tells everyone."""
    async with open_sqlite(tmp_path / "hitl.db", Clock()) as store, anyio.create_task_group() as tasks:
        tasks.start_soon(Deadlines(store, Clock()).run)
        with anyio.fail_after(10), store.follow() as feed:
            record = (await admit(store, tool_call(), Asked("c"), held(expires_in_seconds=1))).record
            while (event := await feed.next()) is None or event.status is not Status.EXPIRED:
                pass
        assert (await store.get(record.id)).closed_reason == "no one decided in time"
        tasks.cancel_scope.cancel()


async def test_a_later_call_with_an_earlier_deadline_wakes_the_sleeper(tmp_path: Path) -> None:
    """The sleep towards a far deadline does not delay a near one."""
    async with open_sqlite(tmp_path / "hitl.db", Clock()) as store, anyio.create_task_group() as tasks:
        far = (await admit(store, tool_call(agent="far"), Asked("c"), held(expires_in_seconds=3600))).record
        tasks.start_soon(Deadlines(store, Clock()).run)
        with anyio.fail_after(10), store.follow() as feed:
            near = (await admit(store, tool_call(agent="near"), Asked("c"), held(expires_in_seconds=1))).record
            while (event := await feed.next()) is None or event.status is not Status.EXPIRED:
                pass
        assert event.call_id == near.id
        assert (await store.get(far.id)).status is Status.HELD
        tasks.cancel_scope.cancel()


async def test_what_ran_out_while_nobody_looked_is_ended_at_once(tmp_path: Path) -> None:
    """At a start, calls whose time passed in the meantime expire first: an approval that ran out too."""
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store, anyio.create_task_group() as tasks:
        waiting = (await admit(store, tool_call(agent="a"), Asked("c"), held())).record
        approved = (await admit(store, tool_call(agent="b"), Asked("c"), held())).record
        await store.add_verdict(approved.id, verdict(approved.digest))
        clock.forward(3600)
        with anyio.fail_after(10), store.follow() as feed:
            tasks.start_soon(Deadlines(store, clock).run)
            ended = {(await feed.next()).call_id for _ in range(2)}  # type: ignore[union-attr]
        assert ended == {waiting.id, approved.id}
        tasks.cancel_scope.cancel()
