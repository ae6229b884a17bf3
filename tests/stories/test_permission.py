"""`hitl_permission`, as Claude Code's `--permission-prompt-tool` calls it: real gateway, real client, real people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult

from tests.gateways import ERAS, WAIT_SECONDS, Site, site
from tests.stories.doors import Progress, into, said, structured

POLICY = {
    "version": 1,
    "default": "hold",
    "rules": [
        {"id": "reading", "tool": "claude-code__Read", "effect": "allow", "reason": "reading changes nothing"},
        {"id": "shell", "tool": "claude-code__Bash", "effect": "hold", "reason": "it runs a command"},
        {"id": "ours", "tool": "claude-code__mcp__hitl__*", "effect": "allow", "reason": "decided when called"},
    ],
}
MAKE = {"command": "make", "timeout": 1.0}


@pytest.fixture
def client_site(short_dir: Path) -> Iterator[Site]:
    """A gateway that decides Claude Code's own tools."""
    with site(short_dir, POLICY, upstreams={}, clients=["claude-code"]) as made:
        yield made


async def ask(agent: Client, tool: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Ask for permission, in the shape that Claude Code asks in, and read the answer as Claude Code does."""
    asked = {"tool_name": tool, "input": arguments, "tool_use_id": "toolu_1"}
    answer = await agent.call_tool("hitl_permission", asked, **options)
    return read(answer)


def read(answer: CallToolResult) -> dict[str, Any]:
    """One text with JSON, and nothing beside it."""
    assert (answer.is_error, answer.structured_content, len(answer.content)) == (False, None, 1)
    told: dict[str, Any] = json.loads(said(answer))
    return told


@pytest.mark.parametrize("era", ERAS)
async def test_permission_is_given_as_the_policy_and_people_say(client_site: Site, era: str) -> None:
    """Allowed with exactly the bytes that are on record; held with words; released once after the approval."""
    await client_site.start()
    async with client_site.agent(era=era) as agent, client_site.reviewer() as dana:
        assert "hitl_permission" in {tool.name for tool in (await agent.list_tools()).tools}
        allowed = await ask(agent, "Read", {"file_path": "/a", "limit": 1.0})
        assert allowed == {"behavior": "allow", "updatedInput": {"file_path": "/a", "limit": 1.0}}
        assert (await ask(agent, "mcp__hitl__mail__send", {}))["behavior"] == "allow"
        held = await ask(agent, "Bash", MAKE)
        call = await dana.held()
        assert set(held) == {"behavior", "message"}
        assert (held["behavior"], held["message"][:36]) == ("deny", f"NOT EXECUTED, held as {call['id']}"[:36])
        assert "Repeating the identical call asks for this same request" in held["message"]
        await dana.approve(call)
        status = structured(await agent.call_tool("hitl_status", {}))
        assert [(one["call_id"], one["status"]) for one in status["calls"]] == [(call["id"], "approved")]
        waited = structured(await agent.call_tool("hitl_wait", {"call_id": call["id"]}))
        assert waited["message"].startswith(f"NOT EXECUTED YET: {call['id']} was approved. Repeat the identical call")
        given = await agent.call_tool(
            "hitl_permission", {"input": dict(reversed(MAKE.items())), "tool_name": "Bash", "tool_use_id": "toolu_2"}
        )
        assert said(given) == f'{{"behavior":"allow","updatedInput":{call["arguments_json"]}}}'
        told = structured(await agent.call_tool("hitl_status", {"call_id": call["id"]}))
        assert (told["status"], "executed" in told) == ("released", False)
        assert (await ask(agent, "Bash", MAKE))["behavior"] == "deny"
        assert (await dana.held())["id"] != call["id"]


async def test_permission_waits_for_people_with_signs_of_life(client_site: Site) -> None:
    """Approved while the client waits: it is allowed at once, and heard what was waited for meanwhile."""
    client_site.config.write_text(client_site.config.read_text().replace("wait_seconds: 1", "wait_seconds: 40"))
    await client_site.start()
    answers: list[dict[str, Any]] = []
    heard: list[Progress] = []
    async with client_site.agent() as agent, client_site.reviewer() as dana:

        async def wait() -> None:
            answers.append(await ask(agent, "Bash", MAKE, progress_callback=into(heard)))

        with anyio.fail_after(WAIT_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                call = await dana.held()
                while not heard:
                    await anyio.sleep(0)
                await dana.approve(call)
    assert answers[0] == {"behavior": "allow", "updatedInput": MAKE}
    assert heard[0] == (1.0, None, f"{call['id']}: held, waiting for people")


async def test_permission_is_withdrawn_and_refused_like_any_call(client_site: Site) -> None:
    """A withdrawn call cannot be approved; what is not asked in the right shape is an error, never an answer."""
    await client_site.start()
    async with client_site.agent() as agent, client_site.reviewer() as dana:
        await ask(agent, "Bash", MAKE)
        call = await dana.held()
        back = structured(await agent.call_tool("hitl_withdraw", {"call_id": call["id"]}))
        assert back["status"] == "withdrawn"
        assert (await dana.decide(call)).status_code == 409
        refused = await ask(agent, "not a name", {})
        assert refused == {"behavior": "deny", "message": "NOT EXECUTED: no tool is called `claude-code__not a name`"}
        shapes: tuple[dict[str, Any], ...] = ({"tool_name": "Bash"}, {"input": {}}, {"tool_name": 1, "input": {}})
        for wrong in shapes:
            with pytest.raises(MCPError):
                await agent.call_tool("hitl_permission", wrong)
        with pytest.raises(MCPError):
            await agent.call_tool("claude-code__Bash", MAKE)


async def test_without_clients_there_is_no_permission_to_ask_for(sandbox_site: Site) -> None:
    """A gateway that decides no client's own tools does not offer the tool, and does not know it."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent:
        assert "hitl_permission" not in {tool.name for tool in (await agent.list_tools()).tools}
        with pytest.raises(MCPError):
            await agent.call_tool("hitl_permission", {"tool_name": "Bash", "input": {}})


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_hook_elsewhere_asks_on_the_port_with_its_agents_token(short_dir: Path, enabled: bool) -> None:
    """The agent is whose token it is, where agents may come over HTTP at all; a wrong token is nobody's."""
    body = {"client": "claude-code", "tool": "Read", "arguments": {"file_path": "/a"}}
    agents, http = {"remote": {"token": "remote-key"}}, {"enabled": enabled}
    with site(short_dir, POLICY, upstreams={}, clients=["claude-code"], agents=agents, http=http) as place:
        reached = await place.start()
        async with httpx2.AsyncClient(base_url=reached["url"], timeout=WAIT_SECONDS) as outside:
            keys = ("remote-key", "other-key")
            shown = [{"Authorization": f"Bearer {key}"} for key in keys]
            answers = [await outside.post("/api/evaluate", json=body, headers=headers) for headers in shown]
        assert [answer.status_code for answer in answers] == [200 if enabled else 401, 401]
        async with place.reviewer() as dana:
            calls = await dana.calls()
    assert [(call["agent"], call["status"]) for call in calls] == ([("remote", "released")] if enabled else [])
