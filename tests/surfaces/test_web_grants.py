"""Grants on the review page, in a real browser: giving one, what it says it would match, the list, revoking."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, expect

from hitl_mcp.calls import Asked, CallRecord, Requirement, Status
from hitl_mcp.canonical import canonical_text
from hitl_mcp.grants import Condition
from hitl_mcp.people import Reviewer
from tests.clocks import HandClock
from tests.granting import claimed, grantable, stands_with, wanted
from tests.samples import held, tool_call
from tests.surfaces.desk import PEOPLE, Desk
from tests.surfaces.seats import PHONE, SIZES, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")

STANDS = stands_with(PEOPLE)


async def ask(desk: Desk, **arguments: Any) -> CallRecord:
    """A mail that the agent asks for."""
    call = tool_call(arguments_json=canonical_text({"to": "a@example.com", "body": "hello", **arguments}))
    decision = grantable()
    admission = await desk.store.admit(call, Asked("c"), lambda history: decision, durable=True, stands=STANDS)
    return admission.record


async def give(desk: Desk, **changes: Any) -> str:
    """A grant that lee gave; its id."""
    record = await ask(desk, body="the call it was given on")
    grant = await desk.store.grants.give(wanted(record, **changes), PEOPLE.reviewers["lee"])
    return grant.id


async def open_dialog(seat: Seat, record: CallRecord) -> None:
    """Open a call, read it, and ask for the dialog that gives a grant on it."""
    await seat.open(record.id)
    await seat.page.locator(".arguments .end").scroll_into_view_if_needed()
    await seat.ready_to_approve()
    await seat.page.click("button.more")
    await seat.page.click("#more-list button:has-text('Grant')")
    await seat.page.wait_for_selector(".term")


@SIZES
async def test_a_grant_is_given_with_the_call_and_serves_later_ones(desk: Desk, dana: Seat) -> None:
    """Conditions begin with the call's own values and are loosened; the page says what they would have matched."""
    for name in ("x", "y", "z"):
        await ask(desk, to=f"{name}@example.com")
    await ask(desk, to="mallory@evil.org")
    record = await ask(desk)
    await dana.sign_in("dana")
    await open_dialog(dana, record)
    await dana.sees(".count-of", "1 of the last 5 calls")
    to, body = dana.page.locator('.term[data-path="/to"]'), dana.page.locator('.term[data-path="/body"]')
    await body.locator("input[type=checkbox]").uncheck()
    await dana.sees('.term[data-path="/body"] .term-says', "any value")
    await to.locator("select").select_option("ends_with")
    await expect(to.locator("textarea")).to_have_value("@example.com")
    await dana.sees(".count-of", "4 of the last 5 calls")
    await dana.sees('.term[data-path="/to"] .term-says', '/to ends with "@example.com"')
    await dana.page.fill("#grant-uses", "2")
    await dana.page.fill("#grant-reason", "the newsletter")
    await dana.page.locator("#grant-send").scroll_into_view_if_needed()  # it is inert until it was in sight
    await dana.page.wait_for_selector("#grant-send[aria-disabled=false]")
    await dana.page.click("#grant-send")
    await dana.sees(".headline", "Approved")
    (grant,) = await desk.store.grants.list(live=True)
    assert (grant.given_by, grant.uses, grant.reason, grant.surface) == ("dana", 2, "the newsletter", "web")
    assert grant.conditions == (Condition("/to", "ends_with", "@example.com"),)
    assert (await desk.store.get(record.id)).grant is None
    served = await ask(desk, to="new@example.com", body="another")
    assert (served.status, served.grant) == (Status.APPROVED, grant.id)
    assert (await ask(desk, to="new@evil.org")).status is Status.HELD
    await dana.open(served.id)
    await dana.sees(".detail", f"on the grant {grant.id}")


async def test_a_dialog_gives_nothing_that_would_not_serve_the_call_or_has_no_condition(desk: Desk, dana: Seat) -> None:
    """The button stays off, and a click at its place does nothing."""
    record = await ask(desk, to=["a@example.com"], amount=5.0)
    await dana.sign_in("dana")
    await open_dialog(dana, record)
    for path in ("/amount", "/body", "/to"):
        await dana.page.locator(f'.term[data-path="{path}"] input[type=checkbox]').uncheck()
    await dana.sees(".matched", "Say at least of one argument")
    amount = dana.page.locator('.term[data-path="/amount"]')
    await amount.locator("input[type=checkbox]").check()
    await dana.sees(".count-of", "1 of the last 1 calls")
    await amount.locator("select").select_option("at_most")
    await amount.locator("textarea").fill("4")
    await dana.sees(".matched", "It would not serve this very call")
    await expect(dana.page.locator("#grant-send")).to_have_attribute("aria-disabled", "true")
    await dana.press_at(dana.page.locator("#grant-send"))
    await amount.locator("textarea").fill("four")
    await dana.sees(".matched", "no JSON")
    assert await desk.store.grants.list(live=True) == ()
    await amount.locator("textarea").fill("5.50")
    await dana.sees(".count-of", "1 of the last 1 calls")
    await dana.page.wait_for_selector("#grant-send[aria-disabled=false]")
    await dana.page.click("#grant-send")
    await dana.sees(".headline", "Approved")
    (grant,) = await desk.store.grants.list(live=True)
    assert grant.conditions == (Condition("/amount", "at_most", 5.5),)


