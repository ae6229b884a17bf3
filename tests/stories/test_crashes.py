"""What a crash of the gateway leaves: nothing lost, nothing run twice, and what is not known is said so."""

from __future__ import annotations

import anyio
import pytest
from mcp import MCPError

from tests.gateways import ERAS, OUTSIDE, WAIT_SECONDS, Site
from tests.upstream_programs import effects, let_go


async def wait_for_effects(site: Site, wanted: list[str]) -> None:
    """Wait until the slow upstream has had these effects."""
    with anyio.fail_after(WAIT_SECONDS):
        while effects(site.folder) != wanted:
            await anyio.sleep(0)


def wait_longer(site: Site) -> None:
    """Have the gateway wait for people longer than the test's client does."""
    text = site.config.read_text(encoding="utf-8")
    site.config.write_text(text.replace("wait_seconds: 1", "wait_seconds: 20"), encoding="utf-8")


@pytest.mark.promise("R1")
async def test_a_call_held_when_the_gateway_is_killed_is_still_held_and_can_be_approved(sandbox_site: Site) -> None:
    """`kill -9` with a call held: after a start it is there, and approving it runs it once."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
    call_id = (held.structured_content or {})["call_id"]
    await sandbox_site.kill()
    await sandbox_site.start()
    async with sandbox_site.reviewer() as dana:
        call = await dana.call(call_id)
        assert (call["status"], call["arguments_json"].count("Two desks.")) == ("held", 1)
        await dana.approve(call)
        await dana.until(call_id, "succeeded")
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]


@pytest.mark.promise("R3")
async def test_an_approved_call_that_was_running_when_the_gateway_was_killed_is_unknown(slow_site: Site) -> None:
    """It took effect once, is not run again by the restart, and everyone is told that nobody knows."""
    await slow_site.start()
    async with slow_site.agent() as agent:
        held = await agent.call_tool("slow__slow", {"what": "pay"})
    call_id = (held.structured_content or {})["call_id"]
    async with slow_site.reviewer() as dana:
        await dana.approve(await dana.call(call_id))
        await wait_for_effects(slow_site, ["pay"])
    await slow_site.kill()
    let_go(slow_site.folder)
    await slow_site.start()
    async with slow_site.reviewer() as dana, slow_site.agent() as agent:
        call = await dana.call(call_id)
        assert (call["status"], call["outcome"]["status"]) == ("unknown", "unknown")
        listed = await agent.call_tool("hitl_status", {})
        again = await agent.call_tool("slow__slow", {"what": "pay"})
        shown = (await dana.http.get(f"/api/calls/{call_id}/shown")).json()
    assert [one["status"] for one in (listed.structured_content or {})["calls"]] == ["unknown"]
    assert again.is_error
    assert again.content[0].text.startswith("OUTCOME UNKNOWN")  # type: ignore[union-attr]
    assert "may have happened" in shown["headline"]
    assert effects(slow_site.folder) == ["pay"]


@pytest.mark.promise("R3")
async def test_an_allowed_call_that_was_running_when_the_gateway_was_killed_is_not_run_again(slow_site: Site) -> None:
    """The restart finds it running and makes it unknown; asking again is a new record linked to the old one."""
    pid = (await slow_site.start())["pid"]
    async with slow_site.agent() as agent, anyio.create_task_group() as tasks:
        answers = []

        async def ask() -> None:
            answers.append(await agent.call_tool("slow__slow", {"what": "free"}))

        tasks.start_soon(ask)
        await wait_for_effects(slow_site, ["free"])
        await slow_site.kill()
        await slow_site.restarted(pid)
    told = answers[0]
    assert told.is_error
    assert "MAY HAVE RUN" in told.content[0].text  # type: ignore[union-attr]
    assert "hitl_status" in told.content[0].text  # type: ignore[union-attr]
    assert effects(slow_site.folder) == ["free"]
    let_go(slow_site.folder)
    async with slow_site.agent() as agent, slow_site.reviewer() as dana:
        old = (await dana.calls(status="unknown"))[0]
        await agent.call_tool("slow__slow", {"what": "free"})
        new = (await dana.calls(status="succeeded"))[0]
    assert (new["id"] != old["id"], new["repeat_of"]) == (True, old["id"])
    assert effects(slow_site.folder) == ["free", "free"]


@pytest.mark.promise("R2")
async def test_an_approval_given_just_before_a_crash_runs_after_the_restart(sandbox_site: Site) -> None:
    """Approved while paused, then killed: the approval is on disk and runs once when it may."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana, sandbox_site.control() as control:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        call = await dana.call((held.structured_content or {})["call_id"])
        await control.post("/api/pause", json={"reason": "before the crash"})
        await dana.approve(call)
    await sandbox_site.kill()
    await sandbox_site.start()
    assert sandbox_site.effects() == []
    async with sandbox_site.reviewer() as dana, sandbox_site.control() as control:
        await control.post("/api/resume")
        await dana.until(call["id"], "succeeded")
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]


