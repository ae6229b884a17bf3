"""What the policy says of one call. Pure: the same policy, subject and history give the same decision.

The decision is the strictest of: every rule that matches, every budget that is exceeded, the band the score is in, and
the default where no rule matches. What cannot be evaluated only ever makes it stricter. How rules are written and read
is no matter of this module.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import NamedTuple

from hitl_mcp.calls import Decision, Effect, Mark, Probe, ReadingCall, Requirement, RuleMatch, SignalMatch
from hitl_mcp.canonical import canonical_text
from hitl_mcp.people import LOCAL
from hitl_mcp.policy import reasons
from hitl_mcp.policy.budgets import Taken, take
from hitl_mcp.policy.conditions import ABSENT, Broken, Condition, Facts
from hitl_mcp.policy.history import Asking, History, nothing_before
from hitl_mcp.policy.match import offer_parts
from hitl_mcp.policy.model import MAXIMUM_SCORE, Band, Clocks, Concerned, Policy, ReadingAsked, Rule, Signal
from hitl_mcp.policy.signals import IN_FULL, taint_marks
from hitl_mcp.policy.subject import Subject

__all__ = ["decide"]


class _Weighed(NamedTuple):
    """A rule that could concern the call: whether it matches, and what in it could not be evaluated."""

    rule: Rule
    matches: bool
    reason: str
    error: str | None

    def as_match(self) -> RuleMatch:
        return RuleMatch(self.rule.id, self.rule.effect, self.reason, self.error)


class _Read(NamedTuple):
    """A signal that concerns the call: its points, if it adds any, and what it leaves for later calls."""

    match: SignalMatch | None
    marks: tuple[Mark, ...]


class _Found(NamedTuple):
    """Everything that makes the decision."""

    weighed: list[_Weighed]
    exceeded: list[Taken]
    signals: list[SignalMatch]
    score: int
    band: Band | None
    default: Effect | None

    @property
    def matching(self) -> list[_Weighed]:
        return [one for one in self.weighed if one.matches]


def decide(policy: Policy, subject: Subject, history: History = nothing_before) -> Decision:
    """Decide one call. Never raises: what goes wrong inside a condition is part of the decision."""
    facts, asking = Facts(subject), Asking(history)
    concerned = policy.concerning(subject.name)
    facts.known = concerned.together.results(facts)
    weighed = [one for rule in concerned.rules if (one := _weighed(rule, facts))]
    matching = [one for one in weighed if one.matches]
    readings = [read for signal in concerned.signals if (read := _read(signal, facts, asking))]
    signals = sorted((one.match for one in readings if one.match), key=lambda match: -match.points)
    budgets = [taken for budget in concerned.budgets if (taken := take(budget, facts, asking))]
    exceeded = [one for one in budgets if one.exceeded]
    score = min(MAXIMUM_SCORE, sum(match.points for match in signals))
    band = policy.band(score)
    default = _default(policy, subject.name, matching)
    effect = _strictest(
        *(one.rule.effect for one in matching),
        *(one.budget.over for one in exceeded),
        band.effect if band else None,
        default,
    )
    found = _Found(weighed, exceeded, signals, score, band, default)
    holds = _holds(policy, found, facts) if effect is Effect.HOLD else []
    clocks = reduce(Clocks.shorter, (clocks for _, clocks in holds), holds[0][1] if holds else policy.clocks)
    marks = [mark for read in readings for mark in read.marks] + [mark for taken in budgets for mark in taken.marks]
    shadows = (one for rule in concerned.shadows if (one := _weighed(rule, facts)) and one.matches)
    return Decision(
        effect=effect,
        score=score,
        policy=policy.version,
        reasons=_sentences(effect, found, concerned),
        rules=(*(one.as_match() for one in matching), *(_as_match(one) for one in exceeded)),
        signals=tuple(signals),
        band=band.id if band else None,
        requirements=tuple(requirement for requirement, _ in holds),
        expires_in_seconds=clocks.expires_in_seconds,
        run_within_seconds=clocks.run_within_seconds,
        undo_seconds=max((one.rule.undo_seconds for one in matching), default=0) if effect is Effect.HOLD else 0,
        shadows=tuple(one.as_match() for one in shadows),
        history=tuple(asking.used),
        durable=any(one.rule.durable for one in matching),
        previews=_previews(matching, facts) if effect is Effect.HOLD else (),
        probes=_probes(matching, facts) if effect is not Effect.DENY else (),
        marks=() if effect is Effect.DENY else (*marks, *taint_marks(concerned.taints, facts)),
    )


def _weighed(rule: Rule, facts: Facts) -> _Weighed | None:
    """Whether a rule matches. What is broken restricts: it counts for `hold` and `deny`, and never for `allow`."""
    when = _test(rule.when, facts, unwritten=True)
    if when is False:
        return None
    unless = _test(rule.unless, facts, unwritten=False)
    if unless is True:
        return None
    error = _why_broken(when, unless)
    matches = error is None or rule.effect is not Effect.ALLOW
    reason = reasons.filled(rule.reason, facts.subject.arguments) if matches else rule.reason
    return _Weighed(rule, matches, reason, error)


def _read(signal: Signal, facts: Facts, asking: Asking) -> _Read | None:
    """A signal's share in the score; a broken one counts in full."""
    when = _test(signal.when, facts, unwritten=True)
    if when is False:
        return None
    unless = _test(signal.unless, facts, unwritten=False)
    if unless is True:
        return None
    reading = IN_FULL if signal.measure is None else signal.measure.read(signal.id, facts, asking)
    error = _why_broken(when, unless)
    error = reading.error if error is None else error
    points = signal.points if error is not None else round(signal.points * reading.share)
    if not points and signal.measure is not None:
        return _Read(None, reading.marks)
    reason = reasons.with_found(reasons.filled(signal.reason, facts.subject.arguments), reading.found)
    return _Read(SignalMatch(signal.id, points, reason, error), reading.marks)


