"""Upstreams behind OAuth: a real authorization server and a protected MCP server, and what calls meet meanwhile."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
import pytest
from starlette.responses import JSONResponse

from hitl_mcp.config import UpstreamConfig
from hitl_mcp.errors import NotSent, UpstreamRefused
from hitl_mcp.oauth_config import UpstreamOAuth
from hitl_mcp.secrets import Secrets
from hitl_mcp.state_dir import StateDir
from hitl_mcp.upstreams import CameBack, SignIns, Upstream, Upstreams
from tests.upstreams.servers.authority import Authority, Door
from tests.upstreams.servers.sdk_server import ToolsServer
from tests.upstreams.stage import a_call, serving, until


@dataclass
class Place:
    """An authorization server, a protected MCP server, and a state directory."""

    authority: Authority
    door: Door
    tools: ToolsServer
    folder: Path

    @property
    def state(self) -> StateDir:
        """The state directory."""
        return StateDir("/nowhere/hitl.yaml", str(self.folder / "s"))

    @property
    def kept(self) -> Path:
        """The file with the tokens."""
        return Path(self.state.file("oauth-crm.json"))

    @asynccontextmanager
    async def gateway(self, port: int = 8377, **oauth: Any) -> AsyncIterator[tuple[SignIns, Upstream]]:
        """A gateway's upstreams, as one start has them; its page is said to be at this port."""
        self.state.ensure()
        sign_ins = SignIns(self.state)
        sign_ins.open_at(f"http://127.0.0.1:{port}")
        config = UpstreamConfig("crm", url=f"{self.door.url}/mcp", oauth=UpstreamOAuth(**oauth))
        secrets = Secrets({"CRM": "machine secret"}, Path("/"))
        async with Upstreams({"crm": config}, secrets, sign_ins=sign_ins) as upstreams:
            yield sign_ins, upstreams.all()[0]

    def rewrite(self, **changed: Any) -> None:
        """Change what is kept, as time does."""
        self.kept.write_text(json.dumps({**json.loads(self.kept.read_text()), **changed}))


@pytest.fixture
async def place(short_dir: Path) -> AsyncIterator[Place]:
    """Everything outside the gateway."""
    authority, tools = Authority(), ToolsServer()
    door = Door(tools.server.streamable_http_app(), authority)
    with anyio.fail_after(30):
        async with serving(authority.app()) as authority.url, serving(door) as door.url:
            yield Place(authority, door, tools, short_dir)


async def opened(link: str) -> CameBack:
    """A person opens a link and says yes; what their browser comes back with."""
    async with httpx2.AsyncClient() as browser:
        back = parse_qs(urlsplit((await browser.get(link)).headers["location"]).query)
    return CameBack(back["state"][0], back["code"][0], back["iss"][0])


async def signed_in(sign_ins: SignIns, upstream: Upstream) -> None:
    """A person signs in, and the upstream becomes ready."""
    await until(upstream, lambda: sign_ins.link("crm") is not None)
    assert sign_ins.came_back(await opened(str(sign_ins.link("crm")))) == "crm"
    await ready(upstream)


async def ready(upstream: Upstream) -> None:
    await until(upstream, lambda: upstream.state == "ready")


