"""The kinds of signals: what one reads in a call or its history, and how much of its points that adds. No I/O.

A signal without a measure adds its points in full. What a measure cannot read counts in full, with the reason.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from hitl_mcp.calls import Mark
from hitl_mcp.canonical import canonical_text, digest_of
from hitl_mcp.limits import COUNTED_VALUES
from hitl_mcp.policy.conditions import ABSENT, Broken, Expression, Facts
from hitl_mcp.policy.history import About, Asking, Per, Question, in_millionths, millionths_as_text
from hitl_mcp.policy.match import ToolNames

__all__ = [
    "IN_FULL",
    "Amount",
    "Count",
    "Measure",
    "Novelty",
    "Reading",
    "Rejections",
    "Scale",
    "Spend",
    "Taint",
    "Velocity",
    "amount_of",
    "scope_of",
    "taint_marks",
    "unit_of",
    "window_as_text",
]


@dataclass(frozen=True)
class Reading:
    """What a measure says: the share of the points (0 to 1), what was read, for people, and what is left for later."""

    share: float
    found: str = ""
    error: str | None = None
    marks: tuple[Mark, ...] = ()


IN_FULL = Reading(1.0)
"""What a signal without a measure says."""

NOTHING = Reading(0.0)
"""The measure does not concern the call, or found nothing."""


class Measure(Protocol):
    """One kind of signal. `remembers`: it asks for earlier calls."""

    @property
    def remembers(self) -> bool: ...

    @property
    def bound(self) -> str:
        """What makes it add points, for whoever must do with fewer."""
        ...

    def read(self, item: str, facts: Facts, asking: Asking) -> Reading:
        """Read one call for the signal `item`."""
        ...


@dataclass(frozen=True)
class _OfValue(ABC):
    """A measure of a value in the call. What is absent does not concern it, and what is broken counts in full."""

    of: Expression

    def read(self, item: str, facts: Facts, asking: Asking) -> Reading:
        value = self.of.value(facts)
        if value is ABSENT:
            return NOTHING
        if isinstance(value, Broken):
            return Reading(1.0, error=value.why)
        return self.weigh(value, item, facts, asking)

    @abstractmethod
    def weigh(self, value: Any, item: str, facts: Facts, asking: Asking) -> Reading:
        """Read the call for the signal `item`, where `of` has a value."""


@dataclass(frozen=True)
class Scale:
    """From no points at `low` to all of them at `high`, growing with the logarithm between."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """The share of the points that a value adds."""
        if value <= self.low:
            return 0.0
        if value >= self.high:
            return 1.0
        return math.log(value / self.low) / math.log(self.high / self.low)


@dataclass(frozen=True)
class Amount(_OfValue):
    """Grows with a number in the call."""

    scale: Scale
    remembers = False

    @property
    def bound(self) -> str:
        return f"{self.of.text} above {self.scale.low:g}"

    def weigh(self, value: Any, item: str, facts: Facts, asking: Asking) -> Reading:
        amount = amount_of(value)
        if isinstance(amount, Broken):
            return Reading(1.0, error=amount.why)
        return Reading(self.scale.share(amount / 10**6))


@dataclass(frozen=True)
class Count(_OfValue):
    """Grows with how many entries a list has; a text is one, nothing is none."""

    scale: Scale
    remembers = False

    @property
    def bound(self) -> str:
        return f"more than {self.scale.low:g} {_noun(self.scale.low, 'entry', 'entries')} in {self.of.text}"

    def weigh(self, value: Any, item: str, facts: Facts, asking: Asking) -> Reading:
        entries = len(_entries(value))
        return Reading(self.scale.share(entries), found=f"{entries} {_noun(entries, 'entry', 'entries')}")


@dataclass(frozen=True)
class Novelty(_OfValue):
    """In full where a value is new: no call with it has succeeded on a person's approval within the window."""

    per: Per
    window_seconds: int
    remembers = True

    @property
    def bound(self) -> str:
        return f"a value of {self.of.text} that is new"

    def weigh(self, value: Any, item: str, facts: Facts, asking: Asking) -> Reading:
        entries = _entries(value)
        if len(entries) > COUNTED_VALUES:
            return Reading(1.0, error=f"there are more than {COUNTED_VALUES} values")
        by_digest = {digest_of(entry): entry for entry in entries}
        if not by_digest:
            return NOTHING
        scope = scope_of(self.per, facts)
        question = Question(item, About.KNOWN, scope, self.window_seconds, tuple(sorted(by_digest)))
        new = by_digest.keys() - asking.known(question)
        shown = ", ".join(sorted(canonical_text(by_digest[digest]) for digest in new))
        marks = tuple(Mark(item, scope, digest) for digest in sorted(by_digest))
        return Reading(1.0 if new else 0.0, found=f"new: {shown}" if new else "", marks=marks)


