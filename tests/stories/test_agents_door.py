"""The agents' door: real clients in both eras at both ways in, and whoever knocks wrongly."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import MCPError
from mcp_types import CallToolResult
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from tests.gateways import ERAS, POLICY, WAIT_SECONDS, Desk, Site, site
from tests.stories.doors import (
    AGENT_KEYS,
    AGENTS,
    EVERY_WAY,
    agent_at,
    handshake,
    modern_meta,
    raw_agent,
    said,
    structured,
)

INBOX = {"folder": "inbox"}
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the sandbox, for agents that come over the bridge and two that come over HTTP."""
    options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name, site(Path(name), POLICY, **options) as made:
        await made.start()
        yield made


def mail(words: str) -> dict[str, Any]:
    """A mail that is held, and no other test's."""
    return {"to": "carl@customer.example.org", "subject": words, "body": "Two desks."}


# Clients that do it right.


@EVERY_WAY
async def test_an_allowed_call_runs_at_once(place: Site, door: str, era: str) -> None:
    """The server lists its own tools and all others, and a read just answers."""
    async with agent_at(place, door, era) as agent:
        names = {tool.name for tool in (await agent.list_tools()).tools}
        assert {"hitl_wait", "hitl_status", "hitl_withdraw", "sandbox__list_mail", "sandbox__send_mail"} <= names
        answer = await agent.call_tool("sandbox__list_mail", INBOX)
    assert not answer.is_error
    assert "status" not in structured(answer)


@pytest.mark.parametrize("era", ["legacy", "auto"])
@pytest.mark.parametrize("door", ["bridge", "http"])
async def test_a_client_is_told_how_to_live_with_holds(place: Site, door: str, era: str) -> None:
    """The handshake and the modern discovery both bring the server's instructions; discovery finds the modern era."""
    async with agent_at(place, door, era) as agent:
        assert (agent.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS) == (era == "legacy")
        assert "`hitl_wait`" in (agent.instructions or "")


@EVERY_WAY
async def test_a_held_call_answers_with_the_result_once_it_is_approved(place: Site, door: str, era: str) -> None:
    """Whoever waits gets the upstream's own answer, with signs of life until then."""
    asked = mail(f"approved {door} {era}")
    answers: list[CallToolResult] = []
    words: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        words.append(message)

    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        call_id = structured(await agent.call_tool("sandbox__send_mail", asked))["call_id"]
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                answers.append(await agent.call_tool("hitl_wait", {"call_id": call_id}, progress_callback=hear))

            tasks.start_soon(wait)
            await dana.approve(await dana.call(call_id))
            await dana.until(call_id, "succeeded")
        listed = structured(await agent.call_tool("hitl_status", {"call_id": call_id}))
    assert listed["status"] == "succeeded"
    assert listed["result"]["structuredContent"]["id"].startswith("s")
    assert any(f"{call_id}: " in (said or "") for said in words)
    assert [arguments for _, arguments in place.effects()].count(asked) == 1


@EVERY_WAY
async def test_a_denied_call_names_its_rule_and_runs_nothing(place: Site, door: str, era: str) -> None:
    """An error result, not an error of the protocol: the model is to read it."""
    async with agent_at(place, door, era) as agent:
        before = place.effects()
        denied = await agent.call_tool("sandbox__delete_account", {"name": "savings"})
    assert (denied.is_error, structured(denied)["status"], structured(denied)["executed"]) == (True, "denied", False)
    assert "`accounts-stay`" in said(denied)
    assert place.effects() == before


@EVERY_WAY
async def test_a_tool_that_does_not_exist_is_named_and_the_connection_lives_on(
    place: Site, door: str, era: str
) -> None:
    """Invalid params, as the protocol wants it; nothing is on record."""
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        before = await ids(dana)
        for name in ("sandbox__fly", "nobody__list_mail", "list_mail", "hitl_approve", ""):
            with pytest.raises(MCPError) as refused:
                await agent.call_tool(name, {})
            assert refused.value.code == -32602
            assert f"no tool is called `{name}`" in refused.value.message
        assert await ids(dana) == before
        assert not (await agent.call_tool("sandbox__list_mail", INBOX)).is_error


