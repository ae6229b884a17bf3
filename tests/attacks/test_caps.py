"""An agent that asks for more than one may: it is told so, each time in its own words, and no other agent notices."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import INVALID_REQUEST

from hitl_mcp.answers import too_many_at_once, too_many_held_answer
from hitl_mcp.limits import AGENT_HELD_CALLS, AGENT_REQUESTS
from tests.attacks.at_doors import Door, opened
from tests.gateways import ERAS, WAIT_SECONDS, Site, site
from tests.stories.doors import AGENTS, Raw, agent_at, raw_agent, structured
from tests.upstream_programs import SLOW_POLICY, effects, let_go, slow_upstream

_ANYWHERE: dict[str, dict[str, Any]] = {
    "tools/list": {},
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": "file:///a"},
    "prompts/list": {},
    "prompts/get": {"name": "slow__one"},
    "completion/complete": {
        "ref": {"type": "ref/prompt", "name": "slow__one"},
        "argument": {"name": "what", "value": ""},
    },
}

COUNTED: dict[str, dict[str, dict[str, Any]]] = {
    "legacy": {
        **_ANYWHERE,
        "logging/setLevel": {"level": "error"},
        "resources/subscribe": {"uri": "file:///a"},
        "resources/unsubscribe": {"uri": "file:///a"},
    },
    "2026-07-28": {
        **_ANYWHERE,
        "tasks/get": {"taskId": "c_1"},
        "tasks/update": {"taskId": "c_1", "inputResponses": {}},
        "tasks/cancel": {"taskId": "c_1"},
    },
}
"""What an agent may ask beside calls, in each era; each is counted, whether or not there is an answer to it."""

UNCOUNTED = {"legacy": "ping", "2026-07-28": "server/discover"}
"""What is answered all the same: it waits for nothing, and clients take a connection without it for dead."""


@pytest.fixture
async def place() -> AsyncIterator[Site]:
    """One gateway before an upstream whose calls take effect, and are answered when the test lets them."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        folder = Path(name)
        upstreams = {"slow": slow_upstream(folder)}
        options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}
        with site(folder, SLOW_POLICY, upstreams=upstreams, **options) as made:
            await made.start()
            yield made


async def fill(place: Site, *agents: Raw) -> None:
    """As many calls in flight as an agent may have, over these connections; each has reached the upstream."""
    for number in range(AGENT_REQUESTS):
        agent = agents[number % len(agents)]
        await agent.ask("tools/call", number, name="slow__slow", arguments={"what": f"free {number}"})
    with anyio.fail_after(WAIT_SECONDS):
        while len(effects(place.folder)) < AGENT_REQUESTS:
            await anyio.sleep(0)


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_with_too_much_in_flight_is_refused_on_every_connection_until_it_is_answered(
    place: Site, era: str
) -> None:
    """A call is refused by a result that says nothing ran, anything else by an error; another agent is served."""
    words = too_many_at_once(AGENT_REQUESTS)
    async with raw_agent(place, "bridge", era) as first, raw_agent(place, "socket", era) as second:
        await fill(place, first, second)
        for agent in (first, second):
            await agent.ask("tools/call", "more", name="slow__read", arguments={"what": "more"})
            refused = await agent.read()
            said = {"status": "refused", "executed": False, "retry": "repeat_same", "message": f"NOT EXECUTED: {words}"}
            assert (refused["id"], refused["result"]["isError"]) == ("more", True)
            assert refused["result"]["structuredContent"] == said
            for method, params in COUNTED[era].items():
                await agent.ask(method, method, **params)
                refused = await agent.read()
                assert (refused["id"], refused["error"]) == (method, {"code": INVALID_REQUEST, "message": words})
            await agent.ask(UNCOUNTED[era], "uncounted")
            assert "result" in await agent.read()
        async with agent_at(place, "http", era) as other:
            assert not (await other.call_tool("slow__read", {"what": "another agent"})).is_error
        let_go(place.folder)
        for number in range(AGENT_REQUESTS):
            answer = await (first, second)[number % 2].read()
            assert answer["result"]["content"][0]["text"].startswith("done free")
        await first.ask("tools/call", "again", name="slow__read", arguments={"what": "again"})
        assert (await first.read())["result"]["content"][0]["text"] == "done again"
    assert len(effects(place.folder)) == AGENT_REQUESTS


