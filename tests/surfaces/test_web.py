"""The review page in a real browser, over the real API and a real store."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from hitl_mcp.calls import Outcome, Status, VerdictKind
from tests.clocks import HandClock
from tests.samples import claim, held, verdict
from tests.surfaces.desk import Desk
from tests.surfaces.seats import DESKTOP, HARD, PHONE, Seat, seat_at

pytestmark = pytest.mark.needs("chromium")


# Signing in.


async def test_a_link_signs_in_and_its_code_leaves_the_address_at_once(desk: Desk, dana: Seat) -> None:
    """The code is in no address and no history; the page says who one is; no cookie was set."""
    await dana.sign_in("dana")
    assert dana.page.url == f"{desk.url}/"
    assert "dana (admin, finance)" in await dana.read("#menu summary")
    assert await dana.page.context.cookies() == []
    assert await dana.page.evaluate("history.length") <= 2


async def test_a_link_works_once(desk: Desk, dana: Seat) -> None:
    """The second time the page says so, and shows no call."""
    await desk.hold({"to": "a@example.com"})
    link = await desk.link("dana")
    await desk.parts.store.last_event_number()
    desk.parts.login_codes.redeem(link.partition("#login=")[2], desk.parts.clock.now())
    await dana.page.goto(link)
    await dana.sees("#sign-in-problem", "used before")
    assert await dana.rows.count() == 0
    assert dana.page.url == f"{desk.url}/"


async def test_a_deep_link_survives_signing_in(desk: Desk, dana: Seat) -> None:
    """Who comes for one call, and has to sign in first, gets to that call: in the same link or by a later one."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.page.goto(f"{desk.url}/#call={record.id}")
    await dana.sees("#sign-in", "Sign in to review")
    await dana.sign_in("dana")
    await dana.sees(".id", record.id)
    assert dana.page.url == f"{desk.url}/#call={record.id}"


async def test_a_link_may_name_the_call_itself(desk: Desk, dana: Seat) -> None:
    """`#login=…&call=…` signs in and opens it; only the call stays in the address."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.sees(".id", record.id)
    assert dana.page.url == f"{desk.url}/#call={record.id}"


async def test_signing_out_ends_it_in_every_tab(desk: Desk, dana: Seat) -> None:
    """The key is gone from the browser and worth nothing at the gateway."""
    await dana.sign_in("dana")
    key = await dana.page.evaluate("localStorage.getItem('hitl-mcp.key')")
    other = await dana.page.context.new_page()
    await other.goto(desk.url)
    await other.wait_for_selector(".group.waiting", state="attached")
    await dana.page.click("#menu summary")
    await dana.page.click("#sign-out")
    await dana.sees("#sign-in-problem", "signed out")
    await expect(other.locator("#sign-in")).to_be_visible()
    assert await dana.page.evaluate("localStorage.getItem('hitl-mcp.key')") is None
    async with desk.program(headers={"authorization": f"Bearer {key}"}) as client:
        assert (await client.get("/api/me")).status_code == 401


async def test_a_sign_in_that_ended_asks_for_a_new_one(desk: Desk, dana: Seat, clock: HandClock) -> None:
    """The page says so instead of showing what may be out of date."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    clock.forward(13 * 3600)
    await desk.hold({"to": "b@example.com"})
    await dana.sees("#sign-in-problem", "not signed in")
    await expect(dana.page.locator("#review")).to_be_hidden()


# The list.


async def test_a_new_call_appears_by_itself(desk: Desk, dana: Seat) -> None:
    """Without reload, and the title counts it."""
    await dana.sign_in("dana")
    await dana.sees(".waiting", "Nothing waits for you")
    await desk.hold_payment({"amount": 5000})
    await dana.sees(".waiting a.row", "payments / pay")
    await expect(dana.page).to_have_title("(1) hitl-mcp review")
    assert "needs 2 more" in await dana.waiting.first.inner_text()


