"""A policy that has been read: rules, signals, bands, and which of them concern a tool. Frozen; no I/O.

How a policy is written stands in `written`, how it becomes this in `load`, what it says of a call in `decide`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hitl_mcp.calls import Effect, Requirement
from hitl_mcp.limits import CONCERNED_TOOLS
from hitl_mcp.policy.conditions import Condition
from hitl_mcp.policy.match import ToolNames

__all__ = ["Band", "Clocks", "Concerned", "Policy", "Rule", "Signal"]

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
class Rule:
    """What happens to calls of some tools, under a condition. `requirement` and `clocks` matter where it holds."""

    id: str
    tools: ToolNames
    effect: Effect
    reason: str
    requirement: Requirement
    when: Condition | None = None
    unless: Condition | None = None
    clocks: Clocks = field(default_factory=Clocks)

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
    """A named reason why calls of some tools are riskier, and the points it adds."""

    id: str
    tools: ToolNames
    points: int
    reason: str
    when: Condition | None = None


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
class Concerned:
    """The rules that name one tool, the strictest first, and the signals, in the order they were written."""

    rules: tuple[Rule, ...]
    signals: tuple[Signal, ...]


@dataclass(frozen=True)
class Policy:
    """A whole policy. `version` is the digest of what its files say; `bands` go from the lowest to the highest."""

    version: str
    default: Effect = Effect.HOLD
    requirement: Requirement = field(default_factory=lambda: Requirement("default"))
    clocks: Clocks = field(default_factory=Clocks)
    bands: tuple[Band, ...] = ()
    signals: tuple[Signal, ...] = ()
    rules: tuple[Rule, ...] = ()
    _known: dict[str, Concerned] = field(default_factory=dict, init=False, repr=False, compare=False)

    def concerning(self, name: str) -> Concerned:
        """The rules and signals that name a tool; remembered, so that a decision looks at nothing else."""
        concerned = self._known.get(name)
        if concerned is None:
            rules = (rule for rule in self.rules if rule.tools.match(name))
            concerned = Concerned(
                tuple(sorted(rules, key=lambda rule: -rule.effect.strictness)),
                tuple(signal for signal in self.signals if signal.tools.match(name)),
            )
            if len(self._known) >= CONCERNED_TOOLS:
                self._known.clear()
            self._known[name] = concerned
        return concerned

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
        reachable = min(MAXIMUM_SCORE, sum(signal.points for signal in concerned.signals))
        if any(band.effect is Effect.HOLD and band.floor <= reachable for band in self.bands):
            return True
        return self.default is Effect.HOLD and not self._always_allowed_by_a_rule(concerned)

    def wants_reason(self, name: str) -> bool:
        """Whether the agent should say why it calls this tool: no rule allows it without a condition."""
        return not self._always_allowed_by_a_rule(self.concerning(name))

    @staticmethod
    def _always_allowed_by_a_rule(concerned: Concerned) -> bool:
        return any(rule.effect is Effect.ALLOW and rule.unconditional for rule in concerned.rules)
