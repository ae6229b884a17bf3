"""The parts behind the doors in this process: real store, real upstream, gate, executor, policy files. No surface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import yaml

from hitl_mcp.calls import CallRecord, Status, VerdictKind
from hitl_mcp.catalog import Catalog
from hitl_mcp.clients import Clients
from hitl_mcp.clock import Clock
from hitl_mcp.config import Config, load_config, policy_sources
from hitl_mcp.decider import Decider
from hitl_mcp.executor import Executor, Run
from hitl_mcp.gate import AgentCall, Gate
from hitl_mcp.offers import Offers
from hitl_mcp.pins import Pins, open_pins
from hitl_mcp.policy import load_policy
from hitl_mcp.policy_files import PolicyFiles, signature_of
from hitl_mcp.previews import Previews
from hitl_mcp.probes import Probes
from hitl_mcp.readings import Readings
from hitl_mcp.secrets import Secrets
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.store.writer import Connect, connect_plainly
from hitl_mcp.upstreams import Upstreams
from tests.samples import verdict
from tests.upstream_programs import SLOW_POLICY, slow_upstream

WAIT_SECONDS = 20


@dataclass(frozen=True)
class House:
    """The parts behind the doors, running in this process."""

    folder: Path
    store: SqliteStore
    gate: Gate
    executor: Executor
    catalog: Catalog
    policy_files: PolicyFiles
    pins: Pins
    upstreams: Upstreams

    async def ask(self, tool: str, *, agent: str = "builder", **arguments: Any) -> Run:
        """A call as a surface hands it in."""
        meta = {"traceparent": "00-1", "example.com/other": 1}
        return await self.gate.ask(AgentCall(agent, "conv", f"slow__{tool}", arguments, meta))

    async def outcome_of(self, tool: str, *, agent: str = "builder", **arguments: Any) -> CallRecord:
        """What becomes of a call that nobody is asked about."""
        run = await self.ask(tool, agent=agent, **arguments)
        assert run.record is not None
        return await self.settled(run.record.id)

    async def settled(self, call_id: str) -> CallRecord:
        """The call once nothing more happens to it by itself."""
        final = set(Status) - {Status.APPROVED, Status.RUNNING}
        return await self.until(call_id, *final)

    async def hold(self, tool: str, **arguments: Any) -> CallRecord:
        """A call that is held."""
        run = await self.ask(tool, **arguments)
        assert run.record is not None
        assert run.record.status is Status.HELD
        return run.record

    async def approve(self, record: CallRecord) -> CallRecord:
        """Approve a held call."""
        return await self.store.add_verdict(record.id, verdict(record.digest))

    async def reject(self, record: CallRecord) -> CallRecord:
        """Reject a held call."""
        return await self.store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT))

    async def until(self, call_id: str, *statuses: Status) -> CallRecord:
        """The call once it stands in one of these statuses."""
        with anyio.fail_after(WAIT_SECONDS):
            record = await self.store.get(call_id)
            while record.status not in statuses:
                record = await self.store.wait_for_change(call_id, record.version, WAIT_SECONDS)
        return record


@asynccontextmanager
async def house(
    folder: Path,
    *,
    program: str | None = None,
    policy: str | None = None,
    clock: Clock | None = None,
    beside: Mapping[str, Any] | None = None,
    connect: Connect = connect_plainly,
    **upstream: Any,
) -> AsyncIterator[House]:
    """A house with the slow upstream, ready; `program` replaces what the upstream runs, `policy` its policy file.

    Upstreams `beside` it are not waited for. `connect` opens the store's connections, on a disk of the test's own.
    """
    config = _config(folder, upstream, beside or {})
    if policy is not None:
        (folder / "policy.yaml").write_text(policy, encoding="utf-8")
    if program is not None:
        (folder / "slow_server.py").write_text(program, encoding="utf-8")
    clock, looks = clock or Clock(), signature_of(config)
    async with open_sqlite(folder / "hitl.db", clock, None, connect) as store, anyio.create_task_group() as tasks:
        upstreams = Upstreams(config.upstreams, Secrets.from_config(config), directory=folder)
        decider = Decider(load_policy(policy_sources(config), config.people), config.people, clock)
        pins = await open_pins(store)
        catalog = Catalog(upstreams, lambda: decider.policy, pins)
        executor = Executor(store, upstreams, catalog, decider, clock, tasks)
        gate = Gate(store, catalog, decider, executor, tasks, Clients(config.clients), Offers(upstreams))
        tasks.start_soon(pins.run, store)
        tasks.start_soon(upstreams.run)
        policy_files = PolicyFiles(config, looks, decider, catalog, store, clock)
        tasks.start_soon(executor.run_approved)
        tasks.start_soon(policy_files.run)
        readings = Readings(store, catalog, decider, executor, clock)
        tasks.start_soon(Previews(store, readings, tasks).run)
        tasks.start_soon(Probes(store, readings, clock, tasks).run)
        with anyio.fail_after(WAIT_SECONDS):
            await next(one for one in upstreams.all() if one.name == "slow").settled.wait()
        yield House(folder, store, gate, executor, catalog, policy_files, pins, upstreams)
        tasks.cancel_scope.cancel()


def _config(folder: Path, upstream: dict[str, Any], beside: Mapping[str, Any]) -> Config:
    upstreams = {"slow": {**slow_upstream(folder), **upstream}, **beside}
    written = {"upstreams": upstreams, "policies": ["policy.yaml"]}
    (folder / "hitl.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    (folder / "policy.yaml").write_text(yaml.safe_dump(SLOW_POLICY), encoding="utf-8")
    return load_config(folder / "hitl.yaml")
