"""Ready policies read as if they had been written for the upstream they are used for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitl_mcp.calls import Effect
from hitl_mcp.config import PolicySource, load_config, policy_sources
from hitl_mcp.errors import ConfigError, PolicyError
from hitl_mcp.people import People, Reviewer
from hitl_mcp.policy import Policy, decide, load_policy
from hitl_mcp.policy.cases import run_case, unexercised
from hitl_mcp.shipped import ready_policies
from tests.policy.written import subject_of

READY = """
version: 1
hold_defaults: {roles: [approver]}
signals:
  - {id: steered, tool: create_issue, points: 30, reason: it read, taint: {from: [get_issue], window: 1h}}
rules:
  - {id: reads, tool: ["get_*", list_issues], effect: allow, reason: reading}
  - {id: writes, tool: create_issue, effect: hold, roles: [approver, owner], reason: people see it,
     preview: {tool: get_issue, args: {id: args.id}}}
budgets:
  - {id: few, tool: "*", count: true, limit: 100, window: 1d, over: hold, roles: [approver]}
cases:
  - {call: {tool: get_issue, args: {}}, expect: {effect: allow, rules: [reads]}}
  - call: {tool: create_issue, args: {id: 1}}
    given: {steered: true}
    expect: {effect: hold, rules: [writes], signals: [steered]}
  - {call: {tool: get_issue}, given: {few: 100}, expect: {effect: hold, rules: [few]}}
"""
FOR_UPSTREAM = "write `upstream: NAME`, or `upstream: [NAME, NAME]`: whose tools it is for"

TEAM = People(reviewers={"ann": Reviewer("ann", frozenset({"platform", "owner"}))})


def used(folder: Path, text: str = READY, people: People = TEAM, **source: object) -> Policy:
    """The ready policy, used for `gh` with `approver` mapped to `platform` unless said otherwise."""
    path = folder / "ready.yaml"
    path.write_text(text, encoding="utf-8")
    with_defaults = {"upstream": "gh", "roles": {"approver": "platform"}, **source}
    return load_policy([PolicySource(path, **with_defaults)], people)  # type: ignore[arg-type]


def test_tools_ids_and_roles_become_the_operator_s(tmp_path: Path) -> None:
    """Globs name that upstream's tools, ids carry its name, and each role is the one it is mapped to."""
    policy = used(tmp_path)
    decision = decide(policy, subject_of("gh__create_issue", {"id": 7}))
    assert [(need.id, need.roles) for need in decision.requirements] == [("gh.writes", ("platform", "owner"))]
    assert [(one.name, one.arguments_json) for one in decision.previews] == [("gh__get_issue", '{"id":7}')]
    assert decide(policy, subject_of("gh__get_x")).effect is Effect.ALLOW
    elsewhere = decide(policy, subject_of("other__get_x"))
    assert [need.roles for need in elsewhere.requirements] == [("platform",)]
    assert [signal.id for signal in policy.signals] == ["gh.steered"]
    assert policy.concerning("gh__get_issue").taints == ("gh.steered",)


def test_its_cases_are_about_the_upstream_too(tmp_path: Path) -> None:
    """They pass as they stand, and what they name is found."""
    policy = used(tmp_path)
    results = [run_case(policy, case) for case in policy.cases]
    assert [result.problems for result in results] == [(), (), ()]
    assert unexercised(policy, results) == ()


def test_two_uses_are_two_policies(tmp_path: Path) -> None:
    """The same ready policy for two upstreams: no id is taken twice."""
    path = tmp_path / "ready.yaml"
    path.write_text(READY.replace("hold_defaults: {roles: [approver]}\n", ""), encoding="utf-8")
    sources = [PolicySource(path, upstream, {"approver": "platform"}) for upstream in ("gh", "ghe")]
    policy = load_policy(sources, TEAM)
    assert {rule.id for rule in policy.rules} == {"gh.reads", "gh.writes", "ghe.reads", "ghe.writes"}


