"""What every rule and signal made of a call, and what would change the decision. No I/O.

Nothing here is guessed: each change that is named was tried by deciding the changed call or policy. What a decision
alone can say stands in `explanation`.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hitl_mcp.calls import Decision, Effect
from hitl_mcp.canonical import canonical_text
from hitl_mcp.policy.budgets import take
from hitl_mcp.policy.conditions import ABSENT, Broken, Condition, Expression, Facts
from hitl_mcp.policy.decide import decide
from hitl_mcp.policy.explanation import Explanation, explained
from hitl_mcp.policy.history import MILLIONTHS, Asking, History, millionths_as_text, nothing_before
from hitl_mcp.policy.model import Budget, Policy, Rule, Signal
from hitl_mcp.policy.reasons import filled, legible
from hitl_mcp.policy.signals import Amount, Count, Rejections, Spend, Taint, Velocity, window_as_text
from hitl_mcp.policy.subject import Subject

__all__ = ["Change", "Crossing", "ExplainedCall", "Part", "explain"]

Kind = Literal["rule", "signal", "budget", "shadow"]
Item = Rule | Signal | Budget
Decides = Callable[[dict[str, Any]], Decision]

TRIED_VALUES = 200
"""The most changed calls that are tried; deciding one takes a few hundred microseconds."""

_PATH = re.compile(r"\s*(?:number\(\s*)?args((?:\.[A-Za-z_]\w*)+)\s*\)?\s*\Z")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
_TEXT = re.compile(r"\"((?:[^\"\\])*)\"|'((?:[^'\\])*)'")


@dataclass(frozen=True)
class Part:
    """What one rule, signal or budget made of the call.

    `counts`: it is part of the decision (of a shadow: it would be). `points` of `most` are a signal's. `why` says what
    makes it count, or keeps it from counting.
    """

    kind: Kind
    id: str
    counts: bool
    reason: str
    why: str
    effect: Effect | None = None
    points: int = 0
    most: int = 0


@dataclass(frozen=True)
class Change:
    """What would lead to another decision, tried out: something left out of the policy, or another argument."""

    what: str
    effect: Effect
    score: int
    band: str | None


@dataclass(frozen=True)
class Crossing:
    """Where an argument that signals grow with takes the score into a band: from `value` on, tried by deciding.

    `below` is the decision one step below.
    """

    signals: tuple[str, ...]
    argument: str
    value: float
    counted: str
    effect: Effect
    score: int
    band: str
    below: Effect


@dataclass(frozen=True)
class ExplainedCall:
    """A decision with everything that concerns its tool, and what would change it."""

    decision: Decision
    explanation: Explanation
    parts: tuple[Part, ...]
    without: tuple[Change, ...]
    changed: tuple[Change, ...]
    crossings: tuple[Crossing, ...]


def explain(policy: Policy, subject: Subject, history: History = nothing_before) -> ExplainedCall:
    """Decide a call and explain the decision."""
    decision = decide(policy, subject, history)

    def decides(arguments: dict[str, Any]) -> Decision:
        return decide(policy, replace(subject, arguments=arguments), history)

    return ExplainedCall(
        decision=decision,
        explanation=explained(decision),
        parts=tuple(_parts(policy, subject, history, decision)),
        without=tuple(_without(policy, subject, history, decision)),
        changed=tuple(_changed(policy, subject, history, decision, decides)),
        crossings=tuple(_crossings(policy, subject, history, decides)),
    )


# What each rule, signal and budget made of it.


def _parts(policy: Policy, subject: Subject, history: History, decision: Decision) -> Iterator[Part]:
    facts, concerned = Facts(subject), policy.concerning(subject.name)
    counted = {match.id for match in decision.rules}
    for rule in concerned.rules:
        yield _rule(rule, facts, "rule", rule.id in counted)
    for budget in concerned.budgets:
        taken = take(budget, facts, Asking(history))
        why = "the tool has no such argument" if taken is None else taken.error or taken.found
        yield Part("budget", budget.id, budget.id in counted, budget.reason, why, budget.over)
    points = {match.id: match for match in decision.signals}
    for signal in concerned.signals:
        match = points.get(signal.id)
        reason = filled(signal.reason, subject.arguments)
        why = _signal(signal, facts, history)
        part = Part("signal", signal.id, match is not None, reason, why, most=signal.points)
        yield replace(part, points=match.points) if match else part
    tried = {match.id for match in decision.shadows}
    for rule in concerned.shadows:
        yield _rule(rule, facts, "shadow", rule.id in tried)


def _rule(rule: Rule, facts: Facts, kind: Kind, counts: bool) -> Part:
    why = _tested(rule, facts) or ("it has no condition" if rule.unconditional else "its condition is met")
    return Part(kind, rule.id, counts, filled(rule.reason, facts.subject.arguments), why, rule.effect)


def _tested(item: Rule | Signal, facts: Facts) -> str:
    """What keeps a rule or a signal from counting, or what in it is broken; empty where nothing does."""
    broken = ""
    for key, condition, stops in (("when", item.when, False), ("unless", item.unless, True)):
        if condition is None:
            continue
        outcome = condition.test(facts)
        if isinstance(outcome, Broken):
            broken = broken or f"`{key}` could not be evaluated: {outcome.why}"
        elif outcome is stops:
            return f"`{key}` is {'true' if outcome else 'false'}: {_shown(condition)}{_lacks(condition, facts)}"
    return broken


def _lacks(expression: Expression, facts: Facts) -> str:
    names = sorted(facts.lacking(expression.reads)) if expression.reads else []
    return f" (the tool has no {', '.join(f'`{name}`' for name in names)})" if names else ""


def _shown(expression: Expression) -> str:
    return f"`{legible(' '.join(expression.text.split()))}`"


def _signal(signal: Signal, facts: Facts, history: History) -> str:
    if stopped := _tested(signal, facts):
        return stopped
    if signal.measure is None:
        return "its condition is met" if signal.when or signal.unless else "it always counts"
    reading = signal.measure.read(signal.id, facts, Asking(history))
    if reading.error is not None:
        return f"it counts in full, because it could not be evaluated: {reading.error}"
    found = reading.found
    measure = signal.measure
    if isinstance(measure, Amount | Count | Spend):
        value = measure.of.value(facts)
        if value is ABSENT:
            return f"the tool has nothing like {_shown(measure.of)}"
        found = (
            found if isinstance(measure, Count | Spend) else f"{_shown(measure.of)} is {legible(canonical_text(value))}"
        )
        return f"{found}; points from {measure.scale.low:,g} on, all of them at {measure.scale.high:,g}"
    if isinstance(measure, Velocity | Rejections):
        return f"{found}; it counts when there are more than {measure.above}"
    if isinstance(measure, Taint):
        called = "one" if reading.share else "none"
        return f"this agent called {called} of its tools within {window_as_text(measure.window_seconds)}"
    return found or "every value is known"


# What would change the decision.


def _without(policy: Policy, subject: Subject, history: History, decision: Decision) -> Iterator[Change]:
    """Each rule, budget and signal that counts, left out, where that leads to another decision."""
    for item in _counting(policy, subject, decision):
        other = decide(_left_out(policy, item), subject, history)
        if other.effect is not decision.effect or _asked(other) != _asked(decision):
            less = "" if other.effect is not decision.effect else f", then {_needs(other)}"
            yield _change(f"without {_kind(item)} `{item.id}`{less}", other)


def _counting(policy: Policy, subject: Subject, decision: Decision) -> list[Item]:
    concerned = policy.concerning(subject.name)
    ids = {match.id for match in decision.rules} | {match.id for match in decision.signals}
    items: list[Item] = [*concerned.rules, *concerned.budgets, *concerned.signals]
    return [item for item in items if item.id in ids]


def _left_out(policy: Policy, item: Item) -> Policy:
    return replace(
        policy,
        rules=tuple(rule for rule in policy.rules if rule is not item),
        budgets=tuple(budget for budget in policy.budgets if budget is not item),
        signals=tuple(signal for signal in policy.signals if signal is not item),
    )


def _kind(item: Item) -> str:
    return "rule" if isinstance(item, Rule) else "budget" if isinstance(item, Budget) else "signal"


def _asked(decision: Decision) -> list[str]:
    """Who must approve, each kind of people once."""
    asked = (f"{need.quorum} by {' or '.join(need.roles) or 'anyone'}" for need in decision.requirements)
    return sorted(set(asked))


def _needs(decision: Decision) -> str:
    return f"it needs {' and '.join(_asked(decision))}"


def _change(what: str, decision: Decision) -> Change:
    return Change(what, decision.effect, decision.score, decision.band)


def _changed(
    policy: Policy, subject: Subject, history: History, decision: Decision, decides: Decides
) -> Iterator[Change]:
    """Other arguments that lead to another decision: values that conditions name, and what a budget has left."""
    tried = 0
    found: dict[tuple[str, Effect], Change] = {}
    candidates = [*_from_budgets(policy, subject, history), *_from_conditions(policy, subject)]
    for path, value in dict.fromkeys((path, canonical_text(value)) for path, value in candidates):
        if (tried := tried + 1) > TRIED_VALUES:
            break
        other = decides(_with(subject.arguments, path, json.loads(value)))
        key = (".".join(path), other.effect)
        if other.effect is not decision.effect and key not in found:
            found[key] = _change(f"with `args.{key[0]}` {legible(value)}", other)
    yield from sorted(found.values(), key=lambda change: change.effect.strictness)


def _from_budgets(policy: Policy, subject: Subject, history: History) -> Iterator[tuple[tuple[str, ...], Any]]:
    facts = Facts(subject)
    for budget in policy.concerning(subject.name).budgets:
        asking = Asking(history)
        taken = take(budget, facts, asking)
        path = _path(budget.of)
        if taken is None or not taken.exceeded or taken.error or path is None:
            continue
        answer = asking.used[-1].answer
        mark = taken.marks[0]
        left = budget.limits[mark.value] - (answer if isinstance(answer, int) else 0)
        if left > 0:
            yield path, _number(left / MILLIONTHS)


def _from_conditions(policy: Policy, subject: Subject) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Values around the constants of each condition, the nearest to what the call has first."""
    concerned = policy.concerning(subject.name)
    both: tuple[Rule | Signal, ...] = (*concerned.rules, *concerned.signals)
    conditions = [one for item in both for one in (item.when, item.unless) if one is not None]
    for condition in conditions:
        for name in sorted(condition.reads & subject.arguments.keys()):
            present = subject.arguments[name]
            for value in _values(condition, present):
                yield (name,), value


