"""Shows reviewers what a held call would do: runs the previews that its rules ask for, and keeps what they bring.

Whatever goes wrong with one is shown, and keeps nobody from deciding. How a reading call runs stands in `readings`.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from anyio.abc import TaskGroup

from hitl_mcp.calls import CallEvent, CallRecord, Preview, ReadingCall, Status
from hitl_mcp.errors import StoreError
from hitl_mcp.readings import Readings
from hitl_mcp.store import FeedBehind, SqliteStore

logger = logging.getLogger(__name__)


class Previews:
    """Follows the store for calls that are held, and runs each of their previews once."""

    def __init__(self, store: SqliteStore, readings: Readings, tasks: TaskGroup) -> None:
        self._store = store
        self._readings = readings
        self._tasks = tasks
        self._seen: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Look for held calls whose previews are missing, for ever: those of the last life, then each new one."""
        with self._store.follow(_is_held) as feed:
            while True:
                try:
                    page = await self._store.list_calls({Status.HELD}, limit=1000)
                except StoreError:
                    logger.exception("the held calls cannot be read")
                    await self._store.after_failure()
                    continue
                self._seen &= {(record.id, record.digest) for record in page.calls}
                for record in reversed(page.calls):
                    if record.decision.previews and (record.id, record.digest) not in self._seen:
                        self._seen.add((record.id, record.digest))
                        self._tasks.start_soon(self._show, record)
                with suppress(FeedBehind):
                    await feed.next()

    async def _show(self, record: CallRecord) -> None:
        try:
            known = {preview.rule for preview in (await self._store.get(record.id)).previews}
            for asked in record.decision.previews:
                if asked.rule not in known:
                    await self._store.keep_preview(record.id, await self._preview(record, asked), record.digest)
        except StoreError:
            logger.exception("call %s: its preview cannot be recorded", record.id)

    async def _preview(self, record: CallRecord, asked: ReadingCall) -> Preview:
        brought = await self._readings.read(record, asked, "preview")
        return Preview(asked.rule, asked.name, brought.at, brought.call_id, brought.result_json, brought.problem)


def _is_held(event: CallEvent) -> bool:
    return event.status is Status.HELD and event.kind in ("asked", "edited")
