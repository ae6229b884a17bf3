"""The demo's config and policy say what examples/README.md says they do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from examples.sandbox.server import make_server
from hitl_mcp.calls import Decision
from hitl_mcp.config import load_config, policy_sources
from hitl_mcp.policy import Policy, Subject, decide, load_policy
from hitl_mcp.shipped import example_path


@pytest.fixture
def policy() -> Policy:
    """The demo's policy, with the people its config names."""
    config = load_config(example_path("demo/hitl.yaml"))
    return load_policy(policy_sources(config), config.people)


def decided(policy: Policy, tool: str, **arguments: Any) -> Decision:
    """What the policy says of one call to the sandbox."""
    return decide(
        policy,
        Subject(
            upstream="sandbox",
            labels={},
            tool=tool,
            name=f"sandbox__{tool}",
            arguments=arguments,
            agent="assistant",
            now=datetime(2026, 11, 22, 12, tzinfo=UTC),
            input_schema=None,
        ),
    )


@pytest.mark.parametrize(
    ("tool", "arguments", "effect", "score", "quorums"),
    [
        ("list_mail", {"folder": "inbox"}, "allow", 0, []),
        ("read_mail", {"id": "m1"}, "allow", 0, []),
        ("balance", {}, "allow", 0, []),
        ("send_mail", {"to": "bella@example.com"}, "allow", 0, []),
        ("send_mail", {"to": "carl@customer.example.org"}, "hold", 20, [1]),
        ("send_mail", {"to": "bella@example.com, eve@evil.example"}, "hold", 20, [1]),
        ("send_mail", {"to": "eve@evil.example\n@example.com"}, "hold", 20, [1]),
        ("send_mail", {"to": ["bella@example.com"]}, "hold", 20, [1]),
        ("send_mail", {}, "hold", 20, [1]),
        ("pay", {"amount": 40, "currency": "EUR"}, "hold", 30, [1]),
        ("pay", {"amount": 500, "currency": "EUR"}, "hold", 55, [1, 1]),
        ("pay", {"amount": 5000.0, "currency": "EUR"}, "hold", 80, [1, 2]),
        ("pay", {"amount": "a lot", "currency": "EUR"}, "hold", 80, [1, 2]),
        ("delete_account", {"name": "savings"}, "deny", 0, []),
        ("something_new", {}, "hold", 0, [1]),
    ],
)
def test_the_demo_decides_as_its_page_says(
    policy: Policy, tool: str, arguments: dict[str, Any], effect: str, score: int, quorums: list[int]
) -> None:
    """Reads and own mail run, strangers and money wait, much money waits for two, accounts stay; doubt restricts."""
    decision = decided(policy, tool, **arguments)
    assert (decision.effect, decision.score) == (effect, score)
    assert sorted(requirement.quorum for requirement in decision.requirements) == quorums


def test_a_payment_needs_finance(policy: Policy) -> None:
    """Whatever its size, someone from finance must approve a payment."""
    roles = [requirement.roles for requirement in decided(policy, "pay", amount=9000, currency="EUR").requirements]
    assert ("finance",) in roles


async def test_every_tool_of_the_sandbox_is_named_by_a_rule(policy: Policy, tmp_path: Any) -> None:
    """No tool is decided by the default alone."""
    for tool in await make_server(tmp_path / "sandbox.db").list_tools():
        assert policy.concerning(f"sandbox__{tool.name}").rules, tool.name
