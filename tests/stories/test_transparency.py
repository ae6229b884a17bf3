"""What upstreams ask while a call runs: put to the client that called, answered by it, and by nobody else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
import pytest
from mcp import Client, MCPError
from mcp.shared.exceptions import MCPDeprecationWarning

from tests.gateways import WAIT_SECONDS, site
from tests.stories.citizens import POLICY, Owner, Town, program, town
from tests.stories.doors import AGENT_KEYS, AGENTS, EVERY_WAY, agent_at, said
from tests.stories.servers.curious_server import COMPOSED, LONGEST

UPSTREAMS = ("both", "older", "prog", "oldprog")
KINDS = ("form", "link", "sample", "roots")


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Town]:
    """One gateway with an upstream of each era over each transport, one kept apart, and one that may ask nothing."""
    shut = {"sampling": False, "elicitation": False}
    apps: dict[str, Any] = {
        "both": ("both", {}),
        "older": ("legacy", {}),
        "shut": ("legacy", shut),
        "shutnew": ("both", shut),
    }
    programs: dict[str, Any] = {
        "prog": ((), {}),
        "oldprog": (("--legacy",), {}),
        "apart": (("--legacy",), {"isolation": "session"}),
    }
    async with town(apps, programs) as made:
        yield made


def answered(result: t.CallToolResult) -> Any:
    """What a call says that its upstream was answered."""
    return json.loads(said(result))


@EVERY_WAY
async def test_what_an_upstream_asks_is_answered_by_the_client_that_called(place: Town, door: str, era: str) -> None:
    """Forms, links, sampling and roots, mid-call, from upstreams of both eras over both transports.

    The client's answer reaches the upstream as it was given, once, and the call goes on with it. A program that all
    clients share in the older era is the exception: nobody's roots are for it.
    """
    owner = Owner(f"{door}-{era}")
    async with agent_at(place.site, door, era, **owner.options()) as agent:
        for upstream in UPSTREAMS:
            before = len(place.heard(upstream))
            for kind in KINDS:
                result = await agent.call_tool(f"{upstream}__ask", {"kind": kind})
                if (upstream, kind) == ("oldprog", "roots"):
                    assert said(result).startswith("refused: no client's roots")
                else:
                    assert answered(result) == owner.answer_to(kind)
            reached = [note[:2] for note in place.heard(upstream)[before:]]
            kinds = KINDS[:3] if upstream == "oldprog" else KINDS
            assert reached[: len(kinds)] == [[kind, owner.answer_to(kind)] for kind in kinds]
            assert len(reached) == len(KINDS)
    form, link, sample = owner.asked[:3]
    assert (form.message, form.requested_schema["properties"]["size"]["enum"]) == ("Which size?", ["s", "l"])
    assert (link.message, link.url) == ("Sign in", "https://example.com/in")
    assert (sample.messages[0].content.text, sample.max_tokens) == ("a poem", 9)
    assert len(owner.asked) == len(UPSTREAMS) * len(KINDS) - 1


@EVERY_WAY
async def test_an_upstream_is_told_what_its_client_cannot_be_asked(place: Town, door: str, era: str) -> None:
    """It learns beforehand what the client can do, and gets an error where it asks all the same."""
    async with agent_at(place.site, door, era) as agent:
        for upstream in UPSTREAMS:
            seen = answered(await agent.call_tool(f"{upstream}__client", {}))
            everybodys: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}}
            assert seen["capabilities"] == (everybodys if upstream == "oldprog" else {})
            for kind, method in (("form", "elicitation/create"), ("sample", "sampling/createMessage")):
                assert await refusal(agent, upstream, kind) == f"the client does not support `{method}`"


@EVERY_WAY
async def test_a_switched_off_question_is_refused_whoever_calls(place: Town, door: str, era: str) -> None:
    """With `sampling: false` and `elicitation: false`: the client is not bothered, and the upstream told beforehand."""
    owner = Owner("asked nothing")
    async with agent_at(place.site, door, era, **owner.options()) as agent:
        for upstream in ("shut", "shutnew"):
            seen = answered(await agent.call_tool(f"{upstream}__client", {}))
            assert seen["capabilities"].keys() == {"roots"}
            for kind, method in (
                ("form", "elicitation/create"),
                ("link", "elicitation/create"),
                ("sample", "sampling/createMessage"),
            ):
                assert await refusal(agent, upstream, kind) == f"the gateway's config forbids `{method}`"
    assert owner.asked == []


async def refusal(agent: Client, upstream: str, kind: str) -> str:
    """Why a question was not put: older upstreams say it in their result, of the others it ends the call."""
    try:
        result = await agent.call_tool(f"{upstream}__ask", {"kind": kind})
    except MCPError as error:
        return error.message
    assert result.is_error
    return said(result).removeprefix("refused: ")


# Whose question it is.


async def test_a_question_that_could_be_for_either_of_two_calls_is_refused(place: Town) -> None:
    """A program of the older era does not say for which call it asks. `status` says what would help."""
    owners = [Owner("one"), Owner("two")]
    async with (
        agent_at(place.site, "bridge", "legacy", **owners[0].options()) as one,
        agent_at(place.site, "bridge", "legacy", **owners[1].options()) as two,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(one.call_tool, "oldprog__waits", {})
        await place.hears("oldprog", "waits")
        assert await refusal(two, "oldprog", "form") == "nobody can be asked while a call runs"
        await two.call_tool("oldprog__goes", {})
    assert owners[0].asked == owners[1].asked == []
    status = json.loads(place.site.run("status", "--json").stdout)
    assert "`isolation: session`" in json.dumps(status)


async def test_upstreams_kept_apart_ask_each_its_own_client(place: Town) -> None:
    """Two conversations get two processes, and both may be asked at once."""
    owners = [Owner("one"), Owner("two")]
    results: dict[int, t.CallToolResult] = {}

    async def ask(number: int, agent: Client) -> None:
        results[number] = await agent.call_tool("apart__ask", {"kind": "form"})

    options = [owner.options() for owner in owners]
    for owner in owners:
        owner.answers = anyio.Event()
    async with (
        agent_at(place.site, "bridge", "legacy", **options[0]) as one,
        agent_at(place.site, "bridge", "2026-07-28", **options[1]) as two,
        anyio.create_task_group() as tasks,
    ):
        with anyio.fail_after(WAIT_SECONDS):
            tasks.start_soon(ask, 0, one)
            tasks.start_soon(ask, 1, two)
            for owner in owners:
                await owner.looks.wait()
            for owner in reversed(owners):
                owner.answers.set()
            while len(results) < len(owners):
                await anyio.sleep(0)
        seen = [answered(await agent.call_tool("apart__client", {})) for agent in (one, two)]
        roots = answered(await one.call_tool("apart__ask", {"kind": "roots"}))
    for number, owner in enumerate(owners):
        assert answered(results[number]) == owner.answer_to("form")
    assert seen[0]["connection"] != seen[1]["connection"]
    assert all("roots" in one["capabilities"] for one in seen)
    assert roots == owners[0].answer_to("roots")


async def test_changed_roots_are_told_to_the_upstreams_that_know_them(place: Town) -> None:
    """To those with a connection for this client, in the era that has such news; to none of another client."""
    owner, other = Owner("three"), Owner("four")
    async with (
        agent_at(place.site, "bridge", "legacy", **owner.options()) as agent,
        agent_at(place.site, "http", "legacy", **other.options()) as another,
    ):
        for name in ("apart", "older"):
            await agent.call_tool(f"{name}__ask", {"kind": "roots"})
            await another.call_tool(f"{name}__ask", {"kind": "roots"})
            before = len(place.heard(name))
            with pytest.warns(MCPDeprecationWarning):
                await agent.send_roots_list_changed()
            await place.hears(name, "roots changed")
            await another.call_tool(f"{name}__ask", {"kind": "roots"})
            assert place.heard(name)[before:].count(["roots changed"]) == 1


# A modern client, which is asked by the answer to its call.


async def parked(agent: Client, upstream: str, **more: Any) -> t.InputRequiredResult:
    """Call a tool that asks, and get the question."""
    asked = await agent.session.call_tool(f"{upstream}__ask", {"kind": "form"}, allow_input_required=True, **more)
    assert isinstance(asked, t.InputRequiredResult), asked
    assert asked.request_state is not None
    return asked


def answers_to(asked: t.InputRequiredResult, size: str) -> dict[str, Any]:
    """The same form filled in, under the key it came with."""
    key = next(iter(asked.input_requests or {}))
    return {key: t.ElicitResult(action="accept", content={"size": size})}


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_answers_are_taken_once_and_only_from_the_agent_that_was_asked(place: Town, upstream: str) -> None:
    """A forged state, another agent's, one for other arguments, and a second answer: the upstream hears none of it."""
    owner = Owner("asked by hand")
    before = len(place.heard(upstream))
    async with (
        place.site.http_agent(AGENT_KEYS["remote"], "2026-07-28", **owner.options()) as agent,
        place.site.http_agent(AGENT_KEYS["rival"], "2026-07-28", **owner.options()) as rival,
    ):
        asked = await parked(agent, upstream)
        name, answers = f"{upstream}__ask", answers_to(asked, "right")
        wrong = answers_to(asked, "wrong")
        for who, state, arguments in (
            (rival, asked.request_state, {"kind": "form"}),
            (agent, asked.request_state, {"kind": "link"}),
            (agent, "v1.forged", {"kind": "form"}),
            (agent, f"{asked.request_state}x", {"kind": "form"}),
        ):
            with pytest.raises(MCPError, match="Invalid or expired requestState"):
                await who.session.call_tool(name, arguments, input_responses=wrong, request_state=state)
        assert len(place.heard(upstream)) == before
        state = asked.request_state
        done = await agent.session.call_tool(name, {"kind": "form"}, input_responses=answers, request_state=state)
        again = await agent.session.call_tool(name, {"kind": "form"}, input_responses=wrong, request_state=state)
    assert answered(done)["content"] == {"size": "right"}
    assert said(again).startswith("EXECUTED") or "succeeded" in said(again)
    assert [note[:2] for note in place.heard(upstream)[before:]] == [
        ["form", {"action": "accept", "content": {"size": "right"}}]
    ]


