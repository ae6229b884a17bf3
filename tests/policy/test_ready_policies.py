"""The ready policies, against the tools of the real servers that each is for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hitl_mcp.calls import Decision, Effect
from hitl_mcp.config import PolicySource
from hitl_mcp.errors import PolicyError
from hitl_mcp.people import People, Reviewer
from hitl_mcp.policy import Policy, decide, load_policy
from hitl_mcp.policy.cases import CaseResult, run_case, unexercised
from hitl_mcp.policy.check import KnownTools, Tool, check_policy
from hitl_mcp.policy.load import read_policy
from hitl_mcp.policy.model import Case
from hitl_mcp.shipped import ready_policies
from tests.policy.written import subject_of

LISTS = Path(__file__).resolve().parent / "tool_lists"

RUNS = LISTS / "what_runs.txt"
"""What each ready policy lets run with the least arguments, for people to read: a line for each server."""

UPSTREAM = "up"

MEANT_FOR: dict[str, list[str]] = {
    "browser": ["playwright", "chrome-devtools", "fetch"],
    "cautious": sorted(path.stem for path in LISTS.glob("*.json")),
    "chat": ["slack"],
    "cloud": ["azure", "aws-api"],
    "databases": ["postgres", "sqlite"],
    "files": ["filesystem"],
    "git": ["git"],
    "github": ["github"],
    "kubernetes": ["kubernetes", "openshift"],
    "mail": ["gmail", "email"],
    "payments-paypal": ["paypal"],
    "payments-stripe": ["stripe"],
    "shell": ["commands", "shell-server", "desktop-commander"],
    "terraform": ["aws-terraform", "terraform"],
}
"""Which servers each ready policy is written for."""

TWO_PEOPLE = People(reviewers={name: Reviewer(name, frozenset({"ours"})) for name in ("dana", "li")})

ROLES = {"approver": "ours", "finance": "ours", "platform": "ours"}

ALONE = "the band from 75 asks for 2 reviewers, and there is 1"
"""What is found in a policy that asks for two people where there is one."""

FITTING = {"query": "SELECT 1", "sql": "SELECT 1", "url": "https://example.com/", "command": "x"}
"""Texts for arguments whose schema says no more than that they are text."""


class Listed(NamedTuple):
    """A tool as its server listed it, beside the ready policy that is meant for it."""

    policy: str
    server: str
    tool: str
    schema: dict[str, Any]


@cache
def tools_of(server: str) -> dict[str, dict[str, Any]]:
    """The input schemas of a server's tools, by their names."""
    content = json.loads((LISTS / f"{server}.json").read_text(encoding="utf-8"))
    return {tool["name"]: tool["inputSchema"] for tool in content["tools"]}


def source_of(name: str) -> PolicySource:
    """A ready policy, used for one upstream."""
    return PolicySource(ready_policies()[name], UPSTREAM, ROLES)


@cache
def ready(name: str) -> Policy:
    """A ready policy as it is used."""
    return load_policy([source_of(name)], TWO_PEOPLE)


def every_tool(policy: str) -> Iterator[Listed]:
    """Each tool of each server that a ready policy is meant for."""
    for server in MEANT_FOR[policy]:
        for tool, schema in tools_of(server).items():
            yield Listed(policy, server, tool, schema)


def least(schema: Any, name: str = "") -> Any:
    """A small value that fits a schema: what is required and nothing else."""
    if not isinstance(schema, dict):
        return "x"
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return least(schema[choice][0], name)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "array":
        return [least(schema.get("items", {}))]
    if kind == "object":
        properties = schema.get("properties", {})
        return {key: least(properties.get(key, {}), key) for key in schema.get("required", [])}
    plain: dict[str, Any] = {"string": FITTING.get(name, "x"), "number": 1, "integer": 1, "boolean": False}
    return plain.get(kind)


def decided(listed: Listed, arguments: dict[str, Any] | None = None) -> Decision:
    """What the policy says of a call of the tool, with its least arguments where none are given."""
    name = f"{UPSTREAM}__{listed.tool}"
    arguments = least({**listed.schema, "type": "object"}) if arguments is None else arguments
    return decide(ready(listed.policy), subject_of(name, arguments, listed.schema))


def schemas_for(case: Case, policy: str) -> list[dict[str, Any] | None]:
    """The schemas that the tool of a case has at the servers the policy is meant for, or that it is not known."""
    tool = case.tool.partition("__")[2]
    found: list[dict[str, Any] | None] = [
        tools_of(server)[tool] for server in MEANT_FOR[policy] if tool in tools_of(server)
    ]
    return found or [None]


def results(policy: str) -> list[CaseResult]:
    """Every case of a ready policy, with each schema its tool has."""

    def run(case: Case, schema: dict[str, Any] | None) -> CaseResult:
        return run_case(ready(policy), case, lambda _: schema)

    return [run(case, schema) for case in ready(policy).cases for schema in schemas_for(case, policy)]


def test_every_ready_policy_is_looked_at_here() -> None:
    """A new one names the servers it is for, and there are lists of at least nine servers."""
    assert set(MEANT_FOR) == set(ready_policies())
    servers = {json.loads(path.read_text(encoding="utf-8"))["server"] for path in LISTS.glob("*.json")}
    assert len(servers) >= 9
    assert {server for servers in MEANT_FOR.values() for server in servers} == {
        path.stem for path in LISTS.glob("*.json")
    }


