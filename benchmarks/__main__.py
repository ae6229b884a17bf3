"""The command line: what to measure, how often, and where the figures go."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from benchmarks import million, record, seat
from benchmarks.calls import Front, Side
from benchmarks.decide import Decisions, decisions
from benchmarks.figures import Figure, table
from benchmarks.holds import Holds
from benchmarks.million import RECORDS
from benchmarks.parts import EVENT_LOOP
from benchmarks.processes import child_with, machine, resident_bytes
from benchmarks.site import (
    KEY,
    UPSTREAM_COMMAND,
    Gateway,
    client_over_http,
    client_over_stdio,
    gateway,
    new_site,
    plain_shape,
)
from benchmarks.site import upstream_over_http as http_upstream
from benchmarks.starts import Starts

SERVED = ("stdio", "http", "held", "start", "decide")
"""Measured in turns beside a gateway that runs as an operator runs it."""

GROUPS = (*SERVED, "record")

ON_DEMAND = ("million", "seat")
"""Only measured where they are named: they take minutes and a gigabyte of disk."""

LIMIT_SECONDS = 120
"""No round begins after this, so that a slow machine measures less and does not take longer."""

START_ROUNDS = 6
"""Rounds that start processes too: a cold start takes seconds."""

GATEWAY_TIME = "processor time of the gateway a call"
"""The figure of `calls.Front` that a decision's share is taken of."""

RESULTS = Path(__file__).with_name("results") / "latest.json"


@dataclass
class Measured:
    """Everything that takes part in a run."""

    gateway: Gateway
    fronts: list[Front] = field(default_factory=list)
    holds: Holds | None = None
    starts: Starts | None = None
    decisions: Decisions | None = None

    def figures(self) -> list[Figure]:
        """Every figure, in the order of the table."""
        found = [figure for front in self.fronts for figure in front.figures]
        found += self.holds.figures if self.holds else []
        found += self.starts.figures if self.starts else []
        if self.decisions is None:
            return found
        found += self.decisions.figures
        whole = [figure for figure in found if figure.group == "stdio" and figure.name == GATEWAY_TIME]
        return found + [share for figure in whole for share in self.decisions.shares(figure)]


@asynccontextmanager
async def _measured(groups: Sequence[str]) -> AsyncIterator[Measured]:
    """Start everything that the groups need, and end it."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(http_upstream())
        site = stack.enter_context(new_site(url))
        running = stack.enter_context(gateway(site))
        measured = Measured(running)
        bridged = await stack.enter_async_context(client_over_stdio(site.bridge_command(), site.environment))
        bridge = child_with("stdio", str(site.config))
        if "stdio" in groups:
            direct = await stack.enter_async_context(client_over_stdio(UPSTREAM_COMMAND, site.environment))
            pids = {"gateway": running.pid, **({"bridge": bridge} if bridge else {})}
            plain = stack.enter_context(plain_shape(site))
            relayed = await stack.enter_async_context(client_over_stdio(plain.relay_command(), site.environment))
            relay = child_with("-S", plain.socket)
            plain_pids = {"gateway": plain.pid, **({"bridge": relay} if relay else {})}
            measured.fronts.append(
                Front(
                    "stdio",
                    Side("direct", direct),
                    Side("plain", relayed, pids=plain_pids),
                    Side("gateway", bridged, "local__note", pids),
                )
            )
        if "http" in groups:
            direct = await stack.enter_async_context(client_over_http(url))
            gated = await stack.enter_async_context(client_over_http(running.mcp_url, KEY))
            pids = {"gateway": running.pid}
            measured.fronts.append(Front("HTTP", Side("direct", direct), Side("gateway", gated, "remote__note", pids)))
        if "held" in groups:
            measured.holds = Holds(bridged, "local__pay", running.control_socket)
        if "start" in groups:
            measured.starts = Starts(site, stack.enter_context(new_site()))
        if "decide" in groups:
            measured.decisions = await stack.enter_async_context(decisions())
        await bridged.list_tools()  # returns once the upstreams are there
        yield measured


async def measure(groups: Sequence[str], rounds: int, calls: int) -> list[Figure]:
    """Run the rounds; whichever side went first in one goes second in the next."""
    async with _measured(groups) as measured:
        for front in measured.fronts:
            await front.warm_up()
        if measured.decisions is not None:
            await measured.decisions.warm_up()
        ends_at = time.monotonic() + LIMIT_SECONDS
        for number in range(rounds):
            if time.monotonic() > ends_at:
                break
            for front in measured.fronts:
                await front.round(calls, direct_first=number % 2 == 0)
            if measured.holds is not None:
                await measured.holds.round()
            if measured.decisions is not None:
                await measured.decisions.round(calls)
            if measured.starts is not None and number < START_ROUNDS:
                await anyio.to_thread.run_sync(measured.starts.round)
        return [*measured.figures(), *_memory(measured.gateway)]


def _memory(running: Gateway) -> list[Figure]:
    """What the gateway and one bridge hold, after all that was asked of them."""
    pids = {"gateway": running.pid, "one bridge": child_with("stdio", str(running.site.config))}
    held = {who: resident_bytes(pid) if pid else None for who, pid in pids.items()}
    return [
        Figure("memory", f"{who}, resident, after the run", "MiB", gateway=[size / 2**20])
        for who, size in held.items()
        if size is not None
    ]


def _figures(groups: Sequence[str], rounds: int, calls: int, records: int) -> list[Figure]:
    """Measure what is measured together; what runs parts of the gateway in this process runs them on its event loop."""
    found: list[Figure] = []
    if set(groups).intersection(SERVED):
        found += anyio.run(partial(measure, groups, rounds, calls))
    if "record" in groups:
        found += anyio.run(partial(record.measure, rounds, calls), backend_options=EVENT_LOOP)
    if "million" in groups:
        found += anyio.run(partial(million.measure, rounds, calls, records), backend_options=EVENT_LOOP)
    if "seat" in groups:
        found += anyio.run(partial(seat.measure, rounds, records), backend_options=EVENT_LOOP)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    options.add_argument("--rounds", type=int, default=20, help="how often each side is measured (%(default)s)")
    options.add_argument("--calls", type=int, default=50, help="calls one after the other in a round (%(default)s)")
    options.add_argument(
        "--only", action="append", choices=GROUPS + ON_DEMAND, help="measure only this; may be given twice"
    )
    options.add_argument(
        "--records", type=int, default=RECORDS, help="calls in the database of `million` and `seat` (%(default)s)"
    )
    options.add_argument("--json", type=Path, default=RESULTS, help="where the figures go (benchmarks/results/)")
    chosen = options.parse_args(arguments)
    if min(chosen.rounds, chosen.calls, chosen.records) < 1:
        options.error("--rounds, --calls and --records are at least 1")
    before = machine()
    groups = chosen.only or GROUPS
    figures = _figures(groups, chosen.rounds, chosen.calls, chosen.records)
    print(table(figures))
    report = {
        "machine": before,
        "settings": {"groups": list(groups), "rounds": chosen.rounds, "calls": chosen.calls, "records": chosen.records},
        "figures": [figure.as_dict() for figure in figures if figure.gateway],
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
