"""A real gateway as a test uses it: its own process, its own state, real agents, and a reviewer who signs in.

Nothing here knows the inside of the gateway: it runs its command (see `nursery`), is asked over its sockets and ports,
and its effects are read from the sandbox's own file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.to_thread
import httpx2
import yaml
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from hitl_mcp.state_dir import StateDir
from tests import sandbox
from tests.nursery import Forked, nursery

WAIT_SECONDS = 20
"""The longest a test waits for anything real: a process start takes a second, on a busy machine several."""

OUTSIDE = {"to": "carl@customer.example.org", "subject": "Our offer", "body": "Two desks."}
"""Arguments of a mail that the demo's policy holds."""

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "bands": [{"from": 75, "effect": "hold", "quorum": 2}],
    "signals": [
        {"id": "large", "tool": "sandbox__pay", "points": 80, "when": "args.amount >= 1000", "reason": "large"}
    ],
    "rules": [
        {
            "id": "reading",
            "tool": ["sandbox__list_mail", "sandbox__read_mail", "sandbox__balance"],
            "effect": "allow",
            "reason": "reading changes nothing",
        },
        {"id": "mail-out", "tool": "sandbox__send_mail", "effect": "hold", "reason": "it leaves the company"},
        {"id": "payments", "tool": "sandbox__pay", "effect": "hold", "reason": "money is paid"},
        {"id": "accounts-stay", "tool": "sandbox__delete_account", "effect": "deny", "reason": "nobody deletes these"},
    ],
}

Era = str
ERAS: tuple[Era, ...] = ("legacy", "2026-07-28")
"""Both protocol eras a client may speak."""


@dataclass
class Site:
    """A folder with a config, a policy and a sandbox; gateways, agents and reviewers of this config are made here."""

    folder: Path
    config: Path
    environment: dict[str, str]
    started: list[Forked] = field(default_factory=list)

    # Writing what the operator writes.

    @classmethod
    def write(cls, folder: Path, policy: dict[str, Any] | None = None, **config: Any) -> Self:
        """Write a config with the sandbox as its upstream; `config` replaces top-level keys."""
        written = {
            "upstreams": {"sandbox": sandbox.command(folder / "sandbox.db")},
            "policies": ["policy.yaml"],
            "review": {"port": 0},
            "reviewers": {"dana": {"roles": ["finance"]}, "erin": {"roles": []}},
            "wait_seconds": 1,
            **config,
        }
        (folder / "policy.yaml").write_text(yaml.safe_dump(policy or POLICY), encoding="utf-8")
        (folder / "hitl.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
        environment = {**os.environ, "HITL_MCP_HOME": str(folder / "s"), "PYTHONUNBUFFERED": "1"}
        return cls(folder, folder / "hitl.yaml", environment)

    def rewrite_policy(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the policy file; a gateway reads it when it starts."""
        path = self.folder / "policy.yaml"
        policy = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(policy)
        path.write_text(yaml.safe_dump(policy), encoding="utf-8")

    @property
    def gateway(self) -> Forked | None:
        """The gateway that was started last."""
        return self.started[-1] if self.started else None

    @property
    def state(self) -> StateDir:
        """The state directory of this config."""
        return StateDir(str(self.config), str(self.folder / "s"))

    def effects(self) -> list[tuple[str, dict[str, Any]]]:
        """What really happened, read past all of our code."""
        return sandbox.effects(self.folder / "sandbox.db")

    # The gateway.

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end."""
        command = [sys.executable, "-m", "hitl_mcp", *arguments, "--config", str(self.config)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    async def start(self) -> dict[str, Any]:
        """Start the gateway and wait until it says it is ready."""
        return await anyio.to_thread.run_sync(self._start)

    def _start(self) -> dict[str, Any]:
        with (self.folder / "gateway.log").open("ab") as log:
            process = nursery.start(["serve", "--config", str(self.config)], self.environment, log)
        self.started.append(process)
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"the gateway did not start:\n{self.log()}")
        reached: dict[str, Any] = json.loads(line)
        return reached

    async def restarted(self, old_pid: int) -> None:
        """Wait until a bridge has started another gateway than the one of this pid."""
        with anyio.fail_after(WAIT_SECONDS):
            while (running := self.state.read_gateway()) is None or running.pid == old_pid:
                await anyio.sleep(0)

    def log(self) -> str:
        """What gateways of this site logged."""
        paths = (self.folder / "gateway.log", Path(self.state.log_path))
        return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths if path.exists())

    async def kill(self) -> None:
        """End the gateway as a crash does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End the gateway as a service manager does."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        running = self.state.read_gateway()
        if running is None:
            return
        os.kill(running.pid, number)
        await anyio.to_thread.run_sync(self._wait_until_gone, running.pid)

    def _wait_until_gone(self, pid: int) -> None:
        for process in self.started:
            if process.pid == pid:
                process.wait(WAIT_SECONDS)
                process.stdout.close()
        # A gateway that a bridge started is not our child: its lock is free once it is gone.
        lock = self.state.acquire_gateway_lock
        deadline = WAIT_SECONDS
        while True:
            try:
                lock().release()
                return
            except Exception:
                deadline -= 1
                if deadline < 0:
                    raise

    def close(self) -> None:
        """End whatever is left."""
        running = self.state.read_gateway() if self.folder.exists() else None
        for pid in {process.pid for process in self.started} | ({running.pid} if running else set()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.started:
            process.wait(WAIT_SECONDS)
            process.stdout.close()

    # Agents.

    @asynccontextmanager
    async def agent(self, name: str = "builder", era: Era = "auto", **options: Any) -> AsyncIterator[Client]:
        """An agent's client on the bridge, as agent clients launch it."""
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "hitl_mcp", "stdio", "--config", str(self.config), "--agent", name],
            env=self.environment,
        )
        async with Client(stdio_client(command), mode=era, **options) as client:
            yield client

    @asynccontextmanager
    async def http_agent(self, key: str, era: Era = "auto", **options: Any) -> AsyncIterator[Client]:
        """An agent's client over HTTP, with its bearer token."""
        running = self.state.read_gateway()
        url = running.mcp_url if running else None
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(str(url), http_client=http), mode=era, **options) as client,
        ):
            yield client

    # Reviewers.

    @asynccontextmanager
    async def control(self) -> AsyncIterator[httpx2.AsyncClient]:
        """The control socket, as the command line uses it."""
        running = self.state.read_gateway()
        transport = httpx2.AsyncHTTPTransport(uds=running.control_socket if running else "")
        async with httpx2.AsyncClient(transport=transport, base_url="http://control", timeout=WAIT_SECONDS) as http:
            yield http

    async def link(self, name: str = "dana") -> str:
        """A one-time login link."""
        async with self.control() as control:
            return str((await control.post("/api/links", json={"for": name})).raise_for_status().json()["url"])

    @asynccontextmanager
    async def reviewer(self, name: str = "dana") -> AsyncIterator[Desk]:
        """A reviewer who is signed in on the page's API."""
        link = await self.link(name)
        base, _, code = link.partition("/#login=")
        async with httpx2.AsyncClient(base_url=base, timeout=WAIT_SECONDS) as http:
            login = (await http.post("/api/login", json={"code": code})).raise_for_status().json()
            http.headers["Authorization"] = f"Bearer {login['token']}"
            yield Desk(http)


