"""Which upstream a resource's URI belongs to, as far as their lists have said. No I/O."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hitl_mcp.limits import KNOWN_RESOURCES

_EXPRESSION = re.compile(r"\{[^{}]*\}")
"""A template's variable part (RFC 6570)."""


class Directory:
    """What was seen in lists. Of several upstreams that list the same, the first in their order has it."""

    def __init__(self, upstreams: Iterable[str] = ()) -> None:
        """`upstreams` in their order; others come behind them."""
        self._seen = {upstream: _Seen() for upstream in upstreams}

    def learn(self, upstream: str, entry: Mapping[str, Any]) -> None:
        """Take in an entry of a list of resources, or of templates; prompts have neither."""
        seen = self._seen.setdefault(upstream, _Seen())
        for key, known in (("uri", seen.uris), ("uriTemplate", seen.templates)):
            if isinstance(entry.get(key), str):
                known.setdefault(entry[key])
                if len(known) > KNOWN_RESOURCES:  # of this one: a flood must not push out what others list
                    known.popitem(last=False)

    def forget(self, upstream: str) -> None:
        """Its lists may be others now."""
        if upstream in self._seen:
            self._seen[upstream] = _Seen()

    def owner_of(self, uri: str) -> str | None:
        """The upstream that listed this URI, this template, or a template that it may be made of; None if none did."""
        for upstream, seen in self._seen.items():
            if uri in seen.uris or uri in seen.templates:
                return upstream
        fitting = [
            (template, upstream)
            for upstream, seen in self._seen.items()
            for template in seen.templates
            if _may_be_of(uri, template)
        ]
        # The one that says most of it: `file:///{path}` and `file:///logs/{name}` both fit a log.
        best = max(fitting, key=lambda found: len(_EXPRESSION.sub("", found[0])), default=None)
        return best[1] if best is not None else None


@dataclass
class _Seen:
    """What one upstream listed, the oldest first."""

    uris: OrderedDict[str, None] = field(default_factory=OrderedDict)
    templates: OrderedDict[str, None] = field(default_factory=OrderedDict)


def _may_be_of(uri: str, template: str) -> bool:
    """Whether a URI begins, goes on and ends as a template does around its variable parts."""
    pieces = _EXPRESSION.split(template)
    if len(pieces) == 1:
        return uri == template
    if not uri.startswith(pieces[0]) or not uri.endswith(pieces[-1]):
        return False
    at, end = len(pieces[0]), len(uri) - len(pieces[-1])
    for piece in pieces[1:-1]:
        found = uri.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return at <= end
