"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hitl_mcp.calls import Effect
from hitl_mcp.config import PolicySource, load_config
from hitl_mcp.people import People, Reviewer
from hitl_mcp.policy import load_policy
from hitl_mcp.policy.cases import run_case, unexercised

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CONFIGS = [block for block in BLOCKS if block.startswith("upstreams:")]
POLICIES = [block for block in BLOCKS if block not in CONFIGS]
TEAM = People(reviewers={name: Reviewer(name, frozenset({"ops", "security"})) for name in ("dana", "li")})


@pytest.mark.parametrize("text", CONFIGS)
def test_its_configs_can_be_used(tmp_path: Path, text: str) -> None:
    """They name servers, policies and people in ways that are understood."""
    (tmp_path / "hitl.yaml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "hitl.yaml").upstreams


def test_its_policies_can_be_used_and_their_cases_pass(tmp_path: Path) -> None:
    """All parts that it shows, put into one policy, say of its cases what it says they say."""
    assert len(POLICIES) >= 5
    sources = []
    for number, text in enumerate(POLICIES):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text if "version:" in text else f"version: 1\n{text}", encoding="utf-8")
        sources.append(PolicySource(path))
    policy = load_policy(sources, TEAM)
    assert policy.cases
    assert [run_case(policy, case).problems for case in policy.cases] == [()] * len(policy.cases)


EXAMPLES = sorted((ROOT / "examples" / "policies").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_small_policies_to_start_from_are_small_and_do_what_their_cases_say(path: Path) -> None:
    """Each is under fifteen lines, with a case for every rule and budget, and every case passes."""
    assert len(path.read_text(encoding="utf-8").splitlines()) < 15
    policy = load_policy([PolicySource(path)], TEAM)
    results = [run_case(policy, case) for case in policy.cases]
    assert [result.problems for result in results] == [()] * len(results)
    assert unexercised(policy, results) == ()
    assert policy.default is Effect.HOLD


def test_there_are_five_of_them() -> None:
    """Own-domain mail, a daily sum, production against staging, two teams, and SQL that reads."""
    assert [path.stem for path in EXAMPLES] == [
        "hundred-a-day",
        "own-domain-mail",
        "production-or-staging",
        "sql-reads",
        "two-teams",
    ]
