"""`POST /api/evaluate`: what hooks ask and are told, who may ask, and what is refused."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from hitl_mcp.calls import Status
from hitl_mcp.clock import Clock
from hitl_mcp.limits import AGENT_REQUESTS, MESSAGE_BYTES
from hitl_mcp.people import People
from hitl_mcp.pins import open_pins
from hitl_mcp.review import Review
from hitl_mcp.surfaces.api import ApiParts, Evaluating, control_routes, page_routes
from tests.client_houses import WAIT_SECONDS, ClientHouse, client_house

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BASH = {"client": "claude-code", "tool": "Bash", "arguments": {"command": "make"}, "agent": "builder"}
READ = {**BASH, "tool": "Read", "arguments": {"file_path": "/a"}}


@dataclass(frozen=True)
class Doors:
    """Both doors of the API over the parts that decide."""

    house: ClientHouse
    control: httpx2.AsyncClient
    port: httpx2.AsyncClient
    stopping: anyio.Event

    async def ask(self, **body: Any) -> httpx2.Response:
        """Ask on the control socket, at once."""
        return await self.control.post("/api/evaluate", json={**BASH, "wait_seconds": 0, **body})


async def _agent_of(scope: Scope) -> str | Response:
    shown = dict(scope["headers"]).get(b"authorization")
    return "remote" if shown == b"Bearer remote-key" else JSONResponse({"error": {"code": "not_signed_in"}}, 401)


@asynccontextmanager
async def doors(folder: Path) -> AsyncIterator[Doors]:
    """The doors, open."""
    async with client_house(folder) as house:
        parts = await _parts_of(house)
        async with _client(control_routes(parts)) as control, _client(page_routes(parts)) as port:
            yield Doors(house, control, port, parts.stopping)


def _client(routes: Any) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(Starlette(routes=routes))
    return httpx2.AsyncClient(transport=transport, base_url="http://hitl", verify=_NO_TLS)


@pytest.fixture
async def open_doors(tmp_path: Path) -> AsyncIterator[Doors]:
    """The doors of an empty house."""
    async with doors(tmp_path) as opened:
        yield opened


async def test_a_hook_is_told_to_allow_what_the_policy_allows(open_doors: Doors) -> None:
    """Allowed is released and on record, as this agent's, in this conversation."""
    answer = await open_doors.ask(**READ, conversation="s-1")
    told = answer.json()
    assert answer.status_code == 200
    assert (told["decision"], told["status"], told["review_url"]) == ("allow", "released", None)
    record = await open_doors.house.store.get(told["call_id"])
    assert (record.status, record.call.agent, record.asked.conversation) == (Status.RELEASED, "builder", "s-1")


async def test_a_hook_is_told_to_deny_what_is_held_until_people_approved_it(open_doors: Doors) -> None:
    """Held, then approved, then asked again in the other form: allowed once, for the same bytes."""
    held = (await open_doors.ask()).json()
    assert (held["decision"], held["status"], held["retry"]) == ("deny", "held", "repeat_same")
    assert held["reason"].startswith(f"NOT EXECUTED, held as {held['call_id']} until ")
    assert held["reason"].endswith(f"People answer at http://review/#call={held['call_id']}")
    call = (await open_doors.control.get(f"/api/calls/{held['call_id']}")).json()
    assert (call["status"], call["runs_elsewhere"], call["name"]) == ("held", True, "claude-code__Bash")
    body = {"verdict": "approve", "digest": call["digest"]}
    await open_doors.control.post(f"/api/calls/{call['id']}/verdict", json=body)
    same = {**BASH, "arguments": None, "arguments_json": '{ "command" : "make" }'}
    allowed = (await open_doors.ask(**same)).json()
    assert (allowed["decision"], allowed["call_id"]) == ("allow", held["call_id"])
    again = (await open_doors.ask(**same)).json()
    assert (again["decision"], again["status"], again["call_id"] == held["call_id"]) == ("deny", "held", False)
    listed = (await open_doors.control.get("/api/calls", params={"status": "released"})).json()["calls"]
    assert [(one["id"], one["outcome"]) for one in listed] == [(held["call_id"], None)]


async def test_a_hook_that_waits_is_answered_by_the_verdict(open_doors: Doors) -> None:
    """The answer comes with the approval, well before the time is over."""
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        answers.append((await open_doors.ask(wait_seconds=WAIT_SECONDS * 10)).json())

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await _held_and_approved(open_doors)
    assert (answers[0]["decision"], answers[0]["status"]) == ("allow", "released")


async def _held_and_approved(open_doors: Doors) -> None:
    while not (page := await open_doors.house.store.list_calls({Status.HELD})).calls:
        await anyio.sleep(0)
    await open_doors.house.approve(page.calls[0])


