"""Which arguments tell best what a call does and to whom: a line under its sentence, never instead of the arguments.

Pure. It picks by names that many tools use; nothing is decided on what stands here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from hitl_mcp.canonical import canonical_text
from hitl_mcp.render.marks import Segment, marked

AMOUNTS = ("amount", "total", "sum", "price", "value")
_NAMES = (
    *("to", "recipients", "recipient", "cc", "bcc", "email", "payee", "channel", "user"),
    *(*AMOUNTS, "currency", "quantity", "count", "iban", "account"),
    *("path", "paths", "file", "filename", "source", "destination", "directory", "url", "host"),
    *("repository", "repo", "owner", "branch", "database", "table", "query", "sql", "command", "cmd"),
    *("subject", "title", "name", "id"),
)
"""Whom it concerns, how much, what it touches, what it does: in the order in which people ask."""

MOST_TOLD = 4
TOLD_CHARACTERS = 80
"""A line on a desktop holds about two such values; what is longer is cut, and says so."""

READ_CHARACTERS = 256 * 1024
"""Longer arguments are not read for this: the tree below shows them, and parsing them takes noticeably long."""


class Fact(NamedTuple):
    """One telling argument: its name, and its value as a text."""

    name: str
    text: str


def telling(arguments_json: str) -> tuple[Fact, ...]:
    """The telling arguments of a call, the most telling first."""
    if not arguments_json or len(arguments_json) > READ_CHARACTERS:
        return ()
    arguments = json.loads(arguments_json)
    if not isinstance(arguments, dict):
        return ()
    by_name = {name.lower(): name for name in reversed(arguments)}
    known = [by_name[name] for name in _NAMES if name in by_name]
    others = [name for name in arguments if name not in known]
    facts = [Fact(name, text) for name in (*known, *others) if (text := _text(arguments[name])) is not None]
    # What has no telling name tells something only where all of it fits.
    return tuple([fact for fact in facts if fact.name in known or len(fact.text) <= TOLD_CHARACTERS][:MOST_TOLD])


def amounts(arguments_json: str) -> Iterator[Fact]:
    """Those of them that say how much."""
    return (fact for fact in telling(arguments_json) if fact.name.lower() in AMOUNTS)


def told(facts: tuple[Fact, ...], arguments: int) -> list[Segment]:
    """The facts in one line, marked like everything else, and how many other arguments there are."""
    segments: list[Segment] = []
    for fact in facts:
        segments += [Segment("plain", ", ", "")] if segments else []
        segments += [*marked(fact.name, "key"), Segment("plain", ": ", "")]
        segments += marked(fact.text[:TOLD_CHARACTERS], "name", fact.text)
        if len(fact.text) > TOLD_CHARACTERS:
            segments.append(Segment("note", f" ⟦{len(fact.text) - TOLD_CHARACTERS:,} more characters⟧", ""))
    left = arguments - len(facts)
    if segments and left > 0:
        segments.append(Segment("note", f", and {left} more {'argument' if left == 1 else 'arguments'}", ""))
    return segments


def _text(value: Any) -> str | None:
    """A value in a few words, or None where it takes more than that."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool | int | float):
        return canonical_text(value)
    if isinstance(value, list) and value and len(value) <= 3:
        parts = [part for part in value if isinstance(part, str | int | float)]
        texts = [part if isinstance(part, str) else canonical_text(part) for part in parts]
        return ", ".join(texts) if len(texts) == len(value) else None
    return None
