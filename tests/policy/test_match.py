"""Globs over full tool names."""

from __future__ import annotations

import time

import pytest

from hitl_mcp.policy.match import ToolNames, names_no_upstream


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        (["github__delete_*"], "github__delete_repo", True),
        (["github__delete_*"], "github__delete", False),
        (["github__delete_*"], "xgithub__delete_repo", False),
        (["*__get_?"], "a__get_b", True),
        (["*__get_?"], "a__get_bc", False),
        (["*"], "anything__at_all", True),
        (["*delete*"], "proxy__github__delete_repo", True),
        (["a__b", "c__*"], "c__d", True),
        (["a__b", "c__*"], "a__c", False),
        (["a__Get"], "a__get", False),
        (["a__x"], "a__x\n", False),
        # Brackets, dots and the like are themselves.
        (["a__[xy]"], "a__x", False),
        (["a__[xy]"], "a__[xy]", True),
        (["a__[!x]"], "a__[!x]", True),
        (["a__x.y"], "a__xzy", False),
        (["a__x\\y"], "a__x\\y", True),
        (["a__*]"], "a__[x]", True),
        # What is read is named by its kind, also where its address is empty.
        (["resource:a:*"], "resource:a:", True),
        (["resource:a:*"], "resource:a:file:///x\ny", True),
        (["*"], "resource:a:", False),
    ],
)
def test_a_glob_names_whole_names_with_stars_and_question_marks(patterns: list[str], name: str, matches: bool) -> None:
    """`*` and `?` stand for characters, everything else for itself, and case matters."""
    assert ToolNames(patterns).match(name) is matches


def test_many_stars_take_no_time() -> None:
    """A glob made to backtrack is as quick as any other."""
    names = ToolNames(["a__" + "*a" * 30 + "*b"])
    started = time.process_time()
    assert not names.match("a__" + "a" * 5000)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("pattern", ["a__b", "*", "*__b", "a*", "a?b__c", "git-hub__x", "*delete*", "9__x"])
def test_a_glob_that_can_reach_an_upstream_is_taken(pattern: str) -> None:
    """A full name, or a star before it ends, names tools of some upstream."""
    assert not names_no_upstream(pattern)


@pytest.mark.parametrize("pattern", ["delete", "delete_*", "github.delete", "Github__x", "", "a b__c", "a_b__c"])
def test_a_glob_without_an_upstream_is_noticed(pattern: str) -> None:
    """A name written without its upstream would match nothing, so a hold written so would hold nothing."""
    assert names_no_upstream(pattern)
