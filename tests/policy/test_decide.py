"""What a policy says of a call: the strictest counts, what is broken restricts, and every reason is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_mcp.calls import Decision, Effect, Requirement, RuleMatch, SignalMatch
from hitl_mcp.people import People
from hitl_mcp.policy import Policy, decide
from hitl_mcp.policy.conditions import Condition
from hitl_mcp.policy.match import ToolNames
from hitl_mcp.policy.model import Band, Clocks, Rule, Signal
from tests.policy.written import CLOSED, policy_of, subject_of

PAYING = """
    default: hold
    hold_defaults: {expires: 24h, run_within: 1h, roles: []}
    bands:
      - {from: 40, effect: hold}
      - {from: 75, effect: hold, quorum: 2}
      - {from: 95, effect: deny}
    signals:
      - {id: irreversible, tool: "*__delete_*", points: 45, reason: a deletion cannot be undone}
      - {id: much, tool: "bank__pay", points: 40, when: args.amount > 1000, reason: "{args.amount} is paid out"}
      - {id: abroad, tool: "bank__*", points: 35, when: args.to.startsWith("DE") == false, reason: it goes abroad}
      - {id: night, tool: "bank__pay", points: 20, when: now.getHours("UTC") < 6 || args.urgent, reason: in a hurry}
    rules:
      - {id: reads-run, tool: ["*__get_*", "bank__balance"], effect: allow, reason: reading changes nothing}
      - {id: pays-run, tool: "bank__pay", effect: allow, unless: args.to == "DE0", reason: paying is the agent's work}
      - id: to-strangers
        tool: "bank__pay"
        effect: hold
        roles: [finance]
        expires: 4h
        when: args.amount > 100
        unless: args.to in ["DE1", "DE2"]
        reason: money leaves the company
      - {id: no-casino, tool: "bank__*", effect: deny, when: 'args.to == "CASINO"', reason: not to the casino}
"""


@pytest.fixture(scope="module")
def paying() -> Policy:
    return policy_of(PAYING)


def test_an_allowed_call_says_why(paying: Policy) -> None:
    """One allow and nothing else lets a call run; the decision names the rule and the policy."""
    assert decide(paying, subject_of("bank__pay", {"amount": 5, "to": "DE1", "urgent": False}, CLOSED)) == Decision(
        effect=Effect.ALLOW,
        score=0,
        policy=paying.version,
        reasons=("paying is the agent's work",),
        rules=(RuleMatch("pays-run", Effect.ALLOW, "paying is the agent's work"),),
        expires_in_seconds=86400,
        run_within_seconds=3600,
    )


def test_the_strictest_of_rules_and_band_counts(paying: Policy) -> None:
    """A rule and a band that hold are two requirements; the shortest clocks apply; reasons start with the strictest."""
    subject = subject_of("bank__pay", {"amount": 2000, "to": "FR7", "urgent": False})
    assert decide(paying, subject) == Decision(
        effect=Effect.HOLD,
        score=75,
        policy=paying.version,
        reasons=(
            "money leaves the company",
            "a score of 75 points means hold: it is in the band from 75",
            "+40: 2000 is paid out",
            "+35: it goes abroad",
        ),
        rules=(
            RuleMatch("to-strangers", Effect.HOLD, "money leaves the company"),
            RuleMatch("pays-run", Effect.ALLOW, "paying is the agent's work"),
        ),
        signals=(SignalMatch("much", 40, "2000 is paid out"), SignalMatch("abroad", 35, "it goes abroad")),
        band="band-75",
        requirements=(Requirement("to-strangers", ("finance",)), Requirement("band-75", (), 2)),
        expires_in_seconds=4 * 3600,
        run_within_seconds=3600,
    )


def test_a_denied_call_names_the_rule_and_its_bound(paying: Policy) -> None:
    """A refusal tells which condition tripped, so that the agent can comply; it asks nobody for anything."""
    decision = decide(paying, subject_of("bank__pay", {"amount": 5, "to": "CASINO", "urgent": False}))
    assert decision.effect is Effect.DENY
    assert decision.requirements == ()
    assert decision.reasons == (
        'not to the casino (rule `no-casino`: args.to == "CASINO")',
        "+35: it goes abroad",
    )
    assert [match.id for match in decision.rules] == ["no-casino", "pays-run"]


def test_a_score_can_deny(paying: Policy) -> None:
    """Points beyond the highest band refuse the call, and never count more than a hundred."""
    signals = tuple(replace(signal, points=60) for signal in paying.signals)
    decision = decide(
        replace(paying, signals=signals), subject_of("bank__pay", {"amount": 2000, "to": "F", "urgent": True})
    )
    assert (decision.effect, decision.score, decision.band) == (Effect.DENY, 100, "band-95")


def test_a_call_that_no_rule_matches_gets_the_default(paying: Policy) -> None:
    """The default holds for anyone to answer, or denies, and says that it is the default."""
    held = decide(paying, subject_of("mail__send"))
    assert (held.effect, held.requirements) == (Effect.HOLD, (Requirement("default"),))
    assert held.reasons == ("no rule matches this call, and then the policy says hold",)
    denied = decide(replace(paying, default=Effect.DENY), subject_of("mail__send"))
    assert (denied.effect, denied.requirements) == (Effect.DENY, ())
    assert denied.reasons == ("no rule matches this call, and then the policy says deny",)


def test_the_default_stands_beside_a_band(paying: Policy) -> None:
    """A call that only a signal names is held by the default and by its band."""
    decision = decide(paying, subject_of("files__delete_all"))
    assert [requirement.id for requirement in decision.requirements] == ["band-40", "default"]
    assert decision.reasons == (
        "no rule matches this call, and then the policy says hold",
        "a score of 45 points means hold: it is in the band from 40",
        "+45: a deletion cannot be undone",
    )


# ---------------------------------------------------------------------------------------------------------------
# What cannot be evaluated

BROKEN = "there is no `nope`"

# effect, when, unless: whether the rule matches, and with which error. `?` cannot be evaluated.
BROKEN_RULES: list[tuple[Effect, str, str, bool, str | None]] = [
    (Effect.HOLD, "?", "", True, BROKEN),
    (Effect.DENY, "?", "", True, BROKEN),
    (Effect.ALLOW, "?", "", False, None),
    (Effect.HOLD, "", "?", True, BROKEN),
    (Effect.DENY, "true", "?", True, BROKEN),
    (Effect.ALLOW, "", "?", False, None),
    (Effect.HOLD, "?", "?", True, BROKEN),
    (Effect.HOLD, "?", "true", False, None),
    (Effect.ALLOW, "?", "true", False, None),
    (Effect.HOLD, "false", "?", False, None),
    (Effect.ALLOW, "false", "?", False, None),
    (Effect.HOLD, "true", "true", False, None),
    (Effect.ALLOW, "true", "false", True, None),
    (Effect.HOLD, "", "", True, None),
]


@pytest.mark.parametrize(("effect", "when", "unless", "matches", "error"), BROKEN_RULES)
def test_what_cannot_be_evaluated_restricts(
    effect: Effect, when: str, unless: str, matches: bool, error: str | None
) -> None:
    """A broken `when` matches for hold and deny and not for allow; a broken `unless` excuses nothing, and no allow."""
    rule = rule_of("r", effect, when, unless)
    decision = decide(Policy("v", rules=(rule,)), subject_of())
    assert decision.rules == ((RuleMatch("r", effect, "r matches", error),) if matches else ())


def test_a_broken_rule_says_so_in_its_sentence() -> None:
    """People and agents read that a rule applies only because it is broken, and which rule failed to allow."""
    rules = (rule_of("h", Effect.HOLD, "?"), rule_of("a", Effect.ALLOW, "", "?"))
    assert decide(Policy("v", rules=rules), subject_of()).reasons == (
        "h matches (rule `h` applies because it could not be evaluated: there is no `nope`)",
        "no other rule matches this call, and then the policy says hold",
        "rule `a` does not allow this because it could not be evaluated: there is no `nope`",
    )


def test_a_broken_signal_counts_in_full() -> None:
    """A signal that cannot be evaluated adds all its points and says so."""
    signal = Signal("s", ToolNames(["*"]), 50, "odd", Condition("args.nope == 1"))
    decision = decide(Policy("v", signals=(signal,)), subject_of())
    assert (decision.score, decision.signals) == (50, (SignalMatch("s", 50, "odd", BROKEN),))
    assert decision.reasons[-1] == f"+50: odd (in full, because it could not be evaluated: {BROKEN})"


def test_a_broken_rule_does_not_displace_a_denying_default() -> None:
    """Under `default: deny` a rule that holds lets people answer; one that is broken does not."""
    policy = Policy("v", default=Effect.DENY, rules=(rule_of("h", Effect.HOLD),))
    assert decide(policy, subject_of()).effect is Effect.HOLD
    assert decide(replace(policy, rules=(rule_of("h", Effect.HOLD, "?"),)), subject_of()).effect is Effect.DENY


def test_a_rule_over_many_tools_concerns_those_that_have_the_argument() -> None:
    """A limit on `amount` over all of a bank's tools leaves alone what has no amount, and holds what hides it."""
    policy = policy_of(
        """
        rules:
          - {id: runs, tool: "bank__*", effect: allow, reason: fine}
          - {id: limit, tool: "bank__*", effect: hold, when: args.amount > 100, reason: much}
        """
    )
    no_amount: dict[str, Any] = {"type": "object", "properties": {"account": {"type": "string"}}}
    assert decide(policy, subject_of("bank__balance", {}, no_amount)).effect is Effect.ALLOW
    assert decide(policy, subject_of("bank__balance", {"amount": 500}, no_amount)).effect is Effect.HOLD
    assert decide(policy, subject_of("bank__balance", {}, None)).effect is Effect.HOLD
    assert decide(policy, subject_of("bank__pay", {}, CLOSED)).effect is Effect.HOLD
    assert decide(policy, subject_of("bank__pay", {"amount": "5"}, CLOSED)).effect is Effect.HOLD
    assert decide(policy, subject_of("bank__pay", {"amount": 5}, CLOSED)).effect is Effect.ALLOW


def test_a_decision_never_raises() -> None:
    """Values and schemas that nothing should let through still get a decision, and a strict one."""
    policy = policy_of(
        """
        signals: [{id: s, tool: "*", points: 10, when: args.x.y == 1, reason: "{args.x.y}"}]
        rules: [{id: a, tool: "*", effect: allow, when: args.x.y == 1, reason: fine}]
        """
    )
    odd_arguments: list[dict[str, Any]] = [{"x": object()}, {"x": 2**70}, {"x": {"y": [[]] * 5}}, {}]
    odd_types: list[Any] = [5, {"type": [{}]}, {"type": {}}]
    schemas: list[Any] = [None, {"properties": []}, *({"properties": {"x": odd}} for odd in odd_types)]
    for arguments in odd_arguments:
        for schema in schemas:
            assert decide(policy, subject_of("a__b", arguments, schema)).effect is Effect.HOLD


# ---------------------------------------------------------------------------------------------------------------
# What a policy knows of a tool before any call

TOOLS = """
    signals:
      - {id: s1, tool: "risky__*", points: 30, reason: r, when: args.x == 1}
      - {id: s2, tool: "risky__very_*", points: 30, reason: r}
    bands: [{from: 50, effect: hold}, {from: 60, effect: deny}]
    rules:
      - {id: free, tool: ["free__*", "risky__*"], effect: allow, reason: r}
      - {id: some, tool: "some__*", effect: allow, when: args.x == 1, reason: r}
      - {id: but, tool: "but__*", effect: allow, unless: args.x == 1, reason: r}
      - {id: asks, tool: "asks__*", effect: hold, when: args.x == 1, reason: r}
      - {id: asks-not, tool: "asks__*", effect: allow, reason: r}
      - {id: never, tool: "never__*", effect: deny, reason: r}
      - {id: mostly, tool: "mostly__*", effect: deny, when: args.x == 1, reason: r}
"""


@pytest.mark.parametrize(
    ("name", "may_hold", "wants_reason"),
    [
        ("free__t", False, False),
        ("risky__t", False, False),  # 30 points reach no band
        ("risky__very_much", True, False),
        ("some__t", True, True),
        ("but__t", True, True),
        ("asks__t", True, False),
        ("never__t", False, True),
        ("mostly__t", True, True),
        ("unnamed__t", True, True),
    ],
)
def test_a_policy_tells_which_tools_it_may_hold(name: str, may_hold: bool, wants_reason: bool) -> None:
    """A tool that could ever be held says so before the first call, and one that is not simply allowed asks why."""
    policy = policy_of(TOOLS)
    assert (policy.may_hold(name), policy.wants_reason(name)) == (may_hold, wants_reason)


def test_under_a_denying_default_a_tool_without_holds_is_never_held() -> None:
    """Where nothing holds and the default denies, no call is ever held."""
    policy = replace(policy_of(TOOLS), default=Effect.DENY)
    assert not policy.may_hold("unnamed__t")
    assert policy.may_hold("asks__t")


# ---------------------------------------------------------------------------------------------------------------
# Properties

CONDITIONS = {"": None, "true": Condition("true"), "false": Condition("false"), "?": Condition("args.nope == 1")}


def rule_of(
    name: str, effect: Effect, when: str = "", unless: str = "", roles: Iterable[str] = (), hours: int = 24
) -> Rule:
    """A rule for every tool; its conditions are one of the keys above."""
    return Rule(
        id=name,
        tools=ToolNames(["*"]),
        effect=effect,
        reason=f"{name} matches",
        requirement=Requirement(name, tuple(roles)),
        when=CONDITIONS[when],
        unless=CONDITIONS[unless],
        clocks=Clocks(hours * 3600),
    )


conditions = st.sampled_from(sorted(CONDITIONS))
roles = st.sampled_from([(), ("finance",), ("admin",)])
hours = st.integers(1, 48)
rules = st.builds(rule_of, st.just("r"), st.sampled_from(list(Effect)), conditions, conditions, roles, hours)
restricting = st.builds(
    rule_of, st.just("new"), st.sampled_from([Effect.HOLD, Effect.DENY]), conditions, conditions, roles, hours
)
broken = st.one_of(
    st.builds(rule_of, st.just("new"), st.sampled_from(list(Effect)), st.just("?"), conditions, roles, hours),
    st.builds(rule_of, st.just("new"), st.sampled_from(list(Effect)), st.just("true"), st.just("?"), roles, hours),
)
signals = st.builds(
    Signal, st.just("s"), st.just(ToolNames(["*"])), st.integers(0, 100), st.just("r"), conditions.map(CONDITIONS.get)
)
BANDS = (
    Band(40, Effect.HOLD, Requirement("band-40")),
    Band(75, Effect.HOLD, Requirement("band-75", (), 2)),
    Band(95, Effect.DENY, Requirement("band-95")),
)


def policies(defaults: tuple[Effect, ...] = (Effect.HOLD, Effect.DENY)) -> st.SearchStrategy[Policy]:
    return st.builds(
        Policy,
        version=st.just("v"),
        default=st.sampled_from(defaults),
        requirement=roles.map(lambda names: Requirement("default", names)),
        clocks=hours.map(lambda number: Clocks(number * 3600)),
        bands=st.sampled_from([(), BANDS]),
        signals=st.lists(signals, max_size=3).map(tuple),
        rules=st.lists(rules, max_size=4).map(tuple),
    )


def no_looser(new: Decision, old: Decision) -> bool:
    """Whether a decision is at least as strict: its effect, and if it still holds, what it asks and how soon."""
    if new.effect is not old.effect:
        return new.effect.strictness > old.effect.strictness
    bands = {"band-40", "band-75"}  # more points move a call from one band to a stricter one
    asked = {one for one in old.requirements if one.id not in bands}
    kept = asked <= set(new.requirements) and quorum(new) >= quorum(old)
    return kept and new.expires_in_seconds <= old.expires_in_seconds


def quorum(decision: Decision) -> int:
    return max((requirement.quorum for requirement in decision.requirements), default=0)


def reference(policy: Policy) -> Effect:
    """The same decision, written as plainly as the design says it."""
    truth = {None: None, **{condition: text for text, condition in CONDITIONS.items()}}
    matching: list[tuple[Effect, bool]] = []
    for rule in policy.rules:
        when = truth[rule.when] or "true"
        unless = truth[rule.unless] or "false"
        if rule.effect is Effect.ALLOW:
            if (when, unless) == ("true", "false"):
                matching.append((rule.effect, True))
        elif when != "false" and unless != "true":
            matching.append((rule.effect, "?" not in (when, unless)))
    effects = [effect for effect, _ in matching]
    if not any(sure for _, sure in matching):
        effects.append(policy.default)
    score = min(100, sum(signal.points for signal in policy.signals if truth[signal.when] != "false"))
    effects += [band.effect for band in policy.bands if band.floor <= score][-1:]
    return next(effect for effect in (Effect.DENY, Effect.HOLD, Effect.ALLOW) if effect in effects)


@settings(derandomize=True, deadline=None)
@given(policies())
def test_a_decision_is_what_the_plainest_reading_says(policy: Policy) -> None:
    """The effect is that of a second, plainer model; a held call always has a requirement, others never."""
    decision = decide(policy, subject_of())
    assert decision.effect is reference(policy)
    assert bool(decision.requirements) is (decision.effect is Effect.HOLD)
    assert decision.reasons
    assert decide(policy, subject_of()) == decision
    assert decision.effect is not Effect.HOLD or policy.may_hold("bank__pay")


@settings(derandomize=True, deadline=None)
@given(policies((Effect.HOLD,)), restricting)
def test_adding_a_restricting_rule_never_loosens(policy: Policy, rule: Rule) -> None:
    """One more rule that holds or denies leaves the effect as strict as it was, or makes it stricter."""
    before, after = (
        decide(replace(policy, rules=some), subject_of()) for some in (policy.rules, (*policy.rules, rule))
    )
    assert after.effect.strictness >= before.effect.strictness
    if not any(requirement.id == "default" for requirement in before.requirements):
        assert no_looser(after, before)


@settings(derandomize=True, deadline=None)
@given(policies(), broken)
def test_adding_a_broken_rule_never_loosens(policy: Policy, rule: Rule) -> None:
    """A rule of any effect that cannot be evaluated leaves every requirement standing, whatever the default."""
    before, after = (
        decide(replace(policy, rules=some), subject_of()) for some in (policy.rules, (*policy.rules, rule))
    )
    assert no_looser(after, before)


@settings(derandomize=True, deadline=None)
@given(policies(), signals)
def test_adding_a_signal_never_loosens(policy: Policy, signal: Signal) -> None:
    """More points never ask for less."""
    before, after = (
        decide(replace(policy, signals=some), subject_of()) for some in (policy.signals, (*policy.signals, signal))
    )
    assert no_looser(after, before)


@settings(derandomize=True, deadline=None)
@given(policies(), st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(policy: Policy, random: Any) -> None:
    """Rules can be written in any order."""
    shuffled = list(policy.rules)
    random.shuffle(shuffled)
    before, after = decide(policy, subject_of()), decide(replace(policy, rules=tuple(shuffled)), subject_of())
    assert (after.effect, set(after.requirements)) == (before.effect, set(before.requirements))
    assert set(after.reasons) == set(before.reasons)


def test_no_reviewers_still_hold() -> None:
    """A policy for one person alone works with the one reviewer there is."""
    policy = policy_of("rules: [{id: a, tool: '*', effect: hold, roles: [boss], reason: r}]", People())
    assert decide(policy, subject_of()).requirements == (Requirement("a", ("boss",)),)
