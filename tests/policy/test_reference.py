"""The decision against a small model of it, over a hundred thousand random calls; and what never loosens it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import pytest

from hitl_mcp.calls import Answer
from hitl_mcp.policy import Policy, decide
from hitl_mcp.policy.history import About, Question
from tests.policy.written import policy_of, subject_of

POLICIES, CALLS = 1000, 100
"""Reading a policy costs a hundred decisions, so each is asked about many calls."""

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}
"""The tools have `a` and `b`, and no `c`."""

STRICTNESS = ["allow", "hold", "deny"]
TOOLS = ["up__read", "up__write", "other__read"]
GLOBS = ["up__*", "*__read", "up__write", "*__*", "other__*"]
ERROR = "error"


@dataclass(frozen=True)
class Literal:
    """`args.a > 3.0`, or its negation."""

    name: str
    above: float
    positive: bool

    @property
    def text(self) -> str:
        return f"args.{self.name} > {self.above}" if self.positive else f"!(args.{self.name} > {self.above})"


@dataclass(frozen=True)
class Formula:
    """One or two literals, joined."""

    literals: tuple[Literal, ...]
    joined: str = "&&"

    @property
    def text(self) -> str:
        return f" {self.joined} ".join(literal.text for literal in self.literals)


@dataclass(frozen=True)
class Rule:
    id: str
    tool: str
    effect: str
    when: Formula | None = None
    unless: Formula | None = None

    @property
    def text(self) -> str:
        conditions = [f"{key}: '{formula.text}'" for key in ("when", "unless") if (formula := getattr(self, key))]
        parts = [f"id: {self.id}", f"tool: {self.tool!r}", f"effect: {self.effect}", *conditions, "reason: r"]
        return f"{{{', '.join(parts)}}}"


@dataclass(frozen=True)
class Signal:
    id: str
    tool: str
    points: int
    when: Formula | None
    above: int | None

    @property
    def text(self) -> str:
        kind = f", velocity: {{window: 1h, above: {self.above}}}" if self.above is not None else ""
        when = f", when: '{self.when.text}'" if self.when else ""
        return f"{{id: {self.id}, tool: {self.tool!r}, points: {self.points}, reason: r{kind}{when}}}"


@dataclass(frozen=True)
class Budget:
    id: str
    tool: str
    limit: int
    over: str

    @property
    def text(self) -> str:
        return (
            f"{{id: {self.id}, tool: {self.tool!r}, sum: args.a, limit: {self.limit}, window: 1d, over: {self.over}}}"
        )


@dataclass(frozen=True)
class Written:
    """A policy, as text and as the model reads it."""

    default: str
    bands: tuple[tuple[int, str], ...]
    rules: tuple[Rule, ...]
    signals: tuple[Signal, ...]
    budgets: tuple[Budget, ...]

    def policy(self) -> Policy:
        bands = ", ".join(f"{{from: {floor}, effect: {effect}}}" for floor, effect in self.bands)
        rules = ", ".join(rule.text for rule in self.rules)
        signals = ", ".join(signal.text for signal in self.signals)
        budgets = ", ".join(budget.text for budget in self.budgets)
        lists = f"rules: [{rules}]\nsignals: [{signals}]\nbudgets: [{budgets}]\n"
        return policy_of(f"default: {self.default}\nbands: [{bands}]\n{lists}")


@dataclass(frozen=True)
class Call:
    tool: str
    arguments: dict[str, Any]
    history: dict[str, int] = field(default_factory=dict)

    def decided(self, policy: Policy) -> str:
        def answer(question: Question) -> Answer:
            told = self.history.get(question.item, 0)
            return told * 10**6 if question.about is About.TAKEN else told

        return decide(policy, subject_of(self.tool, self.arguments, SCHEMA), answer).effect.value


# The model.


def truth(formula: Formula | None, arguments: dict[str, Any], unwritten: bool) -> bool | str:
    """What a condition says: true, false, or that it cannot be evaluated."""
    if formula is None:
        return unwritten
    if any(isinstance(arguments.get(literal.name, 0.0), str) for literal in formula.literals):
        return ERROR
    values = [arguments[one.name] > one.above if one.name in arguments else ERROR for one in formula.literals]
    values = [v if v is ERROR else v is one.positive for v, one in zip(values, formula.literals, strict=True)]
    decides = formula.joined == "||"
    for without_lacking in (False, True):
        if without_lacking:  # what the tool does not have, and the call does not carry, is no part of the condition
            pairs = zip(values, formula.literals, strict=True)
            values = [False if one.name == "c" and v is ERROR else v for v, one in pairs]
        if decides in values:
            return decides
        if ERROR not in values:
            return not decides
    return ERROR


def reference(written: Written, call: Call) -> str:
    """The decision, from the design's sentences."""
    effects, displaced, score = [], False, 0
    for rule in written.rules:
        when, unless = truth(rule.when, call.arguments, True), truth(rule.unless, call.arguments, False)
        if not fnmatchcase(call.tool, rule.tool) or when is False or unless is True:
            continue
        broken = ERROR in (when, unless)
        if not (broken and rule.effect == "allow"):
            effects.append(rule.effect)
            displaced = displaced or not broken
    for signal in written.signals:
        when = truth(signal.when, call.arguments, True)
        many = signal.above is None or call.history.get(signal.id, 0) + 1 > signal.above
        if fnmatchcase(call.tool, signal.tool) and (when is ERROR or (when is True and many)):
            score += signal.points
    for budget in written.budgets:
        asked = call.arguments.get("a")
        left = budget.limit - call.history.get(budget.id, 0)
        if fnmatchcase(call.tool, budget.tool) and not (isinstance(asked, float) and 0 <= asked <= left):
            effects.append(budget.over)
    effects += [effect for floor, effect in written.bands if floor <= min(100, score)][-1:]
    return max(effects if displaced else [*effects, written.default], key=STRICTNESS.index)


