"""The review API through its two doors, over a real store."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from hitl_mcp.calls import CallRecord, Effect, HistoryUsed, Outcome, RuleMatch, Status
from hitl_mcp.errors import StoreError
from hitl_mcp.surfaces.api import control_routes, page_routes
from hitl_mcp.surfaces.api.openapi import description, only_at
from tests.clocks import HandClock
from tests.samples import claim, held
from tests.surfaces.desk import Desk, open_desk


def approve(record: CallRecord, **changes: Any) -> dict[str, Any]:
    """The body that approves a call as it stands."""
    return {"verdict": "approve", "digest": record.digest, **changes}


async def unmoved(desk: Desk, record: CallRecord) -> None:
    """Check that nothing happened to a call since it was read."""
    now = await desk.store.get(record.id)
    assert (now.status, now.version, now.verdicts) == (record.status, record.version, record.verdicts)


async def test_a_call_has_exactly_the_documented_fields(desk: Desk) -> None:
    """Other programs rely on these names; arguments are the exact bytes, as a string."""
    record = await desk.hold_payment({"amount": 9007199254740991, "to": "Müller"}, claim="the user asked")
    async with desk.signed_in("dana") as dana:
        call = (await dana.get(f"/api/calls/{record.id}")).json()
    assert set(call) == set(description()["components"]["schemas"]["Call"]["properties"])
    assert call["arguments_json"] == '{"amount":9007199254740991,"to":"Müller"}' == record.call.arguments_json
    assert (call["status"], call["score"], call["decision"], call["agent"]) == ("held", 70, "hold", "builder")
    asked = {"id": "payments", "roles": ["finance"], "quorum": 2, "assurance": "client", "not_by": [], "surfaces": []}
    assert call["requirements"] == [{**asked, "met": 0, "approved_by": [], "grantable": False}]
    assert [signal["points"] for signal in call["signals"]] == [45, 25]
    assert call["claim"] == "the user asked"
    assert [event["kind"] for event in call["events"]] == ["asked"]


async def test_calls_are_listed_by_status_a_page_at_a_time(desk: Desk) -> None:
    """Newest first; `next` leads to the rest and is null at the end."""
    ids = [(await desk.hold({"n": number})).id for number in range(3)]
    async with desk.signed_in("dana") as dana:
        first = (await dana.get("/api/calls?status=held&limit=2")).json()
        rest = (await dana.get(f"/api/calls?status=held&limit=2&cursor={first['next']}")).json()
        none = (await dana.get("/api/calls?status=rejected,expired&status=denied")).json()
    assert [call["id"] for call in first["calls"]] == [ids[2], ids[1]]
    assert [call["id"] for call in rest["calls"]] == [ids[0]]
    assert rest["next"] is None
    assert none == {"calls": [], "next": None}


async def test_a_brief_list_leaves_the_arguments_out(desk: Desk) -> None:
    """The page's lists show rows, not payloads; the summary is rendered here."""
    await desk.hold({"to": "p\u0430ypal"})
    async with desk.signed_in("dana") as dana:
        call = (await dana.get("/api/calls?brief=true")).json()["calls"][0]
    assert "arguments_json" not in call and "events" not in call
    assert any("CYRILLIC SMALL LETTER A" in segment["text"] for segment in call["summary"]["preview"])


