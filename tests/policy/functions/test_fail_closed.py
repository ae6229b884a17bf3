"""Functions inside a policy: one that refuses its value makes the decision stricter, wherever it stands."""

from __future__ import annotations

from typing import Any

import pytest

from hitl_mcp.calls import Effect
from hitl_mcp.policy import decide
from hitl_mcp.policy.conditions import Broken, Condition, Facts
from tests.policy.written import policy_of, subject_of

REFUSED = [
    ("number(args.x) > 500", "1,000"),
    ("number(args.x) < 500", True),
    ('address_domain(args.x) == "example.com"', "Ann <a@example.com>"),
    ('all_addresses_in(args, ["x"], "example.com")', []),
    ('domain_within(args.x, "example.com")', "example.com."),
    ('path_within(args.x, "/srv")', "srv/../.."),
    ('path_has(args.x, ".env")', "%2eenv"),
    ('glob("a*", args.x)', 5),
    ('sql_kinds(args.x).all(kind, kind == "select")', "select 1 /*! ; delete from t */"),
    ("sql_unbounded(args.x)", "call f()"),
    ('"users" in sql_tables(args.x)', "call f()"),
    ('argv(args.x)[0] == "ls"', "ls; rm x"),
    ('shell_commands(args.x).all(words, words[0] == "ls")', "ls > x"),
    ('url_host(args.x) == "example.com"', "https://example.com@evil.org"),
    ("host_private(args.x)", "127.1"),
]
"""A condition on `args.x` for each function, and a value that the function refuses."""

RULE = "rules: [{{id: r, tool: up__t, effect: {effect}, reason: because, {where}: '{condition}'}}]\n"


def decided(text: str, value: Any) -> Any:
    """The decision of a policy about a call of `up__t` with this argument."""
    return decide(policy_of(text), subject_of("up__t", {"x": value}))


@pytest.mark.parametrize(("condition", "value"), REFUSED)
@pytest.mark.parametrize("negated", [False, True])
def test_a_refused_value_fails_closed_in_every_place(condition: str, value: Any, negated: bool) -> None:
    """`when` of a hold or a denial counts as true, `when` of an allow as false, `unless` excuses nothing."""
    text = f"!({condition})" if negated else condition
    hold = decided("default: hold\n" + RULE.format(effect="deny", where="when", condition=text), value)
    assert hold.effect is Effect.DENY
    allow = decided("default: deny\n" + RULE.format(effect="allow", where="when", condition=text), value)
    assert allow.effect is Effect.DENY
    excused = decided("default: hold\n" + RULE.format(effect="deny", where="unless", condition=text), value)
    assert excused.effect is Effect.DENY
    allowed = decided("default: deny\n" + RULE.format(effect="allow", where="unless", condition=text), value)
    assert allowed.effect is Effect.DENY


@pytest.mark.parametrize(("condition", "value"), REFUSED)
def test_a_refused_value_counts_in_full_in_a_signal(condition: str, value: Any) -> None:
    """A signal that cannot be evaluated adds all its points, and says why."""
    signal = f"signals: [{{id: s, tool: up__t, points: 40, reason: because, when: '{condition}'}}]\n"
    decision = decided(
        "default: hold\nbands: [{from: 40, effect: deny}]\n" + signal
        + "rules: [{id: runs, tool: up__t, effect: allow, reason: fine}]\n", value
    )  # fmt: skip
    assert decision.score == 40
    assert decision.effect is Effect.DENY


@pytest.mark.parametrize(("condition", "value"), REFUSED)
def test_a_missing_argument_fails_closed(condition: str, value: Any) -> None:
    """A function of what is not there is an error, not a function of nothing."""
    outcome = Condition(condition).test(Facts(subject_of("up__t", {"y": value})))
    assert isinstance(outcome, Broken)


def test_what_decides_the_whole_still_hides_what_is_refused() -> None:
    """`||` and `&&` with a side that decides need no other side; that is CEL's rule, and a policy's own words."""
    facts = Facts(subject_of("up__t", {"x": "1,000", "force": True}))
    assert Condition("args.force || number(args.x) > 1").test(facts) is True
    assert Condition("!args.force && number(args.x) > 1").test(facts) is False


def test_the_words_of_an_error_name_the_function() -> None:
    """The reason that people read says which function refused and why, without the value."""
    broken = Condition("number(args.x) > 1").test(Facts(subject_of("up__t", {"x": "1,000"})))
    assert broken == Broken("`number` refuses: the text is not a plain decimal number, such as 12 or -3.50")
    broken = Condition("number(args.x) > 1").test(Facts(subject_of("up__t", {"x": True})))
    assert broken == Broken("`number` does not take (bool)")


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("number(args.x) > 500", "501.5", True),
        ("number(args.x) == 3", 3, True),
        ("number(args.x) * 2.0 == 5.0", "2.5", True),
        ('address_domain(args.x).endsWith(".example.com")', "a@b.example.com", True),
        ('domain_within(url_host(args.x), "example.com")', "https://a.example.com/x", True),
        ("host_private(url_host(args.x))", "http://169.254.169.254/latest", True),
        ('sql_kinds(args.x).all(kind, kind in ["select", "explain"])', "explain select 1", True),
        ('shell_commands(args.x).all(words, words[0] in ["cat", "grep"])', "cat a | grep b", True),
        ('args.x.all(path, path_within(path, "/srv"))', ["/srv/a", "/srv/../etc"], False),
        ('argv(args.x)[0] == "git" && argv(args.x)[1] in ["log", "status"]', "git log", True),
    ],
)
def test_functions_work_together_with_the_rest_of_cel(condition: str, value: Any, expected: bool) -> None:
    """Their results compare, index, and go through macros."""
    assert Condition(condition).test(Facts(subject_of("up__t", {"x": value}))) is expected
