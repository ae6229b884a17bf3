"""No process of an upstream outlives the gateway, however the gateway ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.orphans import CAMPAIGN


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends the children of a killed process")
def test_a_killed_gateway_leaves_no_upstream_behind(short_dir: Path) -> None:
    """Killed when ready, in a call, while it starts and while it stops, and stopped as one should: all are gone."""
    tally = CAMPAIGN.run(CAMPAIGN.short, 0, short_dir)
    assert tally.breaches == []
    assert tally.counts["kills"] == 4
    assert tally.counts["clean stops"] == 1
    assert tally.counts["upstream processes running then"] >= 30
