"""What each kind of signal adds, and that whatever it cannot read counts in full."""

from __future__ import annotations

from typing import Any

import pytest

from hitl_mcp.calls import Answer, Decision, Mark, SignalMatch
from hitl_mcp.canonical import digest_of
from hitl_mcp.policy import decide
from hitl_mcp.policy.conditions import Expression, Facts
from hitl_mcp.policy.history import About, Asking, History, Per, Question, nothing_before
from hitl_mcp.policy.signals import Novelty
from tests.policy.written import policy_of, subject_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"amount": {}, "to": {}, "currency": {}, "other": {"type": "string"}},
}


def scored(
    kind: str, arguments: dict[str, Any], history: History = nothing_before, name: str = "bank__pay"
) -> Decision:
    """The decision where this is the only signal, of 50 points."""
    policy = policy_of(f"signals: [{{id: s, tool: 'bank__*', points: 50, reason: because, {kind}}}]")
    return decide(policy, subject_of(name, arguments, SCHEMA), history)


def told(answer: Answer) -> History:
    """A history that has one answer."""
    return lambda question: answer


AMOUNT = "amount: {of: args.amount, low: 50, high: 5000}"
COUNT = "count: {of: args.to, low: 1, high: 100}"


@pytest.mark.parametrize(
    ("amount", "points"),
    [(0, 0), (49.99, 0), (50, 0), (51, 0), (158, 12), (500, 25), (1581, 37), (4999, 50), (5000, 50), (1e9, 50)],
)
def test_an_amount_grows_with_its_logarithm(amount: float, points: int) -> None:
    """Nothing at the low end, half at the geometric middle, all at the high end and beyond."""
    assert scored(AMOUNT, {"amount": amount}).score == points


@pytest.mark.parametrize("amount", [-1, -0.01, 1e13, "500", "many", True, None, [500], {}, 2**53 - 1])
def test_what_is_no_amount_counts_in_full(amount: object) -> None:
    """A negative amount, one beyond all reason, a text or a truth value: nobody knows what the upstream makes of it."""
    decision = scored(AMOUNT, {"amount": amount})
    assert decision.score == 50
    assert decision.signals[0].error == "it is not an amount: a number that is finite, not negative and not enormous"


def test_a_missing_amount_that_the_tool_has_counts_in_full() -> None:
    """The upstream may have a default that nobody sees here."""
    decision = scored(AMOUNT, {})
    assert (decision.score, decision.signals[0].error) == (50, "there is no `amount`")


@pytest.mark.parametrize("kind", [AMOUNT, COUNT, "novelty: {of: args.to}"])
def test_a_tool_without_the_argument_is_not_concerned(kind: str) -> None:
    """A signal over many tools says nothing of those that have no such argument."""
    schema = {"type": "object", "properties": {"other": {"type": "string"}}}
    policy = policy_of(f"signals: [{{id: s, tool: 'bank__*', points: 50, reason: because, {kind}}}]")
    assert decide(policy, subject_of("bank__quote", {"other": "x"}, schema)).score == 0
    assert decide(policy, subject_of("bank__quote", {"other": "x"}, None)).score == 50


@pytest.mark.parametrize(
    ("to", "points"),
    [(None, 0), ("a", 0), ([], 0), (["a"], 0), (["a"] * 10, 25), (["a"] * 100, 50), (["a"] * 101, 50), ({"a": 1}, 0)],
)
def test_a_count_counts_entries(to: object, points: int) -> None:
    """A list by its entries, a mapping by its members; a text is one, nothing is none."""
    assert scored(COUNT, {"to": to}).score == points


def test_novelty_counts_where_one_value_of_a_list_is_new() -> None:
    """The reason names what is new, and only that."""
    kind = "novelty: {of: args.to, window: 90d}"
    known = tuple(digest_of(value) for value in ("a", "b"))
    assert scored(kind, {"to": ["a", "b"]}, told(known)).score == 0
    decision = scored(kind, {"to": ["a", "c", "b", "d"]}, told(known))
    assert (decision.score, decision.signals[0].reason) == (50, 'because (new: "c", "d")')


def test_novelty_is_told_from_a_value_of_another_type() -> None:
    """The number 1 was approved; the text "1" was not."""
    assert scored("novelty: {of: args.to}", {"to": 1}, told((digest_of(1),))).score == 0
    assert scored("novelty: {of: args.to}", {"to": "1"}, told((digest_of(1),))).score == 50