@EVERY_WAY
async def test_arguments_that_do_not_fit_are_named_by_their_path(place: Site, door: str, era: str) -> None:
    """What is missing, of another type, too large for any JSON reader, or too long; and nothing is on record."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"subject": "x", "body": "y"}, "$.arguments.to"),
        ({**mail("wrong"), "subject": 7}, "$.arguments.subject"),
        ({**mail("wrong"), "body": 2**53}, "$.params.arguments.body"),
        ({**mail("wrong"), "body": "x" * (MEGABYTE + 1)}, "$"),
    ]
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        before = await ids(dana)
        for arguments, path in wrong:
            with anyio.fail_after(WAIT_SECONDS), pytest.raises(MCPError) as refused:
                await agent.call_tool("sandbox__send_mail", arguments)
            assert refused.value.message.startswith(f"{path}: ")
            assert refused.value.data == {"path": path}
        assert await ids(dana) == before
        assert not (await agent.call_tool("sandbox__list_mail", INBOX)).is_error


@EVERY_WAY
async def test_the_agents_own_tools_tell_and_take_back(place: Site, door: str, era: str) -> None:
    """`hitl_status` lists what is open, `hitl_wait` says held, `hitl_withdraw` ends it, and a wrong id is answered."""
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        asked = mail(f"withdrawn {door} {era}")
        held = structured(await agent.call_tool("sandbox__send_mail", asked))
        call_id = held["call_id"]
        assert (held["status"], held["retry"], held["review_url"].endswith(f"#call={call_id}")) == (
            *("held", "repeat_same"),
            True,
        )
        listed = structured(await agent.call_tool("hitl_status", {}))["calls"]
        assert [call["status"] for call in listed if call["call_id"] == call_id] == ["held"]
        assert structured(await agent.call_tool("hitl_wait", {"call_id": call_id}))["status"] == "held"
        assert structured(await agent.call_tool("hitl_withdraw", {"call_id": call_id}))["status"] == "withdrawn"
        assert (await dana.call(call_id))["status"] == "withdrawn"
        late = await agent.call_tool("hitl_withdraw", {"call_id": call_id})
        assert (late.is_error, structured(late)["status"]) == (True, "withdrawn")
        for tool in ("hitl_wait", "hitl_status", "hitl_withdraw"):
            assert (await agent.call_tool(tool, {"call_id": "c_none"})).is_error
            with pytest.raises(MCPError, match=r"\$\.arguments\.(call_id|id): "):
                await agent.call_tool(tool, {"id": call_id})
    assert asked not in [arguments for _, arguments in place.effects()]


async def ids(desk: Desk) -> list[str]:
    """The ids of every call on record."""
    return [call["id"] for call in await desk.calls(limit="200", brief="true")]


# Frames that are wrong.


@dataclass(frozen=True)
class Bad:
    """A frame that must be refused: what is wrong with it, and what its answer says."""

    name: str
    frame: bytes
    code: int
    path: str
    id: str | int | None = 41


def call_with(arguments: str) -> bytes:
    """A tools/call of a tool that is held, with arguments exactly as written."""
    head = '{"jsonrpc":"2.0","id":41,"method":"tools/call","params":{"name":"sandbox__send_mail","arguments":'
    return f"{head}{arguments}}}}}".encode("utf-8", "surrogatepass")


def call_as(start: str, rest: str = '"method":"tools/list"}') -> bytes:
    """A request whose envelope begins as written."""
    return f"{{{start}{rest}".encode()


BODY = "$.params.arguments.body"
BAD = (
    Bad("a key twice", call_with('{"to":"a@example.com","to":"b@evil.org"}'), -32602, "$.params.arguments.to"),
    Bad("a key twice, deeper", call_with('{"body":[{"a":1,"a":1}]}'), -32602, f"{BODY}[0].a"),
    Bad("NaN", call_with('{"body":NaN}'), -32602, BODY),
    Bad("minus infinity", call_with('{"body":-Infinity}'), -32602, BODY),
    Bad("1e999", call_with('{"body":1e999}'), -32602, BODY),
    Bad("an integer beyond 2^53-1", call_with('{"body":9007199254740992}'), -32602, BODY),
    Bad("half a surrogate pair", call_with(r'{"body":"\ud800"}'), -32602, BODY),
    Bad("half a pair in a key", call_with(r'{"\udfff":1}'), -32602, "$.params.arguments.<key>"),
    Bad("NUL", call_with(r'{"body":"a\u0000b"}'), -32602, BODY),
    Bad("65 levels", call_with('{"body":' + "[" * 64 + "]" * 64 + "}"), -32602, BODY + "[0]" * 63),
    Bad("more than a mebibyte", call_with(f'{{"body":"{"x" * MEGABYTE}"}}'), -32600, "$"),
    Bad("arguments that are a list", call_with('["a"]'), -32602, "$.params.arguments"),
    Bad("arguments that are a text", call_with(r'"{\"to\":\"a\"}"'), -32602, "$.params.arguments"),
    Bad("not UTF-8", call_with('{"body":"x"}').replace(b'"x"', b'"\xff"'), -32700, "$", None),
    Bad("not JSON", call_with('{"body":')[:-2], -32700, "$", None),
    Bad("a batch", b"[" + call_with("{}") + b"]", -32600, "$", None),
    Bad("a number", b"41", -32600, "$", None),
    Bad("no jsonrpc", call_as('"id":41,'), -32600, "$.jsonrpc"),
    Bad("another jsonrpc", call_as('"jsonrpc":"1.0","id":41,'), -32600, "$.jsonrpc"),
    Bad("the id null", call_as('"jsonrpc":"2.0","id":null,'), -32600, "$.id", None),
    Bad("the id a fraction", call_as('"jsonrpc":"2.0","id":41.5,'), -32600, "$.id", None),
    Bad("the id true", call_as('"jsonrpc":"2.0","id":true,'), -32600, "$.id", None),
    Bad("the id an object", call_as('"jsonrpc":"2.0","id":{"a":1},'), -32600, "$.id", None),
    Bad("the id a long integer", call_as('"jsonrpc":"2.0","id":9007199254740993,'), -32600, "$.id", 2**53 + 1),
    Bad("neither asks nor answers", call_as('"jsonrpc":"2.0","id":41', "}"), -32600, "$"),
    Bad("asks and answers", call_as('"jsonrpc":"2.0","id":41,"result":{},'), -32600, "$"),
    Bad("the method a number", call_as('"jsonrpc":"2.0","id":41,', '"method":7}'), -32600, "$.method"),
    Bad("params that are a list", call_as('"jsonrpc":"2.0","id":41,"params":[1],'), -32600, "$.params"),
)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("door", ["bridge", "socket"])
async def test_a_wrong_frame_is_answered_with_its_path_and_leaves_no_trace(place: Site, door: str, era: str) -> None:
    """One connection survives them all; each is answered, under its id where it has one, and none is on record."""
    async with raw_agent(place, door, era) as agent, place.reviewer() as dana:
        before = await ids(dana)
        effects = place.effects()
        for bad in BAD:
            frame = bad.frame
            if era != "legacy" and b'"params":{' in frame:
                meta = json.dumps({"_meta": modern_meta()})[1:-1].encode()
                frame = frame.replace(b'"params":{', b'"params":{' + meta + b",")
            await agent.send(frame)
            answer = await agent.read()
            assert ("error" in answer, answer["id"]) == (True, bad.id), bad.name
            error = answer["error"]
            assert (error["code"], error["data"]) == (bad.code, {"path": bad.path}), (bad.name, error)
            assert error["message"].startswith(f"{bad.path}: "), bad.name
        assert await ids(dana) == before
        assert place.effects() == effects
        assert await agent.succeeds("sandbox__list_mail", **INBOX)


@pytest.mark.parametrize("door", ["bridge", "socket"])
async def test_a_message_longer_than_any_that_is_read_is_answered_too(place: Site, door: str) -> None:
    """Three mebibytes are skipped to their end; the next line is a message again."""
    async with raw_agent(place, door, "legacy") as agent:
        await agent.send(call_with(f'{{"body":"{"x" * 3 * MEGABYTE}"}}'))
        answer = await agent.read()
        assert "bytes" in answer["error"]["message"]
        assert await agent.succeeds("sandbox__list_mail", **INBOX)


@pytest.mark.parametrize("door", ["bridge", "socket"])
async def test_an_answer_to_a_question_that_was_never_asked_is_dropped(place: Site, door: str) -> None:
    """Whatever id it names; the connection lives on, and nothing comes back for it."""
    async with raw_agent(place, door, "legacy") as agent:
        for number in ("1", '"1"', '"x.1"', '"."', '""', "-1"):
            await agent.send(f'{{"jsonrpc":"2.0","id":{number},"result":{{"action":"accept"}}}}'.encode())
            await agent.send(f'{{"jsonrpc":"2.0","id":{number},"error":{{"code":1,"message":"no"}}}}'.encode())
        assert await agent.succeeds("sandbox__list_mail", **INBOX)


# Over HTTP.


def at_mcp(place: Site, *keys: str, **headers: str) -> httpx2.AsyncClient:
    """Someone who posts to `/mcp` by hand, showing these keys."""
    running = place.state.read_gateway()
    shown = [("authorization", f"Bearer {key}") for key in keys]
    basic = [("accept", "application/json, text/event-stream"), ("content-type", "application/json")]
    return httpx2.AsyncClient(base_url=running.url if running else "", headers=[*basic, *shown, *headers.items()])


async def post_good(http: httpx2.AsyncClient) -> httpx2.Response:
    """A modern call that is allowed."""
    name = "sandbox__list_mail"
    params = {"name": name, "arguments": INBOX, "_meta": modern_meta()}
    headers = {"mcp-protocol-version": LATEST_MODERN_VERSION, "mcp-method": "tools/call", "mcp-name": name}
    body = {"jsonrpc": "2.0", "id": "good", "method": "tools/call", "params": params}
    return await http.post("/mcp", json=body, headers=headers)


async def test_over_http_a_wrong_frame_is_answered_with_its_path_and_leaves_no_trace(place: Site) -> None:
    """As on the bridge, with status 400; the client's next call is served."""
    async with at_mcp(place, AGENT_KEYS["remote"]) as http, place.reviewer() as dana:
        before = await ids(dana)
        for bad in BAD:
            meta = json.dumps({"_meta": modern_meta()})[1:-1].encode()
            frame = bad.frame.replace(b'"params":{', b'"params":{' + meta + b",")
            headers = {"mcp-protocol-version": LATEST_MODERN_VERSION, "mcp-method": "tools/call"}
            answer = await http.post("/mcp", content=frame, headers={**headers, "mcp-name": "sandbox__send_mail"})
            assert answer.status_code == 400, bad.name
            error = answer.json()["error"]
            assert (error["code"], error["data"]) == (bad.code, {"path": bad.path}), bad.name
            too_long = bad.name == "more than a mebibyte"  # it is not read to its end, so its id is not known
            assert answer.json()["id"] == (None if too_long else bad.id), bad.name
        assert await ids(dana) == before
        assert (await post_good(http)).status_code == 200


