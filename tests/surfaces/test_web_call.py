"""One call on the review page: what stands there to decide on, in a real browser."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playwright.async_api import Browser, Route, expect

from hitl_mcp.calls import Requirement, SignalMatch, VerdictKind
from tests.samples import held, verdict
from tests.surfaces.desk import PAYMENT, Desk
from tests.surfaces.seats import HARD, SIZES, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")


async def test_the_sentence_says_what_happens_and_to_whom(desk: Desk, dana: Seat) -> None:
    """The arguments that tell most stand under it, marked, to the digit, and how many more there are."""
    record = await desk.hold_payment(
        {"amount": 9007199254740993, "currency": "EUR", "to": "M\u0443ller", "note": "x", "memo": {"a": 1}, "b": "y"}
    )
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.sees(".sentence", "builder asks to run payments / pay")
    about = await dana.read(".about")
    assert "to: M⟦у U+0443 CYRILLIC SMALL LETTER U⟧ller, amount: 9007199254740993, currency: EUR" in about
    assert about.endswith("and 2 more arguments")


async def test_points_add_up_before_ones_eyes(desk: Desk, dana: Seat) -> None:
    """Each signal is a segment and a row of its own; a sum over 100 is written out, and says where it was cut."""
    signals = tuple(SignalMatch(f"signal-{points}", points, f"a reason for {points}") for points in (45, 40, 30, 5))
    record = await desk.hold({"to": "a@example.com"}, held(score=100, signals=signals))
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.sees(".score-card .total", "100 of 100 points: 45 + 40 + 30 + 5 = 120")
    await dana.sees(".score-card", "The points add up to 120; a score ends at 100.")
    widths = await dana.page.locator(".bar-score span:not(.cap)").evaluate_all(
        "nodes => nodes.map(node => node.getBoundingClientRect().width)"
    )
    assert len(widths) == 4 == await dana.page.locator(".points-list li").count()
    assert widths == sorted(widths, reverse=True)
    assert widths[0] / widths[3] > 7


async def test_requirements_say_what_is_still_needed_and_whether_one_can_give_it(
    desk: Desk, browser: Browser, dana: Seat
) -> None:
    """Each of several says so for whoever looks: one's own approval would count, would not and why, or did."""
    needs = (
        Requirement("money", ("finance",), 2),
        Requirement("care", ("support",)),
        Requirement("others", (), 1, barred=("dana",)),
    )
    record = await desk.hold({"n": 1}, replace(PAYMENT, requirements=needs))
    await dana.sign_in("dana", f"&call={record.id}")
    rows = dana.page.locator(".needs li")
    await expect(rows.nth(0)).to_contain_text("2 more; yours would count.")
    await expect(rows.nth(1)).to_contain_text("yours would not count: dana has none of the roles it needs")
    await expect(rows.nth(2)).to_contain_text("yours would not count: dana is one of the agent's own people")
    async with seat_at(desk, browser) as lee:
        await lee.sign_in("lee", f"&call={record.id}")
        await lee.ready_to_approve()
        await lee.approve.click()
        await expect(rows.nth(0)).to_contain_text("1 more; yours would count.")
        await expect(rows.nth(0)).to_contain_text("approved by lee")
        await expect(rows.nth(2)).to_contain_text("Met.")
        await lee.sees(".needs", "1 more; you approved it.")


@SIZES
async def test_a_long_text_folds_and_approve_waits_until_it_was_open_and_read(
    desk: Desk, browser: Browser, viewport: dict[str, int]
) -> None:
    """The fold says how much it keeps back; the raw bytes are one key away, whole; reading either to its end counts."""
    lines = "\n".join(f"line {number}" for number in range(60))
    record = await desk.hold({"lines": lines, "text": HARD["text"], "to": "a@example.com"})
    async with seat_at(desk, browser, viewport=viewport) as seat:
        await seat.sign_in("dana", f"&call={record.id}")
        await expect(seat.page.locator(".unfold")).to_have_count(2)
        await seat.sees(".unfold >> nth=1", "more of 4,0")
        assert not await seat.page.locator("text=line 59").is_visible()
        await seat.sees(".part-hint", "Unfold the long texts")
        await seat.page.locator(".arguments .end").scroll_into_view_if_needed()
        await seat.page.locator(".unfold").first.click()
        await seat.sees(".part-hint", "Unfold the long texts")
        await seat.page.keyboard.press("v")
        await seat.sees(".part-hint", "Read to the end of the arguments")
        assert await seat.page.locator(".raw .tx").evaluate("node => node.textContent") == record.call.arguments_json
        await seat.page.keyboard.press("v")
        await seat.page.keyboard.press("u")
        assert await seat.page.locator(".unfold").count() == 0
        await seat.sees(".part-hint", "Read to the end of the arguments")
        assert (await desk.store.get(record.id)).verdicts == ()
        await seat.read_all()
        await seat.ready_to_approve()


async def test_who_else_looks_is_said_while_they_look(desk: Desk, browser: Browser, dana: Seat) -> None:
    """Both are told of one another, without reload."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.page.clock.install()
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments .line")
    async with seat_at(desk, browser) as lee:
        await lee.sign_in("lee", f"&call={record.id}")
        await lee.sees(".also", "also looking: dana")
        await dana.page.clock.run_for(10_000)
        await dana.sees(".also", "also looking: lee")
        assert "dana" not in await dana.read(".also")


async def test_nothing_moves_when_the_context_comes_late(desk: Desk, dana: Seat) -> None:
    """A place is kept for what is new: buttons and arguments stand where they stood."""
    record = await desk.hold({"to": "a@example.com"})
    held_back: list[Route] = []

    async def hold_back(route: Route) -> None:
        held_back.append(route)

    await dana.page.route("**/context", hold_back)
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await dana.sees(".news.late", "Looking up what is new")
    places = [await dana.page.locator(one).bounding_box() for one in (".arguments", ".approve", ".reject", ".needs")]
    await held_back[0].continue_()
    await expect(dana.page.locator(".news.late")).not_to_contain_text("Looking up")
    after = [await dana.page.locator(one).bounding_box() for one in (".arguments", ".approve", ".reject", ".needs")]
    assert after == places
    await expect(dana.approve).to_have_attribute("aria-disabled", "false")


@SIZES
async def test_what_stands_around_a_call_is_shown_with_how_it_was_answered(
    desk: Desk, browser: Browser, viewport: dict[str, int]
) -> None:
    """What is new about it under the sentence; below, calls like it and its conversation, each leading there."""
    first = await desk.hold({"to": "a@example.com", "subject": "notes"})
    await desk.store.add_verdict(first.id, verdict(first.digest, VerdictKind.REJECT, "lee"))
    record = await desk.hold({"to": "b@example.com", "subject": "notes"})
    async with seat_at(desk, browser, viewport=viewport) as seat:
        await seat.sign_in("dana", f"&call={record.id}")
        await seat.sees(".news", "b@example.com")
        like = seat.page.locator(".around", has_text="Calls like this one")
        await expect(like).to_contain_text("1 rejected")
        await expect(like.locator(".answer")).to_have_text("rejected, by lee")
        here = seat.page.locator(".around", has_text="In this conversation")
        await expect(here.locator("li").nth(0)).to_contain_text("rejected, by lee")
        await expect(here.locator("li").nth(1)).to_have_text("this call")
        assert await seat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await like.locator("a").first.click()
        await seat.sees(".id", first.id)
        await seat.sees(".headline", "Rejected by lee")
