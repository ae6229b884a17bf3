"""The one explanation of a decision: a sentence for people, then the points, which add up to the score. No I/O.

Page, command line and agents all show this, each in its own look. It is made from the decision alone, so what was
decided years ago reads as it did then. What every rule made of a call, and what would change it, stands in `explain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hitl_mcp.calls import Decision, Effect, HistoryUsed, RuleMatch, SignalMatch
from hitl_mcp.policy import reasons
from hitl_mcp.policy.history import About, millionths_as_text
from hitl_mcp.policy.model import MAXIMUM_SCORE

__all__ = ["Explanation", "explained"]

_OUTSET = {Effect.ALLOW: "Allowed", Effect.HOLD: "Held", Effect.DENY: "Denied"}


@dataclass(frozen=True)
class Explanation:
    """Why a decision is as it is.

    `why` are the reasons beside the points, the strictest first. `total` is the sum of the points, which is the score
    unless it is more than 100. `shadows` and `told` (what history said) are for people, not for agents. `denied_by`
    names the rules, the budgets and the band that deny.
    """

    effect: Effect
    why: tuple[str, ...]
    score: int
    points: tuple[SignalMatch, ...]
    shadows: tuple[str, ...]
    told: tuple[str, ...]
    denied_by: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The one sentence that says it."""
        return f"{_OUTSET[self.effect]}: {self.why[0]}" if self.why else _OUTSET[self.effect]

    @property
    def total(self) -> int:
        return sum(match.points for match in self.points)

    @property
    def addition(self) -> str:
        """The points as a sum: `45 + 25 = 70 of 100 points`."""
        if not self.points:
            return f"{self.score} of {MAXIMUM_SCORE} points"
        terms = " + ".join(str(match.points) for match in self.points)
        capped = f", counted as {self.score}" if self.total != self.score else ""
        return f"{terms} = {self.total}{capped} of {MAXIMUM_SCORE} points"

    @property
    def in_a_line(self) -> str:
        """All of it that concerns whoever asked, for a text that cannot hold a table."""
        said = "; ".join(self.why)
        if not self.points:
            return said
        parts = "; ".join(f"{reasons.by_signal(match)} (signal `{match.id}`)" for match in self.points)
        return f"{said}{'. ' if said else ''}Risk {self.addition}: {parts}"


def explained(decision: Decision) -> Explanation:
    """The explanation of a decision."""
    by_points = {reasons.by_signal(match) for match in decision.signals}
    return Explanation(
        effect=decision.effect,
        why=tuple(reason for reason in decision.reasons if reason not in by_points),
        score=decision.score,
        points=tuple(sorted(decision.signals, key=lambda match: -match.points)),
        shadows=tuple(_shadow(match) for match in decision.shadows),
        told=tuple(_told(used) for used in decision.history),
        denied_by=tuple(_denied_by(decision)),
    )


def _denied_by(decision: Decision) -> Iterator[str]:
    """What denies the call. Its sentences tell a budget from a rule, and a band that denies from one that holds."""
    for match in decision.rules:
        if match.effect == Effect.DENY:
            yield f"{'budget' if reasons.by_budget(match) in decision.reasons else 'rule'} `{match.id}`"
    if decision.band is not None:
        sentence = reasons.by_band(decision.score, int(decision.band.removeprefix("band-")), Effect.DENY)
        if any(reason.startswith(sentence) for reason in decision.reasons):
            yield f"band `{decision.band}`"


def _shadow(match: RuleMatch) -> str:
    error = f" (could not be evaluated: {match.error})" if match.error else ""
    return f"rule `{match.id}` would say {match.effect}: {match.reason}{error}"


def _told(used: HistoryUsed) -> str:
    """What history said to a signal or a budget, in words."""
    if not isinstance(used.answer, int):
        return f"`{used.item}`: {_many(len(used.answer), 'value')} of the call known"
    if used.about in (About.SPENT, About.TAKEN):
        return f"`{used.item}`: {millionths_as_text(used.answer)} before this call"
    kinds = {About.REJECTED.value: "rejected call", About.READ.value: "call that may steer the agent"}
    return f"`{used.item}`: {_many(used.answer, kinds.get(used.about, 'earlier call'))}"


def _many(count: int, noun: str) -> str:
    head, _, rest = noun.partition("call")
    plural = f"{head}calls{rest}" if rest or noun.endswith("call") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
