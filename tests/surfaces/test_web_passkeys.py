"""Passkeys in a real browser, with its virtual authenticator: enrol, sign in, sign a verdict, remove; the account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from hitl_mcp.calls import CallRecord, Requirement, Status
from tests.clocks import HandClock
from tests.samples import held
from tests.surfaces.authenticators import Virtual
from tests.surfaces.desk import Desk, open_desk
from tests.surfaces.seats import PHONE, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")

SIGNED = held(Requirement("payments", ("finance",), assurance="passkey"))


@pytest.fixture
async def desk(tmp_path: Path, clock: HandClock) -> AsyncIterator[Desk]:
    """A desk that is known by a name."""
    async with open_desk(tmp_path / "hitl.db", clock, named=True) as running:
        yield running


async def enrol(seat: Seat) -> None:
    """Add a passkey on the account page."""
    await seat.page.evaluate("location.hash = 'you'")
    await seat.page.click("#passkey-add")
    await expect(seat.page.locator(".passkey-row")).to_have_count(1)


async def approve(seat: Seat, record: CallRecord) -> None:
    """Approve an open call as a person does."""
    await seat.open(record.id)
    await seat.ready_to_approve()
    await seat.approve.click()


async def test_a_passkey_is_offered_made_used_and_removed(desk: Desk, dana: Seat) -> None:
    """After a link the page offers one; with it a call that needs it is approved, and one signs in without a link."""
    await Virtual.plug_into(dana.page)
    record = await desk.hold({"amount": 1}, SIGNED)
    await dana.sign_in("dana")
    await dana.sees(".banner.link", "With a passkey you sign in without a link")
    await dana.page.click(".banner.link a")
    await dana.page.click("#passkey-add")
    await dana.sees(".passkey-row", "Chrome on Linux")
    (kept,) = await desk.store.passkeys.of("dana")
    await dana.sees(".passkey-row code", kept.fingerprint)
    await expect(dana.page.locator(".banner.link")).to_have_count(0)
    await approve(dana, record)
    await dana.sees(".pill.approved", "approved")
    (given,) = (await desk.store.get(record.id)).verdicts
    assert (given.assurance, given.reviewer) == ("passkey", "dana")
    await dana.page.click("#menu summary")
    await dana.page.click("#sign-out")
    await dana.sees("#sign-in-problem", "signed out")
    await dana.page.click("#sign-in-passkey")
    await expect(dana.page.locator("#me-name")).to_have_text("dana")
    await dana.page.evaluate("location.hash = 'you'")
    await dana.sees(".sign-in-row", "with a passkey")
    dana.page.on("dialog", lambda dialog: dialog.accept())
    await dana.page.click(".passkey-row button")
    await expect(dana.page.locator(".passkey-row")).to_have_count(0)
    assert await desk.store.passkeys.of("dana") == ()


async def test_a_further_passkey_is_confirmed_by_the_first(desk: Desk, dana: Seat) -> None:
    """Another authenticator; the page asks for one more step, and the first one signs it."""
    virtual = await Virtual.plug_into(dana.page)
    await dana.sign_in("dana")
    await enrol(dana)
    await virtual.beside("usb")
    await dana.page.click("#passkey-add")
    await dana.page.click("#passkey-confirm")
    await expect(dana.page.locator(".passkey-row")).to_have_count(2)
    both = {one.id: one.confirmed_by for one in await desk.store.passkeys.of("dana")}
    assert set(both.values()) == {None, next(one for one, by in both.items() if by is None)}


async def test_without_the_finger_or_a_passkey_nothing_is_approved_and_the_page_says_why(
    desk: Desk, dana: Seat
) -> None:
    """A user who is not verified, and a reviewer without a passkey: the call stays held."""
    virtual = await Virtual.plug_into(dana.page)
    record = await desk.hold({"amount": 1}, SIGNED)
    await dana.sign_in("dana")
    await approve(dana, record)
    await dana.sees("#detail", "you have no passkey here")
    await enrol(dana)
    await virtual.user_is_verified(False)
    await approve(dana, record)
    await dana.sees("#detail", "Nothing was signed")
    assert (await desk.store.get(record.id)).status is Status.HELD
    await virtual.user_is_verified(True)
    await dana.ready_to_approve()
    await dana.approve.click()
    await dana.sees(".pill.approved", "approved")


async def test_arguments_that_changed_after_they_were_shown_are_not_signed_for(desk: Desk, dana: Seat) -> None:
    """The page asks its passkey to sign the digest that it showed; what the call is now has another one."""
    await Virtual.plug_into(dana.page)
    record = await desk.hold({"amount": 1}, SIGNED)
    await dana.sign_in("dana")
    await enrol(dana)
    await dana.open(record.id)

    async def swap(route: object) -> None:
        answer = await route.fetch(post_data=route.request.post_data.replace(record.digest, "sha256:" + "0" * 64))  # type: ignore[attr-defined]
        await route.fulfill(response=answer)  # type: ignore[attr-defined]

    await dana.page.route("**/verdict/options", swap)
    await dana.ready_to_approve()
    await dana.approve.click()
    await dana.sees("#detail", "not good for this")
    now = await desk.store.get(record.id)
    assert (now.status, now.verdicts) == (Status.HELD, ())


async def test_the_account_lists_sign_ins_and_ends_them(desk: Desk, browser: Browser, dana: Seat) -> None:
    """An admin sees everybody's; ending one shows the sign-in page over there at once; on a phone it fits."""
    async with seat_at(desk, browser, viewport=PHONE) as lee:
        await lee.sign_in("lee")
        await lee.page.evaluate("location.hash = 'you'")
        await expect(lee.page.locator(".sign-in-row")).to_have_count(1)
        assert await lee.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await dana.sign_in("dana")
        await dana.page.evaluate("location.hash = 'you'")
        await expect(dana.page.locator(".sign-in-row")).to_have_count(2)
        await dana.page.locator(".sign-in-row", has_text="lee").locator("button").click()
        await expect(dana.page.locator(".sign-in-row")).to_have_count(1)
        await lee.sees("#sign-in-problem", "not signed in")


async def test_a_page_at_a_number_offers_no_passkeys(tmp_path: Path, clock: HandClock, browser: Browser) -> None:
    """They would not work there; the account says why."""
    async with open_desk(tmp_path / "numeric.db", clock) as desk, seat_at(desk, browser) as dana:
        await dana.page.goto(desk.url)
        await dana.sees("#sign-in", "Sign in to review")
        await expect(dana.page.locator("#sign-in-passkey")).to_be_hidden()
        await dana.sign_in("dana")
        await dana.page.evaluate("location.hash = 'you'")
        await dana.sees(".warn", "passkeys need a name")
        await expect(dana.page.locator("#passkey-add")).to_have_count(0)
