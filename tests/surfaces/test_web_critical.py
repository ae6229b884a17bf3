"""Critical calls on the review page: they look different, and want a typed confirmation before they can be approved."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from hitl_mcp.calls import Decision, Effect, RuleMatch, SignalMatch, Status
from tests.samples import held
from tests.surfaces.desk import Desk
from tests.surfaces.seats import SIZES, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")


@SIZES
async def test_a_critical_call_is_approved_only_by_who_typed_its_amount(
    desk: Desk, browser: Browser, viewport: dict[str, int]
) -> None:
    """It says in words that it is critical and why; nothing, another text, and a pasted one leave Approve off."""
    record = await desk.hold_payment({"amount": 5000, "to": "DE89"})
    async with seat_at(desk, browser, viewport=viewport) as seat:
        await seat.sign_in("dana", f"&call={record.id}")
        await seat.sees(".critical-why", "it needs 2 people")
        await seat.read_all()
        await seat.sees(".typing", "type its amount 5000")
        field = seat.page.locator(".typed")
        for typed in ("", "500", "50000", "EUR"):
            await field.fill(typed)
            await seat.press_at(seat.approve)
            await field.press("Enter")
            await expect(seat.approve).to_have_attribute("aria-disabled", "true")
        await field.fill("")
        assert await field.evaluate(
            "node => !node.dispatchEvent(new ClipboardEvent('paste', {cancelable: true, bubbles: true}))"
        )
        assert (await desk.store.get(record.id)).verdicts == ()
        box = await seat.approve.bounding_box()
        await field.fill("5000")
        await seat.ready_to_approve()
        assert await seat.approve.bounding_box() == box
        assert await seat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await seat.approve.click()
        await seat.sees(".part-hint", "you approved it")
    assert [given.reviewer for given in (await desk.store.get(record.id)).verdicts] == ["dana"]


async def test_the_keyboard_alone_approves_a_critical_call(desk: Desk, dana: Seat) -> None:
    """`a` leads to the field; Enter in it approves once 600 ms went by, and a held Enter does nothing."""
    record = await desk.hold({"to": "a@example.com"}, held(score=90))
    await dana.page.clock.install()
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments .line")
    await dana.page.clock.run_for(2000)
    await dana.page.keyboard.press("a")
    await expect(dana.page.locator(".typed")).to_be_focused()
    await dana.page.clock.pause_at(await dana.page.evaluate("Date.now() + 1000"))
    await dana.page.keyboard.type("send")
    await dana.page.clock.run_for(599)
    await dana.page.keyboard.press("Enter")
    assert (await desk.store.get(record.id)).verdicts == ()
    await dana.page.clock.run_for(1)
    await dana.page.keyboard.press("Enter")
    await dana.sees(".headline", "Approved")


@pytest.mark.parametrize(
    ("arguments", "decision", "why", "typed"),
    [
        ({"to": "a@example.com"}, held(score=75), "it has 75 of 100 points", "the tool's name send"),
        (
            {"amount": "12.50"},
            held(signals=(SignalMatch("irreversible-mail", 40, "it is out"),)),
            "it cannot be undone",
            "its amount 12.50",
        ),
        (
            {"total": 9007199254740993},
            held(rules=(RuleMatch("irreversible", Effect.HOLD, "it is out"),)),
            "it cannot be undone",
            "its total 9007199254740993",
        ),
        ({"amount": "a\u202eb"}, held(score=99), "it has 99 of 100 points", "the tool's name send"),
    ],
    ids=["points", "signal", "rule", "odd-amount"],
)
async def test_what_makes_a_call_critical_and_what_is_typed(
    desk: Desk, dana: Seat, arguments: dict[str, object], decision: Decision, why: str, typed: str
) -> None:
    """Many points, or a rule or signal that says it cannot be undone; an amount is typed, else the tool's name."""
    record = await desk.hold(arguments, decision)
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.sees(".critical-why", why)
    await dana.sees(".typing", typed)


async def test_an_ordinary_call_asks_for_nothing_to_be_typed(desk: Desk, dana: Seat) -> None:
    """What is routine stays quick: no field, no frame, one key."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments .line")
    assert await dana.page.locator(".typed, .of-critical, .critical-why").count() == 0
    await dana.ready_to_approve()
    await dana.page.keyboard.press("a")
    await dana.sees(".headline", "Approved")
    assert (await desk.store.get(record.id)).status is Status.APPROVED
