"""Deciding on the review page, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playwright.async_api import Browser, Route, expect

from hitl_mcp.calls import RUNS_ELSEWHERE, Outcome, Status, VerdictKind
from tests.samples import claim, held, verdict
from tests.surfaces.desk import Desk
from tests.surfaces.seats import PHONE, SIZES, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")


async def status_of(desk: Desk, call_id: str) -> Status:
    """Where a call stands in the store."""
    return (await desk.store.get(call_id)).status


async def test_what_cannot_be_shown_whole_cannot_be_approved(desk: Desk, dana: Seat) -> None:
    """The page says so; rejecting is still possible."""
    record = await desk.hold({"text": ["\u202e\u200b" * 3] * 4_000})
    await dana.page.clock.install()
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.sees(".part-hint", "Too long to be shown whole")
    await dana.page.locator(".arguments .end").scroll_into_view_if_needed()
    await expect(dana.page.locator(".arguments .end")).to_be_in_viewport()
    await dana.page.clock.run_for(5000)
    await expect(dana.approve).to_have_attribute("aria-disabled", "true")
    await dana.press_at(dana.approve)
    await dana.page.keyboard.press("a")
    assert (await desk.store.get(record.id)).verdicts == ()
    await dana.reject.click()
    await dana.page.click("#reject-send")
    await dana.sees(".headline", "Rejected by dana")


async def test_a_rejection_carries_its_reason(desk: Desk, dana: Seat) -> None:
    """The reason is stored as it was written, and shown."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.reject.click()
    await dana.page.fill("#reject-reason", "Write to the team list instead.\nThanks.")
    await dana.page.click("#reject-send")
    await dana.sees(".headline", "Rejected by dana")
    stored = await desk.store.get(record.id)
    assert stored.status is Status.REJECTED
    assert stored.verdicts[0].reason == "Write to the team list instead.\nThanks."
    await dana.sees(".quote", "Write to the team list instead.")
    await expect(dana.reject).to_be_hidden()


async def test_cancelling_a_rejection_does_nothing(desk: Desk, dana: Seat) -> None:
    """Escape closes the question and leaves the call as it was."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments")
    await dana.page.keyboard.press("r")
    await expect(dana.page.locator("#reject")).to_be_visible()
    await dana.page.keyboard.press("Escape")
    await expect(dana.page.locator("#reject")).to_be_hidden()
    await dana.sees(".id", record.id)
    assert (await desk.store.get(record.id)).verdicts == ()


@SIZES
async def test_a_quorum_fills_before_everyones_eyes(
    desk: Desk, browser: Browser, dana: Seat, viewport: dict[str, int]
) -> None:
    """One approval leaves it held and shows who gave it, on both pages; the second approves."""
    record = await desk.hold_payment({"amount": 5000})
    async with seat_at(desk, browser, viewport=viewport) as lee:
        await lee.sign_in("lee", f"&call={record.id}")
        await dana.sign_in("dana", f"&call={record.id}")
        await dana.ready_to_approve()
        await dana.approve.click()
        await dana.sees(".part-hint", "you approved it; it needs more people")
        assert await status_of(desk, record.id) is Status.HELD
        await lee.sees(".needs", "1 of 2: approved by dana")
        await expect(lee.page.locator(".dots .met")).to_have_count(1)
        await lee.ready_to_approve()
        await lee.approve.click()
        await lee.sees(".headline", "Approved")
        await dana.sees(".headline", "Approved")
    assert await status_of(desk, record.id) is Status.APPROVED


@SIZES
async def test_without_the_role_approve_is_not_offered(desk: Desk, browser: Browser, viewport: dict[str, int]) -> None:
    """The page says which role is needed; rejecting is open to every reviewer."""
    record = await desk.hold_payment({"amount": 5000})
    async with seat_at(desk, browser, viewport=viewport) as sam:
        await sam.sign_in("sam", f"&call={record.id}")
        await sam.sees(".part-hint", "it needs a reviewer with the role finance")
        await expect(sam.approve).to_be_hidden()
        await sam.page.keyboard.press("a")
        await expect(sam.reject).to_be_visible()
    assert (await desk.store.get(record.id)).verdicts == ()


@SIZES
async def test_a_call_settled_elsewhere_loses_its_buttons(desk: Desk, dana: Seat) -> None:
    """The true status stands there without reload."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await desk.store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT, "lee"))
    await dana.sees(".headline", "Rejected by lee")
    await expect(dana.approve).to_be_hidden()
    await expect(dana.reject).to_be_hidden()


