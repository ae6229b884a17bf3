"""Which tools a rule or a signal names: globs over full tool names. No I/O."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

__all__ = ["ToolNames", "names_no_upstream"]

_COVERS_UPSTREAM = re.compile(r"[a-z0-9-]*(?:[*?]|__)")


class ToolNames:
    """Globs over full names, `<upstream>__<tool>`. `*` and `?` are special, nothing else; case matters."""

    def __init__(self, patterns: Sequence[str]) -> None:
        # fnmatch makes atomic groups of the parts between stars, so that matching takes linear time, but it also
        # reads `[…]`, which in a tool's name is a bracket.
        self._compiled = tuple(re.compile(fnmatch.translate(pattern.replace("[", "[[]"))) for pattern in patterns)

    def match(self, name: str) -> bool:
        """Whether one of the globs matches the whole name."""
        return any(pattern.match(name) for pattern in self._compiled)


def names_no_upstream(pattern: str) -> bool:
    """Whether a glob is written without the upstream in front, so that it would name no tool that was meant."""
    return _COVERS_UPSTREAM.match(pattern) is None
