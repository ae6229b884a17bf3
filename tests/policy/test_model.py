"""What a policy knows of a tool before any call: what could hold it, what it could score, and which rules name it."""

from __future__ import annotations

import pytest

from hitl_mcp.limits import CONCERNED_TOOLS
from hitl_mcp.policy.model import Clocks
from tests.policy.written import policy_of


def test_of_two_pairs_of_clocks_the_shorter_of_each_counts() -> None:
    """How long people have and how long an approval stays good are looked at apart."""
    slow, quick = Clocks(100, 20), Clocks(50, 40)
    assert slow.shorter(quick) == quick.shorter(slow) == Clocks(50, 20)


def test_rules_that_concern_a_tool_go_from_the_strictest_and_shadows_stand_apart() -> None:
    """Signals and budgets keep the order they were written in; a source of taint is known by the signals it taints."""
    policy = policy_of(
        """
        rules:
          - {id: a, tool: "bank__*", effect: allow, reason: r}
          - {id: s, tool: "bank__*", effect: deny, shadow: true, reason: r}
          - {id: h, tool: "bank__*", effect: hold, reason: r}
          - {id: d, tool: "bank__pay", effect: deny, reason: r}
        signals:
          - {id: one, tool: "bank__*", points: 5, reason: r}
          - {id: two, tool: "mail__*", points: 5, reason: r, taint: {from: "bank__*", window: 1h}}
          - {id: six, tool: "bank__pay", points: 6, reason: r}
        budgets: [{id: b, tool: "bank__*", count: true, limit: 1, window: 1d, over: deny}]
        """
    )
    for _ in range(2):
        concerned = policy.concerning("bank__pay")
        assert [rule.id for rule in concerned.rules] == ["d", "h", "a"]
        assert [rule.id for rule in concerned.shadows] == ["s"]
        assert [signal.id for signal in concerned.signals] == ["one", "six"]
        assert [budget.id for budget in concerned.budgets] == ["b"]
        assert concerned.taints == ("two",)
    mail = policy.concerning("mail__send")
    assert (mail.rules, mail.shadows, mail.budgets, mail.taints) == ((), (), (), ())


def test_more_tools_than_are_remembered_are_still_told_apart() -> None:
    """What is known of tools is bounded, and begins anew when it is full."""
    policy = policy_of("rules: [{id: a, tool: bank__pay, effect: allow, reason: r}]")
    for number in range(CONCERNED_TOOLS + 5):
        assert policy.concerning(f"bank__t{number}").rules == ()
    assert [rule.id for rule in policy.concerning("bank__pay").rules] == ["a"]


@pytest.mark.parametrize(
    ("name", "may_hold", "reachable"),
    [
        ("a__held-by-budget", True, 0),
        ("a__denied-by-budget", False, 0),
        ("a__in-the-band", True, 50),
        ("a__below-the-band", False, 49),
        ("a__denied-by-band", False, 100),
    ],
)
def test_a_budget_or_a_band_may_hold_a_tool_that_a_rule_allows(name: str, may_hold: bool, reachable: int) -> None:
    """One that holds, where the tool's points reach it; one that denies holds nothing."""
    holding = policy_of(
        """
        rules: [{id: r, tool: "a__*", effect: allow, reason: r}]
        bands: [{from: 50, effect: hold}]
        signals:
          - {id: s1, tool: "a__in-the-band", points: 50, reason: r}
          - {id: s2, tool: "a__below-the-band", points: 49, reason: r}
        budgets:
          - {id: b1, tool: "a__held-by-budget", count: true, limit: 1, window: 1d, over: hold}
          - {id: b2, tool: "a__denied-by-budget", count: true, limit: 1, window: 1d, over: deny}
        """
    )
    denying = policy_of(
        """
        rules: [{id: r, tool: "a__*", effect: allow, reason: r}]
        bands: [{from: 50, effect: deny}]
        signals:
          - {id: s1, tool: "a__denied-by-band", points: 70, reason: r}
          - {id: s2, tool: "a__denied-by-band", points: 70, reason: r}
        """
    )
    policy = denying if name == "a__denied-by-band" else holding
    assert (policy.may_hold(name), policy.reachable_score(name)) == (may_hold, reachable)


def test_a_rule_may_require_that_agents_say_why() -> None:
    """Of the tools it names, and of no others; wanting a reason is less than requiring one."""
    policy = policy_of(
        "rules: [{id: a, tool: bank__pay, effect: hold, require_reason: true, reason: r},"
        " {id: b, tool: bank__get, effect: hold, reason: r}]"
    )
    assert policy.requires_reason("bank__pay")
    assert not policy.requires_reason("bank__get")
    assert policy.wants_reason("bank__get")


@pytest.mark.parametrize(
    ("name", "remembers"),
    [("a__plain", False), ("a__amount", False), ("a__velocity", True), ("a__budget", True), ("a__source", True)],
)
def test_a_policy_knows_which_tools_need_their_history(name: str, remembers: bool) -> None:
    """A signal or budget that asks for earlier calls, and a source that taints later ones."""
    policy = policy_of(
        """
        signals:
          - {id: s0, tool: a__plain, points: 5, reason: r}
          - {id: s1, tool: a__amount, points: 5, reason: r, amount: {of: args.x, low: 1, high: 2}}
          - {id: s2, tool: a__velocity, points: 5, reason: r, velocity: {window: 1h, above: 1}}
          - {id: s3, tool: b__x, points: 5, reason: r, taint: {from: a__source, window: 1h}}
        budgets: [{id: b, tool: a__budget, count: true, limit: 1, window: 1d, over: deny}]
        """
    )
    assert policy.concerning(name).remembers is remembers
