"""What compiles and cannot be meant, and what looks like it and can. The refusals themselves stand in test_mistakes."""

from __future__ import annotations

import pytest

from hitl_mcp.policy.complaints import FORMS
from hitl_mcp.policy.conditions import Condition, ConditionRefused, Expression
from hitl_mcp.policy.functions import NAMES

MEANT = [
    # Zones
    'now.getHours("Europe/Berlin") >= 18',
    'now.getHours("UTC") < 24',
    'now.getHours("+02:00") == 0',
    'now.getHours("-11:30") == 23',
    "now.getHours(upstream.labels.zone) > 18",
    "now.getSeconds() > 30 && now.getMilliseconds() > 5",
    'duration("90m").getHours() > args.x',
    "(now - timestamp(args.at)).getHours() > 3",
    'now.getDayOfWeek("Europe/Berlin") in [0, 6]',
    'now.getDate("UTC") == 31 && now.getMonth("UTC") == 11 && now.getFullYear("UTC") == 2026',
    # Numbers
    "args.x > 9007199254740991",
    "args.x == -9007199254740991 || args.x == 0.5 || args.x == 0 || args.x == 0x10 || args.x == 1e3",
    "args.x == 0u || args.list[0] == 1",
    # What may be true and may be false
    'args.x != "a" || args.y != "b"',
    'args.x != "a" && args.x != "b"',
    'args.x == "a" || args.x == "b"',
    'args.x == "a" && args.y == "b" && args.x == "a"',
    'args.x != "a" || args.x != "a"',
    'args.list[0] == "a" && args.list[1] == "b"',
    "args.x == args.y && args.x == 1",
    # Patterns, paths, dialects
    'args.x.matches(r"^\\d+$") && args.x.matches(args.y)',
    'path_within(args.path, "/srv") || path_has(args.path, [".env"])',
    'sql_kinds(args.sql, "postgres") == ["select"] || sql_kinds(args.sql, upstream.labels.dialect) == ["select"]',
    'domain_within(args.domain, upstream.labels.domains.split(","))',
    'glob(["a*"], args.x)',
    # Membership
    "!(args.x in [1, 2])",
    '"x" in args && !("y" in args)',
    "args.to[size(args.to) - 1] == tool",
    'timestamp("2026-11-22T14:00:00Z") < now && duration("36h") > duration(args.x)',
]


@pytest.mark.parametrize("text", MEANT)
def test_what_can_be_meant_is_read(text: str) -> None:
    """Nothing is refused that a careful person writes."""
    assert Condition(text).text == text


def test_all_traps_in_one_condition_are_told_at_once() -> None:
    """Each with its own place, in the order of the text."""
    text = 'args.x > 010 && now.getHours() > 1\n&& args.y.matches("(") && args.z == b"a"'
    with pytest.raises(ConditionRefused) as refused:
        Condition(text)
    assert [problem.at for problem in refused.value.problems] == [(1, 10), (1, 21), (2, 19), (2, 37)]


@pytest.mark.parametrize(
    ("text", "gives"),
    [("args.x", "dyn"), ("tool", "string"), ("size(tool)", "int"), ("number(args.x)", "dyn"), ("now", "timestamp")],
)
def test_an_expression_says_what_it_gives(text: str, gives: str) -> None:
    """An amount or a unit is checked by the type that the compiler knows."""
    assert Expression(text).gives == gives


def test_a_form_is_shown_for_each_function_and_can_be_read() -> None:
    """Help lines show how a function is written; what they show must be right, and no function may lack its form."""
    assert set(NAMES) <= set(FORMS)
    for form in FORMS.values():
        Expression(form)
