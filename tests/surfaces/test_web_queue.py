"""The queue on the review page, in a real browser: its order, what is folded and grouped, what the filters leave."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from hitl_mcp.calls import Decision, Requirement
from tests.samples import held, verdict
from tests.surfaces.desk import Desk
from tests.surfaces.seats import Seat, seat_at

pytestmark = pytest.mark.needs("chromium")


async def ids_of(seat: Seat) -> list[str]:
    """The calls that wait, as they stand on screen."""
    return [str(await row.get_attribute("data-id")) for row in await seat.waiting.all()]


async def test_the_most_urgent_stands_first(desk: Desk, dana: Seat) -> None:
    """Little time left and many points: half the time weighs as much as twice the points."""
    soon = await desk.hold({"n": 1}, held(score=30, expires_in_seconds=600))
    late = await desk.hold({"n": 2}, held(score=30, expires_in_seconds=3600))
    heavy = await desk.hold({"n": 3}, held(score=90, expires_in_seconds=1200))
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(3)
    assert await ids_of(dana) == [heavy.id, soon.id, late.id]


async def test_critical_calls_look_different_by_more_than_colour(desk: Desk, dana: Seat) -> None:
    """From 75 points a row says so in a word, and has another edge; below it does not."""
    await desk.hold({"n": 1}, held(score=75))
    await desk.hold({"n": 2}, held(score=74))
    await dana.sign_in("dana")
    await expect(dana.page.locator("a.row .critical")).to_have_count(1)
    assert "critical" in await dana.waiting.nth(0).inner_text()
    edge = "row => getComputedStyle(row).borderLeftStyle"
    assert [await row.evaluate(edge) for row in await dana.waiting.all()] == ["double", "solid"]


async def test_calls_that_are_alike_are_folded(desk: Desk, dana: Seat) -> None:
    """The same tool with the same arguments, by whomever: one row, and the others one press away."""
    first = await desk.hold({"to": "a@example.com"}, held(score=60), agent="one")
    others = [await desk.hold({"to": "a@example.com"}, held(score=50 - n), agent=f"agent{n}") for n in range(2)]
    other = await desk.hold({"to": "b@example.com"}, held(score=10), agent="one")
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(2)
    assert await ids_of(dana) == [first.id, other.id]
    fold = dana.page.get_by_role("button", name="2 more alike")
    await expect(fold).to_have_attribute("aria-expanded", "false")
    await fold.click()
    assert await ids_of(dana) == [first.id, *(one.id for one in others), other.id]
    await expect(dana.page.get_by_role("button", name="Fold those alike")).to_be_focused()
    await dana.page.keyboard.press("Enter")
    await expect(dana.waiting).to_have_count(2)


async def test_a_flood_that_differs_in_numbers_only_is_folded(desk: Desk, dana: Seat) -> None:
    """Three such calls stand by themselves, four are one row; critical or not, the most urgent is the one on top."""
    records = [await desk.hold({"page": number}, held(score=20 + number)) for number in range(3)]
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(3)
    records.append(await desk.hold({"page": 3}, held(score=90)))
    await dana.page.click(".show-new")
    await expect(dana.waiting).to_have_count(1)
    assert await ids_of(dana) == [records[3].id]
    await dana.page.click("text=3 more alike")
    assert await ids_of(dana) == [record.id for record in reversed(records)]


async def test_the_queue_is_grouped_by_agent_or_tool(desk: Desk, dana: Seat) -> None:
    """Each group under its name, a link to its page; the choice is still there after a reload."""
    await desk.hold({"n": 1}, held(score=90), agent="painter")
    await desk.hold({"n": 2}, held(score=80))
    await desk.hold_payment({"n": 3})
    await dana.sign_in("dana")
    await dana.page.click("text=Filters")
    await dana.page.select_option("#filter-group", "agent")
    await expect(dana.page.locator(".subhead h3")).to_have_text(["painter", "builder"])
    await dana.page.select_option("#filter-group", "tool")
    await expect(dana.page.locator(".subhead h3")).to_have_text(["mail / send", "payments / pay"])
    await expect(dana.page.locator(".subhead .muted")).to_have_text(["2 waiting", "1 waiting"])
    assert await dana.page.locator(".subhead a").nth(1).get_attribute("href") == "#used=payments__pay"
    await dana.page.reload()
    await expect(dana.page.locator(".subhead")).to_have_count(2)


async def test_the_queue_is_filtered_by_agent_tool_role_and_status(desk: Desk, browser: Browser) -> None:
    """What does not match is out of the way; an empty answer says that it is the filter's."""
    await desk.hold({"n": 1}, agent="painter")
    payment = await desk.hold_payment({"n": 2})
    approved = await desk.hold({"n": 3}, tool="archive", name="mail__archive")
    await desk.store.add_verdict(approved.id, verdict(approved.digest))
    async with seat_at(desk, browser) as sam:
        await sam.sign_in("sam")
        await expect(sam.rows).to_have_count(3)
        await sam.page.click("text=Filters")
        await sam.page.select_option("#filter-agent", "painter")
        await expect(sam.rows).to_have_count(1)
        await sam.page.select_option("#filter-agent", "")
        await sam.page.select_option("#filter-tool", "payments__pay")
        await expect(sam.rows).to_have_count(1)
        await expect(sam.waiting.first).to_have_attribute("data-id", payment.id)
        await sam.page.check("#filter-mine")
        await sam.sees(".waiting .empty", "Nothing that waits is like this.")
        await expect(sam.page.locator(".filter .quiet >> nth=0")).to_have_text("Filters (2)")
        await sam.page.select_option("#filter-tool", "")
        await expect(sam.rows).to_have_count(1)
        await sam.page.uncheck("#filter-mine")
        await sam.page.select_option("#filter-status", "settled")
        await expect(sam.rows).to_have_count(1)
        await expect(sam.waiting).to_have_count(0)
        await expect(sam.rows.first).to_have_attribute("data-id", approved.id)