async def test_what_was_left_unanswered_is_asked_again_with_a_new_state(place: Town) -> None:
    """The state before it is good for nothing any more."""
    owner = Owner("forgetful")
    async with place.site.http_agent(AGENT_KEYS["remote"], "2026-07-28", **owner.options()) as agent:
        first = await parked(agent, "older")
        other = {"something else": t.ElicitResult(action="accept", content={"size": "x"})}
        second = await parked(agent, "older", input_responses=other, request_state=first.request_state)
        assert second.request_state != first.request_state
        assert second.input_requests == first.input_requests
        with pytest.raises(MCPError, match="answered before"):
            await parked(agent, "older", input_responses=answers_to(first, "s"), request_state=first.request_state)
        done = await agent.session.call_tool(
            "older__ask",
            {"kind": "form"},
            input_responses=answers_to(second, "l"),
            request_state=second.request_state,
        )
    assert answered(done)["content"] == {"size": "l"}


async def test_a_client_that_lost_the_state_can_answer_all_the_same(place: Town) -> None:
    """By the same call again: the protocol lets a server ask without a state."""
    async with place.site.http_agent(AGENT_KEYS["remote"], "2026-07-28", **Owner("x").options()) as agent:
        asked = await parked(agent, "older")
        before = len(place.heard("older"))
        done = await agent.session.call_tool(
            "older__ask",
            {"kind": "form"},
            input_responses=answers_to(asked, "l"),
        )
    assert answered(done)["content"] == {"size": "l"}
    assert len(place.heard("older")) == before + 1