def _as_match(taken: Taken) -> RuleMatch:
    """An exceeded budget's share in the decision."""
    return RuleMatch(
        taken.budget.id, taken.budget.over, reasons.with_found(taken.budget.reason, taken.found), taken.error
    )


def _test(condition: Condition | None, facts: Facts, *, unwritten: bool) -> bool | Broken:
    return unwritten if condition is None else condition.test(facts)


def _why_broken(when: bool | Broken, unless: bool | Broken) -> str | None:
    """Why a condition could not be evaluated, None where both could."""
    if isinstance(when, Broken):
        return when.why
    return unless.why if isinstance(unless, Broken) else None


def _default(policy: Policy, name: str, matching: list[_Weighed]) -> Effect | None:
    """The policy's default where no rule matches. A rule that matches only because it is broken displaces nothing.

    What is no tool passes unless a rule says otherwise: the default is about calls.
    """
    if any(one.error is None for one in matching):
        return None
    return policy.default if offer_parts(name) is None else Effect.ALLOW


def _strictest(*effects: Effect | None) -> Effect:
    return max((effect for effect in effects if effect), key=lambda effect: effect.strictness)


def _holds(policy: Policy, found: _Found, facts: Facts) -> list[tuple[Requirement, Clocks]]:
    """What must be met, and how fast: by each rule or budget that holds, the band and the default if they hold."""
    holds = [(_asked(one.rule, facts), one.rule.clocks) for one in found.matching if one.rule.effect is Effect.HOLD]
    holds += [(one.budget.requirement, one.budget.clocks) for one in found.exceeded if one.budget.over is Effect.HOLD]
    if found.band and found.band.effect is Effect.HOLD:
        holds.append((found.band.requirement, policy.clocks))
    if found.default is Effect.HOLD:
        holds.append((policy.requirement, policy.clocks))
    return holds


def _asked(rule: Rule, facts: Facts) -> Requirement:
    """A rule's requirement; where it asks for separate people, the agent's owner is barred.

    An agent that nobody is named as the owner of is taken to be that of the person at this machine.
    """
    if not rule.separate:
        return rule.requirement
    return replace(rule.requirement, barred=(facts.subject.owner or LOCAL,))


def _previews(matching: list[_Weighed], facts: Facts) -> tuple[ReadingCall, ...]:
    """The reading calls that rules ask for, with their arguments taken from this call."""
    return tuple(
        _reading(one.rule.id, one.rule.preview, facts) for one in matching if one.rule.preview and one.error is None
    )


def _probes(matching: list[_Weighed], facts: Facts) -> tuple[Probe, ...]:
    """The reading calls that could tell what became of this call."""
    return tuple(
        Probe(_reading(one.rule.id, asked.call, facts), asked.happened.text, asked.did_not.text)
        for one in matching
        if (asked := one.rule.probe) and one.error is None
    )


def _reading(rule: str, asked: ReadingAsked, facts: Facts) -> ReadingCall:
    values = {name: expression.value(facts) for name, expression in asked.arguments.items()}
    broken = next((value.why for value in values.values() if isinstance(value, Broken)), None)
    if broken is not None:
        return ReadingCall(rule, asked.name, error=broken)
    present = {name: value for name, value in values.items() if value is not ABSENT}
    return ReadingCall(rule, asked.name, canonical_text(present))


def _bounds(found: _Found, concerned: Concerned) -> list[str]:
    """What made the signals add points, each with the id that it has in the score."""
    counted = {match.id for match in found.signals}
    return [f"{one.id}: {one.bound}" for one in concerned.signals if one.id in counted and one.bound]


def _sentences(effect: Effect, found: _Found, concerned: Concerned) -> tuple[str, ...]:
    """Why, for people and agents: the strictest first, what would have allowed it but is broken, then the signals."""
    said = [
        (rule.effect, reasons.by_rule(rule.id, rule.effect, one.reason, rule.bound, one.error))
        for one in found.weighed
        if one.matches and ((rule := one.rule).effect is not Effect.ALLOW or effect is Effect.ALLOW)
    ]
    said += [(one.budget.over, reasons.by_budget(_as_match(one))) for one in found.exceeded]
    if found.default:
        said.append((found.default, reasons.by_default(found.default, other=bool(said))))
    if found.band:
        bounds = _bounds(found, concerned) if found.band.effect is Effect.DENY else ()
        said.append((found.band.effect, reasons.by_band(found.score, found.band.floor, found.band.effect, bounds)))
    said.sort(key=lambda one: -one[0].strictness)
    failed = [reasons.allow_failed(one.rule.id, one.error) for one in found.weighed if one.error and not one.matches]
    return (*(sentence for _, sentence in said), *failed, *(reasons.by_signal(match) for match in found.signals))
