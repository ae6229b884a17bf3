"""The ready policy for a first day, over the tool names of real servers."""

from __future__ import annotations

import pytest

from hitl_mcp.calls import Effect
from hitl_mcp.people import People
from hitl_mcp.policy import Policy, decide, load_policy
from hitl_mcp.shipped import policy_path
from tests.policy.written import subject_of


@pytest.fixture(scope="module")
def cautious() -> Policy:
    return load_policy([policy_path("cautious.yaml")], People())


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
    assert cautious.may_hold(name) is (effect is Effect.HOLD)
