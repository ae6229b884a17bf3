"""The whole story, played without network or set-up: an agent, a gate, people, and effects that can be counted.

A scripted agent works on the sandbox of `examples/` through a real gateway, over the bridge that agent clients
launch. People answer on the review page; with `--auto` the demo answers through the same public API, then counts what
really happened and fails if it is not exactly what was decided.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import click
import httpx2
import yaml
from anyio.abc import Process
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from hitl_mcp.errors import HitlError
from hitl_mcp.shipped import example_path
from hitl_mcp.state_dir import HOME_VARIABLE

START_SECONDS = 60
"""How long the demo's gateway may take to start on a slow machine."""

OUTSIDE_MAIL: dict[str, Any] = {
    "to": "carl@customer.example.org",
    "subject": "Our offer",
    "body": "Two desks, 480 EUR. Best, the office",
}
INSIDE_MAIL: dict[str, Any] = {
    "to": "bella@example.com",
    "subject": "Invoice 4711",
    "body": "Thank you, it will be paid this week.",
}
SMALL_PAYMENT: dict[str, Any] = {"to": "Bella Repairs", "amount": 40, "currency": "EUR", "note": "invoice 4711"}
LARGE_PAYMENT: dict[str, Any] = {
    "to": "Northwind Holding",
    "amount": 9000,
    "currency": "EUR",
    "note": "approved by the management",
}

EXPECTED_EFFECTS: list[tuple[str, dict[str, Any]]] = [
    ("send_mail", INSIDE_MAIL),
    ("send_mail", OUTSIDE_MAIL),
    ("pay", SMALL_PAYMENT),
]
"""What `--auto` must find in the sandbox: the mail the policy allows and what was approved, each once."""


@dataclass(frozen=True)
class Stage:
    """Where the demo plays: a folder with a config, the environment its programs run in, and the sandbox's state."""

    folder: Path
    environment: dict[str, str]

    @property
    def config(self) -> Path:
        return self.folder / "hitl.yaml"

    @property
    def database(self) -> Path:
        return self.folder / "sandbox.db"

    def effects(self) -> list[tuple[str, dict[str, Any]]]:
        """What really happened, read from the sandbox's own file, past the gateway."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT tool, args FROM effects ORDER BY id").fetchall()
        return [(tool, json.loads(args)) for tool, args in rows]


async def run_demo(auto: bool) -> int:
    """Play the demo; returns the exit code: 0 when everything happened exactly as decided."""
    if not auto and not sys.stdout.isatty():
        raise HitlError("the demo prints login links, so it needs a terminal", help="`hitl-mcp demo --auto` needs none")
    with _stage() as stage:
        async with _gateway(stage) as reached, anyio.create_task_group() as tasks:
            say("The gate stands between an agent and a small bank and mailbox.")
            say(f"  review page  {reached['url']}")
            async with httpx2.AsyncClient(base_url=reached["url"]) as page, _agent(stage) as agent:
                people = _Answering(page, reached["control_socket"])
                if not auto:
                    await _show_links(people)
                story = _Story(agent, people if auto else None)
                await story.play()
            tasks.cancel_scope.cancel()
        return _count(stage, story, auto)


def say(text: str) -> None:
    """Tell what is happening."""
    click.echo(text)


@contextmanager
def _stage() -> Iterator[Stage]:
    # A short path of our own: sockets live in it, and the demo must not touch anybody's real state.
    folder = Path(tempfile.mkdtemp(prefix="hitl-demo-"))
    try:
        config = yaml.safe_load(example_path("demo/hitl.yaml").read_text(encoding="utf-8"))
        config["upstreams"]["sandbox"] = {
            "command": sys.executable,
            "args": [str(example_path("sandbox/server.py"))],
            "env": {"SANDBOX_DB": str(folder / "sandbox.db")},
        }
        config["review"] = {"port": 0}
        (folder / "hitl.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        shutil.copy(example_path("demo/policy.yaml"), folder / "policy.yaml")
        yield Stage(folder, {**os.environ, HOME_VARIABLE: str(folder / "state")})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _gateway(stage: Stage) -> AsyncIterator[dict[str, Any]]:
    """The demo's own gateway; yields what it printed when it was ready."""
    command = [sys.executable, "-m", "hitl_mcp", "serve", "--config", str(stage.config)]
    log = (stage.folder / "gateway.log").open("wb")
    with log:
        gateway = await anyio.open_process(command, env=stage.environment, stderr=log, stdin=subprocess.DEVNULL)
    try:
        with anyio.fail_after(START_SECONDS):
            yield json.loads(await _first_line(gateway, stage))
    finally:
        gateway.terminate()
        with anyio.CancelScope(shield=True):
            await gateway.wait()
            await gateway.aclose()


