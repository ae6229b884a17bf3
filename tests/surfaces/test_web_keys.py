"""The review page by the keyboard alone, in a real browser."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from hitl_mcp.calls import Status
from tests.samples import held
from tests.surfaces.desk import Desk
from tests.surfaces.full_desk import a_full_desk
from tests.surfaces.seats import Seat

pytestmark = pytest.mark.needs("chromium")

PLACES = {
    "h": ("history", "History", "#history a.row"),
    "a": ("agents", "Agents", "#view-agents h2"),
    "t": ("used", "Tools", "#view-used h2"),
    "g": ("grants", "Grants", "#view-grants h2"),
    "y": ("you", "You", "#view-you h2"),
    "q": ("", "Queue", ".waiting a.row"),
}
"""The key after `g`, the address it leads to, what the navigation marks then, and what is there."""


async def press(seat: Seat, *keys: str) -> None:
    """One key after another."""
    for key in keys:
        await seat.page.keyboard.press(key)


async def test_every_view_is_reached_by_keys(desk: Desk, dana: Seat) -> None:
    """`g` and a letter; the navigation says where one is, the title too, and the focus is in what was opened."""
    await a_full_desk(desk)
    await dana.sign_in("dana")
    for key, (place, name, there) in PLACES.items():
        await press(dana, "g", key)
        await dana.page.locator(there).first.wait_for()
        assert await dana.page.evaluate("location.hash.slice(1)") == place
        await expect(dana.page.locator("#nav [aria-current=page]")).to_contain_text(name)
        assert ("hitl-mcp review" in await dana.page.title()) and (name in await dana.page.title() or key == "q")


async def test_the_help_says_what_the_keys_do(desk: Desk, dana: Seat) -> None:
    """Each key that it names does something in the view that is open, and none works that it does not name."""
    record = await desk.hold({"n": 1})
    await dana.sign_in("dana")
    await press(dana, "?")
    listed = await dana.page.locator("#help-keys dt").all_inner_texts()
    assert {"j", "k", "n", "/", "?", "x"} <= {name.strip() for name in listed} and "a" not in listed
    await press(dana, "Escape")
    await dana.open(record.id)
    await press(dana, "?")
    called = dict(
        zip(
            await dana.page.locator("#help-keys dt").all_inner_texts(),
            await dana.page.locator("#help-keys dd").all_inner_texts(),
            strict=True,
        )
    )
    assert called["a"].startswith("approve") and called["r"].startswith("reject")


async def test_tab_goes_through_the_page_in_the_order_it_is_read(desk: Desk, dana: Seat) -> None:
    """The navigation, the menu, the filter, the list, the call; each shows where the focus is."""
    record = await desk.hold({"n": 1})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await dana.page.focus(".nav a")
    order: list[str] = []
    for _ in range(60):
        told = await dana.page.evaluate(
            """() => { const node = document.activeElement; const style = getComputedStyle(node);
              const shown = style.outlineStyle !== "none" || style.boxShadow !== "none";
              const places = [".nav", "#menu", ".filter", ".rows", ".scroll", ".actions"];
              const place = places.find((one) => node.closest(one));
              return [place ?? node.tagName, shown]; }"""
        )
        assert told[1], told
        if told[0] != (order or [""])[-1]:
            order.append(told[0])
        if told[0] == ".actions":
            break
        await press(dana, "Tab")
    assert order[:4] == [".nav", "#menu", ".filter", ".rows"]
    assert order[-1] == ".actions" and ".scroll" in order


async def test_a_shortcut_never_approves_before_the_button_would(desk: Desk, dana: Seat) -> None:
    """`j`, Enter and `a` as fast as a browser takes them: nothing is approved until Approve stood still."""
    first = await desk.hold({"n": 1}, held(score=60))
    second = await desk.hold({"n": 2}, held(score=10))
    await dana.page.clock.install()
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(2)
    await dana.page.clock.pause_at(await dana.page.evaluate("Date.now() + 1000"))
    await press(dana, "j", "Enter")
    await dana.sees(".id", first.id)
    await press(dana, "a", "a", "j", "Enter", "a")
    await dana.sees(".id", second.id)
    await press(dana, "a", "a")
    await dana.page.clock.run_for(500)
    await press(dana, "a")
    stored = [await desk.store.get(record.id) for record in (first, second)]
    assert [(record.status, record.verdicts) for record in stored] == [(Status.HELD, ())] * 2


async def test_typing_in_a_field_presses_no_shortcut(desk: Desk, dana: Seat) -> None:
    """Letters in the filter are letters; Escape clears it, then leaves it."""
    record = await desk.hold({"n": 1})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await press(dana, "/")
    await dana.page.keyboard.type("mail par?")
    await expect(dana.page.locator("#filter")).to_have_value("mail par?")
    await expect(dana.page.locator("dialog[open]")).to_have_count(0)
    await press(dana, "Escape")
    await expect(dana.page.locator("#filter")).to_have_value("")
    await press(dana, "Escape")
    await expect(dana.page.locator("#filter")).not_to_be_focused()
    assert (await desk.store.get(record.id)).verdicts == ()
