"""A ready policy, used for one upstream: its tools are that upstream's, its roles the operator's. No I/O.

Ready policies are written for nobody in particular: `tool: create_issue`, `roles: [approver]`. Used as
`{use: github, upstream: gh, roles: {approver: platform}}` they read as if they had been written for `gh`. For several
upstreams they are read once for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from hitl_mcp.config import PolicySource
from hitl_mcp.documents import Document

__all__ = ["used_for"]

Change = Callable[[str], str]


def used_for(document: Document, source: PolicySource) -> Document:
    """The document as it reads for the upstream and the roles it is used with; positions stay those of the file."""
    if source.upstream is None and not source.roles:
        return document
    upstream = source.upstream
    if upstream is not None and any(name.startswith("*__") for name in _tool_names(document.value)):
        advice = "leave `--upstream` out"
        document.find((), "this policy is about the tools of every upstream, not of one", advice)
    naming = _Naming(
        tool=lambda pattern: pattern if upstream is None else f"{upstream}__{pattern}",
        id=lambda id: id if upstream is None else f"{upstream}.{id}",
        role=lambda role: source.roles.get(role, role),
    )
    return replace(document, value=naming.file(document.value))


def _tool_names(content: Any) -> Iterator[str]:
    """Every glob of a rule or a signal, as it is written in the file."""
    lists = (content.get(key) for key in ("rules", "signals")) if isinstance(content, dict) else ()
    items = [item for one in lists if isinstance(one, list) for item in one]
    for item in items:
        names = item.get("tool") if isinstance(item, dict) else None
        yield from (name for name in (names if isinstance(names, list) else [names]) if isinstance(name, str))


class _Naming:
    """How tools, ids and roles are renamed, wherever they stand. What has another shape is left for the checks."""

    def __init__(self, tool: Change, id: Change, role: Change) -> None:
        self.tool, self.id, self.role = tool, id, role

    def file(self, content: Any) -> Any:
        """A whole file."""
        if not isinstance(content, dict):
            return content
        return {
            **content,
            **_changed(content, "hold_defaults", self.item),
            **{
                key: [self.item(item) for item in content[key]]
                for key in ("bands", "signals", "rules", "budgets")
                if isinstance(content.get(key), list)
            },
            **_changed(content, "cases", lambda cases: [self.case(one) for one in cases], list),
        }

    def item(self, item: Any) -> Any:
        """A rule, a signal, a budget, a band, or the defaults of holds."""
        if not isinstance(item, dict):
            return item
        return {
            **item,
            **_changed(item, "id", self.id, str),
            **_changed(item, "tool", self.tools, object),
            **_changed(item, "roles", lambda roles: _texts(roles, self.role), list),
            **_changed(item, "taint", lambda taint: {**taint, **_changed(taint, "from", self.tools, object)}),
            **_changed(item, "preview", self.reading),
            **_changed(item, "probe", self.reading),
        }

    def reading(self, call: Any) -> Any:
        """A preview or a probe."""
        return {**call, **_changed(call, "tool", self.tool, str)}

    def tools(self, names: Any) -> Any:
        """One glob or a list of them."""
        return self.tool(names) if isinstance(names, str) else _texts(names, self.tool)

    def case(self, case: Any) -> Any:
        """A case, with the ids it names."""
        if not isinstance(case, dict):
            return case
        return {
            **case,
            **_changed(case, "call", lambda call: {**call, **_changed(call, "tool", self.tool, str)}),
            **_changed(case, "given", lambda given: {self.id(id): answer for id, answer in given.items()}),
            **_changed(case, "expect", self._expect),
        }

    def _expect(self, expect: Mapping[str, Any]) -> dict[str, Any]:
        keys = ("rules", "signals")
        changed = {key: _texts(expect[key], self.id) for key in keys if isinstance(expect.get(key), list)}
        return {**expect, **changed}


def _changed(mapping: Mapping[str, Any], key: str, change: Callable[[Any], Any], kind: type = dict) -> dict[str, Any]:
    """One key of a mapping with its value changed; nothing where it is not there or is of another kind."""
    return {key: change(mapping[key])} if isinstance(mapping.get(key), kind) and key in mapping else {}


def _texts(items: Any, change: Change) -> Any:
    return [change(item) if isinstance(item, str) else item for item in items] if isinstance(items, list) else items
