"""The ready policy for a first day, over the tool names of real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitl_mcp.calls import Effect
from hitl_mcp.config import PolicySource
from hitl_mcp.people import People
from hitl_mcp.policy import Policy, decide, load_policy
from hitl_mcp.shipped import policy_path
from tests.policy.written import subject_of


@pytest.fixture(scope="module")
def cautious() -> Policy:
    return load_policy([PolicySource(policy_path("cautious.yaml"))], People())


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("files__read_text_file", Effect.ALLOW),
        ("files__list_directory", Effect.ALLOW),
        ("files__search_files", Effect.ALLOW),
        ("files__get_file_info", Effect.ALLOW),
        ("time__get_current_time", Effect.ALLOW),
        ("github__search_code", Effect.ALLOW),
        ("files__write_file", Effect.HOLD),
        ("files__move_file", Effect.HOLD),
        ("files__directory_tree", Effect.HOLD),
        ("git__git_commit", Effect.HOLD),
        ("fetch__fetch", Effect.HOLD),
        ("github__get_or_create_label", Effect.HOLD),
        ("docs__find_and_replace", Effect.HOLD),
        ("shop__getaway", Effect.HOLD),
        ("shop__Get_order", Effect.HOLD),
    ],
)
def test_the_cautious_start_lets_readers_run_and_holds_the_rest(cautious: Policy, name: str, effect: Effect) -> None:
    """A tool whose name says that it reads runs; every other call waits for a person."""
    assert decide(cautious, subject_of(name)).effect is effect
    assert cautious.may_hold(name)


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
    assert decide(cautious, subject_of("mail__get_message", arguments)).effect is Effect.HOLD


def test_a_rule_of_ones_own_may_let_run_what_the_cautious_start_does_not_name(cautious: Policy, tmp_path: Path) -> None:
    """It may stay beside other rules: what it does not know waits by its default alone, which any rule displaces."""
    own = tmp_path / "own.yaml"
    rule = "{id: notes, tool: crm__add_note, effect: allow, reason: notes are the agent's work}"
    own.write_text(f"version: 1\nrules:\n  - {rule}\n", encoding="utf-8")
    both = load_policy([PolicySource(policy_path("cautious.yaml")), PolicySource(own)], People())
    call = subject_of("crm__add_note", {"text": "hello"})
    assert decide(cautious, call).effect is Effect.HOLD
    assert decide(both, call).effect is Effect.ALLOW
