"""What stands around a call in words: names as they are shown, and what is new about it. Pure; no I/O, no decisions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hitl_mcp.calls import ToolCall
from hitl_mcp.render.marks import Segment, joined, marked
from hitl_mcp.render.secret import public_part
from hitl_mcp.render.telling import telling

Shown = dict[str, Any]

NEW_CHARACTERS = 80
"""A value longer than this is new every time, and tells nothing by that."""

MOST_NEW = 5


def agent_shown(name: str) -> list[Shown]:
    """An agent's name, as lists show it."""
    return _shown(marked(name, "name"))


def tool_shown(upstream: str, tool: str) -> list[Shown]:
    """A tool's name with its upstream's, as lists show it."""
    return _shown([*marked(upstream, "name"), Segment("plain", " / ", ""), *marked(tool, "name")])


def what_is_new(call: ToolCall, earlier: Sequence[str], *, all_earlier: bool) -> list[list[Shown]]:
    """Sentences about what this call has that its agent's earlier calls of this tool had not.

    `earlier` are their arguments; where they are not all there ever were, the sentence says how many were looked at.
    """
    if not earlier:
        if not all_earlier:
            return []
        return [_shown([_plain("the first call of this tool by "), *marked(call.agent, "name")])]
    read = [value for text in earlier if isinstance(value := json.loads(text), dict)]
    arguments = json.loads(public_part(call))
    if not isinstance(arguments, dict):
        return []
    told = {fact.name: fact.text for fact in telling(public_part(call))}
    names = [name for name in [*told, *arguments] if 0 < len(_text(arguments.get(name))) <= NEW_CHARACTERS]
    fresh = [name for name in dict.fromkeys(names) if not any(one.get(name) == arguments[name] for one in read)]
    # Where every call has another value, as with an id or a text, that it is another one tells nothing.
    telling_names = [name for name in fresh if name in told or _repeats(name, read)]
    return [_sentence(call, name, arguments[name], earlier, all_earlier) for name in telling_names[:MOST_NEW]]


def _repeats(name: str, read: Sequence[dict[str, Any]]) -> bool:
    """Whether earlier calls mostly had one of a few values there."""
    values = [_text(one[name]) for one in read if name in one]
    return len(values) > 1 and len(set(values)) <= len(values) // 2


def _sentence(call: ToolCall, name: str, value: Any, earlier: Sequence[str], complete: bool) -> list[Shown]:
    shown = [*marked(name, "key"), _plain(" = "), *marked(_text(value), "name")]
    if complete:
        return _shown([_plain("the first call with "), *shown, _plain(" by "), *marked(call.agent, "name")])
    return _shown(
        [*shown, _plain(f" was in none of the last {len(earlier)} calls of this tool by "), *marked(call.agent, "name")]
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | int | float) else ""


def _plain(text: str) -> Segment:
    return Segment("plain", text, "")


def _shown(segments: Sequence[Segment]) -> list[Shown]:
    return [{"kind": one.kind, "text": one.text, **({"rtl": True} if one.rtl else {})} for one in joined(segments)]
