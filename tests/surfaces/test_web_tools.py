"""Tools that changed, on the review page in a real browser: everyone is told, and sees what."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from hitl_mcp.canonical import digest_of
from tests.surfaces.changed_tools import AFTER, change, offer
from tests.surfaces.desk import Desk
from tests.surfaces.seats import PHONE, Seat, seat_at
from tests.surfaces.test_web_looks import CONTRAST, SCREENSHOTS

pytestmark = pytest.mark.needs("chromium")


async def test_everyone_is_told_of_a_changed_tool_and_sees_what_changed(desk: Desk, dana: Seat) -> None:
    """A notice appears by itself, and leads to the difference: nothing hidden in it, and how it is accepted."""
    await dana.sign_in("dana")
    await change(desk)
    await dana.sees(".banner", "Blocked, being no longer as accepted: mail__send_mail")
    await dana.page.click("text=See what changed")
    await dana.sees(".change h3", "mail__send_mail")
    assert "It leaves at once and cannot be called back." in await dana.read(".diff .line.gone")
    new = " ".join(await dana.page.locator(".diff .line.new").all_inner_texts())
    assert "U+200B" in new and "U+202E" in new and "audit@examp1e.org" in new
    assert not set(await dana.read(".change")) & set("\u200b\u202e")
    await dana.sees(".diff .line.new .changed", "always goes to")
    await dana.sees(".change pre", "hitl-mcp tools accept mail__send_mail")
    await expect(dana.page.locator(".change button")).to_have_count(0)


async def test_an_accepted_change_leaves_the_page_by_itself(desk: Desk, dana: Seat) -> None:
    """The notice goes, and whoever reads the difference is told that there is none any more."""
    await change(desk)
    await dana.sign_in("dana")
    await dana.page.evaluate("location.hash = 'tools'")
    await dana.sees(".change h3", "mail__send_mail")
    answer = await desk.control.post("/api/tools/accept", json={"name": "mail__send_mail", "digest": digest_of(AFTER)})
    assert answer.json()["state"] == "changed"  # until the catalog, which this desk has not, looks again
    desk.parts.pins.take_in(offer(AFTER))
    await desk.store.note("tool-looked-at", "")
    await dana.sees("#view-tools", "Every tool is as it was accepted.")
    await expect(dana.page.locator(".banner")).to_have_count(0)


async def test_an_ended_call_says_why(desk: Desk, dana: Seat) -> None:
    """What was held of the tool is no longer valid, and its page says that the tool changed."""
    record = await desk.hold({"to": ["a@example.com"]}, tool="send_mail", name="mail__send_mail")
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await change(desk)
    await dana.sees(".headline", "No longer valid")
    await dana.sees(".part-head", "the definition of `mail__send_mail` changed since it was accepted")
    await expect(dana.approve).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_changed_is_legible(desk: Desk, browser: Browser, tmp_path: Path, scheme: str) -> None:
    """Enough contrast in both themes, and nothing wider than a phone."""
    await change(desk)
    async with seat_at(desk, browser, color_scheme=scheme) as seat:
        await seat.sign_in("dana", "&tools")
        await seat.sees(".change h3", "mail__send_mail")
        assert await seat.page.evaluate(CONTRAST) == []
        await seat.page.screenshot(path=Path(SCREENSHOTS or tmp_path) / f"tools-1280-{scheme}.png")
        await seat.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        assert await seat.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        await seat.page.screenshot(path=Path(SCREENSHOTS or tmp_path) / f"tools-360-{scheme}.png")
        await seat.page.locator(".back").click()
        await expect(seat.page.locator("#list")).to_be_visible()
