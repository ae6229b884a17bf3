"""Why a call is decided as it is, and what would change that: nothing said here is a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_mcp.calls import Decision, Effect, HistoryUsed, RuleMatch, SignalMatch
from hitl_mcp.policy import Policy, decide
from hitl_mcp.policy.cases import given_history
from hitl_mcp.policy.explain import TRIED_VALUES, Change, ExplainedCall, explain
from hitl_mcp.policy.explanation import explained
from tests.policy.written import CLOSED, policy_of, subject_of

POLICY = """
bands: [{from: 40, effect: hold}, {from: 75, effect: hold, quorum: 2}, {from: 95, effect: deny}]
signals:
  - id: amount
    tool: bank__pay
    points: 80
    amount: {of: args.amount, low: 50, high: 5000}
    reason: "{args.amount} is paid out"
  - {id: much, tool: bank__pay, points: 20, spend: {of: args.amount, low: 100, high: 10000, window: 1d}, reason: much}
  - {id: burst, tool: bank__pay, points: 20, velocity: {window: 1h, above: 2}, reason: many}
  - {id: night, tool: bank__pay, points: 10, when: 'now.getHours("UTC") > 20', reason: at night}
rules:
  - {id: small, tool: bank__pay, effect: allow, when: args.amount <= 500, reason: small change}
  - {id: large, tool: bank__pay, effect: deny, when: args.amount > 3000, reason: too much at once}
  - {id: known, tool: bank__pay, effect: hold, roles: [finance], unless: 'args.to == "shop"', reason: someone new}
  - {id: maybe, tool: bank__pay, effect: hold, shadow: true, reason: tried out}
budgets:
  - {id: daily, tool: bank__pay, sum: args.amount, limit: 1000, window: 1d, over: hold, reason: enough for today}