@dataclass(frozen=True)
class Desk:
    """Where a reviewer sits: the page's API, signed in."""

    http: httpx2.AsyncClient

    async def calls(self, **query: str) -> list[dict[str, Any]]:
        """Calls in these statuses, newest first."""
        answer = (await self.http.get("/api/calls", params=query)).raise_for_status().json()
        return list(answer["calls"])

    async def call(self, call_id: str) -> dict[str, Any]:
        """One call."""
        found: dict[str, Any] = (await self.http.get(f"/api/calls/{call_id}")).raise_for_status().json()
        return found

    async def held(self) -> dict[str, Any]:
        """The one held call, as soon as there is one."""
        with anyio.fail_after(WAIT_SECONDS):
            while not (found := await self.calls(status="held")):
                await anyio.sleep(0)
        return found[0]

    async def until(self, call_id: str, *statuses: str) -> dict[str, Any]:
        """The call once it stands in one of these statuses."""
        with anyio.fail_after(WAIT_SECONDS):
            while (found := await self.call(call_id))["status"] not in statuses:
                await anyio.sleep(0)
        return found

    async def decide(self, call: dict[str, Any], verdict: str = "approve", reason: str = "") -> httpx2.Response:
        """Give a verdict on what a call showed."""
        body = {"verdict": verdict, "digest": call["digest"], "reason": reason}
        return await self.http.post(f"/api/calls/{call['id']}/verdict", json=body)

    async def approve(self, call: dict[str, Any]) -> dict[str, Any]:
        """Approve what a call showed; returns the call as it then stands."""
        answer: dict[str, Any] = (await self.decide(call)).raise_for_status().json()
        return answer


@contextmanager
def site(folder: Path, policy: dict[str, Any] | None = None, **config: Any) -> Iterator[Site]:
    """A site that leaves nothing running."""
    made = Site.write(folder, policy, **config)
    try:
        yield made
    finally:
        made.close()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
