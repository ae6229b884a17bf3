"""Agents that come with a token of an OAuth issuer: a real gateway, a real issuer, real clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from starlette.responses import Response

from tests.gateways import ERAS, OUTSIDE, Site, free_port, site
from tests.issuers import Issuer, public_jwk, rsa_key, running_issuer
from tests.stories.doors import handshake, structured

EVERY_ERA = pytest.mark.parametrize("era", ERAS)


@dataclass
class Place:
    """A gateway with its issuer."""

    site: Site
    issuer: Issuer
    url: str

    def signed(self, **changed: Any) -> str:
        """A token for this gateway."""
        return self.issuer.signed(**{"aud": f"{self.url}/mcp", **changed})


@pytest.fixture
async def place(short_dir: Path) -> AsyncIterator[Place]:
    """A gateway that takes tokens of a real issuer."""
    port = free_port()
    async with running_issuer() as issuer:
        oauth = {"issuer": issuer.url, "audience": f"http://127.0.0.1:{port}/mcp", "scopes": ["mcp"]}
        agents = {
            "builder": {"subject": "auth0|1", "owner": "dana"},
            "writer": {"subject": "auth0|2"},
            "robot": {"subject": "machine-1"},
        }
        http = {"enabled": True, "oauth": oauth}
        with site(short_dir, review={"port": port}, http=http, agents=agents) as made:
            await made.start()
            yield Place(made, issuer, f"http://127.0.0.1:{port}")


@EVERY_ERA
async def test_a_call_belongs_to_the_agent_of_its_token(place: Place, era: str) -> None:
    """What one subject's agent asked is on record under its name; another's cannot even see it."""
    async with place.site.http_agent(place.signed(), era) as builder:
        held = structured(await builder.call_tool("sandbox__send_mail", OUTSIDE))
        assert held["status"] == "held"
    async with place.site.reviewer() as desk:
        assert (await desk.call(held["call_id"]))["agent"] == "builder"
    async with place.site.http_agent(place.signed(sub="auth0|2"), era) as writer:
        answer = await writer.call_tool("hitl_status", {"call_id": held["call_id"]})
        unknown = await writer.call_tool("hitl_status", {"call_id": "c_" + "0" * 20})
        assert answer.is_error is unknown.is_error is True
    assert place.site.effects() == []


async def test_a_rotated_key_needs_no_restart(place: Place) -> None:
    """The next token is signed with a key that the gateway has never seen."""
    async with place.site.http_agent(place.signed()) as builder:
        assert (await builder.list_tools()).tools
    new = rsa_key("new")
    place.issuer.keys = [public_jwk("k2", new)]
    async with place.site.http_agent(place.signed(private=new, headers={"kid": "k2"})) as builder:
        assert (await builder.list_tools()).tools


class Pocket:
    """Where a client keeps its token."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise AssertionError("it has credentials of its own")


@EVERY_ERA
async def test_a_client_that_knows_only_the_address_finds_the_issuer_by_itself(place: Place, era: str) -> None:
    """From the challenge to the document, to the issuer's metadata, to a token for exactly this gateway, and in."""
    place.issuer.machines["robot-client:hush"] = "machine-1"
    auth = ClientCredentialsOAuthProvider(
        f"{place.url}/mcp", Pocket(), client_id="robot-client", client_secret="hush", issuer=place.issuer.url
    )
    async with (
        httpx2.AsyncClient(auth=auth, timeout=60) as http,
        Client(streamable_http_client(f"{place.url}/mcp", http_client=http), mode=era) as robot,
    ):
        held = structured(await robot.call_tool("sandbox__send_mail", OUTSIDE))
    async with place.site.reviewer() as desk:
        assert (await desk.call(held["call_id"]))["agent"] == "robot"


async def test_without_the_issuer_an_agent_is_told_so_and_the_operator_too(place: Place) -> None:
    """503 to the agent, a warning in `status`; nothing was asked of an upstream."""
    place.issuer.instead = Response(status_code=500)
    async with httpx2.AsyncClient() as http:
        refused = await http.post(f"{place.url}/mcp", headers={"authorization": f"Bearer {place.signed()}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "issuer_unreachable")
    async with place.site.control() as control:
        status = (await control.get("/api/status")).json()
    assert f"the keys of `{place.issuer.url}` cannot be had: it answers with HTTP 500" in status["warnings"]


async def test_the_document_says_whose_tokens_are_taken(place: Place) -> None:
    """At both addresses where clients look, without a token, for the name that the client called us by."""
    for name in ("127.0.0.1", "localhost"):
        base = place.url.replace("127.0.0.1", name)
        async with httpx2.AsyncClient() as http:
            for path in ("", "/mcp"):
                document = await http.get(f"{base}/.well-known/oauth-protected-resource{path}")
                assert document.json() == {
                    "resource": f"{base}/mcp",
                    "authorization_servers": [place.issuer.url],
                    "bearer_methods_supported": ["header"],
                    "resource_name": "hitl-mcp",
                    "scopes_supported": ["mcp"],
                }
            refused = await http.post(f"{base}/mcp")
            assert (
                f'resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"'
                in refused.headers["www-authenticate"]
            )
            stranger = await http.get(f"{base}/.well-known/oauth-protected-resource", headers={"host": "evil.example"})
            assert stranger.status_code == 403


async def test_a_stolen_session_id_is_worth_nothing(place: Place) -> None:
    """Another subject with the id of a legacy session finds nothing there; its owner does, also with a new token."""
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    async with httpx2.AsyncClient(headers=headers, base_url=place.url, timeout=20) as http:

        async def post(token: str, body: dict[str, Any], **more: str) -> httpx2.Response:
            return await http.post("/mcp", json=body, headers={"authorization": f"Bearer {token}", **more})

        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": handshake()}
        opened = await post(place.signed(), hello)
        session_id = opened.headers["mcp-session-id"]
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        thief, anyone = place.signed(sub="auth0|2"), place.signed(sub="auth0|3")
        assert (await post(thief, ping, **{"mcp-session-id": session_id})).status_code == 404
        assert (await post(anyone, ping, **{"mcp-session-id": session_id})).status_code == 403
        gone = await http.delete("/mcp", headers={"authorization": f"Bearer {thief}", "mcp-session-id": session_id})
        assert gone.status_code == 404
        renewed = place.signed(exp=4102444800)
        assert (await post(renewed, ping, **{"mcp-session-id": session_id})).status_code == 200


async def test_an_agents_token_goes_no_further(place: Place) -> None:
    """It is not in the record, the log, or anything an upstream was given."""
    token = place.signed()
    async with place.site.http_agent(token) as builder:
        await builder.call_tool("sandbox__balance", {})
        await builder.call_tool("sandbox__send_mail", OUTSIDE)
    await place.site.stop()
    signature = token.rpartition(".")[2].encode()
    files = [path for path in place.site.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path.name for path in files if signature in path.read_bytes()] == []