async def test_a_request_of_a_session_under_an_id_in_flight_is_refused(place: Site) -> None:
    """Only one of the two would be answered. Another session has ids of its own, and an id is free once answered."""
    async with opened(place, "http", "legacy") as first, opened(place, "http", "legacy") as second:
        answers: list[dict[str, Any]] = []

        async def ask(way: Door, what: str) -> None:
            answers.append(await way.call("slow__slow", {"what": f"free {what}"}, id="1"))

        async with anyio.create_task_group() as asking:
            asking.start_soon(ask, first, "one")
            asking.start_soon(ask, second, "two")
            with anyio.fail_after(WAIT_SECONDS):
                while len(effects(place.folder)) < 2:
                    await anyio.sleep(0)
            refused = await first.call("slow__slow", {"what": "free three"}, id="1")
            assert (refused["id"], refused["error"]["code"]) == ("1", INVALID_REQUEST)
            assert refused["error"]["message"] == "$.id: another request of this session is in flight under it"
            let_go(place.folder)
        assert sorted(answer["result"]["content"][0]["text"] for answer in answers) == [
            "done free one",
            "done free two",
        ]
        assert (await first.call("slow__read", {"what": "x"}, id="1"))["result"]["content"][0]["text"] == "done x"
    assert sorted(effects(place.folder)) == ["free one", "free two"]


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_with_too_much_in_flight_is_refused_over_http_until_it_is_answered(
    place: Site, era: str
) -> None:
    """In the same words, in every session of that agent; another agent is served."""
    words = too_many_at_once(AGENT_REQUESTS)
    async with opened(place, "http", era) as first, opened(place, "http", era) as second:
        answers: list[dict[str, Any]] = []

        async def ask(number: int) -> None:
            answers.append(
                await (first, second)[number % 2].call("slow__slow", {"what": f"free {number}"}, id=f"{number}")
            )

        async with anyio.create_task_group() as asking:
            for number in range(AGENT_REQUESTS):
                asking.start_soon(ask, number)
            with anyio.fail_after(WAIT_SECONDS):
                while len(effects(place.folder)) < AGENT_REQUESTS:
                    await anyio.sleep(0)
            for way in (first, second):
                refused = (await way.call("slow__read", {"what": "more"}))["result"]
                assert (refused["isError"], refused["structuredContent"]["message"]) == (True, f"NOT EXECUTED: {words}")
            async with agent_at(place, "socket", era) as other:
                assert not (await other.call_tool("slow__read", {"what": "another agent"})).is_error
            assert not answers
            let_go(place.folder)
        assert all(answer["result"]["content"][0]["text"].startswith("done free") for answer in answers)
        assert (await first.call("slow__read", {"what": "again"}))["result"]["content"][0]["text"] == "done again"
    assert len(effects(place.folder)) == AGENT_REQUESTS


async def test_an_agent_with_too_many_held_calls_is_refused_until_one_is_taken_back(place: Site) -> None:
    """The call over the cap is on nobody's list; one that is repeated is still answered, and a read still runs."""
    ids: list[str] = []
    async with agent_at(place, "http", "2026-07-28") as agent, place.reviewer() as dana:

        async def hold(number: int) -> None:
            ids.append(structured(await agent.call_tool("slow__slow", {"what": f"held {number}"}))["call_id"])

        for start in range(0, AGENT_HELD_CALLS, 40):
            async with anyio.create_task_group() as tasks:
                for number in range(start, start + 40):
                    tasks.start_soon(hold, number)
        assert len(set(ids)) == AGENT_HELD_CALLS
        refused = await agent.call_tool("slow__slow", {"what": "one more"})
        expected = too_many_held_answer(AGENT_HELD_CALLS)
        assert (refused.is_error, structured(refused)) == (True, expected["structuredContent"])
        repeated = structured(await agent.call_tool("slow__slow", {"what": "held 7"}))
        assert (repeated["status"], repeated["repeat"]) == ("held", True)
        assert not (await agent.call_tool("slow__read", {"what": "a read"})).is_error
        assert all(call["arguments_json"] != '{"what":"one more"}' for call in await dana.calls(limit="200"))
        await agent.call_tool("hitl_withdraw", {"call_id": ids[0]})
        assert structured(await agent.call_tool("slow__slow", {"what": "one more"}))["status"] == "held"
    assert effects(place.folder) == []
