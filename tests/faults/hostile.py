"""Upstreams misbehave in every way of `hostile_acts`, on both transports, beside a healthy one. What comes of it?

The gateway's parts run in this process, the upstreams in theirs; effects are counted in files that only those write.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import yaml

from hitl_mcp.calls import CallRecord, Status
from hitl_mcp.errors import ToolNotFound
from hitl_mcp.gate import AgentCall
from tests.faults import hostile_acts, hostile_http  # noqa: F401 - the second names its behaviours when imported
from tests.faults.campaign import Campaign, Tally
from tests.faults.hostile_acts import BEHAVIOURS, DEADLINE_SECONDS, NO_CALL, Behaviour, Transport
from tests.houses import House, house

ROOT = Path(__file__).resolve().parents[2]

PLAYS: tuple[tuple[Behaviour, Transport], ...] = tuple(
    (behaviour, transport)
    for behaviour in random.Random(4).sample(sorted(BEHAVIOURS.values(), key=lambda one: one.name), len(BEHAVIOURS))
    for transport in behaviour.transports
)
"""Every behaviour on each of its transports, one after the other; round N of seed S plays number S + N."""

AT_ONCE = 6
"""So many are played at once where no time is measured."""

READY_SECONDS = 2
"""How long an upstream gets to become ready: it answers within 0.2 s, if at all."""

SETTLED_SECONDS = 15
"""When a hostile call must have an outcome: its deadline is far shorter."""

HEALTHY_CALLS = 200
"""So many calls of the healthy upstream are timed beside each behaviour, so that a 99th percentile means something."""

MOST_CALLS = 20
"""So many calls a hostile upstream gets at most until then."""

PROMISED_SECONDS = 0.1
MEMORY_MEBIBYTES = 400
"""The most the process may grow: messages are capped at 16 MiB, and reading one takes several times that."""

TWICE = "a call took effect twice"
DISHONEST = "an outcome was not honest"
STUCK = "a call had no outcome"
UNANSWERED = "a healthy call had no answer"
LEFT = "an upstream process was left behind"
LOUD = "an error that nobody took"
FAT = "the gateway's memory grew"

POLICY = yaml.safe_dump(
    {
        "version": 1,
        "default": "hold",
        "rules": [
            {"id": "reads", "tool": "slow__read", "effect": "allow", "reason": "reading"},
            {"id": "allowed", "tool": "a*__act", "effect": "allow", "reason": "told so"},
            {"id": "held", "tool": "h*__act", "effect": "hold", "reason": "it acts"},
        ],
    }
)


@dataclass
class Round:
    """One behaviour as it is played: under this name, counted in this file."""

    seed: int
    folder: Path
    number: int
    is_measured: bool = False
    latencies: list[float] = field(default_factory=list)

    @property
    def play(self) -> tuple[Behaviour, Transport]:
        return PLAYS[self.seed % len(PLAYS)]

    @property
    def name(self) -> str:
        """Upstreams whose name begins with `a` are allowed, with `h` held and approved."""
        kind = "a" if random.Random(self.seed).random() < 0.5 else "h"
        return f"{kind}{self.number}"

    @property
    def title(self) -> str:
        behaviour, transport = self.play
        return f"seed {self.seed}: {behaviour.name} over {transport}"

    def config(self, port: int) -> dict[str, Any]:
        """The upstream as `hitl.yaml` has it."""
        behaviour, transport = self.play
        if transport == "http":
            return {"url": f"http://127.0.0.1:{port}/{behaviour.name}/{self.name}", "timeout": DEADLINE_SECONDS}
        args = ["-S", "-m", "tests.faults.hostile_server", "stdio", behaviour.name, str(self.folder / self.name)]
        return {
            "command": sys.executable,
            "args": args,
            "env": {"PYTHONPATH": str(ROOT)},
            "timeout": DEADLINE_SECONDS,
        }

    def recorded(self, word: str) -> list[str]:
        """The lines of the record file that begin with a word."""
        path = self.folder / self.name
        found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line for line in found if line.startswith(word)]


def run(rounds: int, seed: int, folder: Path) -> Tally:
    """Play so many behaviours; where all of them are played, one at a time, so that times mean something."""
    tally = Tally()
    tally.never(TWICE, DISHONEST, STUCK, UNANSWERED, LEFT, LOUD, FAT)
    at_once = 1 if rounds >= len(PLAYS) else AT_ONCE
    with _http_server(folder) as port:
        for first in range(0, rounds, at_once):
            here = folder / f"batch{first}"
            here.mkdir()
            numbers = range(first, min(first + at_once, rounds))
            batch = [Round(seed + number, folder, number, is_measured=at_once == 1) for number in numbers]
            with _memory_watched(tally, batch[0]):
                anyio.run(_play_batch, batch, here, port, tally)
            for one in batch:
                _count(one, tally)
    return tally


@contextmanager
def _http_server(folder: Path) -> Iterator[int]:
    command = [sys.executable, "-S", "-m", "tests.faults.hostile_server", "http", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield int(process.stdout.readline()) if process.stdout else 0
        process.kill()


@contextmanager
def _memory_watched(tally: Tally, first: Round) -> Iterator[None]:
    """Count how far the process grew at its worst while this is open; only Linux tells."""
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists():
        yield
        return

    def mebibytes(what: str) -> int:
        return next(int(line.split()[1]) // 1024 for line in status.read_text().splitlines() if line.startswith(what))

    forget.write_text("5")
    before = mebibytes("VmRSS")
    yield
    grown = mebibytes("VmHWM") - before
    tally.counts["most memory that a behaviour took, MiB"] = max(
        tally.counts["most memory that a behaviour took, MiB"], grown
    )
    if grown > MEMORY_MEBIBYTES:
        tally.breach(FAT, f"{first.title}: by {grown} MiB")


async def _play_batch(batch: list[Round], folder: Path, port: int, tally: Tally) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, what: tally.breach(LOUD, f"{batch[0].title}: {what.get('exception') or what}"))
    beside = {one.name: one.config(port) for one in batch}
    (folder / "go").touch()
    async with house(folder, policy=POLICY, beside=beside) as here, anyio.create_task_group() as healthy:
        healthy.start_soon(_stay_healthy, here, batch, tally)
        async with anyio.create_task_group() as tasks:
            for one in batch:
                tasks.start_soon(_play, here, one, tally)
        healthy.cancel_scope.cancel()
    for one in batch:
        for line in one.recorded("pid"):
            if Path(f"/proc/{line.split()[1]}").exists():
                tally.breach(LEFT, one.title)


async def _stay_healthy(here: House, batch: list[Round], tally: Tally) -> None:
    """Call the healthy upstream over and over, and note how long it takes."""
    while True:
        began = time.perf_counter()
        with anyio.CancelScope(shield=True), anyio.move_on_after(SETTLED_SECONDS):
            run = await here.ask("read", what="are you well?")
            await run.finished.wait()
            if run.outcome is None or run.outcome.status is not Status.SUCCEEDED:
                tally.breach(UNANSWERED, batch[0].title)
        for one in batch:
            one.latencies.append(time.perf_counter() - began)
        await anyio.sleep(0)


async def _play(here: House, one: Round, tally: Tally) -> None:
    """Let one upstream misbehave, call it, and look at what is said of each call."""
    transport = one.play[1]
    seen: set[str] = set()
    upstream = here.upstreams.get(one.name)
    if upstream is not None:
        upstream.on_change(lambda: seen.add(upstream.state))
    with anyio.move_on_after(READY_SECONDS):
        while here.catalog.find_by_name(f"{one.name}__act") is None:
            await anyio.sleep(0.005)
    calls = 0
    while calls == 0 or (one.is_measured and len(one.latencies) < HEALTHY_CALLS and calls < MOST_CALLS):
        calls += 1
        status = await _call(here, one, calls, tally)
        tally.count(f"{transport}: {status}")
    tally.count("upstreams reported down", int("down" in seen))
    effects = one.recorded("effect")
    tally.count("effects", len(effects))
    if len(effects) > len(set(effects)):
        tally.breach(TWICE, one.title)


async def _call(here: House, one: Round, number: int, tally: Tally) -> str:
    """Call the hostile upstream; return what became of it."""
    # The arguments are large: an upstream that does not read lets them back up.
    arguments = {"number": number, "text": "x" * 200_000}
    try:
        asked = await here.gate.ask(AgentCall("builder", "conv", f"{one.name}__act", arguments, {"progressToken": 1}))
    except ToolNotFound:
        await anyio.sleep(DEADLINE_SECONDS if one.is_measured else 0)
        return _judged(one, NO_CALL, tally)
    if asked.record is None:
        return _judged(one, NO_CALL, tally)
    with anyio.move_on_after(SETTLED_SECONDS):
        if asked.record.status is Status.HELD:
            await here.approve(asked.record)
        after = await here.settled(asked.record.id)
        if one.play[0].name == "answers_late" and after.status is Status.UNKNOWN:
            after = await here.until(asked.record.id, Status.SUCCEEDED)
            tally.count("settled by a late answer")
        return _judged(one, after, tally, took_effect=f"effect {number}" in one.recorded("effect"))
    tally.breach(STUCK, one.title)
    return "stuck"


def _judged(one: Round, after: CallRecord | str, tally: Tally, *, took_effect: bool = False) -> str:
    """How a call ended, and whether that is honest. What an upstream claims to have done is its own word."""
    if isinstance(after, str):
        status, unsent = after, True
    else:
        status, unsent = str(after.status), after.outcome is None or not after.outcome.executed
    # On a busy machine any call may meet its deadline before it left: that it was not sent is honest then.
    is_honest = not took_effect if unsent else status in one.play[0].honest
    if not is_honest:
        tally.breach(DISHONEST, f"{one.title}: {status}, {'took effect' if took_effect else 'took no effect'}")
    return status


def _count(one: Round, tally: Tally) -> None:
    latencies = sorted(one.latencies)
    tally.count("rounds")
    tally.count("healthy calls", len(latencies))
    slow = sum(seconds >= PROMISED_SECONDS for seconds in latencies)
    tally.count("healthy calls of 100 ms or more", slow)
    if not latencies:
        tally.breach(UNANSWERED, one.title)
        return
    p99 = latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))]
    tally.counts["worst p99 of healthy calls, ms"] = max(
        tally.counts["worst p99 of healthy calls, ms"], round(p99 * 1000)
    )
    if p99 >= PROMISED_SECONDS:
        tally.count(f"p99 of 100 ms or more: {one.title}, {round(p99 * 1000)} ms")


CAMPAIGN = Campaign(
    name="hostile",
    says="upstreams that hang, flood, lie, die and speak garbage, on both transports, beside a healthy one",
    short=60,
    long=len(PLAYS),
    run=run,
)
