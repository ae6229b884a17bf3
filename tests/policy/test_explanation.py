"""What is written of a decision that was made. How it is worked out for a call: see test_explain.py."""

from __future__ import annotations

import pytest

from hitl_mcp.calls import Answer, Decision, Effect, HistoryUsed
from hitl_mcp.policy import decide
from hitl_mcp.policy.explanation import explained
from tests.policy.written import policy_of, subject_of


@pytest.mark.parametrize(
    ("about", "answer", "words"),
    [
        ("known", ("x",), "`i`: 1 value of the call known"),
        ("known", (), "`i`: 0 values of the call known"),
        ("asked", 1, "`i`: 1 earlier call"),
        ("asked", 2, "`i`: 2 earlier calls"),
        ("rejected", 0, "`i`: 0 rejected calls"),
        ("read", 1, "`i`: 1 call that may steer the agent"),
        ("read", 3, "`i`: 3 calls that may steer the agent"),
        ("spent", 12_500_000, "`i`: 12.5 before this call"),
        ("taken", 0, "`i`: 0 before this call"),
    ],
)
def test_what_history_said_is_put_into_words(about: str, answer: Answer, words: str) -> None:
    """One is one, and more are many."""
    decision = Decision(Effect.ALLOW, 0, "v", history=(HistoryUsed("i", about, answer),))
    assert explained(decision).told == (words,)


NEVER = "rules: [{id: never, tool: bank__pay, effect: deny, reason: not here}]"
RUNS = "rules: [{id: runs, tool: bank__pay, effect: allow, reason: work}]"
NO_CALLS = "budgets: [{id: none, tool: bank__pay, count: true, limit: 0, window: 1d, over: deny}]"
UNREADABLE = "budgets: [{id: sum, tool: bank__pay, sum: args.amount, limit: 9, window: 1d, over: deny}]"
POINTS = "signals: [{id: risky, tool: bank__pay, points: 50, reason: risky}]"


@pytest.mark.parametrize(
    ("policy", "denied_by"),
    [
        ([NEVER], ("rule `never`",)),
        ([RUNS, NO_CALLS], ("budget `none`",)),
        ([RUNS, UNREADABLE], ("budget `sum`",)),
        ([RUNS, POINTS, "bands: [{from: 50, effect: deny}]"], ("band `band-50`",)),
        (
            [NEVER, NO_CALLS, POINTS, "bands: [{from: 5, effect: deny}]"],
            ("rule `never`", "budget `none`", "band `band-5`"),
        ),
        ([NEVER, NO_CALLS.replace("over: deny", "over: hold")], ("rule `never`",)),
        ([NEVER, POINTS, "bands: [{from: 50, effect: hold}]"], ("rule `never`",)),
        (["default: deny", POINTS, "bands: [{from: 50, effect: hold}]"], ()),
        ([RUNS], ()),
    ],
)
def test_what_denies_a_call_is_named_as_what_it_is(policy: list[str], denied_by: tuple[str, ...]) -> None:
    """A rule, a budget or a band; not what only asks for people, and nothing where the default denies."""
    decision = decide(policy_of("\n".join(policy)), subject_of())
    assert explained(decision).denied_by == denied_by
    assert (decision.effect is Effect.DENY) is (policy != [RUNS])
