"""A desk for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.clocks import HandClock
from tests.surfaces.desk import Desk, open_desk
from tests.surfaces.seats import DESKTOP, Seat, seat_at


@pytest.fixture
def clock() -> HandClock:
    """Time as this test wants it."""
    return HandClock()


@pytest.fixture
async def desk(tmp_path: Path, clock: HandClock) -> AsyncIterator[Desk]:
    """The review API and page, running."""
    async with open_desk(tmp_path / "hitl.db", clock) as running:
        yield running


@pytest.fixture
def viewport() -> dict[str, int]:
    """A desktop's screen; `SIZES` puts others in its place."""
    return DESKTOP


@pytest.fixture
async def dana(desk: Desk, browser: Browser, viewport: dict[str, int]) -> AsyncIterator[Seat]:
    """Dana's browser, not signed in yet."""
    async with seat_at(desk, browser, viewport=viewport) as seat:
        yield seat
