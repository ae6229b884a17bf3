"""Reading calls that rules ask for beside a call: previews before the verdict, probes after an unknown outcome.

Each is a call like any other: recorded, on the agent's account, and run only where the policy allows it by itself. It
takes 5 s at most. Which ones are asked for, and what follows from what they bring, is not decided here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from hitl_mcp.calls import Asked, CallRecord, Decision, Effect, ReadingCall
from hitl_mcp.catalog import Catalog
from hitl_mcp.clock import Clock, to_text
from hitl_mcp.decider import Decider, Ready
from hitl_mcp.errors import HitlError, NotAllowed, StoreError
from hitl_mcp.executor import Executor, Run
from hitl_mcp.limits import READING_SECONDS, RESULT_SHOWN_BYTES, UPSTREAM_BACK_SECONDS
from hitl_mcp.policy.explanation import explained
from hitl_mcp.policy.history import History
from hitl_mcp.store import Decide, SqliteStore


@dataclass(frozen=True)
class Brought:
    """What a reading call brought: the upstream's own result, or why there is none. `call_id` is the call it was."""

    at: str
    call_id: str | None = None
    result_json: str | None = None
    problem: str | None = None


class Readings:
    """Runs reading calls, one at a time as they are asked for."""

    def __init__(
        self, store: SqliteStore, catalog: Catalog, decider: Decider, executor: Executor, clock: Clock
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._decider = decider
        self._executor = executor
        self._clock = clock

    async def read(self, record: CallRecord, asked: ReadingCall, what: str) -> Brought:
        """Run a reading call beside `record`; `what` says what it is for.

        Raises:
            StoreError: It cannot be recorded, so nothing ran.
        """
        await self._catalog.until_ready(asked.name, UPSTREAM_BACK_SECONDS)
        run = Run(limit_seconds=READING_SECONDS)
        try:
            await self._record(record, asked, what, run)
            await self._executor.run_allowed(run)
        except StoreError:
            raise
        except HitlError as error:
            return Brought(to_text(self._clock.now()), problem=error.message)
        return self._brought(run)

    async def _record(self, record: CallRecord, asked: ReadingCall, what: str, run: Run) -> None:
        if asked.error is not None:
            raise NotAllowed(f"its arguments cannot be taken from the call: {asked.error}")
        entry = self._catalog.find_by_name(asked.name)
        if entry is None:
            raise NotAllowed(f"there is no tool `{asked.name}`")
        arguments = json.loads(asked.arguments_json)
        entry.validate(arguments)
        call = entry.call(arguments, record.call.agent)
        ready = self._decider.ready(entry, arguments, record.call.agent)
        said = Asked(record.asked.conversation, f"{what} of {record.id}")
        admission = await self._store.admit(call, said, _only_where_allowed(ready), durable=ready.durable)
        run.record = admission.record

    def _brought(self, run: Run) -> Brought:
        outcome, call_id = run.outcome, run.record.id if run.record else None
        at = outcome.at if outcome else to_text(self._clock.now())
        result = outcome.result_json if outcome else None
        if outcome is None or result is None:
            return Brought(at, call_id, problem=outcome.detail if outcome else "it did not run")
        if len(result) > RESULT_SHOWN_BYTES:
            return Brought(at, call_id, problem="its result is too long")
        return Brought(at, call_id, result, outcome.detail or None)


def _only_where_allowed(ready: Ready) -> Decide:
    """Decides as the policy does, and refuses whatever is not allowed, so that nothing of it is recorded."""

    def decide(history: History) -> Decision:
        decision = ready.decide(history)
        if decision.effect is not Effect.ALLOW:
            raise NotAllowed(f"the policy says {decision.effect}: {explained(decision).in_a_line}")
        return decision

    return decide
