"""Decide, record, then deny, run or hold: the whole of what happens to a call before people see it, on one screen.

The gate never waits for a person. From the first write on it works in the gateway's own task group, so that a client
that goes away leaves no call half-way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup

from hitl_mcp.calls import Asked, ToolCall
from hitl_mcp.canonical import check_value
from hitl_mcp.catalog import Catalog, Entry
from hitl_mcp.clients import Clients, ClientTool
from hitl_mcp.decider import Decider, Ready
from hitl_mcp.errors import StoreError, ToolNotFound, TooManyHeld
from hitl_mcp.executor import Executor, Run
from hitl_mcp.offers import Offer, Offers
from hitl_mcp.store import SqliteStore
from hitl_mcp.upstreams import Asker


@dataclass(frozen=True)
class AgentCall:
    """A tools/call as it reached a surface: by which agent, in which conversation, and what it says.

    `asker` is its client, where that waits and may be asked what the upstream of an allowed call wants to know.
    `is_offer` where a resource or a prompt is read, which has a name of its own kind.
    """

    agent: str
    conversation: str
    name: str
    arguments: Mapping[str, Any]
    meta: Mapping[str, Any]
    asker: Asker | None = None
    is_offer: bool = False


@dataclass(frozen=True)
class Gate:
    """Every tools/call passes here, from whichever surface."""

    store: SqliteStore
    catalog: Catalog
    decider: Decider
    executor: Executor
    tasks: TaskGroup
    clients: Clients
    offers: Offers

    async def ask(self, asked: AgentCall, *, for_client: bool = False) -> Run:
        """Take a call: when this returns, what was decided is on record, and an allowed call is on its way.

        Of a call `for_client`, which its agent's client runs itself, an allowed one is released.

        Raises:
            ToolNotFound: No upstream has this tool.
            ArgumentsRefused: The arguments are not strict JSON, or do not fit the tool's schema.
            StoreError: The record cannot be written, so nothing ran.
            TooManyHeld: The agent has as many held calls as it may; this one was not taken.
        """
        entry: Entry | ClientTool | Offer | None
        if asked.is_offer:
            entry = self.offers.find(asked.name)
        else:
            entry = self.clients.find(asked.name) if for_client else self.catalog.find(asked.name)
        if entry is None:
            raise ToolNotFound(asked.name)
        arguments = check_value(dict(asked.arguments), "$.arguments")
        said = Asked(asked.conversation, entry.take_claim(arguments))
        entry.validate(arguments)
        call = entry.call(arguments, asked.agent, asked.meta)
        run = Run(asker=asked.asker)
        ready = self.decider.ready(entry, arguments, asked.agent)
        self.tasks.start_soon(self._record_and_run, call, said, ready, run)
        try:
            await run.recorded.wait()
        except anyio.get_cancelled_exc_class():
            run.cancel_requested = True
            raise
        if run.error is not None:
            raise run.error
        return run

    async def _record_and_run(self, call: ToolCall, asked: Asked, ready: Ready, run: Run) -> None:
        try:
            admission = await self.store.admit(
                call, asked, ready.decide, durable=ready.durable, stands=self.decider.stands
            )
            run.record, run.repeat = admission.record, admission.repeat
        except (StoreError, TooManyHeld) as error:
            run.error = error
        finally:
            run.recorded.set()
        if run.starts_now:
            await self.executor.run_allowed(run)
