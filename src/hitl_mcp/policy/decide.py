"""What the policy says of one call. Pure: the same policy and the same subject give the same decision.

The decision is the strictest of: every rule that matches, the band the score is in, and the default where no rule
matches. What cannot be evaluated only ever makes it stricter. How rules are written and read is no matter of this
module.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

from hitl_mcp.calls import Decision, Effect, Requirement, RuleMatch, SignalMatch
from hitl_mcp.policy import reasons
from hitl_mcp.policy.conditions import Broken, Condition, Facts
from hitl_mcp.policy.model import MAXIMUM_SCORE, Band, Clocks, Policy, Rule, Signal
from hitl_mcp.policy.subject import Subject

__all__ = ["decide"]


class _Weighed(NamedTuple):
    """A rule that could concern the call: whether it matches, and what in it could not be evaluated."""

    rule: Rule
    matches: bool
    reason: str
    error: str | None


def decide(policy: Policy, subject: Subject) -> Decision:
    """Decide one call. Never raises: what goes wrong inside a condition is part of the decision."""
    facts = Facts(subject)
    concerned = policy.concerning(subject.name)
    weighed = [one for rule in concerned.rules if (one := _weighed(rule, facts))]
    matching = [one for one in weighed if one.matches]
    found = (_signal_match(signal, facts) for signal in concerned.signals)
    signals = sorted((match for match in found if match), key=lambda match: -match.points)
    score = min(MAXIMUM_SCORE, sum(match.points for match in signals))
    band = policy.band(score)
    default = _default(policy, matching)
    effect = _strictest(*(one.rule.effect for one in matching), band.effect if band else None, default)
    holds = _holds(policy, matching, band, default) if effect is Effect.HOLD else []
    clocks = reduce(Clocks.shorter, (clocks for _, clocks in holds), holds[0][1] if holds else policy.clocks)
    return Decision(
        effect=effect,
        score=score,
        policy=policy.version,
        reasons=_sentences(effect, weighed, default, band, score, signals),
        rules=tuple(RuleMatch(one.rule.id, one.rule.effect, one.reason, one.error) for one in matching),
        signals=tuple(signals),
        band=band.id if band else None,
        requirements=tuple(requirement for requirement, _ in holds),
        expires_in_seconds=clocks.expires_in_seconds,
        run_within_seconds=clocks.run_within_seconds,
    )


def _weighed(rule: Rule, facts: Facts) -> _Weighed | None:
    """Whether a rule matches. What is broken restricts: it counts for `hold` and `deny`, and never for `allow`."""
    when = _test(rule.when, facts, unwritten=True)
    if when is False:
        return None
    unless = _test(rule.unless, facts, unwritten=False)
    if unless is True:
        return None
    error = next((test.why for test in (when, unless) if isinstance(test, Broken)), None)
    matches = error is None or rule.effect is not Effect.ALLOW
    reason = reasons.filled(rule.reason, facts.subject.arguments) if matches else rule.reason
    return _Weighed(rule, matches, reason, error)


def _signal_match(signal: Signal, facts: Facts) -> SignalMatch | None:
    """A signal's share in the score; a broken one counts in full."""
    when = _test(signal.when, facts, unwritten=True)
    if when is False:
        return None
    error = when.why if isinstance(when, Broken) else None
    return SignalMatch(signal.id, signal.points, reasons.filled(signal.reason, facts.subject.arguments), error)


def _test(condition: Condition | None, facts: Facts, *, unwritten: bool) -> bool | Broken:
    return unwritten if condition is None else condition.test(facts)


def _default(policy: Policy, matching: list[_Weighed]) -> Effect | None:
    """The policy's default where no rule matches. A rule that matches only because it is broken displaces nothing."""
    return policy.default if all(one.error is not None for one in matching) else None


def _strictest(*effects: Effect | None) -> Effect:
    return max((effect for effect in effects if effect), key=lambda effect: effect.strictness)


def _holds(
    policy: Policy, matching: list[_Weighed], band: Band | None, default: Effect | None
) -> list[tuple[Requirement, Clocks]]:
    """What must be met, and how fast: by each rule that holds, the band if it holds, the default if it holds."""
    holds = [(one.rule.requirement, one.rule.clocks) for one in matching if one.rule.effect is Effect.HOLD]
    if band and band.effect is Effect.HOLD:
        holds.append((band.requirement, policy.clocks))
    if default is Effect.HOLD:
        holds.append((policy.requirement, policy.clocks))
    return holds


def _sentences(
    effect: Effect,
    weighed: list[_Weighed],
    default: Effect | None,
    band: Band | None,
    score: int,
    signals: list[SignalMatch],
) -> tuple[str, ...]:
    """Why, for people and agents: the strictest first, what would have allowed it but is broken, then the signals."""
    said = [
        (rule.effect, reasons.by_rule(rule.id, rule.effect, one.reason, rule.bound, one.error))
        for one in weighed
        if one.matches and ((rule := one.rule).effect is not Effect.ALLOW or effect is Effect.ALLOW)
    ]
    if default:
        said.append((default, reasons.by_default(default, other=bool(said))))
    if band:
        said.append((band.effect, reasons.by_band(score, band.floor, band.effect)))
    said.sort(key=lambda one: -one[0].strictness)
    failed = [reasons.allow_failed(one.rule.id, one.error) for one in weighed if one.error and not one.matches]
    return (*(sentence for _, sentence in said), *failed, *(reasons.by_signal(match) for match in signals))