async def test_a_gateway_that_stops_lets_no_hook_wait_on(open_doors: Doors) -> None:
    """A hook that waits for people is told at once, and denies."""
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        answers.append(await open_doors.ask(wait_seconds=WAIT_SECONDS * 10))

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while not (await open_doors.house.store.list_calls({Status.HELD})).calls:
                await anyio.sleep(0)
            open_doors.stopping.set()
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (503, "stopping")


async def test_a_denial_names_its_rule(open_doors: Doors) -> None:
    """The agent is told which rule, as by every other surface."""
    told = (await open_doors.ask(tool="Rm")).json()
    assert (told["decision"], told["status"], told["retry"]) == ("deny", "denied", "never")
    assert "denied by policy (rule `never`)" in told["reason"]


async def test_on_the_port_the_agent_is_whose_token_it_is(open_doors: Doors) -> None:
    """A body that names an agent is refused there, and who shows no agent's token is refused first."""
    body = {key: value for key, value in READ.items() if key != "agent"}
    signed = {"authorization": "Bearer remote-key"}
    allowed = (await open_doors.port.post("/api/evaluate", json=body, headers=signed)).json()
    assert (await open_doors.house.store.get(allowed["call_id"])).call.agent == "remote"
    named = await open_doors.port.post("/api/evaluate", json=READ, headers=signed)
    assert (named.status_code, named.json()["error"]["message"]) == (422, "agent: no such field")
    for headers in ({}, {"authorization": "Bearer other"}):
        assert (await open_doors.port.post("/api/evaluate", json=body, headers=headers)).status_code == 401
    assert len((await open_doors.house.store.list_calls(None)).calls) == 1


async def test_an_agents_token_reviews_nothing_and_a_reviewers_key_evaluates_nothing(open_doors: Doors) -> None:
    """Two kinds of keys for two doors: neither opens the other."""
    record = await open_doors.house.hold(command="make")
    agents = {"authorization": "Bearer remote-key"}
    verdict = {"verdict": "approve", "digest": record.digest}
    refused = await open_doors.port.post(f"/api/calls/{record.id}/verdict", json=verdict, headers=agents)
    assert refused.status_code == 401
    link = (await open_doors.control.post("/api/links", json={})).json()["url"]
    login = await open_doors.port.post("/api/login", json={"code": link.partition("#login=")[2]})
    reviewers = {"authorization": f"Bearer {login.json()['token']}"}
    assert (await open_doors.port.get("/api/me", headers=reviewers)).status_code == 200
    body = {key: value for key, value in READ.items() if key != "agent"}
    assert (await open_doors.port.post("/api/evaluate", json=body, headers=reviewers)).status_code == 401
    assert (await open_doors.house.store.get(record.id)).status is Status.HELD


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"client": "codex"}, "client: the own tools of `codex` are not decided here"),
    ({"tool": "a b"}, "tool: string should match pattern"),
    ({"tool": ""}, "tool: string should match pattern"),
    ({"arguments": None}, "one of `arguments` and `arguments_json` is needed, and there is neither"),
    ({"arguments_json": "{}"}, "one of `arguments` and `arguments_json` is needed, and there is both"),
    ({"arguments": None, "arguments_json": "[]"}, "arguments_json: an object is needed"),
    ({"arguments": None, "arguments_json": '{"a":1,"a":2}'}, "arguments_json: $.a: the key stands twice"),
    ({"arguments": None, "arguments_json": '{"a":NaN}'}, "arguments_json: $.a: `NaN` is not JSON"),
    ({"arguments": []}, "arguments: input should be a valid dictionary"),
    ({"agent": None}, "agent: a name of 1 to 40 characters is needed"),
    ({"agent": "a\nb"}, "agent: a name of 1 to 40 characters is needed"),
    ({"agent": "a" * 41}, "agent: a name of 1 to 40 characters is needed"),
    ({"wait_seconds": -1}, "wait_seconds: input should be greater than or equal to 0"),
    ({"wait_seconds": 601}, "wait_seconds: input should be less than or equal to 600"),
    ({"wait_seconds": "1"}, "wait_seconds: input should be a valid number"),
    ({"reviewer": "dana"}, "reviewer: no such field"),
    ({"arguments": {"a": 2**53}}, "$.arguments.a: the integer is beyond ±9007199254740991; send it as a string"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
async def test_a_wrong_body_is_refused_with_its_place(open_doors: Doors, change: dict[str, Any], message: str) -> None:
    """422, the place, and nothing on record."""
    answer = await open_doors.ask(**change)
    assert (answer.status_code, answer.json()["error"]["message"][: len(message)]) == (422, message)
    assert (await open_doors.house.store.list_calls(None)).calls == ()


SMUGGLED = [
    (
        b'{"client":"claude-code","tool":"Read","tool":"Bash","arguments":{},"agent":"b"}',
        "$.tool: the key stands twice",
    ),
    (b'{"client":"claude-code","tool":"Read","arguments":{"a":1,"a":2},"agent":"b"}', "$.arguments.a: the key stands"),
    (
        b'{"client":"claude-code","tool":"Read","arguments":{"a":"\\ud800"},"agent":"b"}',
        "$.arguments.a: the text holds",
    ),
    (b'{"client":"claude-code","tool":"Read","arguments":{"a":1e999},"agent":"b"}', "$.arguments.a: the number is too"),
    (b'{"client":"claude-code","tool":"Read","arguments":' + b'{"a":' * 70 + b"1" + b"}" * 71, "$.arguments.a.a"),
    (b"not json", "$: not JSON"),
]


@pytest.mark.parametrize(("body", "message"), SMUGGLED, ids=[message for _, message in SMUGGLED])
async def test_what_two_readers_understand_differently_is_refused(open_doors: Doors, body: bytes, message: str) -> None:
    """The body is read as strictly as a message of MCP, arguments included."""
    headers = {"content-type": "application/json"}
    answer = await open_doors.control.post("/api/evaluate", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["message"][: len(message)]) == (422, message)
    assert (await open_doors.house.store.list_calls(None)).calls == ()


async def test_arguments_as_large_as_a_message_pass_and_larger_ones_do_not(open_doors: Doors) -> None:
    """The same cap as on every other way in."""
    largest = "x" * (MESSAGE_BYTES - len('{"content":""}'))
    passed = await open_doors.ask(tool="Read", arguments={"content": largest})
    assert passed.json()["decision"] == "allow"
    beyond = await open_doors.ask(tool="Read", arguments={"content": largest + "x"})
    assert beyond.status_code == 413
    quoted = {"arguments": None, "arguments_json": json.dumps({"content": largest + "x"})}
    assert (await open_doors.ask(tool="Read", **quoted)).status_code == 422
    assert len((await open_doors.house.store.list_calls(None)).calls) == 1


async def test_a_hook_that_goes_away_is_given_nothing(open_doors: Doors) -> None:
    """Its client killed it while it waited: the approval stays for the next request."""
    app = Starlette(routes=control_routes(await _parts_of(open_doors.house)))
    body = json.dumps({**BASH, "wait_seconds": WAIT_SECONDS}).encode()
    gone, sent = anyio.Event(), [False]

    async def receive() -> Any:
        if not sent[0]:
            sent[0] = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("a hook that went was answered")

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/evaluate", "headers": headers, "query_string": b""}
    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, scope, receive, send)
            while not (page := await open_doors.house.store.list_calls({Status.HELD})).calls:
                await anyio.sleep(0)
            gone.set()
    record = await open_doors.house.approve(page.calls[0])
    assert record.status is Status.APPROVED
    allowed = (await open_doors.ask()).json()
    assert (allowed["decision"], allowed["call_id"]) == ("allow", record.id)


