"""The MCP inspector's command line, which is nobody's of ours, uses the gate through each door in both eras."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import SERVER_INFO_META_KEY

from tests.gateways import OUTSIDE, WAIT_SECONDS, Site, site
from tests.needs import needed
from tests.stories.doors import AGENT_KEYS, AGENTS

pytestmark = [pytest.mark.needs("inspector")]

ERAS = ("legacy", "modern")
"""As the inspector names them."""

DOORS = ("stdio", "http")


@dataclass(frozen=True)
class Inspector:
    """The inspector with a gateway's entries in its config, written as every client's config is."""

    place: Site
    config: Path

    async def ask(self, door: str, era: str, *what: str) -> dict[str, Any]:
        """The result of one method."""
        node = needed("node")
        command = [str(node), str(needed("inspector")), "--cli", "--config", str(self.config), "--server", door]
        environment = {
            **self.place.environment,
            "HOME": str(self.place.folder),
            "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}",
        }
        with anyio.fail_after(3 * WAIT_SECONDS):
            run = await anyio.run_process(
                [*command, "--protocol-era", era, "--format", "json", "--quiet", "--method", *what],
                env=environment,
                check=False,
            )
        assert (run.returncode, run.stderr) == (0, b"")
        answered: dict[str, Any] = json.loads(run.stdout)["result"]
        return answered

    async def call(self, door: str, era: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The result of calling a tool."""
        return await self.ask(door, era, "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))


@pytest.fixture(scope="module")
async def inspector() -> AsyncIterator[Inspector]:
    """A running gateway, and the inspector's config for it."""
    with (
        tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as folder,
        site(Path(folder), agents=AGENTS, http={"enabled": True}) as place,
    ):
        reached = await place.start()
        bridge = ["-m", "hitl_mcp", "stdio", "--config", str(place.config), "--agent", "builder"]
        home = {"HITL_MCP_HOME": place.environment["HITL_MCP_HOME"]}
        key = {"Authorization": f"Bearer {AGENT_KEYS['remote']}"}
        servers = {
            "stdio": {"command": sys.executable, "args": bridge, "env": home},
            "http": {"type": "streamable-http", "url": reached["mcp_url"], "headers": key},
        }
        config = Path(folder) / "inspector.json"
        config.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
        yield Inspector(place, config)
        await place.stop()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("door", DOORS)
async def test_the_inspector_lists_and_calls_tools(inspector: Inspector, door: str, era: str) -> None:
    """It lists what stands behind the gate and the gate's own tools, and what is allowed runs."""
    listed = await inspector.ask(door, era, "tools/list")
    names = {tool["name"] for tool in listed["tools"]}
    assert {"hitl_wait", "hitl_status", "hitl_withdraw", "sandbox__list_mail", "sandbox__send_mail"} <= names
    ran = await inspector.call(door, era, "sandbox__list_mail", {"folder": "inbox"})
    assert (ran["isError"], bool(ran["structuredContent"]["mails"])) == (False, True)
    assert (SERVER_INFO_META_KEY in ran.get("_meta", {})) == (era == "modern")


@pytest.mark.parametrize("door", DOORS)
async def test_the_inspector_is_told_of_a_held_call_and_asks_how_it_stands(inspector: Inspector, door: str) -> None:
    """In the older era it gets the answer that every client gets which knows of nothing better."""
    held = await inspector.call(door, "legacy", "sandbox__send_mail", {**OUTSIDE, "subject": f"legacy {door}"})
    said = held["structuredContent"]
    assert (held["isError"], said["status"], said["executed"]) == (False, "held", False)
    assert held["content"][0]["text"] == said["message"]
    stands = await inspector.call(door, "legacy", "hitl_status", {"call_id": said["call_id"]})
    assert stands["structuredContent"]["status"] == "held"


@pytest.mark.parametrize("door", DOORS)
async def test_the_inspector_follows_a_held_call_as_a_task_until_people_decided(
    inspector: Inspector, door: str
) -> None:
    """In the modern era it declares tasks: it is given one, looks after it, and prints what the upstream answered."""
    asked = {**OUTSIDE, "subject": f"modern {door}"}
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        answers.append(await inspector.call(door, "modern", "sandbox__send_mail", asked))

    async with inspector.place.reviewer() as dana, anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        with anyio.fail_after(WAIT_SECONDS):
            while not (held := [call for call in await dana.calls(status="held") if asked["subject"] in str(call)]):
                await anyio.sleep(0)
        await dana.approve(held[0])
    assert (answers[0].get("isError", False), ("send_mail", asked) in inspector.place.effects()) == (False, True)
    assert "NOT EXECUTED" not in str(answers[0])
