"""What a reviewer may make of a held call: other arguments, read strictly and fit for its tool, never another tool.

Whether the policy takes them is decided in the transaction that writes them; see `store.verdicts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hitl_mcp.calls import CallRecord
from hitl_mcp.canonical import canonical_text, parse_strict
from hitl_mcp.catalog import Catalog, Entry
from hitl_mcp.clients import Clients, ClientTool
from hitl_mcp.decider import Decider
from hitl_mcp.errors import ArgumentsRefused, EditRefused
from hitl_mcp.policy.match import offer_parts
from hitl_mcp.store import Decide

ARGUMENTS = "$.arguments"
"""What the paths of problems begin with, as those that agents are told."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with edited arguments, and where."""

    path: str
    message: str


@dataclass(frozen=True)
class Fit:
    """Edited arguments that fit their tool: their canonical bytes, and who decides a call with them."""

    arguments_json: str
    decide: Decide


class Edits:
    """Knows the tools that calls are edited for."""

    def __init__(self, catalog: Catalog, clients: Clients, decider: Decider) -> None:
        self._catalog = catalog
        self._clients = clients
        self._decider = decider

    def fit(self, record: CallRecord, written: str) -> Fit | tuple[Problem, ...]:
        """What a reviewer wrote as arguments of this call, or all that is wrong with them.

        Raises:
            EditRefused: This call cannot be edited at all.
        """
        tool = self._tool_of(record)
        try:
            arguments = _read(written)
        except ArgumentsRefused as error:
            message = error.message.removeprefix(f"{error.path}: ")
            return (Problem(ARGUMENTS + error.path.removeprefix("$"), message),)
        problems = tool.check.problems(arguments) if isinstance(tool, Entry) else ()
        if problems:
            return tuple(Problem(path, message) for path, message in problems)
        agent = record.call.agent
        return Fit(canonical_text(arguments), lambda history: self._decider.decide(tool, arguments, agent, history))

    def _tool_of(self, record: CallRecord) -> Entry | ClientTool:
        """The tool of a call, as it was when the call was asked."""
        call = record.call
        if call.runs_elsewhere:
            tool = self._clients.find(call.name)
            if tool is None or not tool.takes_changes:
                raise EditRefused(record.id, f"`{call.upstream}` runs it itself, and takes no changed arguments")
            return tool
        if offer_parts(call.name) is not None:
            raise EditRefused(record.id, "it is read, not run: reject it, and say what to ask for instead")
        entry = self._catalog.find_by_name(call.name)
        if entry is None:
            raise EditRefused(record.id, f"`{call.name}` is not among the tools now, so nothing can be checked")
        if entry.blocked is not None:
            raise EditRefused(record.id, entry.blocked)
        if (entry.definition, entry.source.fingerprint) != (call.definition, call.fingerprint):
            raise EditRefused(record.id, f"`{call.name}` is another tool than when it was asked for")
        return entry


def _read(written: str) -> dict[str, Any]:
    arguments = parse_strict(written)
    if not isinstance(arguments, dict):
        raise ArgumentsRefused("$", "an object is needed")
    return arguments