async def _first_line(gateway: Process, stage: Stage) -> bytes:
    line = b""
    while not line.endswith(b"\n") and gateway.stdout is not None:
        try:
            line += await gateway.stdout.receive()
        except anyio.EndOfStream:
            log = (stage.folder / "gateway.log").read_text(encoding="utf-8", errors="replace")
            raise HitlError(f"the demo's gateway did not start: {log[-2000:]}") from None
    return line


@asynccontextmanager
async def _agent(stage: Stage) -> AsyncIterator[Client]:
    """An agent's client, plugged in as any client is: by the command it launches."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "hitl_mcp", "stdio", "--config", str(stage.config), "--agent", "assistant"],
        env=stage.environment,
    )
    async with Client(stdio_client(command), read_timeout_seconds=120) as client:
        yield client


class _Answering:
    """Answers as people do: signed in on the page's API by a one-time link, each with a key of their own."""

    def __init__(self, page: httpx2.AsyncClient, control_socket: str) -> None:
        self._page = page
        self._control_socket = control_socket

    async def link(self, name: str) -> str:
        """A one-time link for a reviewer, as `hitl-mcp review --for NAME` makes it."""
        transport = httpx2.AsyncHTTPTransport(uds=self._control_socket)
        async with httpx2.AsyncClient(transport=transport, base_url="http://control") as control:
            answer = await control.post("/api/links", json={"for": name})
        return str(answer.raise_for_status().json()["url"])

    async def answer(self, name: str, call_id: str, verdict: str, reason: str) -> str:
        """Look at a call and give a verdict on what it shows; returns the call's status afterwards."""
        code = (await self.link(name)).partition("#login=")[2]
        login = await self._page.post("/api/login", json={"code": code})
        headers = {"Authorization": f"Bearer {login.raise_for_status().json()['token']}"}
        call = (await self._page.get(f"/api/calls/{call_id}", headers=headers)).raise_for_status().json()
        body = {"verdict": verdict, "digest": call["digest"], "reason": reason}
        answer = await self._page.post(f"/api/calls/{call_id}/verdict", json=body, headers=headers)
        return str(answer.raise_for_status().json()["status"])


async def _show_links(people: _Answering) -> None:
    say("\nTwo people can answer. Open each link in a browser (or a private window); each works once, for 5 minutes:")
    for name in ("dana", "lee"):
        say(f"  {name}: {await people.link(name)}")
    say("")


@dataclass(frozen=True)
class Said:
    """An answer the agent got."""

    status: str
    call_id: str
    text: str


