"""What another page in the reviewer's browser can do: nothing. Real Chromium, the reviewer signed in next door.

The other page stands on another port of the same machine, under both of its names: the closest a foreign page gets.
It knows the gateway's address, a held call's id and its digest.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from hitl_mcp.calls import CallRecord, Status
from tests.surfaces.desk import Desk, serving
from tests.surfaces.seats import Seat, seat_at

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])]

FETCH = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return `${answer.type} ${answer.status} ${await answer.text()}`;
  } catch (error) { return error.name; }
}"""


@asynccontextmanager
async def next_door(desk: Desk, browser: Browser, name: str) -> AsyncIterator[tuple[Seat, Page, CallRecord]]:
    """Dana signed in with a call before her, and in the same browser a page from another port."""

    async def page(http: Any) -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>harmless</title><body></body>")

    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/{rest:path}", page)])
    record = await desk.hold({"secret": "the arguments of a held call"})
    async with serving(app, listener), seat_at(desk, browser) as dana:
        await dana.sign_in("dana", f"&call={record.id}")
        await dana.ready_to_approve()
        evil = await dana.page.context.new_page()
        await evil.goto(f"http://{name}:{listener.getsockname()[1]}/")
        yield dana, evil, record


async def nothing_moved(desk: Desk, record: CallRecord) -> None:
    """The call is held as before, and nothing else of the gateway changed."""
    now = await desk.store.get(record.id)
    assert (now.status, now.version, now.verdicts) == (Status.HELD, record.version, ())
    assert desk.store.paused is None and desk.stopped == []


async def test_another_page_reads_nothing(desk: Desk, browser: Browser, name: str) -> None:
    """Not with fetch in any mode, not the key in storage, not the page's files as scripts or styles."""
    async with next_door(desk, browser, name) as (_, evil, record):
        for path in ("/", "/api/calls", f"/api/calls/{record.id}", f"/api/calls/{record.id}/shown", "/api/events"):
            for host in (desk.url, desk.url.replace("127.0.0.1", "localhost")):
                for options in ({}, {"mode": "no-cors"}, {"credentials": "include"}):
                    said = await evil.evaluate(FETCH, [host + path, options])
                    assert said in ("TypeError", "opaque 0 "), (path, options, said)
        assert await evil.evaluate("JSON.stringify(localStorage)") == "{}"
        loads = """url => new Promise(resolve => {
          const script = Object.assign(document.createElement("script"), {src: url, type: "module"});
          script.onload = () => resolve("loaded"); script.onerror = () => resolve("refused");
          document.body.append(script);
        })"""
        assert await evil.evaluate(loads, f"{desk.url}/app.js") == "refused"
        await nothing_moved(desk, record)


async def test_another_page_decides_nothing(desk: Desk, browser: Browser, name: str) -> None:
    """Not with fetch, simple or with headers, not with a form, not with a beacon, whatever it knows."""
    async with next_door(desk, browser, name) as (dana, evil, record):
        key = await dana.page.evaluate("localStorage.getItem('hitl-mcp.key')")
        body = f'{{"verdict":"approve","digest":"{record.digest}"}}'
        url = f"{desk.url}/api/calls/{record.id}/verdict"
        for headers in (
            {"content-type": "text/plain"},
            {"content-type": "application/json"},
            {"content-type": "application/json", "authorization": f"Bearer {key}"},  # even with a stolen key
        ):
            for mode in ("cors", "no-cors"):
                options = {"method": "POST", "mode": mode, "credentials": "include", "headers": headers, "body": body}
                assert await evil.evaluate(FETCH, [url, options]) in ("TypeError", "opaque 0 ")
        assert await evil.evaluate("([url, body]) => navigator.sendBeacon(url, body)", [url, body]) in (True, False)
        await nothing_moved(desk, record)
        for path in (f"/api/calls/{record.id}/verdict", "/api/pause", "/api/logout", "/api/stop"):
            await _post_form(evil, desk.url + path, body)
        await nothing_moved(desk, record)
        await dana.page.reload()
        await dana.ready_to_approve()


async def _post_form(evil: Page, url: str, body: str) -> None:
    """Submit a form that writes JSON with `text/plain`, as forged requests do, and come back."""
    async with evil.expect_navigation():
        await evil.evaluate(
            """([url, body]) => {
              const make = (tag, values) => Object.assign(document.createElement(tag), values);
              const form = make("form", {action: url, method: "POST", enctype: "text/plain"});
              const input = make("input", {name: body.slice(0, -1) + ',"reason":"', value: '"}'});
              form.append(input); document.body.append(form); form.submit();
            }""",
            [url, body],
        )
    assert "wrong_door" in await evil.content()
    await evil.go_back()


async def test_another_page_cannot_frame_or_steer_the_review_page(desk: Desk, browser: Browser, name: str) -> None:
    """A frame stays empty, an opened window is out of reach, and an address in a link only ever opens a call."""
    async with next_door(desk, browser, name) as (_, evil, record):
        framed = """url => new Promise(resolve => {
          const frame = Object.assign(document.createElement("iframe"), {src: url});
          frame.onload = () => { try { resolve(frame.contentDocument?.body?.innerText ?? "out of reach"); }
            catch (error) { resolve(error.name); } };
          document.body.append(frame);
        })"""
        assert await evil.evaluate(framed, f"{desk.url}/#call={record.id}") in ("out of reach", "SecurityError", "")
        frames = [frame for frame in evil.frames if frame != evil.main_frame]
        assert [await frame.locator("button").count() for frame in frames] == [0]
        async with evil.context.expect_page() as opening:
            await evil.evaluate("url => { window.opened = window.open(url); }", f"{desk.url}/#call={record.id}")
        opened = await opening.value
        await opened.wait_for_selector("button.approve")
        reach = "() => { try { return `got ${window.opened.localStorage}`; } catch (error) { return error.name; } }"
        assert await evil.evaluate(reach) in ("SecurityError", "TypeError")
        assert await evil.evaluate("window.opened.closed")  # the opener policy cut the tie
        assert await opened.evaluate("window.opener") is None
        await nothing_moved(desk, record)


async def test_a_link_for_someone_else_says_whom_it_made_you(desk: Desk, browser: Browser, name: str) -> None:
    """Who is led to another reviewer's link decides in that name only knowingly."""
    async with next_door(desk, browser, name) as (_, evil, record):
        await evil.goto(await desk.link("sam"))
        await evil.locator(".banner", has_text="You are sam now; you were dana.").wait_for()
        await nothing_moved(desk, record)


async def test_a_forged_link_signs_nobody_in_as_someone_else(desk: Desk, browser: Browser, name: str) -> None:
    """A made-up code changes nothing: not who is signed in, not what is decided."""
    async with next_door(desk, browser, name) as (_, evil, record):
        await evil.goto(f"{desk.url}/#login=made-up&call={record.id}&verdict=approve")
        await evil.locator(".banner", has_text="That link was used before").wait_for()
        assert "dana" in await evil.locator("#menu summary").inner_text()
        assert evil.url == f"{desk.url}/#call={record.id}&verdict=approve"
        await nothing_moved(desk, record)
