"""The parts behind the doors in this very process: real store, real upstream, gate, executor. No surface, no agent.

For what two ways through the same parts cost against each other; what a call costs an agent is measured from outside
(see `site`).
"""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio

from benchmarks.site import AGENT, ROOT, UPSTREAM_COMMAND
from hitl_mcp.catalog import Catalog
from hitl_mcp.clients import Clients
from hitl_mcp.clock import Clock
from hitl_mcp.config import load_config, policy_sources
from hitl_mcp.decider import Decider
from hitl_mcp.executor import Executor
from hitl_mcp.gate import Gate
from hitl_mcp.offers import Offers
from hitl_mcp.pins import open_pins
from hitl_mcp.policy import load_policy
from hitl_mcp.secrets import Secrets
from hitl_mcp.store import SqliteStore, open_sqlite
from hitl_mcp.upstreams import Upstream, Upstreams

START_SECONDS = 60
"""How long the upstream may take to start and list its tools: it imports the SDK, on a machine that may be busy."""

POLICY = """
version: 1
default: hold
rules:
  - {id: notes, tool: local__note, effect: allow, reason: notes are the agent's work}
  - {id: payments, tool: local__pay, effect: allow, record: durable, reason: nothing is paid}
"""
"""One rule for each tool of the upstream, which differ in nothing else: how well the call is recorded."""

EVENT_LOOP: dict[str, Any] = {"use_uvloop": find_spec("uvloop") is not None}
"""The event loop that the gateway runs on."""


@dataclass(frozen=True)
class Parts:
    """What takes part, running."""

    store: SqliteStore
    gate: Gate
    upstream: Upstream


@asynccontextmanager
async def parts(folder: Path) -> AsyncIterator[Parts]:
    """The parts over a fresh database in `folder`, with the upstream ready."""
    python, *arguments = UPSTREAM_COMMAND
    local = {"command": python, "args": arguments, "env": {"PYTHONPATH": str(ROOT)}}
    written = {"upstreams": {"local": local}, "policies": ["policy.yaml"], "agents": {AGENT: {}}}
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (folder / "hitl.yaml").write_text(json.dumps(written), encoding="utf-8")
    config, clock = load_config(folder / "hitl.yaml"), Clock()
    async with open_sqlite(folder / "calls.db", clock) as store, anyio.create_task_group() as tasks:
        upstreams = Upstreams(config.upstreams, Secrets.from_config(config), directory=folder)
        decider = Decider(load_policy(policy_sources(config), config.people), config.people, clock)
        pins = await open_pins(store)
        catalog = Catalog(upstreams, lambda: decider.policy, pins)
        executor = Executor(store, upstreams, catalog, decider, clock, tasks)
        gate = Gate(store, catalog, decider, executor, tasks, Clients(()), Offers(upstreams))
        tasks.start_soon(pins.run, store)
        tasks.start_soon(upstreams.run)
        upstream = next(iter(upstreams.all()))
        with anyio.fail_after(START_SECONDS):
            await upstream.settled.wait()
        yield Parts(store, gate, upstream)
        tasks.cancel_scope.cancel()


@contextmanager
def settled_memory() -> Iterator[None]:
    """What stands now stays out of the garbage collector's sight, as in the gateway."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
