"""Several calls answered together on the review page, in a real browser."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from hitl_mcp.calls import Status, VerdictKind
from tests.samples import held, verdict
from tests.surfaces.desk import Desk
from tests.surfaces.full_desk import batch_of
from tests.surfaces.seats import Seat

pytestmark = pytest.mark.needs("chromium")


async def statuses(desk: Desk, ids: list[str]) -> list[Status]:
    """How calls stand in the store."""
    return [(await desk.store.get(one)).status for one in ids]


async def test_calls_of_one_tool_are_approved_together(desk: Desk, dana: Seat) -> None:
    """Chosen in the list, each listed whole before, one press; each has a verdict of its own."""
    ids = await batch_of(desk)
    heavy = await desk.hold({"to": "x@example.com"}, held(score=50))
    other = await desk.hold({"n": 1}, held(score=5), tool="archive", name="mail__archive")
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(5)
    await dana.page.click("text=Choose several")
    for one in ids:
        await dana.page.check(f"#box-{one}")
    await expect(dana.page.locator(f"#box-{heavy.id}")).to_be_disabled()
    await expect(dana.page.locator(f"#box-{other.id}")).to_be_disabled()
    await dana.sees(".chosen", "3 of mail / send")
    await dana.page.click("text=Review them together")
    cards = dana.page.locator("#view-batch .arguments")
    await expect(cards).to_have_count(3)
    assert [f"member{place}@example.com" in text for place, text in enumerate(await cards.all_inner_texts())] == [
        True
    ] * 3
    await dana.page.locator("#view-batch .end").scroll_into_view_if_needed()
    await dana.ready_to_approve()
    await dana.approve.click()
    await dana.sees("#view-batch .part-hint", "3 of 3 approved.")
    assert await statuses(desk, ids) == [Status.APPROVED] * 3
    for one in ids:
        assert [given.reviewer for given in (await desk.store.get(one)).verdicts] == ["dana"]
    assert await statuses(desk, [heavy.id, other.id]) == [Status.HELD] * 2


async def test_together_too_approve_is_inert_until_it_stood_still(desk: Desk, dana: Seat) -> None:
    """The key and the click do nothing before, whatever is chosen."""
    ids = await batch_of(desk)
    await dana.page.clock.install()
    await dana.sign_in("dana")
    await dana.page.clock.pause_at(await dana.page.evaluate("Date.now() + 1000"))
    await dana.go(f"batch={','.join(ids)}", "#view-batch .arguments")
    await dana.page.keyboard.press("a")
    await dana.press_at(dana.approve)
    assert await statuses(desk, ids) == [Status.HELD] * 3


async def test_what_is_not_what_it_seems_is_left_out(desk: Desk, dana: Seat) -> None:
    """Hidden characters, many points, another tool, a call that was settled: each with why, none of them approved."""
    ids = await batch_of(desk, 2)
    odd = await desk.hold({"to": "a\u202eb"}, held(score=10))
    heavy = await desk.hold({"to": "y@example.com"}, held(score=60))
    other = await desk.hold({"n": 1}, held(score=5), tool="archive", name="mail__archive")
    gone = await desk.hold({"to": "z@example.com"}, held(score=10))
    await desk.store.add_verdict(gone.id, verdict(gone.digest, VerdictKind.REJECT, "lee"))
    left = [odd.id, heavy.id, other.id, gone.id]
    await dana.sign_in("dana", f"&batch={','.join([*ids, *left])}")
    await expect(dana.page.locator("#view-batch .arguments")).to_have_count(2)
    said = await dana.read("#view-batch .notes")
    for why in ("characters in it are marked", "it has 60 points", "it is of another tool", "it is rejected"):
        assert why in said
    await dana.page.locator("#view-batch .end").scroll_into_view_if_needed()
    await dana.ready_to_approve()
    await dana.approve.click()
    await dana.sees("#view-batch .part-hint", "2 of 2 approved.")
    assert await statuses(desk, left) == [Status.HELD, Status.HELD, Status.HELD, Status.REJECTED]


async def test_one_that_was_settled_meanwhile_says_so(desk: Desk, dana: Seat) -> None:
    """The others are rejected with the reason; its own card says how it stands."""
    ids = await batch_of(desk)
    await dana.sign_in("dana", f"&batch={','.join(ids)}")
    await expect(dana.page.locator("#view-batch .arguments")).to_have_count(3)
    first = await desk.store.get(ids[0])
    await desk.store.add_verdict(first.id, verdict(first.digest, VerdictKind.REJECT, "lee", reason="mine"))
    await dana.page.fill("#batch-reason", "Use the list.")
    await dana.page.click("#view-batch button.reject")
    await dana.sees("#view-batch .part-hint", "2 of 3 rejected.")
    await dana.sees("#view-batch .problem", "Not recorded")
    stored = [await desk.store.get(one) for one in ids]
    assert [record.verdicts[0].reason for record in stored] == ["mine", "Use the list.", "Use the list."]


async def test_the_keyboard_chooses(desk: Desk, dana: Seat) -> None:
    """`x` begins, and chooses or leaves out the call with the focus."""
    ids = await batch_of(desk, 2)
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(2)
    for key in ("j", "x", "j", "x"):
        await dana.page.keyboard.press(key)
    await dana.sees(".chosen", "2 of mail / send")
    await dana.page.keyboard.press("x")
    await dana.sees(".chosen", "1 of mail / send")
    assert await statuses(desk, ids) == [Status.HELD] * 2
