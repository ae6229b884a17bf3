"""Policies and subjects as the tests of the policy write them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

from hitl_mcp.config import PolicySource
from hitl_mcp.people import People, Reviewer
from hitl_mcp.policy import Policy, Subject, load_policy

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)

TWO_PEOPLE = People(
    reviewers={
        "dana": Reviewer("dana", frozenset({"finance", "admin"})),
        "li": Reviewer("li", frozenset({"finance"})),
    }
)

CLOSED: dict[str, Any] = {"type": "object", "properties": {"amount": {"type": "number"}, "to": {"type": "string"}}}
"""The schema of a tool that pays: it has `amount` and `to`, and nothing else is listed."""


def policy_of(text: str, people: People = TWO_PEOPLE) -> Policy:
    """The policy that a text makes; `version: 1` is put in front."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "policy.yaml")
        path.write_text("version: 1\n" + dedent(text), encoding="utf-8")
        return load_policy([PolicySource(path)], people)


def subject_of(
    name: str = "bank__pay",
    arguments: Mapping[str, Any] | None = None,
    schema: dict[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    agent: str = "builder",
) -> Subject:
    """A call of a tool, by its full name."""
    upstream, _, tool = name.partition("__")
    return Subject(
        upstream=upstream,
        labels=labels or {},
        tool=tool,
        name=name,
        arguments=dict(arguments or {}),
        agent=agent,
        now=NOW,
        input_schema=schema,
    )


def unmarked(text: str) -> tuple[str, list[str]]:
    """A text without its marks (`«`), and the line and column of each."""
    places: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split("«")[:-1]
        places += [f"{number}:{sum(map(len, parts[: index + 1])) + 1}" for index in range(len(parts))]
    return text.replace("«", ""), places
