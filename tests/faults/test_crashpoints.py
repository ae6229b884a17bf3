"""Wherever the gateway dies, nothing that anyone was told is lost, and nothing happens twice or unapproved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.crash_stories import POINTS, cases
from tests.faults.crashpoints import CAMPAIGN


@pytest.mark.promise("R1")
@pytest.mark.promise("R2")
@pytest.mark.promise("R3")
def test_a_gateway_that_dies_at_any_of_its_places_keeps_every_promise(short_dir: Path) -> None:
    """A dozen and more of the places, each of which is reached; the long form takes all, with every upstream."""
    tally = CAMPAIGN.run(CAMPAIGN.short, 20261122, short_dir)
    assert tally.breaches == []
    assert tally.counts["crashes"] == CAMPAIGN.short


def test_the_long_form_dies_at_each_place_of_each_story_with_each_upstream() -> None:
    """No case comes twice, and what is played is what the stories name."""
    played = cases()
    assert len(set(played)) == len(played) >= 400
    assert {case.story for case in played} == set(POINTS)
