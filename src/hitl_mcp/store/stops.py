"""Agents that reviewers stopped: what of theirs would be held is denied, until one of them is released. Steps and rows.

Nothing that is held already ends by this, and what the policy allows goes on.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from hitl_mcp.calls import Stop
from hitl_mcp.errors import NotStopped
from hitl_mcp.store import chain
from hitl_mcp.store.access import Access, Life
from hitl_mcp.store.events import Step, put_event
from hitl_mcp.store.statements import sql
from hitl_mcp.store.writer import Transaction

STOPPED, RELEASED = "agent-stopped", "agent-released"
"""The kinds of events that tell of it; `agent` in their facts says of whom."""

CHANGED_OUTSIDE = "what is on record of it was changed outside the gateway"


def stop_agent(txn: Transaction, life: Life, stop: Stop) -> Stop:
    """Stop an agent, or say anew why it is stopped."""
    row = {"agent": stop.agent, "by": stop.by, "at": life.at, "reason": stop.reason, "call_id": stop.call_id}
    row["seal"] = life.seals.seal("stop", *[row[column] for column in chain.STOP_COLUMNS[:-1]])
    txn.connection.execute(sql("put_stop"), row)
    said = f"{stop.agent}: {stop.reason}" if stop.reason else stop.agent
    facts = {"stop": chain.of_stop(row), "agent": stop.agent}
    put_event(txn, "", Step(0, STOPPED, None, life.at, f"reviewer:{stop.by}", said), facts)
    return Stop(stop.agent, stop.by, life.at, stop.reason, stop.call_id)


def release_agent(txn: Transaction, life: Life, agent: str, by: str) -> None:
    """Let an agent go on.

    Raises:
        NotStopped: It is not stopped.
    """
    gone = txn.connection.execute(sql("drop_stop"), {"agent": agent}).fetchone()
    if gone is None and agent not in life.stopped:
        raise NotStopped(agent)
    put_event(txn, "", Step(0, RELEASED, None, life.at, f"reviewer:{by}", agent), {"agent": agent})


def stop_of(txn: Transaction, life: Life, agent: str) -> Stop | None:
    """Who stopped an agent, as this transaction sees it.

    # INVARIANT: looked at in the transaction that admits a call. Whoever deletes or edits the row releases nobody.
    """
    row = txn.connection.execute(sql("stop"), {"agent": agent}).fetchone()
    if row is None:
        return Stop(agent, "", life.at, CHANGED_OUTSIDE) if agent in life.stopped else None
    if not life.seals.fits(row["seal"], "stop", *[row[column] for column in chain.STOP_COLUMNS[:-1]]):
        return Stop(agent, "", life.at, CHANGED_OUTSIDE)
    return _stop(row)


@dataclass(frozen=True)
class Stops:
    """Stops and releases agents, and says which are stopped."""

    access: Access

    async def load(self) -> None:
        """At boot: which agents are stopped, as the rows say and as the events say."""
        self.access.stopped.update(row["agent"] for row in await self.access.rows("stops", {}))
        last: dict[str, str] = {}
        for event in await self.access.rows("stops_told", {}):
            agent = json.loads(event["facts"] or "{}").get("agent")
            if isinstance(agent, str):
                last[agent] = event["kind"]
        self.access.stopped.update(agent for agent, kind in last.items() if kind == STOPPED)

    async def stop(self, agent: str, by: str, reason: str) -> Stop:
        """Deny what an agent asks for from here on where it would be held."""
        stopped = await self.access.step(lambda txn, life: stop_agent(txn, life, Stop(agent, by, life.at, reason)))
        self.access.stopped.add(agent)
        return stopped

    async def release(self, agent: str, by: str) -> None:
        """Let an agent go on.

        Raises:
            NotStopped: It is not stopped.
        """
        await self.access.step(lambda txn, life: release_agent(txn, life, agent, by))
        self.access.stopped.discard(agent)

    async def all(self) -> tuple[Stop, ...]:
        """Every agent that is stopped, the last first."""
        found = [_stop(row) for row in await self.access.rows("stops", {})]
        gone = sorted(self.access.stopped - {stop.agent for stop in found})
        return (*found, *(Stop(agent, "", "", CHANGED_OUTSIDE) for agent in gone))

    async def of(self, agent: str) -> Stop | None:
        """Who stopped this agent, or None."""
        return next((stop for stop in await self.all() if stop.agent == agent), None)


def _stop(row: sqlite3.Row) -> Stop:
    return Stop(row["agent"], row["by"], row["at"], row["reason"], row["call_id"])