async def test_a_client_that_never_comes_back_lets_its_call_end(place: Town) -> None:
    """The upstream is told to stop, and the record says how the call ended."""
    async with place.site.reviewer() as dana:
        async with agent_at(place.site, "bridge", "2026-07-28", **Owner("gone").options()) as agent:
            await parked(agent, "older")
            call = (await dana.calls(limit="1"))[0]
            assert call["status"] == "running"
        await place.hears("older", "form", "cancelled")
        assert (await dana.until(call["id"], "failed", "unknown"))["id"] == call["id"]


async def test_a_gateway_that_was_started_again_says_what_became_of_a_parked_call(short_dir: Path) -> None:
    """It was sent, and its upstream waits for answers that nobody can bring any more: its outcome is unknown."""
    record = short_dir / "u.record"
    upstreams = {"u": program(short_dir, "u", "--legacy")}
    with site(short_dir, POLICY, upstreams=upstreams, agents=AGENTS, http={"enabled": True}) as made:
        await made.start()
        async with made.http_agent(AGENT_KEYS["remote"], "2026-07-28", **Owner("x").options()) as agent:
            asked = await parked(agent, "u")
        await made.kill()
        await made.start()
        async with made.http_agent(AGENT_KEYS["remote"], "2026-07-28", **Owner("x").options()) as agent:
            told = await agent.session.call_tool(
                "u__ask",
                {"kind": "form"},
                input_responses=answers_to(asked, "l"),
                request_state=asked.request_state,
            )
    assert said(told).startswith("OUTCOME UNKNOWN")
    # The old process may have seen its call end with the connection; an answer reached neither it nor the new one.
    heard = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    assert [json.loads(line) for line in heard] in (
        [],
        [["form", "cancelled"]],
        [["form", "refused: Connection closed"]],
    )


