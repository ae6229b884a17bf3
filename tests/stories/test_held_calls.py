"""Held calls from end to end: asked by a real agent, answered by a real reviewer, run once."""

from __future__ import annotations

import anyio
import pytest

from tests.gateways import ERAS, OUTSIDE, WAIT_SECONDS, Site


@pytest.mark.promise("R3")
async def test_a_held_call_is_approved_with_the_agent_gone_and_its_outcome_is_learned_later(sandbox_site: Site) -> None:
    """The agent disconnects; the call runs once on approval; a repeat and `hitl_status` both tell the outcome."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
    assert held.structured_content is not None
    assert (held.structured_content["status"], held.is_error) == ("held", False)
    call_id = held.structured_content["call_id"]
    assert sandbox_site.effects() == []

    async with sandbox_site.reviewer() as dana:
        await dana.approve(await dana.call(call_id))
        await dana.until(call_id, "succeeded")
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]

    async with sandbox_site.agent() as agent:
        listed = await agent.call_tool("hitl_status", {})
        again = await agent.call_tool("sandbox__send_mail", OUTSIDE)
    assert listed.structured_content is not None
    news = listed.structured_content["calls"]
    assert [(call["call_id"], call["status"]) for call in news] == [(call_id, "succeeded")]
    assert news[0]["result"]["structuredContent"] == {"id": "s1"}
    assert again.structured_content is not None
    assert (again.structured_content["repeat"], again.structured_content["call_id"]) == (True, call_id)
    assert len(sandbox_site.effects()) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_that_waits_gets_the_upstreams_own_answer(sandbox_site: Site, era: str) -> None:
    """Approved while the agent waits, the call answers as if no gate stood there, in both eras."""
    await sandbox_site.start()
    answers = []

    async with (
        sandbox_site.agent(era=era) as agent,
        sandbox_site.reviewer() as dana,
        anyio.create_task_group() as tasks,
    ):

        async def ask() -> None:
            answers.append(await agent.call_tool("sandbox__send_mail", OUTSIDE))

        tasks.start_soon(ask)
        await dana.approve(await dana.held())
    assert answers[0].structured_content == {"id": "s1"}
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]


async def test_a_rejected_call_never_reaches_the_upstream(sandbox_site: Site) -> None:
    """The agent hears who said no and why, and repeating it brings the same no."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        call_id = (held.structured_content or {})["call_id"]
        answer = await dana.decide(await dana.call(call_id), "reject", "wrong customer")
        assert answer.json()["status"] == "rejected"
        told = await agent.call_tool("hitl_wait", {"call_id": call_id})
        again = await agent.call_tool("sandbox__send_mail", OUTSIDE)
    assert told.is_error
    assert "rejected by a human reviewer (finance)" in told.content[0].text  # type: ignore[union-attr]
    assert '"wrong customer"' in told.content[0].text  # type: ignore[union-attr]
    assert (again.structured_content or {})["repeat"] is True
    assert sandbox_site.effects() == []


async def test_one_approval_in_the_two_person_band_runs_nothing(sandbox_site: Site) -> None:
    """A score of 80 asks for two people; after one nothing has run, after two it runs once."""
    await sandbox_site.start()
    payment = {"to": "Northwind", "amount": 5000.0, "currency": "EUR", "note": ""}
    async with sandbox_site.agent() as agent:
        held = await agent.call_tool("sandbox__pay", payment)
        call_id = (held.structured_content or {})["call_id"]
        async with sandbox_site.reviewer("dana") as dana, sandbox_site.reviewer("erin") as erin:
            call = await dana.call(call_id)
            assert (call["score"], [need["quorum"] for need in call["requirements"]]) == (80, [1, 2])
            assert (await dana.approve(call))["status"] == "held"
            twice = await dana.decide(call)
            assert (twice.status_code, twice.json()["error"]["status"]) == (409, "held")
            waited = await agent.call_tool("hitl_wait", {"call_id": call_id})
            assert (waited.structured_content or {})["status"] == "held"
            assert sandbox_site.effects() == []
            await erin.approve(call)
            await erin.until(call_id, "succeeded")
    assert sandbox_site.effects() == [("pay", payment)]


