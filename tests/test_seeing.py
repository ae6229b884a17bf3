"""Who looks at what, since when, and how fast and uniformly people answer."""

from __future__ import annotations

from datetime import timedelta

from hitl_mcp.limits import FIRST_SIGHTS, LOOKED_AT_CALLS, LOOKING_SECONDS
from hitl_mcp.seeing import Seeing, pace
from hitl_mcp.store.reviewers import Answered
from tests.clocks import NOON


def test_whoever_has_a_call_open_is_named_to_the_others_until_their_page_falls_silent() -> None:
    """Oneself is not among the others; half a minute after the last word somebody is gone."""
    seeing = Seeing()
    assert seeing.look("c_1", "dana", NOON) == ()
    assert seeing.look("c_1", "lee", NOON) == ("dana",)
    assert seeing.look("c_2", "sam", NOON) == ()
    later = NOON + timedelta(seconds=LOOKING_SECONDS - 1)
    assert seeing.look("c_1", "lee", later) == ("dana",)
    assert seeing.others("c_1", "sam", later) == ("dana", "lee")
    assert seeing.others("c_1", "sam", NOON + timedelta(seconds=LOOKING_SECONDS)) == ("lee",)
    assert seeing.others("c_1", "sam", later + timedelta(seconds=LOOKING_SECONDS)) == ()


def test_what_is_remembered_has_a_bound() -> None:
    """Calls that are looked at and first sights are given up, the oldest first."""
    seeing = Seeing()
    for number in range(LOOKED_AT_CALLS + 1):
        seeing.look(f"c_{number}", "dana", NOON)
    assert seeing.others("c_0", "lee", NOON) == ()
    assert seeing.others("c_1", "lee", NOON) == ("dana",)
    for number in range(FIRST_SIGHTS + 1):
        seeing.shown(f"sha256:{number}", "dana", NOON)
    assert seeing.considered_seconds("sha256:0", "dana", NOON) is None
    assert seeing.considered_seconds("sha256:1", "dana", NOON) == 0


def test_how_long_one_looked_counts_from_the_first_sight_of_the_very_bytes() -> None:
    """Looking again does not begin anew; other bytes do, and other people have their own time."""
    seeing = Seeing()
    seeing.shown("sha256:a", "dana", NOON)
    seeing.shown("sha256:a", "dana", NOON + timedelta(seconds=50))
    at = NOON + timedelta(seconds=61.26)
    assert seeing.considered_seconds("sha256:a", "dana", at) == 61.3
    assert seeing.considered_seconds("sha256:b", "dana", at) is None
    assert seeing.considered_seconds("sha256:a", "lee", at) is None


def test_a_week_of_verdicts_becomes_figures() -> None:
    """Times are those of approvals, as far as known; a streak is ended by a rejection."""
    dana = [(True, 2.0), (True, 4.0), (False, 1.0), (True, None), (True, 60.0), (True, 6.0)]
    week = [Answered("lee", False, None), *(Answered("dana", approved, seconds) for approved, seconds in dana)]
    assert pace(week) == [
        {
            "reviewer": "dana",
            "approvals": 5,
            "rejections": 1,
            "median_seconds": 5.0,
            "fastest_seconds": 2.0,
            "under_5_seconds": 2,
            "share_approved": 0.833,
            "longest_streak": 3,
        },
        {
            "reviewer": "lee",
            "approvals": 0,
            "rejections": 1,
            "median_seconds": None,
            "fastest_seconds": None,
            "under_5_seconds": 0,
            "share_approved": 0.0,
            "longest_streak": 0,
        },
    ]
    assert pace([]) == []
