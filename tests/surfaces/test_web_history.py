"""The history on the review page, in a real browser: searching, filtering, paging, addresses that can be sent on."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from hitl_mcp.calls import VerdictKind
from tests.samples import held, verdict
from tests.surfaces.desk import Desk
from tests.surfaces.seats import PHONE, Seat

pytestmark = pytest.mark.needs("chromium")

FOUND = "#history a.row"


async def three_calls(desk: Desk) -> list[str]:
    """One rejected by lee, one approved by dana, one that waits; gives their ids."""
    records = [
        await desk.hold({"to": f"{name}@example.com"}, tool=f"send{place}", name=f"mail__send{place}", agent=agent)
        for place, (name, agent) in enumerate((("ann", "builder"), ("bob", "painter"), ("eve", "painter")))
    ]
    await desk.store.add_verdict(records[0].id, verdict(records[0].digest, VerdictKind.REJECT, "lee"))
    await desk.store.add_verdict(records[1].id, verdict(records[1].digest, reviewer="dana"))
    return [record.id for record in records]


async def finds(seat: Seat, *ids: str) -> None:
    """Wait until the search found exactly these calls, in this order."""
    await expect(seat.page.locator(FOUND)).to_have_count(len(ids))
    for row, call_id in zip(await seat.page.locator(FOUND).all(), ids, strict=True):
        await expect(row).to_have_attribute("data-id", call_id)


async def found_by(seat: Seat, count: int) -> list[str]:
    """What the search found, once it is so many."""
    await expect(seat.page.locator(FOUND)).to_have_count(count)
    return [str(await row.get_attribute("data-id")) for row in await seat.page.locator(FOUND).all()]


async def test_the_history_is_searched_and_filtered(desk: Desk, dana: Seat) -> None:
    """By a text in the arguments, status, agent, tool and who answered; nothing found is said."""
    rejected, approved, waiting = await three_calls(desk)
    await dana.sign_in("dana")
    await dana.page.click("#nav >> text=History")
    await finds(dana, waiting, approved, rejected)
    search = dana.page.get_by_role("searchbox", name="Search in the arguments")
    await search.fill("bob@example")
    await search.press("Enter")
    await finds(dana, approved)
    assert dana.page.url.endswith("#history?q=bob%40example")
    await search.fill("nobody@example")
    await search.press("Enter")
    await dana.sees("#history .empty", "Nothing is like this.")
    await search.fill("")
    await search.press("Enter")
    await dana.page.click("#history >> text=Filters")
    await dana.page.locator("#history-status").select_option("rejected")
    await finds(dana, rejected)
    await dana.page.locator("#history-status").select_option("")
    await dana.page.locator("#history-reviewer").fill("dana")
    await dana.page.keyboard.press("Enter")
    await finds(dana, approved)
    await dana.page.locator("#history-reviewer").fill("")
    await dana.page.locator("#history-agent").fill("painter")
    await dana.page.locator("#history-name").fill("mail__send2")
    await dana.page.keyboard.press("Enter")
    await finds(dana, waiting)
    await expect(dana.page.locator("#history .filter .quiet")).to_have_text("Filters (2)")


async def test_a_search_has_an_address(desk: Desk, dana: Seat) -> None:
    """It opens with what was looked for, after signing in too, and the browser's way back leads through searches."""
    rejected, approved, _ = await three_calls(desk)
    await dana.page.goto(f"{desk.url}/#history?status=rejected")
    await dana.sees("#sign-in", "Sign in to review")
    await dana.page.goto(await desk.link("dana"))
    await finds(dana, rejected)
    assert dana.page.url == f"{desk.url}/#history?status=rejected"
    await dana.page.evaluate("location.hash = 'history?q=bob'")
    await finds(dana, approved)
    await expect(dana.page.locator("#history-q")).to_have_value("bob")
    await dana.page.locator(FOUND).click()
    await dana.sees(".id", approved)
    await expect(dana.page.locator("#nav [aria-current]")).to_contain_text("History")
    await dana.page.go_back()
    await dana.page.go_back()
    await finds(dana, rejected)


async def test_the_history_is_read_page_by_page(desk: Desk, dana: Seat) -> None:
    """Fifty rows, then the next when asked for; calls made meanwhile wait behind a button, and nothing moves."""
    for number in range(60):
        await desk.hold({"n": number}, held(score=number), tool=f"tool{number}")
    await dana.sign_in("dana", "&history")
    first = await found_by(dana, 50)
    await desk.hold({"n": 60}, tool="new")
    await expect(dana.page.locator("#history .show-new")).to_have_text("Show 1 new")
    assert await found_by(dana, 50) == first
    await dana.page.click("#history >> text=Show more")
    assert (await found_by(dana, 60))[:50] == first
    await expect(dana.page.locator("#history .show-more")).to_be_hidden()
    await dana.page.keyboard.press("n")
    assert len(set(await found_by(dana, 50)) - set(first)) == 1


async def test_rows_of_the_history_say_how_calls_stand_now(desk: Desk, dana: Seat) -> None:
    """An answer that somebody gives elsewhere shows without reload."""
    record = await desk.hold({"n": 1})
    await dana.sign_in("dana", "&history")
    await dana.sees(FOUND, "needs approval")
    await desk.store.add_verdict(record.id, verdict(record.digest, VerdictKind.REJECT, "lee"))
    await dana.sees(FOUND, "rejected")


async def test_a_search_that_the_gateway_refuses_says_why(desk: Desk, dana: Seat) -> None:
    """A status that there is not, as in a mistyped address: the page says so, and the next search works."""
    record = await desk.hold({"n": 1})
    await dana.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await dana.sign_in("dana", "&history&status=no-such-status")
    await dana.sees("#history .empty", "The gateway cannot search for this")
    await dana.page.evaluate("location.hash = 'history'")
    await finds(dana, record.id)
