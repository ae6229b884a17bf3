"""The real gateway is killed with upstreams of every kind running: is any process of theirs left behind?

What is looked for is a mark in the environment, which every process inherits that an upstream starts.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from tests.faults.campaign import Campaign, Tally
from tests.gateways import WAIT_SECONDS, Site, site
from tests.nursery import Forked
from tests.upstream_programs import effects, slow_upstream

LEFT = "an upstream process was left behind"
STARTED_AGAIN = "a gateway did not start again"

GONE_SECONDS = 10
"""How long processes may take to go on a busy machine; what is there after that stays."""

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
"""
"""Put before the source of an upstream: it does not end when it is asked to, nor when its input ends."""

FOR_EVER = """
while True:
    signal.pause()
"""

WRAPPER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
"""A program that only starts another and waits for it, as `npx` does."""

DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for pipe in (0, 1, 2):
            os.close(pipe)
        while True:
            signal.pause()
    os._exit(0)
os.wait()
"""
"""What an upstream does that starts a daemon: a session of its own, no pipes, no parent."""

KINDS = ("ready", "in a call", "starting", "stopping", "clean stop", *("ready", "in a call", "starting") * 2)
"""When the gateway is killed, or that it is stopped as one should: round N of seed S is of kind S + N."""

POLICY = {
    "version": 1,
    "default": "hold",
    "rules": [{"id": "all", "tool": "plain__slow", "effect": "allow", "reason": "told so"}],
}


def run(rounds: int, seed: int, folder: Path) -> Tally:
    """Start the gateway and kill it, so many times, on one state directory; count who is still there."""
    tally = Tally()
    tally.never(LEFT, STARTED_AGAIN)
    mark = f"ORPHANS_OF={uuid.uuid4()}"
    agents = {"builder": {"token": "key"}}
    upstreams = _upstreams(folder, mark.partition("=")[2])
    with site(folder, POLICY, upstreams=upstreams, agents=agents, http={"enabled": True}) as here:
        for number in range(rounds):
            kind = KINDS[(seed + number) % len(KINDS)]
            chance = random.Random(seed + number)
            where = f"seed {seed + number}: {kind}"
            try:
                seen = anyio.run(_kill_once, here, kind, chance, mark)
            except AssertionError as error:
                tally.breach(STARTED_AGAIN, f"{where}: {error}")
                continue
            tally.count("kills" if kind != "clean stop" else "clean stops")
            tally.count(kind)
            tally.count("upstream processes running then", seen)
            waited, left = _until_gone(mark)
            tally.counts["longest until all were gone, ms"] = max(
                tally.counts["longest until all were gone, ms"], round(waited * 1000)
            )
            if left:
                tally.breach(LEFT, f"{where}: {'; '.join(left.values())}")
                _end(left)
    return tally


def _upstreams(folder: Path, mark: str) -> dict[str, Any]:
    """One of each kind: well-behaved, stubborn, behind a wrapper, with a daemon, and one that ends again and again."""
    plain = slow_upstream(folder)
    source = Path(plain["args"][0]).read_text(encoding="utf-8")
    programs = {
        "stubborn": STUBBORN + source + FOR_EVER,
        "daemon": STUBBORN + DAEMON + source,
        "ends": source + "\nnote('ended')",
    }
    entries = {"plain": plain}
    for name, program in programs.items():
        (folder / f"{name}.py").write_text(program, encoding="utf-8")
        entries[name] = {"command": sys.executable, "args": ["-I", "-S", str(folder / f"{name}.py"), str(folder)]}
    stubborn = entries["stubborn"]
    entries["wrapped"] = {
        "command": sys.executable,
        "args": ["-I", "-S", "-c", WRAPPER, stubborn["command"], *stubborn["args"]],
    }
    return {name: {**entry, "env": {"ORPHANS_OF": mark}} for name, entry in entries.items()}


async def _kill_once(here: Site, kind: str, chance: random.Random, mark: str) -> int:
    """Start the gateway, end it at its moment, and return how many upstream processes there were."""
    if kind == "starting":
        return await _kill_while_it_starts(here, chance, mark)
    await here.start()
    gateway = here.gateway
    if gateway is None:
        raise AssertionError("there is no gateway")
    if kind == "in a call":
        return await _kill_in_a_call(here, gateway, mark)
    with anyio.fail_after(WAIT_SECONDS):
        while len(_marked(mark)) < 9:  # five upstreams, their launchers but for what waits for a restart, a server
            await anyio.sleep(0.01)
    seen = len(_marked(mark))
    if kind in ("stopping", "clean stop"):
        os.kill(gateway.pid, signal.SIGTERM)
    if kind == "stopping":
        await anyio.sleep(chance.random() * 2)
    if kind != "clean stop":
        gateway.kill()
    await anyio.to_thread.run_sync(_wait, gateway)
    return seen


async def _kill_while_it_starts(here: Site, chance: random.Random, mark: str) -> int:
    known = here.gateway
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_start_in_vain, here)
        while here.gateway is known or here.gateway is None:
            await anyio.sleep(0.001)
        until = anyio.current_time() + chance.random() * 1.5
        while not _marked(mark) and anyio.current_time() < until:
            await anyio.sleep(0.005)
        await anyio.sleep(chance.random() * 0.1)
        seen = len(_marked(mark))
        here.gateway.kill()
    await anyio.to_thread.run_sync(_wait, here.gateway)
    return seen


async def _start_in_vain(here: Site) -> None:
    with suppress(AssertionError):  # killed before it was ready
        await here.start()


async def _kill_in_a_call(here: Site, gateway: Forked, mark: str) -> int:
    """Kill it while a call has taken effect and waits for its answer."""
    seen, before = 0, len(effects(here.folder))

    async def ask() -> None:
        with suppress(Exception):  # its gateway dies under it
            async with here.http_agent("key") as agent:
                await agent.call_tool("plain__slow", {"what": "pay"})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        with anyio.fail_after(WAIT_SECONDS):
            while len(effects(here.folder)) == before:
                await anyio.sleep(0.01)
        seen = len(_marked(mark))
        gateway.kill()
        await anyio.to_thread.run_sync(_wait, gateway)
        tasks.cancel_scope.cancel()
    return seen


def _wait(gateway: Forked | None) -> None:
    if gateway is None:
        return
    gateway.wait(WAIT_SECONDS)
    gateway.stdout.close()


def _marked(mark: str) -> dict[int, str]:
    """Every process that carries the mark, with its command line."""
    found: dict[int, str] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            environment = Path("/proc", name, "environ").read_bytes()
            if mark.encode() in environment.split(b"\0"):
                found[int(name)] = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    return found


def _until_gone(mark: str) -> tuple[float, dict[int, str]]:
    """Wait until nobody carries the mark any more; how long that took, and who still does."""
    began = time.monotonic()
    while (left := _marked(mark)) and time.monotonic() - began < GONE_SECONDS:
        time.sleep(0.01)
    return time.monotonic() - began, left


def _end(left: dict[int, str]) -> None:
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


CAMPAIGN = Campaign(
    name="orphans",
    says="`kill -9` of the real gateway with upstreams of every kind running; now and then it is stopped instead",
    short=5,
    long=220,  # 200 kills and 20 clean stops
    run=run,
)