@pytest.mark.parametrize(
    "query", ["status=waiting", "cursor=abc", "cursor=-1", "limit=0", "limit=1000", "sort=score", "brief=perhaps"]
)
async def test_a_wrong_query_is_named(desk: Desk, query: str) -> None:
    """Unknown parameters are refused as well: nobody should believe they work."""
    async with desk.signed_in("dana") as dana:
        answer = await dana.get(f"/api/calls?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(query.partition("=")[0])


async def test_an_unknown_call_is_404(desk: Desk) -> None:
    """On every path that names one."""
    async with desk.signed_in("dana") as dana:
        for answer in (
            await dana.get("/api/calls/c_nothing"),
            await dana.get("/api/calls/c_nothing/shown"),
            await dana.post("/api/calls/c_nothing/verdict", json={"verdict": "approve", "digest": "x"}),
        ):
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "call_not_found"


async def test_shown_is_the_one_rendering_with_what_this_reviewer_may_do(desk: Desk) -> None:
    """The page shows this and nothing else."""
    record = await desk.hold_payment({"amount": 9007199254740991})
    async with desk.signed_in("sam") as sam:
        data = (await sam.get(f"/api/calls/{record.id}/shown")).json()
    assert data["arguments"]["whole"] is True
    assert {"kind": "number", "text": "9007199254740991"} in data["arguments"]["lines"][1]["segments"]
    assert data["you"]["why_not"] == "it needs a reviewer with the role finance"


# Verdicts.


async def test_two_approvals_of_different_people_approve_a_payment(desk: Desk) -> None:
    """The first leaves it held, the second approves; both are stored with who, where and how sure we are."""
    record = await desk.hold_payment({"amount": 5000})
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        first = (await dana.post(f"/api/calls/{record.id}/verdict", json=approve(record))).json()
        assert (first["status"], first["requirements"][0]["met"]) == ("held", 1)
        second = (await lee.post(f"/api/calls/{record.id}/verdict", json=approve(record, reason="checked"))).json()
    assert (second["status"], second["requirements"][0]["approved_by"]) == ("approved", ["dana", "lee"])
    assert {(verdict["surface"], verdict["assurance"]) for verdict in second["verdicts"]} == {("web", "link")}


async def test_a_rejection_ends_a_call_and_keeps_its_reason(desk: Desk) -> None:
    """One is enough."""
    record = await desk.hold_payment({"amount": 5000})
    body = {"verdict": "reject", "digest": record.digest, "reason": "ask the supplier first"}
    async with desk.signed_in("sam") as sam:
        call = (await sam.post(f"/api/calls/{record.id}/verdict", json=body)).json()
    assert call["status"] == "rejected"
    assert call["verdicts"][0]["reason"] == "ask the supplier first"


async def test_a_verdict_from_the_control_socket_is_locals(desk: Desk) -> None:
    """Whatever a header claims: trust comes from the socket."""
    record = await desk.hold({"to": "a@example.com"})
    answer = await desk.control.post(
        f"/api/calls/{record.id}/verdict",
        json=approve(record),
        headers={"authorization": f"Bearer {await desk.key('dana')}", "x-reviewer": "dana"},
    )
    verdict = answer.json()["verdicts"][0]
    assert (verdict["reviewer"], verdict["surface"], verdict["assurance"]) == ("local", "cli", "cli")


async def test_a_settled_call_answers_409_with_its_true_status(desk: Desk) -> None:
    """Whoever comes too late sees what it is now, and nothing moves."""
    record = await desk.hold({"to": "a@example.com"})
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        reject = {"verdict": "reject", "digest": record.digest}
        await dana.post(f"/api/calls/{record.id}/verdict", json=reject)
        settled = await desk.store.get(record.id)
        answer = await lee.post(f"/api/calls/{record.id}/verdict", json=approve(record))
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert (error["code"], error["status"], error["call"]["status"]) == ("call_settled", "rejected", "rejected")
    assert "rejected by `dana`" in error["message"]
    await unmoved(desk, settled)


async def test_a_call_past_its_time_answers_409_expired(desk: Desk, clock: HandClock) -> None:
    """A late verdict never runs anything."""
    record = await desk.hold({"to": "a@example.com"})
    clock.forward(601)
    async with desk.signed_in("dana") as dana:
        answer = await dana.post(f"/api/calls/{record.id}/verdict", json=approve(record))
    assert (answer.status_code, answer.json()["error"]["status"]) == (409, "expired")
    assert (await desk.store.get(record.id)).status is Status.EXPIRED


async def test_another_digest_answers_409_and_nothing_moves(desk: Desk) -> None:
    """A verdict counts only for what it was shown."""
    record = await desk.hold({"to": "a@example.com"})
    async with desk.signed_in("dana") as dana:
        answer = await dana.post(f"/api/calls/{record.id}/verdict", json=approve(record, digest="sha256:" + "0" * 64))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "other_digest")
    assert answer.json()["error"]["status"] == "held"
    await unmoved(desk, record)


