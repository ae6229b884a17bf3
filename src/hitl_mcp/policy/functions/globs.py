"""Globs over any text, as they are over tools: `*` and `?`, the whole text, upper and lower case differ."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hitl_mcp.limits import GLOB_CHARACTERS, GLOB_TEXT_CHARACTERS
from hitl_mcp.policy.functions.lists import texts
from hitl_mcp.policy.match import Globs

__all__ = ["compiled", "glob"]

_COMPILED_KEPT = 256
"""Globs come from the policy, so they repeat."""


def glob(patterns: str | list[Any], text: str) -> bool:
    """Whether one of the globs matches the whole text."""
    if len(text) > GLOB_TEXT_CHARACTERS:
        raise ValueError(f"the text is longer than {GLOB_TEXT_CHARACTERS} characters")
    return compiled(texts(patterns, "glob")).match(text)


@lru_cache(_COMPILED_KEPT)
def compiled(patterns: tuple[str, ...]) -> Globs:
    """The globs, ready to match."""
    if any(len(pattern) > GLOB_CHARACTERS for pattern in patterns):
        raise ValueError(f"a glob is longer than {GLOB_CHARACTERS} characters")
    return Globs(patterns)
