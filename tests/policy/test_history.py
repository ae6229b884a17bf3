"""Amounts as they are counted, and decisions that are made again by what they were told."""

from __future__ import annotations

import pytest

from hitl_mcp.calls import HistoryUsed
from hitl_mcp.policy.history import About, Asking, Question, in_millionths, millionths_as_text, nothing_before, replayed


@pytest.mark.parametrize(
    ("value", "millionths"),
    [
        (0, 0),
        (1, 1_000_000),
        (0.1, 100_000),
        (1.005, 1_005_000),
        (0.0000001, 1),
        (1e12, 10**18),
        (-0.0, 0),
        (-1e-9, None),
        (1e12 + 1, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ("1", None),
        (None, None),
        ([1], None),
    ],
)
def test_amounts_are_whole_millionths_rounded_up(value: object, millionths: int | None) -> None:
    """What is no amount is None; the smallest amount is more than nothing."""
    assert in_millionths(value) == millionths


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (12_500_000, "12.5"), (1, "0.000001"), (10**12, "1000000"), (100_000, "0.1")]
)
def test_millionths_read_as_people_write_amounts(amount: int, text: str) -> None:
    """No exponent, and no zeros at the end."""
    assert millionths_as_text(amount) == text


def question(item: str, about: About) -> Question:
    """A question about an hour."""
    return Question(item, about, "{}", 3600, ("",))


def test_a_decision_is_told_again_what_it_was_told_but_for_budgets() -> None:
    """What it never asked, and what is left of a budget, is asked of history as it is now."""
    used = (HistoryUsed("burst", "asked", 21), HistoryUsed("daily", "taken", 5))
    again = replayed(used, lambda asked: 99)
    assert again(question("burst", About.ASKED)) == 21
    assert again(question("daily", About.TAKEN)) == 99
    assert again(question("burst", About.REJECTED)) == 99
    assert again(question("newer", About.ASKED)) == 99


def test_on_the_first_day_nothing_has_happened() -> None:
    """No value is known and every number is zero."""
    assert [nothing_before(question("x", about)) for about in About] == [(), 0, 0, 0, 0, 0]


def test_what_was_not_told_is_asked_of_history_as_it_is_with_the_same_question() -> None:
    """Item, account, window and values go along."""
    again = replayed((HistoryUsed("burst", "asked", 21),), lambda asked: asked.window_seconds + len(asked.item))
    assert again(question("newer", About.SPENT)) == 3605


def test_an_answer_of_the_wrong_kind_is_no_answer() -> None:
    """A number where values are asked for knows nothing, values where a number is asked for are none."""
    values = Asking(lambda asked: ("sha256:a", "sha256:b"))
    number = Asking(lambda asked: 7)
    known = Question("n", About.KNOWN, "{}", 3600, ("sha256:b", "sha256:c"))
    assert (number.number(known), values.number(known)) == (7, 0)
    assert (number.known(known), values.known(known)) == (frozenset(), frozenset({"sha256:b"}))
    assert number.used == [HistoryUsed("n", "known", 7)] * 2
