"""The API about those who look: who has a call open, how long they looked, what they may still approve, their pace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from hitl_mcp.calls import CallRecord, Status
from hitl_mcp.people import Reviewer
from hitl_mcp.review import Review
from hitl_mcp.surfaces.api import control_routes, page_routes
from tests.clocks import HandClock
from tests.surfaces.desk import Desk


@asynccontextmanager
async def with_budget(desk: Desk, at_most: int, **own: int) -> AsyncIterator[Any]:
    """This desk with a budget for everyone, and for some their own: makes clients of the page and of the CLI."""
    people = desk.parts.people
    reviewers = {name: replace(one, approvals_per_hour=own.get(name)) for name, one in people.reviewers.items()}
    reviewers["local"] = Reviewer("local", frozenset({"finance"}), approvals_per_hour=own.get("local"))
    people = replace(people, approvals_per_hour=at_most, reviewers=reviewers)
    review = Review(desk.store, people, desk.parts.clock)
    parts = replace(desk.parts, people=people, review=review)

    @asynccontextmanager
    async def client(reviewer: str) -> AsyncIterator[httpx2.AsyncClient]:
        routes = control_routes(parts) if reviewer == "local" else page_routes(parts)
        headers = {} if reviewer == "local" else {"authorization": f"Bearer {await desk.key(reviewer)}"}
        transport = httpx2.ASGITransport(Starlette(routes=routes))
        async with httpx2.AsyncClient(transport=transport, base_url="http://here", headers=headers) as http:
            yield http

    yield client


async def approve(http: httpx2.AsyncClient, record: CallRecord) -> httpx2.Response:
    """An approval of what a call shows."""
    return await http.post(f"/api/calls/{record.id}/verdict", json={"verdict": "approve", "digest": record.digest})


async def test_who_has_a_call_open_is_told_of_the_others(desk: Desk, clock: HandClock) -> None:
    """By the answer to one's own word, and in what is shown; half a minute after somebody's last word they are gone."""
    record = await desk.hold({"to": "a@example.com"})
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        looking = f"/api/calls/{record.id}/looking"
        assert (await dana.post(looking, json={})).json() == {"also": []}
        assert (await lee.post(looking, json={})).json() == {"also": ["dana"]}
        assert (await dana.get(f"/api/calls/{record.id}/shown")).json()["looking"] == ["lee"]
        clock.forward(30)
        assert (await dana.get(f"/api/calls/{record.id}/shown")).json()["looking"] == []
        assert (await dana.post("/api/calls/c_none/looking", json={})).status_code == 404
        assert (await dana.post(looking, json={"as": "lee"})).status_code == 422
    now = await desk.store.get(record.id)
    assert (now.status, now.version, now.verdicts) == (record.status, record.version, ())


async def test_a_verdict_says_how_long_its_reviewer_had_looked(desk: Desk, clock: HandClock) -> None:
    """From the first time these bytes were shown to this very person; who never looked, of them it is not known."""
    first, second = await desk.hold_payment({"n": 1}), await desk.hold({"n": 2})
    async with desk.signed_in("dana") as dana, desk.signed_in("lee") as lee:
        await dana.get(f"/api/calls/{first.id}/shown")
        clock.forward(12.34)
        await dana.get(f"/api/calls/{first.id}/shown")
        clock.forward(5)
        said = (await approve(dana, first)).json()["verdicts"]
        assert [one["considered_seconds"] for one in said] == [17.3]
        said = (await approve(lee, first)).json()["verdicts"]
        assert {one["reviewer"]: one["considered_seconds"] for one in said} == {"dana": 17.3, "lee": None}
    await desk.control.get(f"/api/calls/{second.id}/shown")
    clock.forward(3)
    assert (await approve(desk.control, second)).json()["verdicts"][0]["considered_seconds"] == 3.0


async def test_beyond_the_budget_an_approval_is_refused_and_the_call_waits(desk: Desk, clock: HandClock) -> None:
    """429, when there is one again, and the same on the page; a rejection passes, and so does who has a budget left."""
    records = [await desk.hold({"n": number}) for number in range(4)]
    async with with_budget(desk, 1, lee=5) as client, client("dana") as dana, client("lee") as lee:
        shown = (await dana.get(f"/api/calls/{records[0].id}/shown")).json()["you"]
        assert (shown["budget_left"], shown["may_approve"]) == (1, True)
        assert (await approve(dana, records[0])).status_code == 200
        refused = await approve(dana, records[1])
        assert refused.status_code == 429
        assert refused.json()["error"] == {
            "code": "budget_spent",
            "message": "`dana` approved 1 call within the hour, which is the most",
            "help": "the next one can be approved at 2026-11-22T13:00:00Z, or now by another reviewer; "
            "rejecting always works",
        }
        now = await desk.store.get(records[1].id)
        assert (now.status, now.version, now.verdicts) == (Status.HELD, records[1].version, ())
        shown = (await dana.get(f"/api/calls/{records[1].id}/shown")).json()["you"]
        assert (shown["budget_left"], shown["may_approve"], shown["may_reject"]) == (0, False, True)
        assert shown["why_not"].startswith("you approved as many calls within the hour as you may")
        body = {"verdict": "reject", "digest": records[2].digest}
        assert (await dana.post(f"/api/calls/{records[2].id}/verdict", json=body)).status_code == 200
        assert (await lee.get(f"/api/calls/{records[1].id}/shown")).json()["you"]["budget_left"] == 5
        assert (await approve(lee, records[1])).status_code == 200
        clock.forward(600)
        await desk.store.expire_due()
        assert (await approve(dana, records[3])).json()["error"]["status"] == "expired"


async def test_whoever_answers_at_the_terminal_has_a_budget_too(desk: Desk) -> None:
    """Everyone's, or one of their own where the config names `local`."""
    records = [await desk.hold({"n": number}) for number in range(3)]
    async with with_budget(desk, 1) as client, client("local") as local:
        assert (await approve(local, records[0])).status_code == 200
        assert (await approve(local, records[1])).json()["error"]["code"] == "budget_spent"
    async with with_budget(desk, 1, local=2) as client, client("local") as local:
        assert (await approve(local, records[1])).status_code == 200
        assert (await approve(local, records[2])).json()["error"]["code"] == "budget_spent"
    assert (await desk.store.get(records[2].id)).status is Status.HELD


@pytest.mark.parametrize(("reviewer", "seen"), [("dana", {"dana", "lee"}), ("lee", {"lee"}), ("sam", set())])
async def test_the_figures_of_a_week_are_everyones_for_admins_and_ones_own_for_others(
    desk: Desk, clock: HandClock, reviewer: str, seen: set[str]
) -> None:
    """How fast and how uniformly somebody approves is told to whoever looks after the reviewers, and to themselves."""
    for name in ("dana", "lee"):
        record = await desk.hold({"by": name})
        async with desk.signed_in(name) as http:
            await http.get(f"/api/calls/{record.id}/shown")
            clock.forward(4)
            await approve(http, record)
    async with desk.signed_in(reviewer) as http:
        figures = (await http.get("/api/reviewers/pace")).json()["reviewers"]
    assert {one["reviewer"] for one in figures} == seen
    assert all((one["approvals"], one["median_seconds"], one["under_5_seconds"]) == (1, 4.0, 1) for one in figures)
    everyone = (await desk.control.get("/api/reviewers/pace")).json()["reviewers"]
    assert [one["reviewer"] for one in everyone] == ["dana", "lee"]