def test_more_values_than_are_looked_up_are_new() -> None:
    """A list too long to look up counts in full, whatever history says."""
    decision = scored("novelty: {of: args.to}", {"to": [str(number) for number in range(201)]}, told(()))
    assert (decision.score, decision.signals[0].error) == (50, "there are more than 200 values")
    assert scored("novelty: {of: args.to}", {"to": []}).score == 0


@pytest.mark.parametrize(("before", "points"), [(0, 0), (2, 0), (3, 50), (1000, 50)])
def test_velocity_counts_this_call_too(before: int, points: int) -> None:
    """Above three means that the fourth counts."""
    assert scored("velocity: {window: 1h, above: 3}", {}, told(before)).score == points


@pytest.mark.parametrize(("before", "points"), [(0, 0), (2, 0), (3, 50)])
def test_rejections_count_what_people_rejected(before: int, points: int) -> None:
    """Above two means that three rejections count."""
    assert scored("rejections: {window: 1d, above: 2}", {}, told(before)).score == points


@pytest.mark.parametrize(("before", "points"), [(0, 0), (1, 50)])
def test_taint_counts_once_something_was_read(before: int, points: int) -> None:
    """One call is enough."""
    assert scored("taint: {from: 'web__*', window: 1h}", {}, told(before)).score == points


def test_a_source_leaves_a_mark_that_taints_its_agent() -> None:
    """Calling the source is what counts, although the signal is about another tool."""
    policy = policy_of(
        """
        rules: [{id: all, tool: "*__*", effect: allow, reason: r}]
        signals: [{id: s, tool: bank__pay, points: 50, reason: r, taint: {from: "web__*", window: 1h}}]
        """
    )
    marks = decide(policy, subject_of("web__fetch")).marks
    assert [(mark.item, mark.scope) for mark in marks] == [("s", '{"agent":"builder"}')]
    assert decide(policy, subject_of("bank__pay")).marks == ()


@pytest.mark.parametrize(("before", "points"), [(0, 0), (90, 25), (990, 50)])
def test_spending_counts_this_call_too(before: int, points: int) -> None:
    """Ten are asked for on top of what was spent."""
    kind = "spend: {of: args.amount, unit: args.currency, window: 1d, low: 10, high: 1000}"
    decision = scored(kind, {"amount": 10, "currency": "EUR"}, told(before * 10**6))
    assert decision.score == points
    if points:
        assert decision.signals[0].reason == f"because ({before + 10} EUR within 1d)"


@pytest.mark.parametrize("currency", [None, "", 5, "x" * 41])
def test_a_unit_that_is_none_counts_in_full(currency: object) -> None:
    """Amounts without a proper unit cannot be added up."""
    kind = "spend: {of: args.amount, unit: args.currency, window: 1d, low: 10, high: 1000}"
    assert scored(kind, {"amount": 1, "currency": currency}).signals[0].error == "the unit is not a short text"


@pytest.mark.parametrize(
    ("per", "scope"),
    [
        ("agent", '{"agent":"builder"}'),
        ("tool", '{"tool":"bank__pay"}'),
        ("[tool, agent]", '{"agent":"builder","tool":"bank__pay"}'),
        ("upstream", '{"upstream":"bank"}'),
        ("[]", "{}"),
    ],
)
def test_calls_are_counted_together_as_per_says(per: str, scope: str) -> None:
    """What a call leaves behind, and what is asked, are on the same account."""
    asked: list[Question] = []

    def answer(question: Question) -> Answer:
        asked.append(question)
        return 0

    decision = scored(f"velocity: {{per: {per}, window: 1h, above: 3}}", {}, answer)
    assert [question.scope for question in asked] == [scope] == [mark.scope for mark in decision.marks]


def test_a_condition_goes_before_the_measure() -> None:
    """Where `when` is false or `unless` true, nothing is counted or left behind; a broken one counts in full."""
    kind = "velocity: {window: 1h, above: 3}"
    for condition, points, marks in (
        ("when: args.amount > 5.0", 0, 0),
        ("unless: args.amount < 5.0", 0, 0),
        ("when: args.amount < 5.0", 50, 1),
        ("when: args.amount > args.to", 50, 1),
        ("unless: args.amount > args.to", 50, 1),
    ):
        decision = scored(f"{kind}, {condition}", {"amount": 1, "to": "x"}, told(9))
        assert (decision.score, len(decision.marks)) == (points, marks), condition


