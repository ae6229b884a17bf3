"""Approving with edits on the review page: a real gateway, a real upstream, an agent's client and a real browser."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from playwright.async_api import Browser, Request, expect

from tests.gateways import Site, site
from tests.stories.doors import AGENTS, agent_at, structured
from tests.surfaces.authenticators import Virtual
from tests.surfaces.desk import Desk
from tests.surfaces.seats import SIZES, Seat, seat_at
from tests.surfaces.test_web_axe import violations

pytestmark = pytest.mark.needs("chromium")

SCREENSHOTS = os.environ.get("HITL_SCREENSHOTS")
"""A folder of the tree to keep pictures in, for the documentation."""


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["to", "amount"],
    "properties": {
        "to": {"type": "string", "description": "who gets it"},
        "amount": {"type": "number"},
        "account": {"type": "integer"},
        "rate": {"type": "number"},
        "currency": {"enum": ["EUR", "USD"]},
        "urgent": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"$ref": "#/$defs/address"},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "$defs": {
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "floor": {"type": "integer"}}}
    },
}

ASKED: dict[str, Any] = {
    "account": 9007199254740991,
    "address": {"floor": 3, "street": "Main"},
    "amount": 1.0,
    "currency": "EUR",
    "limit": 7,
    "note": "line one\nline two",
    "other": {"deep": [1e16, {"z": None}]},
    "rate": 1e-07,
    "tags": ["a", "b"],
    "to": "ann@example.com",
    "urgent": True,
}
"""What JavaScript would write in another way, had it read it: `1.0`, `1e+16`, `1e-07`."""

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "signals": [
        {
            "id": "amount",
            "tool": "bank__pay",
            "points": 40,
            "when": "number(args.amount) > 100.0",
            "reason": "more than a hundred",
        }
    ],
    "rules": [
        {"id": "asks", "tool": "bank__pay", "effect": "hold", "reason": "money leaves"},
        {
            "id": "twice",
            "tool": "bank__pay",
            "effect": "hold",
            "quorum": 2,
            "when": "number(args.amount) > 500.0",
            "reason": "much money leaves",
        },
        {
            "id": "signed",
            "tool": "bank__pay",
            "effect": "hold",
            "assurance": "passkey",
            "when": "args.to.endsWith('@bank.example')",
            "reason": "what goes to the bank is signed for",
        },
        {
            "id": "never",
            "tool": "bank__pay",
            "effect": "deny",
            "when": "number(args.amount) > 1000.0",
            "reason": "more than a thousand is never paid",
        },
    ],
}

BANK = """
import json, sys
TOOL = {"name": "pay", "description": "Pay somebody.", "inputSchema": json.loads(sys.argv[2])}
for line in sys.stdin:
    message = json.loads(line)
    number, method = message.get("id"), message.get("method")
    if method == "initialize":
        info = {"name": "bank", "version": "1"}
        version = message["params"]["protocolVersion"]
        result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        with open(sys.argv[1], "a") as file:
            file.write(line)
        result = {"content": [{"type": "text", "text": "paid"}]}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}), flush=True)
"""
"""A server that keeps each call's frame as it came."""


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the bank, for all tests here."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        folder = Path(name).resolve()
        (folder / "bank.py").write_text(BANK, encoding="utf-8")
        arguments = [str(folder / "bank.py"), str(folder / "paid"), json.dumps(SCHEMA)]
        bank = {"command": sys.executable, "args": arguments}
        people = {name: {"roles": ["finance"]} for name in ("dana", "lee")}
        options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1, "reviewers": people}
        with site(folder, POLICY, upstreams={"bank": bank}, **options) as made:
            await made.start()
            yield made


def paid(place: Site) -> list[str]:
    """The frames of calls as the bank got them."""
    path = place.folder / "paid"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@asynccontextmanager