def test_a_role_that_is_not_mapped_keeps_its_name(tmp_path: Path) -> None:
    """Nobody has it: that is said, rather than anybody being let in."""
    with pytest.raises(PolicyError) as refused:
        used(tmp_path, roles={})
    assert "no reviewer has the role `approver`" in str(refused.value)


def test_a_policy_for_every_upstream_is_not_used_for_one(tmp_path: Path) -> None:
    """Its globs would match nothing."""
    everyone = 'version: 1\nrules: [{id: a, tool: "*__get_*", effect: allow, reason: r}]\n'
    with pytest.raises(PolicyError) as refused:
        used(tmp_path, everyone)
    assert str(refused.value).endswith(
        "ready.yaml:1:1: this policy is about the tools of every upstream, not of one\n  help: leave `--upstream` out"
    )
    assert used(tmp_path, everyone, upstream=None, roles={}).rules[0].id == "a"


def config(folder: Path, policies: str) -> Path:
    """A config with one upstream, `gh`."""
    path = folder / "hitl.yaml"
    path.write_text(
        f"upstreams: {{gh: {{command: x}}}}\nreviewers: {{ann: {{roles: [platform]}}}}\npolicies: {policies}\n",
        encoding="utf-8",
    )
    return path


def test_a_config_uses_ready_policies_beside_files(tmp_path: Path) -> None:
    """Files come first, then what is used, with its upstream and roles."""
    (tmp_path / "mine.yaml").write_text("version: 1\n", encoding="utf-8")
    path = config(tmp_path, "[mine.yaml, {use: github, upstream: gh, roles: {approver: platform}}]")
    sources = policy_sources(load_config(path))
    assert [(source.path.name, source.upstream, dict(source.roles)) for source in sources] == [
        ("mine.yaml", None, {}),
        ("github.yaml", "gh", {"approver": "platform"}),
    ]
    assert sources[1].path == ready_policies()["github"]


def test_one_use_names_several_upstreams(tmp_path: Path) -> None:
    """It is read once for each of them, with the same roles, and none of their ids is taken twice."""
    path = tmp_path / "hitl.yaml"
    upstreams = "{files: {command: x}, mail: {command: x}}"
    path.write_text(f"upstreams: {upstreams}\npolicies: [{{use: cautious, upstream: [files, mail]}}]\n", "utf-8")
    sources = policy_sources(load_config(path))
    assert [(source.path.name, source.upstream) for source in sources] == [
        ("cautious.yaml", "files"),
        ("cautious.yaml", "mail"),
    ]
    policy = load_policy(sources, People())
    for name in ("files__get_file_info", "mail__get_mail"):
        assert decide(policy, subject_of(name)).effect is Effect.ALLOW
    for name in ("files__write_file", "mail__send"):
        (match,) = decide(policy, subject_of(name)).rules
        assert match.id == f"{name.partition('__')[0]}.the-rest-waits"


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ("[{use: githup}]", "hitl.yaml:3:18: no ready policy is called `githup`\n  help: did you mean `github`? "),
        ("[{use: githup}]", f"hitl.yaml:3:12: `githup` is used for no upstream\n  help: {FOR_UPSTREAM}"),
        ("[{use: github, upstream: []}]", f"hitl.yaml:3:36: no upstream is named\n  help: {FOR_UPSTREAM}"),
        ("[{use: github, upstream: }]", f"hitl.yaml:3:36: no upstream is named\n  help: {FOR_UPSTREAM}"),
        (
            "[{use: github, upstream: [gh, hg]}]",
            "hitl.yaml:3:41: no upstream is called `hg`\n  help: they are `gh`",
        ),
        (
            "[{use: github, upstream: [gh, gh]}]",
            "hitl.yaml:3:41: `gh` is named twice\n  help: name each upstream once",
        ),
        ("[{use: github, upstream: '*'}]", "hitl.yaml:3:36: no upstream is called `*`\n  help: they are `gh`"),
        (
            "[{use: github, upstream: hg}]",
            "hitl.yaml:3:36: no upstream is called `hg`\n  help: they are `gh`",
        ),
        (
            "[{use: github, upstream: gh, roles: {approver: platfrom}}]",
            "hitl.yaml:3:58: no reviewer has the role `platfrom`\n  help: did you mean `platform`? their roles are ",
        ),
        ("[{usee: github}]", "hitl.yaml:3:13: unknown key `usee` in a ready policy that is used\n"),
        (
            "[5]",
            "hitl.yaml:3:12: not a policy: a file or a ready one is named\n  help: write `mine.yaml`, or ",
        ),
    ],
)
def test_what_is_wrong_with_a_use_is_said_where_it_stands(tmp_path: Path, policies: str, message: str) -> None:
    """The nearest name is offered."""
    with pytest.raises(ConfigError) as refused:
        load_config(config(tmp_path, policies))
    assert message in str(refused.value)


