"""Whether everybody can use the review page: axe on every view, in both themes, on a desktop and on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser

from hitl_mcp.calls import CallRecord
from tests import needs
from tests.surfaces.changed_tools import change
from tests.surfaces.desk import Desk
from tests.surfaces.full_desk import a_full_desk, batch_of
from tests.surfaces.seats import SIZES, Seat, seat_at
from tests.surfaces.test_web_grants import ask, give

pytestmark = pytest.mark.needs("chromium", "axe")

RUN = """async () => {
  // The one rule of WCAG 2.2 that axe has is off unless it is asked for.
  const found = await axe.run(document, { resultTypes: ["violations"], rules: { "target-size": { enabled: true } } });
  const told = (one) => one.nodes.map((node) => `${one.id}: ${node.target.join(" ")}: ${node.failureSummary}`);
  return found.violations.flatMap(told);
}"""

VIEWS = {
    "queue": ("", ".waiting a.row"),
    "history": ("history", "#history a.row"),
    "no history": ("history?q=nothing-like-this", "#history .empty"),
    "agents": ("agents", "#view-agents table"),
    "agent": ("agent=builder", "#view-agent .figures"),
    "tools": ("used", "#view-used table"),
    "tool": ("used=mail__send", "#view-tool .figures"),
    "changed tools": ("tools", ".change"),
    "grants": ("grants", "#view-grants h2"),
    "you": ("you", "#view-you h2"),
    "pace": ("pace", "#view-pace h2"),
    "no such call": ("call=c_nothing", "#detail [role=alert]"),
}
"""Addresses, and what is there once they are shown."""

MENU = {
    "Grant": "dialog[open] .term",
    "Pass on to a role": "dialog[open] #reassign-role",
    "Reject, and stop": "dialog[open] .consequences",
}
"""What the menu of a call opens, by its titles."""


async def violations(seat: Seat, where: str) -> list[str]:
    """What axe has to say of the page as it stands, motion at rest."""
    if not await seat.page.evaluate("'axe' in window"):
        await seat.page.evaluate(needs.needed("axe").read_text(encoding="utf-8"))
    return [f"{where}: {text}" for text in await seat.page.evaluate(RUN)]


@SIZES
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_on_any_view(
    desk: Desk, browser: Browser, scheme: str, viewport: dict[str, int]
) -> None:
    """Signed out and in, each view, its dialogs and its open parts: no rule of axe is broken."""
    ids = await a_full_desk(desk)
    await change(desk)
    found: list[str] = []
    options: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme, "reduced_motion": "reduce"}
    async with seat_at(desk, browser, bypass_csp=True, **options) as seat:
        await seat.page.goto(f"{desk.url}/#login=wrong")
        await seat.sees("#sign-in-problem", "used before")
        found += await violations(seat, "sign-in")
        await seat.sign_in("dana")
        views = VIEWS | {
            "payment": (f"call={ids['payment']}", ".arguments .line"),
            "hard arguments": (f"call={ids['hard']}", ".arguments .line"),
            "batch": (f"batch={','.join(await batch_of(desk))}", "#view-batch .arguments"),
        }
        for name, (place, there) in views.items():
            await seat.go(place, there)
            found += await violations(seat, name)
        found += await _open_parts(seat, ids["payment"])
        await give(desk)
        found += await _dialogs(seat, await ask(desk, to="other@example.org"))
    assert found == []


async def _open_parts(seat: Seat, call_id: str) -> list[str]:
    """What opens on top of a view: the menu, the filters, the help, the dialogs."""
    found = []
    await seat.go("", ".waiting a.row")
    await seat.page.click(".filter .quiet >> nth=0")
    await seat.page.click("#menu summary")
    found += await violations(seat, "menu and filters")
    await seat.page.keyboard.press("Escape")
    await seat.page.keyboard.press("?")
    found += await violations(seat, "help")
    await seat.page.keyboard.press("Escape")
    await seat.go(f"call={call_id}", ".arguments .line")
    await seat.page.locator("details.fold").evaluate_all("nodes => nodes.forEach(node => { node.open = true; })")
    found += await violations(seat, "folds")
    await seat.page.keyboard.press("r")
    await seat.page.wait_for_selector("dialog[open]")
    found += await violations(seat, "reject")
    await seat.page.keyboard.press("Escape")
    return found


async def _dialogs(seat: Seat, record: CallRecord) -> list[str]:
    """The dialogs that a grantable call of one's own role has, and the one that takes a grant back."""
    found = []
    await seat.go(f"call={record.id}", ".arguments .line")
    await seat.ready_to_approve()
    for title, there in MENU.items():
        await seat.page.click("button.more")
        await seat.page.locator("#more-list button", has_text=title).click()
        await seat.page.locator(there).first.wait_for(state="visible")
        found += await violations(seat, title)
        await seat.page.keyboard.press("Escape")
    await seat.go("grants", ".revoke")
    await seat.page.click(".revoke")
    await seat.page.wait_for_selector("dialog[open]")
    found += await violations(seat, "revoke")
    return found