async def asked(place: Site, browser: Browser, arguments: dict[str, Any], **options: Any) -> AsyncIterator[Any]:
    """An agent, what it was told of its held call, and dana who has read it to its end."""
    async with agent_at(place, "http", "2026-07-28") as agent, seat_at(place, browser, **options) as dana:
        held = structured(await agent.call_tool("bank__pay", arguments))
        await dana.sign_in("dana", f"&call={held['call_id']}")
        await dana.page.wait_for_selector(".arguments .line")
        await dana.read_all()
        yield agent, held["call_id"], dana


async def edit(dana: Seat, **values: str) -> None:
    """Open the form and put these texts into its fields."""
    await dana.page.click("button.edit")
    await dana.page.wait_for_selector("#edit .form")
    for name, text in values.items():
        await dana.page.fill(f"[data-path='$.arguments.{name}']", text)


async def approve_edit(dana: Seat) -> None:
    """Read what would change to its end, and approve it once that can be pressed."""
    await dana.page.locator("#edit .found .end").scroll_into_view_if_needed()
    await dana.confirm()
    await dana.page.wait_for_selector("#edit-send[aria-disabled=false]")
    await dana.page.click("#edit-send")


async def told(agent: Client, call_id: str) -> dict[str, Any]:
    """What the agent hears in the end."""
    return structured(await agent.call_tool("hitl_wait", {"call_id": call_id}))


@SIZES
async def test_one_field_is_edited_and_every_other_byte_stays(
    place: Site, browser: Browser, viewport: dict[str, int]
) -> None:
    """The change is shown before it is sent, and on the page after; the upstream gets it, and the agent is told."""
    ann, who = (f"{name}{viewport['width']}@example.com" for name in ("ann", "bob"))
    async with asked(place, browser, {**ASKED, "to": ann}, viewport=viewport) as (agent, call_id, dana):
        await edit(dana, to=who)
        await dana.sees("#edit .diff .new", who)
        await dana.sees("#edit .diff .gone", ann)
        assert await dana.page.locator("#edit .diff .gone").count() == 1
        await dana.sees("#edit .again", "The score stays the same.")
        if SCREENSHOTS:
            await dana.page.screenshot(path=Path(SCREENSHOTS) / f"call-edit-{viewport['width']}.png")
        assert await dana.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await approve_edit(dana)
        await dana.sees(".part-notice", "Approved as you changed it.")
        await dana.sees(".revision", "Edited by dana")
        await dana.sees(".revision .diff .new", who)
        answer = await told(agent, call_id)
    assert answer["executed"] is True
    assert json.loads(paid(place)[-1])["params"]["arguments"] == {**ASKED, "to": who}
    for text in ('"account":9007199254740991', '"amount":1.0', '"rate":1e-07', "1e+16"):
        assert text in paid(place)[-1].replace('": ', '":'), text
    assert "bob" in json.dumps(answer["changes"])


async def test_every_kind_of_field_changes_what_it_says(place: Site, browser: Browser) -> None:
    """Texts of several lines, numbers, choices, booleans, lists, objects, JSON where kinds differ, what is new."""
    async with asked(place, browser, {**ASKED, "to": "kinds@example.com"}) as (agent, call_id, dana):
        await edit(dana, note="one\ntwo\nthree", amount="2.50", limit='"seven"')
        page = dana.page
        await page.select_option("[data-path='$.arguments.currency']", label="USD")
        await page.select_option("[data-path='$.arguments.urgent']", label="false")
        await page.fill("[data-path='$.arguments.address.floor']", "12345678901234")
        await (
            page.locator(".items li", has=page.locator("[data-path='$.arguments.tags[0]']"))
            .get_by_role("button", name="Remove")
            .click()
        )
        await page.get_by_role("button", name="Add an item to tags").click()
        await page.fill("[data-path='$.arguments.tags[1]']", "c")
        await page.get_by_role("button", name="Leave out account").click()
        await page.get_by_role("button", name="Leave out rate").click()
        await page.get_by_role("button", name="Add rate").click()
        await page.fill("[data-path='$.arguments.rate']", "0.125")
        await approve_edit(dana)
        await told(agent, call_id)
    sent = json.loads(paid(place)[-1])["params"]["arguments"]
    wanted = {
        **{name: value for name, value in ASKED.items() if name != "account"},
        **{"to": "kinds@example.com", "note": "one\ntwo\nthree", "amount": 2.5, "limit": "seven", "currency": "USD"},
        **{"urgent": False, "address": {"floor": 12345678901234, "street": "Main"}, "tags": ["b", "c"], "rate": 0.125},
    }
    assert sent == wanted


