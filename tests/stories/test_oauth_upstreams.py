"""An upstream that wants a sign-in: a real gateway, a real authorization server, a person with a browser, an agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
from mcp.shared.exceptions import MCPError

from tests.gateways import WAIT_SECONDS, Site, site
from tests.upstreams.servers.authority import Authority, Door
from tests.upstreams.servers.sdk_server import ToolsServer
from tests.upstreams.stage import serving

POLICY: dict[str, Any] = {
    "version": 1,
    "default": "hold",
    "rules": [{"id": "all", "tool": "crm__*", "effect": "allow", "reason": "a test"}],
}


async def crm(made: Site) -> dict[str, Any]:
    """How the upstream is, on the control socket."""
    async with made.control() as control:
        answer = (await control.get("/api/status")).json()
    found: dict[str, Any] = next(one for one in answer["upstreams"] if one["name"] == "crm")
    return found


async def link_of(made: Site) -> str:
    """The link to sign in at, as soon as there is one."""
    with anyio.fail_after(WAIT_SECONDS):
        while not (link := (await crm(made))["sign_in"]):
            await anyio.sleep(0)
    return str(link)


async def until_ready(made: Site) -> None:
    with anyio.fail_after(WAIT_SECONDS):
        while (await crm(made))["state"] != "ready":
            await anyio.sleep(0)


async def said(made: Site, words: str) -> str:
    """What an agent is told when it calls the upstream."""
    async with made.agent() as agent:
        try:
            return (await agent.call_tool("crm__echo", {"text": words})).model_dump_json()
        except MCPError as error:
            return error.message


async def test_a_person_signs_in_through_the_pages_port(short_dir: Path) -> None:
    """The link stands on the operator's terminal alone; what comes back is taken once, from the right place."""
    authority, tools = Authority(), ToolsServer()
    door = Door(tools.server.streamable_http_app(), authority)
    async with serving(authority.app()) as authority.url, serving(door) as door.url:
        upstreams = {"crm": {"url": f"{door.url}/mcp", "oauth": {}}}
        with site(short_dir, POLICY, upstreams=upstreams) as made:
            page = _numeric(await made.start())
            link = await link_of(made)
            await _stands_on_the_terminal_alone(made, link)
            await _comes_back(page, link)
            await until_ready(made)
            assert "hi there" in await said(made, "hi there")
            await made.stop()
            assert _numeric(await made.start()) != page
            await until_ready(made)
            assert "once more" in await said(made, "once more")
            shown = json.dumps(await crm(made)) + made.log()
            assert not [secret for secret in authority.given if secret in shown]
    assert door.calls == [True, True]
    assert authority.grants == {"authorization_code": 1}


def _numeric(reached: dict[str, Any]) -> str:
    """Where authorization servers send people back to: not to a name (RFC 8252, section 8.3)."""
    return str(reached["url"]).replace("localhost", "127.0.0.1")


async def _stands_on_the_terminal_alone(made: Site, link: str) -> None:
    printed = await anyio.to_thread.run_sync(made.run, "status")
    assert f"upstream `crm` wants you to sign in: open {link}" in printed.stdout
    assert printed.returncode == 1
    answer = await said(made, "too early")
    assert "wants a person to sign in" in answer
    assert "authorize" not in answer and "state=" not in answer
    async with made.reviewer() as desk:
        shown = (await desk.http.get("/api/status")).json()
        assert [one["name"] for one in shown["upstreams"]] == ["crm"]
        assert "authorize" not in json.dumps(shown)
    assert link not in made.log()


async def _comes_back(page: str, link: str) -> None:
    async with httpx2.AsyncClient() as browser:
        back = (await browser.get(link)).headers["location"]
        assert back.startswith(f"{page}/oauth/callback?")
        assert (await browser.get(f"{page}/oauth/callback?code=x&state=guessed")).status_code == 400
        assert (await browser.get(f"{back}&state=guessed")).status_code == 400
        assert (await browser.get(back, headers={"host": "evil.example"})).status_code == 403
        framed = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}
        assert (await browser.get(back, headers=framed)).status_code == 403
        assert (await browser.head(back)).status_code == 405
        followed = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}
        answer = await browser.get(back, headers=followed)
        assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
        assert answer.headers["content-type"].startswith("text/plain")
        assert (await browser.get(back, headers=followed)).status_code == 400
