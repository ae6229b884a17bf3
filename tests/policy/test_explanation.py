"""What is written of a decision that was made. How it is worked out for a call: see test_explain.py."""

from __future__ import annotations

import pytest

from hitl_mcp.calls import Answer, Decision, Effect, HistoryUsed
from hitl_mcp.policy.explanation import explained


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
