"""Verdicts on the review page beside plain approving: ready reasons, stopping, passing on, undoing, and races."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from playwright.async_api import Browser, expect

from hitl_mcp.calls import Status, VerdictKind
from tests.clocks import HandClock
from tests.samples import held, verdict
from tests.surfaces.desk import Desk
from tests.surfaces.seats import SIZES, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")


@SIZES
async def test_a_ready_reason_can_be_changed_before_it_is_sent(
    desk: Desk, browser: Browser, viewport: dict[str, int]
) -> None:
    """One click fills it in; what is sent is what stands in the field then, and the next call is one key away."""
    record = await desk.hold({"to": "a@example.com"})
    other = await desk.hold({"to": "b@example.com"})
    async with seat_at(desk, browser, viewport=viewport) as seat:
        await seat.sign_in("dana", f"&call={record.id}")
        await seat.reject.click()
        await seat.page.get_by_role("button", name="Wrong recipient or target").click()
        await seat.page.keyboard.press("End")
        await seat.page.keyboard.type(" It is not Ann.")
        await seat.page.click("#reject-send")
        await seat.sees(".part-notice", "Rejected. It will not run.")
        stored = await desk.store.get(record.id)
        assert stored.verdicts[0].reason.startswith("Wrong recipient or target.")
        assert stored.verdicts[0].reason.endswith(" It is not Ann.")
        await expect(seat.page.locator("button.next")).to_be_focused()
        await seat.page.keyboard.press("s")
        await seat.sees(".id", other.id)


@SIZES
async def test_rejecting_and_stopping_says_what_follows_and_stops_the_agent(
    desk: Desk, browser: Browser, viewport: dict[str, int]
) -> None:
    """Before anything is sent the consequences stand there; afterwards the agent is stopped, and others see by whom."""
    record = await desk.hold({"to": "a@example.com"})
    async with seat_at(desk, browser, viewport=viewport) as seat:
        await seat.sign_in("dana", f"&call={record.id}")
        await seat.page.wait_for_selector(".arguments .line")
        await seat.page.keyboard.press("m")
        await seat.page.get_by_role("button", name="Reject, and stop builder").click()
        await seat.sees(".consequences", "is denied at once")
        await seat.page.uncheck("#reject-stop")
        assert await seat.page.locator(".consequences li").count() == 0
        await seat.page.check("#reject-stop")
        await seat.page.fill("#reject-reason", "It was told three times.")
        await seat.page.get_by_role("button", name="Reject and stop builder").click()
        await seat.sees(".part-notice", "Its agent is stopped until somebody releases it")
        async with desk.signed_in("lee") as lee:
            (stop,) = (await lee.get("/api/stops")).json()["stops"]
    assert (stop["agent"], stop["by"], stop["call_id"]) == ("builder", "dana", record.id)
    assert (await desk.store.get(record.id)).status is Status.REJECTED


@SIZES
async def test_a_call_is_passed_on_to_a_role(desk: Desk, browser: Browser, viewport: dict[str, int]) -> None:
    """It then needs somebody with that role too; an approval by others is not enough any more."""
    record = await desk.hold({"to": "a@example.com"})
    async with seat_at(desk, browser, viewport=viewport) as dana, seat_at(desk, browser) as sam:
        await dana.sign_in("dana", f"&call={record.id}")
        await dana.page.wait_for_selector(".arguments .line")
        await dana.page.click("button.more")
        await dana.page.get_by_role("button", name="Pass on to a role").click()
        await dana.page.select_option("#reassign-role", "support")
        await dana.page.fill("#reassign-reason", "Support knows this address.")
        await dana.page.click("#reassign-send")
        await dana.sees(".part-notice", "a reviewer with the role support has to approve it too")
        await dana.sees(".needs", "1 approval by support")
        await sam.sign_in("sam", f"&call={record.id}")
        await dana.ready_to_approve()
        await dana.approve.click()
        await dana.sees(".part-hint", "you approved it")
        assert (await desk.store.get(record.id)).status is Status.HELD
        await sam.ready_to_approve()
        await sam.approve.click()
        await sam.sees(".headline", "Approved")
        await dana.sees(".part-notice", "Decided while you looked. Approved")


@SIZES
async def test_an_approval_is_undone_while_it_can_be(desk: Desk, browser: Browser, viewport: dict[str, int]) -> None:
    """The time left stands on the button; undone, it never runs, and Approve does not come back."""
    record = await desk.hold({"to": "a@example.com"}, held(undo_seconds=60))
    async with seat_at(desk, browser, viewport=viewport) as seat:
        await seat.sign_in("dana", f"&call={record.id}")
        await seat.ready_to_approve()
        await seat.approve.click()
        await seat.sees(".part-notice", "It can still be undone")
        await expect(seat.page.locator(".undo")).to_contain_text("left")
        await seat.page.click(".undo")
        await seat.sees(".part-notice", "Undone. It will not run.")
        await expect(seat.approve).to_be_hidden()
        await expect(seat.page.locator(".undo")).to_be_hidden()
    assert (await desk.store.get(record.id)).status is Status.REJECTED


@SIZES
async def test_what_others_decide_meanwhile_is_said_loudly(desk: Desk, browser: Browser, dana: Seat) -> None:
    """Somebody else rejects while one writes a rejection of one's own: the dialog closes, the buttons are gone."""
    record = await desk.hold({"to": "a@example.com"})
    async with seat_at(desk, browser) as lee:
        await lee.sign_in("lee", f"&call={record.id}")
        await dana.sign_in("dana", f"&call={record.id}")
        await dana.reject.click()
        await dana.page.fill("#reject-reason", "not this")
        await lee.reject.click()
        await lee.page.click("#reject-send")
        await dana.sees(".part-notice .loud", "Decided while you looked. Rejected by lee; it was not run.")
        await expect(dana.page.locator("#reject")).to_have_count(0)
        for button in ("button.approve", "button.reject", "button.edit", "button.more"):
            await expect(dana.page.locator(button)).to_be_hidden()
        assert await lee.page.locator(".loud").count() == 0
    assert [given.reviewer for given in (await desk.store.get(record.id)).verdicts] == ["lee"]


