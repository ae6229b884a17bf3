"""Whatever happens to calls in whatever order, the store is what a model of a few lines says."""

from __future__ import annotations

from pathlib import Path

from tests.faults.machine import CAMPAIGN


def test_histories_of_calls_with_crashes_between_and_within_steps_are_as_the_model_says(tmp_path: Path) -> None:
    """Histories from a fixed seed: statuses, verdicts, claims, hand-overs and erasures, and a chain that verifies."""
    tally = CAMPAIGN.run(CAMPAIGN.short, 20261122, tmp_path)
    assert tally.breaches == []
    wanted = ("crashes between steps", "crashes in the middle of a step", "approvals", "edits", "claims", "outcomes")
    assert min(tally.counts[what] for what in wanted) > 0
