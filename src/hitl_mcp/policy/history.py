"""What signals and budgets ask of earlier calls, and how an amount is counted. No I/O: the store answers.

A decision asks, and keeps what it was told (`HistoryUsed`), so that it can be made again from the record alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from functools import lru_cache

from hitl_mcp.calls import Answer, HistoryUsed
from hitl_mcp.canonical import canonical_text

__all__ = ["About", "History", "Per", "Question", "in_millionths", "millionths_as_text", "nothing_before", "replayed"]

MILLIONTHS = 10**6
"""Amounts are added as whole millionths: sums of binary fractions would drift past a limit, or stay below it."""

LARGEST_AMOUNT = 10**12
"""More than anything a budget is about; the sum of a million such amounts still fits an integer of 64 bits."""


class About(StrEnum):
    """What is asked of earlier calls."""

    KNOWN = "known"  # which of the values a call succeeded or was released with, on a person's approval
    ASKED = "asked"  # how many calls there were that were not denied
    REJECTED = "rejected"  # how many calls people rejected
    SPENT = "spent"  # the amount of calls that ran or still may
    TAKEN = "taken"  # the same for a budget: never answered from an older decision
    READ = "read"  # how many calls ran that may have brought in untrusted or secret content


@dataclass(frozen=True)
class Question:
    """One question about earlier calls, this one left out. `values` are the digests or the unit that it is about."""

    item: str
    about: About
    scope: str
    window_seconds: int
    values: tuple[str, ...] = ()


History = Callable[[Question], Answer]
"""Whoever answers. For `KNOWN` the answer is those of the values that are known, for all others a number."""


def nothing_before(question: Question) -> Answer:
    """The history of a gateway on its first day."""
    return () if question.about is About.KNOWN else 0


def replayed(used: Iterable[HistoryUsed], live: History) -> History:
    """What a decision was told, told again; `live` is asked for what it was not told, and for budgets always."""
    told = {(one.item, one.about): one.answer for one in used if one.about != About.TAKEN}

    def answer(question: Question) -> Answer:
        known = told.get((question.item, question.about.value))
        return live(question) if known is None else known

    return answer


@dataclass(frozen=True)
class Per:
    """Whose calls are counted together: those of one agent, of one tool, of one upstream, or (empty) all calls."""

    by: tuple[str, ...] = ()

    def scope(self, agent: str, name: str, upstream: str) -> str:
        """The account that a call is on."""
        return _scope(self.by, agent, name, upstream)


@lru_cache(maxsize=4096)  # the agents and tools that are busy at a time
def _scope(by: tuple[str, ...], agent: str, name: str, upstream: str) -> str:
    whose = {"agent": agent, "tool": name, "upstream": upstream}
    return canonical_text({key: whose[key] for key in by})


@dataclass
class Asking:
    """Asks a history on behalf of one decision, and keeps what it was told."""

    history: History
    used: list[HistoryUsed] = field(default_factory=list)

    def number(self, question: Question) -> int:
        """The answer to a question for a number."""
        answer = self._ask(question)
        return answer if isinstance(answer, int) else 0

    def known(self, question: Question) -> frozenset[str]:
        """The answer to a question for known values; what was never asked for is not among them."""
        answer = self._ask(question)
        return frozenset(answer).intersection(question.values) if isinstance(answer, tuple) else frozenset()

    def _ask(self, question: Question) -> Answer:
        answer = self.history(question)
        self.used.append(HistoryUsed(question.item, question.about.value, answer))
        return answer


def in_millionths(value: object) -> int | None:
    """A number as whole millionths, rounded up; None for what is no amount: negative, infinite, too much, no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if not 0 <= value <= LARGEST_AMOUNT:
        return None
    return int((Decimal(str(value)) * MILLIONTHS).to_integral_value(rounding=ROUND_CEILING))


def millionths_as_text(amount: int) -> str:
    """An amount as people write it: `12.5`."""
    whole, rest = divmod(amount, MILLIONTHS)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
