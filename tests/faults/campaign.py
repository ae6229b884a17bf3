"""What every campaign is: so many rounds of a fault from a seed, and what it counted. No faults stand here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Tally:
    """What a campaign counted: how often what happened, and every breach of a promise with what replays it."""

    counts: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """Count something that may happen."""
        self.counts[what] += number

    def breach(self, what: str, where: str) -> None:
        """Note something that must never happen; `where` says how to see it again, such as the round's own seed."""
        self.counts[what] += 1
        self.breaches.append(f"{what}: {where}")

    def never(self, *what: str) -> None:
        """Name what must never happen, so that its zero stands in the report."""
        for one in what:
            self.counts[one] += 0


@dataclass(frozen=True)
class Campaign:
    """A campaign by its name; `run(rounds, seed, folder)` plays it in an empty folder.

    The same seed plays the same rounds: round N of seed S is round 0 of a campaign of one round with seed S + N.
    """

    name: str
    says: str
    short: int
    long: int
    run: Callable[[int, int, Path], Tally]