async def test_an_approval_without_the_role_is_403_and_nothing_moves(desk: Desk) -> None:
    """The answer names the role."""
    record = await desk.hold_payment({"amount": 1})
    async with desk.signed_in("sam") as sam:
        answer = await sam.post(f"/api/calls/{record.id}/verdict", json=approve(record))
    assert answer.status_code == 403
    assert "`finance`" in answer.json()["error"]["help"]
    await unmoved(desk, record)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "verdict: field required"),
        (b"{", "not JSON"),
        (b"[]", "body: input should be"),
        (b'{"verdict":"approve"}', "digest: field required"),
        (b'{"verdict":"yes","digest":"DIGEST"}', "verdict: input should be"),
        (b'{"verdict":"approve","digest":5}', "digest: input should be a valid string"),
        (b'{"verdict":"approve","digest":"DIGEST","force":true}', "force: no such field"),
        (b'{"verdict":"approve","digest":"x","digest":"DIGEST"}', "$.digest: the key stands twice"),
        (b'{"verdict":"approve","digest":"DIGEST","reason":"\\ud800"}', "half of a surrogate pair"),
        (b'{"verdict":"reject","digest":"DIGEST","reason":"' + b"x" * 2001 + b'"}', "reason: string should have"),
    ],
)
async def test_a_wrong_body_is_422_and_nothing_moves(desk: Desk, body: bytes, says: str) -> None:
    """The message says where and what, and never repeats the value."""
    record = await desk.hold({"to": "a@example.com"})
    async with desk.signed_in("dana") as dana:
        answer = await dana.post(
            f"/api/calls/{record.id}/verdict",
            content=body.replace(b"DIGEST", record.digest.encode()),
            headers={"content-type": "application/json"},
        )
    assert answer.status_code == 422
    assert says in answer.json()["error"]["message"]
    await unmoved(desk, record)


async def test_a_body_that_is_not_declared_as_json_is_422(desk: Desk) -> None:
    """What a plain HTML form could send is not read."""
    record = await desk.hold({"to": "a@example.com"})
    async with desk.signed_in("dana") as dana:
        answer = await dana.post(
            f"/api/calls/{record.id}/verdict",
            content=json.dumps(approve(record)),
            headers={"content-type": "text/plain"},
        )
    assert answer.status_code == 422
    await unmoved(desk, record)


async def test_a_body_beyond_the_cap_is_413_and_nothing_moves(desk: Desk) -> None:
    """It is cut off while it is read, whatever length it declares."""
    record = await desk.hold({"to": "a@example.com"})

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1024

    async with desk.signed_in("dana") as dana:
        answer = await dana.post(
            f"/api/calls/{record.id}/verdict", content=chunks(), headers={"content-type": "application/json"}
        )
    assert answer.status_code == 413
    await unmoved(desk, record)


# The gateway.


async def test_status_says_how_the_gateway_is(desk: Desk) -> None:
    """Upstreams, pause, what stands open, and the gateway's time for countdowns."""
    desk.upstreams.append({"name": "mail", "state": "down", "detail": "no such command"})
    await desk.hold({"to": "a@example.com"})
    async with desk.signed_in("dana") as dana:
        status = (await dana.get("/api/status")).json()
    assert status["upstreams"][0]["state"] == "down"
    assert (status["open"], status["paused"]) == ({"held": 1}, None)
    assert status["now"] == "2026-11-22T12:00:00.000000Z"


async def test_metrics_count_what_is_open(desk: Desk) -> None:
    """In Prometheus' own form, every open status always there."""
    desk.upstreams.append({"name": "mail", "state": "ready", "detail": ""})
    await desk.hold({"to": "a@example.com"})
    async with desk.signed_in("dana") as dana:
        text = (await dana.get("/metrics")).text
    assert 'hitl_calls{status="held"} 1\n' in text
    assert 'hitl_calls{status="unknown"} 0\n' in text
    assert 'hitl_upstream_up{upstream="mail"} 1\n' in text
    assert "hitl_paused 0\n" in text


async def test_health_needs_no_key(desk: Desk) -> None:
    """Whoever watches the process may ask."""
    async with desk.program() as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})


async def test_a_store_that_cannot_write_is_unhealthy(desk: Desk) -> None:
    """The answer says why; a verdict is refused, and nothing moved."""
    record = await desk.hold({"to": "a@example.com"})
    with pytest.raises(StoreError):
        await desk.store.access.writer.write(lambda txn: txn.connection.close(), durable=True)
    answer = await desk.control.get("/healthz")
    assert (answer.status_code, answer.json()["ok"]) == (503, False)
    assert "closed" in answer.json()["why"]
    verdict = await desk.control.post(f"/api/calls/{record.id}/verdict", json=approve(record))
    assert (verdict.status_code, verdict.json()["error"]["code"]) == (503, "store_unavailable")
    await unmoved(desk, record)