async def test_a_person_signs_in_once_and_calls_are_let_in(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is reached before; after it a call runs. What is secret stands in one private file, and nowhere else."""
    caplog.set_level(logging.DEBUG, logger="hitl_mcp")
    async with place.gateway(scopes=("crm.read",)) as (sign_ins, upstream):
        await until(upstream, lambda: sign_ins.link("crm") is not None)
        link = str(sign_ins.link("crm"))
        assert (upstream.state, link in upstream.detail) == ("down", False)
        with pytest.raises(NotSent, match="wants a person to sign in") as refused:
            await upstream.send(a_call("echo", '{"text":"hi"}'))
        assert place.door.url not in str(refused.value) and place.authority.url not in str(refused.value)
        await signed_in(sign_ins, upstream)
        assert (await upstream.send(a_call("echo", '{"text":"hi"}')))["structuredContent"] == {"said": "hi"}
        assert sign_ins.link("crm") is None
    assert place.door.calls == [True]
    assert place.authority.authorized[0]["scope"] == "crm.read"
    assert place.authority.authorized[0]["resource"] == f"{place.door.url}/mcp"
    assert stat.S_IMODE(place.kept.stat().st_mode) == 0o600
    assert [one.name for one in place.kept.parent.glob("oauth*")] == [place.kept.name]
    assert not [one for one in place.authority.given if one in caplog.text or one in link]
    assert sum(one in place.kept.read_text() for one in place.authority.given) == 3


async def test_a_restart_needs_no_person(place: Place) -> None:
    """The next life of the gateway goes on with the same token, and asks the authorization server for nothing."""
    async with place.gateway() as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
    async with place.gateway() as (sign_ins, upstream):
        await ready(upstream)
        await upstream.send(a_call("echo", '{"text":"hi"}'))
    assert place.authority.grants == {"authorization_code": 1}
    assert len(place.authority.registered) == 1


async def test_a_token_that_ended_meanwhile_is_refreshed_where_it_came_from(place: Place) -> None:
    """After a restart too: nothing is sent with the old one, and the refresh token goes to its own server alone."""
    async with place.gateway() as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
    place.rewrite(expires_at=1.0)
    place.door.seen.clear()
    old = json.loads(place.kept.read_text())["tokens"]["access_token"]
    async with place.gateway() as (sign_ins, upstream):
        await ready(upstream)
        await upstream.send(a_call("echo", '{"text":"hi"}'))
        assert sign_ins.link("crm") is None
    assert place.authority.grants == {"authorization_code": 1, "refresh_token": 1}
    assert place.door.calls == [True]
    assert old not in place.door.seen


async def test_a_token_is_renewed_before_it_ends(place: Place) -> None:
    """One that is good for a second is renewed in time, again and again, with no call asking for it."""
    place.authority.lifetime_seconds = 1
    async with place.gateway() as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
        await place.authority.until_asked("refresh_token", 2)
        place.authority.lifetime_seconds = 3600
        await place.authority.until_asked("refresh_token", 3)
        assert upstream.state == "ready"
        await upstream.send(a_call("echo", '{"text":"hi"}'))
    assert place.door.calls == [True]


async def test_another_address_makes_what_is_kept_void(place: Place) -> None:
    """A token is for the upstream it was got for: who changes the address signs in again."""
    async with place.gateway() as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
    place.rewrite(bound_to="another")
    async with place.gateway() as (sign_ins, upstream):
        await until(upstream, lambda: sign_ins.link("crm") is not None)
        assert upstream.state == "down"


async def test_a_refused_call_is_sent_once_and_the_next_has_a_new_token(place: Place) -> None:
    """A 401 to a call ends it as failed; it is not sent again. The token is renewed before another one goes out."""
    async with place.gateway() as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
        place.authority.good.clear()
        with pytest.raises(UpstreamRefused, match="did not take the access token"):
            await upstream.send(a_call("echo", '{"text":"one"}'))
        assert place.door.calls == [False]
        assert (await upstream.send(a_call("echo", '{"text":"two"}')))["structuredContent"] == {"said": "two"}
    assert place.door.calls == [False, True]
    assert place.authority.grants["refresh_token"] == 1


async def test_a_refresh_that_fails_for_now_costs_no_sign_in(place: Place) -> None:
    """While the authorization server is broken calls are not sent; when it is well again they are, with no person."""
    async with place.gateway() as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
    place.rewrite(expires_at=1.0)
    kept = json.loads(place.kept.read_text())
    place.authority.refresh_with = JSONResponse({"error": "temporarily_unavailable"}, 503)
    async with place.gateway() as (sign_ins, upstream):
        await until(upstream, lambda: "HTTP 503" in upstream.detail)
        with pytest.raises(NotSent):
            await upstream.send(a_call("echo", '{"text":"one"}'))
        assert json.loads(place.kept.read_text())["tokens"] == kept["tokens"]
        place.authority.refresh_with = None
        await ready(upstream)
        await upstream.send(a_call("echo", '{"text":"two"}'))
        assert sign_ins.link("crm") is None
    assert place.door.calls == [True]


async def test_a_sign_in_that_was_taken_back_is_asked_for_again(place: Place) -> None:
    """While connected: the call that notices fails, nothing else is sent, and a person is wanted."""
    async with place.gateway() as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
        place.authority.revoke()
        with pytest.raises(UpstreamRefused):
            await upstream.send(a_call("echo", '{"text":"one"}'))
        await until(upstream, lambda: sign_ins.link("crm") is not None)
        assert "wants a person" in upstream.detail
        with pytest.raises(NotSent):
            await upstream.send(a_call("echo", '{"text":"two"}'))
        assert place.door.calls == [False]
        await signed_in(sign_ins, upstream)
        await upstream.send(a_call("echo", '{"text":"three"}'))
    assert place.door.calls == [False, True]


async def test_a_page_at_another_port_is_registered_anew(place: Place) -> None:
    """The sign-in of the port before goes on; once it was taken back, people are sent to where the page is now."""
    async with place.gateway() as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
    place.authority.revoke()
    async with place.gateway(port=8378) as (sign_ins, upstream):
        await signed_in(sign_ins, upstream)
    first, second = place.authority.registered
    assert [first["redirect_uris"], second["redirect_uris"]] == [
        [f"http://127.0.0.1:{port}/oauth/callback"] for port in (8377, 8378)
    ]
    assert place.authority.authorized[-1]["client_id"] == second["client_id"]


async def test_a_state_is_taken_once_and_only_where_it_was_made(place: Place) -> None:
    """A guessed, an old and a used state change nothing; a person who says no gets another link."""
    async with place.gateway() as (sign_ins, upstream):
        await until(upstream, lambda: sign_ins.link("crm") is not None)
        first = str(sign_ins.link("crm"))
        assert sign_ins.came_back(CameBack("guessed", "code")) is None
        assert sign_ins.link("crm") == first
        back = await opened(first)
        assert sign_ins.came_back(CameBack(back.state, error="access_denied")) == "crm"
        assert sign_ins.came_back(back) is None
        await until(upstream, lambda: sign_ins.link("crm") not in (None, first))
        assert sign_ins.came_back(back) is None
        assert place.authority.grants["authorization_code"] == 0
        await signed_in(sign_ins, upstream)


async def test_a_code_of_another_server_is_not_redeemed(place: Place) -> None:
    """The answer names who gave it (RFC 9207): one that names another server is refused, and so is its code."""
    async with place.gateway() as (sign_ins, upstream):
        await until(upstream, lambda: sign_ins.link("crm") is not None)
        back = await opened(str(sign_ins.link("crm")))
        sign_ins.came_back(CameBack(back.state, back.code, "https://evil.example"))
        await until(upstream, lambda: "came to nothing" in upstream.detail)
        assert place.authority.grants["authorization_code"] == 0


async def test_a_machine_needs_no_person(place: Place) -> None:
    """With its own credentials the gateway signs in alone, renews in time, and sends the secret to its issuer only."""
    place.authority.secret_of["robot"] = "machine secret"
    place.authority.lifetime_seconds = 1
    oauth: dict[str, Any] = {"grant": "client_credentials", "client_id": "robot", "client_secret": "${env:CRM}"}
    async with place.gateway(**oauth, issuer=place.authority.url) as (sign_ins, upstream):
        await ready(upstream)
        await place.authority.until_asked("client_credentials", 2)
        place.authority.lifetime_seconds = 3600
        await place.authority.until_asked("client_credentials", 3)
        await upstream.send(a_call("echo", '{"text":"hi"}'))
        assert sign_ins.link("crm") is None
    assert place.authority.registered == []
    assert "machine secret" not in place.kept.read_text()


async def test_a_secret_goes_to_the_issuer_that_the_config_names_alone(place: Place) -> None:
    """An upstream that names another authorization server gets no credentials sent there."""
    place.authority.secret_of["robot"] = "machine secret"
    for grant in ("client_credentials", "authorization_code"):
        oauth: dict[str, Any] = {"grant": grant, "client_id": "robot", "client_secret": "${env:CRM}"}
        async with place.gateway(**oauth, issuer="https://id.example.com") as (sign_ins, upstream):
            await until(upstream, lambda: "another authorization server" in upstream.detail)
            assert sign_ins.link("crm") is None
    assert place.authority.grants == {}
