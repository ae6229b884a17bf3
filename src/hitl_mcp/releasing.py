"""Calls that an agent's own client runs: asked at the gate, waited for, and released, once for each approval.

The gate never waits and the executor never runs such a call: it is decided there, and released here. What came of it,
nobody tells us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio

from hitl_mcp.calls import CallRecord, Status
from hitl_mcp.clock import Clock, from_text
from hitl_mcp.errors import StoreError
from hitl_mcp.gate import AgentCall, Gate
from hitl_mcp.policy.history import History
from hitl_mcp.store import LastLook

LOOK_SECONDS = 5.0
"""Between two looks at an approved call that cannot be released yet, and between two signs of life to who waits."""

UNDO_SECONDS = 0.05
"""The least wait for an approval that can still be undone: the clock that decides may be a little behind ours."""

UNDECIDED = frozenset({Status.HELD, Status.APPROVED})
"""Statuses in which who asked may still be given the call."""

Tick = Callable[[CallRecord], Awaitable[None]]
"""Tells whoever waits that we are still waiting, and for what."""


@dataclass(frozen=True)
class Answered:
    """How a call stands for one request; `released`: this very request was given it, and may run it now.

    # INVARIANT: at most one request is answered `released` for one decision that allowed a call, or one approval.
    """

    record: CallRecord
    repeat: bool
    released: bool


class Releasing:
    """Takes calls of clients' own tools."""

    def __init__(self, gate: Gate, clock: Clock) -> None:
        self._gate = gate
        self._store = gate.store
        self._clock = clock

    @property
    def clients(self) -> tuple[str, ...]:
        """The clients whose own tools are decided here."""
        return self._gate.clients.names

    async def ask(self, asked: AgentCall, seconds: float, tick: Tick, *, takes_changes: bool = False) -> Answered:
        """Have a call decided, wait for people at most so long, and release it where that was approved.

        What a reviewer changed is released to nobody who would run what was asked instead: `takes_changes` says that
        the answer's arguments are what will run. Being cancelled releases nothing more: whoever asked is not there.

        Raises:
            ToolNotFound, ArgumentsRefused, StoreError: As `Gate.ask`.
        """
        run = await self._gate.ask(asked, for_client=True)
        record, deadline = run.record, anyio.current_time() + seconds
        if record is None:
            raise StoreError("the gate left no record")
        released = record.status is Status.RELEASED and not run.repeat
        while not released and record.status in UNDECIDED:
            # INVARIANT: changed arguments are released only to who runs them, and never to who runs the original.
            if record.awaits_its_agent and record.revisions and not takes_changes:
                break
            if record.awaits_its_agent:
                claimed = await self._store.claim(record, partial(self._look, record))
                released, record = claimed is not None, claimed or await self._store.get(record.id)
            left = deadline - anyio.current_time()
            if released or left <= 0 or record.status not in UNDECIDED:
                break
            await tick(record)
            patience = min(left, self._seconds_to_next_look(record))
            record = await self._store.wait_for_change(record.id, record.version, patience)
        if record.may_be_news and record.status not in UNDECIDED:
            await self._store.hand_over(record.id)
        return Answered(record, run.repeat, released)

    def _seconds_to_next_look(self, record: CallRecord) -> float:
        if not record.awaits_its_agent:
            return LOOK_SECONDS
        undo_left = (from_text(record.starts_at) - self._clock.now()).total_seconds()
        return min(max(undo_left, UNDO_SECONDS), LOOK_SECONDS) if undo_left > 0 else LOOK_SECONDS

    def _look(self, record: CallRecord, history: History) -> LastLook:
        """Decide an approved call again as it is released. Runs on the store's thread."""
        tool = self._gate.clients.find(record.call.name)
        if tool is None:
            return LastLook(f"`{record.call.upstream}` is no longer a client whose own tools are decided here")
        return self._gate.decider.look_again(tool, record, history)
