"""What the API says of tools that changed, to whom, and who may accept them."""

from __future__ import annotations

import json

import pytest

from hitl_mcp.canonical import digest_of
from tests.surfaces.changed_tools import AFTER, BEFORE, change, offer
from tests.surfaces.desk import Desk

NAME = "mail__send_mail"


async def test_reviewers_see_what_changed_and_the_operator_how_every_tool_stands(desk: Desk) -> None:
    """On the port behind a sign-in; both definitions to the byte where they are asked for."""
    await change(desk)
    async with desk.program() as nobody:
        assert (await nobody.get("/api/tools/changed")).status_code == 401
    async with desk.signed_in("sam") as sam:
        (tool,) = (await sam.get("/api/tools/changed")).json()["tools"]
        (whole,) = (await sam.get("/api/tools/changed?whole=true")).json()["tools"]
        assert (await sam.get("/api/tools/changed?whole=perhaps")).status_code == 422
        blocked = (await sam.get("/api/status")).json()["blocked_tools"]
    assert (tool["name"], tool["state"], tool["offered"]) == (NAME, "changed", digest_of(AFTER))
    assert (tool["accepted"], tool["accepted_by"]) == (digest_of(BEFORE), "first sight")
    assert tool["difference"]["whole"] and "offered_json" not in tool
    assert (json.loads(whole["accepted_json"]), json.loads(whole["offered_json"])) == (BEFORE, AFTER)
    assert [(one["name"], one["state"]) for one in blocked] == [(NAME, "changed")]
    (absent,) = (await desk.control.get("/api/tools")).json()["absent"]  # this desk has no upstreams that offer tools
    assert (absent["name"], absent["state"], absent["accepted"]) == (NAME, "absent", digest_of(BEFORE))


async def test_tools_are_accepted_on_the_control_socket_alone(desk: Desk) -> None:
    """Not by a reviewer on the port, whatever the role; what is accepted is named by its digest."""
    await change(desk)
    right = {"name": NAME, "digest": digest_of(AFTER)}
    async with desk.signed_in("dana") as dana:
        assert (await dana.post("/api/tools/accept", json=right)).status_code == 404
    for body, status, code in (
        ({**right, "digest": digest_of(BEFORE)}, 409, "other_definition"),
        ({**right, "name": "mail__nothing"}, 404, "tool_not_found"),
        ({**right, "force": True}, 422, "wrong_body"),
        ({"name": NAME}, 422, "wrong_body"),
    ):
        answer = await desk.control.post("/api/tools/accept", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert NAME in desk.parts.pins.blocked
    answer = await desk.control.post("/api/tools/accept", json=right)
    assert (answer.status_code, answer.json()["accepted_by"]) == (200, "local")
    desk.parts.pins.take_in(offer(AFTER))
    assert desk.parts.pins.blocked == {}
    events = [event for event in await desk.store.events_after(0) if event.kind == "tool-accepted"]
    assert [(event.by, event.detail) for event in events] == [("reviewer:local", f"{NAME}: {digest_of(AFTER)}")]


@pytest.mark.parametrize("count", [0, 1])
async def test_health_says_that_tools_are_blocked_and_names_none(desk: Desk, count: int) -> None:
    """It asks for no sign-in; a blocked tool is a warning, since the gateway itself works."""
    if count:
        await change(desk)
    async with desk.program() as nobody:
        answer = await nobody.get("/healthz")
    assert (answer.status_code, answer.json()["ok"]) == (200, True)
    assert answer.json().get("warning") == ("1 tool is blocked: what was accepted changed" if count else None)