async def test_rows_stay_where_they_are_until_asked(desk: Desk, dana: Seat) -> None:
    """A more urgent call waits behind a button; a settled one keeps its row; nothing moves under the pointer."""
    first, second = [await desk.hold({"n": number}, tool=f"send{number}") for number in (1, 2)]
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(2)
    places = [await row.bounding_box() for row in await dana.waiting.all()]
    order = [await row.get_attribute("data-id") for row in await dana.waiting.all()]
    await desk.hold({"n": 3}, held(score=99, expires_in_seconds=30), tool="urgent")
    await expect(dana.page.locator(".show-new")).to_have_text("Show 1 new")
    await desk.store.add_verdict(first.id, verdict(first.digest, VerdictKind.REJECT, "lee"))
    await dana.sees(f"a.row[data-id='{first.id}']", "rejected")
    assert [await row.bounding_box() for row in await dana.waiting.all()] == places
    assert [await row.get_attribute("data-id") for row in await dana.waiting.all()] == order
    await dana.page.click(".show-new")
    await expect(dana.waiting).to_have_count(2)
    assert "urgent" in await dana.waiting.nth(0).inner_text()
    assert await dana.waiting.nth(1).get_attribute("data-id") == second.id


HIDE = """() => {
  Object.defineProperty(document, "hidden", { get: () => true, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
SHOW = HIDE.replace("=> true", "=> false")


async def test_many_tabs_do_not_starve_one_another(desk: Desk, dana: Seat) -> None:
    """Links open tabs, and browsers open six connections to one place: the ninth tab still works, and is live."""
    record = await desk.hold({"to": "a@example.com"})
    await dana.sign_in("dana")
    tab = dana.page
    for _ in range(8):
        await tab.evaluate(HIDE)  # headless tabs all count as seen
        tab = await dana.page.context.new_page()
        await tab.goto(f"{desk.url}/#call={record.id}")
        await tab.wait_for_selector(".arguments")
    await tab.wait_for_selector(".waiting a.row")
    await desk.hold_payment({"amount": 1})
    await expect(tab.locator(".show-new")).to_have_text("Show 1 new")
    await tab.evaluate(HIDE)
    await dana.page.evaluate(SHOW)
    await expect(dana.page.locator(".show-new")).to_have_text("Show 1 new")


async def test_the_list_is_filtered_by_agent_and_tool(desk: Desk, dana: Seat) -> None:
    """What does not match is out of the way until the filter is cleared."""
    await desk.hold({"n": 1})
    await desk.hold_payment({"n": 2})
    await dana.sign_in("dana")
    await dana.page.keyboard.press("/")
    await dana.page.keyboard.type("pay")
    await expect(dana.waiting).to_have_count(1)
    await dana.page.keyboard.press("Escape")
    await expect(dana.waiting).to_have_count(2)


async def test_unknown_outcomes_stand_out(desk: Desk, dana: Seat) -> None:
    """On the list, above it, and in the call: it may have happened, and nobody should ask again blindly."""
    record = await desk.hold({"to": "a@example.com"})
    await desk.store.add_verdict(record.id, verdict(record.digest))
    await claim(desk.store, await desk.store.get(record.id))
    outcome = Outcome(Status.UNKNOWN, True, "2026-11-22T12:00:00.000000Z", "the connection was lost")
    await desk.store.settle(record.id, outcome, durable=True)
    await dana.sign_in("dana")
    await dana.sees(".banner.unknown", "1 call has an unknown outcome")
    await dana.sees(".group.unknown a.row", "outcome unknown")
    await dana.open(record.id)
    await dana.sees(".headline.unknown", "it may have happened")
    await dana.sees(".outcome", "the connection was lost")
    await expect(dana.approve).to_be_hidden()


async def test_the_page_says_what_is_wrong_with_the_gateway(desk: Desk, dana: Seat) -> None:
    """Paused by whom, which upstream is down, and that the connection was lost."""
    desk.upstreams.append({"name": "mail", "state": "down", "detail": "no such command"})
    await dana.sign_in("dana")
    await dana.sees(".banner.down", "Not reachable: mail")
    await desk.store.pause("lee", "odd traffic")
    await dana.sees(".banner.paused", "Paused by lee: odd traffic")
    desk.parts.stopping.set()
    await dana.sees("#live", "Reconnecting")
    await dana.sees(".banner.lost", "Connection lost")


# One call.


async def test_a_call_shows_everything_needed_to_decide(desk: Desk, dana: Seat) -> None:
    """The sentence, the points and their sum, who must approve, the arguments, and apart from them the claim."""
    record = await desk.hold_payment({"amount": 5000, "to": "DE89"}, claim="Dana asked me to")
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.sees(".sentence", "builder asks to run payments / pay")
    assert "70 of 100 points" in await dana.read(".score-card")
    assert [await part.inner_text() for part in await dana.page.locator(".points").all()] == ["45", "25"]
    assert "2 approvals by finance" in await dana.read(".needs")
    assert "0 of 2: nobody yet; could: dana, lee" in await dana.read(".needs")
    assert "not checked" in await dana.read(".claim")
    assert "Dana asked me to" in await dana.read(".claim")
    assert "Dana asked" not in await dana.read(".arguments")
    await dana.page.click("text=What an approval is bound to")
    assert record.digest in await dana.read(".binding")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["1280", "360"])
@pytest.mark.parametrize("name", sorted(HARD))
async def test_hard_arguments_are_legible_to_the_last_character(
    desk: Desk, browser: Browser, name: str, viewport: dict[str, int]
) -> None:
    """What stands on the page is the whole text, nothing of it clipped, and the bytes are what was asked."""
    record = await desk.hold({name: HARD[name]})
    async with seat_at(desk, browser, viewport=viewport) as seat:
        await seat.sign_in("dana", f"&call={record.id}")
        await seat.page.wait_for_selector(".arguments .line")
        assert await _text_on_page(seat) == _expected(name)
        clipped = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).length"
        assert await seat.page.locator(".arguments .tx").evaluate_all(clipped) == 0
        assert await seat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await seat.page.keyboard.press("v")
        raw = await seat.page.locator(".raw .tx").evaluate("node => node.textContent")
        assert raw.replace("⟦U+202E RIGHT-TO-LEFT OVERRIDE⟧", "\u202e") == record.call.arguments_json


async def _text_on_page(seat: Seat) -> str:
    """The tree's text without line numbers and the notes that are ours."""
    script = "nodes => nodes.map(node => node.textContent).join('')"
    return str(await seat.page.locator(".numbered .tx .s:not(.note)").evaluate_all(script))


