"""The parts behind the doors for tools that clients run themselves: real store, policy, gate, executor. No upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from hitl_mcp.calls import CallRecord, Status
from hitl_mcp.catalog import Catalog
from hitl_mcp.clients import Clients
from hitl_mcp.clock import Clock
from hitl_mcp.deadlines import Deadlines
from hitl_mcp.decider import Decider
from hitl_mcp.executor import Executor
from hitl_mcp.gate import AgentCall, Gate
from hitl_mcp.offers import Offers
from hitl_mcp.people import People
from hitl_mcp.pins import open_pins
from hitl_mcp.releasing import Answered, Releasing
from hitl_mcp.secrets import Secrets
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.upstreams import Upstreams
from tests.policy.written import policy_of
from tests.samples import verdict

WAIT_SECONDS = 20

RULES = """
    rules:
      - {id: reads, tool: claude-code__Read, effect: allow, reason: reading changes nothing}
      - {id: shell, tool: claude-code__Bash, effect: hold, reason: it runs a command}
      - {id: never, tool: claude-code__Rm, effect: deny, reason: nothing is deleted}
"""


@dataclass(frozen=True)
class ClientHouse:
    """The parts, running in this process."""

    store: SqliteStore
    gate: Gate
    executor: Executor
    decider: Decider
    releasing: Releasing

    async def ask(self, tool: str, *, seconds: float = 0, agent: str = "builder", **arguments: Any) -> Answered:
        """Ask as a client does before it runs one of its own tools."""
        call = AgentCall(agent, "conv", f"claude-code__{tool}", arguments, {})
        return await self.releasing.ask(call, seconds, _say_nothing)

    async def hold(self, **arguments: Any) -> CallRecord:
        """A command that is held."""
        answered = await self.ask("Bash", **arguments)
        assert (answered.record.status, answered.released) == (Status.HELD, False)
        return answered.record

    async def approve(self, record: CallRecord) -> CallRecord:
        """Approve a held call."""
        return await self.store.add_verdict(record.id, verdict(record.digest))


async def _say_nothing(record: CallRecord) -> None:
    pass


@asynccontextmanager
async def client_house(
    folder: Path, rules: str = RULES, *, clock: Clock | None = None, clients: Sequence[str] = ("claude-code",)
) -> AsyncIterator[ClientHouse]:
    """The parts over the database in this folder, which is opened again where it is there."""
    clock = clock or Clock()
    async with open_sqlite(folder / "hitl.db", clock) as store, anyio.create_task_group() as tasks:
        await store.recover()
        upstreams = Upstreams({}, Secrets({}, folder), directory=folder)
        decider = Decider(policy_of(rules), People(), clock)
        catalog = Catalog(upstreams, lambda: decider.policy, await open_pins(store))
        executor = Executor(store, upstreams, catalog, decider, clock, tasks)
        gate = Gate(store, catalog, decider, executor, tasks, Clients(clients), Offers(upstreams))
        tasks.start_soon(executor.run_approved)
        tasks.start_soon(Deadlines(store, clock).run)
        yield ClientHouse(store, gate, executor, decider, Releasing(gate, clock))
        tasks.cancel_scope.cancel()
