"""How the review page looks in a real browser, and what it is made of."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

import hitl_mcp.surfaces.web as web
from tests.clocks import HandClock
from tests.surfaces.desk import Desk, open_desk
from tests.surfaces.full_desk import a_full_desk, batch_of
from tests.surfaces.seats import DESKTOP, PHONE, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")

STATIC = Path(web.__file__).parent / "static"
SCREENSHOTS = os.environ.get("HITL_SCREENSHOTS")
"""A folder of the tree to keep pictures in; without it they go where everything of a test goes."""


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


async def test_the_page_is_light(desk: Desk) -> None:
    """It comes over a phone's connection: all of it together, as a browser asks for it, stays below 100 KB."""
    sizes: dict[str, int] = {}
    async with desk.program(headers={"accept-encoding": "gzip"}) as client:
        for file in STATIC.iterdir():
            async with client.stream("GET", "/" if file.name == "index.html" else f"/{file.name}") as answer:
                sizes[file.name] = sum([len(chunk) async for chunk in answer.aiter_raw()])
        plain = await client.get("/app.js", headers={"accept-encoding": "identity"})
    assert plain.content == (STATIC / "app.js").read_bytes()
    assert sum(sizes.values()) < 100_000, sizes


VIEWS = {
    "queue": ("", ".waiting a.row"),
    "history": ("history", "#history a.row"),
    "agents": ("agents", "#view-agents table"),
    "agent": ("agent=builder", "#view-agent .figures"),
    "tools": ("used", "#view-used table"),
    "tool": ("used=mail__send", "#view-tool .figures"),
    "grants": ("grants", "#view-grants h2"),
    "you": ("you", "#view-you h2"),
    "pace": ("pace", "#view-pace .figures"),
}


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 3840])
async def test_nothing_is_wider_than_the_screen(desk: Desk, browser: Browser, width: int) -> None:
    """Every view at every width: no sideways scrolling, the navigation in reach, no target smaller than 24 pixels."""
    ids = await a_full_desk(desk)
    views = VIEWS | {
        "payment": (f"call={ids['payment']}", ".arguments .line"),
        "hard arguments": (f"call={ids['hard']}", ".arguments .line"),
        "batch": (f"batch={','.join(await batch_of(desk))}", "#view-batch .arguments"),
    }
    async with seat_at(desk, browser, viewport={"width": width, "height": 800}) as seat:
        await seat.sign_in("dana")
        for name, (place, there) in views.items():
            await seat.go(place, there)
            assert await seat.page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert await seat.page.evaluate(SMALL) == [], name
        await seat.go("", ".waiting a.row")
        for link in await seat.page.locator("#nav a").all():
            box = await link.bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] >= 36


SMALL = """() => [...document.querySelectorAll("button, a.button, .nav a, input, select, summary, a.row")]
  .filter(node => node.checkVisibility() && !node.closest(".sr")).map(node => [node, node.getBoundingClientRect()])
  .filter(([node, box]) => box.height < (node.type === "checkbox" ? 20 : 24) || box.width < 20)
  .map(([node, box]) => `${node.outerHTML.slice(0, 80)} ${Math.round(box.width)}x${Math.round(box.height)}`)"""


async def test_light_or_dark_is_chosen_and_kept(desk: Desk, browser: Browser) -> None:
    """As the system is, until somebody chooses; the choice is there at once after a reload, and in every tab."""
    paper = "getComputedStyle(document.body).backgroundColor"
    async with seat_at(desk, browser, color_scheme="dark") as seat:
        await seat.sign_in("dana")
        dark = await seat.page.evaluate(paper)
        await seat.page.click("#menu summary")
        await seat.page.select_option("#theme", "light")
        light = await seat.page.evaluate(paper)
        assert light != dark
        other = await seat.page.context.new_page()
        await other.goto(desk.url)
        assert await other.evaluate(paper) == light
        await expect(other.locator("#theme")).to_have_value("light")
        await seat.page.select_option("#theme", "system")
        await expect(other.locator("#theme")).to_have_value("system")
        assert await other.evaluate(paper) == dark


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
        await seat.page.wait_for_selector(".arguments .line")
        await seat.page.screenshot(path=folder / f"call-{width}.png")
        await seat.open(ids["hard"])
        await seat.page.screenshot(path=folder / f"hard-arguments-{width}.png")
        await seat.read_all()
        await seat.ready_to_approve()
        await seat.page.screenshot(path=folder / f"hard-arguments-end-{width}.png")
    if not phone:
        async with seat_at(desk, browser) as seat:
            await seat.sign_in("dana")
            for name in ("history", "agent"):
                await seat.go(*VIEWS[name])
                await seat.page.screenshot(path=folder / f"{name}-{width}.png")
            await seat.go(f"batch={','.join(await batch_of(desk))}", "#view-batch .arguments")
            await seat.page.screenshot(path=folder / f"batch-{width}.png")
        async with seat_at(desk, browser, color_scheme="dark") as seat:
            await seat.sign_in("dana", f"&call={ids['payment']}")
            await seat.page.wait_for_selector(".arguments .line")
            await seat.page.screenshot(path=folder / "call-1280-dark.png")