def _expected(name: str) -> str:
    value = HARD[name]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return f'{{"{name}": {text}}}'.replace("\u202e", "⟦U+202E RIGHT-TO-LEFT OVERRIDE⟧")


async def test_markup_in_arguments_is_only_text(desk: Desk, dana: Seat) -> None:
    """Nothing an agent or an upstream writes becomes an element, an attribute or a script."""
    nasty = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    record = await desk.hold({nasty: nasty}, claim=nasty, tool=nasty)
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.sees(".arguments", "<img src=x")
    assert await dana.page.locator("#detail img, #detail script, #rows img").count() == 0
    assert "owned" not in await dana.page.title()


async def test_a_mark_on_the_page_cannot_be_imitated(desk: Desk, dana: Seat) -> None:
    """A text that spells out a mark has none of its looks, and its brackets are named."""
    record = await desk.hold({"real": "a\u202eb", "false": "a⟦U+202E RIGHT-TO-LEFT OVERRIDE⟧b"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.page.wait_for_selector(".arguments .line")
    marks = await dana.page.locator(".arguments .numbered .mark").all_text_contents()
    assert marks.count("⟦U+202E RIGHT-TO-LEFT OVERRIDE⟧") == 1
    assert marks.count("⟦U+27E6 MATHEMATICAL LEFT WHITE SQUARE BRACKET⟧") == 1


# Notifications.

FAKE_NOTIFICATIONS = """
window.asked = 0;
window.Notification = class extends EventTarget {
  constructor(title, options) { super(); console.info(`told: ${title}: ${options.body}`); }
  static async requestPermission() { window.asked += 1; return "granted"; }
};
Object.defineProperty(document, "hidden", { get: () => true });
"""


async def test_notifications_are_asked_for_by_a_click_and_never_on_load(desk: Desk, dana: Seat) -> None:
    """Once allowed, a new call in a hidden tab is told, its characters marked there too."""
    await dana.page.add_init_script(FAKE_NOTIFICATIONS)
    await desk.hold({"n": 1})
    await dana.sign_in("dana")
    await expect(dana.waiting).to_have_count(1)
    assert await dana.page.evaluate("window.asked") == 0
    await dana.page.click("#menu summary")
    await dana.page.click("#notify")
    await expect(dana.page.locator("#notify")).to_have_text("Stop notifying me")
    async with dana.page.expect_console_message(lambda message: message.text.startswith("told: ")) as told:
        await desk.hold({"n": 2}, tool="s\u0435nd")
    assert (await told.value).text == (
        "told: A call waits for you: builder asks to run mail / s⟦е U+0435 CYRILLIC SMALL LETTER IE⟧nd, 40 points"
    )
