"""What the current policy says of a call to a known tool, now: asked when a call arrives and again before it runs.

Before any policy comes the pin: a call of a tool whose definition changed is denied, whatever the policy says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hitl_mcp.calls import Decision, Effect, RuleMatch
from hitl_mcp.catalog import Entry
from hitl_mcp.clock import Clock
from hitl_mcp.people import People
from hitl_mcp.pins import PIN_RULE
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
        durable = decision.durable or decision.effect is not Effect.ALLOW
        # The pin is looked at once more as the record is written: its tool may have been blocked since.
        return Ready(lambda history: self._denial(entry) or decision, durable)

    def decide(
        self, entry: Entry, arguments: Mapping[str, Any], agent: str, history: History = nothing_before
    ) -> Decision:
        """Decide a call as if it were asked now."""
        denial = self._denial(entry)
        if denial is not None:
            return denial
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

    def _denial(self, entry: Entry) -> Decision | None:
        """The decision on every call of a tool that is blocked; None where it is not."""
        why = entry.blocked
        if why is None:
            return None
        match = RuleMatch(PIN_RULE, Effect.DENY, why)
        return Decision(effect=Effect.DENY, score=0, policy=self.policy.version, reasons=(why,), rules=(match,))
