"""Cases beside the rules: what they ask, what they are told of history, and what they find."""

from __future__ import annotations

from hitl_mcp.canonical import digest_of
from hitl_mcp.policy.cases import given_history, run_case, unexercised
from hitl_mcp.policy.history import About, Question
from tests.policy.written import policy_of

POLICY = """
bands: [{from: 40, effect: hold}]
signals:
  - {id: first, tool: mail__send, points: 20, reason: new, novelty: {of: args.to}}
  - {id: burst, tool: mail__send, points: 30, reason: many, velocity: {window: 1h, above: 5}}
rules:
  - {id: mail, tool: mail__send, effect: allow, reason: work}
  - {id: night, tool: mail__send, effect: hold, when: 'now.getHours("UTC") < 6', reason: nobody looks}
  - id: prod
    tool: mail__send
    effect: deny
    when: upstream.labels.env == "prod"
    unless: agent == "root"
    reason: never there
budgets:
  - {id: daily, tool: mail__send, sum: args.cost, unit: args.cur, limit: {EUR: 10}, window: 1d, over: deny}
"""
CALL = "tool: mail__send, args: {to: ann, cost: 1, cur: EUR}"
TEST = "labels: {env: test}"


def problems(*cases: str) -> list[tuple[str, ...]]:
    """What each case finds."""
    policy = policy_of(f"{POLICY}cases:\n" + "".join(f"  - {{{case}}}\n" for case in cases))
    return [run_case(policy, case).problems for case in policy.cases]


def test_a_case_passes_where_the_policy_says_what_it_expects() -> None:
    """Effect, rules and signals that must be among those that matched, and the score."""
    assert (
        problems(
            f"call: {{{CALL}, {TEST}}}, expect: {{effect: allow, rules: [mail], signals: [first], score: 20}}",
            f"call: {{{CALL}, {TEST}}}, given: {{first: [ann], burst: 4}}, expect: {{effect: allow, score: 0}}",
            f"call: {{{CALL}, {TEST}}}, given: {{burst: 5}}, expect: {{effect: hold, signals: [burst, first]}}",
            f"call: {{{CALL}, {TEST}, now: '2026-11-22T05:59:00Z'}}, expect: {{effect: hold, rules: [mail, night]}}",
            f"call: {{{CALL}, labels: {{env: prod}}}}, expect: {{effect: deny, rules: [prod]}}",
            f"call: {{{CALL}, labels: {{env: prod}}, agent: root}}, expect: {{effect: allow}}",
            f"call: {{{CALL}, {TEST}}}, given: {{daily: {{EUR: 9.5}}}}, expect: {{effect: deny, rules: [daily]}}",
            f"call: {{{CALL}, {TEST}}}, given: {{daily: 9}}, expect: {{effect: allow}}",
        )
        == [()] * 8
    )


def test_a_case_says_what_it_found_instead() -> None:
    """Each expectation that is not met is one problem, with what the policy said and why."""
    (found,) = problems(
        f"call: {{{CALL}, {TEST}}}, expect: {{effect: deny, rules: [mail, prod], signals: [burst], score: 5}}"
    )
    assert found == (
        'the policy says `allow`, not `deny`: work; +20: new (new: "ann")',
        "rule `prod` did not match",
        "signal `burst` added nothing",
        "the score is 20, not 5: first +20",
    )


def test_what_no_case_exercises_is_named() -> None:
    """A rule, signal or budget that matched in no case is not known to work."""
    policy = policy_of(f"{POLICY}cases: [{{call: {{{CALL}, {TEST}}}, expect: {{effect: allow}}}}]\n")
    results = [run_case(policy, case) for case in policy.cases]
    assert unexercised(policy, results) == ("night", "prod", "burst", "daily")


def test_a_case_without_a_name_is_called_by_its_place() -> None:
    """File, line and column."""
    policy = policy_of(f"{POLICY}cases: [{{call: {{{CALL}}}, expect: {{effect: allow}}}}]\n")
    assert policy.cases[0].name.endswith("policy.yaml:18:9")


def test_cases_do_not_make_another_policy() -> None:
    """They decide nothing, so calls that were held under the policy stay what they are."""
    more = policy_of(f"{POLICY}cases: [{{call: {{{CALL}}}, expect: {{effect: allow}}}}]\n")
    assert more.version == policy_of(POLICY).version


def test_a_case_is_a_whole_call() -> None:
    """Its upstream is what stands before the first `__`; its agent has an owner; its tool may have a schema."""
    policy = policy_of(
        """
        rules:
          - {id: named, tool: "proxy__*", effect: hold, when: upstream.name == "proxy" && args.size > 5, reason: r}
          - {id: apart, tool: "proxy__*", effect: hold, separate: true, reason: r}
        cases:
          - {call: {tool: proxy__git__push, owner: dana, args: {n: 1}}, expect: {effect: hold, rules: [apart]}}
        """
    )
    (case,) = policy.cases
    schema = {"type": "object", "properties": {"n": {}}}
    without = run_case(policy, case)
    knowing = run_case(policy, case, lambda name: schema if name == "proxy__git__push" else None)
    assert [match.id for match in without.decision.rules] == ["named", "apart"]
    assert [match.id for match in knowing.decision.rules] == ["apart"]
    assert without.case is case
    assert without.decision.requirements[1].barred == ("dana",)


def test_a_score_that_is_not_the_one_expected_is_added_up() -> None:
    """By every signal that counted, or by none."""
    found = problems(
        f"call: {{{CALL}, {TEST}}}, given: {{burst: 9}}, expect: {{effect: hold, score: 5}}",
        f"call: {{{CALL}, {TEST}}}, given: {{first: [ann]}}, expect: {{effect: allow, score: 5}}",
    )
    assert found == [
        ("the score is 50, not 5: burst +30, first +20",),
        ("the score is 0, not 5: no signal",),
    ]


def test_history_answers_a_case_by_unit_or_with_one_number() -> None:
    """An amount is in millionths, a number of calls is not; what is not written never happened."""
    told = given_history({"spent": {"EUR": 2.5, "": 7}, "calls": {"": 3}, "known": ["ann", 5], "odd": "x"})
    assert told(Question("spent", About.SPENT, "{}", 60, ("EUR",))) == 2_500_000
    assert told(Question("spent", About.TAKEN, "{}", 60, ("",))) == 7_000_000
    assert told(Question("spent", About.TAKEN, "{}", 60, ("USD",))) == 0
    assert told(Question("calls", About.ASKED, "{}", 60)) == 3
    assert told(Question("known", About.KNOWN, "{}", 60)) == (digest_of("ann"), digest_of(5))
    assert told(Question("odd", About.KNOWN, "{}", 60)) == ()
    assert told(Question("odd", About.READ, "{}", 60)) == told(Question("other", About.READ, "{}", 60)) == 0
