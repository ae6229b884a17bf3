"""Held calls as tasks: durable, their agent's own, and ended by whatever ends the call. By real modern clients."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    ElicitRequestFormParams,
)

from tests.gateways import ERAS, POLICY, WAIT_SECONDS, Site, site
from tests.stories.dialogs import TASKS, Handle, Person, TakesTasks, cancel, filled_in, look, update
from tests.stories.doors import AGENT_KEYS, AGENTS, agent_at, structured

MODERN = ERAS[1]
DOORS = pytest.mark.parametrize("door", ["bridge", "http"])
OPTIONS: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the sandbox."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name, site(Path(name), POLICY, **OPTIONS) as made:
        await made.start()
        yield made


def mail(words: str) -> dict[str, Any]:
    """A mail that is held."""
    return {"to": "carl@customer.example.org", "subject": words, "body": "Two desks."}


async def task_of(agent: Any, arguments: dict[str, Any]) -> Handle:
    """Make a call that is held, and take its task."""
    handle = await agent.session.call_tool("sandbox__send_mail", arguments, allow_claimed=True)
    assert isinstance(handle, Handle), handle
    return handle


@DOORS
async def test_a_task_outlives_the_gateway_and_its_client(short_dir: Path, door: str) -> None:
    """The gateway is killed and started again, the client is another one: the task is there, with its result."""
    with site(short_dir, POLICY, **OPTIONS) as place:
        await place.start()
        async with agent_at(place, door, MODERN, extensions=[TakesTasks()]) as agent:
            handle = await task_of(agent, mail("restart"))
            assert (handle.status, handle.ttl_ms) == ("working", None)
        await place.kill()
        await place.start()
        async with agent_at(place, door, MODERN, extensions=[TakesTasks()]) as agent, place.reviewer() as dana:
            held = await look(agent, handle.task_id)
            assert (held.status, held.created_at) == ("working", handle.created_at)
            assert (held.status_message or "").startswith(f"NOT EXECUTED, held as {handle.task_id}")
            await dana.approve(await dana.call(handle.task_id))
            await dana.until(handle.task_id, "succeeded")
            done = await look(agent, handle.task_id)
            assert (done.status, (done.result or {})["structuredContent"]) == ("completed", {"id": "s1"})
            with anyio.fail_after(WAIT_SECONDS):  # noted once the answer was written to the transport
                while (await dana.call(handle.task_id))["events"][-1]["kind"] != "told":
                    await anyio.sleep(0)
            listed = await agent.call_tool("hitl_status", {})
        assert structured(listed)["calls"] == []
        assert place.effects() == [("send_mail", mail("restart"))]


async def test_what_becomes_of_a_task(sandbox_site: Site) -> None:
    """A rejection completes it with the tool error that says so; a cancel withdraws the call while that is possible."""
    await sandbox_site.start()
    client = TakesTasks()
    async with sandbox_site.agent(era=MODERN, extensions=[client]) as agent, sandbox_site.reviewer() as dana:
        rejected, cancelled, ran = [await task_of(agent, mail(words)) for words in ("rejected", "cancelled", "ran")]
        await dana.decide(await dana.call(rejected.task_id), "reject", "wrong customer")
        no = await look(agent, rejected.task_id)
        assert (no.status, (no.result or {})["isError"]) == ("completed", True)
        assert '"wrong customer"' in (no.result or {})["content"][0]["text"]

        await cancel(agent, cancelled.task_id)
        assert (await look(agent, cancelled.task_id)).status == "cancelled"
        late = await dana.decide(await dana.call(cancelled.task_id))
        assert (late.status_code, late.json()["error"]["status"]) == (409, "withdrawn")

        await dana.approve(await dana.call(ran.task_id))
        await dana.until(ran.task_id, "succeeded")
        await cancel(agent, ran.task_id)  # taken note of, and too late
        assert (await look(agent, ran.task_id)).status == "completed"
    assert sandbox_site.effects() == [("send_mail", mail("ran"))]


@DOORS
async def test_a_task_asks_what_a_form_would(place: Site, door: str) -> None:
    """Where the client can be asked, the task needs input; an answer that is no verdict ends the asking for good."""
    person = Person()
    async with (
        agent_at(place, door, MODERN, extensions=[TakesTasks()], elicitation_callback=person) as agent,
        place.reviewer() as dana,
    ):
        good, bad = await task_of(agent, mail(f"good {door}")), await task_of(agent, mail(f"bad {door}"))
        asking = await look(agent, good.task_id)
        assert (asking.status, list(asking.input_requests or {})) == ("input_required", ["approval"])
        content = await answer_to(agent, good.task_id)
        await update(agent, good.task_id, somebody={"action": "accept"})
        await update(agent, bad.task_id, approval={"action": "accept", "content": content})  # of another call
        assert (await look(agent, bad.task_id)).status == "working"
        own = {**content, "call": bad.task_id, "digest": (await dana.call(bad.task_id))["digest"]}
        await update(agent, bad.task_id, approval={"action": "accept", "content": own})  # a second answer
        assert (await dana.call(bad.task_id))["status"] == "held"
        assert (await look(agent, good.task_id)).status == "input_required"
        await update(agent, good.task_id, approval={"action": "accept", "content": content})
        await dana.until(good.task_id, "succeeded")
        done = await look(agent, good.task_id)
        await update(agent, good.task_id, approval={"action": "decline"})  # over, and ignored
    assert (done.status, (done.result or {})["isError"]) == ("completed", False)
    assert [one["subject"] for _, one in place.effects() if door in one["subject"]] == [f"good {door}"]
    assert person.asked == []


async def answer_to(agent: Any, task_id: str) -> dict[str, Any]:
    """The content that approves what a task asks."""
    question = ((await look(agent, task_id)).input_requests or {})["approval"]
    return filled_in(ElicitRequestFormParams.model_validate(question["params"]), decision="approve")


@DOORS
async def test_a_task_is_its_agents_own(place: Site, door: str) -> None:
    """Another agent's task, one that never was, and a call that nobody was asked about: all are answered the same."""
    async with (
        agent_at(place, door, MODERN, extensions=[TakesTasks()]) as agent,
        place.http_agent(AGENT_KEYS["rival"], MODERN, extensions=[TakesTasks()]) as rival,
        place.reviewer() as dana,
    ):
        handle = await task_of(agent, mail(f"mine {door}"))
        await rival.call_tool("sandbox__list_mail", {"folder": "inbox"})
        allowed = next(one for one in await dana.calls() if one["agent"] == "rival")
        refusals = []
        for task_id in (handle.task_id, "c_aaaaaaaaaaaaa", allowed["id"]):
            for act in (look(rival, task_id), cancel(rival, task_id), update(rival, task_id, approval={})):
                with pytest.raises(MCPError) as refused:
                    await act
                refusals.append((refused.value.error.code, refused.value.error.message))
        assert set(refusals) == {(INVALID_PARAMS, "there is no such task: `hitl_status` lists what is open")}
        assert (await look(agent, handle.task_id)).status == "working"


@DOORS
async def test_a_client_that_declares_no_tasks_gets_none(place: Site, door: str) -> None:
    """It is answered as ever, and told what it would have to declare; the gateway says that it has tasks."""
    async with agent_at(place, door, "auto") as agent:
        held = await agent.call_tool("sandbox__send_mail", mail(f"plain {door}"))
        assert isinstance(held, CallToolResult)
        call_id = structured(held)["call_id"]
        with pytest.raises(MCPError) as refused:
            await look(agent, call_id)
        capabilities = agent.server_capabilities
    assert refused.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
    assert refused.value.error.data == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    assert capabilities is not None and capabilities.extensions == {TASKS: {}}
