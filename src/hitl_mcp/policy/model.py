"""A policy that has been read: rules, signals, bands, and which of them concern a tool. Frozen; no I/O.

How a policy is written stands in `written`, how it becomes this in `load`, what it says of a call in `decide`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from hitl_mcp.calls import Effect, Requirement
from hitl_mcp.limits import CONCERNED_TOOLS
from hitl_mcp.policy.conditions import Condition, Expression, ResultCondition, Together
from hitl_mcp.policy.history import Per
from hitl_mcp.policy.match import ToolNames
from hitl_mcp.policy.signals import Measure, Taint

__all__ = ["Band", "Budget", "Case", "Clocks", "Concerned", "Policy", "ProbeAsked", "ReadingAsked", "Rule", "Signal"]

MAXIMUM_SCORE = 100
"""Scores are points on a card that people add in their heads; the design's scale."""


@dataclass(frozen=True)
class Clocks:
    """How long people have, and how long an approval stays good."""

    expires_in_seconds: int = 24 * 3600
    run_within_seconds: int = 3600

    def shorter(self, other: Clocks) -> Clocks:
        """The shorter of each."""
        return Clocks(
            min(self.expires_in_seconds, other.expires_in_seconds),
            min(self.run_within_seconds, other.run_within_seconds),
        )


@dataclass(frozen=True)
class ReadingAsked:
    """The reading call that a rule asks for: a tool's full name, and where each argument comes from."""

    name: str
    arguments: Mapping[str, Expression]


@dataclass(frozen=True)
class ProbeAsked:
    """The reading call that tells what became of a call whose outcome is unknown, and how its result is read."""

    call: ReadingAsked
    happened: ResultCondition
    did_not: ResultCondition


@dataclass(frozen=True)
class Rule:
    """What happens to calls of some tools, under a condition. `requirement` and `clocks` matter where it holds.

    `separate`: the agent's own people do not count. `durable`: the record of an allowed call is flushed. `shadow`:
    only recorded, not enforced. `require_reason`: agents must say why they call these tools.
    """

    id: str
    tools: ToolNames
    effect: Effect
    reason: str
    requirement: Requirement
    when: Condition | None = None
    unless: Condition | None = None
    clocks: Clocks = field(default_factory=Clocks)
    separate: bool = False
    durable: bool = False
    shadow: bool = False
    require_reason: bool = False
    undo_seconds: int = 0
    preview: ReadingAsked | None = None
    probe: ProbeAsked | None = None

    @property
    def unconditional(self) -> bool:
        return self.when is None and self.unless is None

    @property
    def bound(self) -> str:
        """The rule's conditions as written, for whoever must comply with them."""
        when = self.when.text if self.when else ""
        unless = f"unless {self.unless.text}" if self.unless else ""
        return " ".join(part for part in (when, unless) if part)


@dataclass(frozen=True)
class Signal:
    """A named reason why calls of some tools are riskier, and the points it adds: in full, or as `measure` says."""

    id: str
    tools: ToolNames
    points: int
    reason: str
    when: Condition | None = None
    unless: Condition | None = None
    measure: Measure | None = None

    @property
    def bound(self) -> str:
        """What makes it add points, for whoever must do with fewer; empty where it always does."""
        when = self.when.text if self.when else ""
        unless = f"unless {self.unless.text}" if self.unless else ""
        parts = (self.measure.bound if self.measure else "", when, unless)
        return " and ".join(" ".join(part.split()) for part in parts if part)


@dataclass(frozen=True)
class Budget:
    """What calls of some tools may add up to within a window, per unit; beyond it, `over` is their effect.

    `limits` are in millionths, by unit (`""` where amounts have none). Without `of`, calls are counted.
    """

    id: str
    tools: ToolNames
    limits: Mapping[str, int]
    per: Per
    window_seconds: int
    over: Effect
    reason: str
    requirement: Requirement
    of: Expression | None = None
    unit: Expression | None = None
    clocks: Clocks = field(default_factory=Clocks)


@dataclass(frozen=True)
class Band:
    """What a score from `floor` on means, up to the next band. `requirement` matters where it holds."""

    floor: int
    effect: Effect
    requirement: Requirement

    @property
    def id(self) -> str:
        return f"band-{self.floor}"


@dataclass(frozen=True)
class Case:
    """A call and what the policy must say of it: data beside the rules, run by `cases`.

    `given` is what history says to signals and budgets, by their ids. `rules` and `signals` must be among those that
    matched; a `score` of None may be any.
    """

    name: str
    file: str
    line: int
    tool: str
    arguments: Mapping[str, Any]
    agent: str
    owner: str | None
    labels: Mapping[str, str]
    now: datetime
    given: Mapping[str, Any]
    effect: Effect
    rules: tuple[str, ...]
    signals: tuple[str, ...]
    score: int | None


