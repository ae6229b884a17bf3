"""What passes the gate unchanged: definitions, results, errors, progress and changes, in both eras at both doors."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import jsonschema_rs
import pytest
from mcp import Client, MCPError
from mcp_types import SERVER_INFO_META_KEY, CallToolResult, Tool

from tests.gateways import ERAS, WAIT_SECONDS, Desk, Site, site
from tests.stories.doors import AGENTS, EVERY_WAY, Progress, agent_at, into, raw_agent, said, structured
from tests.stories.servers import rich_server
from tests.upstreams import stage

LONG = f"rich__{rich_server.LONG_NAME}"

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "rules": [
        {
            "id": "free",
            "tool": [
                *(f"rich__{name}" for name in ("measure", "draw", "count", "steps", "fails", "refuses", "grow*")),
                *("older__*", "raw__echo", LONG),
            ],
            "effect": "allow",
            "reason": "the tests ask for it",
        },
        {"id": "told", "tool": "raw__echo", "effect": "hold", "when": "'hold' in args", "reason": "it says so"},
    ],
}


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway with a modern upstream, one of the older era, and one that echoes what reaches it."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        folder = Path(name)
        upstreams = {
            "rich": {"command": sys.executable, "args": [rich_server.__file__, str(folder / "rich")]},
            "older": {"command": sys.executable, "args": [str(stage.SDK_SERVER), "--legacy"]},
            "raw": {"command": sys.executable, "args": ["-I", "-S", str(stage.RAW_SERVER)]},
        }
        options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}
        with site(folder, POLICY, upstreams=upstreams, **options) as made:
            await made.start()
            yield made


def reached(place: Site, tool: str) -> list[dict[str, Any]]:
    """The arguments of every call of a tool that reached the modern upstream."""
    lines = (place.folder / "rich").read_text(encoding="utf-8").splitlines()
    return [arguments for name, arguments in map(json.loads, lines) if name == tool]


async def listed(agent: Client) -> dict[str, dict[str, Any]]:
    """Every tool's definition as it stands on the wire, by name, in the order of the list."""
    tools = (await agent.list_tools(cache_mode="bypass")).tools
    return {tool.name: as_written(tool) for tool in tools}


def as_written(model: Tool | CallToolResult) -> dict[str, Any]:
    """A model as JSON has it."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True, exclude={"result_type"})


async def approved(agent: Client, desk: Desk, name: str, arguments: dict[str, Any], **more: Any) -> CallToolResult:
    """What an agent gets that waits while its call is approved."""
    answers: list[CallToolResult] = []

    async def ask() -> None:
        answers.append(await agent.call_tool(name, arguments, **more))

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while not (held := [call for call in await desk.calls(status="held") if call["name"] == name]):
                await anyio.sleep(0)
            await desk.approve(held[0])
            await desk.until(held[0]["id"], "succeeded")
    if "call_id" not in (answers[0].structured_content or {}):
        return answers[0]
    # On a slow machine the wait was over before the verdict: the result is then fetched, and is the same.
    waited = await agent.call_tool("hitl_wait", {"call_id": held[0]["id"]})
    return CallToolResult.model_validate(structured(waited)["result"])


# Definitions.


@EVERY_WAY
async def test_a_definition_reaches_the_agent_as_its_upstream_wrote_it(place: Site, door: str, era: str) -> None:
    """Title, description, both schemas with their local definitions, annotations, icons and `_meta`: all the same."""
    written = as_written(rich_server.MEASURE)
    async with agent_at(place, door, era) as agent:
        assert (await listed(agent))["rich__measure"] == {**written, "name": "rich__measure"}


@EVERY_WAY
async def test_a_tool_that_may_be_held_declares_both_shapes_of_its_answer(place: Site, door: str, era: str) -> None:
    """The agent's client checks every answer against the widened schema, which takes the result and our outcomes."""
    arguments = {"text": f"{door} {era}"}
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        schema = (await listed(agent))["rich__weigh"]["outputSchema"]
        assert schema["$defs"] == rich_server.WEIGHT["$defs"]
        result = await approved(agent, dana, "rich__weigh", arguments)
        assert result.structured_content == rich_server.WEIGHED
        again = await agent.call_tool("rich__weigh", arguments)
    for shape in (rich_server.WEIGHED, again.structured_content):
        jsonschema_rs.validate(schema, shape)
    wrong = {"weight": {"value": 1, "unit": "stone"}}
    assert not jsonschema_rs.is_valid(schema, wrong)
    assert reached(place, "weigh").count(arguments) == 1