@pytest.mark.parametrize(
    "keys", [(), ("wrong",), ("REMOTE-KEY",), ("remote-key", "remote-key"), ("remote-key", "rival-key")]
)
async def test_without_one_right_token_nobody_comes_in(place: Site, keys: tuple[str, ...]) -> None:
    """No token, a wrong one, one in other letters, or two: 401, and nothing is on record."""
    async with at_mcp(place, *keys) as http, place.reviewer() as dana:
        before = await ids(dana)
        for answer in (await post_good(http), await http.get("/mcp"), await http.delete("/mcp")):
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert await ids(dana) == before


async def test_a_reviewers_key_is_no_agents_token_and_the_other_way_round(place: Site) -> None:
    """A person's sign-in opens no tool; an agent's token sees and decides nothing on the review API."""
    async with place.reviewer() as dana, place.agent() as agent:
        key = dana.http.headers["authorization"].removeprefix("Bearer ")
        held = structured(await agent.call_tool("sandbox__send_mail", mail("whose key")))
        call = await dana.call(held["call_id"])
        async with at_mcp(place, key) as http:
            assert (await post_good(http)).status_code == 401
        headers = {"authorization": f"Bearer {AGENT_KEYS['remote']}"}
        verdict = {"verdict": "approve", "digest": call["digest"]}
        async with httpx2.AsyncClient(base_url=dana.http.base_url, headers=headers) as http:
            for path in ("/api/calls", f"/api/calls/{call['id']}", "/api/me", "/api/status", "/api/events"):
                assert (await http.get(path)).status_code == 401, path
            assert (await http.post(f"/api/calls/{call['id']}/verdict", json=verdict)).status_code == 401
        assert (await dana.call(call["id"]))["status"] == "held"


