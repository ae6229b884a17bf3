"""The main story with nothing made up: a server from npm, an agent's client, and a person's browser."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.gateways import Desk, Site, site
from tests.needs import needed
from tests.stories.doors import AGENTS, agent_at, said, structured

pytestmark = [pytest.mark.needs("chromium", "filesystem-server")]

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "signals": [{"id": "writes", "tool": "files__write_file", "points": 45, "reason": "it replaces what is there"}],
    "rules": [
        {"id": "reads", "tool": ["files__read_*", "files__list_*"], "effect": "allow", "reason": "reading"},
        {"id": "writes-ask", "tool": "files__write_file", "effect": "hold", "reason": "a person looks first"},
    ],
}

TEXT = "line one\n<b>żółw</b> \u202etxt.exe\n"


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Site]:
    """One gateway in front of the filesystem server, which may write into one folder."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        folder = Path(name).resolve()
        (folder / "shared").mkdir()
        files = {"command": str(needed("node")), "args": [str(needed("filesystem-server")), str(folder / "shared")]}
        options: dict[str, Any] = {"agents": AGENTS, "http": {"enabled": True}, "wait_seconds": 1}
        with site(folder, POLICY, upstreams={"files": files}, **options) as made:
            await made.start()
            yield made


@asynccontextmanager
async def signed_in(place: Site, browser: Browser) -> AsyncIterator[Page]:
    """A browser of its own in which dana followed her link."""
    context = await browser.new_context()
    try:
        page = await context.new_page()
        await page.goto(await place.link("dana"))
        await expect(page.locator("#me-name")).to_have_text("dana")
        yield page
    finally:
        await context.close()


async def open_call(page: Page, call_id: str) -> None:
    """Choose a call in the queue and wait until it may be answered."""
    await page.locator(f"a.row[data-id='{call_id}']").click()
    await expect(page.locator("button.approve")).to_have_attribute("aria-disabled", "false")


@pytest.mark.parametrize(("door", "era"), [("bridge", "legacy"), ("http", "2026-07-28")])
async def test_a_write_is_held_approved_on_the_page_and_done_once(
    place: Site, browser: Browser, door: str, era: str
) -> None:
    """The file is there, once, with the very bytes that were shown; asking again leaves it alone.

    Every other read runs at once meanwhile, and the agent gets the server's own answer.
    """
    path = place.folder / "shared" / f"{door} {era}.txt"
    asked = {"path": str(path), "content": TEXT}
    async with agent_at(place, door, era) as agent, place.reviewer() as dana:
        held = structured(await agent.call_tool("files__write_file", asked))
        listed = await agent.call_tool("files__list_directory", {"path": str(path.parent)})
        assert (held["status"], listed.is_error, path.name in said(listed)) == ("held", False, False)

        async with signed_in(place, browser) as page:
            await open_call(page, held["call_id"])
            sheet = page.locator("#detail")
            for shown in ("files / write_file", str(path), "<b>żółw</b>", "U+202E", "45 of 100 points"):
                await expect(sheet).to_contain_text(shown)
            assert not path.exists()
            await page.locator("button.approve").click()
            await expect(page.locator("#detail .pill").first).to_have_text("succeeded")

        told = structured(await agent.call_tool("hitl_wait", {"call_id": held["call_id"]}))
        assert (told["status"], told["executed"]) == ("succeeded", True)
        assert str(path) in told["result"]["content"][0]["text"]
        await is_written_once(path, dana, held["call_id"])
        path.write_text("changed by someone else", encoding="utf-8")
        again = structured(await agent.call_tool("files__write_file", asked))
    assert (again["repeat"], again["call_id"]) == (True, held["call_id"])
    assert path.read_text(encoding="utf-8") == "changed by someone else"


async def is_written_once(path: Path, dana: Desk, call_id: str) -> None:
    """The file holds exactly what was shown, nothing lies beside it, and the record knows of one run."""
    assert path.read_bytes() == TEXT.encode()
    assert sorted(path.parent.glob(f"{path.stem}*")) == [path]
    events = (await dana.call(call_id))["events"]
    assert [event["status"] for event in events].count("running") == 1


async def test_a_rejected_write_leaves_no_file(place: Site, browser: Browser) -> None:
    """Rejected on the page with a reason, which the agent is told word for word."""
    path = place.folder / "shared" / "rejected.txt"
    async with place.agent() as agent:
        held = structured(await agent.call_tool("files__write_file", {"path": str(path), "content": "no"}))
        async with signed_in(place, browser) as page:
            await open_call(page, held["call_id"])
            await page.locator("button.reject").click()
            await page.locator("#reject-reason").fill("put it into the archive")
            await page.locator("#reject-send").click()
            await expect(page.locator("#detail .pill").first).to_have_text("rejected")
        told = await agent.call_tool("hitl_wait", {"call_id": held["call_id"]})
    assert told.is_error
    assert '"put it into the archive"' in said(told)
    assert not path.exists()