def test_what_history_said_makes_the_same_decision_again() -> None:
    """A decision keeps each answer with the signal it was for."""
    decision = scored("velocity: {window: 1h, above: 3}", {}, told(7))
    assert [(used.item, used.about, used.answer) for used in decision.history] == [("s", "asked", 7)]


def test_a_denied_call_leaves_nothing_behind() -> None:
    """What never ran counts for nothing later."""
    policy = policy_of(
        """
        rules: [{id: never, tool: "bank__*", effect: deny, reason: r}]
        signals: [{id: s, tool: "bank__*", points: 5, reason: r, velocity: {window: 1h, above: 3}}]
        """
    )
    assert decide(policy, subject_of("bank__pay")).marks == ()


def test_points_are_whole_and_add_up_to_the_score() -> None:
    """Each signal rounds by itself, so that people can add what they see."""
    policy = policy_of(
        """
        signals:
          - {id: a, tool: "bank__*", points: 33, reason: r, amount: {of: args.amount, low: 1, high: 1000}}
          - {id: b, tool: "bank__*", points: 27, reason: r, amount: {of: args.amount, low: 3, high: 700}}
        """
    )
    for amount in range(1, 1000, 37):
        decision = decide(policy, subject_of("bank__pay", {"amount": amount}))
        assert decision.score == sum(match.points for match in decision.signals)


@pytest.mark.parametrize(
    ("kind", "asked", "left"),
    [
        (
            "novelty: {of: args.to, per: agent, window: 90d}",
            Question("s", About.KNOWN, '{"agent":"builder"}', 90 * 86400, (digest_of("ann"),)),
            Mark("s", '{"agent":"builder"}', digest_of("ann")),
        ),
        (
            "velocity: {per: tool, window: 2h, above: 3}",
            Question("s", About.ASKED, '{"tool":"bank__pay"}', 7200),
            Mark("s", '{"tool":"bank__pay"}'),
        ),
        (
            "rejections: {per: upstream, window: 3d, above: 3}",
            Question("s", About.REJECTED, '{"upstream":"bank"}', 3 * 86400),
            Mark("s", '{"upstream":"bank"}'),
        ),
        (
            "spend: {of: args.amount, unit: args.currency, per: agent, window: 5m, low: 10, high: 1000}",
            Question("s", About.SPENT, '{"agent":"builder"}', 300, ("EUR",)),
            Mark("s", '{"agent":"builder"}', "EUR", 12_500_000),
        ),
        (
            "spend: {of: args.amount, per: [], window: 30s, low: 10, high: 1000}",
            Question("s", About.SPENT, "{}", 30, ("",)),
            Mark("s", "{}", "", 12_500_000),
        ),
        (
            "taint: {from: 'web__*', window: 4h}",
            Question("s", About.READ, '{"agent":"builder"}', 4 * 3600),
            None,
        ),
    ],
)
def test_what_is_asked_of_earlier_calls_is_what_this_one_leaves_for_later_ones(
    kind: str, asked: Question, left: Mark | None
) -> None:
    """By the signal's id, on its account, within its window, about the same value or unit."""
    questions: list[Question] = []

    def answer(question: Question) -> Answer:
        questions.append(question)
        return nothing_before(question)

    decision = scored(kind, {"to": "ann", "amount": 12.5, "currency": "EUR"}, answer)
    assert questions == [asked]
    assert decision.marks == (() if left is None else (left,))


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("count: {of: args.to, low: 1, high: 100}", 0, "because (3 entries)"),
        ("novelty: {of: args.to}", (digest_of("ann"), digest_of("cem")), 'because (new: "bob")'),
        ("velocity: {window: 5m, above: 3}", 7, "because (8 calls within 5m)"),
        ("velocity: {window: 1h, above: 0}", 0, "because (1 call within 1h)"),
        ("rejections: {window: 1h, above: 0}", 1, "because (1 rejected within 1h)"),
        ("count: {of: args.amount, low: 0.5, high: 100}", 0, "because (1 entry)"),
        ("velocity: {window: 90s, above: 3}", 7, "because (8 calls within 90s)"),
        ("velocity: {window: 48h, above: 3}", 7, "because (8 calls within 2d)"),
        ("rejections: {window: 36h, above: 3}", 7, "because (7 rejected within 36h)"),
        ("spend: {of: args.amount, window: 1h, low: 1, high: 10}", 10**6, "because (21 within 1h)"),
        ("taint: {from: 'web__*', window: 1h}", 1, "because"),
        ("amount: {of: args.amount, low: 1, high: 10}", 0, "because"),
    ],
)
def test_a_signal_says_what_it_found(kind: str, answer: Answer, reason: str) -> None:
    """In the call or in its history, with the window as it is written, in its largest unit."""
    decision = scored(kind, {"to": ["ann", "bob", "cem"], "amount": 20}, told(answer))
    assert [match.reason for match in decision.signals] == [reason]
    assert decision.signals[0].error is None


