"""What the current policy says of a call to a known tool, now: asked when a call arrives and again before it runs.

Before any policy comes the pin: a call of a tool whose definition changed is denied, whatever the policy says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hitl_mcp.calls import CallRecord, Decision, Effect, Requirement, RuleMatch, unmet
from hitl_mcp.clock import Clock
from hitl_mcp.grants import Grant, why_not_served
from hitl_mcp.people import People
from hitl_mcp.pins import PIN_RULE
from hitl_mcp.policy import Policy, Subject, decide
from hitl_mcp.policy.explanation import explained
from hitl_mcp.policy.history import History, nothing_before, replayed
from hitl_mcp.store import LastLook


class DecidedTool(Protocol):
    """What a decision needs to know of a tool, whoever runs it."""

    @property
    def name(self) -> str: ...

    @property
    def upstream(self) -> str: ...

    @property
    def tool(self) -> str: ...

    @property
    def labels(self) -> Mapping[str, str]: ...

    @property
    def input_schema(self) -> dict[str, Any] | None: ...

    @property
    def blocked(self) -> str | None: ...


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

    def ready(self, entry: DecidedTool, arguments: Mapping[str, Any], agent: str) -> Ready:
        """Make a call ready to be decided: at once where nothing that happened before matters."""
        if self.policy.concerning(entry.name).remembers:
            return Ready(lambda history: self.decide(entry, arguments, agent, history), durable=True)
        decision = self.decide(entry, arguments, agent)
        durable = decision.durable or decision.effect is not Effect.ALLOW
        # The pin is looked at once more as the record is written: its tool may have been blocked since.
        return Ready(lambda history: self._denial(entry) or decision, durable)

    def decide(
        self, entry: DecidedTool, arguments: Mapping[str, Any], agent: str, history: History = nothing_before
    ) -> Decision:
        """Decide a call as if it were asked now."""
        denial = self._denial(entry)
        if denial is not None:
            return denial
        subject = Subject(
            upstream=entry.upstream,
            labels=entry.labels,
            tool=entry.tool,
            name=entry.name,
            arguments=dict(arguments),
            agent=agent,
            now=self._clock.now(),
            input_schema=entry.input_schema,
            owner=self._people.owner_of(agent),
        )
        return decide(self.policy, subject, history)

    def look_again(self, entry: DecidedTool, record: CallRecord, history: History) -> LastLook:
        """Decide an approved call again as it is claimed: by what its decision was told, and budgets as they are.

        Runs on the store's thread; what it reads of us is replaced whole, never changed.
        """
        told = replayed(record.decision.history, history)
        now = self.decide(entry, json.loads(record.call.arguments_json), record.call.agent, told)
        if now.effect is Effect.DENY:
            return LastLook(f"the policy denies it now: {explained(now).in_a_line}")
        if record.grant is not None:  # what is asked of people is held against the grant as it stands
            return LastLook(None, now.marks, now.requirements)
        missing = unmet(now.requirements, record.verdicts, record.digest)
        if now.effect is Effect.HOLD and missing:
            return LastLook("the policy asks for more now: " + ", ".join(f"`{need.id}`" for need in missing))
        return LastLook(None, now.marks)

    def stands(self, grant: Grant, requirements: Sequence[Requirement]) -> str | None:
        """Why a grant does not meet what is asked, as the people are now; None where it does.

        Runs on the store's thread.
        """
        return why_not_served(grant, self._people.reviewer(grant.given_by), requirements)

    def _denial(self, entry: DecidedTool) -> Decision | None:
        """The decision on every call of a tool that is blocked; None where it is not."""
        why = entry.blocked
        if why is None:
            return None
        match = RuleMatch(PIN_RULE, Effect.DENY, why)
        return Decision(effect=Effect.DENY, score=0, policy=self.policy.version, reasons=(why,), rules=(match,))
