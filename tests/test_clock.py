"""Time as the gateway sees it: it follows the machine's clock forward, and never back."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hitl_mcp.calls import Status
from hitl_mcp.clock import Clock, from_text, to_text
from hitl_mcp.store import open_sqlite
from tests.clocks import NOON, HandClock
from tests.days import ASKED
from tests.samples import admit, held, tool_call, verdict


class Machine:
    """A machine whose clock can be set, beside the time that really passes."""

    def __init__(self) -> None:
        self.wall: datetime = NOON
        self.uptime_seconds = 100.0

    def clock(self) -> Clock:
        """The gateway's clock on this machine."""
        return Clock(wall=lambda: self.wall, monotonic=lambda: self.uptime_seconds)

    def goes_on(self, seconds: float) -> None:
        """Time passes."""
        self.wall += timedelta(seconds=seconds)
        self.uptime_seconds += seconds

    def is_set(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.wall += timedelta(seconds=seconds)


def test_a_clock_that_is_set_back_does_not_lengthen_anything() -> None:
    """Set back by an hour: our time goes on as if nothing had happened, and how far the clock stands behind is told."""
    machine = Machine()
    clock = machine.clock()
    machine.goes_on(60)
    machine.is_set(-3600)
    machine.goes_on(60)
    assert clock.now() == NOON + timedelta(seconds=120)
    assert clock.set_back_seconds == 3600
    machine.is_set(3600)
    assert (clock.now(), clock.set_back_seconds) == (NOON + timedelta(seconds=120), 0)


def test_a_clock_that_is_set_forward_is_followed() -> None:
    """A laptop that slept wakes up hours later: what ran out meanwhile has run out."""
    machine = Machine()
    clock = machine.clock()
    machine.is_set(7200)
    assert (clock.now(), clock.set_back_seconds) == (NOON + timedelta(seconds=7200), 0)


def test_a_clock_that_is_kept_right_is_no_news() -> None:
    """Less than a second behind is how time servers correct a clock."""
    machine = Machine()
    clock = machine.clock()
    machine.goes_on(10)
    machine.is_set(-0.4)
    assert (clock.now(), clock.set_back_seconds) == (NOON + timedelta(seconds=10), 0)


def test_a_time_is_written_and_read_alike() -> None:
    """Texts of a fixed width sort like the times they stand for."""
    later = NOON + timedelta(microseconds=1)
    assert from_text(to_text(NOON)) == NOON
    assert to_text(NOON) < to_text(later)


@pytest.mark.promise("R3")
async def test_an_approval_does_not_outlive_a_clock_that_was_set_back_while_the_gateway_was_stopped(
    tmp_path: Path,
) -> None:
    """How long ago it was approved nobody knows: it expires, and what is held can still be decided."""
    clock = HandClock()
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        approved = (await admit(store, tool_call(), ASKED, held())).record
        await store.add_verdict(approved.id, verdict(approved.digest))
        waiting = (await admit(store, tool_call(arguments_json="{}"), ASKED, held())).record
    clock.forward(-3600)
    async with open_sqlite(tmp_path / "hitl.db", clock) as store:
        await store.recover()
        after = await store.get(approved.id)
        assert (after.status, "was set back" in after.closed_reason) == (Status.EXPIRED, True)
        assert (await store.get(waiting.id)).status is Status.HELD