@dataclass(frozen=True)
class Concerned:
    """The rules that name one tool, the strictest first, and signals and budgets in the order they were written.

    `shadows` are rules that are not enforced, `taints` the ids of signals for which calling this tool taints the agent.
    """

    rules: tuple[Rule, ...]
    signals: tuple[Signal, ...]
    budgets: tuple[Budget, ...] = ()
    shadows: tuple[Rule, ...] = ()
    taints: tuple[str, ...] = ()

    @cached_property
    def together(self) -> Together:
        """All conditions of the rules and signals, to be evaluated at once."""
        conditions = [condition for rule in (*self.rules, *self.shadows) for condition in (rule.when, rule.unless)]
        conditions += [condition for signal in self.signals for condition in (signal.when, signal.unless)]
        return Together(condition for condition in conditions if condition is not None)

    @cached_property
    def remembers(self) -> bool:
        """Whether deciding looks at earlier calls, or leaves something for later ones."""
        asks = any(signal.measure is not None and signal.measure.remembers for signal in self.signals)
        return asks or bool(self.budgets) or bool(self.taints)


@dataclass(frozen=True)
class Policy:
    """A whole policy. `version` is the digest of `written`, what its files say as canonical JSON without their cases.

    `bands` go from the lowest to the highest.
    """

    version: str
    written: str = field(default="", repr=False, compare=False)
    default: Effect = Effect.HOLD
    requirement: Requirement = field(default_factory=lambda: Requirement("default"))
    clocks: Clocks = field(default_factory=Clocks)
    bands: tuple[Band, ...] = ()
    signals: tuple[Signal, ...] = ()
    rules: tuple[Rule, ...] = ()
    budgets: tuple[Budget, ...] = ()
    cases: tuple[Case, ...] = ()
    _known: dict[str, Concerned] = field(default_factory=dict, init=False, repr=False, compare=False)

    def concerning(self, name: str) -> Concerned:
        """The rules and signals that name a tool; remembered, so that a decision looks at nothing else."""
        concerned = self._known.get(name)
        if concerned is None:
            rules = sorted(
                (rule for rule in self.rules if rule.tools.match(name)), key=lambda rule: -rule.effect.strictness
            )
            concerned = Concerned(
                rules=tuple(rule for rule in rules if not rule.shadow),
                signals=tuple(signal for signal in self.signals if signal.tools.match(name)),
                budgets=tuple(budget for budget in self.budgets if budget.tools.match(name)),
                shadows=tuple(rule for rule in rules if rule.shadow),
                taints=tuple(
                    signal.id
                    for signal in self.signals
                    if isinstance(signal.measure, Taint) and signal.measure.sources.match(name)
                ),
            )
            if len(self._known) >= CONCERNED_TOOLS:
                self._known.clear()
            self._known[name] = concerned
        return concerned

    def names(self, name: str) -> bool:
        """Whether some rule, signal or budget is about this tool, or the resource or prompt of this name."""
        concerned = self.concerning(name)
        return any((concerned.rules, concerned.signals, concerned.budgets, concerned.shadows, concerned.taints))

    def band(self, score: int) -> Band | None:
        """The band a score is in: the highest that starts at or below it."""
        return next((band for band in reversed(self.bands) if band.floor <= score), None)

    def may_hold(self, name: str) -> bool:
        """Whether some call of this tool could be held. True where in doubt."""
        concerned = self.concerning(name)
        if any(rule.effect is Effect.DENY and rule.unconditional for rule in concerned.rules):
            return False
        if any(rule.effect is Effect.HOLD for rule in concerned.rules):
            return True
        if any(budget.over is Effect.HOLD for budget in concerned.budgets):
            return True
        reachable = self.reachable_score(name)
        if any(band.effect is Effect.HOLD and band.floor <= reachable for band in self.bands):
            return True
        return self.default is Effect.HOLD and not self._always_allowed_by_a_rule(concerned)

    def reachable_score(self, name: str) -> int:
        """The most that a call of this tool can score."""
        return min(MAXIMUM_SCORE, sum(signal.points for signal in self.concerning(name).signals))

    def requires_reason(self, name: str) -> bool:
        """Whether an agent must say why it calls this tool."""
        return any(rule.require_reason for rule in self.concerning(name).rules)

    def wants_reason(self, name: str) -> bool:
        """Whether the agent should say why it calls this tool: no rule allows it without a condition."""
        return not self._always_allowed_by_a_rule(self.concerning(name))

    @staticmethod
    def _always_allowed_by_a_rule(concerned: Concerned) -> bool:
        return any(rule.effect is Effect.ALLOW and rule.unconditional for rule in concerned.rules)