async def test_hidden_characters_in_a_value_are_shown_beside_its_field(desk: Desk, dana: Seat) -> None:
    """What a text field hides, the sentence under it marks."""
    record = await ask(desk, to="a@exam\u200bple.com")
    await dana.sign_in("dana")
    await open_dialog(dana, record)
    await dana.sees('.term[data-path="/to"] .term-says .mark', "U+200B")


async def test_where_no_rule_lets_grants_be_given_or_one_has_no_role_none_is_offered(
    desk: Desk, browser: Browser
) -> None:
    """Neither in the menu nor by the API."""
    strict = await desk.hold({"to": "a@example.com"}, held(Requirement("mail-out", ("finance",))))
    record = await ask(desk, to="b@example.com")
    for name, call in (("dana", strict), ("sam", record)):
        async with seat_at(desk, browser) as seat:
            await seat.sign_in(name)
            await seat.open(call.id)
            await seat.page.click("button.more")
            await expect(seat.page.locator("#more-list button:has-text('Grant')")).to_have_count(0)


@SIZES
async def test_the_list_shows_live_and_ended_grants_and_revokes_one(desk: Desk, dana: Seat, clock: HandClock) -> None:
    """Uses, time, giver and conditions; revoking asks once, ends what it approved, and any reviewer may."""
    spent, expired, live = await give(desk, uses=1), await give(desk, minutes=1), await give(desk, uses=5, minutes=120)
    first = await ask(desk, to="first@example.com")
    assert first.grant == expired
    clock.forward(61)
    await desk.store.expire_due()
    for number in range(2):
        record = await ask(desk, to=f"{number}@example.com")
        assert await claimed(desk.store, record, STANDS) is not None
    waiting = await ask(desk, to="waiting@example.com")
    await dana.sign_in("dana", "&grants")
    await dana.sees(f'[data-grant="{live}"]', "1 of 5 used")
    await dana.sees(f'[data-grant="{live}"] .terms', '/to ends with "@example.com"')
    await dana.sees(f'[data-grant="{spent}"] .ended', "it is used up")
    await dana.sees(f'[data-grant="{expired}"] .ended', "its time is over")
    await dana.page.click(f'[data-grant="{live}"] .revoke')
    await dana.page.fill("#revoke-reason", "no more of this")
    await dana.page.click("#revoke-send")
    await dana.sees(f'[data-grant="{live}"] .ended', "`dana` revoked it: no more of this")
    assert (await desk.store.get(waiting.id)).status is Status.INVALIDATED
    assert (await ask(desk, to="later@example.com")).status is Status.HELD


@SIZES
async def test_a_grant_whose_giver_lost_the_role_is_shown_as_ended_with_why(desk: Desk, dana: Seat) -> None:
    """As the next start finds it in the config."""
    grant = await give(desk)
    without = {**PEOPLE.reviewers, "lee": Reviewer("lee", frozenset({"support"}))}
    stands = stands_with(type(PEOPLE)(reviewers=without))
    await desk.store.grants.end_where(lambda one: stands(one, ()))
    await dana.sign_in("dana", "&grants")
    await dana.sees(f'[data-grant="{grant}"] .ended', "`lee`, who gave it, has no longer the role `finance`")


async def test_grants_fit_a_phone(desk: Desk, browser: Browser) -> None:
    """Neither the list nor the dialog is wider than the screen."""
    await give(desk)
    record = await ask(desk, to="b@evil.org", body="x" * 60)
    async with seat_at(desk, browser, viewport=PHONE, has_touch=True) as seat:
        await seat.sign_in("dana", "&grants")
        await seat.page.wait_for_selector(".grant")
        wide = "document.documentElement.scrollWidth > innerWidth"
        assert not await seat.page.evaluate(wide)
        await open_dialog(seat, record)
        assert not await seat.page.evaluate(f"{wide} || document.querySelector('#grant').scrollWidth > innerWidth")