@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        ("velocity: {window: 1h, above: 0}", "more than 0 calls within 1h"),
        ("velocity: {window: 1h, above: 1}", "more than 1 call within 1h"),
        ("velocity: {window: 1h, above: 2}", "more than 2 calls within 1h"),
        ("rejections: {window: 1h, above: 1}", "more than 1 rejected call within 1h"),
        ("rejections: {window: 1h, above: 3}", "more than 3 rejected calls within 1h"),
        ("count: {of: args.to, low: 1, high: 100}", "more than 1 entry in args.to"),
        ("count: {of: args.to, low: 2, high: 100}", "more than 2 entries in args.to"),
    ],
)
def test_what_an_agent_must_do_with_less_of_is_said_as_people_say_it(kind: str, bound: str) -> None:
    """One is one, and none or more are many."""
    (signal,) = policy_of(f"signals: [{{id: s, tool: bank__pay, points: 9, reason: r, {kind}}}]").signals
    assert signal.bound == bound


@pytest.mark.parametrize(
    "kind",
    [
        "amount: {of: args.nope, low: 1, high: 10}",
        "count: {of: args.nope, low: 1, high: 10}",
        "novelty: {of: args.nope}",
        "spend: {of: args.nope, window: 1h, low: 1, high: 10}",
        "spend: {of: args.amount, unit: args.nope, window: 1h, low: 1, high: 10}",
    ],
)
def test_a_measure_that_cannot_be_read_counts_in_full_and_leaves_nothing(kind: str) -> None:
    """The error is told, history is not asked, and no account is charged."""
    policy = policy_of(f"signals: [{{id: s, tool: 'bank__*', points: 50, reason: because, {kind}}}]")
    decision = decide(policy, subject_of("bank__pay", {"amount": 20}), told(0))
    assert decision.signals == (SignalMatch("s", 50, "because", "there is no `nope`"),)
    assert (decision.marks, decision.history) == ((), ())


def test_a_value_that_is_known_adds_nothing_and_is_still_left_for_later() -> None:
    """Each approval of a known value keeps it known; what it was is not said again."""
    policy = policy_of(
        "signals: [{id: s, tool: bank__pay, points: 50, reason: because, novelty: {of: args.to, window: 90d}}]"
    )
    decision = decide(policy, subject_of("bank__pay", {"to": ["b", "a"]}), told((digest_of("a"), digest_of("b"))))
    assert (decision.score, decision.signals) == (0, ())
    assert {mark.value for mark in decision.marks} == {digest_of("a"), digest_of("b")}
    reading = Novelty(Expression("args.to"), Per(), 60).read(
        "s", Facts(subject_of("bank__pay", {"to": "a"})), Asking(told((digest_of("a"),)))
    )
    assert (reading.share, reading.found) == (0.0, "")


def test_as_many_values_as_are_looked_up_are_looked_up() -> None:
    """200 known values are known."""
    values = [str(number) for number in range(200)]
    known = told(tuple(digest_of(value) for value in values))
    assert scored("novelty: {of: args.to}", {"to": values}, known).score == 0


def test_the_longest_unit_is_a_unit() -> None:
    """Forty characters."""
    kind = "spend: {of: args.amount, unit: args.currency, window: 1d, low: 10, high: 1000}"
    decision = scored(kind, {"amount": 1000, "currency": "x" * 40})
    assert (decision.score, decision.signals[0].error) == (50, None)