"""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policy_of(POLICY)


def told(policy: Policy, arguments: Mapping[str, Any], **given: Any) -> ExplainedCall:
    """A payment, explained; `given` is what history says."""
    return explain(policy, subject_of(arguments=arguments, schema=CLOSED), given_history(given))


def whys(call: ExplainedCall) -> dict[str, tuple[bool, str]]:
    """Of each rule, signal and budget whether it counts, and why."""
    return {part.id: (part.counts, part.why) for part in call.parts}


def test_the_sentence_comes_first_and_the_points_add_up(policy: Policy) -> None:
    """What decides stands first; the rest follows by strictness; the sum is the one in the score."""
    explanation = told(policy, {"amount": 400, "to": "shop"}, daily=700, much=700).explanation
    assert explanation.sentence == (
        "Held: enough for today (400 does not fit into the 300 that are left of 1000 within 1d) (budget `daily`)"
    )
    assert explanation.why[1:] == ("a score of 46 points means hold: it is in the band from 40",)
    assert [(match.id, match.points) for match in explanation.points] == [("amount", 36), ("much", 10)]
    assert (explanation.total, explanation.score) == (46, 46)
    assert explanation.addition == "36 + 10 = 46 of 100 points"
    assert explanation.shadows == ("rule `maybe` would say hold: tried out",)
    assert explanation.told == (
        "`much`: 700 before this call",
        "`burst`: 0 earlier calls",
        "`daily`: 700 before this call",
    )


def test_an_agent_is_told_the_same_in_a_line(policy: Policy) -> None:
    """Rule, condition and points stand in it; what was only tried out, and what others did, does not."""
    line = told(policy, {"amount": 4000, "to": "shop"}).explanation.in_a_line
    assert line == (
        "too much at once (rule `large`: args.amount > 3000); enough for today (4000 does not fit into the 1000 that "
        "are left of 1000 within 1d) (budget `daily`); a score of 92 points means hold: it is in the band from 75. "
        "Risk 76 + 16 = 92 of 100 points: +76: 4000 is paid out (signal `amount`); +16: much (4000 within 1d) (signal "
        "`much`)"
    )


def test_a_decision_without_points_is_one_sentence() -> None:
    """An old record or a pause has nothing to add up."""
    decision = Decision(Effect.DENY, 0, "sha256:0", reasons=("paused by dana",), paused=True)
    assert (explained(decision).sentence, explained(decision).in_a_line) == ("Denied: paused by dana", "paused by dana")
    assert explained(decision).addition == "0 of 100 points"
    assert explained(replace(decision, reasons=())).sentence == "Denied"


def test_more_than_a_hundred_points_say_so() -> None:
    """The sum that people see in their heads and the score that counts are both there."""
    signals = (SignalMatch("a", 70, "r"), SignalMatch("b", 80, "r", "odd"))
    addition = explained(Decision(Effect.HOLD, 100, "p", ("r",), signals=signals)).addition
    assert addition == "80 + 70 = 150, counted as 100 of 100 points"


def test_what_history_said_is_put_into_words() -> None:
    """Known values, earlier calls, rejected ones, sums and what may steer an agent are told apart."""
    used = (
        HistoryUsed("new", "known", ("sha256:1",)),
        HistoryUsed("new", "known", ()),
        HistoryUsed("burst", "asked", 1),
        HistoryUsed("no", "rejected", 2),
        HistoryUsed("day", "taken", 12_500_000),
        HistoryUsed("web", "read", 1),
    )
    assert explained(Decision(Effect.HOLD, 0, "p", history=used)).told == (
        "`new`: 1 value of the call known",
        "`new`: 0 values of the call known",
        "`burst`: 1 earlier call",
        "`no`: 2 rejected calls",
        "`day`: 12.5 before this call",
        "`web`: 1 call that may steer the agent",
    )
    shadow = RuleMatch("s", Effect.DENY, "no", "odd")
    assert explained(Decision(Effect.HOLD, 0, "p", shadows=(shadow,))).shadows == (
        "rule `s` would say deny: no (could not be evaluated: odd)",
    )


def test_each_part_says_why_it_counts_or_not(policy: Policy) -> None:
    """Everything that names the tool is there, in the order of the decision."""
    assert whys(told(policy, {"amount": 400, "to": "shop"}, burst=2)) == {
        "large": (False, "`when` is false: `args.amount > 3000`"),
        "known": (False, '`unless` is true: `args.to == "shop"`'),
        "small": (True, "its condition is met"),
        "daily": (False, "400 fits into the 1000 that are left of 1000 within 1d"),
        "amount": (True, "`args.amount` is 400; points from 50 on, all of them at 5,000"),
        "much": (True, "400 within 1d; points from 100 on, all of them at 10,000"),
        "burst": (True, "3 calls within 1h; it counts when there are more than 2"),
        "night": (False, '`when` is false: `now.getHours("UTC") > 20`'),
        "maybe": (True, "it has no condition"),
    }


def test_what_cannot_be_evaluated_says_so(policy: Policy) -> None:
    """A missing argument makes it stricter, and each part says that this is why."""
    parts = whys(told(policy, {"to": "shop"}))
    missing = "there is no `amount`"
    assert parts["large"] == (True, f"`when` could not be evaluated: {missing}")
    assert parts["small"] == (False, f"`when` could not be evaluated: {missing}")
    assert parts["daily"] == (True, missing)
    assert parts["amount"] == (True, f"it counts in full, because it could not be evaluated: {missing}")


def test_what_the_tool_lacks_does_not_concern_it() -> None:
    """It is named, so that nobody looks for a value that cannot be there."""
    lacking = policy_of("""
    signals:
      - {id: a, tool: "bank__*", points: 5, amount: {of: args.sum, low: 1, high: 2}, reason: r}
      - {id: n, tool: "bank__*", points: 5, novelty: {of: args.to}, reason: r}
    rules: [{id: d, tool: "bank__*", effect: deny, when: args.sum > 1, reason: r}]
    budgets: [{id: b, tool: "bank__*", sum: args.sum, limit: 1, window: 1d, over: deny}]
    """)
    assert whys(told(lacking, {"amount": 1, "to": "a"})) == {
        "d": (False, "`when` is false: `args.sum > 1` (the tool has no `sum`)"),
        "b": (False, "the tool has no such argument"),
        "a": (False, "the tool has nothing like `args.sum`"),
        "n": (True, 'new: "a"'),
    }


def test_what_left_out_would_change_it_is_named(policy: Policy) -> None:
    """Each alone, tried: what changes nothing is not named; the same effect by other people is."""
    call = told(policy, {"amount": 4000, "to": "shop"})
    assert call.without == (Change("without rule `large`", Effect.HOLD, 92, "band-75"),)
    held = told(policy, {"amount": 100, "to": "new"})
    assert held.without == (Change("without rule `known`", Effect.ALLOW, 12, None),)
    both = told(policy, {"amount": 1500, "to": "new"})
    changes = {change.what: change.effect for change in both.without}
    assert changes == {"without rule `known`, then it needs 1 by anyone": Effect.HOLD}


def test_another_argument_that_would_change_it_is_named(policy: Policy) -> None:
    """Values that conditions compare with and what a budget has left are tried, the nearest first."""
    denied = told(policy, {"amount": 4000, "to": "shop"})
    assert denied.changed == (Change("with `args.amount` 1000", Effect.HOLD, 62, "band-40"),)
    held = told(policy, {"amount": 300, "to": "shop"}, daily=900)
    assert [(change.what, change.effect) for change in held.changed] == [
        ("with `args.amount` 100", Effect.ALLOW),
        ("with `args.amount` 3001", Effect.DENY),
    ]
    new = told(policy, {"amount": 100, "to": "new"})
    assert new.changed[0] == Change('with `args.to` "shop"', Effect.ALLOW, 12, None)


def test_where_an_amount_crosses_into_a_band_is_exact(policy: Policy) -> None:
    """At the value the score is in the band, one below it is not; both were decided."""
    call = told(policy, {"amount": 100, "to": "shop"}, much=700)
    assert [(one.value, one.band, one.score, one.counted) for one in call.crossings] == [
        (274, "band-40", 40, "974 within 1d"),
        (1628, "band-75", 75, "2328 within 1d"),
        (4330, "band-95", 95, "5030 within 1d"),
    ]
    assert {one.signals for one in call.crossings} == {("amount", "much")}
    assert [(one.below, one.effect) for one in call.crossings] == [
        (Effect.ALLOW, Effect.HOLD),
        (Effect.HOLD, Effect.HOLD),
        (Effect.DENY, Effect.DENY),
    ]


@settings(max_examples=60, deadline=None)
@given(points=st.integers(1, 100), low=st.integers(1, 99), spread=st.integers(2, 500), rest=st.integers(0, 60))
def test_every_crossing_holds_when_it_is_decided(points: int, low: int, spread: int, rest: int) -> None:
    """For any scale and whatever else adds points, deciding at the value and a step below it agrees."""
    scale = f"{{of: args.amount, low: {low}, high: {low * spread}}}"
    made = policy_of(f"""
    bands: [{{from: 40, effect: hold}}, {{from: 75, effect: hold, quorum: 2}}, {{from: 95, effect: deny}}]
    signals:
      - {{id: s, tool: bank__pay, points: {points}, amount: {scale}, reason: r}}
      - {{id: t, tool: bank__pay, points: {rest}, reason: r}}
    """)
    for amount in (1, 1.5):
        step = 1 if isinstance(amount, int) else 0.01
        for one in explain(made, subject_of(arguments={"amount": amount})).crossings:
            floor = int(one.band.removeprefix("band-"))
            above = decide(made, subject_of(arguments={"amount": one.value}))
            below = decide(made, subject_of(arguments={"amount": round(one.value - step, 2)}))
            assert (above.band, above.effect, above.score) == (one.band, one.effect, one.score)
            assert below.score < floor <= above.score


def test_a_count_crosses_by_entries() -> None:
    """A list is made longer until it does; a text has one entry whatever it says."""
    counted = policy_of("""
    bands: [{from: 30, effect: hold}]
    signals: [{id: many, tool: bank__pay, points: 60, count: {of: args.to, low: 1, high: 16}, reason: many}]
    """)
    call = explain(counted, subject_of(arguments={"to": ["a"]}))
    assert [(one.value, one.counted, one.band) for one in call.crossings] == [(4, "entries", "band-30")]
    assert explain(counted, subject_of(arguments={"to": "a"})).crossings == ()


def test_a_broken_amount_crosses_nowhere(policy: Policy) -> None:
    """What counts in full already has no value at which it would begin to."""
    assert told(policy, {"amount": "many", "to": "shop"}).crossings == ()
    assert told(policy, {"to": "shop"}).crossings == ()
    assert told(policy, {"amount": -1, "to": "shop"}).crossings == ()


def test_explaining_leaves_the_call_as_it_is(policy: Policy) -> None:
    """Arguments are tried on copies, nested ones too."""
    nested = policy_of("""
    bands: [{from: 1, effect: hold}]
    signals: [{id: s, tool: bank__pay, points: 9, amount: {of: args.order.total, low: 1, high: 9}, reason: r}]
    """)
    arguments = {"order": {"total": 5}}
    call = explain(nested, subject_of(arguments=arguments))
    assert arguments == {"order": {"total": 5}}
    assert [(one.argument, one.value) for one in call.crossings] == [("args.order.total", 2)]


def test_other_kinds_of_values_are_tried_too() -> None:
    """A truth value is turned over, a text becomes one that a condition names, a number goes just past its bound."""
    made = policy_of("""
    rules:
      - {id: urgent, tool: bank__pay, effect: deny, when: args.urgent, reason: r}
      - {id: place, tool: bank__pay, effect: deny, when: "!(args.to in ['shop', \\"office\\"])", reason: r}
      - {id: much, tool: bank__pay, effect: deny, when: args.amount >= 10.5, reason: r}
      - {id: runs, tool: bank__pay, effect: allow, reason: r}
    """)
    fine = {"urgent": False, "to": "shop", "amount": 10}
    for changed, whats in (
        ({"urgent": True}, ["with `args.urgent` false"]),
        ({"to": "x"}, ['with `args.to` "shop"']),
        ({"amount": 20}, ["with `args.amount` 9.5"]),
        ({"amount": 20.5}, ["with `args.amount` 10.49"]),
    ):
        call = explain(made, subject_of(arguments={**fine, **changed}))
        assert [change.what for change in call.changed] == whats
    held = explain(made, subject_of(arguments=fine))
    assert [change.what for change in held.changed] == ["with `args.urgent` true", "with `args.amount` 10.5"]


def test_no_more_values_are_tried_than_it_is_worth(policy: Policy) -> None:
    """A long list of constants costs a bounded time; the first that are near are tried."""
    names = ", ".join(f"'n{number}'" for number in range(TRIED_VALUES + 10))
    made = policy_of(f'rules: [{{id: a, tool: bank__pay, effect: allow, reason: r, when: "args.to in [{names}]"}}]')
    assert explain(made, subject_of(arguments={"to": "x"})).changed[0].what == 'with `args.to` "n0"'
    late = policy_of(f"""
    rules:
      - {{id: a, tool: bank__pay, effect: deny, reason: r, when: "!(args.to in [{names}])"}}
      - {{id: b, tool: bank__pay, effect: deny, reason: r, when: "!(args.to in ['n{TRIED_VALUES + 5}', 'other'])"}}
      - {{id: c, tool: bank__pay, effect: allow, reason: r}}
    """)
    assert explain(late, subject_of(arguments={"to": "x"})).changed == ()


def test_a_budget_says_what_still_fits_in_its_unit() -> None:
    """The rest of the unit that the call names; where nothing is left, or something is computed, none is."""
    made = policy_of("""
    rules: [{id: runs, tool: bank__pay, effect: allow, reason: r}]
    budgets:
      - id: b
        tool: bank__pay
        sum: args.amount
        unit: args.currency
        limit: {EUR: 100, USD: 50}
        window: 1d
        over: deny
    """)
    arguments = {"amount": 90, "currency": "USD"}
    left = explain(made, subject_of(arguments=arguments), given_history({"b": {"USD": 9.5}}))
    assert [change.what for change in left.changed] == ["with `args.amount` 40.5"]
    spent = explain(made, subject_of(arguments=arguments), given_history({"b": {"USD": 50}}))
    assert spent.changed == ()
    doubled = policy_of("""
    rules: [{id: runs, tool: bank__pay, effect: allow, reason: r}]
    budgets: [{id: b, tool: bank__pay, sum: args.amount * 2, limit: 100, window: 1d, over: deny}]
    """)
    assert explain(doubled, subject_of(arguments=arguments)).changed == ()


@pytest.mark.parametrize(
    ("rest", "points", "values"),
    [(0, 40, [(61, 40)]), (0, 39, []), (40, 60, []), (39, 60, [(2, 49)]), (38, 2, [(23, 40)])],
)
def test_a_crossing_is_between_nothing_and_all_points(rest: int, points: int, values: list[tuple[int, int]]) -> None:
    """In the band with all points only: at the top of the scale. In it without any: nowhere, for it is always there."""
    made = policy_of(f"""
    bands: [{{from: 40, effect: hold}}]
    signals:
      - {{id: s, tool: bank__pay, points: {points}, amount: {{of: args.amount, low: 1, high: 64}}, reason: r}}
      - {{id: t, tool: bank__pay, points: {rest}, reason: r}}
    """)
    crossings = explain(made, subject_of(arguments={"amount": 1})).crossings
    assert [(one.value, one.score) for one in crossings] == values


def test_what_history_makes_of_a_signal_is_said() -> None:
    """Known or new, read or not: in words that fit the kind of signal."""
    made = policy_of("""
    signals:
      - {id: new, tool: bank__pay, points: 5, novelty: {of: args.to}, reason: r}
      - {id: web, tool: bank__pay, points: 5, taint: {from: "web__*", window: 1h}, reason: r}
      - {id: refused, tool: bank__pay, points: 5, rejections: {window: 1d, above: 2}, reason: r}
      - {id: always, tool: bank__pay, points: 5, reason: r}
      - {id: now, tool: bank__pay, points: 5, unless: args.to == 'b', reason: r}
    rules: [{id: later, tool: bank__pay, effect: deny, shadow: true, when: args.to == 'b', reason: r}]
    """)
    before = explain(made, subject_of(arguments={"to": "a"}), given_history({"new": ["a"], "web": 1, "refused": 3}))
    assert {part.id: (part.kind, part.counts, part.why) for part in before.parts} == {
        "new": ("signal", False, "every value is known"),
        "web": ("signal", True, "this agent called one of its tools within 1h"),
        "refused": ("signal", True, "3 rejected within 1d; it counts when there are more than 2"),
        "always": ("signal", True, "it always counts"),
        "now": ("signal", True, "its condition is met"),
        "later": ("shadow", False, "`when` is false: `args.to == 'b'`"),
    }


def test_a_list_is_not_replaced_by_a_text() -> None:
    """Only values of the kind that the call has are tried: another kind would be refused, or mean something else."""
    made = policy_of("""
    rules: [{id: a, tool: bank__pay, effect: allow, when: "args.to == 'shop'", reason: r}]
    """)
    assert explain(made, subject_of(arguments={"to": ["x"]})).changed == ()
    assert [one.what for one in explain(made, subject_of(arguments={"to": "x"})).changed] == ['with `args.to` "shop"']


def test_each_part_has_its_kind_its_effect_and_its_points(policy: Policy) -> None:
    """Rules from the strictest, then budgets, signals with the most that they could add, and what is tried out."""
    call = told(policy, {"amount": 400, "to": "shop"}, daily=700, much=700)
    assert call.decision == decide(
        policy,
        subject_of(arguments={"amount": 400, "to": "shop"}, schema=CLOSED),
        given_history({"daily": 700, "much": 700}),
    )
    assert [(part.kind, part.id, part.reason, part.effect, part.points, part.most) for part in call.parts] == [
        ("rule", "large", "too much at once", Effect.DENY, 0, 0),
        ("rule", "known", "someone new", Effect.HOLD, 0, 0),
        ("rule", "small", "small change", Effect.ALLOW, 0, 0),
        ("budget", "daily", "enough for today", Effect.HOLD, 0, 0),
        ("signal", "amount", "400 is paid out", None, 36, 80),
        ("signal", "much", "much", None, 10, 20),
        ("signal", "burst", "many", None, 0, 20),
        ("signal", "night", "at night", None, 0, 10),
        ("shadow", "maybe", "tried out", Effect.HOLD, 0, 0),
    ]


def test_a_part_says_why_it_does_not_count() -> None:
    """What an agent did not call, and every argument that the tool has not got."""
    policy = policy_of(
        """
        signals:
          - {id: web, tool: bank__pay, points: 5, reason: r, taint: {from: "web__*", window: 2h}}
          - {id: both, tool: bank__pay, points: 5, reason: r, when: args.one > args.two}
          - {id: amount, tool: bank__pay, points: 5, reason: r, amount: {of: args.one, low: 1, high: 2000}}
          - {id: large, tool: bank__pay, points: 5, reason: r, amount: {of: args.amount, low: 1, high: 2000}}
        rules: [{id: a, tool: bank__pay, effect: hold, when: args.amount > 5, reason: "{args.amount}"}]
        """
    )
    clean, tainted = (whys(told(policy, {"amount": 1}, **given)) for given in ({}, {"web": 1}))
    assert clean["web"] == (False, "this agent called none of its tools within 2h")
    assert tainted["web"] == (True, "this agent called one of its tools within 2h")
    assert clean["both"] == (False, "`when` is false: `args.one > args.two` (the tool has no `one`, `two`)")
    assert clean["amount"] == (False, "the tool has nothing like `args.one`")
    assert clean["large"] == (False, "`args.amount` is 1; points from 1 on, all of them at 2,000")
    assert clean["a"] == (False, "`when` is false: `args.amount > 5`")
    assert next(part.reason for part in told(policy, {"amount": 1}).parts) == "1"


def test_what_is_left_out_is_named_by_its_kind_with_what_is_needed_then() -> None:
    """A rule, a budget, a signal: each by itself, with the history that the decision had."""
    policy = policy_of(
        """
        bands: [{from: 40, effect: hold, roles: [finance, admin], quorum: 1}]
        signals: [{id: burst, tool: bank__pay, points: 40, reason: many, velocity: {window: 1h, above: 2}}]
        rules:
          - {id: fine, tool: bank__pay, effect: allow, reason: fine}
          - {id: two, tool: bank__pay, effect: hold, quorum: 2, reason: two people}
        budgets:
          - {id: daily, tool: bank__pay, count: true, limit: 5, window: 1d, over: hold, roles: [admin], reason: enough}
        """
    )
    call = told(policy, {}, burst=9, daily=9)
    assert [change.what for change in call.without] == [
        "without rule `two`, then it needs 1 by admin and 1 by finance or admin",
        "without budget `daily`, then it needs 1 by finance or admin and 2 by anyone",
        "without signal `burst`, then it needs 1 by admin and 2 by anyone",
    ]
