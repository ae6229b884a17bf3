"""Whether a call still fits into a budget, in words that an agent can comply with, and what it takes of it."""

from __future__ import annotations

from typing import Any

import pytest

from hitl_mcp.calls import Answer, Decision, Effect, Mark, Requirement, RuleMatch
from hitl_mcp.policy import decide
from hitl_mcp.policy.budgets import take
from hitl_mcp.policy.conditions import Facts
from hitl_mcp.policy.history import About, Asking, History, Question, nothing_before
from tests.policy.written import policy_of, subject_of

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"amount": {}, "currency": {}}}
IN_EUROS = "sum: args.amount, unit: args.currency, limit: {EUR: 100, USD: 50.5}, window: 1d"
CALLS = "count: true, limit: 10, window: 2h"


def decided(
    budget: str, arguments: dict[str, Any], history: History = nothing_before, name: str = "bank__pay"
) -> Decision:
    """The decision where calls are allowed but for this budget, called `b`."""
    policy = policy_of(
        f"""
        rules: [{{id: runs, tool: "bank__*", effect: allow, reason: fine}}]
        budgets: [{{id: b, tool: "bank__*", {budget}, reason: enough}}]
        """
    )
    return decide(policy, subject_of(name, arguments, SCHEMA), history)


def spent(millionths: int) -> History:
    """A history in which so much is taken."""
    return lambda question: millionths


@pytest.mark.parametrize(
    ("before", "amount", "currency", "found"),
    [
        (0, 100, "EUR", None),
        (99_000_000, 1, "EUR", None),
        (0, 50.5, "USD", None),
        (99_000_000, 1.000001, "EUR", "1.000001 EUR does not fit into the 1 EUR that are left of 100 EUR within 1d"),
        (100_000_000, 0.01, "EUR", "0.01 EUR does not fit into the 0 EUR that are left of 100 EUR within 1d"),
        (250_000_000, 7, "EUR", "7 EUR does not fit into the 0 EUR that are left of 100 EUR within 1d"),
        (0, 50.51, "USD", "50.51 USD does not fit into the 50.5 USD that are left of 50.5 USD within 1d"),
    ],
)
def test_what_does_not_fit_says_how_much_is_left(before: int, amount: float, currency: str, found: str | None) -> None:
    """Up to the limit, to the millionth, a call runs; beyond, the reason has what was asked, is left, and of what."""
    decision = decided(f"{IN_EUROS}, over: deny", {"amount": amount, "currency": currency}, spent(before))
    if found is None:
        assert (decision.effect, decision.reasons) == (Effect.ALLOW, ("fine",))
        return
    assert decision.effect is Effect.DENY
    assert decision.reasons == (f"enough ({found}) (budget `b`)",)
    assert decision.rules[1:] == (RuleMatch("b", Effect.DENY, f"enough ({found})"),)


def test_what_fits_exactly_is_said_to_fit() -> None:
    """Explanations show budgets that are not exceeded, too."""
    policy = policy_of(f"budgets: [{{id: b, tool: bank__pay, {IN_EUROS}, over: deny}}]")
    facts = Facts(subject_of(arguments={"amount": 40, "currency": "EUR"}, schema=SCHEMA))
    taken = take(policy.budgets[0], facts, Asking(spent(60_000_000)))
    assert taken is not None
    assert not taken.exceeded
    assert taken.found == "40 EUR fits into the 40 EUR that are left of 100 EUR within 1d"


