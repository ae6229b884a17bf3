"""What an SQL text does: its kinds of statements, its tables, and whether a change has no bound.

Where no dialect is named, a text is read under each, and what any finds counts. What none understands is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from hitl_mcp.policy.functions.sql_text import DIALECTS, statements

if TYPE_CHECKING:
    from hitl_mcp.policy.functions.sql_statements import Statement

__all__ = ["sql_kinds", "sql_tables", "sql_unbounded"]

_READINGS_KEPT = 64
"""Several conditions ask about the same call, and parsing is what costs."""

_EXPLAIN = re.compile(
    r"(?:explain|describe|desc)\s+(?:\([^()]*\)\s*|(?:analy[sz]e|verbose|extended|partitions|query\s+plan|format\s*=\s*\w+)\s+)*"
    r"(?=\(|(?:select|with|values|table|insert|update|delete|replace|merge|create|drop|truncate|call|exec|execute)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Reading:
    """What is known of a whole text; `unbounded` is None where a statement was not read to its end."""

    kinds: tuple[str, ...]
    tables: tuple[str, ...]
    unbounded: bool | None


def sql_kinds(text: str, dialect: str | None = None) -> list[str]:
    """The kinds of all statements in a text, also those inside others; `call` for an unknown function."""
    return list(_read(text, dialect).kinds)


def sql_tables(text: str, dialect: str | None = None) -> list[str]:
    """The tables that a text names, in lower case, each as its name alone and with its schema where one is written."""
    reading = _read(text, dialect)
    if reading.unbounded is None:
        raise ValueError("a statement in it is not understood to its end")
    return list(reading.tables)


def sql_unbounded(text: str, dialect: str | None = None) -> bool:
    """Whether an update or a delete has no `WHERE`, or one that leaves nothing out; or it truncates."""
    unbounded = _read(text, dialect).unbounded
    if unbounded is None:
        raise ValueError("a statement in it is not understood to its end")
    return unbounded


@lru_cache(_READINGS_KEPT)
def _read(text: str, dialect: str | None) -> _Reading:
    kinds: set[str] = set()
    tables: set[str] = set()
    bounds: set[bool | None] = set()
    for statement in statements(text, dialect):
        explained = _EXPLAIN.match(statement)
        found = _under_each(statement[explained.end() :] if explained else statement, dialect)
        kinds.update(*(reading.kinds for reading in found), {"explain"} if explained else ())
        tables.update(*(reading.tables for reading in found))
        bounds.update(reading.unbounded for reading in found)
        calls = [reading.calls for reading in found if reading.calls is not None]
        if calls and frozenset.intersection(*calls):  # what one dialect knows as its own function is harmless
            kinds.add("call")
    unbounded = True if True in bounds else None if None in bounds else False
    return _Reading(tuple(sorted(kinds)), tuple(sorted(tables)), unbounded)


def _under_each(statement: str, dialect: str | None) -> list[Statement]:
    """What a statement is under each dialect that knows it."""
    parsed = import_module("hitl_mcp.policy.functions.sql_statements").parsed  # slow, and most policies have no SQL
    ended = dialect not in (None, "tsql")
    readings = (parsed(statement, each, ended=ended) for each in (DIALECTS if dialect is None else (dialect,)))
    found = [reading for reading in readings if reading is not None]
    if not found:
        raise ValueError("a statement in it is not understood")
    return found
