"""The pages of agents and tools, and of how fast people answer, in a real browser."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.samples import verdict
from tests.surfaces.changed_tools import change
from tests.surfaces.desk import Desk
from tests.surfaces.full_desk import a_full_desk
from tests.surfaces.seats import Seat, seat_at

pytestmark = pytest.mark.needs("chromium")


async def figures(seat: Seat, view: str) -> dict[str, str]:
    """The figures of a page, by what they count."""
    names = await seat.page.locator(f"#view-{view} .figure dt").all_inner_texts()
    values = await seat.page.locator(f"#view-{view} .figure dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


async def test_an_agents_page_says_what_it_did(desk: Desk, dana: Seat) -> None:
    """From the list of agents to its counts, the share of approvals, its owner, and its last calls."""
    await a_full_desk(desk)
    await desk.hold({"n": 1}, agent="painter")
    await dana.sign_in("dana")
    await dana.page.click("#nav >> text=Agents")
    await expect(dana.page.locator("#view-agents tbody th")).to_have_text(["builder", "painter"])
    await dana.page.click("#view-agents >> text=builder")
    await dana.sees("#view-agent h2", "Agent builder")
    assert "It belongs to dana." in await dana.read("#view-agent")
    said = await figures(dana, "agent")
    assert said["open now"] == "4" and said["rejected by people"] == "1" and said["approved by people"] == "2"
    assert said["of the answers were approvals"] == "67 %"
    await expect(dana.page.locator("#view-agent a.row")).to_have_count(6)
    await dana.page.click("text=What of it waits")
    await expect(dana.waiting).to_have_count(3)


async def test_an_agent_is_stopped_and_released(desk: Desk, dana: Seat) -> None:
    """With a reason that stands on its page and in the list of agents, until somebody releases it."""
    await desk.hold({"n": 1})
    await dana.sign_in("dana", "&agent=builder")
    await dana.sees("#view-agent h2", "Agent builder")
    await dana.page.click("#view-agent summary")
    await dana.page.fill("#stop-reason", "It loops.")
    await dana.page.click("text=Stop this agent >> nth=-1")
    await dana.sees("#view-agent .stop", "This agent is stopped")
    assert "It loops." in await dana.read("#view-agent .stop")
    async with desk.signed_in("lee") as lee:
        [stop] = (await lee.get("/api/stops")).json()["stops"]
        assert (stop["agent"], stop["by"], stop["reason"]) == ("builder", "dana", "It loops.")
    await dana.go("agents", "#view-agents .pill")
    await dana.go("agent=builder", "#view-agent .stop")
    await dana.page.click("text=Release it")
    await expect(dana.page.locator("#view-agent .stop h3")).to_have_text("Stop this agent")
    async with desk.signed_in("lee") as lee:
        assert (await lee.get("/api/stops")).json()["stops"] == []


async def test_what_somebody_writes_stays_while_the_page_looks_again(desk: Desk, dana: Seat) -> None:
    """A new call of the agent shows by itself; the reason that is being written is not touched."""
    await desk.hold({"n": 1})
    await dana.sign_in("dana", "&agent=builder")
    await dana.page.click("#view-agent summary")
    await dana.page.fill("#stop-reason", "half a sent")
    await desk.hold({"n": 2})
    await expect(dana.page.locator("#view-agent a.row")).to_have_count(2)
    await dana.page.keyboard.type("ence")
    await expect(dana.page.locator("#stop-reason")).to_have_value("half a sentence")


async def test_a_tools_page_says_how_it_is_used(desk: Desk, dana: Seat) -> None:
    """Its pin, what the policy said, how people answered; a blocked one says so and leads to what changed."""
    await a_full_desk(desk)
    await change(desk)
    await desk.hold({"to": []}, tool="send_mail", name="mail__send_mail")
    await dana.sign_in("dana")
    await dana.page.click("#nav >> text=Tools")
    await expect(dana.page.locator("#view-used tbody tr")).to_have_count(3)
    await dana.sees("#view-used tbody tr", "blocked")
    await dana.page.click('#view-used a[href="#used=mail__send"]')
    await dana.sees("#view-tool h2", "Tool mail / send")
    said = await figures(dana, "tool")
    assert said["approved by people"] == "2" and said["rejected by people"] == "1"
    assert "held 5 for people" in await dana.read("#view-tool")
    await dana.go("used=mail__send_mail", "#view-tool .pill")
    await dana.page.click("#view-tool >> text=See what changed")
    await dana.sees(".change h3", "mail__send_mail")


@pytest.mark.parametrize("place", ["agent=nobody", "used=nothing"])
async def test_a_name_that_nobody_used_is_said_to_be_unknown(desk: Desk, dana: Seat, place: str) -> None:
    """An address with a mistyped name."""
    await dana.sign_in("dana", f"&{place}")
    await dana.sees(".view [role=alert]", "of this name")


async def test_names_on_these_pages_are_only_text(desk: Desk, dana: Seat) -> None:
    """An agent and a tool that are called like markup, and with a character that is another one."""
    nasty = "<img src=x onerror=\"document.title='owned'\">\u0430"
    await desk.hold({"n": 1}, agent=nasty, tool=nasty, name=f"mail__{nasty}")
    await dana.sign_in("dana")
    for view, place in (("agents", "agents"), ("used", "used")):
        await dana.go(place, f"#view-{view} tbody th .mark")
        await dana.page.click(f"#view-{view} tbody th a")
        await dana.page.locator("h2 .mark").first.wait_for()
    assert await dana.page.locator("#page img").count() == 0
    assert "owned" not in await dana.page.title()


async def test_the_pace_of_answers_is_plainly_said(desk: Desk, browser: Browser) -> None:
    """Everybody sees their own week, an admin everybody's, one's own first."""
    for number in range(3):
        record = await desk.hold({"n": number}, tool=f"send{number}")
        await desk.store.add_verdict(record.id, verdict(record.digest, reviewer="lee"))
    async with seat_at(desk, browser) as lee:
        await lee.sign_in("lee")
        await lee.page.click("#menu summary")
        await lee.page.click("text=How fast I answer")
        await lee.sees("#view-pace .card h3", "You (lee)")
        said = await figures(lee, "pace")
        assert (said["approved"], said["rejected"], said["approvals in a row"]) == ("3", "0", "3")
        assert said["of the answers were approvals"] == "100 %"
    async with seat_at(desk, browser) as dana:
        await dana.sign_in("dana", "&pace")
        await dana.sees("#view-pace .card h3", "lee")