@pytest.mark.parametrize("policy", MEANT_FOR)
def test_every_tool_is_decided_by_a_rule(policy: str) -> None:
    """None by the default alone, and none only because a condition could not be evaluated."""
    rules = {rule.id for rule in ready(policy).rules}
    undecided = [
        f"{one.server}: {one.tool}"
        for one in every_tool(policy)
        if not any(match.error is None and match.id in rules for match in decided(one).rules)
    ]
    assert undecided == []


@pytest.mark.parametrize("policy", MEANT_FOR)
def test_nothing_is_found_in_a_ready_policy(policy: str) -> None:
    """Held against the tools of each server that it is for: no finding, no note, no tool left to the default."""
    for server in MEANT_FOR[policy]:
        known = KnownTools(
            tuple(Tool(f"{UPSTREAM}__{name}", schema) for name, schema in tools_of(server).items()),
            listed=frozenset({UPSTREAM}),
            upstreams=frozenset({UPSTREAM}),
        )
        report = check_policy(read_policy([source_of(policy)], TWO_PEOPLE), known, {ready_policies()[policy]})
        assert (report.findings, report.notes, report.by_default) == ((), (), ())


@pytest.mark.parametrize("policy", MEANT_FOR)
def test_every_case_of_a_ready_policy_holds(policy: str) -> None:
    """Also with the schema that its tool has at each server."""
    wrong = [
        f"{result.case.tool} {dict(result.case.arguments)}: {'; '.join(result.problems)}"
        for result in results(policy)
        if result.problems
    ]
    assert wrong == []


@pytest.mark.parametrize("policy", MEANT_FOR)
def test_every_rule_signal_and_budget_is_exercised(policy: str) -> None:
    """A case beside it shows what each is for."""
    assert unexercised(ready(policy), results(policy)) == ()


@pytest.mark.parametrize("policy", MEANT_FOR)
def test_every_call_that_runs_is_one_of_a_tool_that_is_known(policy: str) -> None:
    """A tool that a server adds tomorrow, whatever it is called and whatever arguments it is given, does not run."""
    names = [
        "purge",
        "do",
        "run",
        "admin_command",
        "execute",
        "purge_query_sql",
        "browser_x",
        "git_x",
        "kubectl_x",
        "x_run",
    ]
    arguments: dict[str, Any] = {
        **{name: "SELECT 1" for name in ("sql", "query")},
        **{"learn": True, "dryRun": True, "command": "storage_account_get", "url": "https://example.com", "amount": 1},
    }
    for name in names:
        for given in ({}, arguments, {"learn": True}, {"command": "ls"}, {"sql": "SELECT 1"}):
            assert decided(Listed(policy, "", name, {"type": "object"}), given).effect is not Effect.ALLOW


@pytest.mark.parametrize("policy", MEANT_FOR)
def test_no_broken_argument_makes_a_call_run(policy: str) -> None:
    """A call that is not allowed as it is meant is not allowed with an argument missing, or of another type."""
    for one in every_tool(policy):
        if decided(one).effect is Effect.ALLOW:
            continue
        arguments = least({**one.schema, "type": "object"})
        for name in arguments:
            other: Any
            for other in (None, 7, [], {}, ["x"], "", True):
                changed = {**arguments, name: other}
                if decided(one, changed).effect is Effect.ALLOW:
                    assert fits(one, name, other), f"{one.server}: {one.tool} runs with {name} = {other!r}"
            without = {key: value for key, value in arguments.items() if key != name}
            assert decided(one, without).effect is not Effect.ALLOW, f"{one.server}: {one.tool} runs without {name}"


def fits(one: Listed, name: str, value: Any) -> bool:
    """Whether a value is of the type that the schema gives for an argument."""
    kinds = {"string": str, "array": list, "object": dict, "boolean": bool, "number": int, "integer": int}
    kind = one.schema.get("properties", {}).get(name, {}).get("type")
    return isinstance(kind, str) and type(value) is kinds[kind]


def test_what_runs_without_a_person() -> None:
    """The whole list is written down, so that a change of a policy shows what it lets run."""
    lines = []
    for policy in MEANT_FOR:
        for server in MEANT_FOR[policy]:
            running = (one.tool for one in every_tool(policy) if one.server == server and allowed(one))
            lines.append(f"{policy}, {server}: {', '.join(sorted(running))}".rstrip())
    assert lines == RUNS.read_text(encoding="utf-8").splitlines()


def allowed(one: Listed) -> bool:
    """Whether a tool runs with the least arguments."""
    return decided(one).effect is Effect.ALLOW


@pytest.mark.parametrize("policy", MEANT_FOR)
def test_a_ready_policy_can_be_used_by_one_person_alone(policy: str) -> None:
    """Where no reviewers are configured there is one, with every role; only payments ask for two people."""
    if not policy.startswith("payments-"):
        assert load_policy([replace(source_of(policy), roles={})], People()).rules
        return
    with pytest.raises(PolicyError) as caught:
        load_policy([replace(source_of(policy), roles={})], People())
    assert [finding.message for finding in caught.value.findings] == [ALONE]


def test_the_ready_policies_can_be_used_together() -> None:
    """Each for an upstream of its own, the cautious one for two; only one of them may bring bands."""
    names = [name for name in MEANT_FOR if name != "payments-paypal"]
    sources = [PolicySource(ready_policies()[name], name.replace("-", ""), ROLES) for name in names]
    policy = load_policy([*sources, PolicySource(ready_policies()["cautious"], "other")], TWO_PEOPLE)
    assert decide(policy, subject_of("files__directory_tree", {"path": "/srv"})).effect is Effect.ALLOW
    assert decide(policy, subject_of("other__get_page", {"id": 1})).effect is Effect.ALLOW
    assert decide(policy, subject_of("other__directory_tree", {"path": "/srv"})).effect is Effect.HOLD
