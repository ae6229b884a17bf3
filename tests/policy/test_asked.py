"""What a decision asks for beside its effect: of whom, by reading calls, in which words; and what is only a shadow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hitl_mcp.calls import Effect, Probe, ReadingCall, Requirement, RuleMatch, SignalMatch
from hitl_mcp.people import People, Reviewer
from hitl_mcp.policy import decide
from tests.policy.written import policy_of, subject_of


@pytest.mark.parametrize(("owner", "barred"), [("dana", ("dana",)), (None, ("local",))])
def test_separate_bars_whoever_owns_the_agent(owner: str | None, barred: tuple[str, ...]) -> None:
    """Where nobody is named as the owner, it is taken to be whoever sits at this machine."""
    people = People(reviewers={"dana": Reviewer("dana"), "li": Reviewer("li")})
    policy = policy_of(
        "rules: [{id: a, tool: bank__pay, effect: hold, separate: true, assurance: link, surfaces: [web], reason: r}]",
        people,
    )
    decision = decide(policy, replace(subject_of(), owner=owner))
    assert decision.requirements == (Requirement("a", (), 1, "link", barred, ("web",)),)


def test_shadow_rules_are_told_and_decide_nothing() -> None:
    """One that would match is named with its effect and reason; one that would not is not."""
    policy = policy_of(
        """
        rules:
          - {id: all, tool: bank__pay, effect: allow, reason: r}
          - {id: much, tool: bank__pay, effect: deny, shadow: true, when: args.amount > 5, reason: "{args.amount}!"}
        """
    )
    above, below = (decide(policy, subject_of(arguments={"amount": amount})) for amount in (6, 5))
    assert (above.effect, below.effect) == (Effect.ALLOW, Effect.ALLOW)
    assert above.shadows == (RuleMatch("much", Effect.DENY, "6!"),)
    assert below.shadows == ()
    assert not policy.may_hold("bank__pay")


def test_a_refusal_by_score_says_what_adds_the_points() -> None:
    """So that an agent can comply: the bound of each signal that counted, and of none that did not."""
    policy = policy_of(
        """
        bands: [{from: 60, effect: deny}]
        signals:
          - {id: amount, tool: bank__pay, points: 60, amount: {of: args.amount, low: 5, high: 50}, reason: r}
          - id: burst
            tool: bank__pay
            points: 30
            velocity: {window: 1h, above: 0}
            unless: args.to == "a"
            reason: r
          - {id: often, tool: bank__pay, points: 30, velocity: {window: 1h, above: 9}, reason: r}
        """
    )
    decision = decide(policy, subject_of(arguments={"amount": 50, "to": "b"}))
    assert decision.effect is Effect.DENY
    assert decision.reasons[0] == (
        "a score of 90 points means deny: it is in the band from 60 (points are added by "
        'amount: args.amount above 5; burst: more than 0 calls within 1h and unless args.to == "a")'
    )


# ---------------------------------------------------------------------------------------------------------------
# What a decision asks for beside people

READING = """
    rules:
      - {id: runs, tool: "bank__*", effect: allow, record: durable, unless: args.amount > 100, reason: fine}
      - id: much
        tool: bank__pay
        effect: hold
        undo: 30s
        run_within: 10m
        when: args.amount > 100
        reason: much
        preview: {tool: bank__quote, args: {amount: args.amount, to: args.to, tenth: args.amount / 10}}
        probe:
          tool: bank__find
          args: {to: args.to}
          happened: result.found
          did_not: "!result.found"
      - {id: abroad, tool: bank__pay, effect: hold, undo: 1m, when: 'args.to == "F"', reason: abroad}
      - {id: never, tool: bank__pay, effect: deny, when: args.amount > 1000, reason: never}