@pytest.mark.parametrize(("before", "effect"), [(9, Effect.ALLOW), (10, Effect.HOLD), (11, Effect.HOLD)])
def test_calls_are_counted_where_no_sum_is_written(before: int, effect: Effect) -> None:
    """The tenth call fits into ten, the eleventh does not."""
    decision = decided(f"{CALLS}, over: hold", {}, spent(before * 10**6))
    assert decision.effect is effect
    if effect is Effect.HOLD:
        assert decision.reasons == (f"enough ({before} of 10 calls within 2h are taken) (budget `b`)",)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"amount": 5, "currency": "GBP"}, "it has no limit for `GBP`"),
        ({"amount": 5, "currency": 3}, "the unit is not a short text"),
        ({"amount": 5}, "there is no `currency`"),
        ({"currency": "EUR"}, "there is no `amount`"),
        (
            {"amount": -5, "currency": "EUR"},
            "it is not an amount: a number that is finite, not negative and not enormous",
        ),
        ({"amount": -5, "currency": 3}, "it is not an amount: a number that is finite, not negative and not enormous"),
    ],
)
def test_a_budget_that_cannot_be_read_is_exceeded(arguments: dict[str, Any], error: str) -> None:
    """Whatever is left in it; the sentence says why, and nothing is taken."""
    decision = decided(f"{IN_EUROS}, over: deny", arguments)
    assert decision.effect is Effect.DENY
    assert decision.rules[1:] == (RuleMatch("b", Effect.DENY, "enough", error),)
    assert decision.reasons == (f"enough (budget `b` cannot be read: {error})",)
    assert decided(f"{IN_EUROS}, over: hold", arguments).marks == ()


def test_a_tool_without_the_argument_asks_nothing_of_the_budget() -> None:
    """A budget over many tools says nothing of those that have no such argument."""
    budget = "sum: args.amount, limit: 0, window: 1d, over: deny"
    policy = policy_of(
        f"""
        rules: [{{id: runs, tool: "bank__*", effect: allow, reason: fine}}]
        budgets: [{{id: b, tool: "bank__*", {budget}, reason: enough}}]
        """
    )
    schema = {"type": "object", "properties": {"other": {}}}
    decision = decide(policy, subject_of("bank__quote", {"other": 1}, schema))
    assert (decision.effect, decision.marks, decision.history) == (Effect.ALLOW, (), ())


def test_what_is_asked_and_what_is_taken_are_on_one_account() -> None:
    """By the budget's id, its account, its window and the call's unit; the mark has the amount of this call."""
    asked: list[Question] = []

    def answer(question: Question) -> Answer:
        asked.append(question)
        return 0

    decision = decided(
        f"{IN_EUROS}, per: [agent, upstream], over: deny", {"amount": 12.5, "currency": "EUR"}, answer, "bank__wire"
    )
    account = '{"agent":"builder","upstream":"bank"}'
    assert asked == [Question("b", About.TAKEN, account, 86400, ("EUR",))]
    assert decision.marks == (Mark("b", account, "EUR", 12_500_000),)
    counted = decided(f"{CALLS}, over: hold", {}, answer)
    assert asked[1:] == [Question("b", About.TAKEN, "{}", 7200, ("",))]
    assert counted.marks == (Mark("b", "{}", "", 10**6),)


def test_an_exceeded_budget_that_holds_asks_its_own_people() -> None:
    """Its roles and quorum are a requirement beside those of rules; one that denies asks nobody."""
    policy = policy_of(
        """
        rules: [{id: h, tool: bank__pay, effect: hold, roles: [admin], expires: 3h, reason: r}]
        budgets:
          - {id: b, tool: bank__pay, count: true, limit: 0, window: 1d, over: hold, roles: [finance], quorum: 2}
        """
    )
    decision = decide(policy, subject_of())
    assert decision.requirements == (Requirement("h", ("admin",)), Requirement("b", ("finance",), 2))
    assert decision.expires_in_seconds == 3 * 3600
    both = policy_of(
        """
        rules: [{id: h, tool: bank__pay, effect: hold, reason: r}]
        budgets:
          - {id: never, tool: bank__get, count: true, limit: 0, window: 1d, over: deny}
          - {id: fits, tool: bank__pay, count: true, limit: 1, window: 1d, over: hold}
        """
    )
    assert decide(both, subject_of()).requirements == (Requirement("h"),)
