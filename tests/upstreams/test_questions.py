"""What an upstream asks while it works on a call, on its way to whoever waits for that call, and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as t
import pytest
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import UpstreamRefused
from hitl_mcp.limits import INPUT_ROUNDS, UPSTREAM_QUESTIONS
from hitl_mcp.upstreams import Asker, Question, Send, Upstream
from tests.stories.servers.curious_server import QUESTIONS, RESULTS, dumped, text
from tests.upstreams.stage import a_call, one, serving

Context = ServerRequestContext[Any, Any]
Ask = Callable[[Mapping[str, Question]], Awaitable[dict[str, Any]]]

EVERYTHING: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}


class Asking:
    """A server whose tools ask in rounds, and what each request of a round brought."""

    def __init__(self) -> None:
        self.brought: list[tuple[dict[str, Any], str | None]] = []
        self.refused = anyio.Event()
        self.server = Server("asking", version="1", on_list_tools=self._list, on_call_tool=self._call)

    async def _list(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListToolsResult:
        names = ("many", "twice", "only_state", "endless", "flood", "takes_back", "heap")
        tools = [t.Tool(name=name, input_schema={"type": "object", "properties": {}}) for name in names]
        return t.ListToolsResult(tools=tools)

    async def _call(self, ctx: Context, params: t.CallToolRequestParams) -> t.CallToolResult | t.InputRequiredResult:
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return await self._ask_within(ctx, params.name)
        answers = {key: dumped(one) for key, one in (params.input_responses or {}).items()}
        self.brought.append((answers, params.request_state))
        number = len(self.brought)
        if params.name == "many" and number == 1:
            return t.InputRequiredResult(input_requests=dict(QUESTIONS), request_state="s")
        if params.name == "twice" and number <= 2:
            return t.InputRequiredResult(
                input_requests={"form": QUESTIONS["form"]}, request_state="s" if number == 1 else None
            )
        if params.name == "only_state" and number <= 2:
            return t.InputRequiredResult(request_state=f"s{number}")
        if params.name == "heap":
            heap = {str(one): QUESTIONS["form"] for one in range(UPSTREAM_QUESTIONS + 1)}
            return t.InputRequiredResult(input_requests=heap, request_state="s")
        if params.name == "endless":
            return t.InputRequiredResult(input_requests={"form": QUESTIONS["form"]}, request_state="s")
        return text("done")

    async def _ask_within(self, ctx: Context, name: str) -> t.CallToolResult:
        related = ServerMessageMetadata(related_request_id=ctx.request_id)
        said: list[str] = []

        async def ask() -> None:
            limit = 0.01 if name == "takes_back" else None
            try:
                await ctx.session.send_request(QUESTIONS["form"], RESULTS["form"], limit, related)
                said.append("answered")
            except MCPError as error:
                said.append(error.message)
                self.refused.set()

        async with anyio.create_task_group() as tasks:
            for _ in range(UPSTREAM_QUESTIONS + 1 if name == "flood" else 1):
                tasks.start_soon(ask)
        return text(said)


@asynccontextmanager
async def asking(era: str) -> AsyncIterator[tuple[Asking, Upstream]]:
    """The server, and an upstream that reached it in this era."""
    made = Asking()

    async def refuse(ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        if era == "legacy" and ctx.method == "server/discover":
            raise MCPError(t.METHOD_NOT_FOUND, "Method not found")
        return await call_next(ctx)

    made.server.middleware.append(refuse)
    with anyio.fail_after(30):
        async with (
            serving(made.server.streamable_http_app()) as address,
            one(UpstreamConfig("u", url=f"{address}/mcp")) as upstream,
        ):
            yield made, upstream


def sent_for(tool: str, ask: Ask) -> Send:
    """A call of a client that is asked like this."""

    async def tell(method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError(method)

    plain = a_call(tool)
    return Send(plain.call_id, tool, "{}", asker=Asker(True, EVERYTHING, None, ask, tell))


ANSWERS: dict[str, dict[str, Any]] = {
    "form": {"action": "accept", "content": {"size": "l"}},
    "link": {"action": "decline"},
    "sample": {"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"},
    "roots": {"roots": []},
}


async def test_several_questions_of_one_round_are_answered_together() -> None:
    """Each under its own key, with the state beside them; the client sees them all at once."""
    asked: list[Mapping[str, Question]] = []

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        asked.append(questions)
        return {key: ANSWERS[key] for key in questions}

    async with asking("modern") as (server, upstream):
        result = await upstream.send(sent_for("many", ask))
    assert result["content"][0]["text"] == "done"
    assert {key: one.method for key, one in asked[0].items()} == {key: one.method for key, one in QUESTIONS.items()}
    assert server.brought == [({}, None), (ANSWERS, "s")]


async def test_a_call_goes_on_round_after_round() -> None:
    """Each brings its own answers, and the state of its own question: none where there was none."""
    sizes = iter("sl")

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        return {"form": {"action": "accept", "content": {"size": next(sizes)}}}

    async with asking("modern") as (server, upstream):
        await upstream.send(sent_for("twice", ask))
    first, second = ({"form": {"action": "accept", "content": {"size": size}}} for size in "sl")
    assert server.brought == [({}, None), (first, "s"), (second, None)]


async def nobody(questions: Mapping[str, Question]) -> dict[str, Any]:
    """Is not asked."""
    raise AssertionError(questions)


async def test_an_upstream_that_only_wants_to_be_asked_again_is() -> None:
    """With its newest state, and without bothering the client."""
    async with asking("modern") as (server, upstream):
        await upstream.send(sent_for("only_state", nobody))
    assert server.brought == [({}, None), ({}, "s1"), ({}, "s2")]


async def test_an_upstream_that_asks_without_end_is_given_up() -> None:
    """The call ends as one whose upstream needs more than it gets."""

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        return {"form": ANSWERS["form"]}

    async with asking("modern") as (server, upstream):
        with pytest.raises(UpstreamRefused, match="needs input"):
            await upstream.send(sent_for("endless", ask))
        assert len(server.brought) == INPUT_ROUNDS + 1


@pytest.mark.parametrize("tool", ["twice", "many"])
async def test_an_error_of_the_client_ends_a_modern_call(tool: str) -> None:
    """There is no way to tell such an upstream: it asked with its answer, and gets no other request."""

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        raise MCPError(-1, "the user went away")

    async with asking("modern") as (server, upstream):
        with pytest.raises(UpstreamRefused, match="the user went away"):
            await upstream.send(sent_for(tool, ask))
        assert len(server.brought) == 1


async def test_no_more_than_so_many_questions_are_open_at_once() -> None:
    """The others are refused at once, and those that are open are answered."""
    asked = 0

    async with asking("legacy") as (server, upstream):

        async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
            nonlocal asked
            asked += 1
            await server.refused.wait()
            return {"question": ANSWERS["form"]}

        result = await upstream.send(sent_for("flood", ask))
    said = json.loads(result["content"][0]["text"])
    assert sorted(said) == ["answered"] * UPSTREAM_QUESTIONS + ["nobody can be asked while a call runs"]
    assert asked == UPSTREAM_QUESTIONS


async def test_a_question_that_is_taken_back_bothers_the_client_no_longer() -> None:
    """Its upstream waits for the answer only so long, and says so."""
    closed: list[bool] = []

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        try:
            await anyio.sleep_forever()
        finally:
            closed.append(True)
        return {}

    async with asking("legacy") as (_, upstream):
        result = await upstream.send(sent_for("takes_back", ask))
        assert "answered" not in result["content"][0]["text"]
    assert closed == [True]


async def test_a_question_that_goes_wrong_here_costs_no_other_call_its_connection() -> None:
    """The upstream gets an error, and none of what went wrong."""

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        raise RuntimeError("odd")

    async with asking("legacy") as (_, upstream):
        for _ in range(2):
            result = await upstream.send(sent_for("twice", ask))
            assert json.loads(result["content"][0]["text"]) == ["the gateway failed"]


async def test_a_heap_of_questions_is_put_to_nobody() -> None:
    """A client that is asked one after the other would be asked for hours; and all of them wait in memory."""

    async def ask(questions: Mapping[str, Question]) -> dict[str, Any]:
        raise AssertionError(questions)

    async with asking("modern") as (server, upstream):
        with pytest.raises(UpstreamRefused, match=f"it asks {UPSTREAM_QUESTIONS + 1} things at once"):
            await upstream.send(sent_for("heap", ask))
        assert len(server.brought) == 1
