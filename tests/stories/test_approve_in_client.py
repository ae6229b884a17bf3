"""Every way in which a held call is approved, by a real client, in both protocol eras, through both doors.

form    the person answers in a dialog of the client
url     the client opens the review page; the person signs in and approves there
task    the client follows a task, the person approves on the page (the extension is modern only)
poll    the client is told that the call is held, and asks with `hitl_wait`
page    the client waits with its call, and the person approves on the page
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import CallToolResult, ElicitRequestFormParams, ElicitRequestURLParams

from tests.gateways import ERAS, POLICY, WAIT_SECONDS, Site, site
from tests.stories.dialogs import Person, TakesTasks
from tests.stories.doors import AGENTS, EVERY_WAY, agent_at, structured

MODERN = ERAS[1]


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the sandbox; mail may be approved in the client, payments by a signed-in person only."""
    rules = [
        {**rule, "assurance": "link", "roles": ["finance"]} if rule["id"] == "payments" else rule
        for rule in POLICY["rules"]
    ]
    options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 30}
    with (
        tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name,
        site(Path(name), {**POLICY, "rules": rules}, **options) as made,
    ):
        await made.start()
        yield made


def mail(*words: str) -> dict[str, Any]:
    """A mail that is held, and no other test's."""
    return {"to": "carl@customer.example.org", "subject": " ".join(words), "body": "Two desks."}


def payment(*words: str) -> dict[str, Any]:
    """A payment that is held, and no other test's."""
    return {"to": "Northwind", "amount": 5.0, "currency": "EUR", "note": " ".join(words)}


def ran_once(place: Site, tool: str, arguments: dict[str, Any]) -> bool:
    """Whether a call took effect, once, with exactly these arguments."""
    return place.effects().count((tool, arguments)) == 1


@EVERY_WAY
async def test_approved_by_a_form_in_the_client(place: Site, door: str, era: str) -> None:
    """The form shows the call; its answer approves it; the agent gets the upstream's own answer to the same call."""
    person, asked = Person(), mail("form", door, era)
    async with agent_at(place, door, era, elicitation_callback=person) as agent:
        answer = await agent.call_tool("sandbox__send_mail", asked)
    (form,) = person.asked
    assert isinstance(form, ElicitRequestFormParams)
    assert f'"subject": "form {door} {era}"' in form.message
    assert set(structured(answer)) == {"id"}
    assert ran_once(place, "send_mail", asked)


@EVERY_WAY
async def test_the_verdict_from_a_client_says_that_it_is_one(place: Site, door: str, era: str) -> None:
    """On record it is the client's word: by `client:<agent>`, with the least assurance and no role."""
    asked = mail("who", door, era)
    async with agent_at(place, door, era, elicitation_callback=Person()) as agent, place.reviewer() as dana:
        await agent.call_tool("sandbox__send_mail", asked)
        call = next(one for one in await dana.calls(status="succeeded") if asked["subject"] in one["arguments_json"])
    (verdict,) = call["verdicts"]
    agent_name = "remote" if door == "http" else "builder"
    said = {key: verdict[key] for key in ("reviewer", "verdict", "surface", "assurance", "roles")}
    expected = {"reviewer": f"client:{agent_name}", "verdict": "approve", "surface": "client", "assurance": "client"}
    assert said == {**expected, "roles": []}


@EVERY_WAY
async def test_approved_on_the_page_that_the_client_opens(place: Site, door: str, era: str) -> None:
    """What needs a signed-in person is never asked in a form: the client opens the page, and dana approves there."""
    person, asked, answers = Person(), payment("url", door, era), []
    async with (
        agent_at(place, door, era, elicitation_callback=person) as agent,
        place.reviewer() as dana,
        anyio.create_task_group() as tasks,
    ):

        async def ask() -> None:
            answers.append(await agent.call_tool("sandbox__pay", asked))

        tasks.start_soon(ask)
        question = await person.is_asked()
        call = await dana.held()
        assert isinstance(question, ElicitRequestURLParams)
        assert question.url.endswith(f"/#call={call['id']}")
        assert place.effects().count(("pay", asked)) == 0
        await dana.approve(call)
    assert len(person.asked) == 1
    assert structured(answers[0])["paid"] == 5.0
    assert ran_once(place, "pay", asked)


@pytest.mark.parametrize("door", ["bridge", "http"])
async def test_approved_while_the_client_follows_a_task(place: Site, door: str) -> None:
    """The held call is a task with the call's id, and ends with the upstream's own answer."""
    client, asked, answers = TakesTasks(), payment("task", door), []
    async with (
        agent_at(place, door, MODERN, extensions=[client]) as agent,
        place.reviewer() as dana,
        anyio.create_task_group() as tasks,
    ):

        async def ask() -> None:
            answers.append(await agent.call_tool("sandbox__pay", asked))

        tasks.start_soon(ask)
        call = await dana.held()
        await dana.approve(call)
    assert [(handle.task_id, handle.status) for handle in client.handles] == [(call["id"], "working")]
    assert structured(answers[0])["paid"] == 5.0
    assert ran_once(place, "pay", asked)


@EVERY_WAY
async def test_approved_while_the_agent_polls(place: Site, door: str, era: str) -> None:
    """A client that can be asked nothing and waits for nothing learns the outcome from `hitl_wait`."""
    asked = mail("poll", door, era)
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        with anyio.move_on_after(WAIT_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(agent.call_tool, "sandbox__send_mail", asked)
                call = await dana.held()
                tasks.cancel_scope.cancel()  # the client gives up; the call does not
        held = await agent.call_tool("hitl_status", {"call_id": call["id"]})
        assert structured(held)["status"] == "held"
        await dana.approve(call)
        told = await agent.call_tool("hitl_wait", {"call_id": call["id"]})
    assert structured(told)["status"] == "succeeded"
    assert ran_once(place, "send_mail", asked)


@EVERY_WAY
async def test_approved_on_the_page_while_the_client_waits(place: Site, door: str, era: str) -> None:
    """The page is enough: the call answers by itself as soon as it ran."""
    asked, answers = mail("page", door, era), list[CallToolResult]()
    async with (
        agent_at(place, door, era) as agent,
        place.reviewer() as dana,
        anyio.create_task_group() as tasks,
    ):

        async def ask() -> None:
            answers.append(await agent.call_tool("sandbox__send_mail", asked))

        tasks.start_soon(ask)
        await dana.approve(await dana.held())
    assert set(structured(answers[0])) == {"id"}
    assert ran_once(place, "send_mail", asked)
