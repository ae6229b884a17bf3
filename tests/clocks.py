"""A clock that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hitl_mcp.clock import Clock

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


class HandClock(Clock):
    """Stands still until it is moved."""

    def __init__(self, start: datetime = NOON) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    @property
    def set_back_seconds(self) -> float:
        """Whoever moves it back says so."""
        return 0.0

    def forward(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
