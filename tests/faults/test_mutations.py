"""Whatever is changed in the record behind the gateway's back is found by verifying it."""

from __future__ import annotations

from pathlib import Path

from tests.faults.mutations import CAMPAIGN


def test_every_mutation_of_the_record_is_found(tmp_path: Path) -> None:
    """Rows changed, deleted and added in every table that the chain attests; none goes unseen."""
    tally = CAMPAIGN.run(CAMPAIGN.short, 20261122, tmp_path)
    assert tally.breaches == []
    assert min(tally.counts[kind] for kind in ("update", "delete", "insert")) >= 10
