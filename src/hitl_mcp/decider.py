"""What the current policy says of a call to a known tool, now: asked when a call arrives and again before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hitl_mcp.calls import Decision, Effect
from hitl_mcp.catalog import Entry
from hitl_mcp.clock import Clock
from hitl_mcp.people import People
from hitl_mcp.policy import Policy, Subject, decide
from hitl_mcp.policy.history import History, nothing_before


@dataclass(frozen=True)
class Ready:
    """A call that can be decided, where the store reads what happened before; `durable`: its record must be flushed.

    What counts for later decisions is flushed too: a budget that forgot what was spent would not be one.
    """

    decide: Callable[[History], Decision]
    durable: bool


class Decider:
    """Holds the policy in force."""

    def __init__(self, policy: Policy, people: People, clock: Clock) -> None:
        self.policy = policy
        self._people = people
        self._clock = clock

    def ready(self, entry: Entry, arguments: Mapping[str, Any], agent: str) -> Ready:
        """Make a call ready to be decided: at once where nothing that happened before matters."""
        if self.policy.concerning(entry.name).remembers:
            return Ready(lambda history: self.decide(entry, arguments, agent, history), durable=True)
        decision = self.decide(entry, arguments, agent)
        return Ready(lambda history: decision, durable=decision.durable or decision.effect is not Effect.ALLOW)

    def decide(
        self, entry: Entry, arguments: Mapping[str, Any], agent: str, history: History = nothing_before
    ) -> Decision:
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
            owner=self._people.owner_of(agent),
        )
        return decide(self.policy, subject, history)