async def test_a_filtered_queue_has_an_address(desk: Desk, dana: Seat) -> None:
    """The page of an agent or a tool leads to what waits of it."""
    await desk.hold({"n": 1}, agent="painter")
    await desk.hold({"n": 2})
    await dana.sign_in("dana", "&queue&agent=painter")
    await expect(dana.waiting).to_have_count(1)
    assert "painter" in await dana.waiting.first.inner_text()


async def test_many_that_wait_are_read_page_by_page(desk: Desk, dana: Seat) -> None:
    """Fifty rows at first, the next fifty when asked for, below those that stand there; the title counts all."""
    for number in range(80):
        await desk.hold({"to": f"{chr(97 + number // 26)}{chr(97 + number % 26)}"}, held(score=1 + number % 90))
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(50)
    await expect(dana.page).to_have_title("(80) hitl-mcp review")
    before = await ids_of(dana)
    await dana.page.click("text=Show more")
    await expect(dana.waiting).to_have_count(80)
    after = await ids_of(dana)
    assert after[:50] == before and len(set(after)) == 80
    await expect(dana.page.locator(f"a.row[data-id='{after[50]}']")).to_be_focused()
    await expect(dana.page.locator(".show-more")).to_be_hidden()


async def test_a_row_that_has_the_focus_keeps_it(desk: Desk, dana: Seat) -> None:
    """While others come and go, and while what the row itself says changes."""
    first, second = [await desk.hold({"n": number}, _two_of_finance(), tool=f"send{number}") for number in (1, 2)]
    await dana.sign_in("dana")
    row = dana.page.locator(f"a.row[data-id='{second.id}']")
    await row.focus()
    await row.evaluate("node => { window.kept = node; }")
    await desk.store.add_verdict(second.id, verdict(second.digest, reviewer="lee", roles=("finance",)))
    await expect(row).to_contain_text("needs 1 more")
    await desk.hold({"n": 3}, tool="send3")
    await expect(dana.page.locator(".show-new")).to_have_text("Show 1 new")
    await expect(row).to_be_focused()
    assert await row.evaluate("node => node === window.kept")
    assert first.id in await ids_of(dana)


def _two_of_finance() -> Decision:
    return held(Requirement("payments", ("finance",), 2))
