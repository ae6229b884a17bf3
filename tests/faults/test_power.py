"""The power campaign in its short form: the cuts really cost something, and nothing that was acknowledged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults import power
from tests.faults.recorded_disk import Platter, Step

SEED = 200
"""A record in which a flush fails, and one in which none does."""


@pytest.mark.promise("R1")
@pytest.mark.promise("R2")
@pytest.mark.promise("R4")
def test_power_cuts_lose_nothing_acknowledged_and_weaker_settings_do(tmp_path: Path) -> None:
    """Every cut leaves a whole database with all that was acknowledged; flushing less, or a lying disk, does not."""
    tally = power.run(power.CAMPAIGN.short, SEED, tmp_path)
    assert tally.breaches == []
    assert tally.counts["cuts"] == power.CUTS_OF_A_RECORD
    assert tally.counts["cuts in a record with a flush that failed"] == power.CUTS_OF_A_RECORD
    for control in ("NORMAL", "OFF", power.LYING):
        assert tally.counts[f"control, {control}: cuts that lost or corrupted"] > 0, control


def test_a_cut_can_be_seen_again_by_its_seed(tmp_path: Path) -> None:
    """A round alone is the same round as among others: the same record, the same moment, the same remains."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, again = (power._recorded(3, power.OURS, tmp_path / one) for one in ("a", "b"))
    assert [(step.kind, step.file, step.offset, len(step.data)) for step in first.steps] == [
        (step.kind, step.file, step.offset, len(step.data)) for step in again.steps
    ]
    assert first.certain == again.certain


MADE = Step("made", 1, "a", with_folder=True)
WRITE = Step("write", 1, data=b"x" * 1024)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_flushed_is_on_the_platter_whatever_the_cut_takes(seed: int) -> None:
    """A flush makes certain what stood in the file, and nothing that came after."""
    platter, chance = Platter(), random.Random(seed)
    for step in (MADE, WRITE, Step("flush", 1), Step("write", 1, offset=1024, data=b"y" * 1024)):
        platter.play(step, chance)
    found = platter.after_a_cut(chance)["a"]
    assert found[:1024] == WRITE.data
    assert set(found[1024:]) <= set(b"y\0")


def test_a_cut_takes_any_part_of_what_was_not_flushed() -> None:
    """Whole, in part by sectors, or nothing; a disk that lies keeps no promise."""
    remains = set()
    for seed in range(200):
        platter, chance = Platter(), random.Random(seed)
        for step in (MADE, WRITE):
            platter.play(step, chance)
        remains.add(platter.after_a_cut(chance)["a"])
    assert {b"", b"x" * 512, b"\0" * 512 + b"x" * 512, WRITE.data} <= remains
    lying, chance = Platter(lies=True), random.Random(1)
    for step in (MADE, WRITE, Step("flush", 1)):
        lying.play(step, chance)
    assert any(lying.after_a_cut(random.Random(seed)).get("a", b"") != WRITE.data for seed in range(20))
