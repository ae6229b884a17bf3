"""What may be written in a policy, what is refused and where, and how several files become one policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hitl_mcp.calls import Effect, Requirement
from hitl_mcp.config import PolicySource
from hitl_mcp.errors import PolicyError
from hitl_mcp.people import Agent, People, Reviewer
from hitl_mcp.policy import Policy, load_policy
from tests.policy.written import TWO_PEOPLE, policy_of, unmarked

RULE = "id: a, tool: up__t, reason: r"
HOLD = f"{RULE}, effect: hold"
RULE_KEYS = (
    "its keys are `id`, `tool`, `effect`, `reason`, `when`, `unless`, `roles`, `quorum`, `expires`, `run_within`, "
    "`undo`, `assurance`, `separate`, `surfaces`, `grantable`, `require_reason`, `record`, `shadow`, `preview`, `probe`"
)
SIGNAL_KEYS = (
    "its keys are `id`, `tool`, `points`, `reason`, `when`, `unless`, `amount`, `count`, `novelty`, `velocity`, "
    "`spend`, `taint`, `rejections`"
)
FILE_KEYS = "its keys are `version`, `default`, `hold_defaults`, `bands`, `signals`, `rules`, `budgets`, `cases`"
VARIABLES = "names are `args`, `tool`, `upstream.name`, `upstream.labels`, `agent`, `now`"
DURATIONS = "write a number and a unit: `90s`, `30m`, `24h`, `7d`"

# What is written under `version: 1`, and all that is found; `«` marks the places, one for each finding.
REFUSED = [
    (
        "default: «allow",
        "`default` cannot be `allow`: a call that no rule names must not run unseen\n"
        "  help: write `hold` or `deny`, and a rule with `effect: allow` for what may run",
    ),
    (
        "default: «hodl",
        "unknown default `hodl`\n  help: did you mean `hold`? defaults are `hold`, `deny`",
    ),
    ("rules: «{}", "`rules` must be a list, not a mapping\n  help: start each entry with `- `"),
    ("rules: [«x]", "`rules[0]` must be a mapping (`key: value`), not text"),
    ("«rulez: []", f"unknown key `rulez` in a policy file\n  help: did you mean `rules`? {FILE_KEYS}"),
    # A key that is not known is never ignored.
    ("«grants: []", f"unknown key `grants` in a policy file\n  help: {FILE_KEYS}"),
    (
        "signals: [{id: s, tool: up__t, points: 5, reason: r, «colour: red}]",
        f"unknown key `colour` in a signal\n  help: {SIGNAL_KEYS}",
    ),
    (f"rules: [{{{HOLD}, «priority: 1}}]", f"unknown key `priority` in a rule\n  help: {RULE_KEYS}"),
    # Rules
    (
        f"rules: [{{{RULE}, effect: «alow}}]",
        "unknown effect `alow`\n  help: did you mean `allow`? effects are `allow`, `hold`, `deny`",
    ),
    (
        "rules: [«««{id: a}]",
        "\n".join(
            f"missing key `{key}` in a rule\n  help: a rule needs `id`, `tool`, `effect`, `reason`"
            for key in ("tool", "effect", "reason")
        ),
    ),
    (
        "rules: [{id: «a b, tool: up__t, effect: hold, reason: r}]",
        "not an id: `a b`\n  help: an id has 1 to 64 letters, digits, `-`, `_` and `.`, and no spaces",
    ),
    (
        "rules: [{id: «band-75, tool: up__t, effect: hold, reason: r}]",
        "the id `band-75` is taken\n  help: `default` and `band-…` name what the policy itself asks for",
    ),
    (
        "rules: [{id: a, tool: «delete_*, effect: deny, reason: r}]",
        "no upstream is named in `delete_*`\n  help: write the full name, such as `*__delete_*`",
    ),
    (
        'rules: [{id: a, tool: ["up__t", «"Up__t"], effect: deny, reason: r}]',
        "no upstream is named in `Up__t`\n  help: write the full name, such as `*__Up__t`",
    ),
    (
        "rules: [{id: a, tool: «[], effect: deny, reason: r}]",
        "no tool is named\n  help: write a full name, `<upstream>__<tool>`, or a glob with `*` and `?`",
    ),
    (
        "rules: [{id: a, tool: «7, effect: deny, reason: r}]",
        "no tool is named\n  help: write a full name, `<upstream>__<tool>`, or a glob with `*` and `?`",
    ),
    (
        "rules: [{id: a, tool: up__t, effect: deny, reason: «' '}]",
        "the reason is empty\n  help: say why in one sentence: reviewers and agents read it",
    ),
    (
        "rules: [{id: a, tool: up__t, effect: deny, reason: «'" + "x" * 501 + "'}]",
        "the reason is longer than 500 characters\n  help: say it in one sentence",
    ),
    (
        "rules: [{id: a, tool: up__t, effect: deny, reason: «'to {args[0]}'}]",
        "not a place for an argument: `{args[0]}`\n  help: write `{args.name}`, or `{args.name.inner}`",
    ),
    (f"rules: [{{{HOLD}, expires: «24}}]", f"not a duration: `24`\n  help: {DURATIONS}"),
    (f"rules: [{{{HOLD}, run_within: «0h}}]", f"not a duration: `0h`\n  help: {DURATIONS}"),
    (
        f"rules: [{{{HOLD}, expires: «1w}}]",
        "not a duration: `1w`\n  help: write `7d`; a duration is a number and a unit: `90s`, `30m`, `24h`, `7d`",
    ),
    (
        f"rules: [{{{HOLD}, expires: «366d}}]",
        "too long: `366d`\n  help: nothing waits longer than `365d`",
    ),
    (
        f"rules: [{{{HOLD}, quorum: «0}}]",
        "`quorum` out of range: `0`\n  help: `quorum` is a whole number from 1 to 20",
    ),
    (
        f"rules: [{{{RULE}, effect: allow, «quorum: 2, «expires: 1h}}]",
        "`quorum` means nothing in a rule whose effect is `allow`\n"
        "  help: leave it out, or write `effect: hold`\n"
        "`expires` means nothing in a rule whose effect is `allow`\n"
        "  help: leave it out, or write `effect: hold`",
    ),
    # An emptied condition must not become no condition.
    (
        f"rules: [{{{RULE}, effect: allow, when: «}}]",
        "a condition must be text\n  help: write a CEL expression, or leave the key out",
    ),
    (
        f"rules: [{{{RULE}, effect: allow, when: «''}}]",
        "a condition must be text\n  help: write a CEL expression, or leave the key out",
    ),
    (
        f"rules: [{{{HOLD}, roles: «}}]",
        "`roles` must be a list, not nothing\n  help: leave the key out, or write `[]`",
    ),
    # Signals
    (
        "signals: [{id: s, tool: up__t, points: «101, reason: r}]",
        "`points` out of range: `101`\n  help: `points` is a whole number from 0 to 100",
    ),
    (
        "signals: [{id: s, tool: up__t, points: «-5, reason: r}]",
        "`points` out of range: `-5`\n  help: `points` is a whole number from 0 to 100",
    ),
    # Bands
    (
        "bands: [{from: 40, effect: «allow}]",
        "unknown effect `allow`\n  help: effects are `hold`, `deny`",
    ),
    (
        "bands: [{from: 40, effect: hold}, {from: «40, effect: deny}]",
        "two bands start at 40\n  help: give each score one meaning",
    ),
    (
        "bands: [«{from: 75, effect: hold}, {from: 40, effect: hold, quorum: 2}]",
        "the band from 75 is milder than the band from 40\n"
        "  help: more points must ask for as much or more: raise `effect` or `quorum`, or name `roles`",
    ),
    (
        "bands: [{from: 40, effect: deny}, «{from: 75, effect: hold}]",
        "the band from 75 is milder than the band from 40\n"
        "  help: more points must ask for as much or more: raise `effect` or `quorum`, or name `roles`",
    ),
    (
        "bands: [{from: 40, effect: hold, roles: [finance]}, «{from: 75, effect: hold}]",
        "the band from 75 is milder than the band from 40\n"
        "  help: more points must ask for as much or more: raise `effect` or `quorum`, or name `roles`",
    ),
    (
        "bands: [{from: 40, effect: deny, «quorum: 2}]",
        "`quorum` means nothing in a band whose effect is `deny`\n  help: leave it out, or write `effect: hold`",
    ),
    # People
    (
        f"rules: [{{{HOLD}, roles: [«finanse]}}]",
        "no reviewer has the role `finanse`\n  help: did you mean `finance`? their roles are `admin`, `finance`",
    ),
    (
        "hold_defaults: {roles: [«boss]}",
        "no reviewer has the role `boss`\n  help: their roles are `admin`, `finance`",
    ),
    (
        f"rules: [{{{HOLD}, roles: [admin], quorum: «2}}]",
        "rule `a` asks for 2 reviewers with the role `admin`, and there is 1\n"
        "  help: name more people under `reviewers` in the config, or lower `quorum`",
    ),
    (
        "bands: [{from: 75, effect: hold, roles: [admin, finance], quorum: «3}]",
        "the band from 75 asks for 3 reviewers with the role `admin` or `finance`, and there are 2\n"
        "  help: name more people under `reviewers` in the config, or lower `quorum`",
    ),
    (
        f"hold_defaults: {{roles: [admin]}}\nrules: [{{{HOLD}, quorum: «2}}]",
        "rule `a` asks for 2 reviewers with the role `admin`, and there is 1\n"
        "  help: name more people under `reviewers` in the config, or lower `quorum`",
    ),
    # Ids
    (
        "signals: [{id: a, tool: up__t, points: 5, reason: r}]\n"
        "rules: [{id: «a, tool: up__t, effect: deny, reason: r}]",
        "the id `a` is already used at policy.yaml:2:16\n  help: give each its own id",
    ),
    # Conditions
    (
        f"rules: [{{{HOLD}, when: «foo == 1}}]",
        f"unknown name `foo` in a condition\n  help: an argument is `args.foo`; {VARIABLES}",
    ),
    (
        f"rules: [{{{HOLD}, when: '«upstream.nmae == tool'}}]",
        f"unknown name `upstream.nmae` in a condition\n  help: did you mean `upstream.name`? {VARIABLES}",
    ),
    (
        f"rules: [{{{HOLD}, unless: 'args.y || «numbr(args.x) > 1'}}]",
        "unknown function `numbr` in a condition\n  help: did you mean `number`? write `number(args.amount)`",
    ),
    (
        f"rules: [{{{HOLD}, when: tool «> 1}}]",
        "`>` does not take (string, int) in a condition\n  help: write the text in quotes, the number without",
    ),
    (
        f"rules: [{{{HOLD}, when: args.x >«}}]",
        "not a condition: it ends too early",
    ),
    (
        f"rules: [{{{HOLD}, when: «1 + 1}}]",
        "a condition must give true or false, not a number\n  help: compare it: `… == …`, `… > …`",
    ),
    (
        f"rules: [{{{HOLD}, when: «'args.to.all(args, args == 1)'}}]",
        "`args` cannot also be the name of a macro's own variable",
    ),
    (
        f"rules: [{{{HOLD}, when: «'{'(' * 40}true{')' * 40}'}}]",
        "not a condition: expression recursion limit exceeded. limit: 32",
    ),
    (
        f"rules: [{{{HOLD}, when: «'args.x == \"{'x' * 4000}\"'}}]",
        "a condition is longer than 4000 characters",
    ),
    (
        f"rules:\n  - {{{HOLD}}}\n  - id: b\n    tool: up__t\n    effect: deny\n    reason: r\n"
        "    when: |\n      args.x == 1\n      && («foo || 1 «+ tool)\n",
        f"unknown name `foo` in a condition\n  help: an argument is `args.foo`; {VARIABLES}\n"
        "`+` does not take (int, string) in a condition",
    ),
]


@pytest.fixture(autouse=True)
def _in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(texts: dict[str, str], people: People = TWO_PEOPLE) -> str:
    """The whole message with which these files are refused."""
    for name, text in texts.items():
        Path(name).write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        load_policy([PolicySource(Path(name)) for name in texts], people)
    return str(refused.value)


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_wrong_policy_is_refused_with_place_and_meaning(text: str, message: str) -> None:
    """Every mistake names file, line, column, what is wrong and what was meant, and no policy comes of it."""
    plain, places = unmarked(f"version: 1\n{text}\n")
    expected = [f"policy.yaml:{places.pop(0)}: {line}" if line[0] != " " else line for line in message.splitlines()]
    assert refusal({"policy.yaml": plain}).splitlines() == expected
    assert places == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "policy.yaml:1:1: the file is empty\n  help: a policy file needs `version`"),
        (
            "rules: []\n",
            "policy.yaml:1:1: missing key `version` in a policy file\n  help: a policy file needs `version`",
        ),
        ("version: 2\n", "policy.yaml:1:10: unknown version `2`\n  help: this hitl-mcp reads `version: 1`"),
        (
            'version: "1"\n',
            "policy.yaml:1:10: `version` must be a whole number, not text\n  help: write the number without quotes",
        ),
        ("- a\n", "policy.yaml:1:1: must be a mapping (`key: value`), not a list"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(text: str, message: str) -> None:
    """A file must say which version of the language it is written in."""
    assert refusal({"policy.yaml": text}) == message


def test_everything_wrong_in_all_files_is_told_at_once() -> None:
    """One bad rule hides no other, a bad file hides no other file, and findings come in the order of the text."""
    message = refusal(
        {
            "a.yaml": "version: 1\nextra: 1\nrules:\n- {id: x, tool: up__t, effect: alow, reason: no}\n"
            "- {id: y, tool: up__t, effect: hold, reason: r, when: foo, roles: [boss]}\n",
            "b.yaml": "version: 1\nrules: [\n",
            "c.yaml": "version: 1\nrules:\n- {id: z, tool: up__t, effect: hold, reason: r, quorum: 9}\n",
        }
    )
    places = [line.split(": ")[0] for line in message.splitlines() if not line.startswith("  help")]
    assert places == ["a.yaml:2:1", "a.yaml:4:32", "a.yaml:4:46", "a.yaml:5:55", "b.yaml:2:8", "c.yaml:3:57"]


def test_a_file_that_is_not_there_is_refused() -> None:
    """A path that leads nowhere is a finding like any other."""
    with pytest.raises(PolicyError) as refused:
        load_policy([PolicySource(Path("none.yaml"))], TWO_PEOPLE)
    assert str(refused.value) == "none.yaml:1:1: cannot be read: no such file or directory"


def test_a_quorum_of_two_needs_two_people() -> None:
    """Where no reviewers are configured there is one, so nothing may ask for two."""
    text = "version: 1\nbands: [{from: 75, effect: hold, quorum: 2}]\n"
    assert refusal({"policy.yaml": text}, People()) == (
        "policy.yaml:2:42: the band from 75 asks for 2 reviewers, and there is 1\n"
        "  help: name more people under `reviewers` in the config, or lower `quorum`"
    )


def test_without_reviewers_every_role_can_be_asked_for() -> None:
    """Where no reviewers are configured the one there is has every role."""
    policy = policy_of(f"rules: [{{{HOLD}, roles: [anything]}}]", People())
    assert policy.rules[0].requirement == Requirement("a", ("anything",))


# ---------------------------------------------------------------------------------------------------------------
# Several files


def loaded(texts: dict[str, str], people: People = TWO_PEOPLE) -> Policy:
    for name, text in texts.items():
        Path(name).write_text(text, encoding="utf-8")
    return load_policy([PolicySource(Path(name)) for name in texts], people)


def test_several_files_are_one_policy() -> None:
    """Rules and signals of all files count together, under the defaults that one of them states."""
    policy = loaded(
        {
            "a.yaml": f"version: 1\nrules: [{{{HOLD}}}]\n",
            "b.yaml": "version: 1\ndefault: deny\nhold_defaults: {expires: 2h, roles: [finance]}\n"
            "bands: [{from: 75, effect: deny}, {from: 40, effect: hold}]\n"
            "signals: [{id: s, tool: 'up__*', points: 5, reason: r}]\n"
            "rules: [{id: b, tool: up__t, effect: allow, reason: r}]\n",
        }
    )
    assert [rule.id for rule in policy.rules] == ["a", "b"]
    assert [signal.id for signal in policy.signals] == ["s"]
    assert [band.id for band in policy.bands] == ["band-40", "band-75"]
    assert policy.default is Effect.DENY
    assert policy.rules[0].requirement == Requirement("a", ("finance",))
    assert policy.bands[0].requirement == Requirement("band-40", ("finance",))
    assert (policy.rules[0].clocks.expires_in_seconds, policy.rules[0].clocks.run_within_seconds) == (7200, 3600)


def test_what_holds_for_the_whole_policy_stands_in_one_file() -> None:
    """`default`, `hold_defaults` and `bands` cannot be said twice, and ids are unique over all files."""
    text = "version: 1\ndefault: hold\nhold_defaults: {expires: 1h}\nbands: []\n" + f"rules: [{{{HOLD}}}]\n"
    assert refusal({"a.yaml": text, "b.yaml": text}) == (
        "b.yaml:2:1: `default` already stands in a.yaml:2:1\n  help: keep it in one file\n"
        "b.yaml:3:1: `hold_defaults` already stands in a.yaml:3:1\n  help: keep it in one file\n"
        "b.yaml:4:1: `bands` already stands in a.yaml:4:1\n  help: keep it in one file\n"
        "b.yaml:5:14: the id `a` is already used at a.yaml:5:14\n  help: give each its own id"
    )


def test_the_version_is_what_the_files_say() -> None:
    """The version changes with any value, and not with layout, comments, file names or their order."""
    first = loaded({"a.yaml": f"version: 1\nrules: [{{{HOLD}}}]\n", "b.yaml": "version: 1\ndefault: deny\n"})
    again = loaded({"x.yaml": "default: deny # none\nversion: 1\n", "y.yaml": f"version: 1\nrules:\n- {{{HOLD}}}\n"})
    other = loaded({"a.yaml": f"version: 1\nrules: [{{{HOLD}, quorum: 2}}]\n", "b.yaml": "version: 1\ndefault: deny\n"})
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", first.version)
    assert first.version == again.version
    assert first.version != other.version


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800), ("365d", 31536000)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    """Seconds, minutes, hours and days."""
    policy = policy_of(f"rules: [{{{HOLD}, expires: {text}}}]")
    assert policy.rules[0].clocks.expires_in_seconds == seconds


def test_a_rule_may_ask_less_than_the_defaults() -> None:
    """Written roles replace the default ones, also where they are written as none."""
    policy = policy_of(f"hold_defaults: {{roles: [admin], run_within: 5m}}\nrules: [{{{HOLD}, roles: []}}]")
    assert policy.rules[0].requirement == Requirement("a")
    assert policy.rules[0].clocks.run_within_seconds == 300
    assert policy.requirement == Requirement("default", ("admin",))


def test_no_file_at_all_holds_everything() -> None:
    """The policy of nothing has no rules and holds by default."""
    policy = load_policy([], People(reviewers={"dana": Reviewer("dana")}))
    assert (policy.default, policy.rules, policy.signals, policy.bands) == (Effect.HOLD, (), (), ())


NEVER = (
    "what is approved could never start: `undo` is not shorter than `run_within`\n"
    "  help: an approval can be undone for some seconds or minutes"
)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "effect: hold, record: durable",
            "`record` means nothing in a rule whose effect is `hold`\n  help: what people approve is always flushed",
        ),
        (
            "effect: deny, record: durable",
            "`record` means nothing in a rule whose effect is `deny`\n  help: what is denied is always flushed",
        ),
        ("effect: hold, undo: 1h", NEVER),
        ("effect: hold, undo: 5m, run_within: 5m", NEVER),
    ],
)
def test_a_key_that_could_do_nothing_is_refused_where_it_stands(rule: str, message: str) -> None:
    """With what is so without it, or what would be meant."""
    text = f"version: 1\nrules: [{{id: a, tool: up__t, reason: r, {rule}}}]\n"
    assert refusal({"policy.yaml": text}) == f"policy.yaml:2:55: {message}"


def test_separate_people_must_be_there_whoever_owns_the_agent() -> None:
    """For an agent of each person, and for one that nobody owns; a rule that is only tried out asks nobody."""
    rule = "version: 1\nrules: [{id: a, tool: up__t, effect: hold, reason: r, separate: true, quorum: 3}]\n"
    owned = People(reviewers=TWO_PEOPLE.reviewers, agents={"builder": Agent("builder", owner="dana")})
    assert refusal({"policy.yaml": rule}, owned) == (
        "policy.yaml:2:55: rule `a` cannot be approved where `dana` owns the agent: too few others could answer\n"
        "  help: name more people under `reviewers` in the config"
    )
    Path("policy.yaml").write_text(rule.replace("hold,", "hold, shadow: true,"), encoding="utf-8")
    assert load_policy([PolicySource(Path("policy.yaml"))], owned).rules[0].shadow
