"""The SQL of this room, read from its files: numbered migrations, and statements by name."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

FILES = ("queries.sql", "listing.sql")
"""What changes the record or reads one call of it; and what lists, searches and figures ask."""

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def statements() -> dict[str, str]:
    """Every named statement of the files that hold them."""
    parts = [part for file in FILES for part in _NAME.split(_read(file))[1:]]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def sql(name: str) -> str:
    """The statement of this name."""
    return statements()[name]


def migrations() -> list[str]:
    """The scripts that make the schema, in order; a database's `user_version` counts those it has."""
    folder = resources.files("hitl_mcp.store") / "sql"
    names = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name))
    return [_read(name) for name in names]


def _read(name: str) -> str:
    return (resources.files("hitl_mcp.store") / "sql" / name).read_text(encoding="utf-8")
