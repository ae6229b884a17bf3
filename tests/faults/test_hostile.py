"""Upstreams that misbehave cost a call its outcome at worst: never the truth about it, and never another call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.hostile import CAMPAIGN, PLAYS


@pytest.mark.promise("R5")
def test_hostile_upstreams_harm_nobody_else(short_dir: Path) -> None:
    """Outcomes are honest, nothing happens twice or for ever, and every call to the healthy upstream is answered."""
    tally = CAMPAIGN.run(CAMPAIGN.short, 0, short_dir)
    assert tally.breaches == []
    assert tally.counts["rounds"] == CAMPAIGN.short
    assert tally.counts["effects"] >= CAMPAIGN.short // 2
    assert tally.counts["upstreams reported down"] >= 1
    for transport in ("stdio", "http"):
        assert tally.counts[f"{transport}: unknown"] >= 5
        assert tally.counts[f"{transport}: succeeded"] >= 2


def test_there_are_enough_ways_to_misbehave() -> None:
    """At least 25 on each transport, and most of them are played on both."""
    played = [{behaviour.name for behaviour, where in PLAYS if where == transport} for transport in ("stdio", "http")]
    assert min(map(len, played)) >= 25
    assert len(played[0] & played[1]) >= 25