@SIZES
async def test_a_verdict_that_came_too_late_is_answered_with_the_true_status(desk: Desk, dana: Seat) -> None:
    """A page that did not hear of it yet is told by the refusal, and shows it."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    deaf = True

    async def keep_out(route: Route) -> None:
        await (route.abort() if deaf else route.continue_())

    await dana.page.route("**/shown", keep_out)
    await desk.store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT, "lee"))
    settled = await desk.store.get(record.id)
    await dana.approve.click()
    await dana.sees(".part-notice", "Not recorded")
    assert "it was rejected by `lee`" in await dana.read(".part-notice")
    assert "The call is rejected." in await dana.read(".part-notice")
    deaf = False
    await desk.store.hand_over(record.id)
    await dana.page.reload()
    await dana.sees(".headline", "Rejected by lee")
    assert (await desk.store.get(record.id)).verdicts == settled.verdicts


async def test_the_keyboard_does_everything(desk: Desk, dana: Seat) -> None:
    """Choose with j and k, open with Enter, approve with a, reject with r, help with ?, back with Escape."""
    first = await desk.hold({"n": 1}, held(score=70), tool="one")
    second = await desk.hold({"n": 2}, held(score=10), tool="two")
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(2)
    for key in ("j", "j", "k"):
        await dana.page.keyboard.press(key)
    await dana.page.keyboard.press("Enter")
    await dana.sees(".id", first.id)
    await dana.ready_to_approve()
    await dana.page.keyboard.press("a")
    await dana.sees(".headline", "Approved")
    await dana.page.keyboard.press("j")
    await dana.page.keyboard.press("Enter")
    await dana.sees(".id", second.id)
    await dana.page.wait_for_selector(".arguments")
    await dana.page.keyboard.press("r")
    await dana.page.keyboard.type("not now")
    await dana.page.keyboard.press("Control+Enter")
    await dana.sees(".headline", "Rejected by dana")
    await dana.page.keyboard.press("?")
    await expect(dana.page.locator("#help")).to_be_visible()
    await dana.page.keyboard.press("Escape")
    await dana.page.keyboard.press("Escape")
    await expect(dana.page.locator("#detail")).to_contain_text("Choose a call")
    assert await status_of(desk, first.id) is Status.APPROVED
    assert await status_of(desk, second.id) is Status.REJECTED


async def test_single_keys_can_be_switched_off(desk: Desk, dana: Seat) -> None:
    """For people whose software types by itself."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await dana.page.keyboard.press("?")
    await dana.page.uncheck("#keys-on")
    await dana.page.click("#help-close")
    await dana.ready_to_approve()
    await dana.page.keyboard.press("a")
    await dana.page.keyboard.press("r")
    await expect(dana.page.locator("#reject")).to_be_hidden()
    assert (await desk.store.get(record.id)).verdicts == ()


async def test_on_a_phone_it_works_by_thumb(desk: Desk, browser: Browser) -> None:
    """One pane at a time, both buttons large at the bottom, nothing wider than the screen."""
    record = await desk.hold_payment({"amount": 5000})
    async with seat_at(desk, browser, viewport=PHONE, has_touch=True, is_mobile=True) as seat:
        await seat.sign_in("dana")
        await seat.waiting.first.tap()
        await seat.ready_to_approve()
        await expect(seat.page.locator("#list")).to_be_hidden()
        for button in (seat.approve, seat.reject):
            box = await button.bounding_box()
            assert box is not None and box["height"] >= 48 and box["width"] >= 140
            assert box["y"] > PHONE["height"] * 0.8
        assert await seat.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        await seat.approve.tap()
        await seat.sees(".part-hint", "you approved it")
        await seat.page.locator(".back").tap()
        await expect(seat.page.locator("#list")).to_be_visible()
    assert len((await desk.store.get(record.id)).verdicts) == 1


@SIZES
async def test_what_became_of_an_unknown_call_is_said_with_evidence(desk: Desk, dana: Seat) -> None:
    """Without evidence nothing is sent; with it the call is settled, on record with who found out and how."""
    record = await desk.hold({"to": "a@example.com"})
    await desk.store.add_verdict(record.id, verdict(record.digest))
    approved = await desk.store.get(record.id)
    assert await claim(desk.store, replace(approved, events=())) is not None
    lost = Outcome(Status.UNKNOWN, executed=True, at=record.created_at, detail="no answer came")
    await desk.store.settle(record.id, lost, durable=True)
    await dana.sign_in("dana", f"&call={record.id}")
    happened = dana.page.get_by_role("button", name="It happened")
    await happened.click()
    await dana.sees(".resolve", "Write how you know")
    assert await status_of(desk, record.id) is Status.UNKNOWN
    await dana.page.get_by_label("How do you know?").fill("The mail is in the outbox, 14:02.")
    await happened.click()
    await dana.sees(".headline", "It ran and succeeded")
    await expect(happened).to_be_hidden()
    after = await desk.store.get(record.id)
    assert after.outcome is not None
    assert after.outcome.detail == "it happened, as dana found: The mail is in the outbox, 14:02."
    assert after.events[-1].by == "reviewer:dana"


async def test_a_released_call_is_not_said_to_have_run(desk: Desk, dana: Seat) -> None:
    """Approved it waits for its agent, whose own program runs it; released, the page knows of no outcome."""
    names: dict[str, Any] = {"upstream": "claude-code", "tool": "Bash", "name": "claude-code__Bash"}
    elsewhere: dict[str, Any] = {"fingerprint": RUNS_ELSEWHERE, "definition": RUNS_ELSEWHERE}
    record = await desk.hold({"command": "make"}, **names, **elsewhere)
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await dana.press_at(dana.approve)
    await dana.sees(".headline", "Approved; it is released when the agent asks for it again")
    await dana.sees(f'a.row[data-id="{record.id}"] .state', "approved, until the agent asks again")
    assert await claim(desk.store, await desk.store.get(record.id)) is not None
    await dana.sees(
        ".headline", "Released: the agent's own program runs it itself, and what came of it is not known here"
    )
    await dana.sees(f'a.row[data-id="{record.id}"] .state', "released, the agent runs it itself")
    await expect(dana.page.locator(".card.outcome")).to_have_count(0)
    assert await status_of(desk, record.id) is Status.RELEASED