@pytest.mark.parametrize("door", ["bridge", "http"])
async def test_a_cancel_while_the_client_is_asked_reaches_the_upstream(place: Town, door: str) -> None:
    """The client's dialog goes away with the call it was for."""
    owner = Owner("slow")
    options = owner.options()
    owner.answers = anyio.Event()
    before = place.heard("older").count(["form", "cancelled"])
    async with agent_at(place.site, door, "legacy", **options) as agent, anyio.create_task_group() as tasks:
        tasks.start_soon(agent.call_tool, "older__ask", {"kind": "form"})
        with anyio.fail_after(WAIT_SECONDS):
            await owner.looks.wait()
            tasks.cancel_scope.cancel()
    with anyio.fail_after(WAIT_SECONDS):
        while place.heard("older").count(["form", "cancelled"]) == before:
            await anyio.sleep(0)


# Calls that people approved.


@EVERY_WAY
@pytest.mark.parametrize("upstream", ["both", "older"])
async def test_an_approved_call_is_not_answered_by_the_agent(place: Town, door: str, era: str, upstream: str) -> None:
    """What people approved runs as they saw it: nobody is asked, and it ends `failed: needs input`."""
    owner, before = Owner("agent"), len(place.heard(upstream))
    arguments = {"kind": "form", "held": f"{door} {era}"}
    async with agent_at(place.site, door, era, **owner.options()) as agent, place.site.reviewer() as dana:
        await agent.call_tool(f"{upstream}__ask", arguments)
        held = next(one for one in await dana.calls(status="held") if arguments["held"] in one["arguments_json"])
        await dana.approve(held)
        ended = await dana.until(held["id"], "failed")
    assert "needs input" in json.dumps(ended["outcome"])
    # The gateway itself may show it the page where people answer; the upstream's form it never sees.
    assert not [one for one in owner.asked if one.message == "Which size?"]
    assert all(note[1] != owner.answer_to("form") for note in place.heard(upstream)[before:])


# Definitions.


@EVERY_WAY
async def test_a_composed_schema_and_a_name_of_64_characters_pass(place: Town, door: str, era: str) -> None:
    """Listed as they were written, and called by that name, over both transports."""
    arguments = {"kind": "b", "to": "x", "next": {"kind": "c", "next": {"kind": "d"}}}
    async with agent_at(place.site, door, era) as agent:
        tools = {tool.name: tool for tool in (await agent.list_tools(cache_mode="bypass")).tools}
        for upstream in ("both", "prog"):
            name = f"{upstream}__{LONGEST}"
            assert len(name) == 64
            assert (tools[name].input_schema, tools[name].output_schema) == (COMPOSED, COMPOSED)
            assert (await agent.call_tool(name, arguments)).structured_content == arguments
