"""Both clocks of a call, how long people have and how long an approval stays good, and that of a grant.

Nothing else runs by time.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from hitl_mcp.calls import CallEvent, Status
from hitl_mcp.clock import Clock, from_text
from hitl_mcp.errors import StoreError
from hitl_mcp.store import GRANT_GIVEN, FeedBehind, SqliteStore

logger = logging.getLogger(__name__)

WITH_DEADLINE = frozenset({Status.HELD, Status.APPROVED})
"""Statuses whose calls run out of time."""

CHECK_SECONDS = 60.0
"""The longest sleep between two looks at the clock, so that a wall clock that jumps is noticed within a minute."""


def _has_deadline(event: CallEvent) -> bool:
    return event.status in WITH_DEADLINE or event.kind == GRANT_GIVEN


class Deadlines:
    """Ends calls and grants whose time is over, as soon as it is."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Expire what is due, then sleep until the next deadline or until a call has a new one; for ever."""
        with self._store.follow(_has_deadline) as feed:
            while True:
                try:
                    left = await self._seconds_to_next()
                    if left <= 0:
                        await self._store.expire_due()
                        continue
                except StoreError:
                    logger.exception("what is due cannot be ended yet")
                    await self._store.after_failure()
                    continue
                with suppress(FeedBehind):
                    await feed.next(timeout_seconds=left)

    async def _seconds_to_next(self) -> float:
        deadline = await self._store.next_deadline()
        if deadline is None or self._store.broken is not None:
            return CHECK_SECONDS
        return min((from_text(deadline) - self._clock.now()).total_seconds(), CHECK_SECONDS)