EVERYWHERE = """
version: 1
hold_defaults: {roles: [approver]}
bands: [{from: 40, effect: hold, roles: [approver]}]
signals: [{id: s, tool: "gh__*", points: 50, reason: r}]
rules:
  - id: lost
    tool: gh__create_issue
    effect: hold
    reason: r
    probe: {tool: gh__get_issue, args: {id: args.id}, happened: "true", did_not: "false"}
"""


def test_roles_are_mapped_also_where_no_upstream_is_named(tmp_path: Path) -> None:
    """Those of bands and of the defaults too; tools and ids stay as they are written."""
    policy = used(tmp_path, EVERYWHERE, upstream=None)
    decision = decide(policy, subject_of("gh__create_issue", {"id": 7}))
    assert [(need.id, need.roles) for need in decision.requirements] == [
        ("lost", ("platform",)),
        ("band-40", ("platform",)),
    ]
    assert [match.id for match in decision.signals] == ["s"]


def test_a_probe_is_a_call_of_that_upstream(tmp_path: Path) -> None:
    """As a preview is."""
    policy = used(tmp_path, EVERYWHERE.replace("gh__", ""))
    (probe,) = decide(policy, subject_of("gh__create_issue", {"id": 7})).probes
    assert (probe.call.rule, probe.call.name, probe.call.arguments_json) == ("gh.lost", "gh__get_issue", '{"id":7}')


@pytest.mark.parametrize(
    "text",
    [
        'signals: [{id: a, tool: "*__get_*", points: 5, reason: r}]',
        'rules: [{id: a, tool: [create_issue, "*__get_*"], effect: allow, reason: r}]',
    ],
)
def test_a_glob_over_every_upstream_is_noticed_wherever_it_stands(tmp_path: Path, text: str) -> None:
    """In a signal and in a list, too."""
    with pytest.raises(PolicyError) as refused:
        used(tmp_path, f"version: 1\n{text}\n")
    assert "this policy is about the tools of every upstream, not of one" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "version: 1\nrules: 5",
        "version: 1\nrules: [5]",
        "version: 1\nrules: [{id: a, tool: 5, effect: allow, reason: r}]",
        "version: 1\nrules: [{id: a, tool: [5], effect: allow, reason: r}]",
        "version: 1\nrules: [{id: 5, tool: x, effect: allow, reason: r}]",
        "version: 1\nrules: [{id: a, tool: x, effect: hold, roles: [5], reason: r}]",
        "version: 1\nrules: [{id: a, tool: x, effect: hold, roles: x, reason: r, preview: 5}]",
        "version: 1\nsignals: [{id: a, tool: x, points: 5, reason: r, taint: {from: 5, window: 1h}}]",
        "version: 1\ncases: 5",
        "version: 1\ncases: [5]",
        "version: 1\ncases: [{call: 5, expect: 5, given: 5}]",
        "version: 1\ncases: [{call: {tool: 5}, expect: {effect: allow, rules: 5, signals: [5]}}]",
    ],
)
def test_a_ready_policy_of_the_wrong_shape_is_refused_as_any_other(tmp_path: Path, text: str) -> None:
    """With the place where it is wrong: renaming leaves alone what it does not know."""
    with pytest.raises(PolicyError) as refused:
        used(tmp_path, text)
    assert "ready.yaml:" in str(refused.value)
