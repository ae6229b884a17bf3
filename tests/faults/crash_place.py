"""A gateway that may end at any moment, and the people and agents around it, who remember what they were told.

What they do is told as a story elsewhere; what must be true afterwards stands in `crash_checks`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from mcp_types.version import LATEST_MODERN_VERSION

from hitl_mcp.config import load_config
from hitl_mcp.state_dir import RunningGateway, StateDir

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path(__file__).with_name("crash_upstream.py")

WAIT_SECONDS = 60
"""The longest a round waits for anything: a busy machine is no breach."""

WAYS = ("stdio", "http", "slow", "dies")
"""The kinds of upstream that each place is crossed with; the last two are over pipes, too."""


def full_name(way: str, tool: str) -> str:
    """What agents call a tool, the way they want it."""
    return f"{'http' if way == 'http' else 'stdio'}__{tool}"


POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "hold_defaults": {"expires": "1h", "run_within": "30m"},
    "rules": [
        {"id": "free", "tool": ["*__free", "*__late"], "effect": "allow", "reason": "it may"},
        {"id": "two", "tool": ["*__pay", "*__brittle"], "effect": "hold", "quorum": 2, "reason": "money"},
        {"id": "one", "tool": ["*__give", "*__broken", "*__die"], "effect": "hold", "reason": "who knows"},
        {"id": "back", "tool": "*__undoable", "effect": "hold", "undo": "60s", "reason": "think again"},
        {"id": "no", "tool": "*__never", "effect": "deny", "reason": "never"},
    ],
}

QUORUMS = {"pay": 2, "brittle": 2}
"""How many people each tool needs that needs more than one, as the policy says."""

REVIEWERS = ("dana", "erin")


class Died(Exception):
    """The gateway is gone, in the middle of what was asked of it."""


@dataclass
class Told:
    """What agents and reviewers were told, and may rely on from then on."""

    held: set[str] = field(default_factory=set)
    verdicts: set[tuple[str, str, str]] = field(default_factory=set)
    withdrawn: set[str] = field(default_factory=set)
    resolved: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    paused: bool | None = None

    @property
    def ids(self) -> set[str]:
        """Every call that anyone was told of."""
        decided = {call_id for call_id, _, _ in self.verdicts}
        return {*self.held, *decided, *self.withdrawn, *self.resolved, *self.ended}

    def add(self, later: Told) -> None:
        """Remember what was told later, too."""
        self.held |= later.held
        self.verdicts |= later.verdicts
        self.withdrawn |= later.withdrawn
        self.resolved |= later.resolved
        self.ended |= later.ended
        self.answered |= later.answered


@dataclass
class Place:
    """A folder with a config, its upstreams and its gateway."""

    folder: Path
    told: Told = field(default_factory=Told)
    ahead_seconds: float = 0
    starter: asyncio.subprocess.Process | None = None
    pid: int | None = None
    exit_code: int = 0
    keys: dict[str, str] = field(default_factory=dict)
    running: RunningGateway | None = None
    _page: httpx2.AsyncClient | None = None

    # What the operator writes.

    def write(self, http_port: int, **config: Any) -> None:
        """Write the config and the policy."""
        upstreams = {
            "stdio": {"command": sys.executable, "args": ["-I", "-S", str(PROGRAM), str(self.folder), "stdio"]},
            "http": {"url": f"http://127.0.0.1:{http_port}/mcp"},
            "late": {"url": f"http://127.0.0.1:{http_port}/mcp", "timeout": 1},
        }
        written = {
            "upstreams": upstreams,
            "policies": ["policy.yaml"],
            "review": {"port": 0},
            "reviewers": {name: {"roles": []} for name in REVIEWERS},
            "wait_seconds": 1,
            "retention": {"denied": "30d"},
            **config,
        }
        self.write_policy(POLICY)
        (self.folder / "hitl.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")

    def write_policy(self, policy: dict[str, Any]) -> None:
        """Write the policy file."""
        (self.folder / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")

    @property
    def state(self) -> StateDir:
        """The state directory."""
        return StateDir(str(self.folder / "hitl.yaml"), str(self.folder / "s"))

    def database(self) -> Path:
        """The record, which is read past the gateway."""
        return Path(self.state.file("hitl.db"))

    def effects(self, since_bytes: int = 0) -> list[tuple[str, str]]:
        """What really happened, as upstreams wrote it down: under which id, and what."""
        path = self.folder / "effects"
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(since_bytes)
            lines = file.read().decode().splitlines()
        return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]

    def config(self) -> Any:
        """The config as the gateway reads it."""
        return load_config(self.folder / "hitl.yaml")

    # The gateway's life.

    def arm(self, point: str) -> None:
        """Have the running gateway, or the next one, die at this place."""
        coming = self.folder / "armed.new"
        coming.write_text(point, encoding="utf-8")
        coming.replace(self.folder / "armed")

    def disarm(self) -> None:
        """Have it live."""
        (self.folder / "armed").unlink(missing_ok=True)

    async def start(self) -> None:
        """Start the gateway and wait until it is ready.

        Raises:
            Died: It ended before.
        """
        await self.launch()
        said = await self._said()
        if "exit" in said:
            self._is_over(said)
            raise Died
        self.running = RunningGateway(**{name: said[name] for name in RunningGateway.__slots__})
        self._page = httpx2.AsyncClient(base_url=self.running.url, timeout=WAIT_SECONDS, verify=False)

    async def launch(self) -> None:
        """Start the gateway without waiting for it to be ready."""
        if self.starter is None or self.starter.stdin is None:
            raise AssertionError("there is nothing that starts gateways")
        self.starter.stdin.write(json.dumps({"ahead_seconds": self.ahead_seconds}).encode() + b"\n")
        self.pid = (await self._said())["pid"]

    async def _said(self) -> dict[str, Any]:
        """The next line of the gateway, or of what starts it."""
        if self.starter is None or self.starter.stdout is None:
            raise AssertionError("there is nothing that starts gateways")
        line = await asyncio.wait_for(self.starter.stdout.readline(), WAIT_SECONDS)
        if not line:
            raise AssertionError(f"what starts gateways is gone:\n{(self.folder / 'gateway.log').read_text()}")
        return dict(json.loads(line))

    def _is_over(self, said: dict[str, Any]) -> None:
        self.pid, self.exit_code = None, said["exit"]

    async def ended(self) -> int:
        """Wait until the gateway is gone; how it ended."""
        while self.pid is not None:
            said = await self._said()
            if "exit" in said:
                self._is_over(said)
        if self._page is not None:
            await self._page.aclose()
            self._page = None
        return self.exit_code

    def strike(self) -> None:
        """End the gateway at once, and do not wait for it."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def kill(self) -> None:
        """End the gateway at once."""
        self.strike()
        await self.ended()

    # Agents.

    @asynccontextmanager
    async def agent(self, name: str = "builder") -> AsyncIterator[Agent]:
        """An agent on the gateway's socket, as a bridge opens it.

        Raises:
            Died: The gateway is gone.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(self.running.agent_socket if self.running else "")
        except OSError as error:
            raise Died from error
        try:
            agent = Agent(self.told, reader, writer)
            await agent.greet(self.state.config, name)
            yield agent
        finally:
            writer.close()

    # Reviewers.

    async def post(self, reviewer: str, path: str, body: dict[str, Any]) -> httpx2.Response:
        """Post to the page's API as a reviewer who is signed in.

        Raises:
            Died: The gateway is gone.
        """
        return await self._asked(reviewer, "POST", path, body)

    async def get(self, path: str) -> Any:
        """What the page's API says, to dana.

        Raises:
            Died: The gateway is gone.
        """
        return (await self._asked("dana", "GET", path, None)).raise_for_status().json()

    async def _asked(self, reviewer: str, method: str, path: str, body: dict[str, Any] | None) -> httpx2.Response:
        if self._page is None:
            raise Died
        try:
            if reviewer not in self.keys:
                await self.sign_in(reviewer)
            headers = {"Authorization": f"Bearer {self.keys[reviewer]}"}
            answer = await self._page.request(method, path, json=body, headers=headers)
            if answer.status_code == 401:
                await self.sign_in(reviewer)
                headers = {"Authorization": f"Bearer {self.keys[reviewer]}"}
                answer = await self._page.request(method, path, json=body, headers=headers)
            return answer
        except httpx2.TransportError as error:
            raise Died from error

    async def sign_in(self, reviewer: str) -> None:
        """Sign a reviewer in, by a link from the control socket."""
        if self.running is None or self._page is None:
            raise Died
        transport = httpx2.AsyncHTTPTransport(uds=self.running.control_socket, verify=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://control", timeout=WAIT_SECONDS) as control:
            link = (await control.post("/api/links", json={"for": reviewer})).raise_for_status().json()["url"]
        code = {"code": link.partition("/#login=")[2]}
        login = (await self._page.post("/api/login", json=code)).raise_for_status().json()
        self.keys[reviewer] = login["token"]

    async def decide(self, reviewer: str, call: dict[str, Any], verdict: str = "approve") -> bool:
        """Give a verdict, and remember it where it was accepted; whether it was."""
        body = {"verdict": verdict, "digest": call["digest"], "reason": ""}
        answer = await self.post(reviewer, f"/api/calls/{call['id']}/verdict", body)
        if answer.status_code == 200:
            self.told.verdicts.add((call["id"], reviewer, verdict))
        return answer.status_code == 200


class Agent:
    """The agent's end of a connection: one request at a time, in the modern era."""

    def __init__(self, told: Told, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._told = told
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._what = ""
        self.on_held: Callable[[str], None] = lambda call_id: None

    async def greet(self, config: str, name: str) -> None:
        """Say who is there, as the bridge does."""
        await self._send({"hitl": 1, "config": config, "agent": name, "conversation": "0123456789abcdef"})
        await self._line()

    async def begin(self, name: str, what: str) -> None:
        """Ask for a call and do not wait."""
        self._what = what
        await self._ask(name, {"what": what})

    async def until_held(self) -> str:
        """Wait until the call that was asked for is said to be held; its id."""
        while True:
            message = await self._line()
            if message.get("id") == self._number:
                raise AssertionError(f"it was answered, not held: {message}")
            if (call_id := self._held(message)) is not None:
                return call_id

    def _held(self, message: dict[str, Any]) -> str | None:
        """The call that a message says is held."""
        said = str((message.get("params") or {}).get("message", ""))
        if not said.endswith(": held, waiting for people"):
            return None
        call_id = said.partition(":")[0]
        self._told.held.add(call_id)
        return call_id

    async def answer(self) -> dict[str, Any]:
        """The answer to what was asked last; what it tells is remembered."""
        while (message := await self._line()).get("id") != self._number:
            if (call_id := self._held(message)) is not None:
                self.on_held(call_id)
        result: dict[str, Any] = message.get("result") or {"error": message.get("error")}
        told = result.get("structuredContent") or {}
        if told.get("status") == "held":
            self._told.held.add(told["call_id"])
        elif "call_id" in told:
            self._told.ended[told["call_id"]] = told["status"]
        elif "content" in result and self._what:
            self._told.answered.add(self._what)
        return result

    async def own(self, name: str, call_id: str) -> dict[str, Any]:
        """Use one of the gateway's own tools."""
        self._what = ""
        await self._ask(name, {"call_id": call_id})
        result = await self.answer()
        if name == "hitl_withdraw" and (result.get("structuredContent") or {}).get("status") == "withdrawn":
            self._told.withdrawn.add(call_id)
        return result

    async def _ask(self, name: str, arguments: dict[str, Any]) -> None:
        self._number += 1
        prefix = "io.modelcontextprotocol/"
        meta = {f"{prefix}protocolVersion": LATEST_MODERN_VERSION, f"{prefix}clientCapabilities": {}}
        params = {"name": name, "arguments": arguments, "_meta": {**meta, "progressToken": self._number}}
        await self._send({"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": params})

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
        except ConnectionError as error:
            raise Died from error

    async def _line(self) -> dict[str, Any]:
        try:
            return dict(json.loads(await asyncio.wait_for(self._reader.readuntil(b"\n"), WAIT_SECONDS)))
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise Died from error


@asynccontextmanager
async def place(folder: Path, *, armed: bool, **config: Any) -> AsyncIterator[Place]:
    """A place with its HTTP upstream, whose gateways can be `armed`; leaves nothing running."""
    async with AsyncExitStack() as stack:
        upstream = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(PROGRAM), str(folder), "http"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.push_async_callback(_end, upstream)
        line = await upstream.stdout.readline() if upstream.stdout else b""
        made = Place(folder)
        made.write(int(line), **config)
        made.starter = await _starter(made, armed)
        stack.push_async_callback(_end, made.starter)
        stack.push_async_callback(made.kill)
        yield made


async def _starter(made: Place, armed: bool) -> asyncio.subprocess.Process:
    environment = {**os.environ, "HITL_MCP_HOME": str(made.folder / "s"), "PYTHONPATH": str(ROOT)}
    more = [str(made.folder / "armed")] if armed else []
    with (made.folder / "gateway.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.crash_gateway", str(made.folder / "hitl.yaml"), *more),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