async def test_an_approval_does_not_survive_a_stricter_policy(sandbox_site: Site) -> None:
    """Approved, not yet run, and the policy now denies it: it is invalidated, and nothing ran."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana, sandbox_site.control() as control:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        call = await dana.call((held.structured_content or {})["call_id"])
        await control.post("/api/pause", json={"reason": "while the policy changes"})
        await dana.approve(call)
    await sandbox_site.stop()
    sandbox_site.rewrite_policy(lambda policy: policy["rules"][1].update(effect="deny"))
    await sandbox_site.start()
    async with sandbox_site.reviewer() as dana, sandbox_site.control() as control:
        await control.post("/api/resume")
        after = await dana.until(call["id"], "invalidated")
    assert "the policy denies it now" in after["closed_reason"]
    assert sandbox_site.effects() == []


@pytest.mark.promise("R3")
async def test_an_approval_does_not_survive_another_upstream_of_the_same_name(sandbox_site: Site) -> None:
    """The command behind the name changed after the approval: it is invalidated, and nothing ran."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana, sandbox_site.control() as control:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        call = await dana.call((held.structured_content or {})["call_id"])
        await control.post("/api/pause", json={"reason": "maintenance"})
        await dana.approve(call)
    await sandbox_site.stop()
    text = sandbox_site.config.read_text(encoding="utf-8")
    sandbox_site.config.write_text(text.replace("sandbox/server.py", "sandbox/../sandbox/server.py"), encoding="utf-8")
    await sandbox_site.start()
    async with sandbox_site.reviewer() as dana, sandbox_site.control() as control:
        await control.post("/api/resume")
        after = await dana.until(call["id"], "invalidated")
    assert "another one than was shown" in after["closed_reason"]
    assert sandbox_site.effects() == []


@pytest.mark.promise("R5")
async def test_an_upstream_that_dies_after_the_effect_leaves_the_outcome_unknown(slow_site: Site) -> None:
    """It was sent and no answer came: unknown, once; the upstream is started again for the next call."""
    await slow_site.start()
    async with slow_site.agent() as agent, slow_site.reviewer() as dana:
        held = await agent.call_tool("slow__die", {"what": "pay"})
        call = await dana.call((held.structured_content or {})["call_id"])
        await dana.approve(call)
        after = await dana.until(call["id"], "unknown")
        assert after["outcome"]["executed"] is True
        told = await agent.call_tool("hitl_status", {"call_id": call["id"]})
        assert told.content[0].text.startswith("OUTCOME UNKNOWN")  # type: ignore[union-attr]
        with anyio.fail_after(WAIT_SECONDS):
            while (await agent.call_tool("slow__read", {"what": "x"})).is_error:
                await anyio.sleep(0)
    assert effects(slow_site.folder) == ["pay"]


async def test_a_client_that_times_out_leaves_its_call_held_for_people(sandbox_site: Site) -> None:
    """The client's own timeout ends its wait and nothing else; approved later, the call runs once."""
    wait_longer(sandbox_site)
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        await agent.list_tools()
        with pytest.raises(MCPError, match="timed out"):
            await agent.call_tool("sandbox__send_mail", OUTSIDE, read_timeout_seconds=2)
        call = await dana.held()
        await dana.approve(call)
        await dana.until(call["id"], "succeeded")
        listed = await agent.call_tool("hitl_status", {})
    assert [one["status"] for one in (listed.structured_content or {})["calls"]] == ["succeeded"]
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]


@pytest.mark.promise("R6")
async def test_cancelling_at_any_moment_leaves_no_call_stuck_and_none_run_unapproved(sandbox_site: Site) -> None:
    """Forty cancels at forty moments, from before the record to after it: each call is held or absent."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        for number in range(40):
            with anyio.move_on_after(number * 0.0005):
                await agent.call_tool("sandbox__send_mail", {**OUTSIDE, "subject": str(number)})
        calls = await dana.calls(limit="100")
    assert {call["status"] for call in calls} <= {"held"}
    assert sandbox_site.effects() == []


async def test_cancelling_an_allowed_call_at_any_moment_leaves_none_running(sandbox_site: Site) -> None:
    """Whenever the cancel comes, every allowed call that has a record ends: ran, not sent, or unknown."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        for number in range(40):
            with anyio.move_on_after(number * 0.0005):
                await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})
        with anyio.fail_after(WAIT_SECONDS):
            while await dana.calls(status="running"):
                await anyio.sleep(0)
        ended = {call["status"] for call in await dana.calls(limit="100")}
    assert ended <= {"succeeded", "failed", "unknown"}


@pytest.mark.parametrize("era", ERAS)
async def test_killing_the_gateway_costs_a_live_agent_no_session(sandbox_site: Site, era: str) -> None:
    """The agent's client notices nothing but a pause: it lists and calls on over the same connection, in both eras."""
    await sandbox_site.start()
    async with sandbox_site.agent(era=era) as agent:
        before = [tool.name for tool in (await agent.list_tools()).tools]
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        await sandbox_site.kill()
        after = [tool.name for tool in (await agent.list_tools()).tools]
        assert after == before
        read = await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})
        assert not read.is_error
        again = await agent.call_tool("sandbox__send_mail", OUTSIDE)
    assert (again.structured_content or {})["call_id"] == (held.structured_content or {})["call_id"]
    assert (again.structured_content or {})["repeat"] is True


async def test_an_agent_that_waits_for_a_held_call_survives_the_gateways_restart(sandbox_site: Site) -> None:
    """`hitl_wait` only reads, so the bridge asks again by itself, and the answer is the call's."""
    wait_longer(sandbox_site)
    pid = (await sandbox_site.start())["pid"]
    async with sandbox_site.agent() as agent, anyio.create_task_group() as tasks:
        answers = []
        await agent.list_tools()
        with anyio.move_on_after(1):
            await agent.call_tool("sandbox__send_mail", OUTSIDE)
        async with sandbox_site.reviewer() as dana:
            call = await dana.held()

        async def wait() -> None:
            answers.append(await agent.call_tool("hitl_wait", {"call_id": call["id"]}))

        tasks.start_soon(wait)
        await sandbox_site.kill()
        await sandbox_site.restarted(pid)
        async with sandbox_site.reviewer() as dana:
            await dana.approve(await dana.call(call["id"]))
    assert (answers[0].structured_content or {})["status"] == "succeeded"
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]
