"""Tricks on the reviewer's hand and eye: clicked twice, held, pressed too early, swapped, pushed out of sight."""

from __future__ import annotations

import pytest
from playwright.async_api import Route, expect

from hitl_mcp.calls import Requirement, Status
from tests.samples import held
from tests.surfaces.desk import Desk
from tests.surfaces.seats import Seat

pytestmark = pytest.mark.needs("chromium")


async def test_a_double_click_is_one_verdict(desk: Desk, dana: Seat) -> None:
    """The second half of it neither approves again nor reaches what stands there next."""
    first, second = await desk.hold({"n": 1}), await desk.hold({"n": 2})
    await dana.sign_in("dana", f"&call={first.id}")
    await dana.ready_to_approve()
    box = await dana.approve.bounding_box()
    assert box is not None
    await dana.page.mouse.dblclick(box["x"] + 30, box["y"] + 20)
    await dana.sees(".headline", "Approved")
    assert len((await desk.store.get(first.id)).verdicts) == 1
    assert (await desk.store.get(second.id)).verdicts == ()
    assert await dana.read(".id") == first.id


async def test_keys_pressed_while_the_page_loads_decide_nothing(desk: Desk, dana: Seat) -> None:
    """Whoever is typing elsewhere when the call comes up, or holds Enter from the list on, approves nothing."""
    record = await desk.hold({"n": 1})
    await dana.page.clock.install()
    await dana.sign_in("dana")
    await dana.page.clock.pause_at(await dana.page.evaluate("Date.now() + 1000"))
    await dana.page.wait_for_selector("a.row")
    await dana.page.keyboard.press("j")
    for _ in range(3):
        await dana.page.keyboard.down("Enter")  # opens the call, and repeats
    await dana.page.wait_for_selector(".arguments .line")
    for _ in range(10):
        await dana.page.keyboard.down("Enter")
        for key in ("a", " ", "Tab", "A", "Shift+Tab"):
            await dana.page.keyboard.press(key)
    await dana.page.keyboard.up("Enter")
    assert (await desk.store.get(record.id)).verdicts == ()


async def test_what_changed_after_the_look_is_not_what_is_approved(desk: Desk, dana: Seat) -> None:
    """A page that heard nothing of it names the digest of what it showed, which is refused, and says so."""
    record = await desk.store.get((await desk.hold({"amount": 5}, held(Requirement("pay", quorum=2)))).id)
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()

    async def other_digest(route: Route) -> None:
        said = (route.request.post_data or "").replace(record.digest, "sha256:" + "0" * 64)
        await route.continue_(post_data=said)

    await dana.page.route("**/verdict", other_digest)
    await dana.approve.click()
    await dana.sees(".part-notice", "Not recorded")
    assert await desk.store.get(record.id) == record


async def test_a_verdict_that_is_sent_again_changes_nothing(desk: Desk, dana: Seat) -> None:
    """Replayed to the byte, by whoever recorded it: the call is settled, and stays as it is."""
    record = await desk.hold({"n": 1})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    async with dana.page.expect_request("**/verdict") as sent:
        await dana.approve.click()
    await dana.sees(".headline", "Approved")
    body = (await sent.value).post_data
    settled = await desk.store.get(record.id)
    async with desk.signed_in("dana") as http:
        url = f"/api/calls/{record.id}/verdict"
        again = await http.post(url, content=body, headers={"content-type": "application/json"})
        assert again.status_code == 409
    assert await desk.store.get(record.id) == settled


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"a": "harmless" + "\n" * 200_000 + "rm -rf /"}, id="two hundred thousand breaks"),
        pytest.param({"a": "harmless" + " " * 400_000 + "rm -rf /"}, id="four hundred thousand spaces"),
        pytest.param({"a": "harmless" + "\u3164" * 100_000 + "rm -rf /"}, id="a hundred thousand fillers"),
        pytest.param({"a": "harmless", "b": {"c" * 60: ["\t" * 90_000 + "rm -rf /"]}}, id="ninety thousand tabs"),
    ],
)
async def test_nothing_pushes_the_harmful_end_out_of_sight(desk: Desk, dana: Seat, payload: object) -> None:
    """What says nothing takes one place and is counted; the end stands right behind it."""
    record = await desk.hold(payload)
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments .line")
    await expect(dana.page.locator(".arguments .line", has_text="rm -rf /").first).to_be_in_viewport()
    text = await dana.read(".arguments")
    assert "×" in text and len(text) < 1000


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"a": ["\u202e\u200b"] * 40_000}, id="eighty thousand marks"),
        pytest.param({f"k{number}": number for number in range(30_000)}, id="thirty thousand members"),
        pytest.param({"a": "%41 " * 100_000}, id="a hundred thousand encoded words"),
    ],
)
async def test_what_is_too_much_to_show_can_be_rejected_and_nothing_else(
    desk: Desk, dana: Seat, payload: object
) -> None:
    """The page stays usable, says that it cannot be shown whole, and offers no approval."""
    record = await desk.hold(payload)
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments .line")
    await dana.page.keyboard.press("a")
    await expect(dana.approve).to_have_attribute("aria-disabled", "true")
    await dana.reject.click()
    await dana.page.click("#reject-send")
    await dana.sees(".headline", "Rejected by dana")
    after = await desk.store.get(record.id)
    assert (after.status, len(after.verdicts)) == (Status.REJECTED, 1)
