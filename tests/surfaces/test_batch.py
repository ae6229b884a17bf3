"""Several calls answered together on the API: of one tool, none of them risky, each a record of its own."""

from __future__ import annotations

from typing import Any

import httpx2

from hitl_mcp.calls import CallRecord, Status
from tests.samples import held
from tests.surfaces.desk import Desk


async def give(http: httpx2.AsyncClient, verdict: str, *records: CallRecord, **changes: Any) -> httpx2.Response:
    """One verdict on each of these calls, as they were shown."""
    calls = [{"id": record.id, "digest": record.digest} for record in records]
    return await http.post("/api/verdicts", json={"verdict": verdict, "calls": calls, **changes})


async def test_each_call_of_a_batch_has_its_own_verdict_and_result(desk: Desk) -> None:
    """One whose bytes are others now is refused by itself; the others are approved."""
    first, second = await desk.hold({"n": 1}), await desk.hold({"n": 2})
    async with desk.signed_in("dana") as dana:
        calls = [{"id": first.id, "digest": first.digest}, {"id": second.id, "digest": first.digest}]
        answer = await dana.post("/api/verdicts", json={"verdict": "approve", "calls": calls, "reason": "routine"})
    assert answer.status_code == 200
    done, refused = answer.json()["results"]
    assert (done["ok"], done["call"]["status"], done["call"]["verdicts"][0]["reason"]) == (True, "approved", "routine")
    assert (refused["ok"], refused["error"]["code"]) == (False, "other_digest")
    assert (await desk.store.get(second.id)).status is Status.HELD


async def test_a_batch_of_two_tools_or_of_risky_calls_decides_nothing(desk: Desk) -> None:
    """Not even the calls in it that would be fine by themselves."""
    plain, other = await desk.hold({"n": 1}), await desk.hold({"n": 2}, name="mail__forward", tool="forward")
    risky = await desk.hold({"n": 3}, held(score=50))
    async with desk.signed_in("dana") as dana:
        for with_it, code in ((other, "mixed_batch"), (risky, "over_the_band")):
            refused = await give(dana, "approve", plain, with_it)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, code)
        twice = await give(dana, "approve", plain, plain)
        assert (twice.status_code, twice.json()["error"]["code"]) == (422, "wrong_body")
    assert {(await desk.store.get(one.id)).verdicts for one in (plain, other, risky)} == {()}


async def test_a_batch_may_hold_fifty_calls(desk: Desk) -> None:
    """More are not looked through by anybody before they are approved."""
    record = await desk.hold({"n": 1})
    calls = [{"id": f"c_{number}", "digest": record.digest} for number in range(51)]
    async with desk.signed_in("dana") as dana:
        refused = await dana.post("/api/verdicts", json={"verdict": "approve", "calls": calls})
        unknown = await dana.post("/api/verdicts", json={"verdict": "approve", "calls": calls[:50]})
    assert refused.status_code == 422
    assert {one["error"]["code"] for one in unknown.json()["results"]} == {"call_not_found"}