"""
WITH_RECIPIENT: dict[str, Any] = {"type": "object", "properties": {"amount": {}, "to": {}}}
WITHOUT_RECIPIENT: dict[str, Any] = {"type": "object", "properties": {"amount": {}}}


def test_a_held_call_brings_its_preview_and_its_probe() -> None:
    """Both are named by their rule, with arguments taken from the call; what the tool has not is left out."""
    decision = decide(policy_of(READING), subject_of(arguments={"amount": 200, "to": "DE1"}, schema=WITH_RECIPIENT))
    assert decision.previews == (ReadingCall("much", "bank__quote", '{"amount":200,"tenth":20,"to":"DE1"}'),)
    assert decision.probes == (
        Probe(ReadingCall("much", "bank__find", '{"to":"DE1"}'), "result.found", "!result.found"),
    )
    without = decide(policy_of(READING), subject_of(arguments={"amount": 200}, schema=WITHOUT_RECIPIENT))
    assert without.previews == (ReadingCall("much", "bank__quote", '{"amount":200,"tenth":20}'),)
    assert without.probes[0].call == ReadingCall("much", "bank__find", "{}")


def test_a_preview_that_cannot_be_asked_for_says_why() -> None:
    """Its arguments are not guessed: the person sees what went wrong in their place."""
    decision = decide(policy_of(READING), subject_of(arguments={"amount": 200}, schema=WITH_RECIPIENT))
    assert decision.previews == (ReadingCall("much", "bank__quote", error="there is no `to`"),)
    assert decision.probes[0].call == ReadingCall("much", "bank__find", error="there is no `to`")


def test_a_rule_that_holds_only_because_it_is_broken_asks_for_no_reading_call() -> None:
    """Nobody knows whether the call is one that the rule is about."""
    decision = decide(policy_of(READING), subject_of(arguments={"amount": "200", "to": "DE1"}, schema=WITH_RECIPIENT))
    assert decision.effect is Effect.DENY  # `never` cannot be evaluated either
    policy = policy_of(READING.replace("never, tool: bank__pay", "never, tool: bank__other"))
    held = decide(policy, subject_of(arguments={"amount": "200", "to": "DE1"}, schema=WITH_RECIPIENT))
    assert (held.effect, held.previews, held.probes) == (Effect.HOLD, (), ())


@pytest.mark.parametrize(
    ("amount", "to", "effect", "undo", "run_within", "durable", "readings"),
    [
        (5, "DE1", Effect.ALLOW, 0, 3600, True, (0, 0)),
        (200, "DE1", Effect.HOLD, 30, 600, False, (1, 1)),
        (200, "F", Effect.HOLD, 60, 600, False, (1, 1)),
        (5, "F", Effect.HOLD, 60, 3600, True, (0, 0)),
        (2000, "F", Effect.DENY, 0, 3600, False, (0, 0)),
    ],
)
def test_what_a_rule_asks_counts_only_where_the_call_is_held(
    amount: int, to: str, effect: Effect, undo: int, run_within: int, durable: bool, readings: tuple[int, int]
) -> None:
    """The longest time to undo, the shortest clock, and reading calls: a denied call needs none of them."""
    decision = decide(policy_of(READING), subject_of(arguments={"amount": amount, "to": to}, schema=WITH_RECIPIENT))
    assert (decision.effect, decision.undo_seconds, decision.run_within_seconds, decision.durable) == (
        effect,
        undo,
        run_within,
        durable,
    )
    assert (len(decision.previews), len(decision.probes)) == readings
    assert bool(decision.requirements) is (effect is Effect.HOLD)


def test_an_allowed_call_brings_its_probe_too() -> None:
    """What became of it may be unknown as well."""
    probing = "{tool: bank__find, happened: result.found, did_not: '!result.found'}"
    policy = policy_of(f"rules: [{{id: runs, tool: bank__pay, effect: allow, reason: r, probe: {probing}}}]")
    assert decide(policy, subject_of()).probes == (
        Probe(ReadingCall("runs", "bank__find"), "result.found", "!result.found"),
    )


def test_a_hold_by_the_default_alone_has_the_clocks_of_the_policy() -> None:
    """And one by a rule has the rule's, where they are longer too."""
    policy = policy_of(
        """
        hold_defaults: {expires: 2h, run_within: 20m}
        rules: [{id: slow, tool: bank__pay, effect: hold, expires: 5h, run_within: 50m, reason: r}]
        """
    )
    slow, default = decide(policy, subject_of("bank__pay")), decide(policy, subject_of("mail__send"))
    assert (slow.expires_in_seconds, slow.run_within_seconds) == (5 * 3600, 50 * 60)
    assert (default.expires_in_seconds, default.run_within_seconds) == (2 * 3600, 20 * 60)


def test_reasons_go_from_the_strictest_to_the_mildest() -> None:
    """A band or a budget that denies is said before a rule that holds."""
    policy = policy_of(
        """
        bands: [{from: 50, effect: deny}]
        signals: [{id: s, tool: bank__pay, points: 60, reason: risky}]
        rules: [{id: h, tool: bank__pay, effect: hold, reason: held}]
        budgets: [{id: b, tool: bank__pay, count: true, limit: 0, window: 1d, over: deny, reason: enough}]
        """
    )
    assert decide(policy, subject_of()).reasons == (
        "enough (0 of 0 calls within 1d are taken) (budget `b`)",
        "a score of 60 points means deny: it is in the band from 50",
        "held",
        "+60: risky",
    )


def test_a_rule_that_fails_to_allow_does_not_show_its_reason_filled_in() -> None:
    """It is named with its error, and its own sentence is not said."""
    policy = policy_of("rules: [{id: a, tool: bank__pay, effect: allow, when: args.nope, reason: '{args.x}'}]")
    decision = decide(policy, subject_of(arguments={"x": 1}))
    assert (decision.effect, decision.rules) == (Effect.HOLD, ())
    assert decision.reasons[-1] == "rule `a` does not allow this because it could not be evaluated: there is no `nope`"


def test_a_broken_condition_of_a_signal_counts_in_full_though_its_measure_says_little() -> None:
    """All points, and the condition's error."""
    policy = policy_of(
        "signals: [{id: s, tool: bank__pay, points: 40, reason: r, when: args.nope, "
        "amount: {of: args.amount, low: 100, high: 1000}}]"
    )
    decision = decide(policy, subject_of(arguments={"amount": 200}))
    assert decision.signals == (SignalMatch("s", 40, "r", "there is no `nope`"),)


@pytest.mark.parametrize("odd", ["now", "1.0 / 0.0", "[now]"])
def test_a_value_that_no_argument_can_be_is_an_error_and_not_a_fault(odd: str) -> None:
    """A time or an infinite number in a preview or a novelty leaves a decision, which is the stricter for it."""
    policy = policy_of(
        f"""
        signals: [{{id: s, tool: bank__pay, points: 30, reason: r, novelty: {{of: 'true ? {odd} : args.to'}}}}]
        rules:
          - id: a
            tool: bank__pay
            effect: hold
            reason: r
            preview: {{tool: bank__quote, args: {{at: 'true ? {odd} : args.to'}}}}
        """
    )
    decision = decide(policy, subject_of(arguments={"to": "x"}))
    assert (decision.effect, decision.score) == (Effect.HOLD, 30)
    assert decision.previews[0].error == decision.signals[0].error == "it gives what no argument can be"
