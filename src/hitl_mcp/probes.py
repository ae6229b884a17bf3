"""Finds out what became of calls of unknown outcome, where a rule declares a reading call that can tell.

A probe settles a call only where its result says so plainly: that it happened, or that it did not, and not both. All
else leaves the call unknown, for people. How a reading call runs stands in `readings`.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from hitl_mcp.calls import CallEvent, CallRecord, Outcome, Probe, Status
from hitl_mcp.clock import Clock, from_text, to_text
from hitl_mcp.errors import StoreError
from hitl_mcp.limits import PROBES_AFTER_SECONDS
from hitl_mcp.policy import Subject
from hitl_mcp.policy.conditions import Facts, ResultCondition
from hitl_mcp.readings import Readings
from hitl_mcp.store import FeedBehind, SqliteStore

logger = logging.getLogger(__name__)


class Probes:
    """Follows the store for calls whose outcome is unknown, and probes each a few times."""

    def __init__(self, store: SqliteStore, readings: Readings, clock: Clock, tasks: TaskGroup) -> None:
        self._store = store
        self._readings = readings
        self._clock = clock
        self._tasks = tasks
        self._seen: set[str] = set()

    async def run(self) -> None:
        """Look for calls of unknown outcome, for ever: those of the last life, then each new one."""
        with self._store.follow(_is_unknown) as feed:
            while True:
                try:
                    page = await self._store.list_calls({Status.UNKNOWN}, limit=1000)
                except StoreError:
                    logger.exception("the unknown calls cannot be read")
                    await self._store.after_failure()
                    continue
                self._seen &= {record.id for record in page.calls}
                for record in reversed(page.calls):
                    if record.decision.probes and record.id not in self._seen:
                        self._seen.add(record.id)
                        self._tasks.start_soon(self._probe, record.id)
                with suppress(FeedBehind):
                    await feed.next()

    async def _probe(self, call_id: str) -> None:
        try:
            for seconds in PROBES_AFTER_SECONDS:
                await anyio.sleep(seconds)
                record = await self._store.get(call_id)
                if record.status is not Status.UNKNOWN:
                    return
                for probe in record.decision.probes:
                    outcome = await self._found(record, probe)
                    if outcome is not None:
                        await self._store.resolve(call_id, outcome, f"probe:{probe.call.rule}")
                        return
        except StoreError:
            logger.exception("call %s: its probe cannot be recorded", call_id)

    async def _found(self, record: CallRecord, probe: Probe) -> Outcome | None:
        """What a probe says became of a call, or None where it does not say."""
        brought = await self._readings.read(record, probe.call, "probe")
        if brought.problem is not None or brought.result_json is None:
            return None
        facts = Facts(_subject(record), json.loads(brought.result_json))
        happened, did_not = (ResultCondition(text).test(facts) for text in (probe.happened, probe.did_not))
        at, shown = to_text(self._clock.now()), f"as `{probe.call.name}` showed ({brought.call_id})"
        if happened is True and did_not is False:
            return Outcome(Status.SUCCEEDED, executed=True, at=at, detail=f"it happened, {shown}")
        if did_not is True and happened is False:
            return Outcome(Status.FAILED, executed=True, at=at, detail=f"it did not happen, {shown}")
        return None


def _subject(record: CallRecord) -> Subject:
    """The call as its probe's conditions see it: as it was asked for."""
    call = record.call
    return Subject(
        upstream=call.upstream,
        labels={},
        tool=call.tool,
        name=call.name,
        arguments=json.loads(call.arguments_json),
        agent=call.agent,
        now=from_text(record.created_at),
    )


def _is_unknown(event: CallEvent) -> bool:
    return event.status is Status.UNKNOWN