# Random policies and calls.


def dice_for(what: str) -> random.Random:
    """The same throws in every run."""
    return random.Random(what)  # noqa: S311 - nothing secret is thrown


def a_formula(dice: random.Random) -> Formula | None:
    if dice.random() < 0.3:
        return None
    literals = tuple(
        Literal(dice.choice("aabc"), float(dice.randint(-2, 8)), dice.random() < 0.7) for _ in range(dice.randint(1, 2))
    )
    return Formula(literals, dice.choice(["&&", "||"]))


def a_rule(dice: random.Random, id: str, effects: list[str]) -> Rule:
    unless = a_formula(dice) if dice.random() < 0.3 else None
    return Rule(id, dice.choice(GLOBS), dice.choice(effects), a_formula(dice), unless)


def a_policy(dice: random.Random) -> Written:
    floors = sorted(dice.sample(range(1, 100), dice.randint(0, 2)))
    return Written(
        default=dice.choice(["hold", "deny"]),
        bands=tuple(zip(floors, ("hold", "deny"), strict=False)),
        rules=tuple(a_rule(dice, f"r{number}", STRICTNESS) for number in range(dice.randint(0, 6))),
        signals=tuple(
            Signal(
                f"s{number}",
                dice.choice(GLOBS),
                dice.randint(0, 60),
                a_formula(dice),
                dice.randint(0, 5) if dice.random() < 0.4 else None,
            )
            for number in range(dice.randint(0, 4))
        ),
        budgets=tuple(
            Budget(f"b{number}", dice.choice(GLOBS), dice.randint(0, 10), dice.choice(["hold", "deny"]))
            for number in range(dice.randint(0, 2))
        ),
    )


def a_call(dice: random.Random) -> Call:
    values = {name: float(dice.randint(-3, 9)) for name in "abc" if dice.random() < 0.75}
    arguments: dict[str, Any] = {name: "7" if dice.random() < 0.08 and name != "c" else v for name, v in values.items()}
    return Call(dice.choice(TOOLS), arguments, {id: dice.randint(0, 6) for id in ("s0", "s1", "s2", "s3", "b0", "b1")})


@pytest.mark.parametrize("part", range(4))
def test_the_decision_is_what_a_small_model_of_it_says(part: int) -> None:
    """A hundred thousand random calls under a thousand random policies, in four parts; each disagreement is printed."""
    dice = dice_for(f"reference {part}")
    wrong = []
    for _ in range(POLICIES // 4):
        written = a_policy(dice)
        policy = written.policy()
        calls = [a_call(dice) for _ in range(CALLS)]
        wrong += [(written, call) for call in calls if call.decided(policy) != reference(written, call)]
    assert not wrong, wrong[0]


def stricter_or_equal(before: str, after: str) -> bool:
    return STRICTNESS.index(after) >= STRICTNESS.index(before)


def test_adding_a_restricting_or_a_broken_rule_never_loosens() -> None:
    """A rule that restricts is at least as strict as the default; a broken one has a condition nobody can evaluate."""
    dice = dice_for("adding")
    for _ in range(150):
        written = a_policy(dice)
        restricting = a_rule(dice, "added", ["deny"] if written.default == "deny" else ["hold", "deny"])
        broken = Rule("added", "*__*", dice.choice(STRICTNESS), Formula((Literal("a", 1.0, True),)))
        for added in (restricting, broken):
            policy, more = written.policy(), replace(written, rules=(*written.rules, added)).policy()
            for call in [a_call(dice) for _ in range(20)]:
                if added is broken:
                    call.arguments.pop("a", None)
                assert stricter_or_equal(call.decided(policy), call.decided(more)), (written, added, call)


def test_removing_or_mistyping_an_argument_never_loosens() -> None:
    """What the tool's schema has and the call lacks, or carries in another type, never makes it milder."""
    dice = dice_for("removing")
    for _ in range(150):
        written = a_policy(dice)
        policy = written.policy()
        for call in [a_call(dice) for _ in range(40)]:
            if any(isinstance(value, str) for value in call.arguments.values()):
                continue
            before = call.decided(policy)
            for name in sorted({"a", "b"} & call.arguments.keys()):
                without = {key: value for key, value in call.arguments.items() if key != name}
                for arguments in (without, {**call.arguments, name: "many"}, {**call.arguments, name: None}):
                    changed = replace(call, arguments=arguments)
                    assert stricter_or_equal(before, changed.decided(policy)), (written, call, changed)