async def test_a_denied_call_names_its_rule(sandbox_site: Site) -> None:
    """A denial is an error that says which rule, and nothing ran."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent:
        denied = await agent.call_tool("sandbox__delete_account", {"name": "savings"})
    assert denied.is_error
    assert "NOT EXECUTED, denied by policy (rule `accounts-stay`)" in denied.content[0].text  # type: ignore[union-attr]
    assert sandbox_site.effects() == []


async def test_a_withdrawn_call_cannot_be_approved(sandbox_site: Site) -> None:
    """The agent takes it back; the reviewer who comes later gets 409 with the true status."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        call = await dana.call((held.structured_content or {})["call_id"])
        back = await agent.call_tool("hitl_withdraw", {"call_id": call["id"]})
        assert (back.structured_content or {})["status"] == "withdrawn"
        late = await dana.decide(call)
        assert (late.status_code, late.json()["error"]["status"]) == (409, "withdrawn")
    assert sandbox_site.effects() == []


async def test_another_agents_call_answers_like_one_that_does_not_exist(sandbox_site: Site) -> None:
    """Neither status, nor wait, nor withdraw tells one agent anything of another's call."""
    await sandbox_site.start()
    async with sandbox_site.agent("builder") as builder, sandbox_site.agent("other") as other:
        held = await builder.call_tool("sandbox__send_mail", OUTSIDE)
        call_id = (held.structured_content or {})["call_id"]
        for tool in ("hitl_status", "hitl_wait", "hitl_withdraw"):
            foreign = await other.call_tool(tool, {"call_id": call_id})
            unknown = await other.call_tool(tool, {"call_id": "c_nothing"})
            said, same = (a.content[0].text for a in (foreign, unknown))  # type: ignore[union-attr]
            assert (foreign.is_error, said.replace(call_id, "ID")) == (True, same.replace("c_nothing", "ID"))
        assert ((await other.call_tool("hitl_status", {})).structured_content or {})["calls"] == []
        own = await builder.call_tool("hitl_status", {"call_id": call_id})
    assert (own.structured_content or {})["status"] == "held"


@pytest.mark.promise("R6")
async def test_a_call_expires_and_the_agent_is_told(short_dir: object, sandbox_site: Site) -> None:
    """Silence runs nothing; `hitl_wait` says that no one decided in time."""
    sandbox_site.rewrite_policy(lambda policy: policy["rules"][1].update(expires="1s"))
    await sandbox_site.start()
    async with sandbox_site.agent() as agent:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        told = (
            held
            if held.is_error
            else await agent.call_tool("hitl_wait", {"call_id": held.structured_content["call_id"]})
        )
    assert (told.structured_content or {})["status"] == "expired"
    assert "no one decided in time" in told.content[0].text  # type: ignore[union-attr]
    assert sandbox_site.effects() == []


async def test_a_pause_stops_everything_until_it_is_resumed(sandbox_site: Site) -> None:
    """Reads are refused, an approval waits, and resuming lets it run."""
    await sandbox_site.start()
    async with sandbox_site.agent() as agent, sandbox_site.reviewer() as dana, sandbox_site.control() as control:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        call = await dana.call((held.structured_content or {})["call_id"])
        await control.post("/api/pause", json={"reason": "incident"})
        read = await agent.call_tool("sandbox__list_mail", {"folder": "inbox"})
        assert (read.is_error, (read.structured_content or {})["status"]) == (True, "paused")
        assert (await dana.approve(call))["status"] == "approved"
        waited = await agent.call_tool("hitl_wait", {"call_id": call["id"]})
        assert (waited.structured_content or {})["status"] == "approved"
        assert sandbox_site.effects() == []
        await control.post("/api/resume")
        await dana.until(call["id"], "succeeded")
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]


@pytest.mark.parametrize("era", ERAS)
async def test_over_http_an_agent_is_held_and_approved_alike(sandbox_site: Site, era: str) -> None:
    """The same story over streamable HTTP with a bearer token, in both eras."""
    await sandbox_site.start()
    async with sandbox_site.http_agent("remote-key", era) as agent, sandbox_site.reviewer() as dana:
        held = await agent.call_tool("sandbox__send_mail", OUTSIDE)
        call = await dana.call((held.structured_content or {})["call_id"])
        assert call["agent"] == "remote"
        await dana.approve(call)
        with anyio.fail_after(WAIT_SECONDS):
            told = await agent.call_tool("hitl_wait", {"call_id": call["id"]})
    assert (told.structured_content or {})["result"]["structuredContent"] == {"id": "s1"}
    assert sandbox_site.effects() == [("send_mail", OUTSIDE)]
