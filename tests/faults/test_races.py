"""Of many who act at once, one wins, and the others are told; many writers make one chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.races import CAMPAIGNS, PEOPLE, WRITERS

REVIEWERS_RACE, WRITERS_RACE = CAMPAIGNS


@pytest.mark.promise("R3")
def test_of_a_hundred_people_who_decide_at_once_one_settles_the_call(short_dir: Path) -> None:
    """Over the page's API, approvals and rejections mixed; who comes too late is answered 409 with what the call is."""
    tally = REVIEWERS_RACE.run(REVIEWERS_RACE.short, 20261122, short_dir)
    assert tally.breaches == []
    assert tally.counts["verdicts"] == REVIEWERS_RACE.short * len(PEOPLE) == 400


def test_many_writers_write_one_chain(tmp_path: Path) -> None:
    """Sixteen of them, with refused steps between: numbers without a gap, every link right, all of it signed."""
    tally = WRITERS_RACE.run(WRITERS_RACE.short, 20261122, tmp_path)
    assert tally.breaches == []
    assert tally.counts["events"] >= WRITERS_RACE.short
    assert tally.counts["steps that were refused between them"] > WRITERS
