"""Erases what calls carried once they are long over, as the config's `retention` says. Nothing is erased without it.

What goes: arguments, `_meta`, the agent's claim, results, the wording of the decision. What stays: who asked for which
tool and when, digests, points, verdicts, outcomes, and the chain, which attests all of it by digest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import anyio

from hitl_mcp.calls import Status
from hitl_mcp.errors import StoreError
from hitl_mcp.store import SqliteStore

logger = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
"""How often to look for what is due: ages are counted in days."""

BETWEEN_BATCHES_SECONDS = 0.05
"""A pause between two batches, so that calls that are asked meanwhile hardly wait."""


class Retention:
    """Looks again and again for calls past their age. `ages_seconds` says which status is kept how long."""

    def __init__(self, store: SqliteStore, ages_seconds: Mapping[Status, int]) -> None:
        self._store = store
        self._ages = ages_seconds

    async def run(self) -> None:
        """Erase what is due, for ever."""
        while self._ages:
            await self.sweep()
            await anyio.sleep(LOOK_SECONDS)

    async def sweep(self) -> int:
        """Erase everything that is due now, in small batches; returns of how many calls."""
        erased = 0
        for status, seconds in self._ages.items():
            more = True
            while more:
                try:
                    batch = await self._store.erase_batch(status, seconds)
                except StoreError:
                    logger.exception("retention: what is due cannot be erased")
                    return erased
                erased, more = erased + batch.erased, batch.more
                await anyio.sleep(BETWEEN_BATCHES_SECONDS if more else 0)
        return erased
