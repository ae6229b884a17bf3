"""The one source of time, and the one way a time is written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Wall-clock time in UTC. Tests replace it with one they can move."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def to_text(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC with microseconds: fixed width, so that texts sort like times."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def from_text(text: str) -> datetime:
    """Read a time written by `to_text`."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def after(moment: datetime, seconds: float) -> datetime:
    """The time `seconds` after `moment`."""
    return moment + timedelta(seconds=seconds)


def for_people(text: str) -> str:
    """A stored time without its fraction, as people read it."""
    return text[:19] + "Z"