@dataclass(frozen=True)
class Velocity:
    """In full where there are more calls than `above` within the window, this one included."""

    per: Per
    window_seconds: int
    above: int
    remembers = True

    @property
    def bound(self) -> str:
        return (
            f"more than {self.above} {_noun(self.above, 'call', 'calls')} within {window_as_text(self.window_seconds)}"
        )

    def read(self, item: str, facts: Facts, asking: Asking) -> Reading:
        scope = scope_of(self.per, facts)
        calls = asking.number(Question(item, About.ASKED, scope, self.window_seconds)) + 1
        found = f"{calls} {_noun(calls, 'call', 'calls')} within {window_as_text(self.window_seconds)}"
        return Reading(float(calls > self.above), found=found, marks=(Mark(item, scope),))


@dataclass(frozen=True)
class Rejections:
    """In full where people rejected more calls than `above` within the window."""

    per: Per
    window_seconds: int
    above: int
    remembers = True

    @property
    def bound(self) -> str:
        calls = f"rejected {_noun(self.above, 'call', 'calls')}"
        return f"more than {self.above} {calls} within {window_as_text(self.window_seconds)}"

    def read(self, item: str, facts: Facts, asking: Asking) -> Reading:
        scope = scope_of(self.per, facts)
        calls = asking.number(Question(item, About.REJECTED, scope, self.window_seconds))
        found = f"{calls} rejected within {window_as_text(self.window_seconds)}"
        return Reading(float(calls > self.above), found=found, marks=(Mark(item, scope),))


@dataclass(frozen=True)
class Spend(_OfValue):
    """Grows with what calls within the window add up to, this one included; each unit is added up apart."""

    unit: Expression | None
    per: Per
    window_seconds: int
    scale: Scale
    remembers = True

    @property
    def bound(self) -> str:
        return f"{self.of.text} above {self.scale.low:g} within {window_as_text(self.window_seconds)}"

    def weigh(self, value: Any, item: str, facts: Facts, asking: Asking) -> Reading:
        amount, unit = amount_of(value), unit_of(self.unit, facts)
        if isinstance(amount, Broken) or isinstance(unit, Broken):
            return Reading(1.0, error=next(bad.why for bad in (amount, unit) if isinstance(bad, Broken)))
        scope = scope_of(self.per, facts)
        before = asking.number(Question(item, About.SPENT, scope, self.window_seconds, (unit,)))
        total = before + amount
        found = f"{millionths_as_text(total)}{f' {unit}' if unit else ''} within {window_as_text(self.window_seconds)}"
        return Reading(self.scale.share(total / 10**6), found=found, marks=(Mark(item, scope, unit, amount),))


@dataclass(frozen=True)
class Taint:
    """In full where this agent called one of the `sources` within the window: what it read may steer it."""

    sources: ToolNames
    window_seconds: int
    remembers = True

    @property
    def bound(self) -> str:
        return f"what was read within {window_as_text(self.window_seconds)}"

    def read(self, item: str, facts: Facts, asking: Asking) -> Reading:
        scope = scope_of(OF_AGENT, facts)
        calls = asking.number(Question(item, About.READ, scope, self.window_seconds))
        return Reading(float(calls > 0))


OF_AGENT = Per(("agent",))
"""What an agent has read stays with the agent, whichever connection it uses."""


def scope_of(per: Per, facts: Facts) -> str:
    """The account that a call is on."""
    subject = facts.subject
    return per.scope(subject.agent, subject.name, subject.upstream)


def taint_marks(sources: Iterable[str], facts: Facts) -> tuple[Mark, ...]:
    """What a call of a tool leaves that taints its agent, for each signal that names the tool as a source."""
    return tuple(Mark(item, scope_of(OF_AGENT, facts)) for item in sources)


def unit_of(unit: Expression | None, facts: Facts) -> str | Broken:
    """The unit of an amount, `""` where none is written."""
    if unit is None:
        return ""
    value = unit.value(facts)
    if isinstance(value, Broken):
        return value
    if not isinstance(value, str) or not value or len(value) > UNIT_CHARACTERS:
        return Broken("the unit is not a short text")
    return value


NO_AMOUNT = "it is not an amount: a number that is finite, not negative and not enormous"

UNIT_CHARACTERS = 40
"""A currency has three; a unit is a word, never a payload."""


def window_as_text(seconds: int) -> str:
    """A window as policies write it: `90d`, `1h`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def amount_of(value: Any) -> int | Broken:
    """A value as an amount in millionths, or why it is none."""
    if isinstance(value, Broken):
        return value
    amount = in_millionths(value)
    return Broken(NO_AMOUNT) if amount is None else amount


def _entries(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [[key, entry] for key, entry in value.items()]
    return value if isinstance(value, list) else [value]


def _noun(count: float, one: str, several: str) -> str:
    """What is counted, in the singular where it is one."""
    return one if count == 1 else several