@SIZES
@pytest.mark.needs("axe")
async def test_axe_finds_nothing_on_the_form(place: Site, browser: Browser, viewport: dict[str, int]) -> None:
    """In both themes, with what would change, what is wrong, and every kind of field."""
    arguments = {**ASKED, "to": f"axe{viewport['width']}@example.com"}
    options = {"viewport": viewport, "bypass_csp": True, "reduced_motion": "reduce"}
    async with asked(place, browser, arguments, **options) as (_, _, dana):
        await edit(dana, to="other@example.com")
        await dana.sees("#edit .diff .new", "other@example.com")
        found = []
        for scheme in ("light", "dark"):
            await dana.page.emulate_media(color_scheme=scheme)
            found += await violations(dana, f"edit, {scheme}")
            await dana.page.fill("[data-path='$.arguments.amount']", "abc")
            await dana.sees(".field-problem", "it is no number")
            found += await violations(dana, f"edit with a mistake, {scheme}")
            await dana.page.fill("[data-path='$.arguments.amount']", "1.0")
        assert found == []


@SIZES
async def test_an_edit_that_the_policy_denies_is_refused_and_said(
    place: Site, browser: Browser, viewport: dict[str, int]
) -> None:
    """The rule's reason stands there and nothing can be sent; a milder edit of the same call can."""
    before = len(paid(place))
    arguments = {"to": f"denied{viewport['width']}@example.com", "amount": 5}
    async with asked(place, browser, arguments, viewport=viewport) as (agent, call_id, dana):
        await edit(dana, amount="1001")
        await dana.sees("#edit .problem", "more than a thousand is never paid")
        await expect(dana.page.locator("#edit-send")).to_have_attribute("aria-disabled", "true")
        await dana.press_at(dana.page.locator("#edit-send"))
        async with place.reviewer("lee") as lee:
            assert (await lee.call(call_id))["verdicts"] == []
            assert len(paid(place)) == before
        await dana.page.fill("[data-path='$.arguments.amount']", "101")
        await dana.sees("#edit .again", "more than a hundred")
        await dana.sees("#edit .again", "It was 0.")
        await approve_edit(dana)
        assert (await told(agent, call_id))["executed"] is True
    assert '"amount":101' in paid(place)[-1].replace('": ', '":')


async def test_what_does_not_fit_the_schema_is_said_beside_its_field(place: Site, browser: Browser) -> None:
    """By the page where no JSON comes of it, by the gateway where the tool would not take it; neither can be sent."""
    async with asked(place, browser, {**ASKED, "to": "wrong@example.com"}) as (_, call_id, dana):
        send = dana.page.locator("#edit-send")
        await edit(dana, amount="abc")
        await dana.sees(".field-problem", "it is no number")
        await dana.page.fill("[data-path='$.arguments.amount']", "1.0")
        await dana.page.fill("[data-path='$.arguments.limit']", "{}")
        await dana.sees("#edit .problem", "$.arguments.limit")
        await expect(dana.page.locator("[data-path='$.arguments.limit']")).to_have_attribute("aria-invalid", "true")
        await dana.page.fill("[data-path='$.arguments.limit']", "{")
        await dana.sees(".field-problem", "this is no JSON: it ends too early")
        await dana.page.fill("[data-path='$.arguments.limit']", "7")
        await dana.sees("#edit .part-hint", "nothing is changed")
        await expect(send).to_have_attribute("aria-disabled", "true")
        await dana.page.click("#edit-cancel")
        await expect(dana.page.locator("#edit")).to_have_count(0)
        async with place.reviewer("lee") as lee:
            assert (await lee.call(call_id))["status"] == "held"


