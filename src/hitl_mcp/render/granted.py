"""A grant as people are shown it: its terms in words, whatever an agent or a reviewer wrote in them as segments."""

from __future__ import annotations

from typing import Any

from hitl_mcp.canonical import canonical_text
from hitl_mcp.grants import Condition, Grant
from hitl_mcp.render.marks import Segment, marked
from hitl_mcp.render.secret import secret_arguments, secret_values
from hitl_mcp.render.tree import raw_segments

Shown = dict[str, Any]

_WORDS = {
    "equals": "is",
    "one_of": "is one of",
    "starts_with": "starts with",
    "ends_with": "ends with",
    "at_most": "is at most",
    "at_least": "is at least",
    "domain_in": "is in the domain",
}


def condition_shown(condition: Condition) -> list[Shown]:
    """A condition as a sentence: `/to` ends with "@example.com"."""
    words = Segment("plain", f" {_WORDS[condition.op]} ", "")
    return _segments([*marked(condition.path, "name"), words, *raw_segments(canonical_text(condition.value))])


def grant_shown(grant: Grant) -> Shown:
    """What of a grant holds words of others, as segments."""
    return {
        "tool": _segments(marked(f"{grant.upstream} / {grant.tool}", "name")),
        "agent": _segments(marked(grant.agent, "name")),
        "conditions": [condition_shown(condition) for condition in grant.conditions],
        "reason": _segments(marked(grant.reason, "plain")),
        "given_by": _segments(marked(grant.given_by, "name")),
        "ended_why": _segments(marked(grant.ended_why, "plain")) if grant.ended_why else None,
    }


def suggestion_shown(name: str, condition: Condition) -> Shown:
    """A condition to begin with. A value that holds a secret is not handed out, so that no condition is about it."""
    value_json = canonical_text(condition.value)
    if _is_secret(name, condition, value_json):
        path = _segments([*marked(condition.path, "name"), Segment("plain", " is a secret", "")])
        return {"path": condition.path, "op": condition.op, "value_json": None, "shown": path}
    return {
        "path": condition.path,
        "op": condition.op,
        "value_json": value_json,
        "shown": condition_shown(condition),
    }


def _is_secret(name: str, condition: Condition, value_json: str) -> bool:
    """Whether the config says so of this argument, or of something in it."""
    alone = condition.value
    for part in reversed(condition.path.split("/")[1:]):
        alone = {part.replace("~1", "/").replace("~0", "~"): alone}
    return bool(secret_values(value_json) or secret_arguments(name, canonical_text(alone)))


def _segments(segments: Any) -> list[Shown]:
    return [
        {"kind": segment.kind, "text": segment.text, **({"rtl": True} if segment.rtl else {})} for segment in segments
    ]
