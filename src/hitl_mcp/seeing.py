"""Who is looking at which call now, and since when a reviewer has seen it. In memory: a restart knows of nobody.

What somebody *decided* is the store's. This only says how long they looked before, by the gateway's own clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from hitl_mcp.limits import FIRST_SIGHTS, LOOKED_AT_CALLS, LOOKING_SECONDS
from hitl_mcp.store.reviewers import Answered

QUICK_SECONDS = 5
"""An approval given sooner is hardly more than a reflex: reading ten short arguments takes longer."""


@dataclass(eq=False)
class Seeing:
    """Who looks, and since when; `now` is the gateway's own clock."""

    _looking: OrderedDict[str, dict[str, datetime]] = field(default_factory=OrderedDict)
    _first_sights: OrderedDict[tuple[str, str], datetime] = field(default_factory=OrderedDict)

    def look(self, call_id: str, reviewer: str, now: datetime) -> tuple[str, ...]:
        """Note that a reviewer has this call open now; the names of the others who have."""
        self._looking.setdefault(call_id, {})[reviewer] = now
        self._looking.move_to_end(call_id)
        while len(self._looking) > LOOKED_AT_CALLS:
            self._looking.popitem(last=False)
        return self.others(call_id, reviewer, now)

    def others(self, call_id: str, reviewer: str, now: datetime) -> tuple[str, ...]:
        """Who else has this call open, as far as their pages said so of late."""
        there = self._looking.get(call_id, {})
        for name in [name for name, at in there.items() if (now - at).total_seconds() >= LOOKING_SECONDS]:
            del there[name]
        if not there:
            self._looking.pop(call_id, None)
        return tuple(sorted(name for name in there if name != reviewer))

    def shown(self, digest: str, reviewer: str, now: datetime) -> None:
        """Note that a reviewer is shown the bytes of this digest; what counts is the first time."""
        self._first_sights.setdefault((reviewer, digest), now)
        while len(self._first_sights) > FIRST_SIGHTS:
            self._first_sights.popitem(last=False)

    def considered_seconds(self, digest: str, reviewer: str, now: datetime) -> float | None:
        """How long ago this reviewer was first shown these bytes, in tenths; None where nobody knows."""
        at = self._first_sights.get((reviewer, digest))
        return round((now - at).total_seconds(), 1) if at is not None else None


def pace(week: Iterable[Answered]) -> list[dict[str, Any]]:
    """How fast and how uniformly each reviewer answered, from the verdicts of a week, the oldest first."""
    given: dict[str, list[Answered]] = {}
    for one in week:
        given.setdefault(one.reviewer, []).append(one)
    return [{"reviewer": name, **_figures(verdicts)} for name, verdicts in sorted(given.items())]


def _figures(verdicts: Sequence[Answered]) -> dict[str, Any]:
    """The figures of one reviewer; the times are those of approvals, as far as they are known."""
    approvals = sum(one.approved for one in verdicts)
    times = [one.considered_seconds for one in verdicts if one.approved and one.considered_seconds is not None]
    return {
        "approvals": approvals,
        "rejections": len(verdicts) - approvals,
        "median_seconds": round(median(times), 1) if times else None,
        "fastest_seconds": min(times, default=None),
        "under_5_seconds": sum(seconds < QUICK_SECONDS for seconds in times),
        "share_approved": round(approvals / len(verdicts), 3),
        "longest_streak": _longest_streak(verdicts),
    }


def _longest_streak(verdicts: Iterable[Answered]) -> int:
    """The most approvals in a row, with no rejection between."""
    longest = streak = 0
    for one in verdicts:
        streak = streak + 1 if one.approved else 0
        longest = max(longest, streak)
    return longest