@SIZES
async def test_an_edit_that_needs_two_people_is_read_anew_by_the_second(
    place: Site, browser: Browser, viewport: dict[str, int]
) -> None:
    """It is critical then, so the new amount is typed; who had the old bytes open is told, and reads the new."""
    arguments = {"to": f"two{viewport['width']}@example.com", "amount": 5}
    async with (
        asked(place, browser, arguments, viewport=viewport) as (agent, call_id, dana),
        seat_at(place, browser, viewport=viewport) as lee,
    ):
        await lee.sign_in("lee", f"&call={call_id}")
        await lee.ready_to_approve()
        await edit(dana, amount="600")
        await dana.sees("#edit .typing", "600")
        await approve_edit(dana)
        await dana.sees(".part-hint", "you approved it; it needs more people")
        await lee.sees(".part-notice .loud", "It was edited while you looked")
        await lee.sees(".arguments", "600")
        await lee.sees(".revision", "Edited by dana")
        await lee.read_all()
        await lee.ready_to_approve()
        await lee.approve.click()
        assert (await told(agent, call_id))["executed"] is True
    assert '"amount":600' in paid(place)[-1].replace('": ', '":')


async def test_an_edit_that_needs_a_signature_is_signed_as_it_then_is(place: Site, browser: Browser) -> None:
    """The call as it was asked needed none; the form says before that yours would count with your passkey."""
    async with asked(place, browser, {"to": "signed@example.com", "amount": 5}) as (agent, call_id, dana):
        await Virtual.plug_into(dana.page)
        await dana.go("you", "#passkey-add")
        await dana.page.click("#passkey-add")
        await expect(dana.page.locator(".passkey-row")).to_have_count(1)
        await dana.open(call_id)
        await dana.read_all()
        await edit(dana, to="account@bank.example")
        await dana.sees("#edit .needs", "1 approval by any reviewer, signed with a passkey")
        await dana.sees("#edit .needs", "yours would count, signed with your passkey")
        await approve_edit(dana)
        await dana.sees(".part-notice", "Approved as you changed it.")
        answer = await told(agent, call_id)
        assert answer["executed"] is True, answer
        async with place.reviewer("lee") as lee:
            call = await lee.call(call_id)
            assert [one["assurance"] for one in call["verdicts"]] == ["passkey"]
    assert "account@bank.example" in paid(place)[-1]


async def test_what_others_decide_closes_the_form(place: Site, browser: Browser) -> None:
    """Nobody goes on editing what is decided already: the page says by whom."""
    async with asked(place, browser, {"to": "race@example.com", "amount": 5}) as (_, call_id, dana):
        await edit(dana, amount="6")
        async with place.reviewer("lee") as lee:
            await lee.decide(await lee.call(call_id), "reject", "not this one")
        await dana.sees(".part-notice .loud", "Rejected by lee")
        await expect(dana.page.locator("#edit")).to_have_count(0)


async def test_numbers_beyond_what_a_float_holds_leave_the_form_as_they_came(desk: Desk, dana: Seat) -> None:
    """What the form hands over of a field that nobody touched is the text that came, to the digit."""
    record = await desk.hold({"big": 9007199254740993, "list": [1e16, -0.0], "to": "a@example.com"})
    await dana.sign_in("dana", f"&call={record.id}")
    await dana.ready_to_approve()
    await edit(dana)
    bodies: list[str] = []

    def keep(http: Request) -> None:
        if http.url.endswith("/edit"):
            bodies.append(json.loads(http.post_data or "{}")["arguments_json"])

    dana.page.on("request", keep)
    async with dana.page.expect_response("**/edit"):
        await dana.page.fill("[data-path='$.arguments.to']", "b@example.com")
    assert bodies == [record.call.arguments_json.replace("a@", "b@")]