@pytest.mark.parametrize(
    "header",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
async def test_a_false_name_or_a_foreign_page_is_shut_out(place: Site, header: dict[str, str]) -> None:
    """Even with an agent's token: a page in a browser on this machine must not speak for an agent."""
    async with at_mcp(place, AGENT_KEYS["remote"], **header) as http, place.reviewer() as dana:
        before = await ids(dana)
        assert (await post_good(http)).status_code == 403
        assert await ids(dana) == before


async def test_another_agents_session_answers_like_one_that_does_not_exist(place: Site) -> None:
    """Calling, listening and ending with a session id of someone else: 404 each, and its owner goes on."""
    async with at_mcp(place, AGENT_KEYS["remote"]) as owner, at_mcp(place, AGENT_KEYS["rival"]) as rival:
        opening = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": handshake()}
        opened = await owner.post("/mcp", json=opening)
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": LATEST_HANDSHAKE_VERSION}
        call = {"name": "sandbox__list_mail", "arguments": INBOX}
        frame = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        none = {**session, "mcp-session-id": "0" * 32}
        for headers in (session, none):
            assert (await rival.post("/mcp", json=frame, headers=headers)).status_code == 404
            assert (await rival.get("/mcp", headers=headers)).status_code == 404
            assert (await rival.delete("/mcp", headers=headers)).status_code == 404
        answer = await owner.post("/mcp", json=frame, headers=session)
        assert (answer.status_code, '"isError":false' in answer.text) == (200, True)
        assert (await owner.delete("/mcp", headers=session)).status_code == 200
