"""What the current policy says of a call to a known tool, now: asked when a call arrives and again before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hitl_mcp.calls import Decision
from hitl_mcp.catalog import Entry
from hitl_mcp.clock import Clock
from hitl_mcp.policy import Policy, Subject, decide


class Decider:
    """Holds the policy in force."""

    def __init__(self, policy: Policy, clock: Clock) -> None:
        self.policy = policy
        self._clock = clock

    def decide(self, entry: Entry, arguments: Mapping[str, Any], agent: str) -> Decision:
        """Decide a call as if it were asked now."""
        subject = Subject(
            upstream=entry.upstream,
            labels=entry.source.labels,
            tool=entry.tool,
            name=entry.name,
            arguments=dict(arguments),
            agent=agent,
            now=self._clock.now(),
            input_schema=entry.input_schema,
        )
        return decide(self.policy, subject)
