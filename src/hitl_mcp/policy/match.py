"""Which tools a rule or a signal names: globs over full names, of tools and of resources and prompts. No I/O."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Globs", "OfferParts", "ToolNames", "names_no_upstream", "offer_parts"]

_COVERS_UPSTREAM = re.compile(r"[a-z0-9-]*(?:[*?]|__)")


_OFFER = re.compile(r"(resource|prompt):([a-z*?][a-z0-9*?-]*):(.*)", re.DOTALL)


class OfferParts(NamedTuple):
    """What the name of something that is no tool says: which kind it is, whose, and its URI or its own name."""

    kind: str
    upstream: str
    rest: str


def offer_parts(name: str) -> OfferParts | None:
    """The parts of `resource:<upstream>:<uri>` or `prompt:<upstream>:<name>`, or of a glob over them; else None."""
    found = _OFFER.fullmatch(name)
    return OfferParts(*found.groups()) if found else None


class Globs:
    """Globs over any texts. `*` and `?` are special, nothing else; case matters."""

    def __init__(self, patterns: Iterable[str]) -> None:
        # fnmatch makes atomic groups of the parts between stars, so that matching takes linear time, but it also
        # reads `[…]`, which in a tool's name is a bracket.
        self._compiled = tuple(re.compile(fnmatch.translate(pattern.replace("[", "[[]"))) for pattern in patterns)

    def match(self, name: str) -> bool:
        """Whether one of the globs matches the whole text."""
        return any(pattern.match(name) for pattern in self._compiled)


class ToolNames:
    """Globs over full names: `<upstream>__<tool>`, or those of resources and prompts, which begin with their kind.

    A glob is about the one or the other: `*` means all tools, and nothing else.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._tools = Globs(pattern for pattern in patterns if offer_parts(pattern) is None)
        self._offers = Globs(pattern for pattern in patterns if offer_parts(pattern) is not None)

    def match(self, name: str) -> bool:
        """Whether one of the globs matches the whole name."""
        return (self._tools if offer_parts(name) is None else self._offers).match(name)


def names_no_upstream(pattern: str) -> bool:
    """Whether a glob is written without the upstream in front, so that it would name no tool that was meant."""
    return _COVERS_UPSTREAM.match(pattern) is None and offer_parts(pattern) is None