async def test_the_list_has_the_same_order_every_time_at_every_door(place: Site) -> None:
    """The gateway's own tools first, then all others by name, whatever order their upstreams list them in."""
    orders = []
    for door in ("bridge", "http"):
        for era in ERAS:
            async with agent_at(place, door, era) as agent:
                orders += [list(await listed(agent)) for _ in range(2)]
    assert len(orders) == 8
    assert all(order == orders[0] for order in orders)
    assert orders[0][:3] == ["hitl_status", "hitl_wait", "hitl_withdraw"]
    assert orders[0][3:] == sorted(orders[0][3:])


@EVERY_WAY
async def test_a_name_too_long_for_agents_is_shortened_and_still_finds_its_tool(
    place: Site, door: str, era: str
) -> None:
    """The agent sees 64 characters with a digest; the record has the full name."""
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        short = next(name for name in await listed(agent) if name.startswith(LONG[:40]))
        assert (len(short), len(LONG) > 64) == (64, True)
        done = await agent.call_tool(short, {"text": f"{door} {era}"})
        with pytest.raises(MCPError, match="no tool is called"):
            await agent.call_tool(LONG, {"text": "by its full name"})
        latest = (await dana.calls(limit="1"))[0]
    assert structured(done)["arguments"] == {"text": f"{door} {era}"}
    assert (latest["name"], latest["tool"]) == (LONG, rich_server.LONG_NAME)


# Results.


@EVERY_WAY
async def test_every_kind_of_content_passes(place: Site, door: str, era: str) -> None:
    """Text, image, audio, links, embedded resources, annotations and `_meta` come as they left the upstream."""
    async with agent_at(place, door, era) as agent:
        drawn = as_written(await agent.call_tool("rich__draw", {}))
    if era != "legacy":
        assert drawn["_meta"].pop(SERVER_INFO_META_KEY)["name"] == "hitl-mcp"  # of this hop, not of the upstream
    assert drawn == rich_server.DRAWN


@EVERY_WAY
async def test_structured_content_that_is_no_object_reaches_whoever_can_read_it(
    place: Site, door: str, era: str
) -> None:
    """An array reaches modern agents as it is; older ones, whose protocol has no such thing, get the same as text."""
    async with agent_at(place, door, era) as agent:
        answer = await agent.call_tool("rich__count", {})
    assert said(answer) == "[1, 2, 3]"
    assert answer.structured_content == (None if era == "legacy" else [1, 2, 3])


@EVERY_WAY
async def test_an_error_of_the_tool_stays_one(place: Site, door: str, era: str) -> None:
    """`isError` with its own text, from upstreams of both eras."""
    async with agent_at(place, door, era) as agent:
        for name, text in (("rich__fails", "no such thing"), ("older__fails", "it failed")):
            answer = await agent.call_tool(name, {})
            assert (answer.is_error, said(answer), answer.structured_content) == (True, text, None)


@EVERY_WAY
async def test_an_error_of_the_protocol_is_relayed_with_its_code_and_data(place: Site, door: str, era: str) -> None:
    """A JSON-RPC error of the upstream is the agent's, even one that sounds like our own; the connection lives on."""
    async with agent_at(place, door, era) as agent:
        for name, code, message, data in (
            ("older__refuses", -32001, "not today", {"why": "closed"}),
            ("rich__refuses", -32000, "Connection closed", {"why": ["closed", 1]}),
        ):
            with anyio.fail_after(WAIT_SECONDS), pytest.raises(MCPError) as refused:
                await agent.call_tool(name, {})
            error = refused.value
            assert (error.code, error.message, error.data) == (code, message, data)
        assert not (await agent.call_tool("rich__count", {})).is_error


# What comes while a call runs, and between calls.


@EVERY_WAY
async def test_progress_of_an_allowed_call_is_the_upstreams_own(place: Site, door: str, era: str) -> None:
    """Numbers, total and words, in order, and all of it before the answer."""
    async with agent_at(place, door, era) as agent:
        for upstream in ("rich", "older"):
            heard: list[Progress] = []
            await agent.call_tool(f"{upstream}__steps", {}, progress_callback=into(heard))
            assert heard == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]


@EVERY_WAY
async def test_a_list_that_changed_is_announced_and_the_new_tool_can_be_called(
    place: Site, door: str, era: str
) -> None:
    """Announced in the way of the agent's era, for upstreams of both; what is new is there at once."""
    announced = anyio.Event()

    async def hear(message: object) -> None:
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            announced.set()

    async def follow(agent: Client, ready: anyio.Event) -> None:
        async with agent.listen(tools_list_changed=True) as subscription:
            ready.set()
            async for _ in subscription:
                announced.set()

    options: dict[str, Any] = {"message_handler": hear} if era == "legacy" else {}
    async with agent_at(place, door, era, **options) as agent, anyio.create_task_group() as tasks:
        if era != "legacy":
            ready = anyio.Event()
            tasks.start_soon(follow, agent, ready)
            await ready.wait()
        for upstream, tool in (("rich", "grow"), ("older", "grows")):
            before = set(await listed(agent))
            announced = anyio.Event()
            new: set[str] = set()
            with anyio.fail_after(WAIT_SECONDS):
                await agent.call_tool(f"{upstream}__{tool}", {})
                while not new:
                    await announced.wait()
                    announced = anyio.Event()
                    new = set(await listed(agent)) - before
            name = new.pop()
            assert name.startswith(f"{upstream}__grown-")
            if upstream == "rich":
                assert not (await agent.call_tool(name, {})).is_error
        tasks.cancel_scope.cancel()


