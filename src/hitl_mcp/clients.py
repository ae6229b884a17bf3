"""The tools that an agent's client runs itself, such as Claude Code's own `Bash`: they are decided here, and run there.

A rule names one as `claude-code__Bash`. Nobody tells us which tools a client has or what their arguments look like, so
there is no schema and no pin. Upstreams' tools are in `catalog`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hitl_mcp.calls import RUNS_ELSEWHERE, ToolCall, bound

_TOOL = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
"""As tools of upstreams are called."""


TAKE_CHANGES = frozenset({"claude-code"})
"""Clients that run the input they are answered with (`updatedInput`) in place of what they asked about."""


@dataclass(frozen=True)
class ClientTool:
    """One tool of a client. `name` is its full name, `tool` what the client calls it; nothing more is known of it."""

    upstream: str
    tool: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    input_schema: dict[str, Any] | None = None
    blocked: str | None = None

    @property
    def takes_changes(self) -> bool:
        """Whether its client can be made to run other arguments than it asked for."""
        return self.upstream in TAKE_CHANGES

    def take_claim(self, arguments: dict[str, Any]) -> str:
        """No claim of the agent: nothing of ours was added to what the client's tool takes."""
        return ""

    def validate(self, arguments: Mapping[str, Any]) -> None:
        """Nothing to check arguments against."""

    def call(self, arguments: Mapping[str, Any], agent: str, meta: Mapping[str, Any] | None = None) -> ToolCall:
        """A call of this tool, bound to its bytes.

        Raises:
            ArgumentsRefused: `meta` is not strict JSON.
        """
        return bound(self, arguments, agent, meta, fingerprint=RUNS_ELSEWHERE, definition=RUNS_ELSEWHERE)


class Clients:
    """The clients whose own tools are decided here, as the config names them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)

    def find(self, name: str) -> ClientTool | None:
        """The tool of this full name, or None where its client is not named in the config."""
        client, apart, tool = name.partition("__")
        if not apart or client not in self.names or not _TOOL.match(tool):
            return None
        return ClientTool(client, tool, name)