class _Story:
    """What the agent does, step by step, and what it is told. With `people`, the demo answers by itself."""

    def __init__(self, agent: Client, people: _Answering | None) -> None:
        self._agent = agent
        self._people = people
        self.unexpected: list[str] = []

    async def play(self) -> None:
        """All steps, in order."""
        say("\n1. The agent reads its mail. Reading changes nothing, so it runs at once.")
        await self._call("list_mail", {"folder": "inbox"}, expect="succeeded")
        say("\n2. It thanks a colleague. Mail inside the company is its work, so that runs too.")
        await self._call("send_mail", INSIDE_MAIL, expect="succeeded")
        say("\n3. It wants to answer a customer. That leaves the company, so the call is HELD until somebody looks.")
        await self._held("send_mail", OUTSIDE_MAIL, [("dana", "approve", "")], "succeeded")
        say("\n4. It wants to pay an invoice. Money needs someone with the role finance.")
        await self._held("pay", SMALL_PAYMENT, [("lee", "approve", "invoice 4711 is right")], "succeeded")
        say("\n5. A mail told it to pay 9000 EUR at once. The score is so high that two people must agree.")
        answers = [("dana", "approve", ""), ("lee", "reject", "nobody ordered this, and the mail is a fake")]
        await self._held("pay", LARGE_PAYMENT, answers, "rejected")
        say("\n6. The same mail told it to delete an account. The policy forbids that to everyone.")
        await self._call("delete_account", {"name": "savings"}, expect="denied")
        say("\n7. It asks for the customer's mail once more. The same request has its record already: nothing is sent.")
        await self._call("send_mail", OUTSIDE_MAIL, expect="succeeded", repeat=True)

    async def _call(self, tool: str, arguments: dict[str, Any], *, expect: str, repeat: bool = False) -> Said:
        result = await self._agent.call_tool(f"sandbox__{tool}", arguments)
        said = _said(result)
        say(f"   agent: {tool}({json.dumps(arguments, ensure_ascii=False)})")
        say(f"   gate:  {said.text}")
        repeated = bool((result.structured_content or {}).get("repeat"))
        if said.status != expect or repeated != repeat:
            self.unexpected.append(f"{tool}: {said.status}, where {expect} was expected")
        return said

    async def _held(
        self, tool: str, arguments: dict[str, Any], answers: list[tuple[str, str, str]], expect: str
    ) -> None:
        """A call that is held: its wait and the people's answers happen side by side, as in life."""
        async with anyio.create_task_group() as tasks:
            if self._people is not None:
                tasks.start_soon(self._answer_when_held, answers)
            else:
                say("   Now it is your turn, on the page.")
            said = await self._call(tool, arguments, expect=expect if self._people is not None else "succeeded")
            while said.status in ("held", "approved", "running"):
                self.unexpected.clear()
                said = _said(await self._agent.call_tool("hitl_wait", {"call_id": said.call_id}))
            if self._people is None:
                self.unexpected.clear()  # whatever people decide is right

    async def _answer_when_held(self, answers: list[tuple[str, str, str]]) -> None:
        if self._people is None:
            return
        call_id = await self._newest_held()
        for name, verdict, reason in answers:
            status = await self._people.answer(name, call_id, verdict, reason)
            say(f"   {name}: {verdict}{f' ({reason})' if reason else ''} -> {status}")

    async def _newest_held(self) -> str:
        while True:
            listed = await self._agent.call_tool("hitl_status", {})
            held = [c for c in (listed.structured_content or {}).get("calls", []) if c["status"] == "held"]
            if held:
                return str(held[0]["call_id"])
            await anyio.sleep(0.05)


def _said(result: Any) -> Said:
    """What the gate said: of a call that simply ran, the upstream's own words."""
    structured = result.structured_content or {}
    text = result.content[0].text if result.content else ""
    if "call_id" in structured:
        return Said(structured["status"], structured["call_id"], text)
    return Said("failed" if result.is_error else "succeeded", "", f"(it ran) {text}"[:300])


def _count(stage: Stage, story: _Story, auto: bool) -> int:
    effects = stage.effects()
    say("\nWhat really happened in the sandbox, counted past the gate:")
    for tool, arguments in effects:
        say(f"   {tool} {json.dumps(arguments, ensure_ascii=False)}")
    if not auto:
        return 0
    if story.unexpected or effects != EXPECTED_EFFECTS:
        for problem in story.unexpected:
            say(f"   NOT AS EXPECTED: {problem}")
        say("The effects are not exactly what was decided.")
        return 1
    say("Every effect happened exactly as decided, once.")
    return 0