async def test_an_agent_that_does_not_read_keeps_no_other_from_hearing_of_a_change(place: Site) -> None:
    """Its own line is full to the brim; everybody else hears it as ever."""
    heard = [anyio.Event() for _ in range(3)]

    def hearing(number: int) -> Any:
        async def hear(message: object) -> None:
            if getattr(message, "method", None) == "notifications/tools/list_changed":
                heard[number].set()

        return hear

    async with AsyncExitStack() as stack:
        deaf = await stack.enter_async_context(raw_agent(place, "socket", "legacy"))
        agents = [
            await stack.enter_async_context(place.agent(era="legacy", message_handler=hearing(number)))
            for number in range(3)
        ]
        await agents[0].list_tools()
        # Far more than a socket and its two ends hold: 400 listings of some 6 KB each, none of them read.
        for number in range(400):
            await deaf.ask("tools/list", number)
        for _ in range(3):
            await agents[0].list_tools(cache_mode="bypass")  # they are answered in the order in which they came
        heard[:] = [anyio.Event() for _ in heard]  # upstreams that came up late were announced too
        with anyio.fail_after(WAIT_SECONDS):
            await agents[0].call_tool("rich__grow", {})
            for event in heard:
                await event.wait()


# `_meta` and the agent's reason.


@EVERY_WAY
async def test_meta_of_an_allowed_call_is_forwarded_less_what_belongs_to_the_hop(
    place: Site, door: str, era: str
) -> None:
    """Trace context and keys of others pass; the agent's progress token and its protocol's envelope do not."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    meta: Any = {"traceparent": trace, "example.com/x": {"deep": [1, 2.5]}}

    async with agent_at(place, door, era) as agent:
        for callback in (None, into([])):
            answer = await agent.call_tool("raw__echo", {"a": 1}, meta=meta, progress_callback=callback)
            seen = structured(answer)
            assert seen["meta"].pop("progressToken") == seen["id"]
            assert seen["meta"] == meta


@EVERY_WAY
async def test_of_a_held_calls_meta_only_the_trace_context_is_kept(place: Site, door: str, era: str) -> None:
    """The rest was meant for a request that is long over; reviewers are shown what is left."""
    meta: Any = {"traceparent": "00-1-2-01", "tracestate": "a=b", "baggage": "c=d", "example.com/x": 1}
    kept = {key: value for key, value in meta.items() if key != "example.com/x"}
    arguments = {"hold": True, "way": f"{door} {era}"}
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        answer = await approved(agent, dana, "raw__echo", arguments, meta=meta)
        latest = (await dana.calls(limit="1"))[0]
        shown = (await dana.http.get(f"/api/calls/{latest['id']}/shown")).json()
    seen = structured(answer)
    assert seen["meta"].pop("progressToken") == seen["id"] == latest["id"]
    assert (seen["meta"], seen["arguments"]) == (kept, arguments)
    assert all(key in json.dumps(shown["meta"]) for key in kept)


@EVERY_WAY
async def test_the_agents_reason_is_shown_as_its_claim_and_never_reaches_the_upstream(
    place: Site, door: str, era: str
) -> None:
    """`hitl_reason` is offered where people may be asked; it is no argument of the call that is shown and sent."""
    arguments = {"text": f"{door} {era}"}
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        tools = await listed(agent)
        assert "hitl_reason" in tools["rich__note"]["inputSchema"]["properties"]
        assert "hitl_reason" not in tools["rich__measure"]["inputSchema"]["properties"]
        asked = {**arguments, "hitl_reason": "the minutes are due"}
        answer = await approved(agent, dana, "rich__note", asked)
        latest = (await dana.calls(limit="1"))[0]
        shown = (await dana.http.get(f"/api/calls/{latest['id']}/shown")).json()
    assert structured(answer)["arguments"] == arguments
    assert reached(place, "note")[-1] == arguments
    assert json.loads(latest["arguments_json"]) == arguments
    assert "the minutes are due" in json.dumps(shown["claim"])
    assert "the minutes are due" not in json.dumps({**shown, "claim": None})
