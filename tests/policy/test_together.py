"""Many conditions in one run say what each says by itself."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from hitl_mcp.policy.conditions import Condition, Facts, Together
from tests.policy.written import CLOSED, subject_of

TEXTS = [
    "args.amount > 10.0",
    "args.amount > 10.0 // much",
    "args.to.startsWith('a') || args.amount > 5",
    "!(args.to == 'b') && args.amount < 3",
    "has(args.memo) && args.memo == 'x'",
    "args.other > 1",
    "args.to.size() > args.amount",
    "tool == 'bank__pay'",
    "args.flag",
    "true ? args.amount > 1 : false",
]
CALLS: list[dict[str, Any]] = [
    {},
    {"amount": 12, "to": "ab"},
    {"amount": 2.5},
    {"to": "b", "memo": "x"},
    {"amount": "12", "to": "a"},
    {"amount": 1, "to": 5},
    {"amount": 1, "to": "a", "other": 2, "flag": True, "memo": "y"},
    {"amount": 1, "to": "a", "flag": "yes"},
]


@pytest.mark.parametrize(("arguments", "schema"), list(product(CALLS, (CLOSED, None))))
def test_what_is_evaluated_together_is_what_each_says_alone(
    arguments: dict[str, Any], schema: dict[str, Any] | None
) -> None:
    """Missing, mistyped and lacking arguments, comments, and conditions that give no truth value change nothing."""
    conditions = [Condition(text) for text in TEXTS]
    subject = subject_of("bank__pay", arguments, schema)
    alone = [condition.test(Facts(subject)) for condition in conditions]
    facts = Facts(subject)
    facts.known = Together(conditions).results(facts)
    assert [condition.test(facts) for condition in conditions] == alone


def test_most_of_a_call_s_conditions_are_evaluated_at_once() -> None:
    """What one call lacks, or one condition that cannot be evaluated, does not decide over the others for good."""
    conditions = [Condition(text) for text in TEXTS]
    together = Together(conditions)
    lacking = Facts(subject_of("bank__pay", {"amount": 12, "to": "ab"}, CLOSED))
    assert len(together.results(lacking)) == 7
    failing = Facts(subject_of("bank__pay", {"amount": 12, "to": "ab", "other": "x"}, CLOSED))
    assert together.results(failing) == {}
    assert len(together.results(lacking)) == 7


def test_a_few_conditions_are_not_worth_joining() -> None:
    """Two are evaluated one by one."""
    assert Together([Condition("true"), Condition("false")]).results(Facts(subject_of())) == {}
