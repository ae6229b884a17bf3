"""Which arguments an expression reads, and what is left of it for a tool that has not got them all."""

from __future__ import annotations

from typing import Any

import pytest

from hitl_mcp.limits import CONDITION_CHARACTERS
from hitl_mcp.policy.conditions import Condition, ConditionRefused, Expression, Facts
from tests.policy.written import subject_of


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("args.x > 1", {"x"}),
        (".args.x > 1", {"x"}),
        ('args["x"] > 1', {"x"}),
        ('args["x y"].z', {"x y"}),
        ("args.x.y.z", {"x"}),
        ("args.x == args.y", {"x", "y"}),
        ("size(args.x) + args.y.size()", {"x", "y"}),
        ("args.x.startsWith(args.y)", {"x", "y"}),
        ("args.x[args.y]", {"x", "y"}),
        ("[1, args.x]", {"x"}),
        ('{"key": args.x}', {"x"}),
        ("{args.x: 1}", {"x"}),
        ("[{'key': [args.x]}]", {"x"}),
        ("args.x.all(one, one == args.y)", {"x", "y"}),
        ("args.x.map(one, one + args.y)", {"x", "y"}),
        ("args.x > 1.5 ? args.y : args.z", {"x", "y", "z"}),
        # Only whether it is there, or not known before the call.
        ("has(args.x)", set()),
        ("has(args.x.y)", {"x"}),
        ("args[tool]", set()),
        ('args["x" + agent]', set()),
        ("args[1]", set()),
        ('args == "x"', set()),
        ('"x" in args', set()),
        # Something else with such a name.
        ('upstream.labels["x"]', set()),
        ("upstream.labels.args", set()),
        ('"args.x" + tool', set()),
        ('tool == "x"', set()),
    ],
)
def test_an_expression_knows_which_arguments_it_takes_the_values_of(text: str, names: set[str]) -> None:
    """However they are written and wherever they stand; what is only asked for, or chosen by the call, is not one."""
    assert Expression(text).reads == names


@pytest.mark.parametrize("text", ["args.x.all(args, args > 1)", "[1].exists(args, args == 1)", "[1].map(args, args)"])
def test_a_macro_cannot_call_its_own_variable_args(text: str) -> None:
    """Then `args.x` would be something else inside it."""
    with pytest.raises(ConditionRefused) as refused:
        Expression(text)
    assert [problem.message for problem in refused.value.problems] == [
        "`args` cannot also be the name of a macro's own variable"
    ]


HAS_A: dict[str, Any] = {"type": "object", "properties": {"a": {}}}


def said(text: str, a: object) -> object:
    """What a condition says of a call with `a`, of a tool that has nothing else."""
    return Condition(text).test(Facts(subject_of(arguments={"a": a}, schema=HAS_A)))


@pytest.mark.parametrize(
    ("text", "of_one", "of_three"),
    [
        ("args.a > 2 || args.b > 2", False, True),
        ("args.b > 2 || args.a > 2", False, True),
        ("args.a > 2 && args.b > 2", False, False),
        ("args.b > 2", False, False),
        ("!(args.b > 2)", False, False),
        ("!(args.a > 2 && args.b > 2)", True, False),
        ("!(args.a > 2 || args.b > 2)", False, False),
        ("!(!(args.a > 2) || args.b > 2)", False, False),
        ("!(!(args.a > 2 || args.b > 2) && args.b > 2)", False, True),
        ("(args.a > 2 || args.b > 2.5) && (args.a > 1.5 || args.b > 2)", False, True),
        ("args.a > 2 || args.b.all(one, one > 2)", False, True),
        ("args.a > 2 || [args.b] == [1]", False, True),
        ("args.a > 2 || {'k': args.b} == {'k': 1}", False, True),
        ("args.a > 2 || (args.b > 2 ? true : true)", False, True),
        ("args.a > 2 || args['b'] > 2", False, True),
    ],
)
def test_a_statement_about_an_argument_the_tool_lacks_never_helps_to_make_the_whole_true(
    text: str, of_one: bool, of_three: bool
) -> None:
    """Every statement about `b` is left out, and what is said of `a` stays, under any number of negations."""
    assert (said(text, 1), said(text, 3)) == (of_one, of_three)


def test_the_rest_stays_what_it_was_whatever_its_length() -> None:
    """The lengths at which their own writing becomes longer are no exception."""
    for length in range(80, 300):
        text = "x" * length
        condition = f'args.a == "{text}" || args.b == "{text}"'
        assert said(condition, text) is True
        assert said(condition, text + "x") is False


def test_the_longest_condition_is_narrowed_too() -> None:
    """Thousands of characters, and as many bytes again for what is known of each part."""
    parts = CONDITION_CHARACTERS // len("args.a == 123 || ") - 1
    text = " || ".join([*(f"args.a == {number}" for number in range(100, 100 + parts)), "args.b > 2"])
    assert Condition(text).reads == {"a", "b"}
    assert said(text, 100 + parts - 1) is True
    assert said(text, 99) is False
