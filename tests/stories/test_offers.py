"""Resources and prompts that the policy names: decided, held and recorded like calls; all others simply pass."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError

from tests.gateways import Site, site
from tests.stories.doors import AGENTS, EVERY_WAY, agent_at
from tests.stories.servers import library_server

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "deny",
    "rules": [
        {"id": "keys-stay", "tool": "resource:library:*keys", "effect": "deny", "reason": "nobody reads keys"},
        {"id": "diary", "tool": "resource:*:*diary*", "effect": "hold", "reason": "a diary is private"},
        {
            "id": "greetings",
            "tool": "prompt:library:*",
            "effect": "hold",
            "when": 'args.arguments.who != "Ann"',
            "reason": "strangers are greeted with care",
        },
    ],
}


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the library."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        folder = Path(name)
        upstreams = {"library": {"command": sys.executable, "args": [library_server.__file__, str(folder / "read")]}}
        options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 10}
        with site(folder, POLICY, upstreams=upstreams, **options) as made:
            await made.start()
            yield made


def readings(place: Site) -> list[str]:
    """What really reached the library."""
    file = place.folder / "read"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


@EVERY_WAY
async def test_what_no_rule_names_passes_without_a_record(place: Site, door: str, era: str) -> None:
    """Though the policy denies every call that no rule names: its default is about calls."""
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        before = len(await dana.calls())
        assert len((await agent.list_resources()).resources) == 3
        read = await agent.read_resource("note:open")
        assert [getattr(part, "text", "") for part in read.contents] == ["what note:open says"]
        assert len(await dana.calls()) == before


@EVERY_WAY
async def test_a_denied_resource_reaches_nobody(place: Site, door: str, era: str) -> None:
    """The client is told the rule; its upstream is not asked."""
    async with agent_at(place, door, era) as agent:
        with pytest.raises(MCPError, match=r"NOT EXECUTED, denied by policy \(rule `keys-stay`.*nobody reads keys"):
            await agent.read_resource("note:keys")
    assert "read note:keys" not in readings(place)


@EVERY_WAY
async def test_a_held_resource_is_read_once_when_people_approve(place: Site, door: str, era: str) -> None:
    """The client waits; the reviewer sees which resource of which upstream, approves, and it is read, once."""
    uri = f"note:diary-{door}-{era}"
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        async with anyio.create_task_group() as asking:
            contents: list[str] = []

            async def read() -> None:
                result = await agent.read_resource(uri)
                contents.extend(getattr(part, "text", "") for part in result.contents)

            asking.start_soon(read)
            call = await dana.held()
            assert (call["name"], call["tool"]) == (f"resource:library:{uri}", f"resource:{uri}")
            assert call["arguments_json"] == json.dumps({"uri": uri}, separators=(",", ":"))
            await dana.approve(call)
        assert contents == [f"what {uri} says"]
        assert (await dana.call(call["id"]))["status"] == "succeeded"
        repeated = await agent.read_resource(uri)
        assert getattr(repeated.contents[0], "text", "") == f"what {uri} says"
    assert readings(place).count(f"read {uri}") == 1


@EVERY_WAY
async def test_a_rejected_prompt_is_refused_in_the_reviewer_s_words(place: Site, door: str, era: str) -> None:
    """A rule may ask about its arguments; what does not meet the condition passes."""
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        assert (await agent.get_prompt("library__greet", {"who": "Ann"})).messages
        who = f"Bob by {door} {era}"
        async with anyio.create_task_group() as asking:

            async def ask() -> None:
                with pytest.raises(MCPError, match=r"rejected by a human reviewer.*not him"):
                    await agent.get_prompt("library__greet", {"who": who})

            asking.start_soon(ask)
            await dana.decide(await dana.held(), "reject", "not him")
    assert f"prompt greet {who}" not in readings(place)


async def test_what_is_read_is_not_edited(place: Site) -> None:
    """Another resource is another question of the agent's: nothing moves, and the reviewer is told why."""
    async with (
        agent_at(place, "http", "2026-07-28") as agent,
        place.reviewer() as dana,
        anyio.create_task_group() as asking,
    ):

        async def read() -> None:
            with pytest.raises(MCPError, match="not this one"):
                await agent.read_resource("note:diary-edited")

        asking.start_soon(read)
        call = await dana.held()
        edited = {"digest": call["digest"], "arguments_json": '{"uri":"note:open"}'}
        for where, body in (("edit", edited), ("verdict", {"verdict": "approve", **edited})):
            refused = (await dana.http.post(f"/api/calls/{call['id']}/{where}", json=body)).json()["error"]
            assert refused["code"] == "edit_refused"
            assert "it is read, not run: reject it" in refused["message"], refused
        now = await dana.call(call["id"])
        assert (now["status"], now["version"], now["digest"]) == ("held", call["version"], call["digest"])
        await dana.decide(call, "reject", "not this one")
    assert "read note:diary-edited" not in readings(place)


async def test_a_tool_of_such_a_name_cannot_be_called(place: Site) -> None:
    """What is read is asked for as such; a call by that name finds no tool."""
    async with place.agent() as agent:
        with pytest.raises(MCPError, match="resource:library:note:keys"):
            await agent.call_tool("resource:library:note:keys", {"uri": "note:keys"})
