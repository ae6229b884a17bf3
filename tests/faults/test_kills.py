"""A gateway that is killed again and again, in the middle of work, loses nothing and does nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kills import CAMPAIGN


@pytest.mark.promise("R3")
def test_a_gateway_that_is_killed_again_and_again_keeps_every_promise(short_dir: Path) -> None:
    """A few kills of gateways on one record, some while they start; all that was held meanwhile is decided at last."""
    tally = CAMPAIGN.run(CAMPAIGN.short, 20261122, short_dir)
    assert tally.breaches == []
    assert tally.counts["kills while it worked"] + tally.counts["kills while it started"] == CAMPAIGN.short
    assert min(tally.counts[what] for what in ("calls", "effects", "verdicts accepted")) > 0
