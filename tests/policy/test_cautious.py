"""The ready policy for a first day, over the tool names of real servers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from hitl_mcp.calls import Effect
from hitl_mcp.config import PolicySource
from hitl_mcp.people import People
from hitl_mcp.policy import Policy, decide, load_policy
from hitl_mcp.shipped import policy_path
from tests.policy.written import subject_of

CAUTIOUS = PolicySource(policy_path("cautious.yaml"), "up")


@pytest.fixture(scope="module")
def cautious() -> Policy:
    return load_policy([CAUTIOUS], People())


@pytest.mark.parametrize(
    ("tool", "rules"),
    [
        ("read_text_file", ["reads-run"]),
        ("list_directory", ["reads-run"]),
        ("search_files", ["reads-run"]),
        ("get_file_info", ["reads-run"]),
        ("get_current_time", ["reads-run"]),
        ("search_code", ["reads-run"]),
        ("write_file", ["the-rest-waits"]),
        ("move_file", ["the-rest-waits"]),
        ("directory_tree", ["the-rest-waits"]),
        ("git_commit", ["the-rest-waits"]),
        ("fetch", ["the-rest-waits"]),
        ("get_or_create_label", ["does-two-things", "reads-run"]),
        ("find_and_replace", ["does-two-things", "reads-run"]),
        ("rename_and_move", ["does-two-things", "the-rest-waits"]),
        ("getaway", ["the-rest-waits"]),
        ("Get_order", ["the-rest-waits"]),
        ("get", ["the-rest-waits"]),
        ("drop__get_x", ["the-rest-waits"]),
        ("x\nget_y", ["the-rest-waits"]),
        ("get_\ny", ["reads-run"]),
    ],
)
def test_the_cautious_start_lets_readers_run_and_holds_the_rest(cautious: Policy, tool: str, rules: list[str]) -> None:
    """A tool whose name says that it reads runs; every other call waits for a person, and a rule says so."""
    decision = decide(cautious, subject_of(f"up__{tool}"))
    assert sorted(match.id.removeprefix("up.") for match in decision.rules) == rules
    assert decision.effect is (Effect.ALLOW if rules == ["reads-run"] else Effect.HOLD)
    assert cautious.may_hold(f"up__{tool}")


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "example.com"},
        {"path": "https://example.com/?secret=1"},
        {"path": " HTTP://example.com"},
        {"paths": ["/srv/a", "ftp://example.com"]},
        {"savePath": "/srv/me/.bashrc"},
        {"outputFile": "x"},
        {"mark_as_read": True},
        {"deleteAfter": True},
    ],
)
def test_a_reader_that_is_told_to_do_more_waits(cautious: Policy, arguments: dict[str, object]) -> None:
    """An address to go to, a file to write to, or a mark to set: then its name says too little."""
    assert decide(cautious, subject_of("up__get_message", arguments)).effect is Effect.HOLD


def test_tools_of_other_upstreams_are_left_to_other_rules(cautious: Policy) -> None:
    """It lets nothing run for which it is not used: that waits by the default alone."""
    decision = decide(cautious, subject_of("other__get_message"))
    assert (decision.effect, decision.rules) == (Effect.HOLD, ())


@pytest.mark.parametrize(
    ("labels", "effect"),
    [
        ({}, Effect.HOLD),
        ({"mine": "add_note"}, Effect.ALLOW),
        ({"mine": "pay,add_note"}, Effect.ALLOW),
        ({"mine": "up__add_note"}, Effect.HOLD),
        ({"mine": "add_notes,note"}, Effect.HOLD),
        ({"mine": "add_*"}, Effect.HOLD),
        ({"mine": "*"}, Effect.HOLD),
        ({"mine": ""}, Effect.HOLD),
    ],
)
def test_a_rule_of_ones_own_lets_run_what_the_label_names(
    tmp_path: Path, labels: Mapping[str, str], effect: Effect
) -> None:
    """Both are needed, the rule and the name in full in the label `mine`: neither alone lets anything run."""
    own = tmp_path / "own.yaml"
    rule = "{id: notes, tool: up__add_note, effect: allow, reason: notes are the agent's work}"
    own.write_text(f"version: 1\nrules:\n  - {rule}\n", encoding="utf-8")
    call = subject_of("up__add_note", {"text": "hello"}, labels=labels)
    assert decide(load_policy([CAUTIOUS], People()), call).effect is Effect.HOLD
    assert decide(load_policy([CAUTIOUS, PolicySource(own)], People()), call).effect is effect
