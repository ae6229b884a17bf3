"""Plays every campaign of faults, or those named, and writes what they counted. `scripts/faults` runs this."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import pkgutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tests.faults
from tests.faults.campaign import Campaign, Tally


def campaigns() -> dict[str, Campaign]:
    """Every campaign of this package by name: each module's `CAMPAIGN`, or its `CAMPAIGNS`."""
    found: dict[str, Campaign] = {}
    for module in sorted(pkgutil.iter_modules(tests.faults.__path__), key=lambda one: one.name):
        if module.name.startswith(("test_", "__")):
            continue
        loaded = importlib.import_module(f"tests.faults.{module.name}")
        for campaign in (*getattr(loaded, "CAMPAIGNS", ()), *filter(None, [getattr(loaded, "CAMPAIGN", None)])):
            found[campaign.name] = campaign
    return found


def play(campaign: Campaign, rounds: int, seed: int) -> tuple[Tally, dict[str, Any]]:
    """Play one campaign in a folder of its own; its tally, and the same as plain values."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="f", dir="/tmp") as folder:  # Unix sockets need a short path
        tally = campaign.run(rounds, seed, Path(folder))
    figures = {
        "campaign": campaign.name,
        "rounds": rounds,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "counts": dict(sorted(tally.counts.items())),
        "breaches": tally.breaches,
    }
    return tally, figures


def main() -> int:
    """0 where no promise was broken, 1 where one was."""
    known = campaigns()
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all where none is named")
    parser.add_argument("--long", action="store_true", help="as many rounds as docs/reliability.md tells of: hours")
    parser.add_argument("--rounds", type=int, help="so many rounds instead")
    parser.add_argument("--seed", type=int, default=1, help="the same seed plays the same rounds")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args()
    if wrong := [name for name in asked.names if name not in known]:
        parser.error(f"no campaign `{wrong[0]}`; there are {', '.join(known)}")
    logging.disable(logging.CRITICAL)  # what the gateway has to say of thousands of faults
    everything: list[dict[str, Any]] = []
    for name in asked.names or known:
        campaign = known[name]
        rounds = asked.rounds or (campaign.long if asked.long else campaign.short)
        print(f"{name}: {campaign.says}; {rounds} rounds from seed {asked.seed}", flush=True)
        tally, figures = play(campaign, rounds, asked.seed)
        everything.append(figures)
        for what, number in figures["counts"].items():
            print(f"  {number:>8} {what}")
        for breach in tally.breaches:
            print(f"  BREACH {breach}")
        print(f"  {len(tally.breaches)} breaches, {figures['seconds']} s", flush=True)
        if asked.json:
            Path(asked.json).write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    return 1 if any(figures["breaches"] for figures in everything) else 0


if __name__ == "__main__":
    sys.exit(main())
