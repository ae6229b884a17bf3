"""The one source of time, and the one way a time is written down."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

SET_BACK_SECONDS = 1.0
"""From when on a clock that stands behind was set back; less is how clocks are kept right."""


def _wall() -> datetime:
    return datetime.now(UTC)


class Clock:
    """Wall-clock time in UTC that never goes back while this process lives. Tests replace it with one they can move.

    Whoever sets the machine's clock back would otherwise lengthen every approval; set forward, it is followed at once.
    """

    def __init__(self, wall: Callable[[], datetime] = _wall, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._from, self._since_seconds = wall(), monotonic()

    def now(self) -> datetime:
        wall, seconds = self._wall(), self._monotonic()
        expected = self._from + timedelta(seconds=seconds - self._since_seconds)
        if wall < expected:
            return expected
        self._from, self._since_seconds = wall, seconds
        return wall

    @property
    def set_back_seconds(self) -> float:
        """How far behind the machine's clock stands since it was set back; 0 where it was not."""
        behind = (self.now() - self._wall()).total_seconds()
        return behind if behind >= SET_BACK_SECONDS else 0.0


def to_text(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC with microseconds: fixed width, so that texts sort like times."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def from_text(text: str) -> datetime:
    """Read a time written by `to_text`.

    Not by `strptime`, which opens a module of its own when it is first used: that fails where no descriptor is free.
    """
    return datetime.fromisoformat(text).astimezone(UTC)


def after(moment: datetime, seconds: float) -> datetime:
    """The time `seconds` after `moment`."""
    return moment + timedelta(seconds=seconds)


def for_people(text: str) -> str:
    """A stored time without its fraction, as people read it."""
    return text[:19] + "Z"