async def _parts_of(house: ClientHouse) -> ApiParts:
    return ApiParts(
        store=house.store,
        review=Review(house.store, People(), Clock()),
        people=People(),
        status=dict,
        stop=lambda: None,
        pins=await open_pins(house.store),
        clock=Clock(),
        public_url="http://review",
        stopping=anyio.Event(),
        evaluating=Evaluating(house.releasing, _agent_of, 0.5, lambda call_id: f"http://review/#call={call_id}"),
    )


async def test_hooks_of_one_agent_that_ask_too_much_at_once_are_refused_until_one_is_answered(
    open_doors: Doors,
) -> None:
    """A hook over the cap is told so and leaves no record; another agent's is answered, and so is the next in time."""

    async def wait(number: int) -> None:
        await open_doors.ask(arguments={"command": f"make {number}"}, wait_seconds=600)

    async with anyio.create_task_group() as hooks:
        for number in range(AGENT_REQUESTS):
            hooks.start_soon(wait, number)
        with anyio.fail_after(WAIT_SECONDS):
            while len(await _held(open_doors)) < AGENT_REQUESTS:
                await anyio.sleep(0)
        refused = await open_doors.ask(arguments={"command": "one more"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_at_once")
        assert (await open_doors.ask(arguments={"command": "one more"})).status_code == 429
        assert len(await _held(open_doors)) == AGENT_REQUESTS
        assert (await open_doors.ask(**{**READ, "agent": "other"})).status_code == 200
        hooks.cancel_scope.cancel()
    assert (await open_doors.ask(**READ)).status_code == 200


async def _held(open_doors: Doors) -> list[Any]:
    answer = await open_doors.control.get("/api/calls", params={"status": "held", "limit": "200"})
    return list(answer.json()["calls"])
