"""The API of grants: what is asked of it, what it answers, and whom it refuses."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from hitl_mcp.calls import Asked, CallRecord, Requirement, Status
from hitl_mcp.canonical import canonical_text
from tests.granting import grantable, stands_with
from tests.samples import held, tool_call
from tests.surfaces.desk import PEOPLE, Desk


async def ask(desk: Desk, **arguments: Any) -> CallRecord:
    """A mail that the agent asks for."""
    call = tool_call(arguments_json=canonical_text({"to": "a@example.com", "amount": 5.0, **arguments}))
    decision = grantable()
    stands = stands_with(PEOPLE)
    return (await desk.store.admit(call, Asked("c"), lambda history: decision, durable=True, stands=stands)).record


def body(record: CallRecord, **changes: Any) -> dict[str, Any]:
    """A grant as it is asked for."""
    conditions = [{"path": "/to", "op": "ends_with", "value": "@example.com"}]
    terms = {"conditions": conditions, "uses": 2, "minutes": 60, "reason": "the newsletter"}
    return {"call_id": record.id, "digest": record.digest, **terms, **changes}


async def test_a_grant_is_tried_given_listed_and_revoked(desk: Desk) -> None:
    """What it would have matched, the grant as it is written, and the call that ran on it."""
    earlier = [await ask(desk, to=f"{name}@example.com") for name in "xy"]
    await ask(desk, to="x@evil.org")
    record = await ask(desk)
    async with desk.signed_in("dana") as dana:
        first = (await dana.post("/api/grants/check", json={"call_id": record.id})).raise_for_status().json()
        assert [(one["path"], one["value_json"]) for one in first["suggested"]] == [
            ("/amount", "5.0"),
            ("/to", '"a@example.com"'),
        ]
        assert (first["of"], [one["id"] for one in first["matched"]], first["problem"]) == (4, [record.id], None)
        loose = {"call_id": record.id, "conditions": body(record)["conditions"]}
        tried = (await dana.post("/api/grants/check", json=loose)).raise_for_status().json()
        assert [one["id"] for one in tried["matched"]] == [record.id, *(one.id for one in reversed(earlier))]
        assert "arguments_json" not in tried["matched"][0]
        grant = (await dana.post("/api/grants", json=body(record))).raise_for_status().json()
        known = {
            key: grant[key] for key in ("state", "name", "agent", "uses", "used", "given_by", "reason", "ended_why")
        }
        assert known == {
            "state": "live",
            "name": "mail__send",
            "agent": "builder",
            "uses": 2,
            "used": 0,
            "given_by": "dana",
            "reason": "the newsletter",
            "ended_why": None,
        }
        assert (await dana.get("/api/grants")).json()["grants"] == [grant]
        assert (await dana.get("/api/grants?state=ended")).json()["grants"] == []
        served = await ask(desk, to="new@example.com")
        wire = (await dana.get(f"/api/calls/{served.id}")).json()
        shown = (await dana.get(f"/api/calls/{served.id}/shown")).json()
        assert (wire["grant"], wire["verdicts"], wire["requirements"][0]["met"]) == (grant["id"], [], 0)
        need = shown["requirements"][0]
        assert (shown["grant"], need["grant"], need["done"], need["met"]) == (grant["id"], grant["id"], True, 0)
        async with desk.signed_in("sam") as sam:
            ended = (await sam.post(f"/api/grants/{grant['id']}/revoke", json={"reason": "too wide"})).json()
        assert (ended["state"], ended["ended_by"]) == ("ended", "reviewer:sam")
        assert (await desk.store.get(served.id)).status is Status.INVALIDATED
        again = await dana.post(f"/api/grants/{grant['id']}/revoke", json={})
        assert (again.status_code, again.json()["error"]["code"]) == (409, "grant_ended")


async def test_what_a_page_is_told_of_who_may_grant(desk: Desk) -> None:
    """Whoever could approve alone; why nobody can, as a sentence."""
    record = await ask(desk)
    strict = await desk.hold({"to": "b@example.com"}, held(Requirement("mail-out", ("finance",))))
    for name, may in (("dana", True), ("sam", False)):
        async with desk.signed_in(name) as reviewer:
            shown = (await reviewer.get(f"/api/calls/{record.id}/shown")).json()
            assert (shown["you"]["may_grant"], shown["grantable"]) == (may, None)
            shown = (await reviewer.get(f"/api/calls/{strict.id}/shown")).json()
            assert (shown["you"]["may_grant"], "grantable: true" in shown["grantable"]) == (False, True)


NUMBER = {"path": "/amount", "op": "at_most"}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"digest": "sha256:other"}, 409, "other_digest"),
        ({"call_id": "c_nothing"}, 404, "call_not_found"),
        ({"uses": 0}, 422, "grant_refused"),
        ({"minutes": 2000}, 422, "grant_refused"),
        ({"uses": "2"}, 422, "wrong_body"),
        ({"more": 1}, 422, "wrong_body"),
        ({"conditions": []}, 422, "grant_refused"),
        ({"conditions": [{**NUMBER, "value": 4}]}, 422, "grant_refused"),
        ({"conditions": [{**NUMBER, "value": "4"}]}, 422, "grant_refused"),
        ({"conditions": [{**NUMBER, "value_json": "four"}]}, 422, "grant_refused"),
        ({"conditions": [NUMBER]}, 422, "wrong_body"),
        ({"conditions": [{**NUMBER, "value": 4, "value_json": "4"}]}, 422, "wrong_body"),
        ({"conditions": [{"path": "/to", "op": "contains", "value": "a"}]}, 422, "wrong_body"),
    ],
)
async def test_a_wrong_grant_is_refused_with_a_code_and_nothing_is_given(
    desk: Desk, change: dict[str, Any], status: int, code: str
) -> None:
    """Each in the shape of all errors."""
    record = await ask(desk)
    async with desk.signed_in("dana") as dana:
        answer = await dana.post("/api/grants", json=body(record, **change))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert await desk.store.grants.list(live=True) == ()


async def test_the_command_line_gives_as_local_who_has_no_role_here(desk: Desk) -> None:
    """The control socket is a door like the page; whoever is not signed in gets nothing."""
    record = await ask(desk)
    answer = await desk.control.post("/api/grants", json=body(record))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
    assert (await desk.control.post("/api/grants/g_nothing/revoke", json={})).status_code == 404
    async with desk.program() as nobody:
        refused: httpx2.Response = await nobody.get("/api/grants")
    assert refused.status_code == 401