@SIZES
async def test_who_press_at_the_same_moment_see_the_same_end(
    desk: Desk, browser: Browser, dana: Seat, viewport: dict[str, int]
) -> None:
    """One approves while the other rejects: nobody is shown anything but what the record says."""
    record = await desk.hold({"to": "a@example.com"}, held(undo_seconds=60))
    async with seat_at(desk, browser, viewport=viewport) as lee:
        await lee.sign_in("lee", f"&call={record.id}")
        await dana.sign_in("dana", f"&call={record.id}")
        await lee.reject.click()
        await lee.page.fill("#reject-reason", "not this")
        await dana.ready_to_approve()
        async with anyio.create_task_group() as hands:
            hands.start_soon(dana.approve.click)
            hands.start_soon(lee.page.locator("#reject-send").click)
        for seat in (dana, lee):
            await seat.sees(".headline", "Rejected by lee")
            await expect(seat.approve).to_be_hidden()
    settled = await desk.store.get(record.id)
    assert settled.status is Status.REJECTED
    assert settled.verdicts[-1].reviewer == "lee"


@SIZES
async def test_two_tabs_give_one_verdict(desk: Desk, dana: Seat) -> None:
    """The second tab of the same reviewer is told, and its approval never counts twice."""
    record = await desk.hold_payment({"amount": 5000})
    await dana.sign_in("dana", f"&call={record.id}")
    page = await dana.page.context.new_page()
    tab = replace(dana, page=page)
    await page.goto(f"{desk.url}/#call={record.id}")
    await tab.ready_to_approve()
    await dana.page.bring_to_front()
    await dana.ready_to_approve()
    await dana.approve.click()
    await dana.sees(".part-hint", "you approved it")
    await tab.sees(".part-hint", "you approved it")
    await expect(tab.approve).to_be_hidden()
    assert len((await desk.store.get(record.id)).verdicts) == 1


@SIZES
async def test_a_call_that_expires_while_one_looks_loses_its_buttons(desk: Desk, dana: Seat, clock: HandClock) -> None:
    """An approval that comes too late is answered with the true status, and nothing runs."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    clock.forward(601)
    await dana.approve.click()
    await dana.sees(".part-notice", "The call is expired.")
    await expect(dana.approve).to_be_hidden()
    await expect(dana.reject).to_be_hidden()
    assert (await desk.store.get(record.id)).status is Status.EXPIRED


async def test_the_second_half_of_a_double_click_does_nothing(desk: Desk, dana: Seat) -> None:
    """`Next waiting call` comes where Approve was; it takes no click for 600 ms."""
    record = await desk.hold({"to": "a@example.com"})
    await desk.hold({"to": "b@example.com"})
    await dana.page.clock.install()
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments .line")
    await dana.page.clock.run_for(2000)
    await dana.page.clock.pause_at(await dana.page.evaluate("Date.now() + 1000"))
    await dana.approve.click()
    await dana.sees(".headline", "Approved")
    await dana.page.locator("button.next").click()
    await dana.page.keyboard.press("Enter")
    await dana.sees(".id", record.id)
    await dana.page.clock.run_for(600)
    await dana.page.locator("button.next").click()
    await expect(dana.page.locator(f".id:text-is('{record.id}')")).to_have_count(0)


async def test_a_verdict_of_which_no_answer_came_is_not_called_recorded(desk: Desk, dana: Seat) -> None:
    """The page says that nobody knows, and looks the call up again."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await dana.page.route("**/verdict", lambda route: route.abort())
    await dana.approve.click()
    await dana.sees(".part-notice", "nobody knows whether it was recorded")
    await dana.page.unroute("**/verdict")
    await desk.store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT, "lee"))
    await dana.sees(".headline", "Rejected by lee")