async def test_a_fault_of_ours_is_an_answer_and_a_log_entry(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets JSON without insides; the log gets the traceback."""

    def broken() -> dict[str, Any]:
        raise RuntimeError("a secret inside")

    routes = control_routes(replace(desk.parts, status=broken))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(_app(routes)), base_url="http://control") as client:
        with caplog.at_level(logging.ERROR):
            answer = await client.get("/api/status")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "a secret inside" in caplog.text


async def test_the_result_of_a_call_is_given_with_the_call_alone(desk: Desk) -> None:
    """Results may be large: lists that ask to be brief go without."""
    record = await desk.hold({"to": "a@example.com"})
    async with desk.signed_in("dana") as dana:
        await dana.post(f"/api/calls/{record.id}/verdict", json=approve(record))
        await claim(desk.store, await desk.store.get(record.id))
        outcome = Outcome(Status.SUCCEEDED, True, "2026-11-22T12:00:00.000000Z", "", '{"content":[]}', "sha256:x", 14)
        await desk.store.settle(record.id, outcome, durable=True)
        call = (await dana.get(f"/api/calls/{record.id}")).json()
        brief = (await dana.get("/api/calls?brief=true")).json()["calls"][0]
    assert (call["status"], call["outcome"]["result_json"]) == ("succeeded", '{"content":[]}')
    assert "result_json" not in brief["outcome"] and brief["outcome"]["result_bytes"] == 14


async def test_what_history_said_is_given_with_the_call_alone(desk: Desk) -> None:
    """A decision can be explained from what the API gives; lists stay short. Tools are the operator's to see."""
    told = (HistoryUsed("new", "known", ("sha256:1",)), HistoryUsed("daily", "taken", 5))
    shadow = RuleMatch("later", Effect.DENY, "tried out")
    record = await desk.hold({}, held(history=told, shadows=(shadow,)))
    async with desk.signed_in("dana") as dana:
        call = (await dana.get(f"/api/calls/{record.id}")).json()
        listed = (await dana.get("/api/calls?brief=true")).json()["calls"][0]
        assert (await dana.get("/api/tools")).status_code == 404
    assert call["told"] == [
        {"item": "new", "about": "known", "answer": ["sha256:1"]},
        {"item": "daily", "about": "taken", "answer": 5},
    ]
    assert call["shadows"] == [{"id": "later", "effect": "deny", "reason": "tried out", "error": None}]
    assert "told" not in listed
    assert (await desk.control.get("/api/tools")).json() == {"tools": [], "absent": []}


async def test_the_description_names_every_path_and_no_other(desk: Desk) -> None:
    """`/api/openapi.json` and the routes are compared both ways."""
    described = {
        (path, method.upper())
        for path, item in description()["paths"].items()
        for method in item
        if method in ("get", "post")
    }
    page, control = _paths(page_routes(desk.parts)), _paths(control_routes(desk.parts))
    assert described == page | control
    assert {path for path, _ in page - control} == only_at("port")
    assert {path for path, _ in control - page} == only_at("socket")
    async with desk.signed_in("dana") as dana:
        assert (await dana.get("/api/openapi.json")).json()["openapi"] == "3.1.0"


async def test_links_name_the_public_address(tmp_path: Path, clock: HandClock) -> None:
    """Behind a proxy, under a prefix, people get the address that works for them."""
    async with open_desk(tmp_path / "hitl.db", clock, "https://review.example/hitl/") as desk:
        assert (await desk.link("dana")).startswith("https://review.example/hitl/#login=")


def _app(routes: list[Route]) -> Any:
    return Starlette(routes=routes)


def _paths(routes: list[Route]) -> set[tuple[str, str]]:
    ours = ("GET", "POST")
    return {(route.path_format, method) for route in routes for method in (route.methods or ()) if method in ours}


async def test_calls_are_found_by_what_they_hold(desk: Desk) -> None:
    """`q` looks in names, arguments and claims, in whatever case, and takes `%` and `_` for what they are."""
    ours = await desk.hold({"to": "a@example.com", "body": "Fifty_percent: 50% off"})
    await desk.hold({"to": "b@example.com", "body": "Fifty percent: 500 off"})
    async with desk.signed_in("dana") as dana:

        async def found(text: str) -> list[str]:
            return [call["id"] for call in (await dana.get("/api/calls", params={"q": text})).json()["calls"]]

        assert await found("50%") == [ours.id]
        assert await found("FIFTY_") == [ours.id]
        assert len(await found("example.com")) == 2
        assert await found("nothing of this kind") == []