def _values(condition: Condition, present: Any) -> list[Any]:
    if isinstance(present, bool):
        return [not present]
    if isinstance(present, int | float):
        step = 1 if isinstance(present, int) else 0.01
        constants = [_number(float(text)) for text in _NUMBER.findall(_TEXT.sub('""', condition.text))]
        values = [_number(round(one + by, 6)) for one in constants for by in (0, -step, step)]
        return sorted(values, key=lambda value: abs(value - present))
    if isinstance(present, str):
        return [double or single for double, single in _TEXT.findall(condition.text)]
    return []


def _number(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


# Where an amount crosses into a band.


def _crossings(policy: Policy, subject: Subject, history: History, decides: Decides) -> Iterator[Crossing]:
    """For each argument that signals grow with: the smallest value that takes the score into each band."""
    growing: dict[tuple[str, ...], list[_Growing]] = {}
    for one in _growing(policy, subject, history):
        growing.setdefault(one.path, []).append(one)
    for path, signals in growing.items():
        climb = _Climb(subject.arguments, path, signals, decides)
        yield from (crossing for band in policy.bands if (crossing := climb.into(band.floor)))


@dataclass(frozen=True)
class _Growing:
    """A signal that grows with one argument, and what earlier calls add to it."""

    signal: Signal
    measure: Amount | Count | Spend
    path: tuple[str, ...]
    before: float

    @property
    def full(self) -> float:
        """The value of the argument at which all points are there."""
        return self.measure.scale.high - self.before


def _growing(policy: Policy, subject: Subject, history: History) -> Iterator[_Growing]:
    facts = Facts(subject)
    for signal in policy.concerning(subject.name).signals:
        measure = signal.measure
        if not isinstance(measure, Amount | Count | Spend) or (path := _path(measure.of)) is None:
            continue
        asking = Asking(history)
        unread = _tested(signal, facts) or measure.read(signal.id, facts, asking).error
        fits = isinstance(_of(subject.arguments, path), list if isinstance(measure, Count) else int | float)
        if fits and not unread:
            answer = asking.used[-1].answer if isinstance(measure, Spend) else 0
            yield _Growing(signal, measure, path, answer / MILLIONTHS if isinstance(answer, int) else 0.0)


@dataclass(frozen=True)
class _Climb:
    """The way up of one argument, in steps: each value on it can be decided."""

    arguments: dict[str, Any]
    path: tuple[str, ...]
    growing: list[_Growing]
    decides: Decides

    def into(self, floor: int) -> Crossing | None:
        """Where the score enters the band from `floor`: there it is in it, one step below it is not."""
        lowest, highest = 0, math.ceil(max(one.full for one in self.growing) / self._step)
        if highest < 1 or self._decided(lowest).score >= floor or self._decided(highest).score < floor:
            return None
        while highest - lowest > 1:
            middle = (lowest + highest) // 2
            if self._decided(middle).score >= floor:
                highest = middle
            else:
                lowest = middle
        value, decision = self._value(highest), self._decided(highest)
        return Crossing(
            signals=tuple(one.signal.id for one in self.growing),
            argument="args." + ".".join(self.path),
            value=value,
            counted="; ".join(text for one in self.growing if (text := self._counted(one, value))),
            effect=decision.effect,
            score=decision.score,
            band=str(decision.band),
            below=self._decided(highest - 1).effect,
        )

    @property
    def _step(self) -> float:
        return 0.01 if isinstance(_of(self.arguments, self.path), float) else 1.0

    def _value(self, steps: int) -> int | float:
        return _number(round(steps * self._step, 2))

    def _decided(self, steps: int) -> Decision:
        value: Any = self._value(steps)
        if isinstance(present := _of(self.arguments, self.path), list):
            value = (present[:1] or ["x"]) * int(value)
        return self.decides(_with(self.arguments, self.path, value))

    def _counted(self, one: _Growing, value: float) -> str:
        if isinstance(one.measure, Count):
            return "entries"
        if not isinstance(one.measure, Spend):
            return ""
        total = millionths_as_text(round((value + one.before) * MILLIONTHS))
        return f"{total} within {window_as_text(one.measure.window_seconds)}"


def _path(expression: Expression | None) -> tuple[str, ...] | None:
    """The argument that an expression takes as it is, or None where it computes something."""
    found = _PATH.match(expression.text) if expression is not None else None
    return tuple(found[1][1:].split(".")) if found else None


def _of(arguments: Any, path: Sequence[str]) -> Any:
    for key in path:
        arguments = arguments.get(key) if isinstance(arguments, dict) else None
    return arguments


def _with(arguments: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """The arguments with one of them changed; the original stays as it is."""
    changed = copy.deepcopy(arguments)
    inner = changed
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner.get(key, {}), dict) else {}
    inner[path[-1]] = value
    return changed
