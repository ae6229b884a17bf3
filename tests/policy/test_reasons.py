"""The sentences of a decision."""

from __future__ import annotations

from typing import Any

import pytest

from hitl_mcp.calls import Effect
from hitl_mcp.policy.reasons import by_rule, filled, legible, misplaced_braces


@pytest.mark.parametrize(
    ("reason", "arguments", "sentence"),
    [
        ("{args.amount} is paid out", {"amount": 12.5}, "12.5 is paid out"),
        ("to {args.to}", {"to": 'a"b'}, 'to "a\\"b"'),
        ("{args.a.b} and {args.a}", {"a": {"b": [1, None]}}, '[1,null] and {"b":[1,null]}'),
        ("to {args.to}", {}, "to {args.to}"),
        ("to {args.to.name}", {"to": "x"}, "to {args.to.name}"),
        ("plain {x} and {}", {"x": 1}, "plain {x} and {}"),
        ("{args.x}", {"x": "y" * 200}, '"' + "y" * 78 + "…"),
        # A value cannot pass for our words, nor hide.
        ("{args.x}", {"x": "line\nbreak"}, '"line\\nbreak"'),
        ("{args.x}", {"x": "\u202eabc\u200b\u2028"}, '"\\u202eabc\\u200b\\u2028"'),
        ("{args.x}", {"x": "\U000e0041"}, '"\\u{e0041}"'),
        ("{args.x}", {"x": "\U0001fffe\uffff"}, '"\\u{1fffe}\\uffff"'),
        ("{args.x}", {"x": "{args.y}", "y": 1}, '"{args.y}"'),
    ],
)
def test_a_reason_shows_arguments_as_canonical_json(reason: str, arguments: dict[str, Any], sentence: str) -> None:
    """A value stands as JSON, bounded and with nothing invisible; what is not there stays as it was written."""
    assert filled(reason, arguments) == sentence


@pytest.mark.parametrize(
    ("reason", "odd"),
    [
        ("{args.a} {args.a.b_1}", None),
        ("{x} {", None),
        ("{args}", "{args}"),
        ("{args[0]}", "{args[0]}"),
        ("{args.a-b}", "{args.a-b}"),
        ("{ args.a }", "{ args.a }"),
        ("{args.a", "{args.a"),
    ],
)
def test_what_was_meant_as_an_argument_is_noticed(reason: str, odd: str | None) -> None:
    """Braces around `args` that are not written as a place are found, so that no reason shows them raw."""
    assert misplaced_braces(reason) == odd


def test_a_text_is_cut_within_its_limit() -> None:
    """Escapes count as what they take."""
    assert legible("\u200b" * 10, 20) == "\\u200b" * 3 + "\\…"
    assert legible("x" * 20, 20) == "x" * 20


def test_a_text_longer_than_its_limit_ends_in_an_ellipsis_within_it() -> None:
    """One character too many is cut, and the mark of it counts."""
    assert legible("x" * 21, 20) == "x" * 19 + "…"
    assert legible("a\nb") == "a\\u000ab"


@pytest.mark.parametrize(
    ("effect", "bound", "error", "sentence"),
    [
        (Effect.DENY, "", None, "no (rule `r`)"),
        (Effect.DENY, "args.a >\n   1", None, "no (rule `r`: args.a > 1)"),
        (Effect.HOLD, "args.a > 1", None, "no"),
        (Effect.ALLOW, "args.a > 1", None, "no"),
        (Effect.HOLD, "args.a > 1", "e", "no (rule `r` applies because it could not be evaluated: e)"),
    ],
)
def test_a_refusal_names_the_rule_and_its_condition_on_one_line(
    effect: Effect, bound: str, error: str | None, sentence: str
) -> None:
    """A hold needs no more than its reason: the agent cannot comply with it."""
    assert by_rule("r", effect, "no", bound, error) == sentence
