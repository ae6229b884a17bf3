"""What several functions share: an argument that is one text or a list of texts. Nothing about any subject."""

from __future__ import annotations

from typing import Any

from hitl_mcp.limits import FUNCTION_ENTRIES

__all__ = ["texts"]


def texts(value: str | list[Any], what: str) -> tuple[str, ...]:
    """The texts of an argument. An empty list is refused: "one of none" and "all of none" are both surprises."""
    entries = (value,) if isinstance(value, str) else tuple(value)
    if not entries:
        raise ValueError(f"there is no {what} in the list")
    if len(entries) > FUNCTION_ENTRIES:
        raise ValueError(f"there are more than {FUNCTION_ENTRIES} in the list")
    if not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"each {what} must be a text")
    return entries
