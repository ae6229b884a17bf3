"""The disk campaign in its short form: every kind of fault is really met, and none breaks a promise."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.faults import disk

SEED = 0


@pytest.mark.promise("R4")
def test_whatever_the_disk_does_nothing_runs_unrecorded_and_work_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Full, failing, locked, limited: effects, record and answers agree, and work goes on when the fault ends."""
    with caplog.at_level(logging.CRITICAL):
        tally = disk.run(disk.CAMPAIGN.short, SEED, tmp_path)
    assert tally.breaches == []
    # Descriptors that run out are not felt by the store: what it needs is open.
    for fault in disk.FAULTS[:-1]:
        assert tally.counts[f"faults met: {fault.name}"] > 0, fault.name
    assert tally.counts["calls refused"] > 0
    assert tally.counts["resumed by itself"] > 0
    assert tally.counts["resumed after a restart"] > 0
