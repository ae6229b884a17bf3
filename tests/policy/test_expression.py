"""What a checked expression is made of, as the walker sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hitl_mcp.policy.conditions import _ENVIRONMENT, Condition, Expression
from hitl_mcp.policy.expression import Part, alone, parts, with_text


def whole(text: str) -> Part:
    """The parts of an expression, from the bytes the compiler gives, also of what is refused for what it says."""
    return parts(_ENVIRONMENT.compile(text).serialize())


def shown(part: Part) -> str:
    """A part in one line: what is called, with its parts in brackets."""
    if part.kind == "constant":
        return repr(part.value)
    inner = ", ".join(shown(each) for each in part.parts)
    return f"{part.kind}:{part.word}({inner})" if inner else f"{part.kind}:{part.word}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("args.x", "field:x(name:args)"),
        ("args.x.y > 5", "call:_>_(field:y(field:x(name:args)), 5)"),
        ('args["x"] == -1.5', "call:_==_(call:_[_](name:args, 'x'), -1.5)"),
        ("args.x == -9223372036854775807", "call:_==_(field:x(name:args), -9223372036854775807)"),
        ('args.x in [0, false, null, ""]', "call:@in(field:x(name:args), list:(0, False, None, ''))"),
        (
            'args.x == b"a" || args.y == 5u',
            "call:_||_(call:_==_(field:x(name:args), b'a'), call:_==_(field:y(name:args), 5))",
        ),
        ('args.x == {"k": [1.0]}', "call:_==_(field:x(name:args), map:('k', list:(1.0)))"),
        ('now.getHours("UTC") > 1', "call:_>_(call:getHours(name:now, 'UTC'), 1)"),
        ("size(args.x) == 1", "call:_==_(call:size(field:x(name:args)), 1)"),
        ("has(args.x)", "field:x(name:args)"),
        ("upstream.labels.env == tool", "call:_==_(field:env(name:upstream.labels), name:tool)"),
        ('args.x == "😀 é"', "call:_==_(field:x(name:args), '😀 é')"),
    ],
)
def test_an_expression_is_seen_part_by_part(text: str, expected: str) -> None:
    """Names, fields, calls with their target first, and constants with their value and type."""
    assert shown(whole(text)) == expected


@pytest.mark.parametrize(
    ("text", "word", "offset"),
    [
        ('args.x == "a" && args.y > 5', "5", 26),
        ('"é😀" == args.x && args.y > 5', "5", 27),
        ("args.x > 1\n&& args.y > 5", "5", 23),
    ],
)
def test_each_part_knows_where_it_stands(text: str, word: str, offset: int) -> None:
    """Offsets count characters of the text, over lines and characters of several bytes."""
    (found,) = [part for part in whole(text).all() if part.kind == "constant" and str(part.value) == word]
    assert (found.offset, text[found.offset]) == (offset, word)


def test_a_macro_is_a_loop_that_depends_on_a_call() -> None:
    """What a macro says is never constant, although its own variables are no names of ours."""
    tree = whole("args.list.exists(x, x == 1)")
    assert tree.kind == "loop"
    assert not tree.constant
    assert any(part.word == "_==_" and shown(part) == "call:_==_(name:x, 1)" for part in tree.all())


@pytest.mark.parametrize(
    ("text", "constant"),
    [("1 == 1", True), ('duration("1h") > duration("2h")', True), ("[1, 2][0] == 1", True), ("tool == tool", False)],
)
def test_what_names_nothing_is_constant(text: str, constant: bool) -> None:
    """An expression without names says the same of every call."""
    assert whole(text).constant is constant
    assert Condition(text).constant is constant


def test_a_call_can_be_asked_about_with_another_text() -> None:
    """One part of a call is replaced by a text, target or argument; the others stay, and so does its place."""
    expression = Expression('args.x.matches("a+") || glob("b*", args.y)')
    calls = [
        part for part in parts(expression._checked).all() if part.kind == "call" and part.word in ("matches", "glob")
    ]
    matches, glob = calls
    assert list(texts(expression, with_text(matches, 0, "new"))) == ["new", "a+"]
    assert list(texts(expression, with_text(glob, 1, "new"))) == ["b*", "new"]


def texts(expression: Expression, raw: bytes) -> Iterator[str]:
    """The texts in a part, in their order; on its own it can be evaluated."""
    assert expression._cannot(raw) is None
    found = parts(alone(expression._checked, raw)).all()
    yield from (part.value for part in found if isinstance(part.value, str))
