"""When Approve may be pressed, in a real browser: not by a hand that meant something else, nor before all was seen."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from hitl_mcp.calls import CallRecord, Status
from tests.surfaces.desk import Desk
from tests.surfaces.seats import HARD, PHONE, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")

SMALLEST = {"width": 320, "height": 480}
"""The narrowest screen the page is made for; also what a desktop of 1280 pixels has left at a zoom of 400 %."""

LONG = {f"argument-{number:02}": f"value {number}" for number in range(60)}
"""More lines than any screen of these tests has."""


async def approvals(desk: Desk, record: CallRecord) -> int:
    """How many verdicts are on record."""
    return len((await desk.store.get(record.id)).verdicts)


async def standing_still(seat: Seat, record: CallRecord) -> None:
    """The call open and Approve ready, with time in the page's hands from here on."""
    await seat.sign_in("dana", f"&call={record.id}")
    await seat.ready_to_approve()
    await seat.page.clock.install()
    await seat.page.clock.pause_at(await seat.page.evaluate("Date.now() + 1000"))
    await seat.page.clock.run_for(1000)
    await seat.ready_to_approve()


async def test_a_click_at_599_ms_does_nothing_and_one_at_601_ms_approves(desk: Desk, dana: Seat) -> None:
    """However it is pressed: with the mouse, the letter, the keyboard on the button, or by a script."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.page.clock.install()
    await dana.sign_in("dana")
    await dana.page.clock.pause_at(await dana.page.evaluate("Date.now() + 1000"))
    await dana.open(record.id)
    while not await dana.page.locator("button.approve.arming").count():  # seen at two looks, and able from then on
        await dana.page.clock.run_for(1)
    await dana.page.clock.run_for(599)
    await dana.press_at(dana.approve)
    await dana.page.keyboard.press("a")
    await dana.approve.evaluate("button => button.click()")
    await dana.approve.evaluate("button => button.focus()")
    await dana.page.keyboard.press("Enter")
    await dana.page.keyboard.press(" ")
    await expect(dana.approve).to_have_attribute("aria-disabled", "true")
    assert await approvals(desk, record) == 0
    await dana.page.clock.run_for(2)
    await dana.press_at(dana.approve)
    await dana.sees(".headline", "Approved")
    assert (await desk.store.get(record.id)).status is Status.APPROVED


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("document.querySelector('.actions').style.paddingRight = '200px'", id="it moved"),
        pytest.param("document.querySelector('.approve').style.paddingTop = '30px'", id="it grew"),
        pytest.param("document.querySelector('.approve').firstChild.data = 'Reject'", id="its text changed"),
        pytest.param("window.dispatchEvent(new Event('focus'))", id="the window came back"),
        pytest.param("document.dispatchEvent(new Event('visibilitychange'))", id="the tab came back"),
        pytest.param("document.getElementById('help').showModal()", id="something stands before it"),
    ],
)
async def test_approve_is_inert_again_after(desk: Desk, dana: Seat, change: str) -> None:
    """A press that comes right after takes it for something else; nobody need have noticed the change before."""
    record = await desk.hold({"to": "a@example.com"})
    await standing_still(dana, record)
    await dana.page.evaluate(change)
    await dana.press_at(dana.approve)
    await dana.approve.evaluate("button => button.click()")
    await expect(dana.approve).to_have_attribute("aria-disabled", "true")
    await dana.page.evaluate("document.getElementById('help').close()")
    await dana.page.clock.run_for(599)
    await dana.press_at(dana.approve)
    assert await approvals(desk, record) == 0
    await dana.page.clock.run_for(700)
    await dana.press_at(dana.approve)
    await dana.sees(".headline", "Approved")


async def test_a_press_that_began_too_early_does_not_end_as_an_approval(desk: Desk, dana: Seat) -> None:
    """A button held down from before, and a key that is held and repeats, are no decision made in sight of it."""
    record = await desk.hold({"to": "a@example.com"})
    await standing_still(dana, record)
    await dana.page.evaluate("window.dispatchEvent(new Event('focus'))")
    box = await dana.approve.bounding_box()
    assert box is not None
    await dana.page.mouse.move(box["x"] + 20, box["y"] + 20)
    await dana.page.mouse.down()
    await dana.page.clock.run_for(1000)
    await dana.page.mouse.up()
    assert await approvals(desk, record) == 0
    await dana.approve.evaluate("button => button.focus()")
    for key in ("Enter", "a"):
        await dana.page.evaluate("window.dispatchEvent(new Event('focus'))")
        await dana.page.keyboard.down(key)  # too early, and then it repeats
        await dana.page.clock.run_for(1000)
        for _ in range(5):
            await dana.page.keyboard.down(key)
        await dana.page.keyboard.up(key)
    assert await approvals(desk, record) == 0
    await dana.page.keyboard.press("Enter")
    await dana.sees(".headline", "Approved")


async def test_who_jumps_to_the_end_has_not_seen_the_middle(desk: Desk, dana: Seat) -> None:
    """Every line must have been on the screen; scrolling through by keyboard is enough, from wherever one came."""
    record = await desk.hold(LONG)
    await dana.page.clock.install()
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.sees(".part-hint", "Read to the end of the arguments to approve")
    await dana.page.keyboard.press("End")
    await expect(dana.page.locator(".arguments .end")).to_be_in_viewport()
    await dana.page.clock.run_for(5000)
    await dana.press_at(dana.approve)
    await dana.page.keyboard.press("a")
    await expect(dana.approve).to_have_attribute("aria-disabled", "true")
    assert await approvals(desk, record) == 0
    await dana.page.locator("#detail .scroll").focus()
    await _scroll_through(dana, "PageUp")
    await dana.page.clock.run_for(1000)
    await dana.ready_to_approve()
    await dana.press_at(dana.approve)
    await dana.sees(".headline", "Approved")


@pytest.mark.parametrize("zoom", [1, 2])
async def test_on_the_smallest_screen_all_of_it_is_seen_by_keyboard_too(
    desk: Desk, browser: Browser, zoom: float
) -> None:
    """A line taller than the screen counts from its top to its bottom; what is folded was not seen until it is open."""
    record = await desk.hold({"a": HARD["text"], "z": "the end"})
    async with seat_at(desk, browser, viewport=SMALLEST) as seat:
        await seat.page.clock.install()
        await seat.sign_in("dana", f"&call={record.id}")
        await seat.page.evaluate(f"document.documentElement.style.fontSize = '{16 * zoom}px'")
        await seat.page.wait_for_selector(".arguments")
        await seat.page.locator(".arguments .end").scroll_into_view_if_needed()
        await expect(seat.page.locator(".arguments .end")).to_be_in_viewport()
        await seat.page.keyboard.press("a")
        await expect(seat.approve).to_have_attribute("aria-disabled", "true")
        await seat.page.locator(".arguments .unfold").first.click()
        await seat.page.locator(".arguments .card-head").scroll_into_view_if_needed()
        await seat.page.keyboard.press("a")
        await expect(seat.approve).to_have_attribute("aria-disabled", "true")
        assert await approvals(desk, record) == 0
        await seat.page.locator("#detail .scroll").focus()
        await _scroll_through(seat, "PageUp")
        await _scroll_through(seat, "PageDown")
        await seat.ready_to_approve()
        assert await seat.page.evaluate("document.documentElement.scrollWidth") <= SMALLEST["width"]
        await seat.approve.click()
        await seat.sees(".headline", "Approved")


async def test_on_a_phone_the_payload_is_seen_by_thumb(desk: Desk, browser: Browser) -> None:
    """Taps and swipes do what keys do; before the end Approve takes no tap."""
    record = await desk.hold(LONG)
    async with seat_at(desk, browser, viewport=PHONE, has_touch=True, is_mobile=True) as seat:
        await seat.page.clock.install()
        await seat.sign_in("dana", f"&call={record.id}")
        await seat.sees(".part-hint", "Read to the end of the arguments to approve")
        await seat.press_at(seat.approve)
        assert await approvals(desk, record) == 0
        await seat.page.mouse.move(100, 300)
        for _ in range(30):
            await seat.page.mouse.wheel(0, 200)
            await seat.page.evaluate("new Promise(requestAnimationFrame)")
            await seat.page.clock.run_for(250)
        await seat.ready_to_approve()
        await seat.approve.tap()
        await seat.sees(".headline", "Approved")


async def test_the_raw_view_must_be_seen_whole_as_well(desk: Desk, dana: Seat) -> None:
    """It is one long line: having seen some of the tree and some of the raw text is not having seen all."""
    record = await desk.hold(LONG)
    await dana.page.clock.install()
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments")
    await dana.page.set_viewport_size({"width": 360, "height": 400})
    await dana.page.keyboard.press("v")
    await dana.page.locator(".arguments .end").scroll_into_view_if_needed()
    await expect(dana.page.locator(".arguments .end")).to_be_in_viewport()
    await dana.page.clock.run_for(500)
    await dana.page.keyboard.press("a")
    await expect(dana.approve).to_have_attribute("aria-disabled", "true")
    await dana.page.locator("#detail .scroll").focus()
    await _scroll_through(dana, "PageUp")
    await dana.page.wait_for_selector("button.approve[aria-disabled=false]")
    assert await approvals(desk, record) == 0


_ROOM = """key => {
  const { scrollTop, scrollHeight, clientHeight } = document.querySelector(".scroll");
  return key === "PageUp" ? scrollTop : scrollHeight - clientHeight - scrollTop;
}"""
_LISTEN = """() => {
  const scroller = document.querySelector(".scroll");
  window.scrolled = new Promise((done) => scroller.addEventListener("scrollend", done, { once: true }));
}"""


async def _scroll_through(seat: Seat, key: str) -> None:
    """Press a key that scrolls until nothing is left in its direction, and look for a moment each time."""
    while await seat.page.evaluate(_ROOM, key) > 1:
        await seat.page.evaluate(_LISTEN)
        await seat.page.keyboard.press(key)
        await seat.page.evaluate("window.scrolled.then(() => null)")  # it may scroll smoothly, and begin late
        await seat.page.clock.run_for(250)
