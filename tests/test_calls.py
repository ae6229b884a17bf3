"""The lifecycle table, requirements, and what a digest covers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from hitl_mcp.calls import (
    LIFECYCLE,
    Effect,
    Requirement,
    Status,
    ToolCall,
    VerdictKind,
    approvals_for,
    counts_for,
    digest_for,
    may_become,
    objection,
    request_key_for,
    unmet,
)
from tests.samples import POLICY, tool_call, verdict

FINAL = {
    Status.DENIED,
    Status.REJECTED,
    Status.EXPIRED,
    Status.WITHDRAWN,
    Status.INVALIDATED,
    Status.SUCCEEDED,
    Status.FAILED,
    Status.RELEASED,
}


def test_every_status_stands_in_the_lifecycle_table() -> None:
    """No status is without its row, so that no step is ever a guess."""
    assert set(LIFECYCLE) == {None, *Status}


def test_final_statuses_become_nothing() -> None:
    """What is settled stays as it is."""
    assert {status for status in Status if not LIFECYCLE[status]} == FINAL


def test_only_an_approved_call_may_be_claimed_and_only_a_running_one_has_an_outcome() -> None:
    """Nothing runs from `held`, and nothing gets an outcome that was not running or unknown."""
    assert [status for status in Status if may_become(status, Status.RUNNING)] == [Status.APPROVED]
    for outcome in (Status.SUCCEEDED, Status.FAILED):
        assert {status for status in Status if may_become(status, outcome)} == {Status.RUNNING, Status.UNKNOWN}


def test_effects_are_ordered_by_strictness() -> None:
    """Deny is stricter than hold, hold than allow."""
    assert sorted(Effect, key=lambda effect: effect.strictness) == [Effect.ALLOW, Effect.HOLD, Effect.DENY]


def test_a_quorum_counts_different_reviewers_not_verdicts() -> None:
    """One person approving twice is one person."""
    need = Requirement("pay", quorum=2)
    twice = [verdict("d"), verdict("d")]
    assert approvals_for(need, twice, "d") == ("dana",)
    assert unmet([need], twice, "d") == (need,)
    assert unmet([need], [*twice, verdict("d", reviewer="erin")], "d") == ()


def test_an_approval_counts_only_for_the_bytes_it_names() -> None:
    """An approval of another digest meets nothing."""
    assert unmet([Requirement("pay")], [verdict("other")], "d") == (Requirement("pay"),)


def test_an_approval_counts_only_with_one_of_the_roles_asked_for() -> None:
    """Roles are any-of; a rejection never counts towards approval."""
    need = Requirement("pay", roles=("finance", "legal"))
    assert approvals_for(need, [verdict("d", roles=("legal",))], "d") == ("dana",)
    assert approvals_for(need, [verdict("d", roles=("sales",)), verdict("d", reviewer="erin")], "d") == ()
    assert approvals_for(need, [verdict("d", VerdictKind.REJECT, roles=("legal",))], "d") == ()


def test_one_approval_counts_in_every_requirement_it_qualifies_for() -> None:
    """Two rules that one person satisfies are both met by that person."""
    needs = (Requirement("a", roles=("finance",)), Requirement("b", roles=("finance", "admin")))
    assert unmet(needs, [verdict("d", roles=("finance",))], "d") == ()


@pytest.mark.parametrize("name", [field.name for field in fields(ToolCall) if field.name != "name"])
def test_the_digest_covers_every_part_of_a_call(name: str) -> None:
    """Changing any part of what is shown changes the digest; the full name is made of upstream and tool."""
    call = tool_call()
    assert digest_for(replace(call, **{name: "other"}), POLICY) != digest_for(call, POLICY)


def test_the_digest_covers_the_policy_version() -> None:
    """A verdict is given under a policy; under another it names something else."""
    assert digest_for(tool_call(), "sha256:1") != digest_for(tool_call(), "sha256:2")


def test_requests_are_the_same_by_agent_upstream_tool_and_bytes_alone() -> None:
    """A changed tool definition or trace context makes no new request; another agent or byte does."""
    call = tool_call()
    for same in ({"definition": "x"}, {"fingerprint": "x"}, {"meta_json": '{"traceparent":"x"}'}):
        assert request_key_for(replace(call, **same)) == request_key_for(call)
    for different in ({"agent": "x"}, {"upstream": "x"}, {"tool": "x"}, {"arguments_json": "{}"}):
        assert request_key_for(replace(call, **different)) != request_key_for(call)


def need(**changes: Any) -> Requirement:
    """A requirement of one approval."""
    return Requirement("pay", **changes)


@pytest.mark.parametrize(
    ("requirement", "given", "why"),
    [
        (need(), {}, None),
        (need(roles=("finance",)), {"roles": ("finance", "admin")}, None),
        (need(roles=("finance",)), {"roles": ("admin",)}, "`dana` has none of the roles it needs"),
        (need(barred=("dana",)), {}, "`dana` is one of the agent's own people"),
        (need(barred=("li",)), {}, None),
        (need(assurance="link"), {"assurance": "link"}, None),
        (need(assurance="link"), {"assurance": "passkey"}, None),
        (
            need(assurance="link"),
            {"assurance": "cli"},
            "`cli` does not say surely enough who approves: it needs `link`",
        ),
        (need(surfaces=("web",)), {"surface": "web"}, None),
        (need(surfaces=("web",)), {"surface": "cli"}, "it is not answered through `cli`"),
    ],
)
def test_an_approval_counts_only_where_nothing_objects(
    requirement: Requirement, given: dict[str, Any], why: str | None
) -> None:
    """Roles, the agent's own people, assurance and surface are each looked at; what objects is said."""
    approval = verdict("sha256:x", **given)
    assert objection(approval, requirement) == why
    assert counts_for(approval, requirement) is (why is None)
    assert not counts_for(replace(approval, kind=VerdictKind.REJECT), requirement)
