"""Conditions: what they can say, what breaks them, and what a tool's schema changes about them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from hitl_mcp.limits import CONDITION_CHARACTERS
from hitl_mcp.policy.conditions import (
    ABSENT,
    Broken,
    Condition,
    ConditionRefused,
    Expression,
    Facts,
    ResultCondition,
)
from hitl_mcp.policy.subject import declared_names, misfits
from tests.policy.written import CLOSED, subject_of

ARGUMENTS = {
    "amount": 501.5,
    "count": 3,
    "whole": 3.0,
    "text": "501",
    "to": ["a@example.com", "b@example.com"],
    "deep": {"list": [1, {"x": True}]},
    "none": None,
    "flag": True,
    "big": 2**53 - 1,
    "name": "Zoë 😀",
}


def asked(text: str, arguments: dict[str, Any], schema: dict[str, Any] | None = None) -> bool | Broken:
    """What a condition says of a call with these arguments."""
    labels = {"env": "prod", "a-b": "x"}
    return Condition(text).test(Facts(subject_of(arguments=arguments, schema=schema, labels=labels)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Numbers compare by their value, whatever they were written as.
        ("args.amount > 500", True),
        ("args.count == 3.0 && args.whole == 3 && args.count < 3.5", True),
        ("args.big == 9007199254740991", True),
        ("args.count in [1, 2, 3]", True),
        # Texts, lists, nesting
        ('args.to.exists(t, !t.endsWith("@example.com"))', False),
        ('"a@example.com" in args.to', True),
        ("args.deep.list[1].x", True),
        ('args["text"] == "501"', True),
        ('args.name.size() == 5 && args.name.lowerAscii() == "zoë 😀"', True),
        ('args.text.matches("^[0-9]+$")', True),
        # Presence
        ("has(args.amount) && !has(args.iban)", True),
        ('"iban" in args', False),
        ("args.none == null", True),
        # The other variables
        ('tool == "bank__pay" && upstream.name == "bank" && agent == "builder"', True),
        ('upstream.labels.env == "prod" && upstream.labels["a-b"] == "x"', True),
        ('has(upstream.labels.zone) || now > timestamp("2026-11-22T13:59:59Z")', True),
        ('now.getHours("Europe/Berlin") == 15', True),
        # What decides the whole hides what is broken
        ("args.iban == 1 || args.amount > 500", True),
        ("args.amount < 500 && args.iban == 1", False),
    ],
)
def test_a_condition_says_true_or_false(text: str, expected: bool) -> None:
    """Arguments, tool, upstream, agent and time can be asked about, with numbers of any notation."""
    assert asked(text, ARGUMENTS) is expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("args.iban == 1", "there is no `iban`"),
        ("!args.iban", "there is no `iban`"),
        ("args.deep.nothing == 1", "there is no `nothing`"),
        ('upstream.labels.zone == "x"', "there is no `zone`"),
        ("args.text >= 100", "`>=` does not take (string, int64)"),
        ("args.none > 1", "`>` does not take (null_type, int64)"),
        ("args.flag > 1", "`>` does not take (bool, int64)"),
        ("args.to[5] == 1", "index error: index=5 size=2"),
        ("args.count", "it gives `int`, not true or false"),
        ("args.text", "it gives `string`, not true or false"),
        ("args.to", "it gives `list<dyn>`, not true or false"),
        ("args.none", "it gives `null`, not true or false"),
        ('args.name.matches(args.text + "(")', "invalid regular expression: missing ): 501("),
        ("int(args.name) > 1", "cannot convert string to int"),
        ("args[tool] == 1", "there is no `bank__pay`"),
        ("args.big * args.big > 0", "integer overflow"),
        ("args.count / 0 > 1", "divide by zero"),
    ],
)
def test_what_cannot_be_evaluated_is_broken_and_says_why(text: str, why: str) -> None:
    """The library hands errors back as texts, which are true to Python; they never count as true here."""
    assert asked(text, ARGUMENTS) == Broken(why)


@pytest.mark.parametrize(
    ("text", "arguments", "why"),
    [
        ('args.to.exists(t, t == "x")', {"to": ["y"] * 50_000}, "iteration budget exceeded"),
        ("args.x > 1", {"x": 2**64}, "integer value '18446744073709551616' out of range for 'args['x'] -> "),
        ("args.x == 1", {"x": object()}, ""),
    ],
)
def test_what_the_library_gives_up_on_is_broken(text: str, arguments: dict[str, Any], why: str) -> None:
    """Endless loops and values it cannot take do not raise: the condition is broken."""
    outcome = asked(text, arguments)
    assert isinstance(outcome, Broken)
    assert outcome.why.startswith(why)


def test_a_slow_pattern_is_quick() -> None:
    """A pattern that would hang a backtracking matcher gives its answer."""
    assert asked('args.x.matches("^(a+)+$")', {"x": "a" * 5000 + "!"}) is False


# ---------------------------------------------------------------------------------------------------------------
# Arguments that a tool does not have

LACKING = [
    # condition, what the call carries, what it says of a tool that has `amount` and `to`
    ("args.iban == 'x'", {}, False),
    ("!(args.iban == 'x')", {}, False),
    ("args.iban != 'x'", {}, False),
    ("args['iban'] == 'x'", {}, False),
    ("args.iban.country == 'x' || !args.iban.known", {}, False),
    ("has(args.iban.country)", {}, False),
    # The other statements still count, however they are joined.
    ("args.amount > 100 || args.iban == 'x'", {"amount": 500}, True),
    ("args.amount > 100 || args.iban == 'x'", {"amount": 5}, False),
    ("!(args.amount <= 100 && args.iban == 'x')", {"amount": 500}, True),
    ("!(args.amount <= 100 && args.iban == 'x')", {"amount": 5}, False),
    ("args.amount > 100 && args.iban == 'x'", {"amount": 500}, False),
    # What the tool has must be there.
    ("args.amount > 100 || args.iban == 'x'", {}, Broken("there is no `amount`")),
    ("args.to == 'x'", {}, Broken("there is no `to`")),
    # What the call carries counts, listed or not.
    ("args.iban == 'x'", {"iban": "x"}, True),
    ("args.iban == 'x'", {"iban": "y"}, False),
    ("args.iban > 1", {"iban": "y"}, Broken("`>` does not take (string, int64)")),
    # Asking whether it is there is an honest question.
    ("!has(args.iban)", {}, True),
    ("has(args.iban) ? args.iban == 'x' : true", {}, True),
    ("!has(args.iban) || args.iban == 'x'", {}, True),
    # An argument named while evaluating is not known to be lacking.
    ("args[agent] == 'x'", {}, Broken("there is no `builder`")),
    # A word in a text is no argument.
    ("args.to == 'args.iban'", {"to": "args.iban"}, True),
    ("args.to.exists(iban, iban > args.limit)", {"to": "x"}, False),
]


@pytest.mark.parametrize(("text", "arguments", "expected"), LACKING)
def test_a_condition_on_an_argument_the_tool_lacks_does_not_concern_it(
    text: str, arguments: dict[str, Any], expected: bool | Broken
) -> None:
    """Only statements about arguments that neither the schema nor the call has are left out."""
    assert asked(text, arguments, CLOSED) == expected


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (CLOSED, {"amount", "to"}),
        ({"properties": {"a": {}}}, {"a"}),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, {"a"}),
        ({"type": "object", "additionalProperties": False}, set()),
        ({"type": "object", "properties": {}}, set()),
        ({"type": "object", "properties": {"a": {}}, "required": ["a", "b"]}, {"a", "b"}),
        ({"type": "object", "properties": {"a": {}}, "$schema": "x", "title": "T", "$defs": {}}, {"a"}),
        (None, None),
        ({}, None),
        ({"type": "object"}, None),
        ({"type": "array", "properties": {}}, None),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, None),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}}, None),
        ({"type": "object", "properties": {"a": {}}, "patternProperties": {"^x": {}}}, None),
        ({"type": "object", "properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]}, None),
        ({"type": "object", "properties": {"a": {}}, "anyOf": [{"required": ["b"]}]}, None),
        ({"type": "object", "properties": {"a": {}}, "$ref": "#/$defs/x"}, None),
        ({"type": "object", "properties": ["a"]}, None),
        ({"type": "object", "properties": {"a": {}}, "required": "a"}, None),
    ],
)
def test_a_schema_tells_its_arguments_only_where_there_is_no_doubt(
    schema: dict[str, Any] | None, names: set[str] | None
) -> None:
    """An open, composed or missing schema leaves every argument possible, so nothing is known to be lacking."""
    assert declared_names(schema) == names


@pytest.mark.parametrize("schema", [None, {}, {"type": "object", "properties": {}, "additionalProperties": True}])
def test_with_an_unknown_schema_a_missing_argument_breaks_the_condition(schema: dict[str, Any] | None) -> None:
    """Where the schema does not tell, a condition on a missing argument fails closed."""
    assert asked("args.iban == 'x'", {}, schema) == Broken("there is no `iban`")


@pytest.mark.parametrize(
    ("kind", "fitting", "other"),
    [
        ("string", ["x", ""], [1, None, ["x"], True]),
        ("number", [1, 1.5], ["1", True, None]),
        ("integer", [1, 2.0], [1.5, "1", False]),
        ("boolean", [True], [1, "true"]),
        ("array", [[]], [{}, "x"]),
        ("object", [{}], [[], None]),
        ("null", [None], [0, ""]),
        (["string", "null"], ["x", None], [1]),
        ("unheard-of", [1, "x"], []),
        ([{"type": "string"}, 5], [1], []),
        ({"type": "string"}, [1], []),
    ],
)
def test_an_argument_of_another_type_than_declared_is_noticed(kind: Any, fitting: list[Any], other: list[Any]) -> None:
    """The simple types of a schema are checked; a type that nobody knows is not."""
    schema = {"properties": {"x": {"type": kind}}}
    assert [value for value in fitting if misfits({"x": value}, schema)] == []
    assert [value for value in other if not misfits({"x": value}, schema)] == []


def test_a_condition_on_an_argument_of_another_type_is_broken() -> None:
    """Equality between types is false to CEL; an argument that is not what its schema says breaks the condition."""
    why = "the argument `to` is not of the type its schema declares: `string`"
    assert asked("args.to == 'x'", {"to": ["x"]}, CLOSED) == Broken(why)
    assert asked("args.to == 'x'", {"to": ["x"]}, None) is False
    assert asked("args.amount > 1", {"to": ["x"], "amount": 5}, CLOSED) is True


def test_a_condition_remembers_only_so_many_tools() -> None:
    """Calls choose which arguments they carry, so what is kept for each choice is bounded."""
    names = [f"a{number}" for number in range(8)]
    condition = Condition(" || ".join(f"args.{name} == 1" for name in names))
    for choice in range(200):
        carried: dict[str, Any] = {name: 0 for bit, name in enumerate(names) if choice >> bit & 1}
        assert condition.test(Facts(subject_of(arguments=carried, schema=CLOSED))) is False
    assert len(condition._narrowed) <= 64


@pytest.mark.parametrize("text", ["", "args.", "'", "args.x = 1", "args.x.foo()", "a" * 5000, "\x00", "args.x; true"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    """Whatever does not compile is refused when it is read, not when it is needed."""
    with pytest.raises(ConditionRefused) as refused:
        Condition(text)
    assert refused.value.problems


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    some.recursive(
        some.none()
        | some.booleans()
        | some.integers(-(2**53), 2**53)
        | some.floats(allow_nan=False, allow_infinity=False)  # no argument is: reading refuses both
        | some.text("aé🙂"),
        lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text("ab"), inner, max_size=3),
        max_leaves=8,
    )
)
def test_an_argument_is_read_alike_with_and_without_evaluating(value: Any) -> None:
    """`args.x` alone is taken from the call; in parentheses it is evaluated."""
    facts = Facts(subject_of(arguments={"x": value}))
    read, evaluated = Expression("args.x").value(facts), Expression("(args.x)").value(facts)
    assert json.dumps(read, sort_keys=True) == json.dumps(evaluated, sort_keys=True)


def test_an_argument_that_is_not_there_is_absent_only_where_the_tool_lacks_it() -> None:
    """Also where nothing would have to be evaluated."""
    schema = {"type": "object", "properties": {"y": {}}}
    assert Expression("args.x").value(Facts(subject_of(arguments={"y": 1}, schema=schema))) is ABSENT
    assert isinstance(Expression("args.y").value(Facts(subject_of(arguments={}, schema=schema))), Broken)
    wrong = {"type": "object", "properties": {"y": {"type": "number"}}}
    assert isinstance(Expression("args.y").value(Facts(subject_of(arguments={"y": "1"}, schema=wrong))), Broken)


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("{'a': args.x}", "`map`"),
        ("args.x > 1 ? 1 : 2", "a number"),
        ("tool + 'x'", "a text"),
        ("now", "a time"),
        ("[args.x]", "a list"),
    ],
)
def test_a_condition_gives_true_or_false(text: str, gives: str) -> None:
    """Anything else is named, in plain words where there are some."""
    with pytest.raises(ConditionRefused) as refused:
        Condition(text)
    assert str(refused.value).split("; ")[-1] == f"a condition must give true or false, not {gives}"


def test_a_condition_about_a_result_sees_the_result_and_the_call() -> None:
    """Both, and an error where the result has not what it asks for."""
    condition = ResultCondition("result.found == args.x")
    for x, said in ((1, True), (2, False)):
        assert condition.test(Facts(subject_of(arguments={"x": x}), {"found": 1})) is said
    assert condition.test(Facts(subject_of(arguments={"x": 1}), {})) == Broken("there is no `found`")


def test_the_longest_condition_is_one() -> None:
    """4,000 characters, and not one more."""
    text = f'args.x == "{"x" * (CONDITION_CHARACTERS - 12)}"'
    assert Condition(text).text == text
    with pytest.raises(ConditionRefused, match=f"longer than {CONDITION_CHARACTERS} characters"):
        Condition(text + " ")
