"""Reviewers in a real browser: what a test does on the page, and what it reads there."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from playwright.async_api import Browser, Locator, Page, expect

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
SIZES = pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["1280", "360"])
"""For a test on a desktop and on a phone: the seat `dana` is of this size, and others take it as an option."""
PATIENCE_MS = 60_000
"""Longer than anything takes on a busy machine; it only bounds a failure."""

expect.set_options(timeout=PATIENCE_MS)

HARD = {
    "text": ("Section %d of the quarterly report is attached; please read it first. " * 61)[:4096].replace("%d", "4"),
    "bidi": "invoice\u202efdp.exe and שלום עולם 500",
    "blob": base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3).decode(),
    "number": 9007199254740991,
}
"""The four arguments that are hard to show: long, deceiving, encoded, and beyond what a float holds."""


class Gateway(Protocol):
    """What makes links to sign in with: a desk, or a whole gateway in a process of its own."""

    async def link(self, name: str, /) -> str: ...


@dataclass
class Seat:
    """One reviewer's page."""

    desk: Gateway
    page: Page
    complaints: list[str] = field(default_factory=list)

    @property
    def rows(self) -> Locator:
        return self.page.locator("a.row")

    @property
    def waiting(self) -> Locator:
        return self.page.locator(".waiting a.row")

    @property
    def approve(self) -> Locator:
        return self.page.locator("button.approve")

    @property
    def reject(self) -> Locator:
        return self.page.locator("button.reject")

    async def sign_in(self, reviewer: str, rest: str = "") -> None:
        """Follow a one-time link, and wait until the list was read."""
        await self.page.goto(await self.desk.link(reviewer) + rest)
        await self.page.wait_for_selector(".group:is(.waiting, .found)", state="attached")

    async def open(self, call_id: str) -> None:
        """Open a call by its address, as from a list or a notice."""
        await self.page.evaluate("id => { location.hash = `call=${id}`; }", call_id)
        await self.page.wait_for_selector(f".id:text-is('{call_id}')")

    async def go(self, place: str, there: str) -> None:
        """Go to a place by its address, and wait until something of it is there to be seen."""
        await self.page.evaluate("place => { location.hash = place; }", place)
        await self.page.locator(there).first.wait_for(state="visible")

    async def ready_to_approve(self) -> None:
        """Wait until Approve may be pressed; of a critical call, type what it asks for."""
        await self.page.wait_for_selector(".arguments .line")
        await self.confirm()
        await self.page.wait_for_selector("button.approve[aria-disabled=false]")

    async def confirm(self) -> None:
        """Type what a critical call asks for, where it asks."""
        field = self.page.locator(".typed:visible")
        if await field.count():
            await field.fill(await field.get_attribute("placeholder") or "")

    async def unfold(self) -> None:
        """Open every long text."""
        while await self.page.locator(".unfold").count():
            await self.page.locator(".unfold").first.click()

    async def read_all(self) -> None:
        """Have all of the arguments on the screen once, part by part, as who reads them has."""
        await self.unfold()
        await self.page.evaluate("""async () => {
          for (let screens = 0, rest; screens < 500 && (rest = document.querySelector(".rest")); screens += 1) {
            rest.click();
            await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
          }
        }""")

    async def press_at(self, target: Locator) -> None:
        """A click at a place, whatever the page thinks of it: as a hand would."""
        box = await target.bounding_box()
        assert box is not None
        await self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    async def read(self, selector: str) -> str:
        """The text of the first element that matches, as a person sees it."""
        return await self.page.locator(selector).first.inner_text()

    async def sees(self, selector: str, text: str) -> None:
        """Wait until an element shows a text."""
        await self.page.locator(selector, has_text=text).first.wait_for(state="visible")


@asynccontextmanager
async def seat_at(desk: Gateway, browser: Browser, **options: Any) -> AsyncIterator[Seat]:
    """A browser of its own at this desk; at the end nothing may have gone wrong unseen in it."""
    context = await browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options})
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    seat = Seat(desk, page)
    page.on("pageerror", lambda error: seat.complaints.append(str(error)))
    page.on("console", lambda message: seat.complaints.append(message.text) if message.type == "error" else None)
    try:
        yield seat
    finally:
        await context.close()
    refused = [text for text in seat.complaints if "Failed to load resource" not in text]
    assert refused == []
