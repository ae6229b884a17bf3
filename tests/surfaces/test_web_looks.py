"""How the review page looks in a real browser, and what it is made of."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

import hitl_mcp.surfaces.web as web
from hitl_mcp.calls import (
    Effect,
    HistoryUsed,
    Outcome,
    Preview,
    ReadingCall,
    RuleMatch,
    Status,
    VerdictKind,
)
from tests.clocks import HandClock
from tests.samples import claim, verdict
from tests.surfaces.desk import PAYMENT, Desk, open_desk
from tests.surfaces.seats import DESKTOP, HARD, PHONE, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")

STATIC = Path(web.__file__).parent / "static"
SCREENSHOTS = os.environ.get("HITL_SCREENSHOTS")
"""A folder of the tree to keep pictures in; without it they go where everything of a test goes."""


async def a_full_desk(desk: Desk) -> dict[str, str]:
    """Calls in many states, as on an ordinary day; gives the ids of some."""
    for number, kind in enumerate((VerdictKind.REJECT, VerdictKind.APPROVE, VerdictKind.APPROVE)):
        record = await desk.hold({"to": f"team{number}@example.com", "subject": "Weekly notes"})
        reason = "Send it to the team list instead." if kind is VerdictKind.REJECT else ""
        await desk.store.add_verdict(record.id, verdict(record.digest, kind, "lee", reason=reason))
        if kind is VerdictKind.APPROVE:
            await claim(desk.store, await desk.store.get(record.id))
            done: Any = Status.UNKNOWN if number == 1 else Status.SUCCEEDED
            detail = "the connection to the upstream was lost" if number == 1 else ""
            result = None if number == 1 else '{"content":[{"text":"sent","type":"text"}],"isError":false}'
            outcome = Outcome(done, True, "2026-11-22T12:00:03.000000Z", detail, result, result and "sha256:x", 60)
            await desk.store.settle(record.id, outcome, durable=True)
    hard = await desk.hold({name: HARD[name] for name in ("bidi", "blob", "number", "text")}, claim="routine")
    body = "Hi all,\n\nthe notes are attached.\n\n- budget\n- dates\n"
    await desk.hold({"to": ["team@example.com"], "subject": "Notes", "body": body})
    payment = await desk.hold(
        {
            "amount": 5000,
            "currency": "EUR",
            "iban": "DE89 3704 0044 0532 0130 00",
            "reference": "Invoice 2026-1142",
            "to": "Müller GmbH <rechnung@m\u0443eller.example>",
        },
        replace(
            PAYMENT,
            previews=(ReadingCall("payments", "payments__quote", '{"amount":5000}'),),
            shadows=(RuleMatch("new-suppliers", Effect.DENY, "suppliers are entered by people first"),),
            history=(HistoryUsed("first-time", "known", ()), HistoryUsed("daily", "taken", 120_500_000)),
        ),
        claim="Dana asked me to pay the invoice from Müller GmbH before noon.",
        upstream="payments",
        tool="pay",
        name="payments__pay",
    )
    quote = '{"content":[{"text":"5,000.00 EUR and 3.50 EUR of fees leave the account `main`.","type":"text"}]}'
    at = "2026-11-22T12:00:01.000000Z"
    await desk.store.keep_preview(payment.id, Preview("payments", "payments__quote", at, "c_quote", quote))
    approval = verdict(payment.digest, reviewer="lee", roles=("finance",), reason="I know this supplier.")
    await desk.store.add_verdict(payment.id, approval)
    return {"payment": payment.id, "hard": hard.id}


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const part = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(part);
    return .2126 * x + .7152 * y + .0722 * z; };
  const behind = node => { for (; node; node = node.parentElement) {
    const colour = rgb(getComputedStyle(node).backgroundColor); if (colour[3] === 255) return colour; }
    return [255, 255, 255, 255]; };
  const weak = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility({ opacityProperty: true }) || node.closest(".sr, kbd")) continue;
    const [one, other] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + .05) / (other + .05);
    if (ratio < 4.5) weak.push(`${node.className || node.tagName} "${node.textContent.slice(0, 30)}" ${ratio}`);
  }
  return weak;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_enough_contrast(desk: Desk, browser: Browser, scheme: str) -> None:
    """WCAG AA, 4.5 to 1, in both themes, on every state of the page this test can bring about."""
    await a_full_desk(desk)
    desk.upstreams.append({"name": "mail", "state": "down", "detail": "no such command"})
    await desk.store.pause("lee", "odd traffic")
    async with seat_at(desk, browser, color_scheme=scheme) as seat:
        await seat.page.goto(f"{desk.url}/#login=wrong")
        await seat.sees("#sign-in-problem", "used before")
        assert await seat.page.evaluate(CONTRAST) == []
        await seat.sign_in("dana")
        await seat.sees(".banner.paused", "Paused")
        for row in range(await seat.rows.count()):
            await seat.rows.nth(row).click()
            await seat.page.wait_for_selector(".arguments")
            await seat.page.locator("details.fold").evaluate_all(
                "nodes => nodes.forEach(node => { node.open = true; })"
            )
            assert await seat.page.evaluate(CONTRAST) == []


async def test_every_control_has_a_name(desk: Desk, dana: Seat) -> None:
    """What a screen reader would call it; headings start at one and skip no level."""
    record = await desk.hold_payment({"amount": 1}, claim="because")
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments")
    nameless = """() => [...document.querySelectorAll("button, a, input, textarea, summary, [role=region], dialog")]
      .filter(node => !(node.ariaLabel || node.textContent.trim() || node.labels?.length))
      .map(node => node.outerHTML)"""
    assert await dana.page.evaluate(nameless) == []
    levels = await dana.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].filter(n => n.checkVisibility()).map(n => Number(n.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_page_has_no_way_to_write_markup_or_to_load_from_elsewhere() -> None:
    """No file of it names one; what is not there cannot be reached."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|\beval\b"
        r"|new Function|javascript:|document\.cookie|https?://(?!www\.w3\.org/2000/svg)|\bstyle=|\son\w+="
    )
    found = {
        f"{file.name}: {match.group()}"
        for file in STATIC.iterdir()
        for match in forbidden.finditer(file.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_the_page_is_light() -> None:
    """It comes over a phone's connection: all of it together stays below 100 KB."""
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < 100_000


async def test_it_works_under_a_prefix(tmp_path: Path, clock: HandClock, browser: Browser) -> None:
    """Behind a proxy that gives the gateway one folder of a site, page and API find each other."""
    async with open_desk(tmp_path / "hitl.db", clock, prefix="/hitl") as desk:
        record = await desk.hold({"to": "a@example.com"})
        async with seat_at(desk, browser) as seat:
            await seat.sign_in("dana", f"&call={record.id}")
            assert seat.page.url == f"{desk.url}/hitl/#call={record.id}"
            await seat.ready_to_approve()
            await seat.approve.click()
            await seat.sees(".headline", "Approved")


# Pictures for the documentation, kept only when asked for.


@pytest.mark.parametrize("width", [360, 1280])
async def test_pictures_for_the_documentation(desk: Desk, browser: Browser, tmp_path: Path, width: int) -> None:
    """The list, a payment, and the hard arguments from top to end, at both widths."""
    folder = Path(SCREENSHOTS or tmp_path)
    ids = await a_full_desk(desk)
    phone = width == 360
    async with seat_at(desk, browser, viewport=PHONE if phone else DESKTOP, has_touch=phone) as seat:
        await seat.sign_in("dana")
        await expect(seat.waiting).to_have_count(3)
        await seat.page.screenshot(path=folder / f"queue-{width}.png")
        await seat.open(ids["payment"])
        await seat.ready_to_approve()
        await seat.page.screenshot(path=folder / f"call-{width}.png")
        await seat.open(ids["hard"])
        await seat.page.screenshot(path=folder / f"hard-arguments-{width}.png")
        await seat.page.locator(".arguments .end").scroll_into_view_if_needed()
        await seat.ready_to_approve()
        await seat.page.screenshot(path=folder / f"hard-arguments-end-{width}.png")
    if not phone:
        async with seat_at(desk, browser, color_scheme="dark") as seat:
            await seat.sign_in("dana", f"&call={ids['payment']}")
            await seat.ready_to_approve()
            await seat.page.screenshot(path=folder / "call-1280-dark.png")
